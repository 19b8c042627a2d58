"""Who calls, and the settings that tell PostgreSQL so (contract rest.md §13)."""

from __future__ import annotations

import dataclasses
import json

import pytest

from socle_platform.identity import Identity, RequestFacts, identity_settings, quote_identifier, render_search_path


def test_a_caller_without_a_token() -> None:
    who = Identity.anonymous()
    assert (who.role, who.subject, who.token) == ("anon", None, None)
    assert json.loads(who.claims_json) == dict(who.claims) == {"role": "anon"}
    assert Identity.anonymous("web").role == "web"
    assert json.loads(Identity.anonymous('odd"role').claims_json) == {"role": 'odd"role'}
    assert Identity.service().role == "service_role"


def test_identities_are_frozen_and_keep_their_token_out_of_sight() -> None:
    who = Identity("authenticated", "u", {}, "{}", "secret-token")
    with pytest.raises(dataclasses.FrozenInstanceError):
        who.role = "service_role"  # type: ignore[misc]  # the point of the test
    assert "secret-token" not in repr(who)


def test_the_settings_and_their_order() -> None:
    who = Identity("authenticated", "u", {}, '{"role":"authenticated","sub":"u"}')
    facts = RequestFacts("POST", "/things", '{"accept":"*/*"}', '{"a":"b"}')
    settings = identity_settings(
        who,
        facts,
        ("api", 'odd"schema'),
        {"timezone": "Europe/Paris", "app.settings.x": "1"},
        role_settings={"statement_timeout": "3s"},
    )
    assert settings == (
        ("search_path", '"api", "odd""schema"'),
        ("statement_timeout", "3s"),
        ("role", "authenticated"),
        ("request.jwt.claims", '{"role":"authenticated","sub":"u"}'),
        ("request.method", "POST"),
        ("request.path", "/things"),
        ("request.headers", '{"accept":"*/*"}'),
        ("request.cookies", '{"a":"b"}'),
        ("timezone", "Europe/Paris"),
        ("app.settings.x", "1"),
    )


def test_quoting() -> None:
    assert quote_identifier('a"; drop table x; --') == '"a""; drop table x; --"'
    assert render_search_path(()) == ""
