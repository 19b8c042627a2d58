"""A person as a file tells about them, and what makes one fit to be stored."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias

from socle_auth.emails import parse_email
from socle_auth.errors import AuthError
from socle_auth.passwords import BadHash, check_hash

_PHONE = re.compile(r"[1-9][0-9]{1,14}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_NAMESPACE = uuid.UUID("6f1d0a5e-0d0b-5c55-9a0e-9d4b3a1c7e21")


Row: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class IdentityOf:
    """One way to sign in: the provider, the person's id there, what it told, and the id of the row ("": a new one)."""

    provider: str
    provider_id: str
    data: Mapping[str, Any] = field(default_factory=dict[str, Any])
    id: str = ""


@dataclass(frozen=True, slots=True)
class Person:
    """One user as a source has them. `place` names them in messages; times are aware datetimes.

    Factors, passkeys and recovery codes are rows of their tables as the source wrote them, by column.
    """

    place: str
    id: str
    email: str = ""
    phone: str = ""
    password_hash: str = ""
    email_confirmed_at: datetime | None = None
    phone_confirmed_at: datetime | None = None
    invited_at: datetime | None = None
    last_sign_in_at: datetime | None = None
    created_at: datetime | None = None
    banned_until: datetime | None = None
    app_metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    user_metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    identities: tuple[IdentityOf, ...] = ()
    factors: tuple[Row, ...] = ()
    passkeys: tuple[Row, ...] = ()
    recovery_codes: tuple[Row, ...] = ()
    is_anonymous: bool = False
    is_sso_user: bool = False
    role: str = "authenticated"
    aud: str = "authenticated"


class NotAPerson(ValueError):
    """What a file tells about a person cannot be used; the message says why."""


def stable_id(source: str, native: str) -> str:
    """A UUID for a person whose source has other ids: the same at every run, so that an import can be repeated."""
    if _UUID.fullmatch(native):
        return native.lower()
    try:
        return str(uuid.UUID(native))
    except ValueError:
        return str(uuid.uuid5(_NAMESPACE, f"{source}:{native}"))


def parse_time(value: object) -> datetime | None:
    """ISO 8601 or PostgreSQL's own form, or milliseconds since 1970; None for nothing. Raises NotAPerson."""
    if value in (None, ""):
        return None
    text = str(value)
    try:
        if text.isdigit():
            return datetime.fromtimestamp(int(text) / 1000, UTC)
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError):
        raise NotAPerson(f"{text!r} is not a time") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def row_of(person: Person, now: datetime) -> dict[str, Any]:
    """The person as a row to insert, with all that belongs to them. Raises NotAPerson."""
    email, phone = _email(person), _phone(person)
    if not (email or phone or person.identities or person.is_anonymous):
        raise NotAPerson("has neither an email address nor a phone number nor an identity")
    if person.password_hash:
        try:
            check_hash(person.password_hash)
        except BadHash as error:
            raise NotAPerson(f"the password hash cannot be used: {error}") from error
    identities = list(person.identities) or _own_identities(person, email, phone)
    providers = list(dict.fromkeys(identity.provider for identity in identities))
    default = {"provider": providers[0], "providers": providers} if providers else {}
    created = person.created_at or now
    belongings = {"factors": person.factors, "passkeys": person.passkeys, "recovery_codes": person.recovery_codes}
    return {
        "id": person.id,
        "aud": person.aud,
        "role": person.role,
        "email": email or None,
        "phone": phone or None,
        "encrypted_password": person.password_hash,
        "email_confirmed_at": _text(person.email_confirmed_at),
        "phone_confirmed_at": _text(person.phone_confirmed_at),
        "invited_at": _text(person.invited_at),
        "last_sign_in_at": _text(person.last_sign_in_at),
        "raw_app_meta_data": {**default, **person.app_metadata},
        "raw_user_meta_data": dict(person.user_metadata),
        "created_at": _text(created),
        "banned_until": _text(person.banned_until),
        "is_sso_user": person.is_sso_user,
        "is_anonymous": person.is_anonymous,
        "identities": [
            {
                "id": identity.id if _UUID.fullmatch(identity.id) else None,
                "provider": identity.provider,
                "provider_id": identity.provider_id,
                "identity_data": {"sub": identity.provider_id, **identity.data},
            }
            for identity in identities
        ],
        **{name: rows for name, rows in belongings.items() if rows},
    }


def _own_identities(person: Person, email: str, phone: str) -> list[IdentityOf]:
    verified = {
        "email_verified": person.email_confirmed_at is not None,
        "phone_verified": person.phone_confirmed_at is not None,
    }
    made = list[IdentityOf]()
    if email:
        made.append(IdentityOf("email", person.id, {"email": email, **verified}))
    if phone:
        made.append(IdentityOf("phone", person.id, {"phone": phone, **verified}))
    return made


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _email(person: Person) -> str:
    try:
        return parse_email(person.email) if person.email else ""
    except AuthError as error:
        raise NotAPerson(f"{person.email!r}: {error.message}") from error


def _phone(person: Person) -> str:
    phone = re.sub(r"[\s().-]", "", person.phone).removeprefix("+")
    if phone and not _PHONE.fullmatch(phone):
        raise NotAPerson(f"{person.phone!r} is not a phone number with its country code")
    return phone
