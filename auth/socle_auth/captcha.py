"""Captcha: proof that a person asks (contracts/auth.md §7.4)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from socle_auth import wire
from socle_auth.access import bearer_of, caller_of
from socle_auth.context import Access
from socle_auth.errors import AuthError, ErrorCode, failure
from socle_platform.errors import SocleError

if TYPE_CHECKING:
    from socle_auth.context import AuthService, Call

_VERIFY_URLS = {
    "hcaptcha": "https://hcaptcha.com/siteverify",
    "turnstile": "https://challenges.cloudflare.com/turnstile/v0/siteverify",
}


async def check(service: AuthService, call: Call) -> None:
    """Asks the captcha service about the request's token; administrators need none.

    Raises `captcha_failed`, or 500 when the captcha service does not answer.
    """
    settings = service.settings.security.captcha
    if not settings.enabled:
        return
    if await _is_administrator(service, call):
        return
    token = call.optional_body().body("gotrue_meta_security").text("captcha_token").strip()
    if not token:
        raise AuthError(ErrorCode.CAPTCHA_FAILED, "captcha protection: request disallowed (no captcha_token found)")
    form = {"secret": settings.secret, "response": token, "remoteip": call.client_ip}
    if service.resources.http is None:
        raise failure("captcha verification process failed")
    try:
        answer = await service.resources.http.request(
            "POST",
            settings.verify_url or _VERIFY_URLS[settings.provider],
            headers={"content-type": "application/x-www-form-urlencoded"},
            body=urlencode(form).encode(),
            timeout=settings.timeout,
        )
        verdict = wire.as_object(json.loads(answer.body)) or {}
    except (SocleError, ValueError) as error:
        raise failure("captcha verification process failed", error) from error
    if verdict.get("success") is not True:
        reasons = ", ".join(str(code) for code in wire.as_list(verdict.get("error-codes")) or ())
        raise AuthError(ErrorCode.CAPTCHA_FAILED, f"captcha protection: request disallowed ({reasons})")


async def _is_administrator(service: AuthService, call: Call) -> bool:
    if bearer_of(call) is None:
        return False
    try:
        await caller_of(service, call, Access.ADMIN)
    except AuthError:
        return False
    return True
