"""Optional encryption of secrets in rows: AES-256-GCM under a key derived for that row (contracts/auth.md §5.4)."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from socle_auth.wire import as_object
from socle_platform.errors import SocleError

if TYPE_CHECKING:
    from collections.abc import Callable

    from socle_platform.config.auth import EncryptionSettings

_ALGORITHM = "aes-gcm-hkdf"


class Undecipherable(SocleError):
    """The stored value cannot be decrypted: its key is not among ours, or it belongs to another row."""


def _envelope(text: str) -> dict[str, Any] | None:
    if not text.startswith("{"):
        return None
    try:
        value = as_object(json.loads(text))
    except ValueError:
        return None
    if value is None or value.get("alg") != _ALGORITHM or not value.get("key_id") or not value.get("data"):
        return None
    return value


def _row_key(key: str, row_id: str) -> bytes:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    raw = base64.urlsafe_b64decode(key + "=" * (-len(key) % 4))
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=row_id.encode()).derive(raw)


def seal(settings: EncryptionSettings, row_id: str, text: str, random_bytes: Callable[[int], bytes]) -> str:
    """What to store: the text, or its envelope when encryption is on."""
    if not settings.encrypt or not text:
        return text
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = random_bytes(12)
    data = AESGCM(_row_key(settings.key, row_id)).encrypt(nonce, text.encode(), None)
    envelope = {
        "key_id": settings.key_id,
        "alg": _ALGORITHM,
        "data": base64.b64encode(data).decode(),
        "nonce": base64.b64encode(nonce).decode(),
    }
    return json.dumps(envelope, separators=(",", ":"))


def unseal(settings: EncryptionSettings, row_id: str, stored: str) -> str:
    """The text of a stored value, sealed or not. Raises Undecipherable."""
    envelope = _envelope(stored)
    if envelope is None:
        return stored
    key = settings.decryption_keys.get(str(envelope["key_id"]))
    if key is None:
        raise Undecipherable(f"decryption key {envelope['key_id']!r} does not exist")
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        nonce, data = base64.b64decode(envelope["nonce"]), base64.b64decode(envelope["data"])
        return AESGCM(_row_key(key, row_id)).decrypt(nonce, data, None).decode()
    except (InvalidTag, ValueError, KeyError, TypeError) as error:
        raise Undecipherable from error


def is_stale(settings: EncryptionSettings, stored: str) -> bool:
    """Whether to seal the value again at its next use: encryption is on, and it is plain or under an old key."""
    if not settings.encrypt:
        return False
    envelope = _envelope(stored)
    return envelope is None or envelope["key_id"] != settings.key_id
