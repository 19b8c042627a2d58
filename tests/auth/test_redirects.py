"""The redirect allow-list (contracts/auth.md §4.6) and the choice among candidates (§1.11)."""

from __future__ import annotations

import pytest

from harness.auth_site import AuthSite, changed, open_site
from socle_auth.redirects import BadPattern, RedirectRules, compile_pattern, error_parameters, with_fragment, with_query
from socle_platform.config.reader import ConfigError
from socle_platform.db import Database

SITE_URL = "https://app.example.com"
LIST = (
    "https://other.example.com/callback",
    "https://*.preview.example.com",
    "https://*.deep.example.com/**",
    "http://localhost:*/auth/**",
    "https://shop.example.com/p?ge/[a-c]/{one,two}",
    "https://files.example.com/[!x]",
    "https://star.example.com/*",
    "https://query.example.com/cb?next=*",
    "com.app://login",
    "exp://**",
    "myapp:/home",
    "https://escaped.example.com/\\*",
    "https://пример.example/**",
    "http://10.0.0.5/**",
    "http://2130706433/**",
    "http://127.1/**",
    "http://0177.0.0.1/**",
)

TABLE: tuple[tuple[str, bool], ...] = (
    # the site itself
    ("https://app.example.com", True),
    ("https://app.example.com/", True),
    ("https://app.example.com/any/path?x=1#frag", True),
    ("https://app.example.com:443/", True),
    ("https://app.example.com:8443/", False),
    ("http://app.example.com/", False),
    ("HTTPS://APP.EXAMPLE.COM/x", True),
    ("https://app.example.com.evil.com/", False),
    ("https://evil.com/app.example.com", False),
    ("https://app.example.com@evil.com/", False),
    ("https://user:pass@app.example.com/", False),
    ("https://evil.com\\@app.example.com/", False),
    ("https://evil.com#@app.example.com/", False),
    ("https://evil.com?@app.example.com/", False),
    ("https:///app.example.com", False),
    ("https:app.example.com", False),
    ("//app.example.com/", False),
    ("/relative", False),
    ("app.example.com", False),
    ("", False),
    (" https://app.example.com", False),
    ("https://app.example.com\r\nSet-Cookie: a=b", False),
    ("https://app.example.com/\x00", False),
    ("https://app.example.com/\tx", False),
    ("https://app.example.com:port/", False),
    ("https://app.example.com:99999/", False),
    # listed
    ("https://other.example.com/callback", True),
    ("https://other.example.com/callback#state", True),
    ("https://other.example.com/callback?x=1", False),
    ("https://other.example.com/callback/", False),
    ("https://other.example.com/callback?sb_flow_id=abc", True),
    ("https://other.example.com/callback?x=1&sb_flow_id=abc", False),
    ("https://a.preview.example.com", True),
    ("https://a.b.preview.example.com", False),
    ("https://evil.com/.preview.example.com", False),
    ("https://evil.com?.preview.example.com", False),
    ("https://a.deep.example.com/b/c.d/e", True),
    ("http://localhost:5173/auth/x/y", True),
    ("http://localhost:5173/other", False),
    ("https://shop.example.com/page/a/one", True),
    ("https://shop.example.com/page/d/one", False),
    ("https://shop.example.com/page/b/three", False),
    ("https://shop.example.com/p/ge/b/two", False),
    ("https://files.example.com/a", True),
    ("https://files.example.com/x", False),
    ("https://star.example.com/a", True),
    ("https://star.example.com/a/b", False),
    ("https://star.example.com/a.b", False),
    ("https://query.example.com/cb?next=home", True),
    ("https://query.example.com/cb", False),
    ("https://escaped.example.com/*", True),
    ("https://escaped.example.com/a", False),
    # custom schemes
    ("com.app://login", True),
    ("com.app://login#x", True),
    ("com.app://logout", False),
    ("exp://192.168.0.5:19000/--/x", False),
    ("exp://host/--/x", True),
    ("myapp:/home", True),
    ("javascript:alert(1)", False),
    ("data:text/html,x", False),
    # addresses
    ("http://10.0.0.5/x", False),
    ("http://2130706433/x", False),
    ("http://[::1]:9000/x", True),
    ("http://127.0.0.1:5173/x", True),
    ("http://0177.0.0.1/x", False),
    ("http://127.1/x", False),
    ("http://[2001:db8::1]:9000/x", False),
    ("https://пример.example/x", False),
    ("https://a_b.deep.example.com/x", False),
    ("https://-a.deep.example.com/x", False),
)


