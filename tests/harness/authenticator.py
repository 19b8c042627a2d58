"""A WebAuthn authenticator in software: real P-256 keys, real CBOR, answers as a browser hands them on."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import struct
from dataclasses import dataclass, field
from typing import Any

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

PRESENT, VERIFIED, BACKUP_ELIGIBLE, BACKED_UP, ATTESTED = 0x01, 0x04, 0x08, 0x10, 0x40


@dataclass
class Stored:
    id: bytes
    key: ec.EllipticCurvePrivateKey
    rp_id: str
    handle: bytes
    count: int = 0


@dataclass
class Authenticator:
    """Makes and uses credentials for pages of one origin. `counts` makes a signature counter as hardware has it."""

    origin: str
    model: bytes = bytes(16)
    flags: int = PRESENT | VERIFIED | BACKUP_ELIGIBLE | BACKED_UP
    counts: bool = False
    credentials: list[Stored] = field(default_factory=list["Stored"])

    def create(self, options: dict[str, Any], **changes: Any) -> dict[str, Any]:
        """`navigator.credentials.create` with these options; `changes` replace client data members."""
        stored = Stored(
            secrets.token_bytes(32),
            ec.generate_private_key(ec.SECP256R1()),
            options["rp"]["id"],
            unb64(options["user"]["id"]),
        )
        self.credentials.append(stored)
        point = stored.key.public_key().public_numbers()
        key = {1: 2, 3: -7, -1: 1, -2: point.x.to_bytes(32, "big"), -3: point.y.to_bytes(32, "big")}
        attested = self.model + struct.pack(">H", len(stored.id)) + stored.id + cbor2.dumps(key)
        data = self._data(stored, self.flags | ATTESTED) + attested
        client = self._client("webauthn.create", options["challenge"], changes)
        attestation = cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": data})
        response = {
            "clientDataJSON": b64(client),
            "attestationObject": b64(attestation),
            "transports": ["internal", "hybrid"],
        }
        return self._answer(stored, response)

    def get(self, options: dict[str, Any], **changes: Any) -> dict[str, Any]:
        """`navigator.credentials.get` with these options, by the newest credential that fits."""
        allowed = {entry["id"] for entry in options.get("allowCredentials", [])}
        stored = next(one for one in reversed(self.credentials) if not allowed or b64(one.id) in allowed)
        stored.count += 1
        data = self._data(stored, self.flags)
        client = self._client("webauthn.get", options["challenge"], changes)
        signature = stored.key.sign(data + hashlib.sha256(client).digest(), ec.ECDSA(hashes.SHA256()))
        response = {
            "clientDataJSON": b64(client),
            "authenticatorData": b64(data),
            "signature": b64(signature),
            "userHandle": b64(stored.handle),
        }
        return self._answer(stored, response)

    def _data(self, stored: Stored, flags: int) -> bytes:
        count = stored.count if self.counts else 0
        return hashlib.sha256(stored.rp_id.encode()).digest() + struct.pack(">BI", flags, count)

    def _client(self, kind: str, challenge: str, changes: dict[str, Any]) -> bytes:
        members = {"type": kind, "challenge": challenge, "origin": self.origin, "crossOrigin": False, **changes}
        return json.dumps(members).encode()

    def _answer(self, stored: Stored, response: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": b64(stored.id),
            "rawId": b64(stored.id),
            "type": "public-key",
            "authenticatorAttachment": "platform",
            "clientExtensionResults": {},
            "response": response,
        }


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
