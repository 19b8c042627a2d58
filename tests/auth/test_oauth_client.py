"""One real exchange per sign-in provider: its own endpoints, client authentication and documented answers (§4.2)."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from harness.internet import Internet, started_internet
from harness.issuer import Issuer, at_hash
from harness.site import Call, Reply
from socle_auth.oauth.catalogue import SPECS, ClientAuth, IdToken
from socle_auth.oauth.client import (
    ExchangeFailed,
    consent_url,
    exchange_code,
    exchange_oauth1,
    read_person,
    request_oauth1_token,
)
from socle_auth.oauth.oidc import Issuers, OidcFault
from socle_auth.oauth.profile import Profile, ProfileUnusable, ProviderEmail
from socle_auth.oauth.providers import ProviderUnavailable, built_in_client
from socle_platform.config.auth_external import PROVIDER_NAMES, ProviderSettings

BEARER: dict[str, object] = {
    "access_token": "provider-token",
    "token_type": "Bearer",
    "expires_in": 3600,
    "refresh_token": "provider-refresh",
}
STRANGE: tuple[object, ...] = ({}, [], None, "text", {"data": [], "bot": 1, "kakao_account": "x", "images": {}})


@dataclass(frozen=True, slots=True)
class Exchange:
    """A provider's documented answers and what must come of them."""

    name: str
    consent: str
    scopes: str
    token_url: str
    pages: Mapping[str, object]
    emails: tuple[ProviderEmail, ...]
    claims: Mapping[str, object]
    token: Mapping[str, object] = field(default_factory=lambda: BEARER)
    url: str = ""
    subject: str = ""


