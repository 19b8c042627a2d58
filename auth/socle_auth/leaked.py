"""The public list of leaked passwords, asked by the first five digits of a hash, or read from a local file (§5.4)."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from socle_platform.errors import SocleError

if TYPE_CHECKING:
    from socle_auth.context import AuthService

_RANGE_URL = "https://api.pwnedpasswords.com/range/"


class ListUnavailable(SocleError):
    """The list of leaked passwords did not answer."""


async def is_leaked(service: AuthService, password: str) -> bool:
    """Whether the password is on the list. Raises ListUnavailable, OSError, or what the HTTP adapter raises."""
    digest = hashlib.sha1(password.encode(), usedforsecurity=False).hexdigest().upper()
    settings = service.settings.password.hibp
    if settings.file:
        return await asyncio.to_thread(is_in_file, Path(settings.file), digest)
    if service.resources.http is None:
        raise ListUnavailable
    answer = await service.resources.http.request(
        "GET",
        _RANGE_URL + digest[:5],
        headers={"user-agent": settings.user_agent, "add-padding": "true"},
        timeout=5.0,
    )
    if answer.status != 200:
        raise ListUnavailable(f"the list of leaked passwords answered {answer.status}")
    return is_in_range(answer.body.decode("ascii", "replace"), digest[5:])


def is_in_range(text: str, suffix: str) -> bool:
    """Whether `SUFFIX:count` lines hold the suffix with a count above 0 (0 is padding)."""
    for line in text.splitlines():
        found, _, count = line.strip().partition(":")
        if found.upper() == suffix:
            return count.strip() != "0"
    return False


def is_in_file(path: Path, digest: str) -> bool:
    """Whether the sorted file of `SHA1:count` lines holds the digest; a binary search of the file's bytes."""
    wanted = digest.encode()
    with path.open("rb") as file:
        low, high = 0, file.seek(0, 2)
        while low < high:
            middle = (low + high) // 2
            file.seek(middle)
            if middle:
                file.readline()  # the rest of a line begun before
            line = file.readline()
            if not line or line[:40].upper() >= wanted:
                high = middle
            else:
                low = middle + 1
        file.seek(max(0, low - 200))
        return any(line[:40].upper() == wanted for line in file.read(400).splitlines())
