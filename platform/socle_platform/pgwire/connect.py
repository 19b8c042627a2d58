"""Opens sessions: address by address, TLS as asked, authentication; and cancels what a session runs."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import ssl
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

from socle_platform.pgwire import messages
from socle_platform.pgwire.dsn import Tls
from socle_platform.pgwire.errors import ConnectFailed, ConnectionLost, DatabaseError, ProtocolViolation
from socle_platform.pgwire.inbox import Inbox
from socle_platform.pgwire.protocol import (
    Authentication,
    BackendKey,
    Event,
    NegotiateVersion,
    Notification,
    ParameterStatus,
    ReadyForQuery,
    ServerError,
    ServerNotice,
)
from socle_platform.pgwire.scram import MECHANISM, ScramClient
from socle_platform.pgwire.wire import Wire

if TYPE_CHECKING:
    from socle_platform.pgwire.dsn import Address, Target

DEFAULT_TIMEOUT = 10.0
"""Seconds for one server to answer until the session is ready, where the address does not say."""
_KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 5}
_TRY_NEXT = frozenset({"57P03", "53300"})
"""Answers after which another server of the list may do: starting up or shutting down, no free slot."""


async def open_wire(
    target: Target,
    *,
    statement_cache: int = 256,
    on_notice: Callable[[DatabaseError], None] | None = None,
    on_notification: Callable[[Notification], None] | None = None,
) -> Wire:
    """A session with the first server of `target` that gives one. Raises ConnectFailed with what each of them said."""
    problems: list[str] = []
    failure: DatabaseError | None = None
    for address in target.addresses:
        try:
            async with asyncio.timeout(target.connect_timeout or DEFAULT_TIMEOUT):
                wire = await _open(target, address, statement_cache)
        except TimeoutError:
            problems.append(f"{address}: no answer in time")
        except OSError as problem:
            problems.append(f"{address}: {problem.strerror or problem}")
        except ConnectionLost as problem:
            problems.append(f"{address}: {problem.message}")
            failure = problem.error
        except DatabaseError as problem:
            problems.append(f"{address}: {problem.message}")
            failure = problem
            if problem.sqlstate not in _TRY_NEXT:
                break
        else:
            if _fits(wire, target.session, last=address is target.addresses[-1]):
                wire.on_notice = on_notice
                wire.on_notification = on_notification
                return wire
            wire.terminate()
            problems.append(f"{address}: not {target.session}")
    raise ConnectFailed("the database cannot be reached: " + "; ".join(problems), failure)


def _fits(wire: Wire, session: str, *, last: bool) -> bool:
    """Whether the server is of the kind that target_session_attrs asks for (servers before 14 do not tell: any)."""
    standby = wire.parameters.get("in_hot_standby") == "on"
    read_only = standby or wire.parameters.get("default_transaction_read_only") == "on"
    return {
        "any": True,
        "primary": not standby,
        "standby": standby,
        "prefer-standby": standby or last,
        "read-write": not read_only,
        "read-only": read_only,
    }[session]


async def _open(target: Target, address: Address, statement_cache: int) -> Wire:
    """One server, with the fall-backs between TLS and plain that `allow` and `prefer` mean."""
    local = address.socket_path is not None
    modes = {"allow": ("disable", "require"), "prefer": ("prefer", "disable")}.get(target.tls.mode, (target.tls.mode,))
    if local:
        modes = ("disable",)
    for mode in modes[:-1]:
        try:
            return await _open_once(target, address, mode, statement_cache)
        except (ssl.SSLError, ConnectionLost):
            continue
        except DatabaseError as problem:
            # 28000: pg_hba.conf may want the other kind of connection.
            if problem.sqlstate != "28000":
                raise
    return await _open_once(target, address, modes[-1], statement_cache)


async def _open_once(target: Target, address: Address, mode: str, statement_cache: int) -> Wire:
    wire = Wire(asyncio.get_running_loop(), statement_cache=statement_cache)
    inbox = Inbox(wire)
    try:
        encrypted = await _reach(address, target.tls, mode, wire)
        wire.address = address
        wire.tls = target.tls if encrypted else None
        await _start_session(wire, inbox, target)
    except BaseException:
        wire.abort()
        raise
    inbox.detach()
    return wire


class _Question(asyncio.Protocol):
    """Waits for the byte that answers an SSLRequest, or for the end of a connection that only says something."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if not self.answer.done():
            self.answer.set_result(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.answer.done():
            self.answer.set_result(b"")

    def send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


async def _reach(address: Address, tls: Tls, mode: str, protocol: asyncio.Protocol) -> bool:
    """Connects `protocol` to a server; whether the connection is encrypted."""
    if mode == "disable":
        await _dial(address, protocol)
        return False
    question = _Question()
    transport = await _dial(address, question)
    try:
        transport.write(messages.ssl_request())
        answer = await question.answer
        if answer == b"S":
            context = tls_context(tls, mode)
            name = address.name if mode == "verify-full" or not _is_numeric(address.name) else None
            loop = asyncio.get_running_loop()
            upgraded = await loop.start_tls(transport, question, context, server_hostname=name or None)
            if upgraded is None:
                raise ConnectionLost
            transport = upgraded
        elif answer != b"N":
            # More than one byte before the handshake would be somebody's injection (CVE-2021-23222).
            raise ProtocolViolation("the database's answer to the TLS request is neither yes nor no")
        elif mode != "prefer":
            raise ConnectionLost("the server does not offer TLS")
        if transport.is_closing():
            raise ConnectionLost
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
    except BaseException:
        transport.abort()
        raise
    return answer == b"S"


async def _dial(address: Address, protocol: asyncio.Protocol) -> asyncio.Transport:
    loop = asyncio.get_running_loop()
    path = address.socket_path
    if path is not None:
        transport, _ = await loop.create_unix_connection(lambda: protocol, path)
    else:
        transport, _ = await loop.create_connection(lambda: protocol, address.host, address.port)
        _keep_alive(transport)
    return transport


def _keep_alive(transport: asyncio.Transport) -> None:
    sock = transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _is_numeric(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()


@lru_cache(maxsize=16)
def tls_context(tls: Tls, mode: str) -> ssl.SSLContext:
    """The TLS settings of an sslmode as libpq means them: `require` with a root file checks the chain, too."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = mode == "verify-full"
    verify = mode in ("verify-ca", "verify-full") or (mode == "require" and bool(tls.root))
    if not verify:
        context.verify_mode = ssl.CERT_NONE
    elif tls.root == "system":
        context.load_default_certs()
    else:
        context.load_verify_locations(cafile=tls.root or str(Path("~/.postgresql/root.crt").expanduser()))
    if tls.certificate:
        context.load_cert_chain(tls.certificate, tls.key or None, tls.key_password or None)
    return context


async def _start_session(wire: Wire, inbox: Inbox, target: Target) -> None:
    wire.send(
        messages.startup(
            {
                "user": target.user,
                "database": target.database,
                "client_encoding": "UTF8",
                "DateStyle": "ISO",
                **target.parameters,
            }
        )
    )
    await _authenticate(wire, inbox, target)
    while True:
        event = await _next(inbox)
        if isinstance(event, BackendKey):
            wire.process, wire.secret = event.process, event.secret
        elif isinstance(event, ReadyForQuery):
            wire.status = event.status
            return
        elif isinstance(event, ParameterStatus):
            wire.parameters[event.name] = event.value
        elif not isinstance(event, ServerNotice | NegotiateVersion):
            raise ProtocolViolation(f"the database sent {type(event).__name__} before the session was ready")


async def _next(inbox: Inbox) -> Event:
    event = await inbox.get()
    if isinstance(event, ServerError):
        raise event.as_error()
    return event


async def _authenticate(wire: Wire, inbox: Inbox, target: Target) -> None:
    scram: ScramClient | None = None
    proven = True
    while True:
        event = await _next(inbox)
        if isinstance(event, NegotiateVersion | ServerNotice):
            continue
        if not isinstance(event, Authentication):
            raise ProtocolViolation(f"the database sent {type(event).__name__} before it let us in")
        code, data = event.code, event.data
        if code == 0:
            if not proven:
                raise ProtocolViolation("the database let us in without proving that it knows the password")
            return
        if not target.password:
            raise ConnectFailed("the database asks for a password and the address has none")
        if code == 3:
            wire.send(messages.password(target.password.encode()))
        elif code == 5 and len(data) == 4:
            wire.send(messages.password(_md5(target.user, target.password, data)))
        elif code == 10:
            if MECHANISM not in data.decode(errors="replace").split("\0"):
                raise ConnectFailed("the database offers no way to log in that we know")
            scram, proven = ScramClient(target.password), False
            wire.send(messages.sasl_initial(MECHANISM, scram.first()))
        elif code == 11 and scram is not None:
            wire.send(messages.sasl_response(scram.final(data)))
        elif code == 12 and scram is not None:
            scram.verify(data)
            proven = True
        else:
            raise ConnectFailed(f"the database asks for a way to log in that we do not know ({code})")


def _md5(user: str, password: str, salt: bytes) -> bytes:
    """MD5 as the old protocol wants it (the server chose it)."""
    inner = hashlib.md5(password.encode() + user.encode(), usedforsecurity=False).hexdigest()
    return b"md5" + hashlib.md5(inner.encode() + salt, usedforsecurity=False).hexdigest().encode()


async def stop(wire: Wire, timeout: float = 5.0) -> None:
    """Makes a session whose answer nobody awaits free again; ends the session if that takes longer than `timeout`.

    A CancelRequest that overtakes its statement has no effect, so it is repeated.
    """
    pause = 0.05
    try:
        async with asyncio.timeout(timeout or None):
            while wire.busy:
                await cancel(wire, timeout)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(wire.drain(), pause)
                pause *= 2
    except TimeoutError:
        wire.abort()


async def cancel(wire: Wire, timeout: float = 5.0) -> None:
    """Asks the server to stop what `wire` runs, and waits until it has taken notice. Never raises for a dead server."""
    address = wire.address
    if address is None or wire.closed:
        return
    tls = wire.tls
    try:
        async with asyncio.timeout(timeout or None):
            mode = "disable" if tls is None else ("require" if tls.mode in ("allow", "prefer") else tls.mode)
            end = _Question()
            await _reach(address, tls or Tls("disable"), mode, end)
            try:
                end.send(messages.cancel_request(wire.process, wire.secret))
                await end.answer
            finally:
                end.close()
    except (OSError, TimeoutError, ConnectionLost):
        return
