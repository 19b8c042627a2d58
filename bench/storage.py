"""Measures storage: large objects against dd and nginx, small ones against REST, slow readers, long listings.

    .venv/bin/python bench/storage.py [--rounds 3] [--seconds 3] [--size 1024] [--objects 1000000] [--write] [--check]

nginx is the program on PATH, or what NGINX names; without one the download of large objects is measured alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
from page import finish
from record import Goal, Series, arguments, progress, ratio
from rest_peers import http_request, socle, token
from testbed import FIRST_PORT, ROOT, Site, call, load, platform, psql

MIB = 1 << 20
CONNECTIONS = 16
BUCKET = "bench"
SMALL = "x" * 1024
SMALL_OBJECTS = 200
SLOW_READERS = 1000
SLOW_SECONDS = 6.0
PER_FOLDER = 100
ENVIRONMENT = {"FILE_SIZE_LIMIT": str(1 << 34)}
POLICIES = f"""
insert into storage.buckets (id, name) values ('{BUCKET}', '{BUCKET}');
create policy bench_write on storage.objects for insert to authenticated with check (bucket_id = '{BUCKET}');
create policy bench_read on storage.objects for select to authenticated using (bucket_id = '{BUCKET}');
"""
MANY = """
insert into storage.buckets (id, name) values ('many', 'many');
set session_replication_role = replica;
insert into storage.objects (bucket_id, name, owner_id, version, metadata)
select 'many',
    'folder-' || lpad((n / {each})::text, 6, '0') || '/object-' || lpad((n % {each})::text, 3, '0') || '.txt',
    '00000000-0000-4000-8000-000000000000', gen_random_uuid()::text,
    '{{"size": 1024, "mimetype": "text/plain", "eTag": "\\"x\\"", "contentLength": 1024}}'