EXCHANGES = [
    Exchange(
        "bitbucket",
        consent="https://bitbucket.org/site/oauth2/authorize",
        scopes="account email",
        token_url="https://bitbucket.org/site/oauth2/access_token",
        pages={
            "https://api.bitbucket.org/2.0/user": {
                "type": "user",
                "uuid": "{d301aafa-d676-4ee0-88be-962be7417567}",
                "display_name": "Ada Lovelace",
                "nickname": "ada",
                "links": {"avatar": {"href": "https://bitbucket.org/account/ada/avatar/32/"}},
            },
            "https://api.bitbucket.org/2.0/user/emails": {
                "pagelen": 10,
                "values": [
                    {"type": "email", "email": "old@example.com", "is_primary": False, "is_confirmed": False},
                    {"type": "email", "email": "ada@example.com", "is_primary": True, "is_confirmed": True},
                ],
            },
        },
        emails=(ProviderEmail("old@example.com", False, False), ProviderEmail("ada@example.com", True, True)),
        subject="{d301aafa-d676-4ee0-88be-962be7417567}",
        claims={
            "iss": "https://api.bitbucket.org/2.0",
            "name": "Ada Lovelace",
            "full_name": "Ada Lovelace",
            "avatar_url": "https://bitbucket.org/account/ada/avatar/32/",
        },
    ),
    Exchange(
        "discord",
        consent="https://discord.com/api/oauth2/authorize",
        scopes="email identify",
        token_url="https://discord.com/api/oauth2/token",
        pages={
            "https://discord.com/api/users/@me": {
                "id": "80351110224678912",
                "username": "Nelly",
                "discriminator": "1337",
                "global_name": "Nelly N",
                "avatar": "8342729096ea3675442027381ff50dfe",
                "verified": True,
                "email": "nelly@example.com",
                "flags": 64,
            }
        },
        emails=(ProviderEmail("nelly@example.com", True),),
        subject="80351110224678912",
        claims={
            "iss": "https://discord.com/api",
            "name": "Nelly#1337",
            "full_name": "Nelly",
            "picture": "https://cdn.discordapp.com/avatars/80351110224678912/8342729096ea3675442027381ff50dfe.png",
            "custom_claims": {"global_name": "Nelly N"},
        },
    ),
    Exchange(
        "facebook",
        consent="https://www.facebook.com/dialog/oauth",
        scopes="email",
        token_url="https://graph.facebook.com/oauth/access_token",
        token={"access_token": "provider-token", "token_type": "bearer", "expires_in": 5183944},
        pages={
            "https://graph.facebook.com/me": {
                "email": "mark@example.com",
                "first_name": "Mark",
                "last_name": "Twain",
                "name": "Mark Twain",
                "picture": {"data": {"height": 50, "is_silhouette": False, "url": "https://fbcdn.example/p.jpg"}},
                "id": "10158",
            }
        },
        emails=(ProviderEmail("mark@example.com", True),),
        subject="10158",
        claims={
            "iss": "https://www.facebook.com",
            "name": "Mark Twain",
            "nickname": "Mark Twain",
            "slug": "Mark Twain",
            "avatar_url": "https://fbcdn.example/p.jpg",
        },
    ),
    Exchange(
        "figma",
        consent="https://www.figma.com/oauth",
        scopes="current_user:read",
        token_url="https://api.figma.com/v1/oauth/token",
        pages={
            "https://api.figma.com/v1/me": {
                "id": "42",
                "handle": "Frida",
                "email": "frida@example.com",
                "img_url": "https://s3.example/42.png",
            }
        },
        emails=(ProviderEmail("frida@example.com", True),),
        subject="42",
        claims={"iss": "https://api.figma.com", "name": "Frida", "avatar_url": "https://s3.example/42.png"},
    ),
    Exchange(
        "fly",
        consent="https://api.fly.io/oauth/authorize",
        scopes="read",
        token_url="https://api.fly.io/oauth/token",
        pages={
            "https://api.fly.io/oauth/token/info": {
                "resource_owner_id": "o-1",
                "scope": ["read"],
                "expires_in": 7200,
                "application": {"uid": "app"},
                "created_at": 1696003692,
                "user_id": "u-1",
                "user_name": "Amelia",
                "email": "amelia@example.com",
                "organizations": [{"id": "org-1", "role": "admin"}],
            }
        },
        emails=(ProviderEmail("amelia@example.com", True),),
        subject="u-1",
        claims={
            "iss": "https://api.fly.io",
            "full_name": "Amelia",
            "custom_claims": {
                "resource_owner_id": "o-1",
                "organizations": [{"id": "org-1", "role": "admin"}],
                "application": {"uid": "app"},
                "scope": ["read"],
                "created_at": 1696003692,
            },
        },
    ),
    Exchange(
        "github",
        consent="https://github.com/login/oauth/authorize",
        scopes="user:email",
        token_url="https://github.com/login/oauth/access_token",
        token={"access_token": "provider-token", "scope": "user:email", "token_type": "bearer"},
        pages={
            "https://api.github.com/user": {
                "login": "octocat",
                "id": 583231,
                "avatar_url": "https://avatars.githubusercontent.com/u/583231",
                "name": "The Octocat",
                "email": None,
            },
            "https://api.github.com/user/emails": [
                {"email": "octocat@example.com", "primary": True, "verified": True, "visibility": "public"},
                {"email": "cat@example.org", "primary": False, "verified": False, "visibility": None},
            ],
        },
        emails=(ProviderEmail("octocat@example.com", True, True), ProviderEmail("cat@example.org", False, False)),
        subject="583231",
        claims={
            "iss": "https://api.github.com",
            "name": "The Octocat",
            "preferred_username": "octocat",
            "user_name": "octocat",
            "provider_id": "583231",
        },
    ),
    Exchange(
        "gitlab",
        consent="https://gitlab.com/oauth/authorize",
        scopes="read_user",
        token_url="https://gitlab.com/oauth/token",
        pages={
            "https://gitlab.com/api/v4/user": {
                "id": 1,
                "username": "john_smith",
                "name": "John Smith",
                "email": "john@example.com",
                "avatar_url": "https://gitlab.com/uploads/1.png",
                "confirmed_at": "2012-05-23T09:05:22Z",
            },
            "https://gitlab.com/api/v4/user/emails": [{"id": 3, "email": "other@example.com"}],
        },
        emails=(ProviderEmail("other@example.com", False, False), ProviderEmail("john@example.com", True, True)),
        subject="1",
        claims={"iss": "https://gitlab.com", "name": "John Smith", "picture": "https://gitlab.com/uploads/1.png"},
    ),
    Exchange(
        "google",
        consent="https://accounts.google.com/o/oauth2/v2/auth",
        scopes="email profile",
        token_url="https://oauth2.googleapis.com/token",
        pages={
            "https://www.googleapis.com/userinfo/v2/me": {
                "id": "110169484474386276334",
                "email": "grace@example.com",
                "verified_email": True,
                "name": "Grace Hopper",
                "given_name": "Grace",
                "picture": "https://lh3.example/a.jpg",
            }
        },
        emails=(ProviderEmail("grace@example.com", True),),
        subject="110169484474386276334",
        claims={"iss": "https://www.googleapis.com/userinfo/v2/me", "name": "Grace Hopper"},
    ),
    Exchange(
        "kakao",
        consent="https://kauth.kakao.com/oauth/authorize",
        scopes="account_email profile_image profile_nickname",
        token_url="https://kauth.kakao.com/oauth/token",
        pages={
            "https://kapi.kakao.com/v2/user/me": {
                "id": 123456789,
                "connected_at": "2022-04-11T01:45:28Z",
                "kakao_account": {
                    "profile": {"nickname": "Hong", "profile_image_url": "https://yyy.kakao.example/640.jpg"},
                    "is_email_valid": True,
                    "is_email_verified": True,
                    "email": "hong@example.com",
                },
            }
        },
        emails=(ProviderEmail("hong@example.com", True),),
        subject="123456789",
        claims={"iss": "https://kauth.kakao.com", "preferred_username": "Hong", "user_name": "Hong"},
    ),
    Exchange(
        "keycloak",
        url="https://sso.example.org/realms/main",
        consent="https://sso.example.org/realms/main/protocol/openid-connect/auth",
        scopes="profile email",
        token_url="https://sso.example.org/realms/main/protocol/openid-connect/token",
        pages={
            "https://sso.example.org/realms/main/protocol/openid-connect/userinfo": {
                "sub": "9f6b7e0c",
                "name": "Kim Key",
                "email": "kim@example.org",
                "email_verified": False,
                "groups": ["staff"],
            }
        },
        emails=(ProviderEmail("kim@example.org", False),),
        subject="9f6b7e0c",
        claims={
            "iss": "https://sso.example.org/realms/main",
            "full_name": "Kim Key",
            "custom_claims": {"groups": ["staff"]},
        },
    ),
    Exchange(
        "linkedin",
        consent="https://api.linkedin.com/oauth/v2/authorization",
        scopes="r_emailaddress r_liteprofile",
        token_url="https://api.linkedin.com/oauth/v2/accessToken",
        pages={
            "https://api.linkedin.com/v2/me": {
                "id": "yrZCpj2Z12",
                "firstName": {"localized": {"en_US": "Bob"}, "preferredLocale": {"country": "US", "language": "en"}},
                "lastName": {"localized": {"en_US": "Smith"}, "preferredLocale": {"country": "US", "language": "en"}},
                "profilePicture": {
                    "displayImage~": {"elements": [{"identifiers": [{"identifier": "https://media.example/1.jpg"}]}]}
                },
            },
            "https://api.linkedin.com/v2/emailAddress": {
                "elements": [{"handle": "urn:li:emailAddress:1", "handle~": {"emailAddress": "bob@example.com"}}]
            },
        },
        emails=(ProviderEmail("bob@example.com", True),),
        subject="yrZCpj2Z12",
        claims={"iss": "https://api.linkedin.com", "name": "Bob Smith", "picture": "https://media.example/1.jpg"},
    ),
    Exchange(
        "notion",
        consent="https://api.notion.com/v1/oauth/authorize",
        scopes="",
        token_url="https://api.notion.com/v1/oauth/token",
        token={"access_token": "provider-token", "token_type": "bearer", "bot_id": "b-1", "workspace_id": "w-1"},
        pages={
            "https://api.notion.com/v1/users/me": {
                "object": "user",
                "type": "bot",
                "bot": {
                    "owner": {
                        "type": "user",
                        "user": {
                            "object": "user",
                            "id": "5389a034",
                            "name": "Nora",
                            "avatar_url": "https://s3.example/n.png",
                            "type": "person",
                            "person": {"email": "nora@example.com"},
                        },
                    }
                },
            }
        },
        emails=(ProviderEmail("nora@example.com", True),),
        subject="5389a034",
        claims={"iss": "https://api.notion.com", "name": "Nora", "picture": "https://s3.example/n.png"},
    ),
    Exchange(
        "slack",
        consent="https://slack.com/oauth/authorize",
        scopes="profile email openid",
        token_url="https://slack.com/api/oauth.access",
        token={"ok": True, "access_token": "provider-token", "scope": "openid"},
        pages={
            "https://slack.com/api/openid.connect.userInfo": {
                "ok": True,
                "sub": "U0R7JM",
                "https://slack.com/user_id": "U0R7JM",
                "https://slack.com/team_id": "T0R7GR",
                "email": "krane@example.com",
                "name": "Krane",
                "picture": "https://slack.example/k.jpg",
            }
        },
        emails=(ProviderEmail("krane@example.com", True),),
        subject="U0R7JM",
        claims={"iss": "https://slack.com/api", "custom_claims": {"https://slack.com/team_id": "T0R7GR"}},
    ),
    Exchange(
        "slack_oidc",
        consent="https://slack.com/openid/connect/authorize",
        scopes="profile email openid",
        token_url="https://slack.com/api/openid.connect.token",
        token={"ok": True, "access_token": "provider-token", "token_type": "Bearer"},
        pages={
            "https://slack.com/api/openid.connect.userInfo": {
                "ok": True,
                "https://slack.com/user_id": "U0R7JM",
                "https://slack.com/team_id": "T0R7GR",
                "email": "krane@example.com",
                "email_verified": False,
                "name": "Krane",
                "picture": "https://slack.example/k.jpg",
            }
        },
        emails=(ProviderEmail("krane@example.com", False),),
        subject="U0R7JM",
        claims={"iss": "https://slack.com/api", "name": "Krane"},
    ),
    Exchange(
        "snapchat",
        consent="https://accounts.snapchat.com/accounts/oauth2/auth",
        scopes=" ".join(
            f"https://auth.snapchat.com/oauth2/api/user.{name}"
            for name in ("external_id", "display_name", "bitmoji.avatar")
        ),
        token_url="https://accounts.snapchat.com/accounts/oauth2/token",
        pages={
            "https://kit.snapchat.com/v1/me": {
                "data": {
                    "me": {
                        "externalId": "CAESIPiRBp0e5gLDq7VVurQ3rVdmdbqxpOJWynjyBL/xlo0w",
                        "displayName": "Sam",
                        "bitmoji": {"avatar": "https://sdk.bitmoji.example/a.webp", "id": "b"},
                        "email": "sam@example.com",
                    }
                },
                "errors": [],
            }
        },
        emails=(ProviderEmail("sam@example.com", True),),
        subject="CAESIPiRBp0e5gLDq7VVurQ3rVdmdbqxpOJWynjyBL/xlo0w",
        claims={"iss": "https://accounts.snapchat.com/accounts/oauth2/token", "slug": "Sam"},
    ),
    Exchange(
        "spotify",
        consent="https://accounts.spotify.com/authorize",
        scopes="user-read-email",
        token_url="https://accounts.spotify.com/api/token",
        pages={
            "https://api.spotify.com/v1/me": {
                "display_name": "Billie",
                "id": "billie31",
                "email": "billie@example.com",
                "images": [
                    {"url": "https://i.scdn.example/64.jpg", "height": 64, "width": 64},
                    {"url": "https://i.scdn.example/300.jpg", "height": 300, "width": 300},
                    {"url": "https://i.scdn.example/none.jpg", "height": None, "width": None},
                ],
            }
        },
        emails=(ProviderEmail("billie@example.com", False),),
        subject="billie31",
        claims={"iss": "https://api.spotify.com/v1", "picture": "https://i.scdn.example/300.jpg"},
    ),
    Exchange(
        "twitch",
        consent="https://id.twitch.tv/oauth2/authorize",
        scopes="user:read:email",
        token_url="https://id.twitch.tv/oauth2/token",
        token={"access_token": "provider-token", "refresh_token": "provider-refresh", "scope": ["user:read:email"]},
        pages={
            "https://api.twitch.tv/helix/users": {
                "data": [
                    {
                        "id": "141981764",
                        "login": "twitchdev",
                        "display_name": "TwitchDev",
                        "type": "",
                        "broadcaster_type": "partner",
                        "description": "Supporting developers.",
                        "profile_image_url": "https://static-cdn.example/8.png",
                        "offline_image_url": "https://static-cdn.example/3.png",
                        "view_count": 5980557,
                        "email": "dev@example.com",
                    }
                ]
            }
        },
        emails=(ProviderEmail("dev@example.com", True),),
        subject="141981764",
        claims={
            "iss": "https://api.twitch.tv",
            "name": "twitchdev",
            "nickname": "TwitchDev",
            "custom_claims": {
                "broadcaster_type": "partner",
                "description": "Supporting developers.",
                "type": "",
                "offline_image_url": "https://static-cdn.example/3.png",
                "view_count": 5980557,
            },
        },
    ),
    Exchange(
        "workos",
        consent="https://api.workos.com/sso/authorize",
        scopes="",
        token_url="https://api.workos.com/sso/token",
        token={
            "access_token": "provider-token",
            "profile": {
                "object": "profile",
                "id": "prof_01DMC79VCBZ0NY2099737PSVF1",
                "connection_id": "conn_01E4ZCR3C56J083X43JQXF3JK5",
                "organization_id": "org_01EHWNCE74X7JSDV0X3SZ3KJNY",
                "connection_type": "okta",
                "idp_id": "00u1a0ufowBJlzPlk357",
                "email": "todd@example.com",
                "first_name": "Todd",
                "last_name": "Rundgren",
                "raw_attributes": {},
            },
        },
        pages={},
        emails=(ProviderEmail("todd@example.com", True),),
        subject="prof_01DMC79VCBZ0NY2099737PSVF1",
        claims={
            "iss": "https://api.workos.com",
            "name": "Todd Rundgren",
            "custom_claims": {
                "connection_id": "conn_01E4ZCR3C56J083X43JQXF3JK5",
                "organization_id": "org_01EHWNCE74X7JSDV0X3SZ3KJNY",
            },
        },
    ),
    Exchange(
        "x",
        consent="https://x.com/i/oauth2/authorize",
        scopes="users.email tweet.read users.read offline.access",
        token_url="https://api.x.com/2/oauth2/token",
        pages={
            "https://api.x.com/2/users/me": {
                "data": {
                    "id": "2244994945",
                    "name": "Developers",
                    "username": "XDevelopers",
                    "confirmed_email": "x@example.com",
                    "profile_image_url": "https://pbs.example/1.jpg",
                    "url": "https://t.co/1",
                    "created_at": "2013-12-14T04:35:55.000Z",
                }
            }
        },
        emails=(ProviderEmail("x@example.com", True),),
        subject="2244994945",
        claims={
            "iss": "https://api.x.com",
            "preferred_username": "XDevelopers",
            "profile": "https://x.com/XDevelopers",
            "website": "https://t.co/1",
            "custom_claims": {"created_at": "2013-12-14T04:35:55.000Z"},
        },
    ),
    Exchange(
        "zoom",
        consent="https://zoom.us/oauth/authorize",
        scopes="",
        token_url="https://zoom.us/oauth/token",
        pages={
            "https://api.zoom.us/v2/users/me": {
                "id": "KdYKjnimT4KPd8FFgQt9FQ",
                "first_name": "Jane",
                "last_name": "Dev",
                "email": "jane@example.com",
                "verified": 1,
                "login_type": 100,
                "pic_url": "https://zoom.example/p.png",
            }
        },
        emails=(ProviderEmail("jane@example.com", True),),
        subject="KdYKjnimT4KPd8FFgQt9FQ",
        claims={"iss": "https://api.zoom.us/v2", "name": "Jane Dev"},
    ),
]

