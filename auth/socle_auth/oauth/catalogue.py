"""Every provider of contract §4.2 as data: endpoints, scopes, pages that describe the person, and who reads them.

`{auth}` and `{api}` are the provider's hosts; a configured URL takes the place of both (self-hosted GitLab, GitHub
Enterprise, Keycloak realms, test servers).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

from socle_auth.oauth import readers
from socle_auth.oauth.profile import Profile


class IdToken(Enum):
    """What a provider's ID token is for."""

    UNUSED = "unused"
    PREFERRED = "preferred"
    REQUIRED = "required"


class ClientAuth(Enum):
    """How the client proves itself at the token endpoint (RFC 6749 §2.3.1). AUTO: header first, then body."""

    BODY = "body"
    HEADER = "header"
    AUTO = "auto"


@dataclass(frozen=True, slots=True)
class ProviderSpec:
    """One provider. `read` gets the token answer and the pages' JSON, in order.

    `extra_scopes`: whether scopes asked for by the application are added. `issuer` serves ID tokens and the id_token
    grant; `exchange` is the token endpoint.
    """

    name: str
    auth: str
    api: str
    authorize: str
    exchange: str
    scopes: tuple[str, ...] = ()
    pages: tuple[str, ...] = ()
    read: Callable[[Mapping[str, object], Sequence[object], str], Profile] | None = None
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType(dict[str, str]()))
    extra_scopes: bool = True
    client_auth: ClientAuth = ClientAuth.BODY
    id_token: IdToken = IdToken.UNUSED
    issuer: str = ""
    pkce: bool = False
    authorize_params: Mapping[str, str] = field(default_factory=lambda: MappingProxyType(dict[str, str]()))
    ignores_url: bool = False
    needs_url: bool = False
    oauth1: bool = False


_LINKEDIN_PROFILE = "{api}/v2/me?projection=(id,firstName,lastName,profilePicture(displayImage~:playableStreams))"
_LINKEDIN_EMAIL = "{api}/v2/emailAddress?q=members&projection=(elements*(handle~))"
_SNAPCHAT_QUERY = "%7Bme+%7B+externalId+displayName+bitmoji+%7B+avatar+id+%7D+email+%7D+%7D"
_SNAPCHAT_SCOPE = "https://auth.snapchat.com/oauth2/api/user."
_X_FIELDS = "id,name,username,confirmed_email,profile_image_url,url,created_at"

