"""Routes of second factors."""

from __future__ import annotations

from socle_auth import limits
from socle_auth.context import Access, AuthRoute
from socle_auth.mfa import admin, challenges, enrolment, recovery_codes, verification

_CODES = "/factors/recovery-codes"

# a path of its own comes before the one that reads the same word as a factor's id
ROUTES = (
    AuthRoute("GET", _CODES, recovery_codes.show, Access.PERMANENT_USER),
    AuthRoute("POST", _CODES, recovery_codes.generate, Access.PERMANENT_USER),
    AuthRoute("DELETE", _CODES, recovery_codes.remove, Access.PERMANENT_USER),
    AuthRoute("POST", f"{_CODES}/regenerate", recovery_codes.regenerate, Access.PERMANENT_USER),
    AuthRoute("POST", f"{_CODES}/verify", recovery_codes.verify, Access.PERMANENT_USER, limiter=limits.FACTOR_VERIFY),
    AuthRoute("POST", "/factors", enrolment.enroll, Access.PERMANENT_USER),
    AuthRoute("DELETE", "/factors/{factor_id}", enrolment.unenroll, Access.PERMANENT_USER),
    AuthRoute(
        "POST",
        "/factors/{factor_id}/challenge",
        challenges.challenge,
        Access.PERMANENT_USER,
        limiter=limits.FACTOR_CHALLENGE,
    ),
    AuthRoute(
        "POST",
        "/factors/{factor_id}/verify",
        verification.verify,
        Access.PERMANENT_USER,
        limiter=limits.FACTOR_VERIFY,
    ),
    AuthRoute("GET", "/admin/users/{user_id}/factors", admin.list_factors, Access.ADMIN),
    AuthRoute("PUT", "/admin/users/{user_id}/factors/{factor_id}", admin.update_factor, Access.ADMIN),
    AuthRoute("DELETE", "/admin/users/{user_id}/factors/{factor_id}", admin.delete_factor, Access.ADMIN),
)
