"""We as a SAML service provider: key and certificate, metadata, signed authentication requests."""

from __future__ import annotations

import base64
import binascii
import zlib
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote_plus, urlsplit
from xml.sax.saxutils import escape, quoteattr

from socle_auth.sso.identity_provider import EMAIL_ADDRESS, PERSISTENT
from socle_auth.sso.xml import DSIG, METADATA, SAML, SAMLP, SamlExtraMissing, ensure_installed
from socle_platform.config.reader import ConfigError
from socle_platform.errors import SocleError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    from socle_platform.config.auth import AuthSettings

RSA_SHA256 = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
HTTP_POST = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST"
_ENTITY = "urn:oasis:names:tc:SAML:2.0:nameid-format:entity"
_METADATA_YEARS = 5


class KeyUnusable(SocleError):
    """The SAML private key cannot be used."""


@dataclass(frozen=True, slots=True)
class ServiceProvider:
    """Our names and keys. `next_certificate` is announced while keys change."""

    entity_id: str
    acs_url: str
    key: RSAPrivateKey = field(repr=False)
    certificate: bytes
    next_key: RSAPrivateKey | None = field(default=None, repr=False)
    next_certificate: bytes | None = None
    decrypts: bool = False


def service_provider(settings: AuthSettings) -> ServiceProvider:
    """Ours under these settings. Raises KeyUnusable."""
    saml = settings.saml
    base = (saml.external_url or settings.external_url).rstrip("/")
    host = urlsplit(settings.external_url).hostname or ""
    decrypts = saml.allow_encrypted_assertions
    key, certificate = _key_pair(saml.private_key, host, decrypts)
    party = ServiceProvider(f"{base}/sso/saml/metadata", f"{base}/sso/saml/acs", key, certificate, decrypts=decrypts)
    if not saml.private_key_next:
        return party
    next_key, next_certificate = _key_pair(saml.private_key_next, host, decrypts)
    return replace(party, next_key=next_key, next_certificate=next_certificate)


def ensure_usable(settings: AuthSettings) -> None:
    """Raises ConfigError with what SAML lacks."""
    try:
        ensure_installed()
        service_provider(settings)
    except (SamlExtraMissing, KeyUnusable) as error:
        raise ConfigError([f"GOTRUE_SAML_ENABLED: {error.message}"]) from error


@lru_cache(maxsize=8)
def _key_pair(text: str, host: str, encrypts: bool) -> tuple[RSAPrivateKey, bytes]:
    key = load_key(text)
    return key, make_certificate(key, host, encrypts=encrypts)


def load_key(text: str) -> RSAPrivateKey:
    """An RSA key of base64 PKCS#1, 2048 bits at least, exponent 65537. Raises KeyUnusable."""
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_der_private_key

    try:
        key = load_der_private_key(base64.b64decode("".join(text.split()), validate=True), None)
    except (ValueError, TypeError, binascii.Error):
        raise KeyUnusable("the SAML private key is not base64 of a PKCS#1 RSA key") from None
    if not isinstance(key, RSAPrivateKey):
        raise KeyUnusable("the SAML private key is not an RSA key")
    if key.key_size < 2048 or key.public_key().public_numbers().e != 65537:
        raise KeyUnusable("the SAML private key must have 2048 bits at least and the exponent 65537")
    return key


def make_certificate(key: RSAPrivateKey, host: str, *, encrypts: bool) -> bytes:
    """The certificate that goes with a key: always the same bytes for the same key and host.

    Identity providers keep it, so it is laid out as upstream has it (serial number 0, 1970 to 2170), byte by byte:
    no builder makes one with that serial number.
    """
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    algorithm = _der(0x30, bytes.fromhex("06092a864886f70d01010b0500"))
    title = f"SAML 2.0 Certificate for {host}"
    name_tag = 0x13 if _is_printable(title) else 0x0C
    common_name = _der(0x30, bytes.fromhex("0603550403") + _der(name_tag, title.encode()))
    name = _der(0x30, _der(0x31, common_name))
    validity = _der(0x30, _der(0x17, b"700101000000Z") + _der(0x18, b"21700101000000Z"))
    usage = _der(0x03, b"\x04\x90" if encrypts else b"\x07\x80")
    usage_extension = _der(0x30, bytes.fromhex("0603551d0f0101ff") + _der(0x04, usage))
    alternative = _der(0x04, _der(0x30, _der(0x82, f"_samlsp.{host}".encode())))
    alternative_extension = _der(0x30, bytes.fromhex("0603551d11") + alternative)
    extensions = _der(0xA3, _der(0x30, usage_extension + alternative_extension))
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    version, serial = bytes.fromhex("a003020102"), bytes.fromhex("020100")
    body = _der(0x30, version + serial + algorithm + name + validity + name + public + extensions)
    signature = key.sign(body, PKCS1v15(), hashes.SHA256())
    return _der(0x30, body + algorithm + _der(0x03, b"\x00" + signature))


