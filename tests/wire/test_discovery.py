"""Discovery where clients of an issuer with a path look for it (RFC 8414 §3.1): at the root of the host."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from socle_app.testing import ProjectTemplate, TestPlatform

DOCUMENTS = ("oauth-authorization-server", "openid-configuration")


@pytest.fixture
def authorizing(dedicace: ProjectTemplate) -> Iterator[TestPlatform]:
    """A platform whose OAuth server is on."""
    with dedicace.platform({"GOTRUE_OAUTH_SERVER_ENABLED": "true"}) as running:
        yield running


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_root_says_what_the_service_says(authorizing: TestPlatform, document: str) -> None:
    with httpx.Client(base_url=authorizing.url) as http:
        at_the_root = http.get(f"/.well-known/{document}/auth/v1")
        at_the_service = http.get(f"/auth/v1/.well-known/{document}")
        assert at_the_root.status_code == 200
        assert at_the_root.json() == at_the_service.json()
        assert at_the_root.json()["issuer"] == f"{authorizing.url}/auth/v1"
        assert at_the_root.headers["access-control-allow-origin"] == "*"
        assert at_the_root.headers["cache-control"] == "public, max-age=600"
        assert http.get(at_the_root.json()["jwks_uri"]).json() == {"keys": []}
        head = http.head(f"/.well-known/{document}/auth/v1")
        assert (head.status_code, head.content) == (200, b"")
        assert http.post(f"/.well-known/{document}/auth/v1").status_code == 405


def test_a_server_that_is_off_says_so_at_the_root_too(platform: TestPlatform) -> None:
    answer = httpx.get(f"{platform.url}/.well-known/oauth-authorization-server/auth/v1")
    assert answer.status_code == 404
    assert answer.json()["error_code"] == "feature_disabled"


@pytest.mark.parametrize("path", ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration/x"])
def test_nothing_else_is_found_at_the_root(platform: TestPlatform, path: str) -> None:
    assert httpx.get(f"{platform.url}{path}").status_code == 404
