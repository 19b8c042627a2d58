"""The audit log: who did what (contracts/auth.md §6.1, «audit payload»)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from socle_auth.store import audit as store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from socle_auth.context import AuthService, Call
    from socle_auth.store.rows import User
    from socle_platform.db import Connection

_LOG_TYPES = {
    "account": "login logout invite_accepted user_repeated_signup user_updated_password",
    "team": "user_signedup user_invited user_deleted user_recovery_requested user_confirmation_requested",
    "user": "user_modified user_reauthenticate_requested identity_linked identity_unlinked "
    "passkey_created passkey_updated passkey_deleted",
    "token": "token_revoked token_refreshed",
    "factor": "factor_in_progress factor_unenrolled challenge_created verification_attempted factor_deleted "
    "factor_updated",
}
LOG_TYPE_OF = {action: kind for kind, actions in _LOG_TYPES.items() for action in actions.split()}


async def record(
    service: AuthService,
    connection: Connection,
    call: Call,
    action: str,
    actor: User | None,
    traits: dict[str, Any] | None = None,
) -> None:
    """Writes one entry, in the transaction of what it tells about. `actor` None is the administrator who calls."""
    if service.settings.audit_in_database:
        entry = (service.new_id(), _payload(call, action, actor, traits))
        await store.insert(connection, [entry], call.client_ip, service.now())


async def record_all(
    service: AuthService, connection: Connection, call: Call, actions: Sequence[str], actor: User
) -> None:
    """Several entries about one user at once."""
    if service.settings.audit_in_database:
        entries = [(service.new_id(), _payload(call, action, actor, None)) for action in actions]
        await store.insert(connection, entries, call.client_ip, service.now())


def _payload(call: Call, action: str, actor: User | None, traits: dict[str, Any] | None) -> dict[str, Any]:
    payload: dict[str, Any] = {"action": action, "log_type": LOG_TYPE_OF[action]}
    if actor is None:
        role = call.caller.role if call.caller else ""
        payload |= {"actor_id": "00000000-0000-0000-0000-000000000000", "actor_username": role, "actor_via_sso": False}
    else:
        payload |= {
            "actor_id": actor.id,
            "actor_username": actor.email or actor.phone,
            "actor_via_sso": actor.is_sso_user,
        }
        if isinstance(name := actor.user_metadata.get("full_name"), str) and name:
            payload["actor_name"] = name
    if traits:
        payload["traits"] = traits
    return payload
