"""A load generator: raw HTTP/1.1 over kept-alive connections, one request in flight on each.

    .venv/bin/python bench/http_load.py --port 54321 --connections 16 --seconds 3 < requests.json

Standard input is a JSON array of whole requests as text; connections walk through it. Prints one JSON line: requests
answered (all of them, also those of the warm-up), the rate after the warm-up, p50 and p99 in ms, answers that were
no 2xx, and the first of those. `--follow FIELD`: each connection repeats one request, with the text FIELD of its last
answer in the place of its own (a refresh token, always of one length); the last texts are printed as `followed`.
`@@@@@@@@@@` in a request becomes a number that no other request has. `--pause` is the rest in ms between an answer
and the next request of a connection. About 10 µs of CPU per request, which it shares with nobody's figures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import time

import uvloop

WARM_UP = 0.5
MARK = b"@" * 10


class Run:
    """What all connections share."""

    def __init__(self, requests: list[bytes], seconds: float, follow: str = "", pause: float = 0.0) -> None:
        self.requests = requests
        self.position = 0
        self.counted_from = time.perf_counter() + WARM_UP
        self.until = self.counted_from + seconds
        self.latencies: list[float] = []
        self.total = 0
        self.failures = 0
        self.first_failure = ""
        self.open = 0
        self.done = asyncio.Event()
        self.follow = re.compile(rb'("%s": ?")([^"]*)' % follow.encode()) if follow else None
        self.followed: list[str] = []
        self.pause = pause
        self.is_numbered = any(MARK in request for request in requests)
        self.number = 0

    def next(self) -> bytes:
        self.position = (self.position + 1) % len(self.requests)
        request = self.requests[self.position]
        if self.is_numbered:
            self.number += 1
            request = request.replace(MARK, b"%010d" % self.number)
        return request


class Connection(asyncio.Protocol):
    """Sends the next request as soon as the answer to the last is complete."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.buffer = b""
        self.own = b""
        self.sent_at = 0.0
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self.transport = transport  # type: ignore[assignment]  # uvloop's transports are none of asyncio's classes
        self.run.open += 1
        self.send()

    def send(self) -> None:
        self.sent_at = time.perf_counter()
        request = self.own or self.run.next()
        if self.run.follow is not None:
            self.own = request
        self.transport.write(request)

    def follow(self, field: re.Pattern[bytes]) -> None:
        """Puts the answer's text in the place of the request's."""
        found = field.search(self.buffer)
        if found is not None:
            self.own = field.sub(lambda old: old[1] + found[2], self.own, count=1)

    def data_received(self, data: bytes) -> None:
        self.buffer = self.buffer + data if self.buffer else data
        head = self.buffer.find(b"\r\n\r\n")
        if head < 0 or not self.is_complete(head):
            return
        now, run = time.perf_counter(), self.run
        run.total += 1
        if self.buffer[9:10] != b"2":
            run.failures += 1
            run.first_failure = run.first_failure or self.buffer[:500].decode("latin-1")
        if run.counted_from <= now < run.until:
            run.latencies.append(now - self.sent_at)
        if run.follow is not None:
            self.follow(run.follow)
        self.buffer = b""
        if now >= run.until:
            if run.follow is not None and (last := run.follow.search(self.own)):
                run.followed.append(last[2].decode())
            self.transport.close()
        elif run.pause:
            asyncio.get_running_loop().call_later(run.pause, self.send)
        else:
            self.send()

    def is_complete(self, head: int) -> bool:
        headers = self.buffer[:head].lower()
        at = headers.find(b"content-length:")
        if at >= 0:
            end = headers.find(b"\r\n", at)
            length = int(headers[at + 15 : end if end >= 0 else head])
            return len(self.buffer) >= head + 4 + length
        if b"transfer-encoding: chunked" in headers:
            return self.buffer.endswith(b"0\r\n\r\n")
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.run.open -= 1
        if self.run.open == 0:
            self.run.done.set()


async def load(host: str, port: int, connections: int, run: Run) -> dict[str, object]:
    loop = asyncio.get_running_loop()
    seconds = run.until - run.counted_from
    for _ in range(connections):
        await loop.create_connection(lambda: Connection(run), host, port)
    await asyncio.wait_for(run.done.wait(), seconds + 30)
    latencies = sorted(run.latencies)
    return {
        "requests": run.total,
        "rate": len(latencies) / seconds,
        "p50": latencies[len(latencies) // 2] * 1000 if latencies else None,
        "p99": latencies[len(latencies) * 99 // 100] * 1000 if latencies else None,
        "failures": run.failures,
        "first_failure": run.first_failure,
        "followed": run.followed,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--follow", default="")
    parser.add_argument("--pause", type=float, default=0.0)
    given = parser.parse_args()
    requests = [text.encode() for text in json.load(sys.stdin)]

    async def run() -> dict[str, object]:
        run = Run(requests, given.seconds, given.follow, given.pause / 1000)
        return await load(given.host, given.port, given.connections, run)

    print(json.dumps(uvloop.run(run())))


if __name__ == "__main__":
    main()
