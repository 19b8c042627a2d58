"""Who is measured against whom: each contender's process, and how it is asked for the same thing.

The limit is pgbench with the statements that a REST request comes down to, settings and query pipelined in one
round trip. All share one PostgreSQL, but PocketBase, which has its own SQLite.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from testbed import Site, pgbench

DATA = Path(__file__).parent / "rest_data"
USERS = 4
BULK = 1000
SCENARIOS = ("one row", "1,000 rows", "list with embed", "insert", "bulk insert", "rpc")
ALL_CONNECTIONS = (16, 64)


def user(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


def token(secret: str, number: int) -> str:
    """A day's token of one of the users."""

    def part(raw: bytes) -> str:
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    claims = {"sub": user(number), "role": "authenticated", "aud": "authenticated", "exp": int(time.time()) + 86400}
    header = json.dumps({"alg": "HS256", "typ": "JWT"}).encode()
    signed = f"{part(header)}.{part(json.dumps(claims).encode())}"
    return f"{signed}.{part(hmac.digest(secret.encode(), signed.encode(), hashlib.sha256))}"


def event(number: int) -> dict[str, object]:
    return {"kind": f"kind {number % 10}", "payload": {"n": number, "text": "x" * 40}}


def http_request(method: str, path: str, headers: dict[str, str], body: object = None) -> str:
    text = "" if body is None else json.dumps(body)
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers.items())]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(text)}"]
    return "\r\n".join(lines) + "\r\n\r\n" + text


def note_ids() -> list[tuple[int, int]]:
    """(user, id of one of the user's notes), spread over the table."""
    return [(number % USERS, 50 * (1 + 37 * number % 1900) + number % USERS) for number in range(400)]


@dataclass
class Contender:
    """One server: the port it answers on, its processes, and the requests of each scenario ({} = cannot do it)."""

    name: str
    port: int
    requests: dict[str, list[str]]
    processes: list[psutil.Process] = field(default_factory=list)
    children: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def stop(self) -> None:
        for child in self.children:
            child.terminate()
        for child in self.children:
            child.wait(20)


def postgrest_requests(prefix: str, headers: dict[str, str], tokens: list[str]) -> dict[str, list[str]]:
    """The scenarios in PostgREST's grammar."""

    def as_user(number: int) -> dict[str, str]:
        return {**headers, "Authorization": f"Bearer {tokens[number % USERS]}"}

    listing = (
        "select=id,total,placed_at,customer:bench_customers(name,country)&status=eq.open&total=gt.100"
        "&order=placed_at.desc&limit=20"
    )
    minimal = {"Prefer": "return=minimal"}
    return {
        "one row": [
            http_request("GET", f"{prefix}/bench_notes?id=eq.{at}", as_user(number)) for number, at in note_ids()
        ],
        "1,000 rows": [http_request("GET", f"{prefix}/bench_rows", as_user(0))],
        "list with embed": [http_request("GET", f"{prefix}/bench_orders?{listing}", as_user(n)) for n in range(USERS)],
        "insert": [http_request("POST", f"{prefix}/bench_events", as_user(n) | minimal, event(n)) for n in range(100)],
        "bulk insert": [
            http_request("POST", f"{prefix}/bench_events", as_user(n) | minimal, [event(at) for at in range(BULK)])
            for n in range(USERS)
        ],
        "rpc": [http_request("POST", f"{prefix}/rpc/bench_add", as_user(n), {"a": n, "b": 1}) for n in range(100)],
    }


def socle(site: Site, process: psutil.Process) -> Contender:
    """The complete service, as `socle start` runs it."""
    tokens = [token(site.jwt_secret, number) for number in range(USERS)]
    requests = postgrest_requests("/rest/v1", {"apikey": site.anon_key}, tokens)
    return Contender("Socle", site.port, requests, [process])


