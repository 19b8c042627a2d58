"""Hooks that are asked over HTTP, signed as Standard Webhooks has it (contracts/auth.md §7.5, standardwebhooks.com)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from socle_auth import wire
from socle_auth.errors import AuthError, ErrorCode, failure
from socle_platform.outgoing import OutgoingError, OutgoingFailed, OutgoingRefused

if TYPE_CHECKING:
    from socle_auth.context import AuthService
    from socle_platform.config.auth import HookSettings
    from socle_platform.ports import HttpAnswer

SECONDS = 5.0
"""For all tries together."""

PAUSE = 2.0
"""Seconds after a connection that failed."""

TRIES = 3
MAXIMUM_ANSWER = 200 * 1024


def sign(secret: str, message_id: str, moment: int, body: bytes) -> str:
    """One signature, `v1,<base64>`, of a secret `v1,whsec_<base64>`. Raises ValueError for another kind of secret."""
    if not secret.startswith("v1,"):
        raise ValueError("only v1 secrets can sign")
    key = base64.b64decode(secret.removeprefix("v1,").removeprefix("whsec_"), validate=True)
    signed = f"{message_id}.{moment}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


async def ask(service: AuthService, hook: HookSettings, payload: dict[str, Any]) -> dict[str, Any]:
    """The hook's answer, {} for none. Raises AuthError: `hook_timeout`, `hook_timeout_after_retry`,
    `hook_payload_invalid_content_type`, `hook_payload_over_size_limit`, or 500."""
    body = json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode()
    try:
        async with asyncio.timeout(SECONDS):
            return _read(await _try(service, hook, body))
    except TimeoutError as error:
        raise _too_slow(error) from error


def _too_slow(cause: BaseException) -> AuthError:
    message = f"Failed to reach hook within maximum time of {SECONDS:f} seconds"
    return AuthError(ErrorCode.HOOK_TIMEOUT, message, cause=cause)


async def _try(service: AuthService, hook: HookSettings, body: bytes) -> HttpAnswer:
    """The first answer that is one: a failed connection and a promised return are tried again."""
    http = service.resources.http
    if http is None:
        raise failure("Hook transport is not available")
    for number in range(TRIES):
        try:
            headers = _headers(service, hook.secrets, body)
        except ValueError as error:
            raise failure(f"Error generating signatures: {error}", error) from error
        try:
            answer = await http.request("POST", hook.uri, headers=headers, body=body, timeout=SECONDS)
        except OutgoingRefused as error:
            raise failure("Hook failed to make request object", error) from error
        except OutgoingFailed as error:
            if error.timed_out:
                raise _too_slow(error) from error
            service.note("warning", f"hook {hook.uri}: try {number + 1} failed: {error}")
            if number == TRIES - 1:
                message = "Failed to reach hook after maximum retries"
                raise AuthError(ErrorCode.HOOK_TIMEOUT_AFTER_RETRY, message, cause=error) from error
            await asyncio.sleep(PAUSE)
            continue
        except OutgoingError as error:
            raise failure("Error invoking hook", error) from error
        if answer.status not in (429, 503) or not answer.headers.get("retry-after"):
            return answer
    raise failure("Service currently unavailable due to hook")


def _headers(service: AuthService, secrets: Sequence[str], body: bytes) -> dict[str, str]:
    message_id, moment = service.new_id(), int(service.now().timestamp())
    return {
        "content-type": "application/json",
        "accept-encoding": "identity",
        "webhook-id": message_id,
        "webhook-timestamp": str(moment),
        "webhook-signature": ", ".join(sign(secret, message_id, moment, body) for secret in secrets),
    }


_FAULTS = {
    400: "Invalid payload sent to hook",
    401: "Hook requires authorization token",
    429: "Service currently unavailable due to hook",
    503: "Service currently unavailable due to hook",
}


def _read(answer: HttpAnswer) -> dict[str, Any]:
    if answer.status == 204:
        return {}
    if answer.status not in (200, 202):
        raise failure(_FAULTS.get(answer.status, f"Unexpected status code returned from hook: {answer.status}"))
    kind = answer.headers.get("content-type", "")
    if not kind:
        message = "Invalid Content-Type: Missing Content-Type header"
        raise AuthError(ErrorCode.HOOK_PAYLOAD_INVALID_CONTENT_TYPE, message)
    if kind.partition(";")[0].strip().lower() != "application/json":
        message = f"Invalid JSON response. Received content-type: {kind}"
        raise AuthError(ErrorCode.HOOK_PAYLOAD_INVALID_CONTENT_TYPE, message)
    if len(answer.body) > MAXIMUM_ANSWER:
        message = f"Payload size exceeded size limit of {MAXIMUM_ANSWER} bytes"
        raise AuthError(ErrorCode.HOOK_PAYLOAD_OVER_SIZE_LIMIT, message)
    try:
        value = wire.as_object(json.loads(answer.body))
    except (ValueError, RecursionError) as error:
        raise failure("Error unmarshaling JSON output.", error) from error
    if value is None:
        raise failure("Error unmarshaling JSON output.")
    return value