ID_TOKEN_PROVIDERS = {"apple", "azure", "google", "linkedin_oidc", "vercel_marketplace"}


@pytest.fixture
async def internet() -> AsyncIterator[Internet]:
    async with started_internet() as started:
        yield started


def settings(url: str = "", **changes: Any) -> ProviderSettings:
    whole: dict[str, Any] = {"enabled": True, "client_ids": ("our id",), "secret": "our:secret", "url": url}
    return ProviderSettings(**(whole | changes))


def now() -> datetime:
    return datetime.now(UTC)


def issuers(internet: Internet) -> Issuers:
    return Issuers(internet, lambda: now().timestamp())


async def sign_in(internet: Internet, name: str, url: str = "", verifier: str = "") -> Profile:
    client = built_in_client(name, settings(url), "https://api.example.com/auth/v1")
    tokens = await exchange_code(internet, client, "the-code", verifier)
    assert tokens.access_token == "provider-token"
    return await read_person(internet, issuers(internet), client, tokens, now())


def test_every_provider_has_its_exchange() -> None:
    covered = {case.name for case in EXCHANGES} | ID_TOKEN_PROVIDERS | {"twitter"}
    assert covered == set(SPECS) == set(PROVIDER_NAMES)


@pytest.mark.parametrize("case", EXCHANGES, ids=lambda case: case.name)
async def test_an_exchange_with_the_providers_own_answers(case: Exchange, internet: Internet) -> None:
    client = built_in_client(case.name, settings(case.url), "https://api.example.com/auth/v1")
    verifier = "v" * 43 if client.pkce else ""
    shown = urlsplit(consent_url(client, "the-state", {}, verifier))
    asked = {name: values[0] for name, values in parse_qs(shown.query).items()}
    assert f"{shown.scheme}://{shown.netloc}{shown.path}" == case.consent
    assert asked.get("scope", "") == case.scopes
    assert asked["client_id"] == "our id"
    assert asked["response_type"] == "code"
    assert asked["state"] == "the-state"
    assert asked["redirect_uri"] == "https://api.example.com/auth/v1/callback"
    assert ("code_challenge" in asked) == client.pkce

    internet.say("POST", case.token_url, case.token)
    for url, answer in case.pages.items():
        internet.say("GET", url, answer)
    profile = await sign_in(internet, case.name, case.url, verifier)

    assert profile.subject == case.subject
    assert profile.emails == case.emails
    assert {name: profile.claims.get(name) for name in case.claims} == dict(case.claims)
    assert profile.claims["provider_id"] == case.subject
    (traded,) = internet.calls(case.token_url)
    expect_client_proof(case.name, traded, verifier)
    for url in case.pages:
        (call,) = internet.calls(url)
        assert call.headers["Authorization"] == "Bearer provider-token"


