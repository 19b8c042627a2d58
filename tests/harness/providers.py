"""A sign-in provider that a test shapes: GitHub's endpoints, with whatever person and addresses the test wants."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import httpx

from harness.auth_site import AuthSite, query_of
from harness.internet import Internet

_numbers = itertools.count(1000)


@dataclass
class GitHubPerson:
    """What GitHub says: addresses are (address, verified, primary)."""

    emails: list[tuple[str, bool, bool]] = field(default_factory=list[tuple[str, bool, bool]])
    id: int = field(default_factory=lambda: next(_numbers))
    login: str = "octocat"
    name: str = "The Octocat"

    def publish(self, internet: Internet) -> None:
        internet.say(
            "POST",
            "https://github.com/login/oauth/access_token",
            {"access_token": f"gh-access-{self.id}", "refresh_token": f"gh-refresh-{self.id}", "token_type": "bearer"},
        )
        internet.say(
            "GET",
            "https://api.github.com/user",
            {"id": self.id, "login": self.login, "name": self.name, "avatar_url": "https://avatars.example/u"},
        )
        internet.say(
            "GET",
            "https://api.github.com/user/emails",
            [{"email": email, "verified": verified, "primary": primary} for email, verified, primary in self.emails],
        )


def person(email: str, *, verified: bool = True, **more: Any) -> GitHubPerson:
    return GitHubPerson([(email, verified, True)], **more)


async def begin(site: AuthSite, provider: str = "github", **query: str) -> str:
    """The state that /authorize sends to the provider."""
    answer = await site.get("/authorize?" + urlencode({"provider": provider, **query}))
    assert answer.status_code == 302, answer.text
    return query_of(answer.headers["location"])["state"]


async def come_back(site: AuthSite, state: str, **query: str) -> httpx.Response:
    """The provider sends the browser to /callback."""
    return await site.get("/callback?" + urlencode({"state": state, "code": "the-code", **query}))


async def arrive(site: AuthSite, internet: Internet, who: GitHubPerson, **query: str) -> str:
    """The whole way, as a browser goes it; gives the address it ends at."""
    who.publish(internet)
    answer = await come_back(site, await begin(site, **query))
    assert answer.status_code == 302, answer.text
    location: str = answer.headers["location"]
    return location
