"""Rows of `auth.flow_state`: sign-ins that go through a browser (§4.1, §4.2)."""

from __future__ import annotations

from datetime import datetime

from socle_auth.store.rows import FlowState, load_flow_state
from socle_platform.db import Connection

_COLUMNS = (
    "id, user_id, auth_code, code_challenge_method, code_challenge, provider_type, provider_access_token, "
    "provider_refresh_token, created_at, updated_at, authentication_method, auth_code_issued_at, invite_token, "
    "referrer, oauth_client_state_id, linking_target_id, email_optional"
)


async def insert(connection: Connection, flow: FlowState) -> None:
    await connection.execute(
        f"""insert into auth.flow_state ({_COLUMNS})
        values ($1, $2, $3, $4::auth.code_challenge_method,
            $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)""",
        flow.id,
        flow.user_id,
        flow.auth_code,
        flow.code_challenge_method,
        flow.code_challenge,
        flow.provider_type,
        flow.provider_access_token or None,
        flow.provider_refresh_token or None,
        flow.created_at,
        flow.updated_at,
        flow.authentication_method,
        flow.auth_code_issued_at,
        flow.invite_token,
        flow.referrer,
        flow.oauth_client_state_id,
        flow.linking_target_id,
        flow.email_optional,
    )


async def find(connection: Connection, flow_id: str) -> FlowState | None:
    record = await connection.fetchrow(f"select {_COLUMNS} from auth.flow_state where id = $1", flow_id)
    return None if record is None else load_flow_state(record)


async def find_and_lock(connection: Connection, flow_id: str) -> FlowState | None:
    """The flow, held until the transaction ends; None also when somebody else holds it: one claimer wins."""
    record = await connection.fetchrow(
        f"select {_COLUMNS} from auth.flow_state where id = $1 for update skip locked", flow_id
    )
    return None if record is None else load_flow_state(record)


async def find_by_code(connection: Connection, auth_code: str) -> FlowState | None:
    """The flow that gave out this code."""
    record = await connection.fetchrow(
        f"select {_COLUMNS} from auth.flow_state where auth_code = $1 limit 1", auth_code
    )
    return None if record is None else load_flow_state(record)


async def latest_of_user(connection: Connection, user_id: str, method: str) -> FlowState | None:
    """The newest flow that a user began by this method."""
    record = await connection.fetchrow(
        f"""select {_COLUMNS} from auth.flow_state where user_id = $1 and authentication_method = $2
        order by created_at desc limit 1""",
        user_id,
        method,
    )
    return None if record is None else load_flow_state(record)


async def mark_code_issued(connection: Connection, flow_id: str, now: datetime) -> None:
    await connection.execute(
        "update auth.flow_state set auth_code_issued_at = $2, updated_at = $2 where id = $1", flow_id, now
    )


async def delete(connection: Connection, flow_id: str) -> bool:
    """True for the one who took it away."""
    return (await connection.execute("delete from auth.flow_state where id = $1", flow_id)).endswith(" 1")