def expect_client_proof(name: str, call: Call, verifier: str) -> None:
    """The code went along with the client's own proof, in the place that the provider documents."""
    form = call.form
    assert form["grant_type"] == "authorization_code"
    assert form["code"] == "the-code"
    assert form["redirect_uri"] == "https://api.example.com/auth/v1/callback"
    assert form.get("code_verifier", "") == verifier
    if SPECS[name].client_auth is ClientAuth.HEADER:
        assert call.headers["Authorization"] == "Basic " + base64.b64encode(b"our+id:our%3Asecret").decode()
        assert "client_secret" not in form
    else:
        assert (form["client_id"], form["client_secret"]) == ("our id", "our:secret")
        assert "Authorization" not in call.headers


async def test_facebook_proves_the_application(internet: Internet) -> None:
    case = next(case for case in EXCHANGES if case.name == "facebook")
    internet.say("POST", case.token_url, case.token)
    internet.say("GET", "https://graph.facebook.com/me", case.pages["https://graph.facebook.com/me"])
    await sign_in(internet, "facebook")
    (call,) = internet.calls("https://graph.facebook.com/me")
    expected = hmac.new(b"our:secret", b"provider-token", hashlib.sha256).hexdigest()
    assert call.query == {"fields": "email,first_name,last_name,name,picture", "appsecret_proof": expected}