from generate_series(0, {count} - 1) n;
analyze storage.objects;
"""
SCANS = (
    "select coalesce(sum(seq_scan), 0) from pg_stat_user_tables where schemaname = 'storage' and relname = 'objects';"
)
Note = Callable[[str, str, float], None]


def main() -> None:
    parser = arguments(__doc__, rounds=3, seconds=3.0)
    parser.add_argument("--size", type=int, default=1024, help="of a large object, MiB")
    parser.add_argument("--objects", type=int, default=1_000_000, help="in the bucket that is listed")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="socle-bench-"))
    folder.chmod(0o755)
    series: dict[str, Series] = {}
    figures: dict[str, list[float]] = {}

    def note(name: str, unit: str, value: float) -> None:
        values = figures.setdefault(name, [])
        values.append(value)
        series[name] = Series(name, unit, values)

    try:
        with platform(folder, ENVIRONMENT) as (site, process), nginx(folder) as peer:
            psql(site.admin, POLICIES)
            small = Small(site, socle(site, process).requests)
            for number in range(given.rounds):
                progress(f"storage: round {number + 1} of {given.rounds}")
                measure_large(site, folder, peer, given.size, number, note)
                small.measure(given.seconds, note)
            progress(f"storage: {SLOW_READERS} slow downloads")
            note("memory before the slow downloads, RSS", "MB", process.memory_info().rss / 1e6)
            note("memory with slow downloads, RSS", "MB", measure_slow(site, process))
            progress(f"storage: listing among {given.objects} objects")
            measure_listing(site, given.objects, given.seconds, note)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    left = (
        [] if peer else ["nginx (none on PATH nor named by NGINX, or it does not start), the limit of large downloads"]
    )
    finish(given, ROOT, "storage", list(series.values()), goals(series, given.objects), left)


def goals(series: dict[str, Series], objects: int) -> list[Goal]:
    found = [Goal("large upload, to dd, tee and md5sum", "≥", 0.7, ratio(series["large upload"], series["dd, md5sum"]))]
    if "nginx" in series:
        found.append(Goal("large download, to nginx", "≥", 0.7, ratio(series["large download"], series["nginx"])))
    upload, insert = series["1 KB upload"], series["REST insert"]
    download, read = series["1 KB download, cached token"], series["REST one-row read"]
    memory, listing = series["memory with slow downloads, RSS"], series["listing of a folder, p50"]
    return [
        *found,
        Goal("1 KB upload, to a REST insert", "≥", 0.5, ratio(upload, insert)),
        Goal("1 KB download, to a REST one-row read", "≥", 0.6, ratio(download, read)),
        Goal(f"RSS with {SLOW_READERS:,} slow downloads", "≤", 150, round(memory.median, 1), "MB"),
        Goal(f"listing a folder among {objects:,} objects, p50", "≤", 20, round(listing.median, 2), "ms"),
        Goal("sequential scans by listings", "≤", 0, series["sequential scans by listings"].median, "scans"),
    ]


def headers_of(site: Site, bearer: str) -> dict[str, str]:
    return {"apikey": site.anon_key, "Authorization": f"Bearer {bearer}"}


# ---- large objects ---------------------------------------------------------------------------------------------------


def measure_large(site: Site, folder: Path, peer: int | None, size: int, number: int, note: Note) -> None:
    """MB/s of one object of `size` MiB up and down, and of the limits on the same disk."""
    name, reference = f"large-{number}.bin", folder / "reference.bin"
    megabytes = size * MIB / 1e6
    note("dd, md5sum", "MB/s", megabytes / time_dd(reference, size))
    note("large upload", "MB/s", megabytes / upload(site, f"/storage/v1/object/{BUCKET}/{name}", size))
    path = f"/storage/v1/object/authenticated/{BUCKET}/{name}"
    request = http_request("GET", path, headers_of(site, site.service_key))
    for port, asks, label in ((site.port, request, "large download"), (peer, None, "nginx")):
        if port is not None:
            text = asks or http_request("GET", "/reference.bin", {})
            note(label, "MB/s", megabytes / download(port, text, size * MIB))
    call(site, "DELETE", f"/storage/v1/object/{BUCKET}/{name}", token=site.service_key)


def time_dd(target: Path, size: int) -> float:
    """Seconds to write and hash that many MiB from memory, durably."""
    target.unlink(missing_ok=True)
    script = 'dd if=/dev/zero bs=1M count="$1" status=none | tee "$2" | md5sum; sync "$2"'
    began = time.perf_counter()
    subprocess.run(["bash", "-c", script, "bash", str(size), str(target)], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def upload(site: Site, path: str, size: int) -> float:
    """Seconds until the answer."""
    chunk = bytes(MIB)
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/octet-stream"]
    lines += [f"{name}: {value}" for name, value in headers_of(site, site.service_key).items()]
    with socket.create_connection(("127.0.0.1", site.port), timeout=120) as connection:
        began = time.perf_counter()
        connection.sendall("\r\n".join([*lines, f"Content-Length: {size * MIB}", "", ""]).encode())
        for _ in range(size):
            connection.sendall(chunk)
        answer = connection.recv(65536)
        took = time.perf_counter() - began
    if not answer.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"the upload was answered by {answer[:500]!r}")
    return took


def download(port: int, request: str, size: int) -> float:
    """Seconds until the last byte."""
    buffer = bytearray(MIB)
    with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
        began = time.perf_counter()
        connection.sendall(request.encode())
        got = connection.recv_into(buffer)
        head, _, rest = bytes(buffer[:got]).partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"the download was answered by {head[:500]!r}")
        received = len(rest)
        while received < size:
            got = connection.recv_into(buffer)
            if not got:
                raise RuntimeError(f"the download ended after {received} of {size} bytes")
            received += got
        return time.perf_counter() - began


@contextlib.contextmanager
def nginx(folder: Path) -> Iterator[int | None]:
    """An nginx that serves the folder with sendfile; its port, or None where there is none."""
    program = os.environ.get("NGINX") or shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        yield None
        return
    port, home = FIRST_PORT + 15, folder / "nginx"
    home.mkdir()
    user = "user root;" if os.geteuid() == 0 else ""
    (home / "nginx.conf").write_text(
        f"{user} worker_processes 1; daemon off; pid {home}/pid; error_log stderr; events {{}} "
        f"http {{ access_log off; sendfile on; tcp_nopush on; client_body_temp_path {home}; proxy_temp_path {home}; "
        f"fastcgi_temp_path {home}; uwsgi_temp_path {home}; scgi_temp_path {home}; "
        f"server {{ listen 127.0.0.1:{port}; root {folder}; }} }}"
    )
    child = subprocess.Popen([program, "-p", str(home), "-c", str(home / "nginx.conf")], stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.05)
        yield port if child.poll() is None else None
    finally:
        child.terminate()
        child.wait(20)


# ---- small objects ---------------------------------------------------------------------------------------------------


class Small:
    """Objects of 1 KB by a signed-in user, beside the REST requests of the same user."""

    def __init__(self, site: Site, rest: dict[str, list[str]]) -> None:
        self.site, self.rest, self.run = site, rest, 0
        self.headers = headers_of(site, token(site.jwt_secret, 0))
        for number in range(SMALL_OBJECTS):
            call(site, "POST", f"/storage/v1/object/{BUCKET}/small/{number}.txt", SMALL, token(site.jwt_secret, 0))
        path = f"/storage/v1/object/authenticated/{BUCKET}/small"
        self.downloads = [http_request("GET", f"{path}/{n}.txt", self.headers) for n in range(SMALL_OBJECTS)]

    def uploads(self) -> list[str]:
        """A request whose number the load generator fills in, under a name of this run."""
        self.run += 1
        name = f"new/{self.run}-{'@' * 10}.txt"
        return [http_request("POST", f"/storage/v1/object/{BUCKET}/{name}", self.headers, SMALL)]

    def measure(self, seconds: float, note: Note) -> None:
        for name, requests in (
            ("1 KB upload", self.uploads()),
            ("REST insert", self.rest["insert"]),
            ("1 KB download, cached token", self.downloads),
            ("REST one-row read", self.rest["one row"]),
        ):
            note(name, "1/s", load(self.site.port, requests, CONNECTIONS, seconds)["rate"])


# ---- slow readers, long listings -------------------------------------------------------------------------------------


def measure_slow(site: Site, process: psutil.Process) -> float:
    """The most MB of RSS while many read slowly. Raises RuntimeError where one of them gets nothing."""
    path = f"/storage/v1/object/{BUCKET}/slow.bin"
    upload(site, path, 16)
    asks = http_request(
        "GET", f"/storage/v1/object/authenticated/{BUCKET}/slow.bin", headers_of(site, site.service_key)
    )
    return asyncio.run(_read_slowly(site.port, asks.encode(), process))


async def _read_slowly(port: int, request: bytes, process: psutil.Process) -> float:
    loop = asyncio.get_running_loop()
    sockets: list[socket.socket] = []
    received = [0] * SLOW_READERS
    most = 0.0
    try:
        for _ in range(SLOW_READERS):
            one = socket.socket()
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
            one.setblocking(False)
            sockets.append(one)
            await loop.sock_connect(one, ("127.0.0.1", port))
            await loop.sock_sendall(one, request)
        until = loop.time() + SLOW_SECONDS
        while loop.time() < until or not all(received):
            if loop.time() > until + 30:
                raise RuntimeError(f"{received.count(0)} of {SLOW_READERS} slow downloads got nothing")
            for number, one in enumerate(sockets):
                with contextlib.suppress(BlockingIOError):
                    received[number] += len(one.recv(4096))
            most = max(most, process.memory_info().rss / 1e6)
            await asyncio.sleep(0.5)
    finally:
        for one in sockets:
            one.close()
    return most


def measure_listing(site: Site, objects: int, seconds: float, note: Note) -> None:
    """Latency of listing folders of 100 among so many objects, and whether the table was scanned for it."""
    psql(site.admin, MANY.format(each=PER_FOLDER, count=objects))
    folders = max(1, objects // PER_FOLDER)
    bodies = [
        {"prefix": f"folder-{number * 7919 % folders:06d}", "limit": PER_FOLDER, "offset": 0} for number in range(200)
    ]
    headers = headers_of(site, site.service_key)
    asks = [http_request("POST", "/storage/v1/object/list/many", headers, body) for body in bodies]
    found = call(site, "POST", "/storage/v1/object/list/many", bodies[0], site.service_key)
    if len(found) != min(PER_FOLDER, objects):
        raise RuntimeError(f"a listing has {len(found)} objects")
    before = scans(site)
    result = load(site.port, asks, 1, seconds)
    note("listing of a folder, p50", "ms", result["p50"])
    note("listing of a folder, p99", "ms", result["p99"])
    note("sequential scans by listings", "scans", scans(site) - before)


def scans(site: Site) -> float:
    """Sequential scans of storage.objects so far; backends tell of theirs at most a second late."""
    time.sleep(1.5)
    return float(psql(site.admin, SCANS))


if __name__ == "__main__":
    main()
