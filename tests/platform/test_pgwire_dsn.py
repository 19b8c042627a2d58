"""Connection strings as libpq reads them."""

from __future__ import annotations

import contextlib
import getpass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socle_platform.pgwire.dsn import Address, DsnInvalid, parse_dsn


@pytest.mark.parametrize(
    ("dsn", "addresses", "user", "password", "database"),
    [
        ("postgresql://", [("/var/run/postgresql", 5432)], "<me>", "", "<me>"),
        ("postgresql://localhost", [("localhost", 5432)], "<me>", "", "<me>"),
        ("postgres://u@h:5433/d", [("h", 5433)], "u", "", "d"),
        ("postgresql://u:p@h/", [("h", 5432)], "u", "p", "u"),
        ("postgresql://u:p%40%3A%2F%20w@h/d%20b", [("h", 5432)], "u", "p@:/ w", "d b"),
        ("postgresql://u:p@w@h/d", [("h", 5432)], "u", "p@w", "d"),
        ("postgresql://[::1]:6000/d", [("::1", 6000)], "<me>", "", "d"),
        ("postgresql://a:1,b:2,c/d?user=x", [("a", 1), ("b", 2), ("c", 5432)], "x", "", "d"),
        ("postgresql:///d?host=/tmp/pg&port=22000", [("/tmp/pg", 22000)], "<me>", "", "d"),
        ("postgresql://%2Ftmp%2Fpg:7/d", [("/tmp/pg", 7)], "<me>", "", "d"),
        ("host=h port=1 dbname=d user=u password='a b\\'c'", [("h", 1)], "u", "a b'c", "d"),
        ("host = h user=u password=a\\ b", [("h", 5432)], "u", "a b", "u"),
        ("host=a,b port=5", [("a", 5), ("b", 5)], "<me>", "", "<me>"),
        ("hostaddr=10.0.0.1 host=name", [("10.0.0.1", 5432)], "<me>", "", "<me>"),
        ("", [("/var/run/postgresql", 5432)], "<me>", "", "<me>"),
    ],
)
def test_addresses(dsn: str, addresses: list[tuple[str, int]], user: str, password: str, database: str) -> None:
    target = parse_dsn(dsn)
    assert [(address.host, address.port) for address in target.addresses] == addresses
    me = getpass.getuser() if user == "<me>" else user
    assert (target.user, target.password, target.database) == (me, password, database.replace("<me>", me))


def test_parameters_of_the_query_part() -> None:
    target = parse_dsn(
        "postgresql://h/d?sslmode=verify-full&sslrootcert=/ca.pem&application_name=my%20app&connect_timeout=3"
        "&options=-c%20statement_timeout%3D5s&options=-c%20geqo%3Doff&replication=database&target_session_attrs=primary"
        "&keepalives_idle=10"
    )
    assert (target.tls.mode, target.tls.root, target.connect_timeout) == ("verify-full", "/ca.pem", 3.0)
    assert dict(target.parameters) == {
        "application_name": "my app",
        "options": "-c statement_timeout=5s -c geqo=off",
        "replication": "database",
    }
    assert target.session == "primary"
    assert parse_dsn("postgresql://h/?ssl=true").tls.mode == "require"
    assert parse_dsn("postgresql://h/?sslrootcert=system").tls.mode == "verify-full"


def test_the_certificate_name_of_a_numeric_address() -> None:
    target = parse_dsn("host=db.example.com hostaddr=10.0.0.1")
    assert target.addresses == (Address("10.0.0.1", 5432, "db.example.com"),)


def test_socket_paths() -> None:
    assert parse_dsn("host=/run/pg port=7").addresses[0].socket_path == "/run/pg/.s.PGSQL.7"
    assert parse_dsn("host=@pg").addresses[0].socket_path == "\0pg/.s.PGSQL.5432"
    assert parse_dsn("host=h").addresses[0].socket_path is None


def test_environment_fills_what_is_open() -> None:
    environ = {"PGHOST": "envhost", "PGPORT": "7", "PGUSER": "envuser", "PGPASSWORD": "pw", "PGSSLMODE": "require"}
    target = parse_dsn("dbname=d", environ)
    assert (target.addresses[0].host, target.user, target.password) == ("envhost", "envuser", "pw")
    assert target.tls.mode == "require"
    given_host = parse_dsn("postgresql://h/d", environ)
    assert (given_host.addresses[0].host, given_host.addresses[0].port) == ("h", 7)


def test_defaults_are_only_defaults() -> None:
    target = parse_dsn("host=h application_name=mine").with_defaults(application_name="socle", connect_timeout=4)
    assert (target.parameters["application_name"], target.connect_timeout) == ("mine", 4)
    assert parse_dsn("").with_defaults(application_name="socle", connect_timeout=4).parameters == {
        "application_name": "socle"
    }


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://h/d?nonsense=1",
        "postgresql://h/d?sslmode=maybe",
        "postgresql://h/d?sslmode",
        "postgresql://h:99999/d",
        "postgresql://h:abc/d",
        "postgresql://u:%zz@h/d",
        "postgresql://u:%ff@h/d",
        "postgresql://u:%00@h/d",
        "postgresql://[::1/d",
        "host",
        "host=h port=1,2",
        "nonsense=1",
        "host='h",
        "host=h connect_timeout=soon",
        "host=h target_session_attrs=best",
        "host=h channel_binding=require",
        "https://example.com/secretpassword",
    ],
)
def test_what_cannot_be_read_is_said_without_repeating_it(dsn: str) -> None:
    with pytest.raises(DsnInvalid) as caught:
        parse_dsn(dsn)
    assert "secretpassword" not in caught.value.message
    assert "%zz" not in caught.value.message


def test_passwords_stay_out_of_representations() -> None:
    assert "hunter2" not in repr(parse_dsn("postgresql://u:hunter2@h/d"))


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_invalid(text: str) -> None:
    for dsn in (text, "postgresql://" + text, "host=" + text):
        with contextlib.suppress(DsnInvalid):
            assert parse_dsn(dsn).addresses
