"""A SAML identity provider that really signs and encrypts what it says. Needs the `saml` extra."""

from __future__ import annotations

import base64
import os
import uuid
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from xml.sax.saxutils import escape, quoteattr

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from lxml import etree
from signxml.algorithms import DigestAlgorithm, SignatureConstructionMethod, SignatureMethod
from signxml.signer import XMLSigner

PERSISTENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent"
SUCCESS = "urn:oasis:names:tc:SAML:2.0:status:Success"
_SAML = "urn:oasis:names:tc:SAML:2.0:assertion"
_SAMLP = "urn:oasis:names:tc:SAML:2.0:protocol"
_DSIG = "http://www.w3.org/2000/09/xmldsig#"
_XENC = "http://www.w3.org/2001/04/xmlenc#"
_XENC11 = "http://www.w3.org/2009/xmlenc11#"
_PLACE = f'<ds:Signature xmlns:ds="{_DSIG}" Id="placeholder"></ds:Signature>'


@cache
def rsa_key(name: str, bits: int = 2048) -> rsa.RSAPrivateKey:
    """A key of that name, the same for the whole run."""
    del name
    return rsa.generate_private_key(65537, bits)


@cache
def certificate(name: str) -> bytes:
    """A self-signed certificate (DER) for the key of that name; long expired, as those of identity providers are."""
    key = rsa_key(name)
    title = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    start = datetime(2020, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(title, title, key.public_key(), x509.random_serial_number())
    made = builder.not_valid_before(start).not_valid_after(start + timedelta(days=365)).sign(key, hashes.SHA256())
    return made.public_bytes(Encoding.DER)


def private_text(name: str) -> str:
    """The key of that name as GOTRUE_SAML_PRIVATE_KEY has it."""
    raw = rsa_key(name).private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    return base64.b64encode(raw).decode()


def read_request(url: str) -> tuple[dict[str, str], etree._Element]:  # pyright: ignore[reportPrivateUsage]
    """The parameters of a redirect to the identity provider, and the request among them."""
    query = dict(parse_qsl(urlsplit(url).query))
    return query, etree.fromstring(zlib.decompress(base64.b64decode(query["SAMLRequest"]), -15))


@dataclass(frozen=True)
class Statement:
    """What an identity provider says; every part can be said wrongly. Times count from `now`."""

    now: datetime
    acs_url: str
    audience: str
    in_response_to: str = ""
    subject: str = "ada-1"
    name_format: str = PERSISTENT
    attributes: Mapping[str, Sequence[str]] = field(default_factory=lambda: {"email": ["ada@corp.example"]})
    friendly_names: Mapping[str, str] = field(default_factory=dict[str, str])
    issuer: str = ""
    assertion_issuer: str = ""
    destination: str | None = None
    recipient: str | None = None
    status: str = SUCCESS
    assertion_id: str = ""
    issued: timedelta = timedelta(0)
    confirmed_until: timedelta = timedelta(minutes=5)
    valid_from: timedelta = timedelta(minutes=-1)
    valid_until: timedelta = timedelta(minutes=5)
    session_until: timedelta | None = None
    method: str = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
    subject_markup: str = ""
    conditions: str | None = None


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def render_assertion(said: Statement, issuer: str, *, place: bool) -> str:
    answers = f" InResponseTo={quoteattr(said.in_response_to)}" if said.in_response_to else ""
    until = f' SessionNotOnOrAfter="{_time(said.now + said.session_until)}"' if said.session_until else ""
    attributes = "".join(
        f"<saml:Attribute Name={quoteattr(name)}"
        + (f" FriendlyName={quoteattr(said.friendly_names[name])}" if name in said.friendly_names else "")
        + ">"
        + "".join(f"<saml:AttributeValue>{escape(value)}</saml:AttributeValue>" for value in values)
        + "</saml:Attribute>"
        for name, values in said.attributes.items()
    )
    conditions = said.conditions
    if conditions is None:
        conditions = (
            f'<saml:Conditions NotBefore="{_time(said.now + said.valid_from)}" '
            f'NotOnOrAfter="{_time(said.now + said.valid_until)}"><saml:AudienceRestriction>'
            f"<saml:Audience>{escape(said.audience)}</saml:Audience></saml:AudienceRestriction></saml:Conditions>"
        )
    return (
        f'<saml:Assertion xmlns:saml="{_SAML}" ID={quoteattr(said.assertion_id or f"a{uuid.uuid4().hex}")} '
        f'Version="2.0" IssueInstant="{_time(said.now + said.issued)}">'
        f"<saml:Issuer>{escape(said.assertion_issuer or issuer)}</saml:Issuer>{_PLACE if place else ''}"
        f"<saml:Subject><saml:NameID Format={quoteattr(said.name_format)}>"
        f"{said.subject_markup or escape(said.subject)}</saml:NameID>"
        f"<saml:SubjectConfirmation Method={quoteattr(said.method)}><saml:SubjectConfirmationData"
        f' NotOnOrAfter="{_time(said.now + said.confirmed_until)}"'
        f" Recipient={quoteattr(said.acs_url if said.recipient is None else said.recipient)}{answers}/>"
        f"</saml:SubjectConfirmation></saml:Subject>{conditions}"
        f'<saml:AuthnStatement AuthnInstant="{_time(said.now)}"{until}><saml:AuthnContext>'
        "<saml:AuthnContextClassRef>urn:oasis:names:tc:SAML:2.0:ac:classes:Password</saml:AuthnContextClassRef>"
        f"</saml:AuthnContext></saml:AuthnStatement><saml:AttributeStatement>{attributes}</saml:AttributeStatement>"
        "</saml:Assertion>"
    )


def render_response(said: Statement, issuer: str, assertion: str, *, place: bool) -> str:
    answers = f" InResponseTo={quoteattr(said.in_response_to)}" if said.in_response_to else ""
    destination = said.acs_url if said.destination is None else said.destination
    return (
        f'<samlp:Response xmlns:samlp="{_SAMLP}" ID="r{uuid.uuid4().hex}" Version="2.0" '
        f'IssueInstant="{_time(said.now + said.issued)}" Destination={quoteattr(destination)}{answers}>'
        f'<saml:Issuer xmlns:saml="{_SAML}">{escape(said.issuer or issuer)}</saml:Issuer>{_PLACE if place else ""}'
        f"<samlp:Status><samlp:StatusCode Value={quoteattr(said.status)}/></samlp:Status>{assertion}</samlp:Response>"
    )


def sign(document: str, signer: str, **choices: Any) -> str:
    """Signs the root element with the key of that name."""
    root = etree.fromstring(document)
    chosen: dict[str, Any] = {
        "signature_algorithm": SignatureMethod.RSA_SHA256,
        "digest_algorithm": DigestAlgorithm.SHA256,
        "c14n_algorithm": "http://www.w3.org/2001/10/xml-exc-c14n#",
        **choices,
    }
    machine: Any = XMLSigner(method=SignatureConstructionMethod.enveloped, **chosen)
    signed = machine.sign(
        root,
        key=rsa_key(signer),
        cert=[x509.load_der_x509_certificate(certificate(signer))],
        reference_uri=f"#{root.get('ID')}",
        id_attribute="ID",
    )
    return etree.tostring(signed).decode()


def encrypt(
    document: str, public: rsa.RSAPublicKey, *, transport: str = f"{_XENC}rsa-oaep-mgf1p", cipher: str = "aes256-gcm"
) -> str:
    """An EncryptedAssertion (XML Encryption 1.1)."""
    secret = os.urandom(int(cipher[3:6]) // 8)
    if transport.endswith("rsa-1_5"):
        wrapped = public.encrypt(secret, padding.PKCS1v15())
    elif transport.startswith(_XENC11):
        oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
        wrapped = public.encrypt(secret, oaep)
    else:
        wrapped = public.encrypt(secret, padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None))  # noqa: S303
    if cipher.endswith("gcm"):
        nonce = os.urandom(12)
        content, space = nonce + AESGCM(secret).encrypt(nonce, document.encode(), None), _XENC11
    else:
        size = 16 - len(document.encode()) % 16
        start = os.urandom(16)
        machine = Cipher(algorithms.AES(secret), modes.CBC(start)).encryptor()
        padded = document.encode() + os.urandom(size - 1) + bytes([size])
        content, space = start + machine.update(padded) + machine.finalize(), _XENC
    methods = ""
    if transport.startswith(_XENC11):
        methods = (
            f'<ds:DigestMethod Algorithm="{_XENC}sha256"/>'
            f'<xenc11:MGF xmlns:xenc11="{_XENC11}" Algorithm="{_XENC11}mgf1sha256"/>'
        )
    return (
        f'<saml:EncryptedAssertion xmlns:saml="{_SAML}"><xenc:EncryptedData xmlns:xenc="{_XENC}" '
        f'xmlns:ds="{_DSIG}" Type="{_XENC}Element"><xenc:EncryptionMethod Algorithm="{space}{cipher}"/><ds:KeyInfo>'
        f'<xenc:EncryptedKey><xenc:EncryptionMethod Algorithm="{transport}">{methods}</xenc:EncryptionMethod>'
        f"<xenc:CipherData><xenc:CipherValue>{base64.b64encode(wrapped).decode()}</xenc:CipherValue>"
        f"</xenc:CipherData></xenc:EncryptedKey></ds:KeyInfo><xenc:CipherData><xenc:CipherValue>"
        f"{base64.b64encode(content).decode()}</xenc:CipherValue></xenc:CipherData></xenc:EncryptedData>"
        "</saml:EncryptedAssertion>"
    )


@dataclass(frozen=True)
class IdentityServer:
    """An identity provider; `name` is that of its key too."""

    name: str

    @property
    def entity_id(self) -> str:
        return f"https://{self.name}.example/metadata"

    @property
    def sign_in_url(self) -> str:
        return f"https://{self.name}.example/sso"

    def metadata(self, *, keys: Sequence[str] = (), attributes: str = "", entity_id: str = "") -> str:
        descriptors = "".join(
            f'<KeyDescriptor use="signing"><KeyInfo xmlns="{_DSIG}"><X509Data><X509Certificate>'
            f"{base64.b64encode(certificate(key)).decode()}</X509Certificate></X509Data></KeyInfo></KeyDescriptor>"
            for key in keys or (self.name,)
        )
        return (
            f'<EntityDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata" '
            f'entityID="{entity_id or self.entity_id}" {attributes}>'
            f'<IDPSSODescriptor protocolSupportEnumeration="{_SAMLP}">{descriptors}'
            '<SingleSignOnService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST" '
            f'Location="{self.sign_in_url}/post"/>'
            '<SingleSignOnService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect" '
            f'Location="{self.sign_in_url}"/></IDPSSODescriptor></EntityDescriptor>'
        )

    def answer(
        self,
        said: Statement,
        *,
        signed: str = "assertion",
        signer: str = "",
        encrypted: Callable[[str], str] | None = None,
        **choices: Any,
    ) -> str:
        """The response as XML. `signed`: assertion, response, both or nothing."""
        whole = signed in ("response", "both")
        assertion = render_assertion(said, self.entity_id, place=signed in ("assertion", "both"))
        if signed in ("assertion", "both"):
            assertion = sign(assertion, signer or self.name, **choices)
        if encrypted is not None:
            assertion = encrypted(assertion)
        response = render_response(said, self.entity_id, assertion, place=whole)
        return sign(response, signer or self.name, **choices) if whole else response


def packed(response: str) -> str:
    """As a browser posts it."""
    return base64.b64encode(response.encode()).decode()