def test_the_table_is_long() -> None:
    assert len(TABLE) >= 60


@pytest.mark.parametrize(("url", "allowed"), TABLE)
def test_a_redirect_is_allowed_or_refused(url: str, allowed: bool) -> None:
    assert RedirectRules.of(SITE_URL, LIST).allows(url) is allowed


@pytest.mark.parametrize(
    ("site", "url", "allowed"),
    [
        ("http://localhost:3000", "http://localhost:5173/x", True),
        ("http://127.0.0.1:3000", "http://127.0.0.1:1/x", True),
        ("http://[::1]:3000", "http://[::1]:4000", True),
        ("http://localhost:3000", "https://localhost:3000", False),
        ("http://localhost:3000", "http://127.0.0.1:3000", True),
        ("http://localhost:3000", "http://example.com:3000", False),
        ("myapp://", "myapp://anywhere", False),
        ("myapp://home", "myapp://home/x", True),
    ],
)
def test_loopback_sites_may_use_any_port(site: str, url: str, allowed: bool) -> None:
    assert RedirectRules.of(site, ()).allows(url) is allowed


def test_anything_goes_only_where_the_list_says_so() -> None:
    everything = RedirectRules.of(SITE_URL, ("**",))
    assert everything.allows("https://anywhere.example.org/x")
    assert not everything.allows("javascript:alert(1)")
    assert not everything.allows("http://10.1.2.3/")


@pytest.mark.parametrize("pattern", ["https://x/{a,b", "https://x/[ab", "https://x/[]", "https://x/[z-a]", "x\\"])
def test_a_bad_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(BadPattern):
        compile_pattern(pattern)


async def test_a_bad_pattern_stops_the_start(database: Database) -> None:
    with pytest.raises(ConfigError, match="GOTRUE_URI_ALLOW_LIST"):
        async with open_site(database, changed(uri_allow_list=("https://x/{a",))):
            pass


@pytest.mark.parametrize(
    ("header", "query", "form", "referer", "chosen"),
    [
        ("", "https://app.example.com/q", "", "", "https://app.example.com/q"),
        ("", "", "", "https://app.example.com/r", "https://app.example.com/r"),
        ("", "https://evil.com", "", "https://app.example.com/r", "https://app.example.com/r"),
        ("https://app.example.com/h", "https://app.example.com/q", "", "", "https://app.example.com/h"),
        ("https://evil.com", "https://app.example.com/q", "", "https://app.example.com/r", "https://app.example.com/r"),
        ("https://evil.com", "https://app.example.com/q", "", "", "http://localhost:3000"),
        ("", "https://evil.com", "", "https://evil.com", "http://localhost:3000"),
        ("", "", "", "", "http://localhost:3000"),
    ],
)
async def test_the_first_allowed_candidate_wins(
    site: AuthSite, header: str, query: str, form: str, referer: str, chosen: str
) -> None:
    headers = {name: value for name, value in (("redirect_to", header), ("referer", referer)) if value}
    await site.create_user()
    await site.post(
        "/recover" + (f"?redirect_to={query}" if query else ""), {"email": "ada@example.com"}, headers=headers
    )
    assert site.outbox.link_parameters()["redirect_to"] == chosen


def test_addresses_are_built_in_order() -> None:
    assert with_query("https://x/a?b=2&code=old", code="new") == "https://x/a?b=2&code=new"
    assert with_fragment("https://x/a#old", z="a b", a="é") == "https://x/a#a=%C3%A9&sb=&z=a+b"
    assert error_parameters(422, "c", "m") == {"error_code": "c", "error_description": "m"}
    assert error_parameters(403, "c", "m")["error"] == "access_denied"