async def test_pages_get_their_special_headers_and_queries(internet: Internet) -> None:
    for name in ("notion", "twitch", "snapchat"):
        case = next(case for case in EXCHANGES if case.name == name)
        internet.say("POST", case.token_url, case.token)
        for url, answer in case.pages.items():
            internet.say("GET", url, answer)
        await sign_in(internet, name)
    assert internet.calls("https://api.notion.com/v1/users/me")[0].headers["Notion-Version"] == "2021-08-16"
    assert internet.calls("https://api.twitch.tv/helix/users")[0].headers["Client-Id"] == "our id"
    (call,) = internet.calls("https://kit.snapchat.com/v1/me")
    assert call.query["query"] == "{me { externalId displayName bitmoji { avatar id } email } }"


async def test_github_answers_in_a_form_without_the_accept_header(internet: Internet) -> None:
    url = "https://github.com/login/oauth/access_token"
    internet.on("POST", url, Reply(b"access_token=provider-token&scope=user%3Aemail&token_type=bearer"))
    internet.say("GET", "https://api.github.com/user", {"id": 1, "login": "a", "name": None})
    internet.say("GET", "https://api.github.com/user/emails", [])
    profile = await sign_in(internet, "github")
    assert profile.emails == ()
    assert profile.identity_data() == {
        "iss": "https://api.github.com",
        "sub": "1",
        "provider_id": "1",
        "preferred_username": "a",
        "user_name": "a",
        "email_verified": False,
        "phone_verified": False,
    }


