"""Routes of our own authorization server."""

from __future__ import annotations

from socle_auth import limits
from socle_auth.context import Access, AuthRoute, Handler
from socle_auth.oauth_server import authorize, clients, consents, discovery, token
from socle_auth.oauth_server.clients import ensure_server_on


def _route(
    method: str, path: str, handler: Handler, access: Access = Access.PUBLIC, limiter: str | None = None
) -> AuthRoute:
    return AuthRoute(method, path, handler, access, limiter=limiter, first_gate=ensure_server_on)


_CLIENTS = "/admin/oauth/clients"
ROUTES = (
    AuthRoute("GET", "/.well-known/openid-configuration", discovery.discovery),
    _route("GET", "/.well-known/oauth-authorization-server", discovery.discovery),
    _route("POST", "/oauth/clients/register", clients.register_dynamically, limiter=limits.CLIENT_REGISTRATION),
    _route("GET", "/oauth/authorize", authorize.authorize),
    _route("GET", "/oauth/authorizations/{authorization_id}", consents.show, Access.USER),
    _route("POST", "/oauth/authorizations/{authorization_id}/consent", consents.decide, Access.USER),
    _route("POST", "/oauth/token", token.token),
    _route("GET", "/oauth/userinfo", token.userinfo, Access.USER),
    _route("GET", "/user/oauth/grants", consents.list_grants, Access.USER),
    _route("DELETE", "/user/oauth/grants", consents.revoke_grant, Access.USER),
    _route("GET", _CLIENTS, clients.list_clients, Access.ADMIN),
    _route("POST", _CLIENTS, clients.register_by_admin, Access.ADMIN),
    _route("GET", f"{_CLIENTS}/{{client_id}}", clients.show_client, Access.ADMIN),
    _route("PUT", f"{_CLIENTS}/{{client_id}}", clients.update_client, Access.ADMIN),
    _route("DELETE", f"{_CLIENTS}/{{client_id}}", clients.delete_client, Access.ADMIN),
    _route("POST", f"{_CLIENTS}/{{client_id}}/regenerate_secret", clients.regenerate_secret, Access.ADMIN),
)
