"""The SQL-only extensions against known answers, installed by a role that is no superuser."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import random
import re
import time
import uuid
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
import bcrypt
import jwt
import pytest

from harness.postgres import TestServer
from socle_app.embedded.extensions import SOURCE, TRUSTED, ensure_extensions, render_extensions
from socle_app.embedded.refusals import REFUSED
from socle_app.embedded.server_tree import find_server_tree
from socle_app.embedded.unserved import UNSERVED

Session: TypeAlias = "asyncpg.Connection[Any]"

ALGORITHMS = ["md5", "sha1", "sha224", "sha256", "sha384", "sha512"]
# Around the borders of the hashes' blocks and of their padding.
SIZES = [0, 1, 20, 55, 56, 63, 64, 65, 111, 112, 119, 127, 128, 129, 200]


SCHEMA = "create schema extensions; set search_path = public, extensions"


@pytest.fixture
async def sql(server: TestServer) -> AsyncGenerator[Session]:
    """A session of `postgres` in a database of its own that has a schema `extensions` and nothing else."""
    async with server.clone("template1") as name:
        connection = await asyncpg.connect(server.dsn(name, "postgres"))
        try:
            assert not await connection.fetchval("select rolsuper from pg_roles where rolname = current_user")
            await connection.execute(SCHEMA)
            yield connection
        finally:
            await connection.close()


@pytest.fixture(scope="module")
def crypto_database(server: TestServer) -> Generator[str]:
    """A database with pgcrypto, uuid-ossp and pgjwt, made by `postgres`, for tests that only call functions."""
    name = f"crypto_{uuid.uuid4().hex[:8]}"

    async def make() -> None:
        await server.run("postgres", f'create database "{name}" template template1 owner postgres')
        connection = await asyncpg.connect(server.dsn(name, "postgres"))
        await connection.execute(SCHEMA)
        for extension in ("pgcrypto", "uuid-ossp", "pgjwt"):
            await connection.execute(f'create extension "{extension}" with schema extensions')
        await connection.close()

    asyncio.run(make())
    yield name
    asyncio.run(server.run("postgres", f'drop database "{name}" with (force)'))


@pytest.fixture
async def crypto(server: TestServer, crypto_database: str) -> AsyncGenerator[Session]:
    """A session of `postgres` where pgcrypto, uuid-ossp and pgjwt are."""
    connection = await asyncpg.connect(server.dsn(crypto_database, "postgres"))
    try:
        await connection.execute("set search_path = public, extensions")
        yield connection
    finally:
        await connection.close()


def chance(size: int) -> bytes:
    """Bytes that look random and are the same in every run."""
    return random.Random(size).randbytes(size)  # noqa: S311


def words_of_pi(count: int) -> list[int]:
    """The first 32-bit words of pi's fraction, by Machin's formula with integers."""
    bits = 32 * count + 64

    def arctangent_of_inverse(divisor: int) -> int:
        term = total = (1 << bits) // divisor
        for odd in range(3, bits, 2):
            term //= -divisor * divisor
            total += term // odd
        return total

    fraction = (4 * (4 * arctangent_of_inverse(5) - arctangent_of_inverse(239))) - (3 << bits) >> 64
    return [fraction >> 32 * (count - 1 - place) & 0xFFFFFFFF for place in range(count)]


# --- pgcrypto


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_digest(crypto: Session, algorithm: str) -> None:
    for size in SIZES:
        data = chance(size)
        assert (
            await crypto.fetchval("select digest($1::bytea, $2)", data, algorithm)
            == hashlib.new(algorithm, data).digest()
        )
    text = "naïve 漢字 🙂"
    said = await crypto.fetchval("select digest($1::text, $2)", text, algorithm.upper())
    assert said == hashlib.new(algorithm, text.encode()).digest()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_hmac(crypto: Session, algorithm: str) -> None:
    for size in SIZES:
        key, data = chance(size), chance(33)
        said = await crypto.fetchval("select hmac($1::bytea, $2::bytea, $3)", data, key, algorithm)
        assert said == hmac.digest(key, data, algorithm)
    said = await crypto.fetchval("select hmac('donnée'::text, 'clé', $1)", algorithm)
    assert said == hmac.digest("clé".encode(), "donnée".encode(), algorithm)


async def test_spellings_and_nulls(crypto: Session) -> None:
    assert await crypto.fetchval("select digest('a'::text, 'SHA-256') = digest('a'::text, 'sha256')")
    assert await crypto.fetchval("select digest(null::text, 'md5') is null and hmac('a', null, 'md5') is null")
    for call in ("digest('a'::text, 'zz')", "hmac('a', 'b', 'zz')"):
        with pytest.raises(asyncpg.InvalidParameterValueError, match='Cannot use "zz": No such hash algorithm'):
            await crypto.fetchval(f"select {call}")


async def test_random_bytes(crypto: Session) -> None:
    for size in (1, 13, 14, 15, 16, 1024):
        assert len(await crypto.fetchval("select gen_random_bytes($1)", size)) == size
    many = b"".join([row[0] for row in await crypto.fetch("select gen_random_bytes(14) from generate_series(1, 4000)")])
    ones = sum(byte.bit_count() for byte in many)
    assert abs(ones / (8 * len(many)) - 0.5) < 0.005
    for place in range(14):  # no byte of a UUID's version or variant among them
        assert len(set(many[place::14])) == 256
    for size in (0, -1, 1025):
        with pytest.raises(asyncpg.PostgresError, match="Length not in range") as caught:
            await crypto.fetchval("select gen_random_bytes($1)", size)
        assert caught.value.sqlstate == "39000"
    assert isinstance(await crypto.fetchval("select extensions.gen_random_uuid()"), uuid.UUID)


def test_the_tables_of_blowfish_are_the_digits_of_pi() -> None:
    script = (SOURCE / "pgcrypto--1.4.sql").read_text()
    found = re.search(r"b bigint\[\] := '\{([\d,\s]+)\}'", script)
    assert found is not None
    assert [int(word) for word in found[1].split(",")] == words_of_pi(18 + 4 * 256)


@pytest.mark.parametrize(
    "password",
    ["", "a", "password123", "é" * 40, "x" * 71, "x" * 72, "x" * 80, "漢字🙂 ÿ"],
    ids=lambda text: f"{text:.4}-{len(text)}",
)
async def test_bcrypt_equals_the_c_library(crypto: Session, password: str) -> None:
    salt = bcrypt.gensalt(4, b"2a")
    expected = bcrypt.hashpw(password.encode()[:72], salt).decode()
    assert await crypto.fetchval("select crypt($1, $2)", password, salt.decode()) == expected
    assert await crypto.fetchval("select crypt($1, $2)", password, expected) == expected
    later = expected.replace("$2a$", "$2b$")
    assert await crypto.fetchval("select crypt($1, $2)", password, later) == later


async def test_the_usual_seed_line(crypto: Session) -> None:
    started = time.perf_counter()
    made = await crypto.fetchval("select crypt('password123', gen_salt('bf'))")
    assert time.perf_counter() - started < 3, "0.3 s on an idle machine"
    assert made.startswith("$2a$06$")
    assert bcrypt.checkpw(b"password123", made.encode())
    assert not bcrypt.checkpw(b"password124", made.encode())


# From the original: answers of PostgreSQL 15, and for SHA-crypt the examples of its specification.
HASHES = [
    ("x", "$2a$04$abcdefghijklmnopqrstuv", "$2a$04$abcdefghijklmnopqrstuuPp7HPfoAs8I2dCQCQ/fW7zEJv8I8C8e"),
    ("x", "$1$", "$1$$LP5.V3ajGqHDdXW6XwZQy."),
    ("x", "$1$abc", "$1$abc$OGyl6dDvZCDiGmIVbeuCq/"),
    ("x", "$1$abcdefghijk$zzz", "$1$abcdefgh$znAnv9M.XU2pRYfmSs46h/"),
    ("", "$1$ab$zzz", "$1$ab$rn6aQS/o7141mj179E/zA."),
    ("", "$5$Szzz0yzz", "$5$Szzz0yzz$cA.ZFZKqblRYjdsbrWtVTYa/qSwPQnt2uh0LBtyYAAD"),
    ("foox", "$5$Szzz0yzz", "$5$Szzz0yzz$7hI0rUWkO2QdBkzamh.vP.MIPlbZiwSvu2smhSi6064"),
    (
        "Hello world!",
        "$5$rounds=10000$saltstringsaltstring",
        "$5$rounds=10000$saltstringsaltst$3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA",
    ),
    (
        "the minimum number is still observed",
        "$5$rounds=10$roundstoolow",
        "$5$rounds=1000$roundstoolow$yfvwcWrQ8l/K0DAWyuPMDNHpIVlTQebY9l/gL972bIC",
    ),
    (
        "Hello world!",
        "$6$saltstring",
        "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
    ),
    (
        "a very much longer text to encrypt.  This one even stretches over morethan one line.",
        "$6$rounds=1400$anotherlongsaltstring",
        "$6$rounds=1400$anotherlongsalts$POfYwTEok97VWcjxIiSOjiykti.o/pQs.wPvMxQ6Fm7I6IoYN3CmLs66x9t0oSwbtEW7o7UmJEiDwGqd8p4"
        "ur1",
    ),
]


@pytest.mark.parametrize(("password", "setting", "expected"), HASHES, ids=[case[1] for case in HASHES])
async def test_crypt_equals_the_original(crypto: Session, password: str, setting: str, expected: str) -> None:
    assert await crypto.fetchval("select crypt($1, $2)", password, setting) == expected


@pytest.mark.parametrize(
    ("kind", "pattern"),
    [
        ("bf", r"\$2a\$06\$[./A-Za-z0-9]{21}[.Oeu]"),
        ("md5", r"\$1\$[./A-Za-z0-9]{8}"),
        ("sha256crypt", r"\$5\$rounds=5000\$[./A-Za-z0-9]{16}"),
        ("SHA512crypt", r"\$6\$rounds=5000\$[./A-Za-z0-9]{16}"),
    ],
)
async def test_salts(crypto: Session, kind: str, pattern: str) -> None:
    salts = [await crypto.fetchval("select gen_salt($1)", kind) for _ in range(20)]
    assert len(set(salts)) == 20
    for salt in salts:
        assert re.fullmatch(pattern, salt)
    if kind != "bf":
        made = await crypto.fetchval("select crypt('secret', $1)", salts[0])
        assert await crypto.fetchval("select crypt('secret', $1)", made) == made
        assert await crypto.fetchval("select crypt('Secret', $1)", made) != made


@pytest.mark.parametrize(
    ("call", "sqlstate", "message"),
    [
        ("gen_salt('zz')", "22023", "gen_salt: Unknown salt algorithm"),
        ("gen_salt('bf', 3)", "22023", "gen_salt: Incorrect number of rounds"),
        ("gen_salt('bf', 32)", "22023", "gen_salt: Incorrect number of rounds"),
        ("gen_salt('md5', 5)", "22023", "gen_salt: Incorrect number of rounds"),
        ("gen_salt('sha512crypt', 10)", "22023", "gen_salt: Incorrect number of rounds"),
        ("gen_salt('des')", "0A000", "not in the embedded server"),
        ("gen_salt('xdes', 725)", "0A000", "not in the embedded server"),
        ("crypt('x', 'ab')", "0A000", "not in the embedded server"),
        ("crypt('x', '_J9..2oMY')", "0A000", "not in the embedded server"),
        ("crypt('x', '')", "22023", "invalid salt"),
        ("crypt('x', '$')", "22023", "invalid salt"),
        ("crypt('x', '$2a$03$abcdefghijklmnopqrstuv')", "22023", "invalid salt"),
        ("crypt('x', '$2a$32$abcdefghijklmnopqrstuv')", "22023", "invalid salt"),
        ("crypt('x', '$2a$04$abcdefghijklmnopqrst!v')", "22023", "invalid salt"),
        ("crypt('x', '$2a$04$short')", "22023", "invalid salt"),
        ("crypt('x', '$6$rounds=x$abc')", "42601", "could not parse salt options"),
        ("crypt('x', '$6$a-b')", "22023", "invalid character in salt string"),
        ("encrypt('a', 'b', 'aes')", "0A000", "encrypt() is not in the embedded server"),
        ("pgp_sym_encrypt('a', 'b')", "0A000", "pgp_sym_encrypt() is not in the embedded server"),
        ("pgp_pub_decrypt('a'::bytea, 'b'::bytea, 'c')", "0A000", "pgp_pub_decrypt() is not in the embedded server"),
        ("armor('a')", "0A000", "armor() is not in the embedded server"),
        ("pgp_armor_headers('a')", "0A000", "pgp_armor_headers() is not in the embedded server"),
    ],
)
async def test_refusals_of_pgcrypto(crypto: Session, call: str, sqlstate: str, message: str) -> None:
    with pytest.raises(asyncpg.PostgresError) as caught:
        await crypto.fetch(f"select * from {call}")
    assert caught.value.sqlstate == sqlstate
    assert message in str(caught.value)


async def test_the_whole_of_the_original_is_there(crypto: Session) -> None:
    members = await crypto.fetch(
        "select distinct proname from pg_proc join pg_depend on objid = pg_proc.oid and deptype = 'e' "
        "join pg_extension on refobjid = pg_extension.oid where extname = 'pgcrypto' and proname !~ '^_'"
    )
    names = {row["proname"] for row in members}
    expected = (
        "armor crypt dearmor decrypt decrypt_iv digest encrypt encrypt_iv fips_mode gen_random_bytes gen_random_uuid "
        "gen_salt hmac pgp_armor_headers pgp_key_id pgp_pub_decrypt pgp_pub_decrypt_bytea pgp_pub_encrypt "
        "pgp_pub_encrypt_bytea pgp_sym_decrypt pgp_sym_decrypt_bytea pgp_sym_encrypt pgp_sym_encrypt_bytea"
    )
    assert " ".join(sorted(names)) == expected


async def test_an_operator_of_somebody_else_changes_nothing(sql: Session) -> None:
    await sql.execute("create extension pgcrypto with schema extensions")
    await sql.execute(
        "create function trap(bigint, integer) returns bigint language sql as 'select 0::bigint';"
        "create function trap(bytea, bytea) returns bytea language sql as $$select ''::bytea$$;"
        "create operator public.& (leftarg = bigint, rightarg = integer, function = trap);"
        "create operator public.|| (leftarg = bytea, rightarg = bytea, function = trap);"
        "set search_path = public, extensions, pg_catalog"
    )
    assert await sql.fetchval("select digest('abc'::text, 'sha1')") == hashlib.sha1(b"abc").digest()  # noqa: S324
    assert await sql.fetchval("select hmac('abc', 'k', 'sha256')") == hmac.digest(b"k", b"abc", "sha256")


async def test_older_version_and_another_schema(sql: Session, server: TestServer) -> None:
    await sql.execute("create extension pgcrypto version '1.3'; alter extension pgcrypto update")
    assert await sql.fetchval("select extversion from pg_extension where extname = 'pgcrypto'") == "1.4"
    await sql.execute('create extension "uuid-ossp"; create extension pgjwt')
    database = await sql.fetchval("select current_database()")
    moves = [f'alter extension "{name}" set schema extensions' for name in ("pgcrypto", "uuid-ossp", "pgjwt")]
    await server.run(database, *moves)
    await sql.execute("set search_path = pg_temp")
    assert await sql.fetchval("select extensions.hmac('a', 'b', 'sha1')") == hmac.digest(b"b", b"a", "sha1")
    assert await sql.fetchval("select extensions.uuid_generate_v5(extensions.uuid_ns_dns(), 'x')") == uuid.uuid5(
        uuid.NAMESPACE_DNS, "x"
    )
    token = await sql.fetchval("select extensions.sign('{}', 'secret')")
    assert await sql.fetchval("select valid from extensions.verify($1, 'secret')", token)


# --- uuid-ossp


async def test_named_uuids(crypto: Session) -> None:
    for namespace in (uuid.NAMESPACE_DNS, uuid.NAMESPACE_URL, uuid.UUID(int=0)):
        for name in ("", "example.org", "naïve 漢字 🙂" * 9):
            assert await crypto.fetchval("select uuid_generate_v3($1, $2)", namespace, name) == uuid.uuid3(
                namespace, name
            )
            assert await crypto.fetchval("select uuid_generate_v5($1, $2)", namespace, name) == uuid.uuid5(
                namespace, name
            )
    said = await crypto.fetchrow("select uuid_nil(), uuid_ns_dns(), uuid_ns_url(), uuid_ns_oid(), uuid_ns_x500()")
    assert said == (
        uuid.UUID(int=0),
        uuid.NAMESPACE_DNS,
        uuid.NAMESPACE_URL,
        uuid.NAMESPACE_OID,
        uuid.NAMESPACE_X500,
    )


@pytest.mark.parametrize("function", ["uuid_generate_v1", "uuid_generate_v1mc"])
async def test_timed_uuids(crypto: Session, function: str) -> None:
    made = [row[0] for row in await crypto.fetch(f"select {function}() from generate_series(1, 500)")]
    assert len(set(made)) == 500
    for one in made:
        assert (one.version, one.variant) == (1, uuid.RFC_4122)
        assert one.node >> 40 & 1 == 1, "a random node says so by its multicast bit"
        assert abs((one.time - 0x01B21DD213814000) / 1e7 - time.time()) < 5
    assert [one.time // 10 for one in made] == sorted(one.time // 10 for one in made)


async def test_random_uuids(crypto: Session) -> None:
    made = {row[0] for row in await crypto.fetch("select uuid_generate_v4() from generate_series(1, 100)")}
    assert len(made) == 100
    assert {one.version for one in made} == {4}
    await crypto.execute("create temp table t (id uuid primary key default extensions.uuid_generate_v4())")
    assert await crypto.fetchval("insert into t default values returning id is not null")


# --- pgjwt


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
async def test_tokens(crypto: Session, algorithm: str) -> None:
    for key in ("a-secret-of-more-than-sixty-four-bytes-" * 2, "k" * 64, "é" * 100):
        token = await crypto.fetchval("""select sign('{"sub": "ü"}', $1, $2)""", key, algorithm)
        assert jwt.decode(token, key, [algorithm]) == {"sub": "ü"}
        theirs = jwt.encode({"sub": "x", "nbf": 5, "exp": 4102444800}, key, algorithm)
        said = await crypto.fetchrow(
            "select header->>'alg', payload->>'sub', valid from verify($1, $2, $3)", theirs, key, algorithm
        )
        assert said == (algorithm, "x", True)
        assert not await crypto.fetchval("select valid from verify($1, $2, $3)", theirs, key + "x", algorithm)
    for claims in ({"exp": 5}, {"nbf": 4102444800}):
        theirs = jwt.encode(claims, "k" * 64, algorithm)
        assert not await crypto.fetchval("select valid from verify($1, $2, $3)", theirs, "k" * 64, algorithm)


async def test_the_parts_of_tokens(crypto: Session) -> None:
    long = bytes(range(256))
    encoded = await crypto.fetchval("select url_encode($1)", long)
    assert re.fullmatch(r"[A-Za-z0-9_-]+", encoded)
    assert await crypto.fetchval("select url_decode($1)", encoded) == long
    assert await crypto.fetchrow("select try_cast_double('1.5'), try_cast_double('soon')") == (1.5, None)
    with pytest.raises(asyncpg.InvalidParameterValueError, match="HS256"):
        await crypto.fetchval("select sign('{}', 'secret', 'none')")


# --- the others


async def test_the_servers_own_for_everybody(sql: Session) -> None:
    for name in TRUSTED:
        await sql.execute(f'create extension if not exists "{name}" with schema extensions cascade')
    installed = await sql.fetch("select extname from pg_extension")
    assert set(TRUSTED) <= {row["extname"] for row in installed}


async def test_what_the_creator_may_do_with_them(sql: Session) -> None:
    for name in ("vector", "moddatetime", "dblink", "postgres_fdw", "pg_stat_statements"):
        await sql.execute(f"create extension {name} with schema extensions")
    assert await sql.fetchval("select '[1,2]'::vector <-> '[1,4]'") == 2
    await sql.execute("create server elsewhere foreign data wrapper postgres_fdw")
    await sql.execute("create table t (id integer, changed timestamptz); insert into t values (1)")
    await sql.execute("create trigger t before update on t for each row execute function moddatetime(changed)")
    assert await sql.fetchval("update t set id = 2 returning changed is not null")
    assert await sql.fetchval("select count(*) > 0 from pg_stat_statements")
    assert await sql.fetchval("select pg_stat_statements_reset() is not null")


@pytest.mark.parametrize("target", ["", "with schema extensions", "with schema pg_catalog"])
async def test_the_unserved_warn_and_raise(sql: Session, target: str) -> None:
    for extension in UNSERVED:
        if target.endswith("extensions"):
            await sql.execute(f"create schema {extension.schema}")  # as dumps do before they name the extension
        assert await warnings_of(sql, f"create extension {extension.name} {target}") == [
            f"{extension.name} is not served by the embedded server yet: using it will raise an error"
        ]
        functions = await functions_in(sql, extension.schema)
        assert len(functions) == len(extension.functions)
        uses = [*functions, *(f"{extension.schema}.{view}" for view, _ in extension.views)]
        for use in uses:
            with pytest.raises(asyncpg.FeatureNotSupportedError, match="not in the embedded server yet") as caught:
                await sql.fetch(f"select * from {use}")
            assert "--db-url" in str(getattr(caught.value, "hint", ""))
        await sql.execute(f"drop extension {extension.name}")


async def warnings_of(sql: Session, statement: str) -> list[str]:
    heard: list[str] = []

    def listen(_connection: object, message: asyncpg.PostgresLogMessage) -> None:
        if message.severity == "WARNING":
            heard.append(message.message)

    sql.add_log_listener(listen)
    await sql.execute(statement)
    await asyncio.sleep(0)
    sql.remove_log_listener(listen)
    return heard


async def functions_in(sql: Session, schema: str) -> list[str]:
    """A call of each function of a schema, with nulls of the right types."""
    rows = await sql.fetch(
        "select oid::regproc::text as name, (select coalesce(string_agg('null::' || format_type(t, null), ', '), '')"
        " from unnest(proargtypes::oid[]) as t) as arguments from pg_proc"
        " where pronamespace = $1::text::regnamespace and proname <> '_unserved'",
        schema,
    )
    return [f"{row['name']}({row['arguments']})" for row in rows]


async def test_pgsodium_is_an_empty_name(sql: Session) -> None:
    notices: list[str] = []
    sql.add_log_listener(lambda _connection, message: notices.append(message.message))
    await sql.execute("create extension if not exists pgsodium")
    await asyncio.sleep(0)
    assert any("empty stand-in" in notice for notice in notices)
    assert await sql.fetchval("select count(*) from pg_proc where pronamespace = 'pgsodium'::regnamespace") == 0


async def test_the_refused_say_why(sql: Session) -> None:
    for refusal in REFUSED:
        with pytest.raises(asyncpg.FeatureNotSupportedError) as caught:
            await sql.execute(f'create extension if not exists "{refusal.name}" with schema extensions')
        assert str(caught.value).startswith(f'extension "{refusal.name}" is not part of the embedded server')
        assert getattr(caught.value, "hint", None) == refusal.hint
    comments = "select count(*) from pg_available_extensions where comment = 'not part of the embedded server'"
    assert await sql.fetchval(comments) == len(REFUSED)


def test_files_are_written_once_and_older_ones_go(tmp_path: Path) -> None:
    tree = find_server_tree()
    (tmp_path / "extensions" / "old" / "extension").mkdir(parents=True)
    place = ensure_extensions(tmp_path / "extensions", tree)
    written = place / "extension" / "pgcrypto.control"
    first = written.stat().st_mtime_ns
    assert ensure_extensions(tmp_path / "extensions", tree) == place
    assert written.stat().st_mtime_ns == first
    assert [path.name for path in (tmp_path / "extensions").iterdir()] == [place.name]
    assert {path.name for path in (place / "extension").iterdir()} == set(render_extensions(tree))
