"""Scopes and what each of them tells about a user (OpenID Connect Core §5.4; pure)."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from socle_auth.store.rows import User

OPENID = "openid"
PROFILE = "profile"
EMAIL = "email"
PHONE = "phone"
OFFLINE_ACCESS = "offline_access"
SUPPORTED = (OPENID, PROFILE, EMAIL, PHONE, OFFLINE_ACCESS)


def profile_claims(user: User) -> dict[str, Any]:
    """Who the person says to be."""
    data = user.user_metadata
    claims = {
        "name": _text(data.get("name")) or user.email,
        "picture": _text(data.get("picture")) or _text(data.get("avatar_url")),
        "preferred_username": _text(data.get("preferred_username")) or _text(data.get("username")),
    }
    return {**{name: value for name, value in claims.items() if value}, "updated_at": int(user.updated_at.timestamp())}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def userinfo(user: User, scopes: Collection[str]) -> dict[str, Any]:
    """What the userinfo endpoint tells under these scopes."""
    claims: dict[str, Any] = {"sub": user.id}
    if EMAIL in scopes:
        claims |= {"email": user.email} if user.email else {}
        claims |= {"email_verified": True} if user.is_email_confirmed else {}
    if PROFILE in scopes:
        claims |= profile_claims(user) | {"user_metadata": user.user_metadata}
    if PHONE in scopes:
        claims |= {"phone": user.phone} if user.phone else {}
        claims |= {"phone_verified": True} if user.is_phone_confirmed else {}
    return claims


def id_token_claims(user: User, scopes: Collection[str]) -> dict[str, Any]:
    """What an ID token tells about the user under these scopes."""
    claims: dict[str, Any] = {}
    if EMAIL in scopes and user.email:
        claims |= {"email": user.email, "email_verified": user.is_email_confirmed}
    if PHONE in scopes and user.phone:
        claims |= {"phone_number": user.phone, "phone_number_verified": user.is_phone_confirmed}
    if PROFILE in scopes:
        claims |= profile_claims(user)
    return claims
