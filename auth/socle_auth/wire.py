"""JSON in and out: request bodies as typed look-ups, rows as the objects that clients expect (contract §1, §3.0)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import parse_qsl

from socle_auth.errors import AuthError, ErrorCode
from socle_auth.store.rows import Factor, User, UserIdentity
from socle_platform.errors import WireResponse
from socle_platform.http import json_response

Json = dict[str, Any]

_DEEPEST = 200
_UUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.IGNORECASE)
_CANONICAL_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Body:
    """A JSON object as sent: unknown fields are ignored, one of the wrong type is `bad_json`, null counts as absent."""

    fields: Mapping[str, Any]

    def has(self, name: str) -> bool:
        return self.fields.get(name) is not None

    def text(self, name: str) -> str:
        """The text, or "" when absent."""
        return self.text_or_none(name) or ""

    def text_or_none(self, name: str) -> str | None:
        """The text, or None when absent: for fields where "" means something."""
        value = self.fields.get(name)
        if value is None:
            return None
        if not isinstance(value, str):
            raise _wrong_type(name, "a string")
        if "\x00" in value:
            raise AuthError(ErrorCode.VALIDATION_FAILED, f"{name} contains a character that cannot be stored")
        return value

    def boolean(self, name: str, *, default: bool = False) -> bool:
        value = self.fields.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise _wrong_type(name, "true or false")
        return value

    def boolean_or_none(self, name: str) -> bool | None:
        return self.boolean(name) if self.has(name) else None

    def object_or_none(self, name: str) -> Json | None:
        value = self.fields.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise _wrong_type(name, "an object")
        return cast("Json", value)

    def object(self, name: str) -> Json:
        """The object, or {} when absent."""
        return self.object_or_none(name) or {}

    def body(self, name: str) -> Body:
        """A nested object to be read the same way."""
        return Body(self.object(name))

    def texts_or_none(self, name: str) -> list[str] | None:
        value = self.fields.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(item, str) for item in cast("list[object]", value)):
            raise _wrong_type(name, "an array of strings")
        return cast("list[str]", value)


def as_object(value: object) -> Json | None:
    """A JSON object as such, None for anything else."""
    return cast("Json", value) if isinstance(value, dict) else None


def as_list(value: object) -> list[object] | None:
    """A JSON array as such, None for anything else."""
    return cast("list[object]", value) if isinstance(value, list) else None


def _wrong_type(name: str, wanted: str) -> AuthError:
    return AuthError(ErrorCode.BAD_JSON, f"Could not parse request body as JSON: {name} must be {wanted}")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def parse_body(raw: bytes) -> Body:
    """The request's JSON object, whatever its Content-Type says. Raises `bad_json`."""
    try:
        value = json.loads(raw, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        reason = str(error) or "it is nested too deeply"
        raise AuthError(ErrorCode.BAD_JSON, f"Could not parse request body as JSON: {reason}") from None
    if value is None:
        return Body({})
    if not isinstance(value, dict):
        raise AuthError(ErrorCode.BAD_JSON, "Could not parse request body as JSON: it must be an object")
    _check_storable(value)
    return Body(cast("Json", value))


def parse_optional_body(raw: bytes) -> Body:
    """Like parse_body, but nothing at all is an empty object."""
    return parse_body(raw) if raw.strip() else Body({})


def parse_form(raw: bytes) -> dict[str, str]:
    """An `application/x-www-form-urlencoded` body: the first value of each name. Raises `bad_json` when not text."""
    try:
        pairs = parse_qsl(raw.decode(), keep_blank_values=True, max_num_fields=200)
    except ValueError:
        raise AuthError(ErrorCode.BAD_JSON, "Could not parse request body as a form") from None
    form = dict[str, str]()
    for name, value in pairs:
        if "\x00" in value:
            raise AuthError(ErrorCode.VALIDATION_FAILED, f"{name} contains a character that cannot be stored")
        form.setdefault(name, value)
    return form


def _check_storable(value: Any) -> None:
    """Refuses early what PostgreSQL stores in no text or jsonb: U+0000, half surrogates, numbers beyond a float, and
    what is nested so deeply that nobody can print it any more."""
    pending: list[tuple[Any, int]] = [(value, 0)]
    while pending:
        item, depth = pending.pop()
        if depth > _DEEPEST:
            raise AuthError(ErrorCode.BAD_JSON, "Could not parse request body as JSON: it is nested too deeply")
        if isinstance(item, dict):
            pending += [(part, depth + 1) for pair in cast("Json", item).items() for part in pair]
        elif isinstance(item, list):
            pending += [(part, depth + 1) for part in cast("list[object]", item)]
        elif isinstance(item, str) and not _is_storable(item):
            raise AuthError(ErrorCode.VALIDATION_FAILED, "The request contains a character that cannot be stored")
        elif isinstance(item, float) and not math.isfinite(item):
            raise AuthError(ErrorCode.BAD_JSON, "Could not parse request body as JSON: a number is too large")


def _is_storable(text: str) -> bool:
    return "\x00" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def parse_uuid(text: str) -> str | None:
    """A UUID in its canonical form, or None when it is not one."""
    if _CANONICAL_UUID.fullmatch(text):
        return text
    if not _UUID.fullmatch(text):
        return None
    digits = text.replace("-", "").lower()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def reply(body: object, status: int = 200, headers: Sequence[tuple[str, str]] = ()) -> WireResponse:
    """A JSON answer."""
    return json_response(status, body, headers)


def reply_raw(body: bytes) -> WireResponse:
    """JSON that is text already."""
    return WireResponse(200, (("content-type", "application/json"),), body)


def no_content(headers: Sequence[tuple[str, str]] = ()) -> WireResponse:
    return WireResponse(204, tuple(headers))


def redirect(url: str, status: int = 303) -> WireResponse:
    """A redirect; the address is escaped so that no header can be smuggled in."""
    safe = "".join(character if 0x20 < ord(character) < 0x7F else _escape(character) for character in url)
    return WireResponse(status, (("location", safe),))


def _escape(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "replace"))