def _der(kind: int, content: bytes) -> bytes:
    """One DER element (X.690 §8.1)."""
    size = len(content)
    if size < 0x80:
        return bytes([kind, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([kind, 0x80 | len(length)]) + length + content


def _is_printable(text: str) -> bool:
    """Whether a text fits ASN.1's PrintableString."""
    return all(one.isascii() and (one.isalnum() or one in " '()+,-./:=?") for one in text)


def render_metadata(party: ServiceProvider, valid_until: datetime | None = None) -> str:
    """Our metadata. `valid_until` for the form that is downloaded."""
    uses = ("signing", "encryption") if party.decrypts else ("signing",)
    certificates = [party.certificate, *([party.next_certificate] if party.next_certificate else [])]
    keys = "".join(
        f'<KeyDescriptor use="{use}"><KeyInfo xmlns="{DSIG}"><X509Data><X509Certificate>'
        f"{base64.b64encode(certificate).decode()}</X509Certificate></X509Data></KeyInfo></KeyDescriptor>"
        for certificate in certificates
        for use in uses
    )
    formats = "".join(f"<NameIDFormat>{name}</NameIDFormat>" for name in (EMAIL_ADDRESS, PERSISTENT))
    service = f'<AssertionConsumerService Binding="{HTTP_POST}" Location={quoteattr(party.acs_url)} index="1"/>'
    until = f' validUntil="{stamp(valid_until)}"' if valid_until else ""
    duration = ' cacheDuration="PT1H"' if party.next_certificate else ""
    return (
        f'<EntityDescriptor xmlns="{METADATA}" entityID={quoteattr(party.entity_id)}{until}{duration}>'
        f'<SPSSODescriptor protocolSupportEnumeration="{SAMLP}" WantAssertionsSigned="true">'
        f"{keys}{formats}{service}</SPSSODescriptor></EntityDescriptor>"
    )


def stamp(moment: datetime) -> str:
    """An xs:dateTime in UTC."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def download_validity(now: datetime) -> datetime:
    """Until when downloaded metadata counts."""
    return now + timedelta(days=365 * _METADATA_YEARS)


def request_url(
    party: ServiceProvider, destination: str, request_id: str, relay_state: str, now: datetime, name_id_format: str
) -> str:
    """Where the browser is sent to ask the identity provider (HTTP-Redirect binding, SAML Bindings §3.4)."""
    document = (
        f'<samlp:AuthnRequest xmlns:saml="{SAML}" xmlns:samlp="{SAMLP}" ID={quoteattr(request_id)} Version="2.0" '
        f'IssueInstant="{stamp(now)}" Destination={quoteattr(destination)} '
        f'AssertionConsumerServiceURL={quoteattr(party.acs_url)} ProtocolBinding="{HTTP_POST}">'
        f'<saml:Issuer Format="{_ENTITY}">{escape(party.entity_id)}</saml:Issuer>'
        f'<samlp:NameIDPolicy Format={quoteattr(name_id_format or PERSISTENT)} AllowCreate="true"/>'
        f"</samlp:AuthnRequest>"
    )
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = base64.b64encode(packer.compress(document.encode()) + packer.flush()).decode()
    signed = f"SAMLRequest={quote_plus(packed)}&RelayState={quote_plus(relay_state)}&SigAlg={quote_plus(RSA_SHA256)}"
    glue = "&" if urlsplit(destination).query else "?"
    return f"{destination}{glue}{signed}&Signature={quote_plus(_sign(party, signed))}"


def _sign(party: ServiceProvider, text: str) -> str:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15

    return base64.b64encode(party.key.sign(text.encode(), PKCS1v15(), hashes.SHA256())).decode()
