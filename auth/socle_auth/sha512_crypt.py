"""sha512-crypt (`$6$`), to verify imported users' hashes. Source: U. Drepper, «Unix crypt using SHA-256 and SHA-512».

Only verification needs it, a handful of times per imported user, so plain Python is fast enough.
"""

from __future__ import annotations

import hashlib
import re

_PARTS = re.compile(r"\$6\$(?:rounds=(\d+)\$)?([^$]{1,16})")
_ALPHABET = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def sha512_crypt(secret: bytes, setting: str) -> str:
    """The hash of `secret` under the rounds and salt of `setting` (a whole hash will do). Raises ValueError."""
    match = _PARTS.match(setting)
    if match is None:
        raise ValueError("not a sha512-crypt setting")
    rounds = min(999_999_999, max(1000, int(match[1]))) if match[1] else 5000
    salt = match[2].encode()
    digest = _rounds(secret, salt, _initial(secret, salt), rounds)
    shown = f"rounds={rounds}$" if match[1] else ""
    return f"$6${shown}{match[2]}${_encode(digest)}"


def _initial(secret: bytes, salt: bytes) -> bytes:
    inner = hashlib.sha512(secret + salt + secret).digest()
    context = hashlib.sha512(secret + salt + _stretch(inner, len(secret)))
    length = len(secret)
    while length:
        context.update(inner if length & 1 else secret)
        length >>= 1
    return context.digest()


def _stretch(digest: bytes, length: int) -> bytes:
    return (digest * (length // 64 + 1))[:length]


def _rounds(secret: bytes, salt: bytes, digest: bytes, rounds: int) -> bytes:
    password = _stretch(hashlib.sha512(secret * len(secret)).digest(), len(secret))
    seasoning = _stretch(hashlib.sha512(salt * (16 + digest[0])).digest(), len(salt))
    for number in range(rounds):
        odd = number & 1
        content = password if odd else digest
        if number % 3:
            content += seasoning
        if number % 7:
            content += password
        digest = hashlib.sha512(content + (digest if odd else password)).digest()
    return digest


def _encode(digest: bytes) -> str:
    out = ""
    first, second, third = 0, 21, 42
    for _ in range(21):
        out += _triple(digest[first], digest[second], digest[third], 4)
        first, second, third = second + 1, third + 1, first + 1
    return out + _triple(0, 0, digest[63], 2)


def _triple(high: int, middle: int, low: int, characters: int) -> str:
    value = high << 16 | middle << 8 | low
    return "".join(_ALPHABET[value >> 6 * place & 63] for place in range(characters))