async def test_github_reports_a_bad_code_with_status_200(internet: Internet) -> None:
    url = "https://github.com/login/oauth/access_token"
    internet.say("POST", url, {"error": "bad_verification_code", "error_description": "The code is incorrect."})
    with pytest.raises(ExchangeFailed, match="bad_verification_code"):
        await sign_in(internet, "github")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"access_token":17}', b'{"access_token":""}', b"\xff"])
async def test_a_useless_token_answer_is_a_failure(body: bytes, internet: Internet) -> None:
    internet.on("POST", "https://gitlab.com/oauth/token", Reply(body))
    client = built_in_client("gitlab", settings(), "https://api.example.com")
    if body == b'{"access_token":17}':
        assert (await exchange_code(internet, client, "c")).access_token == "17"
        return
    with pytest.raises(ExchangeFailed):
        await exchange_code(internet, client, "c")


@pytest.mark.parametrize("case", EXCHANGES, ids=lambda case: case.name)
async def test_a_page_without_a_person_is_unusable(case: Exchange, internet: Internet) -> None:
    """Whatever shape comes instead of the documented one, nobody is signed in and nothing else breaks."""
    internet.say("POST", case.token_url, BEARER)
    for strange in STRANGE:
        for url in case.pages:
            internet.say("GET", url, strange)
        with pytest.raises(ProfileUnusable):
            await sign_in(internet, case.name, case.url)


async def test_a_provider_that_fails_is_a_fault(internet: Internet) -> None:
    internet.say("POST", "https://gitlab.com/oauth/token", BEARER)
    internet.say("GET", "https://gitlab.com/api/v4/user", {"message": "401 Unauthorized"}, 401)
    with pytest.raises(OidcFault, match="returned 401"):
        await sign_in(internet, "gitlab")


ID_TOKENS: list[tuple[str, str, str, dict[str, Any], tuple[ProviderEmail, ...], dict[str, Any]]] = [
    (
        "apple",
        "https://appleid.apple.com",
        "https://appleid.apple.com/auth/token",
        {"sub": "001473.fe4", "email": "a@privaterelay.example", "email_verified": "true", "is_private_email": "true"},
        (ProviderEmail("a@privaterelay.example", True),),
        {"iss": "https://appleid.apple.com", "custom_claims": {"is_private_email": True}},
    ),
    (
        "azure",
        "https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0",
        "https://login.microsoftonline.com/common/oauth2/v2.0/token",
        {"sub": "AAAA", "name": "Abe", "preferred_username": "abe@example.com", "email": "abe@example.com", "tid": "t"},
        (ProviderEmail("abe@example.com", True),),
        {"full_name": "Abe", "custom_claims": {"email": "abe@example.com", "tid": "t"}},
    ),
    (
        "google",
        "https://accounts.google.com",
        "https://oauth2.googleapis.com/token",
        {"sub": "1101", "email": "g@example.com", "email_verified": True, "name": "G", "hd": "example.com"},
        (ProviderEmail("g@example.com", True),),
        {"iss": "https://accounts.google.com", "full_name": "G", "custom_claims": {"hd": "example.com"}},
    ),
    (
        "linkedin_oidc",
        "https://www.linkedin.com/oauth",
        "https://api.linkedin.com/oauth/v2/accessToken",
        {
            "sub": "782bbtaQ",
            "given_name": "John",
            "family_name": "Doe",
            "locale": "en_US",
            "email": "doe@example.com",
            "email_verified": "true",
            "picture": "https://media.example/p.jpg",
        },
        (ProviderEmail("doe@example.com", True),),
        {"name": "John Doe", "given_name": "John", "locale": "en_US", "picture": "https://media.example/p.jpg"},
    ),
    (
        "vercel_marketplace",
        "https://marketplace.vercel.com",
        "https://api.vercel.com/oauth/v2/accessToken",
        {
            "sub": "account:1:user:2",
            "global_user_id": "g2",
            "user_email": "v@example.com",
            "user_name": "V",
            "user_avatar_url": "https://vercel.example/v.png",
        },
        (ProviderEmail("v@example.com", True),),
        {"sub": "global_user_id:g2", "name": "V", "picture": "https://vercel.example/v.png"},
    ),
]


