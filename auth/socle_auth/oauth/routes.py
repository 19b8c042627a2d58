"""Routes of sign-in by other people's accounts."""

from __future__ import annotations

from socle_auth.context import Access, AuthRoute
from socle_auth.oauth import custom_admin, flow, identity_links

ROUTES = (
    AuthRoute("GET", "/authorize", flow.authorize),
    AuthRoute("GET", "/callback", flow.callback),
    AuthRoute("POST", "/callback", flow.callback),
    AuthRoute(
        "GET",
        "/user/identities/authorize",
        flow.authorize_link,
        Access.USER,
        first_gate=identity_links.ensure_manual_linking,
    ),
    AuthRoute(
        "DELETE",
        "/user/identities/{identity_id}",
        identity_links.unlink_identity,
        Access.USER,
        first_gate=identity_links.ensure_manual_linking,
    ),
    *custom_admin.ROUTES,
)
