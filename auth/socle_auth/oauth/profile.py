"""What a provider tells about a person, as one value; reading it out of loosely shaped JSON (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from socle_auth.json_values import as_boolean, text_of
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


def full_name(*parts: str) -> str:
    """Name parts joined by one blank."""
    return " ".join(part for part in parts if part).strip()
