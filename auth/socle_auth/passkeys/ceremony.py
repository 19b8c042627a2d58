"""WebAuthn ceremonies as functions of values: options for the browser, proof of its answers (W3C WebAuthn Level 3).

The only module that knows py_webauthn; passkeys and the webauthn second factor both stand on it.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from socle_auth.json_values import pick, pick_list, text_of
from socle_platform.errors import SocleError

if TYPE_CHECKING:
    from socle_platform.config.auth import AuthSettings

CHALLENGE_BYTES = 32
_BROWSER_TIMEOUT = 300_000
_NO_MODEL = "00000000-0000-0000-0000-000000000000"


class CeremonyFailed(SocleError):
    """The authenticator's answer proves nothing."""


@dataclass(frozen=True, slots=True)
class RelyingParty:
    """Us, as authenticators know us: the domain credentials are bound to, our name, and where our pages live."""

    id: str
    name: str
    origins: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Credential:
    """A public-key credential as stored. `model` is the authenticator's AAGUID, None when it does not tell."""

    id: bytes
    public_key: bytes
    sign_count: int = 0
    model: str | None = None
    transports: tuple[str, ...] = ()
    attestation: str = "none"
    user_verified: bool = False
    backup_eligible: bool = False
    backed_up: bool = False


@dataclass(frozen=True, slots=True)
class Assertion:
    """A proven sign-in with a credential."""

    sign_count: int
    user_verified: bool
    backed_up: bool


@dataclass(frozen=True, slots=True)
class PersonEntity:
    """Whom a new credential is for: the handle it carries, and what the browser shows."""

    handle: bytes = field(repr=False)
    name: str
    display_name: str


def relying_party(settings: AuthSettings) -> RelyingParty:
    """Ours, by the settings; what is not set follows from the site's address."""
    site = urlsplit(settings.site_url)
    host = site.hostname or "localhost"
    configured = settings.webauthn
    return RelyingParty(
        id=configured.rp_id or host,
        name=configured.rp_display_name or configured.rp_id or host,
        origins=configured.rp_origins or (f"{site.scheme}://{site.netloc}",),
    )


def registration_options(
    party: RelyingParty, person: PersonEntity, challenge: bytes, exclude: Sequence[Credential], *, discoverable: bool
) -> dict[str, Any]:
    """`PublicKeyCredentialCreationOptions` as JSON. `discoverable` demands a credential that needs no user name."""
    import webauthn
    from webauthn.helpers.structs import (
        AttestationConveyancePreference,
        AuthenticatorSelectionCriteria,
        ResidentKeyRequirement,
        UserVerificationRequirement,
    )

    options = webauthn.generate_registration_options(
        rp_id=party.id,
        rp_name=party.name,
        user_id=person.handle,
        user_name=person.name or "user",
        user_display_name=person.display_name or person.name or "user",
        challenge=challenge,
        timeout=_BROWSER_TIMEOUT,
        attestation=AttestationConveyancePreference.NONE,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED if discoverable else ResidentKeyRequirement.DISCOURAGED,
            require_resident_key=discoverable,
            user_verification=UserVerificationRequirement.PREFERRED,
        ),
        exclude_credentials=_descriptors(exclude),
    )
    return _as_json(webauthn.options_to_json(options))


def authentication_options(party: RelyingParty, challenge: bytes, allow: Sequence[Credential]) -> dict[str, Any]:
    """`PublicKeyCredentialRequestOptions` as JSON; an empty `allow` means any discoverable credential."""
    import webauthn
    from webauthn.helpers.structs import UserVerificationRequirement

    options = webauthn.generate_authentication_options(
        rp_id=party.id,
        challenge=challenge,
        timeout=_BROWSER_TIMEOUT,
        allow_credentials=_descriptors(allow),
        user_verification=UserVerificationRequirement.PREFERRED,
    )
    return _as_json(webauthn.options_to_json(options))


def _as_json(text: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(text)
    return {name: member for name, member in value.items() if member not in (None, [])}


def _descriptors(credentials: Sequence[Credential]) -> list[Any]:
    from webauthn.helpers.structs import AuthenticatorTransport, PublicKeyCredentialDescriptor

    known = {transport.value for transport in AuthenticatorTransport}
    return [
        PublicKeyCredentialDescriptor(
            id=credential.id,
            transports=[AuthenticatorTransport(name) for name in credential.transports if name in known] or None,
        )
        for credential in credentials
    ]


def verify_registration(party: RelyingParty, answer: Mapping[str, Any], challenge: bytes) -> Credential:
    """The credential that an answer to registration options proves. Raises CeremonyFailed."""
    import webauthn
    from webauthn.helpers.structs import AttestationFormat

    try:
        proven = webauthn.verify_registration_response(
            credential=dict(answer),
            expected_challenge=challenge,
            expected_rp_id=party.id,
            expected_origin=list(party.origins),
        )
    except Exception as error:
        raise CeremonyFailed from error
    return Credential(
        id=proven.credential_id,
        public_key=proven.credential_public_key,
        sign_count=proven.sign_count,
        model=proven.aaguid if proven.aaguid != _NO_MODEL else None,
        transports=tuple(text_of(name) for name in pick_list(answer, "response", "transports"))[:8],
        attestation=AttestationFormat(proven.fmt).value,
        user_verified=proven.user_verified,
        backup_eligible=proven.credential_device_type.value == "multi_device",
        backed_up=proven.credential_backed_up,
    )


def verify_assertion(
    party: RelyingParty, answer: Mapping[str, Any], challenge: bytes, credential: Credential
) -> Assertion:
    """Proof that the credential's owner answered. A counter that does not grow marks a copy. Raises CeremonyFailed."""
    import webauthn

    try:
        proven = webauthn.verify_authentication_response(
            credential=dict(answer),
            expected_challenge=challenge,
            expected_rp_id=party.id,
            expected_origin=list(party.origins),
            credential_public_key=credential.public_key,
            credential_current_sign_count=credential.sign_count,
        )
    except Exception as error:
        raise CeremonyFailed from error
    if proven.credential_id != credential.id:
        raise CeremonyFailed
    return Assertion(proven.new_sign_count, proven.user_verified, proven.credential_backed_up)


def credential_id_of(answer: Mapping[str, Any]) -> bytes:
    """The credential an answer names, unproven. Raises CeremonyFailed."""
    return decode_base64url(answer.get("id"))


def user_handle_of(answer: Mapping[str, Any]) -> str:
    """The user an answer names, unproven (our handles are user ids as text). Raises CeremonyFailed."""
    try:
        return decode_base64url(pick(answer, "response", "userHandle")).decode("ascii")
    except UnicodeDecodeError:
        raise CeremonyFailed from None


def decode_base64url(text: object) -> bytes:
    """Bytes of base64url with or without padding. Raises CeremonyFailed."""
    if not isinstance(text, str) or not text:
        raise CeremonyFailed
    try:
        plain = text.rstrip("=").replace("-", "+").replace("_", "/")
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (ValueError, binascii.Error):
        raise CeremonyFailed from None


def encode_base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
