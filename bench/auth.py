"""Measures auth: reading one's user and refreshing against their statements in pgbench, signing in against argon2.

    .venv/bin/python bench/auth.py [--rounds 5] [--seconds 3] [--write] [--check]

Refreshes are chains: each connection sends the token that its last answer gave. While 8 connections sign in all the
time, one reads single rows by REST in the same process, so that both show whether the password pool holds others up.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher
from page import finish
from record import Goal, Series, arguments, progress, ratio
from rest_peers import http_request, socle
from testbed import ROOT, Site, call, finish_load, load, pgbench, platform, psql, start_load

CONNECTIONS = 16
SIGN_INS = 8
IMPORTED = 50_000
"""Enough for the pace itself to count, and not the command's start."""

HASH = "$2b$10$" + "N9qo8uLOickgx2ZMRZoMye" + "IjZAgcfl7p92ldGxad68LJZdL17lhWy"
PASSWORD = "correct horse battery"  # noqa: S105 (nobody's)
WORKERS = max(1, (os.cpu_count() or 1) - 1)
READ_PAUSE_MS = 20.0
ENVIRONMENT = {
    **{
        f"GOTRUE_RATE_LIMIT_{name}": "1000000000"
        for name in ("TOKEN_REFRESH", "OTP", "VERIFY", "ANONYMOUS_USERS", "EMAIL_SENT")
    },
    "GOTRUE_MAILER_AUTOCONFIRM": "true",
    "SOCLE_PASSWORD_HASH_WORKERS": str(WORKERS),
}
_SETTINGS = (
    'begin; select set_config(\'search_path\', \'"auth", "public", "extensions"\', true), '
    "set_config('role', 'supabase_auth_admin', true);"
)
_IDENTITIES = (
    "(select jsonb_agg(to_jsonb(i) order by i.created_at, i.provider, i.id) from auth.identities i "
    "where i.user_id = u.id) as identities, "
    "(select jsonb_agg(to_jsonb(f) order by f.created_at, f.id) from auth.mfa_factors f where f.user_id = u.id) "
    "as factors"
)
_PROOFS = "(select jsonb_agg(to_jsonb(c)) from auth.mfa_amr_claims c where c.session_id = s.id)"
_PAYLOAD = '{"action":"token_refreshed","log_type":"token","actor_id":"","actor_username":"","actor_via_sso": false}'
_ONE = "(select user_id from bench_chains where n = :client_id)"
_SESSION = "(select session_id from bench_chains where n = :client_id)"
_OLD = "(:run::text || 'c' || :client_id::text || 'n' || :step::text)"
_NEXT = "(:run::text || 'c' || :client_id::text || 'n' || (:step::int + 1)::text)"
GET_USER = (
    f"select u.*, {_IDENTITIES}, (select to_jsonb(s) || jsonb_build_object('amr', {_PROOFS}) from auth.sessions s "
    f"where s.id = {_SESSION}) as session from auth.users u where u.id = {_ONE};"
)
REFRESH = (
    f"select * from auth.refresh_tokens where token = {_OLD} limit 1 for update skip locked;",
    f"select s.*, {_PROOFS} as amr from auth.sessions s where id = {_SESSION} for update of s skip locked;",
    f"select u.*, {_IDENTITIES} from auth.users u where u.id = {_ONE};",
    "insert into auth.audit_log_entries (instance_id, id, payload, created_at, ip_address) "
    f"select '00000000-0000-0000-0000-000000000000', gen_random_uuid(), '{_PAYLOAD}', now(), '127.0.0.1' "
    "from generate_series(1, 2);",
    "with old as (update auth.refresh_tokens set revoked = true, updated_at = now() "
    f"where token = {_OLD} returning user_id, session_id) "
    "insert into auth.refresh_tokens "
    "(instance_id, token, user_id, parent, session_id, revoked, created_at, updated_at) "
    f"select '00000000-0000-0000-0000-000000000000', {_NEXT}, user_id, {_OLD}, session_id, false, now(), now() "
    "from old;",
    "update auth.sessions set refreshed_at = now() at time zone 'utc', user_agent = 'bench', ip = '127.0.0.1', "
    f"updated_at = now() where id = {_SESSION};",
)
CHAINS = """
create table bench_chains (n int primary key, user_id uuid not null, session_id uuid not null);
grant select on bench_chains to supabase_auth_admin;
insert into bench_chains
select row_number() over (order by id) - 1, user_id, id from auth.sessions order by id limit {count};
analyze bench_chains;
"""
TOKENS = """
insert into auth.refresh_tokens (instance_id, token, user_id, session_id, revoked, created_at, updated_at)
select '00000000-0000-0000-0000-000000000000', '{run}c' || n || 'n0', user_id, session_id, false, now(), now()
from bench_chains;
"""


def main() -> None:
    given = arguments(__doc__, rounds=5, seconds=3.0).parse_args()
    folder = Path(tempfile.mkdtemp(prefix="socle-bench-"))
    folder.chmod(0o755)
    figures: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        figures.setdefault(name, []).append(value)

    try:
        with platform(folder, ENVIRONMENT) as (site, process):
            people = sign_up(site, 2 * CONNECTIONS)
            psql(site.admin, CHAINS.format(count=CONNECTIONS))
            chains = [one["refresh_token"] for one in people[CONNECTIONS:]]
            reads = socle(site, process).requests["one row"]
            for number in range(given.rounds):
                progress(f"auth: round {number + 1} of {given.rounds}")
                note("GET /user", load(site.port, user_requests(site, people), CONNECTIONS, given.seconds)["rate"])
                note("GET /user, pgbench", limit(site, folder, given.seconds, "user", [GET_USER]))
                result = load(
                    site.port, refresh_requests(site, chains), CONNECTIONS, given.seconds, "--follow=refresh_token"
                )
                chains = result["followed"]
                note("refresh", result["rate"])
                note("refresh, pgbench", limit(site, folder, given.seconds, "refresh", list(REFRESH)))
                measure_sign_in(site, people, reads, given.seconds, note)
            progress(f"auth: importing {IMPORTED} users")
            note("imported users", time_import(site, folder, 0))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    units = {"one-row reads, p50": "ms", "one-row reads while signing in, p50": "ms"}
    series = {name: Series(name, units.get(name, "1/s"), values) for name, values in figures.items()}
    finish(given, ROOT, "auth", list(series.values()), goals(series))


