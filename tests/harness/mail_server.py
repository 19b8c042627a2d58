"""A real SMTP server with STARTTLS and AUTH that keeps what it is given (aiosmtpd in the test's own event loop)."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any, cast

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from harness.postgres import free_port
from socle_platform.config.auth_messages import SmtpSettings

USER, PASSWORD = "postmaster", "open sesame"


@dataclass
class Delivered:
    """One mail as it arrived."""

    sender: str
    recipients: list[str]
    message: EmailMessage
    encrypted: bool
    user: str | None

    def part(self, kind: str) -> str:
        """The text of the body part of that subtype (`plain`, `html`)."""
        body = self.message.get_body((cast("Any", kind),))
        assert body is not None
        return str(body.get_content()).replace("\r\n", "\n")


@dataclass
class MailServer:
    """`refuse` answers every mail with that line instead of taking it."""

    port: int
    trust: ssl.SSLContext
    mails: list[Delivered] = field(default_factory=list[Delivered])
    refuse: str = ""
    greetings: list[str] = field(default_factory=list[str])

    def settings(self, **changes: Any) -> SmtpSettings:
        settings = SmtpSettings(
            host="127.0.0.1",
            port=self.port,
            user=USER,
            password=PASSWORD,
            admin_email="app@example.com",
            sender_name="The App",
        )
        return replace(settings, **changes)

    async def handle_EHLO(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, session: Session, _envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        self.greetings.append(hostname)
        return responses

    async def handle_DATA(self, _server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.refuse:
            return self.refuse
        content = envelope.content
        assert isinstance(content, bytes)
        message = cast("EmailMessage", message_from_bytes(content, policy=cast("Any", default)))
        user = getattr(session.auth_data, "login", None)
        self.mails.append(
            Delivered(
                str(envelope.mail_from),
                [str(address) for address in envelope.rcpt_tos],
                message,
                encrypted=_server.transport is not None and _server.transport.get_extra_info("sslcontext") is not None,
                user=user.decode() if isinstance(user, bytes) else None,
            )
        )
        return "250 taken"


def _check_login(_server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: object) -> AuthResult:
    assert isinstance(data, LoginPassword)
    good = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
    return AuthResult(success=good, handled=False, auth_data=data)


@asynccontextmanager
async def started_mail_server(folder: Path, *, tls: bool = True, implicit: bool = False) -> AsyncGenerator[MailServer]:
    """A server on a free loopback port; `implicit` encrypts from the first byte."""
    certificate = make_certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    trust = ssl.create_default_context(cafile=str(certificate))
    server = MailServer(free_port(), trust)

    def protocol() -> SMTP:
        return SMTP(
            server,
            hostname="mail.test",
            tls_context=context if tls and not implicit else None,
            require_starttls=False,
            auth_required=tls and not implicit,
            auth_require_tls=tls and not implicit,
            authenticator=cast("Any", _check_login),
            loop=asyncio.get_running_loop(),
        )

    listening = await asyncio.get_running_loop().create_server(
        protocol, "127.0.0.1", server.port, ssl=context if implicit else None
    )
    try:
        yield server
    finally:
        listening.close()


def make_certificate(folder: Path) -> Path:
    """A certificate of 127.0.0.1 with its key, in one PEM file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "mail.pem"
    encoding = serialization.Encoding.PEM
    path.write_bytes(
        key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(encoding)
    )
    return path
