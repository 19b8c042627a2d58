"""What a use case is given: the service's parts (`AuthService`), the request (`Call`) and who sent it (`Caller`)."""

from __future__ import annotations

import asyncio
import ipaddress
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

from socle_auth import wire
from socle_auth.errors import AuthError, ErrorCode
from socle_platform.config.auth import AuthSettings
from socle_platform.errors import WireResponse
from socle_platform.events import Noted

if TYPE_CHECKING:
    from socle_auth.limits import Limits
    from socle_auth.locks import RefreshLocks
    from socle_auth.mail.templates import MailTemplates
    from socle_auth.oauth.oidc import Issuers
    from socle_auth.passwords import PasswordHasher
    from socle_auth.redirects import RedirectRules
    from socle_auth.store.rows import Session, User
    from socle_auth.text_templates import TextTemplates
    from socle_platform.db import Connection
    from socle_platform.ports import Resources


MOST_SENDERS = 3
"""Requests that may send at the same time. A message is sent inside its transaction, so that nothing stays behind when
it cannot be sent; a slow mail server then holds these few sessions of the database, and not all of them."""


@dataclass(frozen=True, slots=True)
class AuthService:
    """The service's own parts, one of each for its lifetime."""

    settings: AuthSettings
    resources: Resources
    hasher: PasswordHasher
    redirects: RedirectRules
    limits: Limits
    refresh_locks: RefreshLocks
    issuers: Issuers
    mails: MailTemplates
    texts: TextTemplates
    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
    senders: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_SENDERS))

    def connect(self) -> AbstractAsyncContextManager[Connection]:
        """A transaction of the service's own: commits at normal exit, rolls back on an exception."""
        return self.resources.database.as_service("auth")

    def now(self) -> datetime:
        return self.resources.clock.now()

    def new_id(self) -> str:
        """A random UUID (version 4)."""
        return str(uuid.UUID(bytes=self.resources.random.token_bytes(16), version=4))

    def random_bytes(self, size: int) -> bytes:
        return self.resources.random.token_bytes(size)

    def note(self, level: str, text: str) -> None:
        """A sentence for the log; `level` is debug, info, warning or error."""
        self.resources.observe(Noted("auth", level, text))


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent the request, proven by a token.

    `user` is None only for service keys and admin tokens without a user; `session` only for tokens without one.
    """

    role: str
    claims: Mapping[str, object]
    user: User | None = None
    session: Session | None = None
    token: str | None = field(default=None, repr=False)

    @property
    def is_anonymous(self) -> bool:
        return self.claims.get("is_anonymous") is True

    @property
    def audience(self) -> str:
        """The token's `aud`, the first one of several; "" without one."""
        claim = self.claims.get("aud")
        first = (wire.as_list(claim) or [claim])[0]
        return first if isinstance(first, str) else ""

    @property
    def aal(self) -> str:
        """The assurance level that the token claims; never more than its session has."""
        value = self.claims.get("aal")
        return value if isinstance(value, str) else "aal1"


@dataclass(frozen=True, slots=True)
class Call:
    """One request as a value. Header names are lower case; of a repeated header or parameter the first counts."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    query: Mapping[str, str] = field(default_factory=dict[str, str])
    params: Mapping[str, str] = field(default_factory=dict[str, str])
    raw_body: bytes = field(default=b"", repr=False)
    client_ip: str = ""
    request_id: str = ""
    api_version: str | None = None
    scheme: str = "http"
    root_path: str = ""
    caller: Caller | None = None

    @property
    def user_agent(self) -> str:
        return self.headers.get("user-agent", "")

    def by(self, caller: Caller) -> Call:
        """The same with its caller known (`dataclasses.replace`, but on the way of every request)."""
        return Call(
            self.method,
            self.path,
            self.headers,
            self.query,
            self.params,
            self.raw_body,
            self.client_ip,
            self.request_id,
            self.api_version,
            self.scheme,
            self.root_path,
            caller,
        )

    def body(self) -> wire.Body:
        """The JSON body. Raises `bad_json`."""
        return wire.parse_body(self.raw_body)

    def optional_body(self) -> wire.Body:
        """The JSON body; none at all is {}."""
        return wire.parse_optional_body(self.raw_body)

    def form(self) -> Mapping[str, str]:
        """The body's form fields, {} unless it says that it is a form."""
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        return wire.parse_form(self.raw_body) if kind == "application/x-www-form-urlencoded" else {}

    def parameter(self, name: str) -> str:
        """A query parameter or form field; "" when absent (the query wins)."""
        return self.query.get(name) or self.form().get(name, "")

    def path_uuid(self, name: str) -> str:
        """A path parameter that must be a UUID. Raises 404 `validation_failed`."""
        value = wire.parse_uuid(self.params.get(name, ""))
        if value is None:
            raise AuthError(ErrorCode.VALIDATION_FAILED, f"{name} must be an UUID", 404)
        return value

    def require_caller(self) -> Caller:
        """The caller of a route that needs one."""
        if self.caller is None:
            raise AuthError(ErrorCode.NO_AUTHORIZATION, "This endpoint requires a valid Bearer token")
        return self.caller

    def require_user(self) -> User:
        """The signed-in user of a USER route."""
        user = self.require_caller().user
        if user is None:
            raise AuthError(ErrorCode.BAD_JWT, "invalid claim: missing sub claim")
        return user

    def require_session(self) -> Session:
        """The session of the signed-in user. Raises 403 `session_not_found` for a token without one."""
        session = self.require_caller().session
        if session is None:
            raise AuthError(ErrorCode.SESSION_NOT_FOUND, "Session from session_id claim in JWT does not exist", 403)
        return session

    def audience(self, settings: AuthSettings) -> str:
        """Which users the request is about (§1.10): header, then a non-admin token's, then the settings'."""
        if header := self.headers.get("x-jwt-aud"):
            return header
        if self.caller is not None and self.caller.role not in settings.jwt.admin_roles:
            return self.caller.audience or settings.jwt.audience
        return settings.jwt.audience


class Access(Enum):
    """Who may call a route."""

    PUBLIC = "public"
    OPTIONAL = "optional"  # a token is read when there is a valid one, and not asked for
    TOKEN = "token"  # a person's proven token; the handler looks for the user and the session itself
    USER = "user"
    PERMANENT_USER = "permanent user"  # signed in and not anonymous
    ADMIN = "admin"


Handler: TypeAlias = Callable[[AuthService, Call], Awaitable[WireResponse]]
Gate: TypeAlias = Callable[[AuthSettings], None]


@dataclass(frozen=True, slots=True)
class AuthRoute:
    """One line of a module's ROUTES.

    Order of the checks: `first_gate`, access, `limiter` (a bucket of limits.py), captcha, `gate`, handler. A gate
    raises the error of a feature that is off. `sends`: the handler may send a mail or a text message.
    """

    method: str
    path: str
    handler: Handler
    access: Access = Access.PUBLIC
    limiter: str | None = None
    captcha: bool = False
    first_gate: Gate | None = None
    gate: Gate | None = None
    sends: bool = False