def goals(series: dict[str, Series]) -> list[Goal]:
    sign_in = f"signing in, to argon2 on {WORKERS} thread{'s' if WORKERS > 1 else ''}"
    quiet, busy = series["one-row reads, p50"], series["one-row reads while signing in, p50"]
    return [
        Goal("GET /user, to pgbench", "≥", 0.25, ratio(series["GET /user"], series["GET /user, pgbench"])),
        Goal("refresh, to pgbench", "≥", 0.25, ratio(series["refresh"], series["refresh, pgbench"])),
        Goal(sign_in, "≥", 0.9, ratio(series["sign-in"], series["argon2"])),
        Goal("p50 of one-row reads while signing in, to before", "≤", 1.25, ratio(busy, quiet)),
        Goal("imported users", "≥", 10_000, round(series["imported users"].median), "1/s"),
    ]


def time_import(site: Site, folder: Path, run: int) -> float:
    """Users per second of `socle auth import`, its start included: a list of Auth0's, with bcrypt hashes."""
    place = folder / "people.json"
    people = (
        {
            "user_id": f"auth0|{run}-{number}",
            "email": f"import{run}-{number}@example.com",
            "email_verified": True,
            "passwordHash": HASH,
        }
        for number in range(IMPORTED)
    )
    place.write_text("".join(json.dumps(one) + "\n" for one in people))
    command = [sys.executable, "-m", "socle_app", "auth", "import", str(place), "--from=auth0"]
    began = time.perf_counter()
    done = subprocess.run(
        [*command, f"--state={site.state}"], cwd=site.state.parent, capture_output=True, text=True, timeout=120
    )
    took = time.perf_counter() - began
    if done.returncode or f"{IMPORTED} users stored" not in done.stdout + done.stderr:
        raise RuntimeError(f"socle auth import: {(done.stdout + done.stderr)[-500:]}")
    return IMPORTED / took


def sign_up(site: Site, count: int) -> list[dict[str, Any]]:
    """The sessions of new users, as the wire gives them, with their e-mail."""
    found: list[dict[str, Any]] = []
    for number in range(count):
        email = f"user{number}@example.com"
        found.append(call(site, "POST", "/auth/v1/signup", {"email": email, "password": PASSWORD}))
        found[-1]["email"] = email
    return found


def user_requests(site: Site, people: list[dict[str, Any]]) -> list[str]:
    headers = {"apikey": site.anon_key}
    return [
        http_request("GET", "/auth/v1/user", {**headers, "Authorization": f"Bearer {one['access_token']}"})
        for one in people
    ]


def refresh_requests(site: Site, tokens: list[str]) -> list[str]:
    path = "/auth/v1/token?grant_type=refresh_token"
    return [http_request("POST", path, {"apikey": site.anon_key}, {"refresh_token": each}) for each in tokens]


def sign_in_requests(site: Site, people: list[dict[str, Any]]) -> list[str]:
    path = "/auth/v1/token?grant_type=password"
    bodies = [{"email": one["email"], "password": PASSWORD} for one in people]
    return [http_request("POST", path, {"apikey": site.anon_key}, body) for body in bodies]


def limit(site: Site, folder: Path, seconds: float, name: str, statements: list[str]) -> float:
    """The statements of one request in one round trip; every client has a session and a chain of its own."""
    script = folder / f"{name}.pgbench"
    lines = ["\\startpipeline", _SETTINGS, *statements, "commit;", "\\endpipeline", "\\set step :step + 1"]
    script.write_text("\n".join(lines) + "\n")
    run = time.monotonic_ns() % 10**12
    if name == "refresh":
        psql(site.admin, TOKENS.format(run=run))
    return pgbench(site.admin, script, CONNECTIONS, seconds, (f"run={run}", "step=0"))


def measure_sign_in(site: Site, people: list[dict[str, Any]], reads: list[str], seconds: float, note: Any) -> None:
    pause = f"--pause={READ_PAUSE_MS}"
    note("argon2", argon2_rate(seconds))
    note("one-row reads, p50", load(site.port, reads, 1, seconds, pause)["p50"])
    storm = start_load(site.port, sign_in_requests(site, people), SIGN_INS, seconds + 1)
    note("one-row reads while signing in, p50", load(site.port, reads, 1, seconds, pause)["p50"])
    result = finish_load(storm, seconds + 1)
    if result["failures"]:
        raise RuntimeError(f"signing in: {result['first_failure']}")
    note("sign-in", result["rate"])


def argon2_rate(seconds: float) -> float:
    """Verifications per second on as many threads as the platform's pool has, with its parameters."""
    hasher = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)
    stored = hasher.hash(PASSWORD)
    until = time.perf_counter() + seconds

    def work(_: int) -> int:
        done = 0
        while time.perf_counter() < until:
            hasher.verify(stored, PASSWORD)
            done += 1
        return done

    with ThreadPoolExecutor(WORKERS) as pool:
        return sum(pool.map(work, range(WORKERS))) / seconds


if __name__ == "__main__":
    sys.exit(main())
