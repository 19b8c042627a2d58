"""Access tokens: what they claim and how they are minted; refresh tokens of the second form (contracts/auth.md §5)."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from socle_auth import hooks
from socle_auth.errors import AuthError
from socle_auth.wire import as_list, as_object

if TYPE_CHECKING:
    from socle_auth.context import AuthService, Call
    from socle_auth.store.rows import Session, User
    from socle_platform.db import Connection

_AAL2_METHODS = frozenset({"totp", "mfa/phone", "mfa/webauthn", "mfa/recovery_code"})
_SIGNATURE = 16
_CHECKSUM = 4
_MOST_COUNTER = 2**63 - 1


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A signed token and its `exp` in unix seconds."""

    text: str
    expires_at: int


def assurance_of(session: Session) -> str:
    """`aal2` when a second factor is among the session's proofs."""
    return "aal2" if any(claim.method in _AAL2_METHODS for claim in session.amr) else "aal1"


def render_amr(session: Session, user: User) -> list[dict[str, Any]]:
    """The proofs, newest first; a single sign-on names its provider."""
    entries = list[dict[str, Any]]()
    for claim in sorted(session.amr, key=lambda claim: claim.updated_at, reverse=True):
        entry: dict[str, Any] = {"method": claim.method, "timestamp": int(claim.updated_at.timestamp())}
        if claim.method == "sso/saml" and user.identities and len(user.identities) == 1:
            provider = user.identities[0].provider
            if provider.startswith("sso:"):
                entry["provider"] = provider.removeprefix("sso:")
        entries.append(entry)
    return entries


async def mint(
    service: AuthService, connection: Connection, call: Call, user: User, session: Session, method: str
) -> AccessToken:
    """A token for the session (with its proofs loaded); `method` is told to the hook. Raises what the hook raises."""
    now = service.now()
    expires = now + timedelta(seconds=service.settings.jwt.expiry)
    aal = assurance_of(session)
    low_limit = service.settings.sessions.allow_low_aal
    if low_limit is not None and aal == "aal1" and user.has_verified_factor:
        expires = min(expires, session.created_at + timedelta(seconds=low_limit))
    claims: dict[str, Any] = {
        **({"iss": service.settings.jwt.issuer} if service.settings.jwt.issuer else {}),
        "sub": user.id,
        "aud": user.aud,
        "exp": int(expires.timestamp()),
        "iat": int(now.timestamp()),
        "email": user.email,
        "phone": user.phone,
        "app_metadata": user.app_metadata,
        "user_metadata": user.user_metadata,
        "role": user.role,
        "aal": aal,
        "amr": render_amr(session, user),
        "session_id": session.id,
        "is_anonymous": user.is_anonymous,
        **({"client_id": session.oauth_client_id} if session.oauth_client_id else {}),
        **({"scope": session.scopes} if session.scopes else {}),
    }
    if hooks.is_on(service, hooks.CUSTOM_ACCESS_TOKEN):
        payload = {"user_id": user.id, "claims": claims, "authentication_method": method}
        answer = await hooks.call(service, connection, call, hooks.CUSTOM_ACCESS_TOKEN, payload)
        claims = check_claims((answer or {}).get("claims"))
    return AccessToken(service.resources.keyring.sign(claims), int(expires.timestamp()))


_REQUIRED: Mapping[str, tuple[type, ...]] = {
    "aud": (str, list),
    "exp": (int,),
    "iat": (int,),
    "sub": (str,),
    "email": (str,),
    "phone": (str,),
    "role": (str,),
    "aal": (str,),
    "session_id": (str,),
    "is_anonymous": (bool, int, float, str, list, dict, type(None)),
}
_TYPED: Mapping[str, tuple[type, ...]] = {
    "jti": (str,),
    "iss": (str,),
    "nbf": (int,),
    "app_metadata": (dict,),
    "user_metadata": (dict,),
    "amr": (list,),
    "client_id": (str,),
}
_TYPE_NAMES = {str: "string", list: "array", int: "integer", dict: "object", bool: "boolean"}


def check_claims(answer: object) -> dict[str, Any]:
    """The claims of the custom-access-token hook, complete and of the right types; else 500 with the list of faults."""
    claims = as_object(answer)
    if claims is None:
        raise AuthError(None, "output claims field is missing", 500)
    faults = [f"- (root): {name} is required" for name in _REQUIRED if name not in claims]
    for name, types in {**_REQUIRED, **_TYPED}.items():
        value: object = claims.get(name)
        if name in claims and name != "is_anonymous" and (isinstance(value, bool) or not isinstance(value, types)):
            faults.append(f"- {name}: Invalid type. Expected: {'/'.join(_TYPE_NAMES[kind] for kind in types)}")
    if not all(isinstance(item, str | dict) for item in as_list(claims.get("amr")) or ()):
        faults.append("- amr: Must validate at least one schema (anyOf)")
    if faults:
        text = "\n".join(faults)
        raise AuthError(None, f"output claims do not conform to the expected schema: \n{text}\n", 500)
    return claims


@dataclass(frozen=True, slots=True)
class CountedToken:
    """A refresh token of the second form, taken apart but not yet proven: its session and where it stood."""

    session_id: str
    counter: int
    signed: bytes
    signature: bytes

    def is_signed_by(self, key: bytes) -> bool:
        return hmac.compare_digest(_sign(self.signed, key), self.signature)


def _sign(content: bytes, key: bytes) -> bytes:
    return hmac.digest(key, content, "sha256")[:_SIGNATURE]


def encode_counted_token(session_id: str, counter: int, key: bytes) -> str:
    """base64url of `0x00 ‖ session uuid ‖ uvarint counter ‖ HMAC-SHA256[:16] ‖ sha256[:4]` (§5.3)."""
    content = b"\x00" + bytes.fromhex(session_id.replace("-", "")) + _uvarint(counter)
    content += _sign(content, key)
    return base64.urlsafe_b64encode(content + hashlib.sha256(content).digest()[:_CHECKSUM]).rstrip(b"=").decode()


def parse_counted_token(text: str) -> CountedToken | None:
    """Takes a refresh token of the second form apart; None when its form or checksum is wrong."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return None
    content, checksum = raw[:-_CHECKSUM], raw[-_CHECKSUM:]
    if len(raw) < 1 + 16 + 1 + _SIGNATURE + _CHECKSUM or raw[0] != 0:
        return None
    if not hmac.compare_digest(hashlib.sha256(content).digest()[:_CHECKSUM], checksum):
        return None
    signed, signature = content[:-_SIGNATURE], content[-_SIGNATURE:]
    counter = _parse_uvarint(signed[17:])
    if counter is None:
        return None
    digits = signed[1:17].hex()
    session_id = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
    return CountedToken(session_id, counter, signed, signature)


def _uvarint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _parse_uvarint(raw: bytes) -> int | None:
    """The number that fills `raw` exactly, or None."""
    number = 0
    for place, byte in enumerate(raw):
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return min(number, _MOST_COUNTER) if place == len(raw) - 1 else None
    return None
