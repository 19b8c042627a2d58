"""Rows of schema `auth` as values (contracts/auth.md §6.1).

A row written by hand or restored from a dump may hold NULL where upstream writes an empty string: every loader reads
NULL text as "", NULL metadata as {} (§10.5). Times are aware UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

from socle_platform.db import Record

NIL_UUID = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True)
class UserIdentity:
    """A way a user can be known: a row of `auth.identities`. (`Identity` is the caller of a request.)"""

    id: str
    provider_id: str
    user_id: str
    provider: str
    identity_data: Mapping[str, Any]
    last_sign_in_at: datetime | None
    created_at: datetime | None
    updated_at: datetime | None
    email: str


@dataclass(frozen=True, slots=True)
class Factor:
    """A second factor: a row of `auth.mfa_factors`."""

    id: str
    user_id: str
    friendly_name: str
    factor_type: str
    status: str
    created_at: datetime
    updated_at: datetime
    secret: str = field(repr=False, default="")
    phone: str = ""
    last_challenged_at: datetime | None = None
    web_authn_credential: Any = field(repr=False, default=None)
    web_authn_aaguid: str | None = None
    last_webauthn_challenge_data: Any = None

    @property
    def is_verified(self) -> bool:
        return self.status == "verified"


@dataclass(frozen=True, slots=True)
class User:
    """A row of `auth.users`, with its identities and factors when they were loaded (None when not)."""

    id: str
    aud: str
    role: str
    email: str
    phone: str
    encrypted_password: str = field(repr=False)
    is_sso_user: bool
    is_anonymous: bool
    app_metadata: Mapping[str, Any]
    user_metadata: Mapping[str, Any]
    created_at: datetime
    updated_at: datetime
    email_confirmed_at: datetime | None = None
    phone_confirmed_at: datetime | None = None
    confirmed_at: datetime | None = None
    invited_at: datetime | None = None
    confirmation_token: str = field(default="", repr=False)
    confirmation_sent_at: datetime | None = None
    recovery_token: str = field(default="", repr=False)
    recovery_sent_at: datetime | None = None
    email_change: str = ""
    email_change_token_new: str = field(default="", repr=False)
    email_change_token_current: str = field(default="", repr=False)
    email_change_sent_at: datetime | None = None
    email_change_confirm_status: int = 0
    phone_change: str = ""
    phone_change_token: str = field(default="", repr=False)
    phone_change_sent_at: datetime | None = None
    reauthentication_token: str = field(default="", repr=False)
    reauthentication_sent_at: datetime | None = None
    last_sign_in_at: datetime | None = None
    banned_until: datetime | None = None
    deleted_at: datetime | None = None
    identities: tuple[UserIdentity, ...] | None = None
    factors: tuple[Factor, ...] | None = None

    @property
    def is_email_confirmed(self) -> bool:
        return self.email_confirmed_at is not None

    @property
    def is_phone_confirmed(self) -> bool:
        return self.phone_confirmed_at is not None

    @property
    def has_password(self) -> bool:
        return bool(self.encrypted_password)

    @property
    def has_been_invited(self) -> bool:
        return self.invited_at is not None

    @property
    def has_verified_factor(self) -> bool:
        return any(factor.is_verified for factor in self.factors or ())

    def is_banned(self, now: datetime) -> bool:
        return self.banned_until is not None and now < self.banned_until


@dataclass(frozen=True, slots=True)
class AmrClaim:
    """How a session proved who it is: a row of `auth.mfa_amr_claims`."""

    method: str
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Session:
    """A sign-in: a row of `auth.sessions`, with its proofs when they were loaded."""

    id: str
    user_id: str
    created_at: datetime
    updated_at: datetime
    factor_id: str | None = None
    aal: str = "aal1"
    not_after: datetime | None = None
    refreshed_at: datetime | None = None
    user_agent: str = ""
    ip: str | None = None
    tag: str | None = None
    oauth_client_id: str | None = None
    refresh_token_hmac_key: str | None = field(default=None, repr=False)
    refresh_token_counter: int | None = None
    scopes: str | None = None
    amr: tuple[AmrClaim, ...] = ()


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """A row of `auth.refresh_tokens` (the first form of refresh tokens; §5.3)."""

    id: int
    token: str = field(repr=False)
    user_id: str
    parent: str = field(repr=False)
    session_id: str | None
    revoked: bool
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class OneTimeToken:
    """A row of `auth.one_time_tokens`: what a link in a mail names."""

    id: str
    user_id: str
    token_type: str
    token_hash: str = field(repr=False)
    relates_to: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class FlowState:
    """A row of `auth.flow_state`: a PKCE or provider sign-in under way (§4.1, §4.2)."""

    id: str
    user_id: str | None
    auth_code: str | None = field(repr=False)
    code_challenge: str | None
    code_challenge_method: str | None
    provider_type: str
    authentication_method: str
    created_at: datetime
    updated_at: datetime
    auth_code_issued_at: datetime | None = None
    provider_access_token: str = field(default="", repr=False)
    provider_refresh_token: str = field(default="", repr=False)
    invite_token: str | None = field(default=None, repr=False)
    referrer: str | None = None
    oauth_client_state_id: str | None = None
    linking_target_id: str | None = None
    email_optional: bool = False


def utc(moment: datetime | str | None) -> datetime | None:
    """A time of the database (naive ones are UTC; text from inside JSON) as aware UTC.

    What no datetime holds, infinity or a year before 1 or above 9999, is the first or the last moment that one does.
    """
    if moment is None:
        return None
    if isinstance(moment, str):
        moment = _read(moment)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _read(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        is_early = text.startswith("-") or text.endswith(" BC")
    return datetime.min if is_early else datetime.max  # noqa: DTZ901 - naive ones are UTC here


def _moment(record: Record, column: str) -> datetime:
    return utc(record[column]) or datetime.fromtimestamp(0, UTC)


def _mapping(value: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def load_amr(record: Record) -> AmrClaim:
    return AmrClaim(record["authentication_method"], _moment(record, "updated_at"))


def load_identity(record: Record) -> UserIdentity:
    return UserIdentity(
        id=record["id"],
        provider_id=record["provider_id"],
        user_id=record["user_id"],
        provider=record["provider"],
        identity_data=_mapping(record["identity_data"]),
        last_sign_in_at=utc(record["last_sign_in_at"]),
        created_at=utc(record["created_at"]),
        updated_at=utc(record["updated_at"]),
        email=record["email"] or "",
    )


def load_factor(record: Record) -> Factor:
    return Factor(
        id=record["id"],
        user_id=record["user_id"],
        friendly_name=record["friendly_name"] or "",
        factor_type=record["factor_type"],
        status=record["status"],
        created_at=_moment(record, "created_at"),
        updated_at=_moment(record, "updated_at"),
        secret=record["secret"] or "",
        phone=record["phone"] or "",
        last_challenged_at=utc(record["last_challenged_at"]),
        web_authn_credential=record["web_authn_credential"],
        web_authn_aaguid=record["web_authn_aaguid"],
        last_webauthn_challenge_data=record["last_webauthn_challenge_data"],
    )


_USER_TEXTS = (
    "aud",
    "role",
    "email",
    "phone",
    "encrypted_password",
    "confirmation_token",
    "recovery_token",
    "email_change",
    "email_change_token_new",
    "email_change_token_current",
    "phone_change",
    "phone_change_token",
    "reauthentication_token",
)
USER_TIMES = (
    "email_confirmed_at",
    "phone_confirmed_at",
    "confirmed_at",
    "invited_at",
    "confirmation_sent_at",
    "recovery_sent_at",
    "email_change_sent_at",
    "phone_change_sent_at",
    "reauthentication_sent_at",
    "last_sign_in_at",
    "banned_until",
    "deleted_at",
)


def load_user(
    record: Record,
    identities: tuple[UserIdentity, ...] | None = None,
    factors: tuple[Factor, ...] | None = None,
) -> User:
    rest: dict[str, Any] = {column: record[column] or "" for column in _USER_TEXTS}
    rest |= {column: utc(record[column]) for column in USER_TIMES}
    return User(
        id=record["id"],
        is_sso_user=bool(record["is_sso_user"]),
        is_anonymous=bool(record["is_anonymous"]),
        app_metadata=_mapping(record["raw_app_meta_data"]),
        user_metadata=_mapping(record["raw_user_meta_data"]),
        created_at=_moment(record, "created_at"),
        updated_at=_moment(record, "updated_at"),
        email_change_confirm_status=record["email_change_confirm_status"] or 0,
        identities=identities,
        factors=factors,
        **rest,
    )


def load_session(record: Record, amr: tuple[AmrClaim, ...] = ()) -> Session:
    return Session(
        id=record["id"],
        user_id=record["user_id"],
        created_at=_moment(record, "created_at"),
        updated_at=_moment(record, "updated_at"),
        factor_id=record["factor_id"],
        aal=record["aal"] or "aal1",
        not_after=utc(record["not_after"]),
        refreshed_at=utc(record["refreshed_at"]),
        user_agent=record["user_agent"] or "",
        ip=record["ip"],
        tag=record["tag"],
        oauth_client_id=record["oauth_client_id"],
        refresh_token_hmac_key=record["refresh_token_hmac_key"],
        refresh_token_counter=record["refresh_token_counter"],
        scopes=record["scopes"],
        amr=amr,
    )


def load_refresh_token(record: Record) -> RefreshToken:
    return RefreshToken(
        id=record["id"],
        token=record["token"],
        user_id=record["user_id"],
        parent=record["parent"] or "",
        session_id=record["session_id"],
        revoked=bool(record["revoked"]),
        created_at=_moment(record, "created_at"),
        updated_at=_moment(record, "updated_at"),
    )


def load_one_time_token(record: Record) -> OneTimeToken:
    return OneTimeToken(
        id=record["id"],
        user_id=record["user_id"],
        token_type=record["token_type"],
        token_hash=record["token_hash"],
        relates_to=record["relates_to"],
        created_at=_moment(record, "created_at"),
    )


def load_flow_state(record: Record) -> FlowState:
    return FlowState(
        id=record["id"],
        user_id=record["user_id"],
        auth_code=record["auth_code"],
        code_challenge=record["code_challenge"],
        code_challenge_method=record["code_challenge_method"],
        provider_type=record["provider_type"],
        authentication_method=record["authentication_method"],
        created_at=_moment(record, "created_at"),
        updated_at=_moment(record, "updated_at"),
        auth_code_issued_at=utc(record["auth_code_issued_at"]),
        provider_access_token=record["provider_access_token"] or "",
        provider_refresh_token=record["provider_refresh_token"] or "",
        invite_token=record["invite_token"],
        referrer=record["referrer"],
        oauth_client_state_id=record["oauth_client_state_id"],
        linking_target_id=record["linking_target_id"],
        email_optional=bool(record["email_optional"]),
    )