def install_node_peers(folder: Path) -> Path | None:
    """node_modules of the Node peers, or None where there is no npm."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        return None
    for name in ("package.json", "server.mjs"):
        shutil.copy(DATA / "node" / name, folder / name)
    subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--silent"], cwd=folder, check=True, timeout=600)
    return folder


def _wait_for(port: int, path: str, child: subprocess.Popen[bytes], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and child.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2)
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"nothing answers on port {port}")


def database_socket(site: Site) -> str:
    """Where the server listens, as its own pid file says (fifth line: the folder); empty for TCP only."""
    lines = site.data_dir.joinpath("postmaster.pid").read_text().split("\n") if site.data_dir.is_dir() else []
    folder = lines[4] if len(lines) > 4 and lines[4] else site.socket_dir
    socket = Path(folder) / f".s.PGSQL.{site.database_port}"
    return str(socket) if folder and socket.exists() else ""


def node(site: Site, folder: Path, port: int) -> Contender:
    """The handler written by hand."""
    tokens = [token(site.jwt_secret, number) for number in range(USERS)]
    environ = {
        **os.environ,
        "PORT": str(port),
        "JWT_SECRET": site.jwt_secret,
        "DATABASE_URL": site.database_url,
        "SOCKET": database_socket(site),
    }
    child = subprocess.Popen(["node", "server.mjs"], cwd=folder, env=environ, stdout=subprocess.DEVNULL)
    _wait_for(port, "/", child)

    def as_user(number: int) -> dict[str, str]:
        return {"Authorization": f"Bearer {tokens[number % USERS]}"}

    requests = {
        "one row": [http_request("GET", f"/note?id={at}", as_user(number)) for number, at in note_ids()],
        "1,000 rows": [http_request("GET", "/rows", as_user(0))],
        "list with embed": [http_request("GET", "/orders", as_user(n)) for n in range(USERS)],
        "insert": [http_request("POST", "/event", as_user(n), event(n)) for n in range(100)],
        "bulk insert": [
            http_request("POST", "/events", as_user(n), [event(at) for at in range(BULK)]) for n in range(USERS)
        ],
        "rpc": [http_request("POST", "/add", as_user(n), {"a": n, "b": 1}) for n in range(100)],
    }
    return Contender("node:http + postgres.js", port, requests, [psutil.Process(child.pid)], [child])


_LITE_CONFIG = """
[api]
port = {port}
[db]
driver = "postgres"
url = "{url}"
[auth]
enabled = true
jwt_secret = "{secret}"
publishable_key = "sb_publishable_bench"
secret_key = "sb_secret_bench"
"""


def lite(site: Site, folder: Path, port: int, database_url: str) -> Contender:
    """@supabase/lite on a database of its own with the same tables, in the same PostgreSQL."""
    home = folder / "lite"
    (home / "supabase").mkdir(parents=True, exist_ok=True)
    config = _LITE_CONFIG.format(port=port, url=database_url, secret=site.jwt_secret)
    (home / "supabase" / "config.toml").write_text(config)
    command = [str(folder / "node_modules" / ".bin" / "lite"), "--no-telemetry", "start", "--no-admin"]
    log = (home / "log").open("wb")
    child = subprocess.Popen(command, cwd=home, stdout=log, stderr=subprocess.STDOUT)
    _wait_for(port, "/rest/v1/", child)
    tokens = [token(site.jwt_secret, number) for number in range(USERS)]
    # its first request prepares its database, which it cannot do twice at a time
    first = urllib.request.Request(f"http://127.0.0.1:{port}/rest/v1/bench_notes?id=eq.50")
    first.add_header("apikey", "sb_publishable_bench")
    first.add_header("authorization", f"Bearer {tokens[0]}")
    urllib.request.urlopen(first, timeout=30)
    requests = postgrest_requests("/rest/v1", {"apikey": "sb_publishable_bench"}, tokens)
    return Contender("@supabase/lite", port, requests, [psutil.Process(child.pid)], [child])


def pocketbase(folder: Path, port: int) -> Contender | None:
    """PocketBase with the same rows in its SQLite and public rules; None where its wheel is not installed."""
    program = shutil.which("pocketbase")
    if program is None:
        return None
    data = folder / "pb_data"
    at = f"--dir={data}"
    subprocess.run(
        [program, "superuser", "upsert", "a@example.com", "long enough", at], check=True, capture_output=True
    )
    child = subprocess.Popen([program, "serve", f"--http=127.0.0.1:{port}", at], stdout=subprocess.DEVNULL)
    _wait_for(port, "/api/health", child)

    def call(method: str, path: str, body: object, headers: dict[str, str]) -> dict[str, str]:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(), headers)
        request.method = method
        request.add_header("content-type", "application/json")
        with urllib.request.urlopen(request, timeout=10) as answer:
            found: dict[str, str] = json.load(answer)
            return found

    credentials = {"identity": "a@example.com", "password": "long enough"}
    login = call("POST", "/api/collections/_superusers/auth-with-password", credentials, {})
    admin = {"authorization": login["token"]}
    public = {"listRule": "", "viewRule": "", "createRule": "", "type": "base"}
    texts = [{"name": name, "type": "text"} for name in ("title", "body")]
    call("POST", "/api/collections", {"name": "notes", "fields": texts, **public}, admin)
    ids = [
        call("POST", "/api/collections/notes/records", {"title": f"note {n}", "body": "x" * 96}, {})["id"]
        for n in range(1000)
    ]
    requests = {
        "one row": [http_request("GET", f"/api/collections/notes/records/{one}", {}) for one in ids],
        "1,000 rows": [http_request("GET", "/api/collections/notes/records?perPage=1000&skipTotal=1", {})],
        "insert": [http_request("POST", "/api/collections/notes/records", {}, {"title": "new", "body": "x" * 96})],
    }
    return Contender("PocketBase", port, requests, [psutil.Process(child.pid)], [child])


# ---- the limit -------------------------------------------------------------------------------------------------------

_SETTINGS = (
    "select set_config('search_path', '\"public\", \"extensions\"', true), set_config('role', 'authenticated', true), "
    "set_config('request.jwt.claims', '{claims}', true), set_config('request.method', 'GET', true), "
    "set_config('request.path', '/bench', true), set_config('request.headers', '{{}}', true), "
    "set_config('request.cookies', '{{}}', true);"
)
_QUERIES = {
    "one row": "select coalesce(json_agg(t), '[]') from (select * from public.bench_notes where id = :id * 50) t;",
    "1,000 rows": "select coalesce(json_agg(t), '[]') from (select * from public.bench_rows) t;",
    "list with embed": (
        "select coalesce(json_agg(t), '[]') from (select o.id, o.total, o.placed_at, "
        "row_to_json(c.*)::jsonb as customer "
        "from public.bench_orders o left join lateral (select c.name, c.country from public.bench_customers c "
        "where c.id = o.customer_id) c on true where o.status = 'open' and o.total > 100 "
        "order by o.placed_at desc limit 20) t;"
    ),
    "insert": 'insert into public.bench_events (kind, payload) values (\'kind 1\', \'{"n": 1, "text": "x"}\');',
    "bulk insert": (
        "insert into public.bench_events (kind, payload) select r.kind, r.payload from json_to_recordset("
        "(select json_agg(json_build_object('kind', 'k', 'payload', json_build_object('n', n))) "
        f"from generate_series(1, {BULK}) n)) as r (kind text, payload jsonb);"
    ),
    "rpc": "select public.bench_add(:id, 1);",
}


def pgbench_scenario(site: Site, scenario: str, connections: int, seconds: float, folder: Path) -> float:
    """Transactions per second of what the scenario comes down to in the database."""
    claims = json.dumps({"sub": user(0), "role": "authenticated"})
    script = folder / f"{re.sub('[^a-z0-9]', '_', scenario)}.pgbench"
    lines = ["\\set id random(1, 1900)", "\\startpipeline", _SETTINGS.format(claims=claims), _QUERIES[scenario]]
    script.write_text("\n".join([*lines, "\\endpipeline"]) + "\n")
    place = site.database_url
    if site.socket_dir:
        place = f"host={site.socket_dir} port={site.database_port} user=bench_login password=bench dbname=postgres"
    return pgbench(place, script, connections, seconds)
