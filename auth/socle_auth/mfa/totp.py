"""Codes of authenticator apps: secret, address, picture, proof (RFC 6238; 6 digits, 30 s, SHA-1, one step of skew)."""

from __future__ import annotations

import base64
import io
from datetime import datetime
from urllib.parse import quote

SECRET_BYTES = 20
PERIOD = 30


def encode_secret(raw: bytes) -> str:
    """Base32 without padding, as authenticator apps read it."""
    return base64.b32encode(raw).decode().rstrip("=")


def render_uri(secret: str, issuer: str, account: str) -> str:
    """The `otpauth:` address that a QR code carries."""
    label = f"{quote(issuer, safe='')}:{quote(account, safe='@')}"
    return (
        f"otpauth://totp/{label}?algorithm=SHA1&digits=6&issuer={quote(issuer, safe='')}"
        f"&period={PERIOD}&secret={secret}"
    )


def render_qr(uri: str) -> str:
    """The address as SVG text. It holds no `#`: clients put it into a data URL as it is."""
    import segno

    picture = io.BytesIO()
    segno.make(uri, error="m", micro=False).save(
        picture, kind="svg", scale=4, border=4, dark="black", light="white", xmldecl=False, nl=False
    )
    return picture.getvalue().decode().replace("#000", "black").replace("#fff", "white")


def is_valid(secret: str, code: str, now: datetime) -> bool:
    """Whether the code belongs to the secret now, one period before or after."""
    from pyotp.totp import TOTP

    try:
        known = TOTP(secret, interval=PERIOD)
        return len(code) == 6 and code.isascii() and known.verify(code, for_time=now, valid_window=1)
    except ValueError:
        return False
