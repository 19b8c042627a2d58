"""Registering a passkey for the signed-in user (§3.12)."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from socle_auth import audit, wire
from socle_auth.errors import AuthError, ErrorCode, invalid
from socle_auth.json_values import pick_text
from socle_auth.passkeys.ceremony import (
    CHALLENGE_BYTES,
    CeremonyFailed,
    PersonEntity,
    decode_base64url,
    encode_base64url,
    registration_options,
    relying_party,
    verify_registration,
)
from socle_auth.passkeys.names import name_of_model
from socle_auth.store import passkeys as store
from socle_platform.db import DatabaseError

if TYPE_CHECKING:
    from socle_auth.context import AuthService, Call
    from socle_auth.store.passkeys import PasskeyChallenge
    from socle_auth.store.rows import User
    from socle_auth.wire import Body
    from socle_platform.config.auth import AuthSettings
    from socle_platform.db import Connection
    from socle_platform.errors import WireResponse


def ensure_passkeys_on(settings: AuthSettings) -> None:
    """Raises 404 `passkey_disabled`."""
    if not settings.passkey.enabled:
        raise AuthError(ErrorCode.PASSKEY_DISABLED, "Passkeys are disabled")


def require_management_level(call: Call) -> None:
    """Whoever has a second factor shows it before changing what signs in. Raises 403 `insufficient_aal`."""
    user, session = call.require_user(), call.require_caller().session
    if user.has_verified_factor and (session is None or session.aal == "aal1"):
        message = "AAL2 session is required to manage passkeys when MFA is enabled"
        raise AuthError(ErrorCode.INSUFFICIENT_AAL, message, 403)


def _ensure_may_register(call: Call) -> User:
    user = call.require_user()
    if user.is_sso_user:
        raise invalid("SSO users cannot register passkeys", 422)
    require_management_level(call)
    return user


def _person(user: User) -> PersonEntity:
    name = user.email or user.phone
    shown = user.user_metadata.get("name")
    return PersonEntity(user.id.encode(), name, shown if isinstance(shown, str) and shown else name)


async def _ensure_room(service: AuthService, connection: Connection, user: User) -> list[store.Passkey]:
    known = await store.of_user(connection, user.id)
    if len(known) >= service.settings.passkey.max_per_user:
        raise AuthError(ErrorCode.TOO_MANY_PASSKEYS, "Maximum number of passkeys reached")
    return known


async def begin(service: AuthService, call: Call) -> WireResponse:
    """POST /passkeys/registration/options."""
    user = _ensure_may_register(call)
    async with service.connect() as connection:
        known = await _ensure_room(service, connection, user)
        challenge = service.random_bytes(CHALLENGE_BYTES)
        party = relying_party(service.settings)
        options = registration_options(
            party, _person(user), challenge, [passkey.credential for passkey in known], discoverable=True
        )
        answer = await put_challenge(service, connection, user.id, store.REGISTRATION, challenge)
    return wire.reply(answer | {"options": options})


async def put_challenge(
    service: AuthService, connection: Connection, user_id: str | None, kind: str, challenge: bytes
) -> dict[str, Any]:
    """Remembers a challenge; gives `challenge_id` and `expires_at` of the answer."""
    now = service.now()
    expires = now + timedelta(seconds=service.settings.webauthn.challenge_expiry)
    challenge_id = service.new_id()
    session = {
        "challenge": encode_base64url(challenge),
        "rpId": relying_party(service.settings).id,
        "userVerification": "preferred",
    }
    await store.insert_challenge(connection, challenge_id, user_id, kind, session, now, expires)
    return {"challenge_id": challenge_id, "expires_at": int(expires.timestamp())}


def read_answer(body: Body) -> tuple[str, dict[str, Any]]:
    """`challenge_id` and `credential` of a verify request. Raises `validation_failed`."""
    text = body.text("challenge_id")
    if not text:
        raise invalid("challenge_id is required")
    if not body.has("credential"):
        raise invalid("credential is required")
    challenge_id = wire.parse_uuid(text)
    if challenge_id is None:
        raise invalid("challenge_id must be a valid UUID")
    return challenge_id, body.object("credential")


async def take_challenge(service: AuthService, challenge_id: str, kind: str, user_id: str | None) -> bytes:
    """The challenge, consumed for good before anything is proven. Raises 400."""
    async with service.connect() as connection:
        taken: PasskeyChallenge | None = await store.consume_challenge(connection, challenge_id, kind, user_id)
    if taken is None:
        raise AuthError(ErrorCode.WEBAUTHN_CHALLENGE_NOT_FOUND, "Challenge not found or already used")
    if service.now() > taken.expires_at:
        raise AuthError(ErrorCode.WEBAUTHN_CHALLENGE_EXPIRED, "Challenge has expired")
    try:
        return decode_base64url(pick_text(taken.session, "challenge"))
    except CeremonyFailed as error:
        raise verification_failed(error) from error


def verification_failed(error: CeremonyFailed) -> AuthError:
    return AuthError(ErrorCode.WEBAUTHN_VERIFICATION_FAILED, "Credential verification failed", cause=error)


async def finish(service: AuthService, call: Call) -> WireResponse:
    """POST /passkeys/registration/verify."""
    user = _ensure_may_register(call)
    challenge_id, answer = read_answer(call.body())
    challenge = await take_challenge(service, challenge_id, store.REGISTRATION, user.id)
    try:
        credential = verify_registration(relying_party(service.settings), answer, challenge)
    except CeremonyFailed as error:
        raise verification_failed(error) from error
    async with service.connect() as connection:
        await _ensure_room(service, connection, user)
        try:
            async with connection.transaction():
                name, passkey_id = name_of_model(credential.model), service.new_id()
                kept = await store.insert(connection, passkey_id, user.id, credential, name, service.now())
        except DatabaseError as error:
            if error.sqlstate != "23505":
                raise
            message = "This credential is already registered"
            raise AuthError(ErrorCode.WEBAUTHN_CREDENTIAL_EXISTS, message, cause=error) from error
        await audit.record(service, connection, call, "passkey_created", user, {"passkey_id": kept.id})
    answered: dict[str, Any] = {"id": kept.id, "created_at": wire.render_time(kept.created_at)}
    if kept.friendly_name:
        answered["friendly_name"] = kept.friendly_name
    return wire.reply(answered)
