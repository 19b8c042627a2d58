"""Routes of single sign-on and of its administration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from socle_auth import limits
from socle_auth.context import Access, AuthRoute
from socle_auth.errors import AuthError, ErrorCode
from socle_auth.sso import admin, sign_in

if TYPE_CHECKING:
    from socle_platform.config.auth import AuthSettings


def ensure_saml(settings: AuthSettings) -> None:
    """Raises 404 `saml_provider_disabled`."""
    if not settings.saml.enabled:
        raise AuthError(ErrorCode.SAML_PROVIDER_DISABLED, "SAML 2.0 is disabled")


_ALL = "/admin/sso/providers"
_ONE = "/admin/sso/providers/{provider_id}"
ROUTES = (
    AuthRoute("POST", "/sso", sign_in.begin, limiter=limits.SSO, captcha=True, first_gate=ensure_saml),
    AuthRoute("GET", "/sso/saml/metadata", sign_in.show_metadata, first_gate=ensure_saml),
    AuthRoute("POST", "/sso/saml/acs", sign_in.consume, limiter=limits.SAML_ASSERTION, first_gate=ensure_saml),
    AuthRoute("GET", _ALL, admin.list_providers, Access.ADMIN),
    AuthRoute("POST", _ALL, admin.create_provider, Access.ADMIN),
    AuthRoute("GET", _ONE, admin.show_provider, Access.ADMIN),
    AuthRoute("PUT", _ONE, admin.update_provider, Access.ADMIN),
    AuthRoute("DELETE", _ONE, admin.delete_provider, Access.ADMIN),
)
