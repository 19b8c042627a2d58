"""What a provider tells about a person, as one value; reading it out of loosely shaped JSON (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from socle_platform.errors import SocleError

PROFILE_CLAIMS = frozenset(
    {
        "iss",
        "sub",
        "name",
        "family_name",
        "given_name",
        "middle_name",
        "nickname",
        "preferred_username",
        "profile",
        "picture",
        "website",
        "gender",
        "birthdate",
        "zoneinfo",
        "locale",
        "updated_at",
        "email",
        "email_verified",
        "phone",
        "phone_verified",
        "custom_claims",
        "full_name",
        "avatar_url",
        "slug",
        "provider_id",
        "user_name",
    }
)
"""Every key that identity_data and user_metadata may get from a provider (contract §4.4)."""


class ProfileUnusable(SocleError):
    """The provider did not say who the person is."""


@dataclass(frozen=True, slots=True)
class ProviderEmail:
    """An address the provider knows; `verified` as the provider claims."""

    address: str
    verified: bool = False
    primary: bool = True


@dataclass(frozen=True, slots=True)
class Profile:
    """A person at a provider: `subject` identifies them there; `claims` hold PROFILE_CLAIMS keys, no empty ones."""

    subject: str
    emails: tuple[ProviderEmail, ...] = ()
    claims: Mapping[str, object] = field(default_factory=dict[str, object])

    @property
    def main_email(self) -> ProviderEmail | None:
        """The primary address, else the first verified one, else the first."""
        for chosen in (
            [email for email in self.emails if email.primary],
            [email for email in self.emails if email.verified],
            self.emails,
        ):
            if chosen:
                return chosen[0]
        return None

    def identity_data(self) -> dict[str, object]:
        """The claims with the main address; `email_verified` and `phone_verified` always present."""
        data: dict[str, object] = {"email_verified": False, "phone_verified": False, **self.claims}
        data["email_verified"] = False
        if main := self.main_email:
            data |= {"email": main.address, "email_verified": main.verified}
        return data


def make_profile(
    subject: object,
    emails: Iterable[ProviderEmail] = (),
    custom: Mapping[str, object] | None = None,
    **claims: object,
) -> Profile:
    """A profile of claims by name, empty ones left out. `subject` may be a number. Raises ProfileUnusable."""
    known = text_of(subject)
    if not known:
        raise ProfileUnusable
    kept: dict[str, object] = {name: value for name, value in claims.items() if value}
    if custom:
        kept["custom_claims"] = dict(custom)
    addresses = tuple(email for email in emails if email.address)
    return Profile(known, addresses, {"sub": known, "provider_id": known, **kept})


def parse_claims(claims: Mapping[str, object], *, provider_id: bool = False) -> Profile:
    """A profile of OpenID Connect standard claims; unknown claims are dropped. Raises ProfileUnusable."""
    subject = text_of(claims.get("sub"))
    if not subject:
        raise ProfileUnusable
    kept = {name: value for name, value in claims.items() if name in PROFILE_CLAIMS and value not in (None, "", {}, [])}
    kept["phone_verified"] = as_boolean(claims.get("phone_verified"))
    kept["email_verified"] = verified = as_boolean(claims.get("email_verified"))
    address = text_of(claims.get("email"))
    if provider_id:
        kept["provider_id"] = subject
    return Profile(subject, (ProviderEmail(address, verified),) if address else (), {**kept, "sub": subject})


def text_of(value: object) -> str:
    """Text as it is, a whole number as its digits, anything else as nothing."""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


def as_boolean(value: object) -> bool:
    """True, 1, "1" and "true": providers write truth in all these ways."""
    return value is True or value == 1 or (isinstance(value, str) and value.lower() in {"true", "1"})


def pick(value: object, *path: str | int) -> object:
    """The value under a path of keys and positions, or None."""
    for step in path:
        if isinstance(step, str) and isinstance(value, Mapping):
            value = cast("Mapping[str, object]", value).get(step)
        elif isinstance(step, int) and isinstance(value, list):
            entries = cast("list[object]", value)
            value = entries[step] if step < len(entries) else None
        else:
            return None
    return value


def pick_text(value: object, *path: str | int) -> str:
    """The text under a path, or nothing."""
    return text_of(pick(value, *path))


def pick_list(value: object, *path: str | int) -> Sequence[object]:
    """The list under a path, or an empty one."""
    found = pick(value, *path)
    return cast("list[object]", found) if isinstance(found, list) else []


def members(value: object) -> dict[str, object]:
    """A JSON object's members; nothing for any other value."""
    return dict(cast("Mapping[str, object]", value)) if isinstance(value, Mapping) else {}


def full_name(*parts: str) -> str:
    """Name parts joined by one blank."""
    return " ".join(part for part in parts if part).strip()
