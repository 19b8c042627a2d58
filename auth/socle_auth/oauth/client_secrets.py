"""Client secrets of custom providers at rest: always sealed (§6.1 «ours MUST encrypt»).

With database encryption on, its key is used; without, one that follows from the shared secret, which no rotation of
signing keys touches (from the signing key where there is no secret). Values sealed under any key still known open.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING

from socle_auth import encryption

if TYPE_CHECKING:
    from socle_auth.context import AuthService
    from socle_platform.config.auth import EncryptionSettings
    from socle_platform.keys import Key

_PURPOSE = b"socle: client secrets of custom providers"


def seal_secret(service: AuthService, row_id: str, secret: str) -> str:
    """What to store for a provider's client secret."""
    return encryption.seal(_settings(service), row_id, secret, service.random_bytes)


def unseal_secret(service: AuthService, row_id: str, stored: str) -> str:
    """The client secret of a stored value, sealed or (from upstream) plain. Raises Undecipherable."""
    return encryption.unseal(_settings(service), row_id, stored)


def _settings(service: AuthService) -> EncryptionSettings:
    own = service.settings.security.encryption
    derived = dict(_derived(key) for key in service.resources.keyring.keys)
    known = {**derived, **own.decryption_keys}
    if own.encrypt:
        return replace(own, decryption_keys=known)
    keyring = service.resources.keyring
    lasting = next((key for key in keyring.keys if key.is_symmetric and key.kid is None), None)
    key_id, key = _derived(lasting or keyring.signing_key)
    return replace(own, encrypt=True, key_id=key_id, key=key, decryption_keys=known)


def _derived(key: Key) -> tuple[str, str]:
    """Name and text of the sealing key that follows from a key of ours."""
    material = json.dumps({name: key.jwk[name] for name in ("k", "d") if name in key.jwk}, sort_keys=True).encode()
    raw = hashlib.blake2b(material, key=_PURPOSE[:64], digest_size=32).digest()
    name = hashlib.blake2b(raw, digest_size=6).hexdigest()
    return f"keyring:{name}", base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
