"""Routes of passkeys."""

from __future__ import annotations

from socle_auth import limits
from socle_auth.context import Access, AuthRoute
from socle_auth.passkeys import authentication, care, registration
from socle_auth.passkeys.registration import ensure_passkeys_on

ROUTES = (
    AuthRoute(
        "POST",
        "/passkeys/authentication/options",
        authentication.begin,
        limiter=limits.PASSKEY,
        captcha=True,
        first_gate=ensure_passkeys_on,
    ),
    AuthRoute("POST", "/passkeys/authentication/verify", authentication.finish, first_gate=ensure_passkeys_on),
    AuthRoute(
        "POST",
        "/passkeys/registration/options",
        registration.begin,
        Access.PERMANENT_USER,
        first_gate=ensure_passkeys_on,
    ),
    AuthRoute(
        "POST",
        "/passkeys/registration/verify",
        registration.finish,
        Access.PERMANENT_USER,
        first_gate=ensure_passkeys_on,
    ),
    AuthRoute("GET", "/passkeys", care.list_own, Access.USER, first_gate=ensure_passkeys_on),
    AuthRoute("PATCH", "/passkeys/{passkey_id}", care.rename_own, Access.USER, first_gate=ensure_passkeys_on),
    AuthRoute("DELETE", "/passkeys/{passkey_id}", care.delete_own, Access.USER, first_gate=ensure_passkeys_on),
    AuthRoute(
        "GET",
        "/admin/users/{user_id}/passkeys",
        care.list_of_user,
        Access.ADMIN,
        first_gate=ensure_passkeys_on,
    ),
    AuthRoute(
        "DELETE",
        "/admin/users/{user_id}/passkeys/{passkey_id}",
        care.delete_of_user,
        Access.ADMIN,
        first_gate=ensure_passkeys_on,
    ),
)
