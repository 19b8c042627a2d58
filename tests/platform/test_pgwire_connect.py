"""Opening sessions: what a server may say before and after it lets us in, TLS, and servers that talk nonsense."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from harness.postgres import TestServer
from harness.server_messages import (
    WELCOME,
    Script,
    message,
    read_message,
    read_startup,
    read_until_sync,
    say,
    scripted_server,
)
from socle_platform.pgwire.connect import cancel, open_wire
from socle_platform.pgwire.dsn import parse_dsn
from socle_platform.pgwire.errors import ConnectFailed, ConnectionLost, DatabaseError, ProtocolViolation
from socle_platform.pgwire.protocol import (
    Authentication,
    BackendKey,
    CommandComplete,
    Event,
    NegotiateVersion,
    ReadyForQuery,
    ServerError,
    Signal,
)

FATAL = {"S": "FATAL", "V": "FATAL"}


def saying(*events: Event | bytes) -> Script:
    """A server that answers the startup message with these and hangs up."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_startup(reader)
        writer.write(b"".join(event if isinstance(event, bytes) else say(event) for event in events))

    return script


async def test_clear_text_and_md5_where_the_server_asks_for_them() -> None:
    seen: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_startup(reader))
        writer.write(say(NegotiateVersion(0, ())) + say(Authentication(3, b"")))
        seen.append((await read_message(reader))[1])
        writer.write(say(Authentication(5, b"salt")))
        seen.append((await read_message(reader))[1])
        writer.write(WELCOME)

    async with scripted_server(script) as dsn:
        wire = await open_wire(parse_dsn(dsn))
    inner = hashlib.md5(b"secretsomeone").hexdigest().encode()  # noqa: S324 - the old protocol's
    assert b"user\0someone\0database\0somewhere\0" in seen[0]
    assert seen[1:] == [b"secret\0", b"md5" + hashlib.md5(inner + b"salt").hexdigest().encode() + b"\0"]  # noqa: S324
    assert (wire.process, wire.secret, wire.parameters) == (4711, b"\0\0\0\1", {"server_version": "18.0"})
    wire.abort()


