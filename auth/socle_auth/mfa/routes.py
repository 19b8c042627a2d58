"""Routes of second factors."""

from __future__ import annotations

from socle_auth import limits
from socle_auth.context import Access, AuthRoute
from socle_auth.mfa import admin, challenges, enrolment, verification

ROUTES = (
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