@pytest.mark.parametrize(
    ("name", "issuer", "token_url", "claims", "emails", "kept"), ID_TOKENS, ids=[row[0] for row in ID_TOKENS]
)
async def test_an_exchange_with_an_id_token(
    name: str,
    issuer: str,
    token_url: str,
    claims: dict[str, Any],
    emails: tuple[ProviderEmail, ...],
    kept: dict[str, Any],
    internet: Internet,
) -> None:
    signer = Issuer(internet, issuer)
    good = signer.sign(aud="our id", at_hash=at_hash("provider-token"), **claims)
    internet.say("POST", token_url, {**BEARER, "id_token": good})
    profile = await sign_in(internet, name)
    assert profile.emails == emails
    assert {key: profile.claims.get(key) for key in kept} == kept
    expect_client_proof(name, internet.calls(token_url)[0], "")

    for bad in (
        signer.sign(aud="another id", **claims),
        signer.sign(aud="our id", at_hash=at_hash("another token"), **claims),
        signer.sign(aud="our id", exp=int(now().timestamp()) - 1, **claims),
        signer.sign(aud="our id", **{**claims, "iss": "https://evil.example"}),
        good[:-8] + "AAAAAAAA",
        "not.a.token",
    ):
        internet.say("POST", token_url, {**BEARER, "id_token": bad})
        with pytest.raises(OidcFault):
            await sign_in(internet, name)
    if SPECS[name].id_token is IdToken.REQUIRED:
        internet.say("POST", token_url, BEARER)
        with pytest.raises(ProfileUnusable):
            await sign_in(internet, name)


async def test_apple_asks_for_a_form_post() -> None:
    client = built_in_client("apple", settings("https://ignored.example"), "https://api.example.com")
    shown = urlsplit(consent_url(client, "s", {}))
    assert shown.netloc == "appleid.apple.com"
    assert parse_qs(shown.query)["response_mode"] == ["form_post"]
    assert parse_qs(shown.query)["scope"] == ["email name"]


@pytest.mark.parametrize(
    ("url", "issuer", "accepted"),
    [
        ("", "https://login.microsoftonline.com/t1/v2.0", True),
        ("", "https://tenant.ciamlogin.com/t1/v2.0", False),
        ("", "https://login.microsoftonline.com.evil.example/t1/v2.0", False),
        ("https://login.microsoftonline.com/t1", "https://login.microsoftonline.com/t1/v2.0", True),
        ("https://login.microsoftonline.com/t1", "https://login.microsoftonline.com/t2/v2.0", False),
        ("https://login.microsoftonline.com/organizations", "https://login.microsoftonline.com/t2/v2.0", True),
        ("https://tenant.ciamlogin.com/t1", "https://tenant.ciamlogin.com/t1/v2.0", True),
        ("https://tenant.ciamlogin.com/t1", "https://login.microsoftonline.com/t1/v2.0", False),
    ],
)
async def test_azure_tenants(url: str, issuer: str, accepted: bool, internet: Internet) -> None:
    signer = Issuer(internet, issuer)
    base = url or "https://login.microsoftonline.com/common"
    token = signer.sign(aud="our id", sub="1", email="a@example.com")
    internet.say("POST", f"{base}/oauth2/v2.0/token", {**BEARER, "id_token": token})
    if accepted:
        assert (await sign_in(internet, "azure", url)).subject == "1"
    else:
        with pytest.raises(OidcFault, match="azure"):
            await sign_in(internet, "azure", url)


@pytest.mark.parametrize(
    ("edov", "verified"),
    [(None, True), (True, True), ("1", True), ("true", True), (False, False), ("0", False), (2, False)],
)
async def test_azure_tells_whether_an_address_is_proven(edov: object, verified: bool, internet: Internet) -> None:
    signer = Issuer(internet, "https://login.microsoftonline.com/t1/v2.0")
    token = signer.sign(aud="our id", sub="1", email="a@example.com", xms_edov=edov)
    url = "https://login.microsoftonline.com/common/oauth2/v2.0/token"
    internet.say("POST", url, {**BEARER, "id_token": token})
    assert (await sign_in(internet, "azure")).emails == (ProviderEmail("a@example.com", verified),)