@pytest.mark.parametrize(
    ("script", "text"),
    [
        pytest.param(saying(), "lost", id="hangs up"),
        pytest.param(saying(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "announced|unknown", id="web server"),
        pytest.param(saying(Authentication(2, b"")), "do not know", id="kerberos"),
        pytest.param(saying(Authentication(10, b"OTHER\0\0")), "no way", id="other mechanism"),
        pytest.param(saying(Authentication(11, b"r=x")), "do not know", id="continuation of nothing"),
        pytest.param(saying(ReadyForQuery("I")), "before it let us in", id="ready at once"),
        pytest.param(saying(Authentication(0, b""), Signal.NO_DATA), "before the session", id="stray message"),
        pytest.param(saying(ServerError({**FATAL, "C": "57P03", "M": "starting up"})), "starting up", id="starting up"),
        pytest.param(saying(Authentication(0, b""), say(ReadyForQuery("I"))[:-1]), "lost", id="cut off"),
    ],
)
async def test_servers_that_do_not_let_us_in(script: Script, text: str) -> None:
    async with scripted_server(script) as dsn:
        with pytest.raises(ConnectFailed, match=text):
            await asyncio.wait_for(open_wire(parse_dsn(dsn)), 5)


async def test_a_server_must_prove_that_it_knows_the_password() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_startup(reader)
        writer.write(say(Authentication(10, b"SCRAM-SHA-256\0\0")))
        _, first = await read_message(reader)
        nonce = first.rpartition(b"r=")[2]
        writer.write(say(Authentication(11, b"r=" + nonce + b"x,s=c2FsdA==,i=1")))
        await read_message(reader)
        writer.write(WELCOME)

    async with scripted_server(script) as dsn:
        with pytest.raises(ConnectFailed, match="proving"):
            await open_wire(parse_dsn(dsn))


async def test_a_server_that_never_answers() -> None:
    async def script(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with scripted_server(script) as dsn:
        target = parse_dsn(dsn).with_defaults(application_name="t", connect_timeout=0.05)
        with pytest.raises(ConnectFailed, match="in time"):
            await open_wire(target)


def answering(answers: list[bytes]) -> Script:
    """A server that gives each exchange its next answer and then hangs up."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_startup(reader)
        writer.write(WELCOME)
        for answer in answers:
            await read_until_sync(reader)
            writer.write(answer)

    return script


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        pytest.param(say(BackendKey(1, b"1234")), ConnectionLost, id="key, then nothing"),
        pytest.param(say(BackendKey(1, b"1234")) + say(ReadyForQuery("I")), ProtocolViolation, id="key in an answer"),
        pytest.param(say(Authentication(0, b"")) + say(ReadyForQuery("I")), ProtocolViolation, id="welcome again"),
        pytest.param(b"?\0\0\0\4", ProtocolViolation, id="unknown kind"),
        pytest.param(say(CommandComplete("SELECT 1")), ConnectionLost, id="cut off"),
        pytest.param(
            say(ServerError({**FATAL, "C": "57P01", "M": "bye"})) + say(ReadyForQuery("I")), ConnectionLost, id="fatal"
        ),
        pytest.param(say(ServerError({"C": "42601"})) + say(ReadyForQuery("I")), DatabaseError, id="error"),
    ],
)
async def test_answers_out_of_order(answer: bytes, problem: type[Exception]) -> None:
    async with scripted_server(answering([answer])) as dsn:
        wire = await open_wire(parse_dsn(dsn))
        with pytest.raises(problem):
            await asyncio.wait_for(wire.query("select 1"), 5)
        wire.abort()


async def test_words_without_a_question() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_startup(reader)
        writer.write(WELCOME + say(CommandComplete("SELECT 1")))
        await reader.read()

    async with scripted_server(script) as dsn:
        wire = await open_wire(parse_dsn(dsn))
        with pytest.raises(ProtocolViolation):
            await asyncio.wait_for(wire.query("select 1"), 5)


async def test_fuzzed_answers_neither_hang_nor_crash() -> None:
    chance = random.Random(3)  # noqa: S311 - repeatable on purpose
    shapes = [
        say((b"1", None)),
        say(CommandComplete("SELECT 1")),
        say(ReadyForQuery("I")),
        say(ReadyForQuery("E")),
        say(ServerError({"C": "XX000", "M": "x"})),
        *[say(signal) for signal in Signal],
        message(b"A", b"\0\0\0\1a\0b\0"),
        message(b"G", b"\0\0\0"),
        message(b"W", b"\0\0\0"),
        message(b"d", b"data"),
    ]

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_startup(reader)
        writer.write(WELCOME)
        await read_until_sync(reader)
        answer = bytearray(b"".join(chance.choice(shapes) for _ in range(chance.randint(0, 8))))
        for _ in range(chance.choice((0, 0, 1, 3))):
            if answer:
                answer[chance.randrange(len(answer))] = chance.randrange(256)
        writer.write(answer)

    outcomes = {"results": 0, "errors": 0, "violations": 0, "losses": 0}
    async with scripted_server(script) as dsn:
        target = parse_dsn(dsn)
        for _ in range(400):
            wire = await open_wire(target)
            parts: list[bytes] = []
            wire.statement(parts, "q", "select 1", describe=True)
            try:
                answer = await asyncio.wait_for(wire.exchange(b"".join(parts) + b"S\0\0\0\4"), 5)
                if answer.error is not None:
                    raise answer.error
                outcomes["results"] += 1
            except DatabaseError:
                outcomes["errors"] += 1
            except ProtocolViolation:
                outcomes["violations"] += 1
            except ConnectionLost:
                outcomes["losses"] += 1
            wire.abort()
    assert all(outcomes[kind] for kind in ("errors", "violations", "losses")), outcomes


# ---- TLS ---------------------------------------------------------------------------------------------------------


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A self-signed certificate for `name` and its key, as PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, secret = folder / f"{name}.pem", folder / f"{name}.key"
    pem.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pem, secret


def encrypting(server: TestServer, pem: Path, key: Path, seen: list[str]) -> Script:
    """A front of the run's PostgreSQL that speaks TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, key)

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.readexactly(8)
        back_reader, back = await asyncio.open_unix_connection(f"{server.socket_dir}/.s.PGSQL.{server.port}")
        try:
            if first == b"\0\0\0\x08\x04\xd2\x16\x2f":
                writer.write(b"S")
                await writer.start_tls(context)
                seen.append("tls")
            else:
                back.write(first)
                seen.append("plain")
            await asyncio.gather(pipe(reader, back), pipe(back_reader, writer), return_exceptions=True)
        finally:
            back.close()
            with contextlib.suppress(OSError):
                await back.wait_closed()

    return script


async def test_tls_in_every_mode(server: TestServer, tmp_path: Path) -> None:
    pem, key = certificate(tmp_path, "localhost")
    other, _ = certificate(tmp_path, "elsewhere")
    seen: list[str] = []
    async with scripted_server(encrypting(server, pem, key, seen)) as address:
        port = address.partition("127.0.0.1:")[2].partition("/")[0]
        base = f"hostaddr=127.0.0.1 port={port} user=supabase_admin dbname=postgres"

        async def works(options: str) -> None:
            wire = await open_wire(parse_dsn(f"{base} {options}"))
            assert (await wire.query("select 1"))[0].rows == [(b"1",)]
            wire.terminate()

        for options, expected in (
            ("host=localhost sslmode=disable", "plain"),
            ("host=localhost sslmode=allow", "plain"),
            ("host=localhost sslmode=prefer", "tls"),
            ("host=elsewhere sslmode=require", "tls"),
            ("sslmode=require", "tls"),
            (f"host=elsewhere sslmode=verify-ca sslrootcert={pem}", "tls"),
            (f"host=localhost sslmode=verify-full sslrootcert={pem}", "tls"),
            (f"host=localhost sslmode=require sslrootcert={pem}", "tls"),
        ):
            await works(options)
            assert seen.pop() == expected, options
        for options in (
            f"host=localhost sslmode=verify-ca sslrootcert={other}",
            f"host=localhost sslmode=require sslrootcert={other}",
            f"host=elsewhere sslmode=verify-full sslrootcert={pem}",
            f"sslmode=verify-full sslrootcert={pem}",
        ):
            with pytest.raises(ConnectFailed, match=r"(?i)certificate"):
                await open_wire(parse_dsn(f"{base} {options}"))


async def test_cancelling_through_tls(server: TestServer, tmp_path: Path) -> None:
    pem, key = certificate(tmp_path, "localhost")
    seen: list[str] = []
    async with scripted_server(encrypting(server, pem, key, seen)) as address:
        port = address.partition("127.0.0.1:")[2].partition("/")[0]
        wire = await open_wire(
            parse_dsn(f"host=localhost hostaddr=127.0.0.1 port={port} user=supabase_admin dbname=postgres")
        )
        running = asyncio.ensure_future(wire.query("select pg_sleep(60)"))
        async with asyncio.timeout(5):
            while not running.done():
                await cancel(wire)
        with pytest.raises(DatabaseError) as caught:
            await running
        assert caught.value.sqlstate == "57014"
        assert len(seen) > 1
        assert set(seen) == {"tls"}
        wire.terminate()


@pytest.mark.parametrize(
    ("answer", "text"), [(b"N", "does not offer TLS"), (b"SX", "neither yes nor no"), (b"E", "neither yes nor no")]
)
async def test_servers_without_tls(answer: bytes, text: str) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        writer.write(answer)
        await writer.drain()
        await reader.read()

    async with scripted_server(script) as dsn:
        with pytest.raises(ConnectFailed, match=text):
            await open_wire(parse_dsn(dsn.replace("sslmode=disable", "sslmode=require")))


async def test_prefer_goes_on_in_the_clear(server: TestServer) -> None:
    wire = await open_wire(parse_dsn(server.url("postgres") + "?sslmode=prefer"))
    assert wire.tls is None
    assert (await wire.query("select 1"))[0].rows == [(b"1",)]
    wire.terminate()
