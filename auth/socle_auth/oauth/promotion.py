"""Which of a user's identities gives the user its address (§3.10)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from socle_auth import registration
from socle_auth.json_values import as_boolean
from socle_auth.store import identities, linking, users
from socle_platform.errors import SocleError

if TYPE_CHECKING:
    from datetime import datetime

    from socle_auth.context import AuthService
    from socle_auth.store.rows import User, UserIdentity
    from socle_platform.db import Connection


class NoFreeAddress(SocleError):
    """Every address of the user's identities belongs to another user."""


async def promote_address(service: AuthService, connection: Connection, user: User) -> User:
    """Gives the user an address of its identities, unless one of them still carries the present one.

    Verified addresses first, then unverified ones, then none; the oldest identity of a rank. Codes sent to the former
    address die, and an address that nobody proved is not confirmed. Raises NoFreeAddress.
    """
    known = await identities.of_user(connection, user.id)
    if any(identity.email == user.email.lower() for identity in known):
        return user
    for identity in sorted(known, key=_rank):
        if not identity.email or not await linking.is_email_taken(connection, identity.email, user.aud, user.id):
            return await _take(service, connection, user, identity)
    raise NoFreeAddress


def _rank(identity: UserIdentity) -> tuple[int, datetime, str]:
    rank = (0 if is_proven(identity) else 1) if identity.email else 2
    assert identity.created_at is not None
    return rank, identity.created_at, identity.id


def is_proven(identity: UserIdentity) -> bool:
    """Whether the provider vouches for the identity's address."""
    return as_boolean(identity.identity_data.get("email_verified"))


async def _take(service: AuthService, connection: Connection, user: User, identity: UserIdentity) -> User:
    now = service.now()
    changes: dict[str, object] = {"email": identity.email, "email_change": "", "phone_change": ""}
    if not identity.email or not (is_proven(identity) or service.settings.mailer.autoconfirm):
        metadata = registration.merged(user.user_metadata, {"email_verified": False})
        changes |= {"email_confirmed_at": None, "raw_user_meta_data": metadata}
    return await users.forget_tokens(connection, user, now, **changes)
