"""Users in from Supabase, Firebase and Auth0, and out again (issue, «import/export»)."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from pyotp.totp import TOTP
from typer.testing import CliRunner

from harness.auth_site import PASSWORD, AuthSite
from harness.postgres import TestServer
from socle_app.cli import app
from socle_auth.transfer.moving import Tally, export_people, import_people
from socle_auth.transfer.people import NotAPerson, Person, parse_time, row_of, stable_id
from socle_auth.transfer.sources import FirebaseHash, guess_source, read_people
from socle_platform.db import Database

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
HASH = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
ADA = "11111111-1111-4111-8111-111111111111"
BOB = "22222222-2222-4222-8222-222222222222"
NO_KEY = FirebaseHash()


def people_of(path: Path, firebase: FirebaseHash = NO_KEY) -> list[Person]:
    found = list(read_people(path, guess_source(path), firebase))
    assert all(isinstance(person, Person) for person in found), found
    return [person for person in found if isinstance(person, Person)]


def write(folder: Path, name: str, content: Any) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


COPY = f"""SET statement_timeout = 0;
COPY auth.identities (provider_id, user_id, identity_data, provider, last_sign_in_at, created_at, updated_at, id) FROM stdin;
{ADA}\t{ADA}\t{{"sub": "{ADA}", "email": "ada@example.com"}}\temail\t\\N\t\\N\t\\N\t33333333-3333-4333-8333-333333333333
\\.
COPY auth.users (id, email, encrypted_password, email_confirmed_at, raw_app_meta_data, raw_user_meta_data, phone, is_sso_user, created_at) FROM stdin;
{ADA}\tada@example.com\t{HASH}\t2025-01-01 00:00:00+00\t{{"provider": "email"}}\t{{"name": "A\\\\tB"}}\t\\N\tf\t2025-01-01 00:00:00+00
\\.
COPY public.notes (id) FROM stdin;
1
\\.
"""  # noqa: E501
INSERT = f"""INSERT INTO "auth"."users" ("id", "email", "encrypted_password", "email_confirmed_at", "raw_app_meta_data", "raw_user_meta_data", "phone", "confirmed_at", "is_sso_user") VALUES
\t('{ADA}', 'ada@example.com', '{HASH}', '2025-01-01 00:00:00+00', '{{"provider": "email"}}', '{{"name": "O''Hara, (Ada);",\n"x": 1}}', NULL, DEFAULT, false),
\t('{BOB}', 'bob@example.com', '{HASH}', NULL, NULL, NULL, '15550101234', DEFAULT, false);
INSERT INTO "public"."notes" ("id") VALUES (1);
"""  # noqa: E501


def test_a_dump_with_copy(tmp_path: Path) -> None:
    (ada,) = people_of(write(tmp_path, "dump.sql", COPY))
    assert (ada.id, ada.email, ada.phone, ada.password_hash) == (ADA, "ada@example.com", "", HASH)
    assert ada.user_metadata == {"name": "A\tB"}
    assert ada.email_confirmed_at == datetime(2025, 1, 1, tzinfo=UTC)
    (identity,) = ada.identities
    assert (identity.provider, identity.id) == ("email", "33333333-3333-4333-8333-333333333333")


def test_a_dump_with_insert(tmp_path: Path) -> None:
    ada, bob = people_of(write(tmp_path, "dump.sql", INSERT))
    assert ada.user_metadata == {"name": "O'Hara, (Ada);", "x": 1}
    assert (bob.email, bob.phone, bob.email_confirmed_at) == ("bob@example.com", "15550101234", None)


def test_users_of_the_admin_api(tmp_path: Path) -> None:
    user = {
        "id": ADA,
        "email": "ada@example.com",
        "app_metadata": {"provider": "github", "providers": ["github"]},
        "user_metadata": {"name": "Ada"},
        "identities": [{"identity_id": BOB, "id": "7", "provider": "github", "identity_data": {"sub": "7"}}],
    }
    (ada,) = people_of(write(tmp_path, "users.json", {"users": [user], "aud": "authenticated"}))
    assert (ada.identities[0].provider_id, ada.identities[0].id) == ("7", BOB)
    assert row_of(ada, NOW)["raw_app_meta_data"]["providers"] == ["github"]


FIREBASE = {
    "users": [
        {
            "localId": "abc",
            "email": "ada@example.com",
            "emailVerified": True,
            "passwordHash": "lSrfV15cpx95_sZS2W9c9Kp6i_LVgQNDNC_qzrCnh1SAyZvqmZqAjTdn3aoItz-VHjoZilo78198JAdRuid5lQ==",
            "salt": "42xEC-ixf3L2lw==",
            "displayName": "Ada",
            "createdAt": "1486324200000",
            "providerUserInfo": [{"providerId": "google.com", "rawId": "g1", "email": "ada@example.com"}],
            "customAttributes": '{"plan":"pro"}',
        },
        {"localId": "def", "phoneNumber": "+15550101234", "disabled": True},
        {"localId": "ghi"},
    ]
}


def test_firebase(tmp_path: Path) -> None:
    parameters = FirebaseHash(
        "jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUECKbm0QsEmYUSDzZvpjeJ9WmXA==", "Bw=="
    )
    ada, phone, nobody = people_of(write(tmp_path, "users.json", FIREBASE), parameters)
    assert ada.password_hash.startswith("$fbscrypt$v=1,n=14,r=8,p=1,ss=Bw==,sk=jxspr8")
    assert "-" not in ada.password_hash.rpartition("$")[2]
    assert ada.id == stable_id("firebase", "abc")
    assert [identity.provider for identity in ada.identities] == ["email", "google"]
    assert ada.created_at == datetime(2017, 2, 5, 19, 50, tzinfo=UTC)
    row = row_of(ada, NOW)
    assert row["raw_app_meta_data"] == {"provider": "email", "providers": ["email", "google"], "plan": "pro"}
    assert row_of(phone, NOW)["phone"] == "15550101234"
    assert phone.banned_until is not None
    assert nobody.is_anonymous
    (problem, *_) = read_people(tmp_path / "users.json", "firebase", NO_KEY)
    assert isinstance(problem, NotAPerson)
    assert "--firebase-signer-key" in str(problem)


def test_auth0(tmp_path: Path) -> None:
    lines = [
        {
            "user_id": "auth0|5f",
            "email": "ada@example.com",
            "email_verified": True,
            "name": "Ada",
            "passwordHash": HASH,
        },
        {
            "user_id": "google-oauth2|99",
            "email": "bob@example.com",
            "identities": [{"provider": "google-oauth2", "user_id": "99"}],
        },
    ]
    path = write(tmp_path, "auth0.ndjson", "\n".join(json.dumps(line) for line in lines))
    ada, bob = people_of(path)
    assert (ada.password_hash, ada.identities[0].provider) == (HASH, "email")
    assert (bob.identities[0].provider, bob.identities[0].provider_id) == ("google", "99")
    table = (
        'Id,Email,Email Verified,Name,Created At\nauth0|5f,ada@example.com,true,"Lovelace, Ada",2024-01-01T00:00:00Z\n'
    )
    (again,) = people_of(write(tmp_path, "auth0.csv", table))
    assert again.id == ada.id
    assert again.user_metadata["full_name"] == "Lovelace, Ada"
    assert again.email_confirmed_at == datetime(2024, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("person", "words"),
    [
        (Person("x", ADA), "neither"),
        (Person("x", ADA, email="no address"), "invalid format"),
        (Person("x", ADA, phone="abc"), "phone number"),
        (Person("x", ADA, email="a@example.com", password_hash="md5:abc"), "hash"),
    ],
)
def test_people_that_cannot_be_stored(person: Person, words: str) -> None:
    with pytest.raises(NotAPerson, match=words):
        row_of(person, NOW)


def test_times() -> None:
    assert parse_time("2025-01-01 00:00:00.5+00") == datetime(2025, 1, 1, 0, 0, 0, 500000, tzinfo=UTC)
    assert parse_time("") is None
    with pytest.raises(NotAPerson):
        parse_time("yesterday")


@pytest.mark.parametrize("content", ["hello", "[1, 2", '{"a": 1}'])
def test_files_of_another_kind(tmp_path: Path, content: str) -> None:
    path = write(tmp_path, "x.json", content)
    with pytest.raises(NotAPerson):
        guess_source(path)
    if content != '{"a": 1}':
        with pytest.raises(NotAPerson):
            list(read_people(path, "supabase", NO_KEY))


async def test_who_is_there_is_left_alone(site: AuthSite) -> None:
    taken = (await site.create_user(email="eve@example.com"))["id"]
    ada = Person("line 1", ADA, email="Ada@Example.com", password_hash=HASH, email_confirmed_at=NOW)
    people: list[Person | NotAPerson] = [
        Person("line 0", taken, email="eve@example.com"),
        ada,
        Person("line 2", BOB, email="eve@example.com"),
        Person("line 3", stable_id("x", "3"), email="ada@example.com"),
        NotAPerson("line 4: cannot be read"),
    ]
    tried = await import_people(site.database, people, NOW, dry_run=True)
    assert (tried.stored, tried.present, len(tried.refused)) == (1, 1, 3)
    assert len(await site.rows("select 1 from auth.users")) == 1
    done = await import_people(site.database, people, NOW)
    assert replace(done, refused=()) == replace(tried, refused=())
    assert [text.partition(":")[0] for text in sorted(done.refused)] == ["line 2", "line 3", "line 4"]
    again = await import_people(site.database, people, NOW)
    assert (again.stored, again.present) == (0, 2)
    session = await site.sign_in("ada@example.com")
    assert session["user"]["id"] == ADA
    assert [identity["provider"] for identity in session["user"]["identities"]] == ["email"]
    assert (await site.user_row())["encrypted_password"].startswith("$argon2id$")


async def test_ten_thousand_a_second_is_within_reach(database: Database) -> None:
    """A floor far below the aim of the issue, so that a busy machine passes: bench/ measures it."""

    def crowd() -> Iterator[Person]:
        for number in range(4000):
            yield Person(
                str(number), stable_id("crowd", str(number)), email=f"user{number}@example.com", password_hash=HASH
            )

    started = time.perf_counter()
    tally = await import_people(database, crowd(), NOW)
    assert (tally.stored, tally.refused) == (4000, ())
    assert 4000 / (time.perf_counter() - started) > 500


async def command(*arguments: str) -> tuple[int, str]:
    """One run of the command line, which has an event loop of its own."""
    result = await asyncio.to_thread(CliRunner().invoke, app, ["auth", *arguments])
    return result.exit_code, result.output


async def test_out_and_in_again(site: AuthSite, server: TestServer, database_name: str, tmp_path: Path) -> None:
    await site.signed_in(user_metadata={"a": [None], "b": [1]}, phone="15550101234", phone_confirm=True)
    await site.create_user(email="bob@example.com")
    file = tmp_path / "users.ndjson"
    assert (await command("export", str(file), "--db-url", server.url(database_name)))[0] == 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert (await command("export", str(file), "--db-url", server.url(database_name)))[0] == 1
    kept = ("id", "email", "phone", "encrypted_password", "raw_user_meta_data", "raw_app_meta_data", "created_at")
    users = f"select {', '.join(kept)} from auth.users order by email"
    identities = "select id, provider, identity_data from auth.identities order by id"
    async with server.clone() as other, server.open(other) as there:
        for extra, count in (["--dry-run"], 0), ([], 2), ([], 2):
            code, output = await command("import", str(file), "--db-url", server.url(other), *extra)
            assert code == 0, output
            async with there.as_service("auth") as connection:
                rows, ways = await connection.fetch(users), await connection.fetch(identities)
            assert len(rows) == count
        assert rows == await site.rows(users)
        assert ways == await site.rows(identities)


async def test_bad_files_and_people_end_with_a_sentence(server: TestServer, database_name: str, tmp_path: Path) -> None:
    target = ("--db-url", server.url(database_name))
    assert (await command("import", str(write(tmp_path, "x.json", "hello")), *target))[0] == 1
    assert (await command("import", str(tmp_path / "none.json"), *target))[0] == 2
    path = write(
        tmp_path, "y.json", {"users": [{"id": ADA, "email": "nonsense"}, {"id": BOB, "email": "b@example.com"}]}
    )
    assert (await command("import", str(path), "--from", "okta", *target))[0] == 2
    assert (await command("import", str(path), *target))[0] == 1
    rows = await server_rows(server, database_name)
    assert rows == [BOB]


async def server_rows(server: TestServer, database: str) -> list[str]:
    async with server.open(database) as opened, opened.as_service("auth") as connection:
        return [str(row["id"]) for row in await connection.fetch("select id from auth.users")]


FACTOR = "44444444-4444-4444-8444-444444444444"
PHONE_FACTOR = "55555555-5555-4555-8555-555555555555"
PASSKEY = "66666666-6666-4666-8666-666666666666"
STRONG = f"""COPY auth.mfa_factors (id, user_id, friendly_name, factor_type, status, created_at, updated_at, secret, phone, last_challenged_at, web_authn_credential, web_authn_aaguid, last_webauthn_challenge_data) FROM stdin;
{FACTOR}\t{ADA}\tmy phone\ttotp\tverified\t2025-01-01 00:00:00+00\t2025-01-02 00:00:00+00\tJBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP\t\\N\t2025-01-03 00:00:00+00\t\\N\t\\N\t\\N
{PHONE_FACTOR}\t{ADA}\t\tphone\tverified\t2025-01-01 00:00:00+00\t2025-01-01 00:00:00+00\t\\N\t15550101234\t\\N\t\\N\t\\N\t\\N
\\.
COPY auth.webauthn_credentials (id, user_id, credential_id, public_key, attestation_type, aaguid, sign_count, transports, backup_eligible, backed_up, friendly_name, created_at, updated_at, last_used_at) FROM stdin;
{PASSKEY}\t{ADA}\t\\\\xdeadbeef\t\\\\xa50102\tnone\t\\N\t7\t["internal", "hybrid"]\tt\tf\tLaptop\t2025-01-01 00:00:00+00\t2025-01-01 00:00:00+00\t2025-02-01 00:00:00+00
\\.
"""  # noqa: E501
STRONG_INSERT = f"""INSERT INTO "auth"."mfa_factors" ("id", "user_id", "friendly_name", "factor_type", "status", "created_at", "updated_at", "secret", "phone") VALUES
\t('{FACTOR}', '{ADA}', 'my phone', 'totp', 'verified', '2025-01-01 00:00:00+00', '2025-01-02 00:00:00+00', 'JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP', NULL);
INSERT INTO auth.webauthn_credentials (id, user_id, credential_id, public_key, transports, backup_eligible) VALUES ('{PASSKEY}', '{ADA}', '\\xdeadbeef', '\\xa50102', '[]', true);
"""  # noqa: E501


@pytest.mark.parametrize(
    "dump", [COPY + STRONG, STRONG + COPY, STRONG_INSERT + INSERT], ids=["after", "before", "insert"]
)
async def test_factors_and_passkeys_come_along(site: AuthSite, tmp_path: Path, dump: str) -> None:
    people = people_of(write(tmp_path, "dump.sql", dump))
    tally = await import_people(site.database, people, NOW)
    assert (tally.stored, tally.refused) == (len(people), ())
    session = await site.sign_in("ada@example.com")
    assert FACTOR in [factor["id"] for factor in session["user"]["factors"]]
    token = session["access_token"]
    challenge = (await site.post(f"/factors/{FACTOR}/challenge", token=token)).json()
    code = TOTP("JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP").at(site.clock.now())
    proof = {"challenge_id": challenge["id"], "code": code}
    strong = await site.post(f"/factors/{FACTOR}/verify", proof, token=token)
    assert strong.status_code == 200, strong.text
    passkey = await site.row("select * from auth.webauthn_credentials where user_id = $1", ADA)
    assert (passkey["id"], passkey["credential_id"], passkey["public_key"]) == (
        PASSKEY,
        b"\xde\xad\xbe\xef",
        b"\xa5\1\2",
    )
    assert passkey["backup_eligible"] is True
    assert isinstance(passkey["transports"], list)


async def test_everything_goes_out_and_comes_in(server: TestServer, site: AuthSite, tmp_path: Path) -> None:
    await import_people(site.database, people_of(write(tmp_path, "dump.sql", COPY + STRONG)), NOW)
    await site.run(
        "insert into socle.recovery_codes (user_id, set_id, code_hash, created_at, used_at) "
        "select $1, $2, n::text, now(), case when n = 2 then now() end from generate_series(1, 3) n",
        ADA,
        BOB,
    )
    await site.run(
        """insert into auth.mfa_factors
          (id, user_id, factor_type, status, created_at, updated_at, friendly_name, web_authn_credential)
        values ($1, $2, 'webauthn', 'verified', now(), now(), 'key', '{"id": "x", "flags": null}')""",
        BOB,
        ADA,
    )
    file = tmp_path / "all.ndjson"
    with file.open("w", encoding="utf-8") as out:
        assert await export_people(site.database, out) == 1
    tables = (
        "select * from auth.webauthn_credentials",
        "select id, friendly_name, factor_type, status, created_at, updated_at, secret, phone, web_authn_credential "
        "from auth.mfa_factors order by id",
        "select * from socle.recovery_codes order by code_hash",
    )
    async with server.clone() as other, server.open(other) as there:
        for count in (1, 0):
            assert (await import_people(there, people_of(file), NOW)).stored == count
        for table in tables:
            async with there.as_service("auth") as connection:
                moved = await connection.fetch(table)
            assert moved == await site.rows(table)
            assert moved


def test_a_factor_without_its_secret_stays_behind(tmp_path: Path) -> None:
    """As the admin API shows it; with it, its owner could not sign in any more."""
    shown = {"id": FACTOR, "factor_type": "totp", "status": "verified", "friendly_name": "", "phone": ""}
    (ada,) = people_of(
        write(tmp_path, "users.json", {"users": [{"id": ADA, "email": "a@example.com", "factors": [shown]}]})
    )
    assert ada.factors == ()


async def test_one_bad_row_does_not_hold_up_the_others(site: AuthSite) -> None:
    """Whatever PostgreSQL or a trigger of the project says no to."""
    await site.run(
        """create function auth.refuse() returns trigger language plpgsql as $$
        begin if new.email = 'user7@example.com' then raise exception 'not you'; end if; return new; end $$;"""
    )
    await site.run("create trigger refuse before insert on auth.users for each row execute function auth.refuse()")
    people: list[Person | NotAPerson] = [
        Person(f"line {n}", stable_id("x", str(n)), email=f"user{n}@example.com") for n in range(20)
    ]
    people[3] = Person("line 3", ADA, email="user3@example.com", user_metadata={"text": "a\0b"})
    people[11] = Person("line 11", BOB, email="user11@example.com", role="r" * 300)
    people[12] = Person("line 12", stable_id("x", "12"), email="user12@example.com", user_metadata={"big": 10**30})
    tally = await import_people(site.database, people, NOW)
    assert tally.stored == 17
    assert [text.partition(":")[0] for text in tally.refused] == ["line 3", "line 7", "line 11"]
    assert "not you" in tally.refused[1]
    (big,) = await site.rows("select raw_user_meta_data as data from auth.users where email = 'user12@example.com'")
    assert big["data"] == {"big": 10**30}


async def test_a_large_table_is_planned_for(database: Database) -> None:
    """A plan that was made while the table was empty would look through all of it for each batch."""
    people = (Person(str(n), stable_id("crowd", str(n)), email=f"user{n}@example.com") for n in range(12_000))
    spans: list[float] = []
    last = time.perf_counter()

    def note(_tally: Tally) -> None:
        nonlocal last
        now = time.perf_counter()
        spans.append(now - last)
        last = now

    assert (await import_people(database, people, NOW, progress=note)).stored == 12_000
    assert len(spans) == 12
    assert sorted(spans[8:])[1] < 5 * sorted(spans[:4])[1]
