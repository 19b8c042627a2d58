"""A page in headless Chromium, which tells the test what it found."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from harness.listening import listening
from socle_platform.http import Receive, Scope, Send

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_TIMEOUT = 60.0


def find_chromium() -> str:
    """The program. Skips the test where there is none."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.skip("Chromium is not installed (apt install chromium)")
    return found


async def run_page(html: str) -> str:
    """Opens the page and returns what it posts to `/found`."""
    chromium = find_chromium()
    found: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def site(scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        if scope["path"] == "/found":
            more = True
            while more:
                message = await receive()
                body += message.get("body", b"")
                more = message.get("more_body", False)
            if not found.done():
                found.set_result(body.decode())
            body = b""
        elif scope["path"] == "/":
            body = html.encode()
        headers = [(b"content-type", b"text/html; charset=utf-8"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async with listening(site) as url, browser(chromium, url), asyncio.timeout(_TIMEOUT):
        return await found


@asynccontextmanager
async def browser(chromium: str, url: str) -> AsyncGenerator[None, None]:
    """That program with the address open in it, until the block ends."""
    with tempfile.TemporaryDirectory(prefix="socle-chromium-", ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            chromium,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--mute-audio",
            "--autoplay-policy=no-user-gesture-required",
            "--no-first-run",
            "--disable-quic",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={profile}",
            url,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            yield
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
