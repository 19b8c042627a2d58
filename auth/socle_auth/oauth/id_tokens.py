"""ID token claims → Profile, by issuer (pure): each well-known issuer words its claims in its own way."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from socle_auth.json_values import as_boolean, pick_text
from socle_auth.oauth.profile import Profile, ProviderEmail, full_name, make_profile, parse_claims

APPLE_ISSUERS = frozenset({"https://appleid.apple.com", "https://account.apple.com"})
GOOGLE = "https://accounts.google.com"
FACEBOOK = "https://www.facebook.com"
KAKAO = "https://kauth.kakao.com"
LINKEDIN = "https://www.linkedin.com/oauth"
SNAPCHAT = "https://accounts.snapchat.com/accounts/oauth2/token"
VERCEL = "https://marketplace.vercel.com"
AZURE_COMMON = frozenset(
    {"https://login.microsoftonline.com/common/v2.0", "https://login.microsoftonline.com/organizations/v2.0"}
)
_AZURE = re.compile(r"https://login\.microsoftonline\.com/[^/]+/v2\.0/?")
_AZURE_CIAM = re.compile(r"https://[a-z0-9-]+\.ciamlogin\.com/[^/]+/v2\.0/?")
_AZURE_PROTOCOL_CLAIMS = frozenset(
    {
        *("aud", "iss", "iat", "nbf", "exp", "c_hash", "at_hash", "aio", "nonce", "rh", "uti", "jti", "ver"),
        *("sub", "name", "preferred_username"),
    }
)


def is_azure_issuer(issuer: str) -> bool:
    """A tenant of Microsoft Entra ID."""
    return bool(_AZURE.fullmatch(issuer))


def is_azure_customer_issuer(issuer: str) -> bool:
    """A tenant of Entra External ID (ciamlogin.com)."""
    return bool(_AZURE_CIAM.fullmatch(issuer))


def read_id_token(claims: Mapping[str, object]) -> Profile:
    """The person of verified claims; standard claims unless the issuer is a known one. Raises ProfileUnusable."""
    issuer = pick_text(claims, "iss")
    if is_azure_issuer(issuer):
        return _azure(claims)
    return _READERS.get(issuer, parse_claims)(claims)


def _email(claims: Mapping[str, object], *, verified: bool, key: str = "email") -> tuple[ProviderEmail, ...]:
    return (ProviderEmail(pick_text(claims, key), verified),)


def _google(claims: Mapping[str, object]) -> Profile:
    name, picture = pick_text(claims, "name"), pick_text(claims, "picture")
    verified = as_boolean(claims.get("email_verified")) or as_boolean(claims.get("verified_email"))
    domain = pick_text(claims, "hd")
    return make_profile(
        claims.get("sub"),
        _email(claims, verified=verified),
        {"hd": domain} if domain else None,
        iss=claims.get("iss"),
        name=name,
        full_name=name,
        picture=picture,
        avatar_url=picture,
    )


def _facebook(claims: Mapping[str, object]) -> Profile:
    """Limited Login: its addresses are always confirmed ones."""
    return make_profile(
        claims.get("sub"),
        _email(claims, verified=True),
        iss=claims.get("iss"),
        name=pick_text(claims, "name"),
        picture=pick_text(claims, "picture"),
    )


def _apple(claims: Mapping[str, object]) -> Profile:
    custom: dict[str, object] = {}
    if "is_private_email" in claims:
        custom["is_private_email"] = as_boolean(claims["is_private_email"])
    custom |= {name: claims[name] for name in ("auth_time", "transfer_sub") if claims.get(name)}
    return make_profile(claims.get("sub"), _email(claims, verified=True), custom, iss=claims.get("iss"))


def _linkedin(claims: Mapping[str, object]) -> Profile:
    given, family = pick_text(claims, "given_name"), pick_text(claims, "family_name")
    return make_profile(
        claims.get("sub"),
        _email(claims, verified=as_boolean(claims.get("email_verified"))),
        iss=claims.get("iss"),
        name=full_name(given, family),
        given_name=given,
        family_name=family,
        locale=pick_text(claims, "locale"),
        picture=pick_text(claims, "picture"),
    )


def _kakao(claims: Mapping[str, object]) -> Profile:
    name = pick_text(claims, "nickname")
    return make_profile(
        claims.get("sub"),
        _email(claims, verified=True),
        iss=claims.get("iss"),
        name=name,
        preferred_username=name,
        picture=pick_text(claims, "picture"),
    )


def _vercel(claims: Mapping[str, object]) -> Profile:
    shared = pick_text(claims, "global_user_id")
    return make_profile(
        f"global_user_id:{shared}" if shared else claims.get("sub"),
        _email(claims, verified=True, key="user_email"),
        iss=claims.get("iss"),
        name=pick_text(claims, "user_name"),
        picture=pick_text(claims, "user_avatar_url"),
    )


def _snapchat(claims: Mapping[str, object]) -> Profile:
    plain = parse_claims(claims)
    emails = tuple(ProviderEmail(email.address, verified=True) for email in plain.emails)
    return Profile(plain.subject, emails, plain.claims)


def _azure(claims: Mapping[str, object]) -> Profile:
    """`xms_edov` says whether the tenant proved the address; an application that does not ask for it is a
    single-tenant one, whose addresses count as proven (Microsoft, "migrate off email claim authorization").
    """
    proven = claims.get("xms_edov")
    address = pick_text(claims, "email")
    custom = {name: value for name, value in claims.items() if name not in _AZURE_PROTOCOL_CLAIMS}
    return make_profile(
        claims.get("sub"),
        _email(claims, verified=bool(address) and (proven is None or as_boolean(proven))),
        custom,
        iss=claims.get("iss"),
        full_name=pick_text(claims, "name"),
        preferred_username=pick_text(claims, "preferred_username"),
    )


_READERS: Mapping[str, Callable[[Mapping[str, object]], Profile]] = MappingProxyType(
    {
        GOOGLE: _google,
        FACEBOOK: _facebook,
        KAKAO: _kakao,
        LINKEDIN: _linkedin,
        SNAPCHAT: _snapchat,
        VERCEL: _vercel,
        **dict.fromkeys(APPLE_ISSUERS, _apple),
    }
)
