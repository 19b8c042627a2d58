"""Hooks: the project's own functions that are asked at certain moments (contracts/auth.md §7.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from socle_auth import hook_requests, python_hooks, wire
from socle_auth.errors import AuthError, ErrorCode
from socle_auth.store import hook_functions

if TYPE_CHECKING:
    from socle_auth.context import AuthService, Call
    from socle_platform.config.auth import HookSettings
    from socle_platform.db import Connection

CUSTOM_ACCESS_TOKEN = "custom_access_token"
BEFORE_USER_CREATED = "before_user_created"
AFTER_USER_CREATED = "after_user_created"
SEND_EMAIL = "send_email"
SEND_SMS = "send_sms"
MFA_VERIFICATION_ATTEMPT = "mfa_verification_attempt"
PASSWORD_VERIFICATION_ATTEMPT = "password_verification_attempt"


def is_on(service: AuthService, name: str) -> bool:
    """Whether this hook is to be asked; cheap, so that nobody builds a payload for nothing."""
    return service.settings.hook(name).enabled or python_hooks.is_registered(name)


async def call(
    service: AuthService, connection: Connection | None, request: Call, name: str, payload: dict[str, Any]
) -> dict[str, Any] | None:
    """Asks the hook and gives its answer; None when the hook is off.

    `connection` is the transaction under way, if there is one: a database function runs inside it. Raises AuthError
    without a code for the hook's own rejection, `hook_*` codes and 500 for a hook that does not work.
    """
    if not is_on(service, name):
        return None
    metadata = {
        "uuid": service.new_id(),
        "time": wire.render_time(service.now()),
        "name": name.replace("_", "-"),
        "ip_address": request.client_ip,
    }
    event = {"metadata": metadata, **payload}
    hook = service.settings.hook(name)
    answer = await _ask(service, connection, hook, event) if hook.enabled else await python_hooks.ask(name, event)
    _raise_rejection(answer)
    return answer


async def _ask(
    service: AuthService, connection: Connection | None, hook: HookSettings, payload: dict[str, Any]
) -> dict[str, Any]:
    url = urlsplit(hook.uri)
    if url.scheme.lower() != "pg-functions":
        return await hook_requests.ask(service, hook, payload)
    _, schema, function = url.path.split("/")[:3]
    if connection is not None:
        answer = await hook_functions.call(connection, schema, function, payload)
    else:
        async with service.connect() as own:
            answer = await hook_functions.call(own, schema, function, payload)
    return wire.as_object(answer) or {}


def _raise_rejection(answer: dict[str, Any]) -> None:
    error = wire.as_object(answer.get("error"))
    if error is None or not error.get("message"):
        return
    status: object = error.get("http_code")
    raise AuthError(None, str(error["message"]), status if isinstance(status, int) and 400 <= status < 600 else 500)


def rejected_password(answer: dict[str, Any] | None) -> tuple[str, bool] | None:
    """The message and whether to sign the user out everywhere, when the password hook said no."""
    if answer is None or answer.get("decision") != "reject":
        return None
    message = answer.get("message") or "Further password verification attempts will be rejected."
    return str(message), answer.get("should_logout_user") is True


__all__ = [
    "AFTER_USER_CREATED",
    "BEFORE_USER_CREATED",
    "CUSTOM_ACCESS_TOKEN",
    "MFA_VERIFICATION_ATTEMPT",
    "PASSWORD_VERIFICATION_ATTEMPT",
    "SEND_EMAIL",
    "SEND_SMS",
    "ErrorCode",
    "call",
    "is_on",
    "rejected_password",
]
