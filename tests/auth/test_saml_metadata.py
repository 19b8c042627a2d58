"""Metadata of both sides, our certificate and our signed requests (contract §3.15)."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest

pytest.importorskip("signxml")

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from lxml import etree

from harness.auth_site import FAST, changed
from harness.saml import IdentityServer, certificate, private_text, read_request, rsa_key
from socle_auth.sso import xml
from socle_auth.sso.identity_provider import EMAIL_ADDRESS, PERSISTENT, IdentityProvider, parse_metadata
from socle_auth.sso.metadata import is_stale
from socle_auth.sso.service_provider import (
    KeyUnusable,
    ensure_usable,
    load_key,
    make_certificate,
    render_metadata,
    request_url,
    service_provider,
)
from socle_auth.sso.xml import XmlFault
from socle_platform.config.auth_external import SamlSettings
from socle_platform.config.reader import ConfigError

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
IDP = IdentityServer("corp")
SAML = SamlSettings(enabled=True, private_key=private_text("ours"))
MD = "{urn:oasis:names:tc:SAML:2.0:metadata}"


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
def test_the_certificate_is_the_same_every_time_and_stands_by_itself() -> None:
    raw = make_certificate(rsa_key("ours"), "api.example", encrypts=False)
    assert raw == make_certificate(rsa_key("ours"), "api.example", encrypts=False)
    assert raw != make_certificate(rsa_key("ours"), "other.example", encrypts=False)
    made = x509.load_der_x509_certificate(raw)
    rsa_key("ours").public_key().verify(made.signature, made.tbs_certificate_bytes, padding.PKCS1v15(), hashes.SHA256())
    assert made.subject == made.issuer
    assert made.subject.rfc4514_string() == "CN=SAML 2.0 Certificate for api.example"
    assert (made.not_valid_before_utc.year, made.not_valid_after_utc.year) == (1970, 2170)
    alternative = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert alternative.get_values_for_type(x509.DNSName) == ["_samlsp.api.example"]
    usage = made.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.digital_signature, usage.data_encipherment) == (True, False)


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
def test_the_certificate_tells_of_encryption() -> None:
    made = x509.load_der_x509_certificate(make_certificate(rsa_key("ours"), "münchen.example_", encrypts=True))
    usage = made.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.digital_signature, usage.data_encipherment) == (True, True)
    assert "münchen" in made.subject.rfc4514_string()


def test_keys_that_cannot_be_used_are_named() -> None:
    curve = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption()
    )
    for text, reason in (
        ("", "not base64"),
        ("%%%", "not base64"),
        (base64.b64encode(b"nothing").decode(), "not base64"),
        (base64.b64encode(curve).decode(), "not an RSA key"),
    ):
        with pytest.raises(KeyUnusable, match=reason):
            load_key(text)
    small = rsa_key("small", 1024).private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    with pytest.raises(KeyUnusable, match="2048"):
        load_key(base64.b64encode(small).decode())
    assert load_key(private_text("ours")).key_size == 2048


def test_start_tells_what_saml_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    ensure_usable(changed(saml=SAML))
    with pytest.raises(ConfigError, match="not base64"):
        ensure_usable(changed(saml=replace(SAML, private_key="?")))
    monkeypatch.setattr(xml, "find_spec", dict[str, None]().get)
    with pytest.raises(ConfigError, match=r"install socle-platform\[saml\]"):
        ensure_usable(changed(saml=SAML))


def test_our_metadata() -> None:
    party = service_provider(changed(saml=SAML))
    root = etree.fromstring(render_metadata(party))
    assert root.get("entityID") == f"{FAST.external_url}/sso/saml/metadata"
    assert root.get("validUntil") is None
    assert root.get("cacheDuration") is None
    (service,) = root.iter(f"{MD}AssertionConsumerService")
    assert service.get("Location") == f"{FAST.external_url}/sso/saml/acs"
    assert service.get("Binding") == "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST"
    assert [one.get("use") for one in root.iter(f"{MD}KeyDescriptor")] == ["signing"]
    assert [one.text for one in root.iter(f"{MD}NameIDFormat")] == [EMAIL_ADDRESS, PERSISTENT]
    shown = next(root.iter("{http://www.w3.org/2000/09/xmldsig#}X509Certificate")).text
    assert base64.b64decode(shown or "") == party.certificate


def test_our_metadata_while_keys_change() -> None:
    saml = replace(
        SAML,
        private_key_next=private_text("next"),
        allow_encrypted_assertions=True,
        external_url="https://auth.example/saml/",
    )
    party = service_provider(changed(saml=saml))
    root = etree.fromstring(render_metadata(party, NOW))
    assert (root.get("validUntil"), root.get("cacheDuration")) == ("2026-03-01T12:00:00Z", "PT1H")
    assert root.get("entityID") == "https://auth.example/saml/sso/saml/metadata"
    uses = [one.get("use") for one in root.iter(f"{MD}KeyDescriptor")]
    assert uses == ["signing", "encryption", "signing", "encryption"]


@pytest.mark.parametrize("destination", ["https://idp.example/sso", "https://idp.example/sso?tenant=1&a=b"])
def test_requests_are_signed(destination: str) -> None:
    party = service_provider(changed(saml=SAML))
    url = request_url(party, destination, "id-1", "state", NOW, "")
    assert url.startswith(f"{destination}{'&' if '?' in destination else '?'}SAMLRequest=")
    query, request = read_request(url)
    signed = urlsplit(url).query.partition("&Signature=")[0]
    signed = signed[signed.index("SAMLRequest=") :]
    key, signature = rsa_key("ours").public_key(), base64.b64decode(query["Signature"])
    key.verify(signature, signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    with pytest.raises(InvalidSignature):
        key.verify(signature, signed.replace("state", "other").encode(), padding.PKCS1v15(), hashes.SHA256())
    assert query["RelayState"] == "state"
    assert query["SigAlg"] == "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
    assert (request.get("ID"), request.get("Destination")) == ("id-1", destination)
    assert request.get("AssertionConsumerServiceURL") == party.acs_url
    policy = request.find("{urn:oasis:names:tc:SAML:2.0:protocol}NameIDPolicy")
    assert policy is not None
    assert policy.get("Format") == PERSISTENT


def test_the_format_of_names_is_the_providers() -> None:
    _, request = read_request(
        request_url(service_provider(changed(saml=SAML)), IDP.sign_in_url, "id-1", "s", NOW, EMAIL_ADDRESS)
    )
    policy = request.find("{urn:oasis:names:tc:SAML:2.0:protocol}NameIDPolicy")
    assert policy is not None
    assert policy.get("Format") == EMAIL_ADDRESS


def test_an_identity_providers_metadata_is_read() -> None:
    found = parse_metadata(
        IDP.metadata(
            keys=("corp", "other"), attributes='validUntil="2026-04-01T00:00:00Z" cacheDuration="P1DT2H3M4.5S"'
        )
    )
    assert found == IdentityProvider(
        IDP.entity_id,
        IDP.sign_in_url,
        (certificate("corp"), certificate("other")),
        datetime(2026, 4, 1, tzinfo=UTC),
        86400 + 7200 + 180 + 4.5,
    )
    several = f'<EntitiesDescriptor xmlns="{MD[1:-1]}">{IDP.metadata()}</EntitiesDescriptor>'
    assert parse_metadata(several).entity_id == IDP.entity_id


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<a/>", "EntityDescriptor"),
        ("nothing", "well-formed"),
        (IDP.metadata().replace("entityID", "other"), "does not contain an EntityID"),
        (IDP.metadata().replace("IDPSSODescriptor", "SPSSODescriptor"), "does not contain any IDPSSODescriptor"),
        (IDP.metadata().replace("HTTP-Redirect", "HTTP-Artifact"), "HTTP-Redirect"),
        (IDP.metadata().replace(IDP.sign_in_url, "javascript:alert(1)"), "HTTP-Redirect"),
        (IDP.metadata().replace('use="signing"', 'use="encryption"'), "signing certificate"),
        (IDP.metadata().replace("<X509Certificate>", "<X509Certificate>AAAA"), "cannot be read"),
        (IDP.metadata(attributes='validUntil="soon"'), "not a time"),
        (f'<EntitiesDescriptor xmlns="{MD[1:-1]}">{IDP.metadata() * 2}</EntitiesDescriptor>', "exactly one"),
        (IDP.metadata().replace("<IDP", "<IDPSSODescriptor/><IDP", 1), "multiple"),
    ],
)
def test_metadata_that_cannot_be_used_is_told_why(text: str, reason: str) -> None:
    with pytest.raises(XmlFault, match=reason):
        parse_metadata(text)


@pytest.mark.parametrize(
    ("until", "seconds", "age", "stale"),
    [
        (None, None, timedelta(hours=23), False),
        (None, None, timedelta(hours=25), True),
        (None, 3600.0, timedelta(minutes=59), False),
        (None, 3600.0, timedelta(minutes=61), True),
        (NOW + timedelta(days=1), None, timedelta(days=9), False),
        (NOW - timedelta(days=1), None, timedelta(0), True),
        (NOW - timedelta(days=1), 1e9, timedelta(0), True),
    ],
)
def test_when_metadata_is_asked_for_again(
    until: datetime | None, seconds: float | None, age: timedelta, *, stale: bool
) -> None:
    found = IdentityProvider("e", "u", (), until, seconds)
    assert is_stale(found, NOW - age, NOW) is stale
