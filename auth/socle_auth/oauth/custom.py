"""Custom providers: how their claims become a profile (attribute mapping, claim allow-list), contract §3.13 (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from socle_auth.json_values import members
from socle_auth.oauth.profile import PROFILE_CLAIMS, Profile, parse_claims

RESERVED_PARAMS = frozenset(
    {
        "client_id",
        "client_secret",
        "redirect_uri",
        "response_type",
        "state",
        "code_challenge",
        "code_challenge_method",
        "code_verifier",
        "nonce",
    }
)
"""Parameters of the protocol that nobody may set from outside (contract §3.13, §4.2)."""

PROTECTED_TARGETS = frozenset(
    {
        "id",
        "aud",
        "role",
        "app_metadata",
        "created_at",
        "updated_at",
        "confirmed_at",
        "email_confirmed_at",
        "phone_confirmed_at",
        "email_verified",
        "phone_verified",
        "banned_until",
        "is_super_admin",
    }
)
"""What an attribute mapping may never write: columns and claims that only we vouch for."""


@dataclass(frozen=True, slots=True)
class CustomRules:
    """`attribute_mapping`: target claim → source claim (text) or a literal of another type."""

    acceptable_client_ids: tuple[str, ...] = ()
    attribute_mapping: Mapping[str, object] = field(default_factory=dict[str, object])
    claims_allowlist: tuple[str, ...] = ()


def read_custom_claims(claims: Mapping[str, object], rules: CustomRules, known: Profile | None = None) -> Profile:
    """The person of these claims under the provider's rules; `known` is what a well-known issuer's reader made of them.

    Raises ProfileUnusable.
    """
    mapped = _mapped({**claims, **(known.claims if known else {})}, rules)
    profile = parse_claims({**mapped, "sub": mapped.get("sub") or claims.get("sub")})
    emails = known.emails if known and "email" not in rules.attribute_mapping else profile.emails
    custom = {name: claims[name] for name in rules.claims_allowlist if name in claims}
    kept = {name: value for name, value in profile.claims.items() if name != "custom_claims"}
    if gathered := {**members(mapped.get("custom_claims")), **custom}:
        kept["custom_claims"] = gathered
    return Profile(profile.subject, emails, kept)


def _mapped(claims: Mapping[str, object], rules: CustomRules) -> dict[str, object]:
    result = dict(claims)
    for target, source in rules.attribute_mapping.items():
        if target in PROTECTED_TARGETS or target not in PROFILE_CLAIMS:
            continue
        if not isinstance(source, str):
            result[target] = source
        elif source in claims:
            result[target] = claims[source]
    return result