_SPECS = (
    ProviderSpec(
        "apple",
        auth="https://appleid.apple.com",
        api="https://appleid.apple.com",
        authorize="{auth}/auth/authorize",
        exchange="{auth}/auth/token",
        scopes=("email", "name"),
        extra_scopes=False,
        id_token=IdToken.REQUIRED,
        issuer="https://appleid.apple.com",
        authorize_params=MappingProxyType({"response_mode": "form_post"}),
        ignores_url=True,
    ),
    ProviderSpec(
        "azure",
        auth="https://login.microsoftonline.com/common",
        api="https://login.microsoftonline.com/common",
        authorize="{auth}/oauth2/v2.0/authorize",
        exchange="{auth}/oauth2/v2.0/token",
        scopes=("openid",),
        id_token=IdToken.REQUIRED,
    ),
    ProviderSpec(
        "bitbucket",
        auth="https://bitbucket.org",
        api="https://api.bitbucket.org",
        authorize="{auth}/site/oauth2/authorize",
        exchange="{auth}/site/oauth2/access_token",
        scopes=("account", "email"),
        pages=("{api}/2.0/user", "{api}/2.0/user/emails"),
        read=readers.bitbucket,
        extra_scopes=False,
        client_auth=ClientAuth.HEADER,
        issuer="{api}/2.0",
    ),
    ProviderSpec(
        "discord",
        auth="https://discord.com",
        api="https://discord.com",
        authorize="{api}/api/oauth2/authorize",
        exchange="{api}/api/oauth2/token",
        scopes=("email", "identify"),
        pages=("{api}/api/users/@me",),
        read=readers.discord,
        issuer="{api}/api",
    ),
    ProviderSpec(
        "facebook",
        auth="https://www.facebook.com",
        api="https://graph.facebook.com",
        authorize="{auth}/dialog/oauth",
        exchange="{api}/oauth/access_token",
        scopes=("email",),
        pages=("{api}/me?fields=email,first_name,last_name,name,picture&appsecret_proof={proof}",),
        read=readers.facebook,
        issuer="https://www.facebook.com",
    ),
    ProviderSpec(
        "figma",
        auth="https://www.figma.com",
        api="https://api.figma.com",
        authorize="{auth}/oauth",
        exchange="{api}/v1/oauth/token",
        scopes=("current_user:read",),
        pages=("{api}/v1/me",),
        read=readers.figma,
        client_auth=ClientAuth.HEADER,
        issuer="{api}",
    ),
    ProviderSpec(
        "fly",
        auth="https://api.fly.io",
        api="https://api.fly.io",
        authorize="{auth}/oauth/authorize",
        exchange="{auth}/oauth/token",
        scopes=("read",),
        pages=("{api}/oauth/token/info",),
        read=readers.fly,
        issuer="{api}",
    ),
    ProviderSpec(
        "github",
        auth="https://github.com",
        api="https://api.github.com",
        authorize="{auth}/login/oauth/authorize",
        exchange="{auth}/login/oauth/access_token",
        scopes=("user:email",),
        pages=("{api}/user", "{api}/user/emails"),
        read=readers.github,
        issuer="{api}",
    ),
    ProviderSpec(
        "gitlab",
        auth="https://gitlab.com",
        api="https://gitlab.com",
        authorize="{auth}/oauth/authorize",
        exchange="{auth}/oauth/token",
        scopes=("read_user",),
        pages=("{api}/api/v4/user", "{api}/api/v4/user/emails"),
        read=readers.gitlab,
        issuer="{api}",
    ),
    ProviderSpec(
        "google",
        auth="https://accounts.google.com",
        api="https://www.googleapis.com",
        authorize="{auth}/o/oauth2/v2/auth",
        exchange="https://oauth2.googleapis.com/token",
        scopes=("email", "profile"),
        pages=("{api}/userinfo/v2/me",),
        read=readers.google,
        id_token=IdToken.PREFERRED,
        issuer="https://accounts.google.com",
        ignores_url=True,
    ),
    ProviderSpec(
        "kakao",
        auth="https://kauth.kakao.com",
        api="https://kapi.kakao.com",
        authorize="{auth}/oauth/authorize",
        exchange="{auth}/oauth/token",
        scopes=("account_email", "profile_image", "profile_nickname"),
        pages=("{api}/v2/user/me",),
        read=readers.kakao,
        issuer="https://kauth.kakao.com",
    ),
    ProviderSpec(
        "keycloak",
        auth="",
        api="",
        authorize="{auth}/protocol/openid-connect/auth",
        exchange="{auth}/protocol/openid-connect/token",
        scopes=("profile", "email"),
        pages=("{api}/protocol/openid-connect/userinfo",),
        read=readers.keycloak,
        issuer="{api}",
        needs_url=True,
    ),
    ProviderSpec(
        "linkedin",
        auth="https://api.linkedin.com",
        api="https://api.linkedin.com",
        authorize="{auth}/oauth/v2/authorization",
        exchange="{auth}/oauth/v2/accessToken",
        scopes=("r_emailaddress", "r_liteprofile"),
        pages=(_LINKEDIN_PROFILE, _LINKEDIN_EMAIL),
        read=readers.linkedin,
        issuer="{api}",
    ),
    ProviderSpec(
        "linkedin_oidc",
        auth="https://api.linkedin.com",
        api="https://api.linkedin.com",
        authorize="{auth}/oauth/v2/authorization",
        exchange="{auth}/oauth/v2/accessToken",
        scopes=("openid", "email", "profile"),
        id_token=IdToken.REQUIRED,
        issuer="https://www.linkedin.com/oauth",
    ),
    ProviderSpec(
        "notion",
        auth="https://api.notion.com",
        api="https://api.notion.com",
        authorize="{auth}/v1/oauth/authorize",
        exchange="{auth}/v1/oauth/token",
        pages=("{api}/v1/users/me",),
        read=readers.notion,
        headers=MappingProxyType({"Notion-Version": "2021-08-16"}),
        extra_scopes=False,
        client_auth=ClientAuth.HEADER,
        issuer="{api}",
    ),
    ProviderSpec(
        "slack",
        auth="https://slack.com",
        api="https://slack.com",
        authorize="{auth}/oauth/authorize",
        exchange="{api}/api/oauth.access",
        scopes=("profile", "email", "openid"),
        pages=("{api}/api/openid.connect.userInfo",),
        read=readers.slack,
        issuer="{api}/api",
    ),
    ProviderSpec(
        "slack_oidc",
        auth="https://slack.com",
        api="https://slack.com",
        authorize="{auth}/openid/connect/authorize",
        exchange="{api}/api/openid.connect.token",
        scopes=("profile", "email", "openid"),
        pages=("{api}/api/openid.connect.userInfo",),
        read=readers.slack_oidc,
        issuer="{api}/api",
    ),
    ProviderSpec(
        "snapchat",
        auth="https://accounts.snapchat.com",
        api="https://kit.snapchat.com",
        authorize="{auth}/accounts/oauth2/auth",
        exchange="{auth}/accounts/oauth2/token",
        scopes=(f"{_SNAPCHAT_SCOPE}external_id", f"{_SNAPCHAT_SCOPE}display_name", f"{_SNAPCHAT_SCOPE}bitmoji.avatar"),
        pages=(f"{{api}}/v1/me?query={_SNAPCHAT_QUERY}",),
        read=readers.snapchat,
        client_auth=ClientAuth.HEADER,
        issuer="https://accounts.snapchat.com/accounts/oauth2/token",
    ),
    ProviderSpec(
        "spotify",
        auth="https://accounts.spotify.com",
        api="https://api.spotify.com/v1",
        authorize="{auth}/authorize",
        exchange="{auth}/api/token",
        scopes=("user-read-email",),
        pages=("{api}/me",),
        read=readers.spotify,
        client_auth=ClientAuth.HEADER,
        issuer="{api}",
    ),
    ProviderSpec(
        "twitch",
        auth="https://id.twitch.tv",
        api="https://api.twitch.tv",
        authorize="{auth}/oauth2/authorize",
        exchange="{auth}/oauth2/token",
        scopes=("user:read:email",),
        pages=("{api}/helix/users",),
        read=readers.twitch,
        headers=MappingProxyType({"Client-Id": "{client_id}"}),
        issuer="{api}",
    ),
    ProviderSpec(
        "twitter",
        auth="https://api.twitter.com",
        api="https://api.twitter.com",
        authorize="{auth}/oauth/authenticate",
        exchange="{auth}/oauth/access_token",
        pages=("{api}/1.1/account/verify_credentials.json?include_entities=false&skip_status=true&include_email=true",),
        read=readers.twitter,
        extra_scopes=False,
        issuer="{api}/1.1/account/verify_credentials.json",
        oauth1=True,
    ),
    ProviderSpec(
        "vercel_marketplace",
        auth="https://api.vercel.com",
        api="https://api.vercel.com",
        authorize="{auth}/oauth/v2/authorization",
        exchange="{auth}/oauth/v2/accessToken",
        id_token=IdToken.REQUIRED,
        issuer="https://marketplace.vercel.com",
    ),
    ProviderSpec(
        "workos",
        auth="https://api.workos.com",
        api="https://api.workos.com",
        authorize="{auth}/sso/authorize",
        exchange="{auth}/sso/token",
        read=readers.workos,
        extra_scopes=False,
        issuer="{api}",
    ),
    ProviderSpec(
        "x",
        auth="https://x.com",
        api="https://api.x.com",
        authorize="{auth}/i/oauth2/authorize",
        exchange="{api}/2/oauth2/token",
        scopes=("users.email", "tweet.read", "users.read", "offline.access"),
        pages=(f"{{api}}/2/users/me?user.fields={_X_FIELDS}",),
        read=readers.x,
        client_auth=ClientAuth.HEADER,
        issuer="{api}",
        pkce=True,
    ),
    ProviderSpec(
        "zoom",
        auth="https://zoom.us",
        api="https://api.zoom.us",
        authorize="{auth}/oauth/authorize",
        exchange="{auth}/oauth/token",
        pages=("{api}/v2/users/me",),
        read=readers.zoom,
        extra_scopes=False,
        client_auth=ClientAuth.HEADER,
        issuer="{api}/v2",
    ),
)

SPECS: Mapping[str, ProviderSpec] = MappingProxyType({spec.name: spec for spec in _SPECS})
"""Every built-in provider by name."""