def render_time(moment: datetime) -> str:
    """RFC 3339 in UTC with fractional seconds and `Z`."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _times(value: User, names: Sequence[str]) -> Json:
    return {name: render_time(moment) for name in names if (moment := getattr(value, name)) is not None}


_OPTIONAL_USER_TIMES = (
    "email_confirmed_at",
    "phone_confirmed_at",
    "confirmed_at",
    "invited_at",
    "confirmation_sent_at",
    "recovery_sent_at",
    "email_change_sent_at",
    "phone_change_sent_at",
    "reauthentication_sent_at",
    "last_sign_in_at",
    "banned_until",
    "deleted_at",
)


def render_user(user: User) -> Json:
    """§3.0 User. `identities` is null when they were not loaded; no secret of the row is in it."""
    body: Json = {
        "id": user.id,
        "aud": user.aud,
        "role": user.role,
        "email": user.email,
        "phone": user.phone,
        **_times(user, _OPTIONAL_USER_TIMES),
    }
    if user.email_change:
        body["new_email"] = user.email_change
    if user.phone_change:
        body["new_phone"] = user.phone_change
    body["app_metadata"] = user.app_metadata
    body["user_metadata"] = user.user_metadata
    if user.factors:
        body["factors"] = [render_factor(factor) for factor in user.factors]
    body["identities"] = None if user.identities is None else [render_identity(item) for item in user.identities]
    body["created_at"] = render_time(user.created_at)
    body["updated_at"] = render_time(user.updated_at)
    body["is_anonymous"] = user.is_anonymous
    return body


def render_identity(identity: UserIdentity) -> Json:
    """§3.0 Identity: `id` is the provider's own id, `identity_id` the row's."""
    body: Json = {
        "identity_id": identity.id,
        "id": identity.provider_id,
        "user_id": identity.user_id,
        "identity_data": identity.identity_data,
        "provider": identity.provider,
    }
    for name in ("last_sign_in_at", "created_at", "updated_at"):
        if (moment := getattr(identity, name)) is not None:
            body[name] = render_time(moment)
    if identity.email:
        body["email"] = identity.email
    return body


def render_factor(factor: Factor) -> Json:
    """§3.0 Factor, without its secret and credential."""
    body: Json = {
        "id": factor.id,
        "created_at": render_time(factor.created_at),
        "updated_at": render_time(factor.updated_at),
        "status": factor.status,
        "factor_type": factor.factor_type,
        "phone": factor.phone,
        "last_challenged_at": None if factor.last_challenged_at is None else render_time(factor.last_challenged_at),
    }
    if factor.friendly_name:
        body["friendly_name"] = factor.friendly_name
    if factor.web_authn_aaguid:
        body["web_authn_aaguid"] = factor.web_authn_aaguid
    if factor.last_webauthn_challenge_data is not None:
        body["last_webauthn_challenge_data"] = factor.last_webauthn_challenge_data
    return body
