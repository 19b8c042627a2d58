"""Every module's ROUTES as one application over the service's parts."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from types import ModuleType
from typing import TYPE_CHECKING, cast

from socle_auth import errors
from socle_auth.application import Application
from socle_auth.context import AuthRoute, AuthService
from socle_auth.errors import render_error
from socle_auth.limits import Limits
from socle_auth.locks import RefreshLocks
from socle_auth.mail.templates import MailTemplates
from socle_auth.oauth.oidc import Issuers
from socle_auth.oauth.providers import outgoing_of
from socle_auth.passwords import PasswordHasher
from socle_auth.python_hooks import import_hooks
from socle_auth.redirects import BadPattern, RedirectRules
from socle_auth.sso.service_provider import ensure_usable
from socle_auth.text_templates import TextTemplates
from socle_platform.config.reader import ConfigError
from socle_platform.events import Noted

if TYPE_CHECKING:
    from socle_platform.config.auth import AuthSettings
    from socle_platform.errors import WireResponse
    from socle_platform.ports import Resources


def _modules() -> Iterable[ModuleType]:
    """The use cases that have routes; a new one is added here."""
    from socle_auth import (
        admin_audit,
        admin_users,
        generate_link,
        invite,
        logout,
        otp,
        public,
        reauthenticate,
        recover,
        resend,
        signup,
        token_grants,
        user,
        verify,
    )
    from socle_auth.mfa import routes as mfa
    from socle_auth.oauth import routes as oauth
    from socle_auth.oauth_server import routes as oauth_server
    from socle_auth.passkeys import routes as passkeys
    from socle_auth.sso import routes as sso

    return (
        admin_audit,
        admin_users,
        generate_link,
        invite,
        logout,
        otp,
        public,
        reauthenticate,
        recover,
        resend,
        signup,
        token_grants,
        user,
        verify,
        mfa,
        oauth,
        oauth_server,
        passkeys,
        sso,
    )


def all_routes() -> list[AuthRoute]:
    """Every route of the service, in the order of the modules."""
    return [route for module in _modules() for route in cast("tuple[AuthRoute, ...]", module.ROUTES)]


def open_service(settings: AuthSettings, resources: Resources) -> AuthService:
    """The service's parts. Raises ConfigError for a bad allow-list, proxy network or template, or SAML that cannot
    work."""
    try:
        rules = RedirectRules.of(settings.site_url, settings.uri_allow_list)
        networks = tuple(ipaddress.ip_network(entry, strict=False) for entry in settings.trusted_proxies)
    except BadPattern as error:
        raise ConfigError([f"GOTRUE_URI_ALLOW_LIST cannot be read: {error}"]) from None
    except ValueError as error:
        raise ConfigError([f"SOCLE_TRUSTED_PROXIES cannot be read: {error}"]) from None
    if settings.saml.enabled:
        ensure_usable(settings)
    import_hooks(settings.hook_modules)

    def note(level: str, text: str) -> None:
        resources.observe(Noted("auth", level, text))

    return AuthService(
        settings=settings,
        resources=resources,
        hasher=PasswordHasher(settings.password.argon2),
        redirects=rules,
        limits=Limits(settings.rates, lambda: resources.clock.now().timestamp()),
        refresh_locks=RefreshLocks(),
        issuers=Issuers(
            outgoing_of(resources), lambda: resources.clock.now().timestamp(), settings.external.oidc_cache
        ),
        networks=networks,
        mails=MailTemplates(
            settings.mailer,
            resources.http,
            lambda: resources.clock.now().timestamp(),
            note,
        ),
        texts=TextTemplates.of(settings, lambda text: note("warning", text)),
    )


def build(settings: AuthSettings, resources: Resources) -> Application:
    """The service as an ASGI application, mounted anywhere or alone at `/`. Raises ConfigError."""
    return application(open_service(settings, resources))


@asynccontextmanager
async def running(settings: AuthSettings, resources: Resources) -> AsyncGenerator[Application]:
    """The application with its background work beside it, until the block ends. Raises ConfigError."""
    from socle_auth import cleanup, shared_limits
    from socle_auth.inbox import delivery

    service = open_service(settings, resources)
    await service.mails.load()
    jobs = [
        asyncio.create_task(cleanup.run(service), name="auth cleanup"),
        asyncio.create_task(delivery.run(service), name="auth inbox"),
        asyncio.create_task(shared_limits.run(service), name="auth rate limits"),
    ]
    try:
        yield application(service)
    finally:
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        service.hasher.close()


def application(service: AuthService) -> Application:
    """The routes over a service made before (its owner runs the background work)."""
    return Application(service, all_routes())


def render_failure(error: Exception) -> WireResponse:
    """What the gateway shows of an exception that passed the service's own boundary: the present rendering."""
    return render_error(error, errors.CURRENT_API_VERSION)
