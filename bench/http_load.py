"""A load generator: raw HTTP/1.1 over kept-alive connections, one request in flight on each.

    .venv/bin/python bench/http_load.py --port 54321 --connections 16 --seconds 3 < requests.json

Standard input is a JSON array of whole requests as text; connections walk through it. Prints one JSON line: requests
answered (all of them, also those of the warm-up), the rate after the warm-up, p50 and p99 in ms, answers that were
no 2xx, and the first of those. About 10 µs of CPU per request, which it shares with nobody's figures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time

import uvloop

WARM_UP = 0.5


class Run:
    """What all connections share."""

    def __init__(self, requests: list[bytes], seconds: float) -> None:
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

    def next(self) -> bytes:
        self.position = (self.position + 1) % len(self.requests)
        return self.requests[self.position]


class Connection(asyncio.Protocol):
    """Sends the next request as soon as the answer to the last is complete."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.buffer = b""
        self.sent_at = 0.0
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self.transport = transport  # type: ignore[assignment]  # uvloop's transports are none of asyncio's classes
        self.run.open += 1
        self.send()

    def send(self) -> None:
        self.sent_at = time.perf_counter()
        self.transport.write(self.run.next())

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
        if now >= run.counted_from:
            run.latencies.append(now - self.sent_at)
        self.buffer = b""
        if now < run.until:
            self.send()
        else:
            self.transport.close()

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


async def load(host: str, port: int, connections: int, seconds: float, requests: list[bytes]) -> dict[str, object]:
    run = Run(requests, seconds)
    loop = asyncio.get_running_loop()
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
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=3.0)
    given = parser.parse_args()
    requests = [text.encode() for text in json.load(sys.stdin)]
    result = uvloop.run(load(given.host, given.port, given.connections, given.seconds, requests))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