async def test_twitter_speaks_oauth_1(internet: Internet) -> None:
    internet.on(
        "POST",
        "https://api.twitter.com/oauth/request_token",
        Reply(b"oauth_token=req-token&oauth_token_secret=req-secret&oauth_callback_confirmed=true"),
    )
    internet.on(
        "POST",
        "https://api.twitter.com/oauth/access_token",
        Reply(b"oauth_token=acc-token&oauth_token_secret=acc-secret&user_id=38895958&screen_name=theSeanCook"),
    )
    page = "https://api.twitter.com/1.1/account/verify_credentials.json"
    internet.say(
        "GET",
        page,
        {
            "id_str": "38895958",
            "name": "Sean Cook",
            "screen_name": "theSeanCook",
            "profile_image_url_https": "https://si0.twimg.example/s.jpg",
            "email": "sean@example.com",
        },
    )
    client = built_in_client("twitter", settings(), "https://api.example.com/auth/v1")
    where, secret = await request_oauth1_token(internet, client, "the-state")
    assert where == "https://api.twitter.com/oauth/authenticate?oauth_token=req-token"
    assert secret == "req-secret"
    (asked,) = internet.calls("https://api.twitter.com/oauth/request_token")
    assert "https%3A%2F%2Fapi.example.com%2Fauth%2Fv1%2Fcallback%3Fstate%3Dthe-state" in asked.headers["Authorization"]

    tokens = await exchange_oauth1(internet, client, "req-token", "verifier", secret)
    assert tokens.access_token == "acc-token"
    (traded,) = internet.calls("https://api.twitter.com/oauth/access_token")
    assert 'oauth_verifier="verifier"' in traded.headers["Authorization"]
    profile = await read_person(internet, issuers(internet), client, tokens, now())
    assert profile.subject == "38895958"
    assert profile.emails == (ProviderEmail("sean@example.com", True),)
    assert profile.claims["user_name"] == "theSeanCook"
    (call,) = internet.calls(page)
    assert 'oauth_token="acc-token"' in call.headers["Authorization"]
    assert call.query == {"include_entities": "false", "skip_status": "true", "include_email": "true"}

    internet.say("POST", "https://api.twitter.com/oauth/request_token", {"errors": [{"code": 32}]}, 401)
    with pytest.raises(ExchangeFailed):
        await request_oauth1_token(internet, client, "s")
    internet.on("POST", "https://api.twitter.com/oauth/access_token", Reply(b"", 401))
    with pytest.raises(ExchangeFailed):
        await exchange_oauth1(internet, client, "req-token", "wrong", secret)


def test_github_enterprise_and_gitlab_hosts_come_from_the_url() -> None:
    github = built_in_client("github", settings("https://git.corp.example"), "https://a.example")
    assert github.authorize_url == "https://git.corp.example/login/oauth/authorize"
    assert github.api_host == "https://git.corp.example/api/v3"
    gitlab = built_in_client("gitlab", settings("https://lab.corp.example/"), "https://a.example")
    assert gitlab.token_url == "https://lab.corp.example/oauth/token"


def test_an_application_may_ask_for_more_scopes() -> None:
    client = built_in_client("github", settings(), "https://a.example", "repo gist,read:org user:email")
    assert client.scopes == ("user:email", "repo", "gist", "read:org")
    assert built_in_client("zoom", settings(), "https://a.example", "more").scopes == ()


@pytest.mark.parametrize(
    ("name", "changes", "why"),
    [
        ("myspace", {}, "Provider myspace could not be found"),
        ("google", {"enabled": False}, "provider is not enabled"),
        ("google", {"client_ids": ()}, "missing OAuth client ID"),
        ("google", {"secret": ""}, "missing OAuth secret"),
        ("keycloak", {}, "unable to find URL for the keycloak provider"),
    ],
)
def test_a_provider_that_is_off_says_why(name: str, changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ProviderUnavailable, match=why):
        built_in_client(name, settings(**changes), "https://a.example")


@pytest.mark.parametrize(
    ("image", "discriminator", "address"),
    [
        ("a_1", "0", "https://cdn.discordapp.com/avatars/7/a_1.gif"),
        (None, "1337", "https://cdn.discordapp.com/embed/avatars/2.png"),
        (None, "", "https://cdn.discordapp.com/embed/avatars/0.png"),
        (None, "abc", "https://cdn.discordapp.com/embed/avatars/0.png"),
    ],
)
async def test_discord_avatars(image: str | None, discriminator: str, address: str, internet: Internet) -> None:
    internet.say("POST", "https://discord.com/api/oauth2/token", BEARER)
    person = {"id": "7", "username": "n", "discriminator": discriminator, "avatar": image}
    internet.say("GET", "https://discord.com/api/users/@me", person)
    assert (await sign_in(internet, "discord")).claims["picture"] == address


@pytest.mark.parametrize(
    ("login_type", "verified", "proven"), [(100, 0, False), (100, 1, True), (1, 0, True), (100, None, False)]
)
async def test_zoom_addresses(login_type: int, verified: int | None, proven: bool, internet: Internet) -> None:
    internet.say("POST", "https://zoom.us/oauth/token", BEARER)
    person = {"id": "1", "email": "z@example.com", "login_type": login_type, "verified": verified}
    internet.say("GET", "https://api.zoom.us/v2/users/me", person)
    assert (await sign_in(internet, "zoom")).emails == (ProviderEmail("z@example.com", proven),)
