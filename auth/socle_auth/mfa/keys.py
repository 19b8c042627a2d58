"""Security keys as a second factor: their ceremonies, and the credential as upstream's rows hold it (§3.11)."""

from __future__ import annotations

import base64
import uuid
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from socle_auth import wire
from socle_auth.errors import AuthError, ErrorCode, invalid
from socle_auth.json_values import pick, pick_list, pick_text, text_of
from socle_auth.passkeys.ceremony import (
    CHALLENGE_BYTES,
    CeremonyFailed,
    Credential,
    PersonEntity,
    authentication_options,
    decode_base64url,
    encode_base64url,
    registration_options,
    relying_party,
    verify_assertion,
    verify_registration,
)
from socle_auth.store import factors as store

if TYPE_CHECKING:
    from socle_auth.context import AuthService
    from socle_auth.store.factors import Challenge
    from socle_auth.store.rows import Factor, User
    from socle_auth.wire import Body
    from socle_platform.db import Connection

CREATE = "create"
REQUEST = "request"


async def begin(
    service: AuthService, connection: Connection, user: User, factor: Factor, put: Challenge
) -> tuple[Challenge, dict[str, Any]]:
    """The challenge with what it must remember, and `webauthn` of the answer: `create` until the factor is proven."""
    party = relying_party(service.settings)
    challenge = service.random_bytes(CHALLENGE_BYTES)
    handle = user.id.encode()
    if factor.is_verified:
        kind, options = REQUEST, authentication_options(party, challenge, [load_credential(factor)])
    else:
        kind = CREATE
        known = [
            load_credential(other)
            for other in await store.of_user(connection, user.id)
            if other.is_verified and other.web_authn_credential
        ]
        name = user.email or user.phone
        options = registration_options(party, PersonEntity(handle, name, name), challenge, known, discoverable=False)
    expires = put.created_at + timedelta(seconds=service.settings.mfa.challenge_expiry)
    session = {
        "challenge": encode_base64url(challenge),
        "rpId": party.id,
        "user_id": base64.b64encode(handle).decode(),
        "expires": wire.render_time(expires),
        "userVerification": "preferred",
    }
    return replace(put, session=session), {"type": kind, "credential_options": {"publicKey": options}}


def read_answer(body: Body) -> tuple[str, dict[str, Any]]:
    """`webauthn` of a verify request: its type and the browser's answer. Raises `validation_failed`."""
    if not body.has("webauthn"):
        raise invalid("WebAuthn config required")
    given = body.body("webauthn")
    kind = given.text("type")
    if kind not in (CREATE, REQUEST):
        raise invalid("WebAuthn type must be create or request")
    if not given.has("credential_response"):
        raise invalid("credential_response required")
    return kind, given.object("credential_response")


async def finish(
    service: AuthService,
    connection: Connection,
    factor: Factor,
    put: Challenge,
    kind: str,
    answer: dict[str, Any],
) -> None:
    """Proves the answer and stores the credential or its counter. Raises 422 `mfa_verification_failed`."""
    party, now = relying_party(service.settings), service.now()
    try:
        challenge = decode_base64url(pick_text(put.session, "challenge"))
        if (kind == REQUEST) != factor.is_verified:
            raise CeremonyFailed
        if kind == CREATE:
            credential = verify_registration(party, answer, challenge)
        else:
            known = load_credential(factor)
            proven = verify_assertion(party, answer, challenge, known)
            credential = replace(known, sign_count=proven.sign_count, backed_up=proven.backed_up)
    except CeremonyFailed as error:
        raise AuthError(
            ErrorCode.MFA_VERIFICATION_FAILED, "Failed to validate WebAuthn MFA response", cause=error
        ) from error
    await store.set_credential(connection, factor.id, dump_credential(credential), credential.model, now)
    ceremony = {
        "challenge": {
            "challenge_id": put.id,
            "factor_id": factor.id,
            "created_at": wire.render_time(put.created_at),
            "ip_address": put.ip_address,
        },
        "type": kind,
        "credential_response": answer,
    }
    await store.set_last_ceremony(connection, factor.id, ceremony, now)


def dump_credential(credential: Credential) -> dict[str, Any]:
    """A credential as upstream's column holds it: go-webauthn's JSON, bytes in standard base64."""
    model = uuid.UUID(credential.model).bytes if credential.model else bytes(16)
    return {
        "id": base64.b64encode(credential.id).decode(),
        "publicKey": base64.b64encode(credential.public_key).decode(),
        "attestationType": credential.attestation,
        "transport": list(credential.transports),
        "flags": {
            "userPresent": True,
            "userVerified": credential.user_verified,
            "backupEligible": credential.backup_eligible,
            "backupState": credential.backed_up,
        },
        "authenticator": {
            "AAGUID": base64.b64encode(model).decode(),
            "signCount": credential.sign_count,
            "cloneWarning": False,
        },
    }


def load_credential(factor: Factor) -> Credential:
    """The credential of a proven factor. Raises CeremonyFailed when the row has none that can be read."""
    stored = factor.web_authn_credential
    count = pick(stored, "authenticator", "signCount")
    return Credential(
        id=decode_base64url(pick_text(stored, "id")),
        public_key=decode_base64url(pick_text(stored, "publicKey")),
        sign_count=count if isinstance(count, int) else 0,
        model=factor.web_authn_aaguid,
        transports=tuple(text_of(name) for name in pick_list(stored, "transport")),
        attestation=pick_text(stored, "attestationType"),
        user_verified=pick(stored, "flags", "userVerified") is True,
        backup_eligible=pick(stored, "flags", "backupEligible") is True,
        backed_up=pick(stored, "flags", "backupState") is True,
    )
