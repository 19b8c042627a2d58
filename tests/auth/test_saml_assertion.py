"""What SAML responses prove, and what they do not (contract §3.15): real signatures, real attacks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("signxml")

from signxml.algorithms import DigestAlgorithm, SignatureMethod
from signxml.signer import XMLSigner

from harness.saml import IdentityServer, Statement, certificate, encrypt, rsa_key
from socle_auth.sso.assertion import (
    SUBJECT_ID,
    Assertion,
    AssertionRefused,
    mapped_claims,
    profile_of,
    verify_response,
)
from socle_auth.sso.identity_provider import EMAIL_ADDRESS, TRANSIENT, IdentityProvider, parse_metadata
from socle_auth.sso.service_provider import ServiceProvider
from socle_auth.sso.xml import XmlFault, parse_xml

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
IDP = IdentityServer("corp")
KNOWN = IdentityProvider(IDP.entity_id, IDP.sign_in_url, (certificate("corp"),))
OURS = ServiceProvider(
    "https://api.example/sso/saml/metadata",
    "https://api.example/sso/saml/acs",
    rsa_key("ours"),
    certificate("ours"),
    decrypts=True,
)
SAID = Statement(NOW, OURS.acs_url, OURS.entity_id)
_XENC = "http://www.w3.org/2001/04/xmlenc#"
_XENC11 = "http://www.w3.org/2009/xmlenc11#"


def prove(response: str | bytes, *request_ids: str, now: datetime = NOW, party: ServiceProvider = OURS) -> Assertion:
    data = response.encode() if isinstance(response, str) else response
    return verify_response(data, party, KNOWN, now, request_ids)


def to_us(document: str) -> str:
    return encrypt(document, rsa_key("ours").public_key())


@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"signed": "response"},
        {"signed": "both"},
        {"signature_algorithm": SignatureMethod.RSA_SHA512, "digest_algorithm": DigestAlgorithm.SHA512},
        {"c14n_algorithm": "http://www.w3.org/2001/10/xml-exc-c14n#WithComments"},
        {"c14n_algorithm": "http://www.w3.org/2006/12/xml-c14n11", "signed": "response"},
        {"encrypted": to_us},
        {"encrypted": to_us, "signed": "response"},
        {"encrypted": to_us, "signed": "both"},
    ],
)
def test_signed_responses_are_believed(choices: dict[str, Any]) -> None:
    said = replace(SAID, in_response_to="id-1", session_until=timedelta(hours=8), assertion_id="a1")
    proven = prove(IDP.answer(said, **choices), "id-0", "id-1")
    assert (proven.id, proven.name_id, proven.user_id, proven.email) == ("a1", "ada-1", "ada-1", "ada@corp.example")
    assert proven.session_expires_at == NOW + timedelta(hours=8)
    assert proven.expires_at == NOW + timedelta(minutes=5)


def test_any_of_the_published_certificates_may_have_signed() -> None:
    rolled = replace(KNOWN, certificates=(certificate("other"), certificate("corp")))
    assert verify_response(IDP.answer(SAID).encode(), OURS, rolled, NOW, ()).user_id == "ada-1"


@pytest.mark.parametrize("signed", ["assertion", "response", "both"])
def test_a_strangers_signature_proves_nothing(signed: str) -> None:
    with pytest.raises(AssertionRefused):
        prove(IDP.answer(SAID, signed=signed, signer="mallory"))


@pytest.mark.parametrize("encrypted", [None, to_us])
def test_no_signature_proves_nothing(encrypted: Callable[[str], str] | None) -> None:
    with pytest.raises(AssertionRefused):
        prove(IDP.answer(SAID, signed="nothing", encrypted=encrypted))


class _Careless(XMLSigner):
    def check_deprecated_methods(self) -> None:
        """Signs with anything."""


@pytest.mark.parametrize(
    ("signature", "digest"),
    [
        (SignatureMethod.RSA_SHA1, DigestAlgorithm.SHA256),
        (SignatureMethod.RSA_SHA256, DigestAlgorithm.SHA1),
    ],
)
def test_weak_hashes_prove_nothing(
    monkeypatch: pytest.MonkeyPatch, signature: SignatureMethod, digest: DigestAlgorithm
) -> None:
    monkeypatch.setattr("harness.saml.XMLSigner", _Careless)
    response = IDP.answer(SAID, signature_algorithm=signature, digest_algorithm=digest)
    with pytest.raises(AssertionRefused):
        prove(response)


@pytest.mark.parametrize("signed", ["assertion", "response"])
@pytest.mark.parametrize(
    ("genuine", "forged"),
    [
        ("ada-1", "eve-1"),
        ("ada@corp.example", "eve@corp.example"),
        (OURS.entity_id, "https://other.example"),
        ("12:05:00Z", "13:05:00Z"),
    ],
)
def test_every_change_breaks_the_signature(signed: str, genuine: str, forged: str) -> None:
    response = IDP.answer(SAID, signed=signed)
    assert genuine in response
    with pytest.raises(AssertionRefused):
        prove(response.replace(genuine, forged))


def _assertion_of(response: str) -> tuple[str, str, str]:
    """Before, the assertion, behind."""
    start, end = response.index("<saml:Assertion"), response.index("</saml:Assertion>") + len("</saml:Assertion>")
    return response[:start], response[start:end], response[end:]


def _without_signature(assertion: str) -> str:
    start, end = assertion.index("<ds:Signature"), assertion.index("</ds:Signature>") + len("</ds:Signature>")
    return assertion[:start] + assertion[end:]


def _forged(assertion: str, *, keeps_id: bool = False) -> str:
    plain = _without_signature(assertion).replace("ada-1", "eve-1").replace("ada@corp", "eve@corp")
    return plain if keeps_id else plain.replace('ID="a1"', 'ID="a2"')


def _wrapped_in_extensions(assertion: str) -> str:
    return f"<samlp:Extensions>{assertion}</samlp:Extensions>{_forged(assertion)}"


def _signature_moved_to_the_forged(assertion: str) -> str:
    signature = assertion[assertion.index("<ds:Signature") : assertion.index("</ds:Signature>") + 15]
    forged = _forged(assertion).replace("</saml:Issuer>", f"</saml:Issuer>{signature}", 1)
    return f"<samlp:Extensions>{_without_signature(assertion)}</samlp:Extensions>{forged}"


def _original_inside_the_forged_signature(assertion: str) -> str:
    signature = assertion[assertion.index("<ds:Signature") : assertion.index("</ds:Signature>")]
    forged = _forged(assertion)
    moved = f"{signature}<ds:Object>{_without_signature(assertion)}</ds:Object></ds:Signature>"
    return forged.replace("</saml:Issuer>", f"</saml:Issuer>{moved}", 1)


def _original_inside_the_forged_advice(assertion: str) -> str:
    signature = assertion[assertion.index("<ds:Signature") : assertion.index("</ds:Signature>") + 15]
    advice = f"<saml:Advice>{_without_signature(assertion)}</saml:Advice>"
    return _forged(assertion).replace("</saml:Issuer>", f"</saml:Issuer>{signature}{advice}", 1)


def _two_of_one_id(assertion: str) -> str:
    return f"<samlp:Extensions>{assertion}</samlp:Extensions>{_forged(assertion, keeps_id=True)}"


def _forged_first(assertion: str) -> str:
    return _forged(assertion) + assertion


def _forged_last(assertion: str) -> str:
    return assertion + _forged(assertion)


WRAPPINGS = [
    _wrapped_in_extensions,
    _signature_moved_to_the_forged,
    _original_inside_the_forged_signature,
    _original_inside_the_forged_advice,
    _two_of_one_id,
    _forged_first,
    _forged_last,
]


@pytest.mark.parametrize("wrap", WRAPPINGS)
def test_wrapping_a_signed_assertion_never_gives_the_forged_one(wrap: Callable[[str], str]) -> None:
    before, assertion, behind = _assertion_of(IDP.answer(replace(SAID, assertion_id="a1")))
    try:
        proven = prove(before + wrap(assertion) + behind)
    except AssertionRefused:
        return
    assert (proven.id, proven.user_id, proven.email) == ("a1", "ada-1", "ada@corp.example")


def test_wrapping_a_signed_response_never_gives_the_forged_one() -> None:
    genuine = IDP.answer(replace(SAID, assertion_id="a1"), signed="response")
    before, assertion, behind = _assertion_of(IDP.answer(replace(SAID, assertion_id="a1"), signed="nothing"))
    start, end = genuine.index("<ds:Signature"), genuine.index("</ds:Signature>") + 15
    for inner in (genuine, genuine[:start] + genuine[end:]):
        place = before.replace("</saml:Issuer>", f"</saml:Issuer>{genuine[start:end]}", 1)
        for extra in (f"<samlp:Extensions>{inner}</samlp:Extensions>", f"<samlp:Status>{inner}</samlp:Status>"):
            try:
                proven = prove(place + extra + _forged_plain(assertion) + behind)
            except AssertionRefused:
                continue
            assert proven.user_id == "ada-1"


def _forged_plain(assertion: str) -> str:
    return assertion.replace("ada-1", "eve-1").replace('ID="a1"', 'ID="a2"')


@pytest.mark.parametrize("c14n", ["", "WithComments"])
@pytest.mark.parametrize("signed", ["assertion", "response"])
def test_comments_do_not_cut_names(c14n: str, signed: str) -> None:
    """CVE-2017-11427 and its kin: text nodes are read whole."""
    said = replace(SAID, subject_markup="root@corp.example<!-- cut -->.evil.example", name_format=EMAIL_ADDRESS)
    algorithm = f"http://www.w3.org/2001/10/xml-exc-c14n#{c14n}"
    proven = prove(IDP.answer(said, signed=signed, c14n_algorithm=algorithm))
    assert proven.user_id == "root@corp.example.evil.example"


@pytest.mark.parametrize(
    "head",
    [
        '<!DOCTYPE r [<!ENTITY e SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE r SYSTEM "http://127.0.0.1:1/x.dtd">',
        '<!DOCTYPE r [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>',
        "<!DOCTYPE r>",
    ],
)
def test_document_types_are_refused(head: str) -> None:
    with pytest.raises(AssertionRefused, match=r"document type|well-formed"):
        prove(head + IDP.answer(SAID))
    with pytest.raises(XmlFault):
        parse_metadata(head + IDP.metadata())


@pytest.mark.parametrize(
    "document",
    [b"", b"no xml", b"<a>", b"<a/><b/>", b"<a/>", b"\xff\xfe", b"<x>" + b" " * (1024 * 1024) + b"</x>", b"<a>\0</a>"],
)
def test_what_is_no_response_is_refused(document: bytes) -> None:
    with pytest.raises(AssertionRefused):
        prove(document)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_break_the_parser(data: bytes) -> None:
    with pytest.raises(XmlFault):
        parse_xml(b"<" + data + b"\0")
    with contextlib.suppress(XmlFault):
        parse_xml(data)


FAULTS: list[tuple[str, dict[str, Any]]] = [
    ("another place", {"destination": "https://other.example/acs"}),
    ("another identity provider", {"issuer": "https://other.example"}),
    ("another identity provider", {"assertion_issuer": "https://other.example"}),
    ("too old", {"issued": timedelta(minutes=-5)}),
    ("the identity provider says AuthnFailed", {"status": "urn:oasis:names:tc:SAML:2.0:status:AuthnFailed"}),
    ("another recipient", {"recipient": "https://other.example/acs"}),
    ("has expired", {"confirmed_until": timedelta(minutes=-3)}),
    ("has expired", {"valid_until": timedelta(minutes=-3)}),
    ("not valid yet", {"valid_from": timedelta(minutes=3, seconds=1)}),
    ("another audience", {"audience": "https://other.example"}),
    ("no audience", {"conditions": "<saml:Conditions/>"}),
    ("no conditions", {"conditions": ""}),
    ("no bearer confirmation", {"method": "urn:oasis:names:tc:SAML:2.0:cm:sender-vouches"}),
    ("request that is not open", {"in_response_to": "id-1"}),
    (
        "another audience",
        {
            "conditions": "<saml:Conditions><saml:AudienceRestriction><saml:Audience>"
            + OURS.entity_id
            + "</saml:Audience></saml:AudienceRestriction><saml:AudienceRestriction><saml:Audience>x</saml:Audience>"
            "</saml:AudienceRestriction></saml:Conditions>"
        },
    ),
]


@pytest.mark.parametrize(("reason", "changes"), FAULTS)
@pytest.mark.parametrize("signed", ["assertion", "response"])
def test_a_true_statement_for_somebody_or_some_time_else_is_refused(
    reason: str, changes: dict[str, Any], signed: str
) -> None:
    with pytest.raises(AssertionRefused, match=reason):
        prove(IDP.answer(replace(SAID, **changes), signed=signed))


def test_an_answer_must_be_to_our_question() -> None:
    for answered in ("", "id-2"):
        with pytest.raises(AssertionRefused, match="another request"):
            prove(IDP.answer(replace(SAID, in_response_to=answered)), "id-1")
    mixed = IDP.answer(replace(SAID, in_response_to="id-2")).replace('InResponseTo="id-2"', 'InResponseTo="id-1"', 1)
    with pytest.raises(AssertionRefused, match="another request"):
        prove(mixed, "id-1")


@pytest.mark.parametrize(
    "changes",
    [
        {"issued": timedelta(minutes=-4)},
        {"confirmed_until": timedelta(minutes=-2)},
        {"valid_until": timedelta(minutes=-2)},
        {"valid_from": timedelta(minutes=2)},
        {"destination": ""},
    ],
)
def test_clocks_may_differ_a_little(changes: dict[str, Any]) -> None:
    assert prove(IDP.answer(replace(SAID, **changes))).user_id == "ada-1"


@pytest.mark.parametrize("cipher", ["aes128-gcm", "aes192-gcm", "aes256-gcm", "aes128-cbc", "aes192-cbc", "aes256-cbc"])
@pytest.mark.parametrize("transport", [f"{_XENC}rsa-oaep-mgf1p", f"{_XENC11}rsa-oaep"])
def test_encrypted_assertions(cipher: str, transport: str) -> None:
    public = rsa_key("ours").public_key()
    response = IDP.answer(SAID, encrypted=lambda text: encrypt(text, public, transport=transport, cipher=cipher))
    assert prove(response).user_id == "ada-1"


def test_the_next_key_decrypts_too() -> None:
    response = IDP.answer(SAID, encrypted=lambda text: encrypt(text, rsa_key("next").public_key()))
    with pytest.raises(AssertionRefused):
        prove(response)
    changing = replace(OURS, next_key=rsa_key("next"), next_certificate=certificate("next"))
    assert prove(response, party=changing).user_id == "ada-1"


def test_encryption_has_to_be_allowed() -> None:
    with pytest.raises(AssertionRefused, match="not allowed"):
        prove(IDP.answer(SAID, encrypted=to_us), party=replace(OURS, decrypts=False))


def test_faults_of_encryption_look_alike() -> None:
    """Nobody learns from the answers what is inside (Bleichenbacher, padding oracles)."""
    public = rsa_key("ours").public_key()
    genuine = IDP.answer(SAID, encrypted=lambda text: encrypt(text, public, cipher="aes128-cbc"))
    values = genuine.split("<xenc:CipherValue>")
    flipped = "<xenc:CipherValue>".join([*values[:2], values[2].replace(values[2][30:34], "AAAA", 1)])
    broken = [
        IDP.answer(
            SAID, encrypted=lambda text: encrypt(text, rsa_key("ours").public_key(), transport=f"{_XENC}rsa-1_5")
        ),
        IDP.answer(SAID, encrypted=lambda text: encrypt(text, rsa_key("mallory").public_key())),
        IDP.answer(SAID, encrypted=lambda text: to_us("no xml" + text)),
        IDP.answer(SAID, encrypted=to_us).replace("aes256-gcm", "aes128-gcm"),
        IDP.answer(SAID, encrypted=to_us).replace("aes256-gcm", "tripledes-cbc"),
        flipped,
        genuine.replace("<xenc:CipherValue>", "<xenc:CipherValue>!", 1),
        genuine.replace("xenc:EncryptedKey", "xenc:Nothing"),
    ]
    messages = set[str]()
    for response in broken:
        with pytest.raises(AssertionRefused) as caught:
            prove(response)
        messages.add(caught.value.message)
    assert len(messages) == 1


def test_who_it_is() -> None:
    by_address = replace(SAID, subject=" Ada@Corp.Example ", name_format=EMAIL_ADDRESS, attributes={})
    proven = prove(IDP.answer(by_address))
    assert (proven.user_id, proven.email) == ("ada@corp.example", "Ada@Corp.Example")
    passing = replace(SAID, subject="x", name_format=TRANSIENT)
    assert prove(IDP.answer(passing)).user_id == ""
    named = replace(passing, attributes={SUBJECT_ID: ["ada@scope"]})
    assert prove(IDP.answer(named)).user_id == "ada@scope"


@pytest.mark.parametrize(
    "name",
    [
        "urn:oid:0.9.2342.19200300.100.1.3",
        "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress",
        "http://schemas.xmlsoap.org/claims/EmailAddress",
        "mail",
        "Mail",
        "email",
    ],
)
def test_the_address_is_guessed(name: str) -> None:
    assert prove(IDP.answer(replace(SAID, attributes={name: ["", "a@b.example"]}))).email == "a@b.example"
    friendly = replace(SAID, attributes={"urn:x": ["a@b.example"]}, friendly_names={"urn:x": name})
    assert prove(IDP.answer(friendly)).email == "a@b.example"


def test_without_an_address_there_is_no_profile() -> None:
    proven = prove(IDP.answer(replace(SAID, attributes={"name": ["Ada"]})))
    assert profile_of(proven, {}, IDP.entity_id) is None


def test_attributes_are_mapped() -> None:
    attributes = {"n": ["Ada"], "groups": ["a", "b"], "empty": [""], "m": ["ada@other.example"]}
    proven = prove(IDP.answer(replace(SAID, attributes=attributes)))
    mapping = {
        "keys": {
            "email": {"name": "m"},
            "name": {"names": ["missing", "empty", "N"]},
            "groups": {"name": "groups", "array": True},
            "first_group": {"name": "groups"},
            "plan": {"name": "missing", "default": "free"},
            "zero": {"name": "missing", "default": 0},
            "nothing": {"name": "missing"},
            "sub": {"name": "n"},
            "email_verified": {"name": "n"},
        }
    }
    claims = mapped_claims(proven, mapping)
    assert claims == {
        "email": "ada@other.example",
        "name": "Ada",
        "groups": ["a", "b"],
        "first_group": "a",
        "plan": "free",
        "zero": 0,
        "sub": "Ada",
        "email_verified": "Ada",
    }
    profile = profile_of(proven, mapping, IDP.entity_id)
    assert profile is not None
    data = profile.identity_data()
    assert (profile.subject, data["sub"], data["iss"]) == ("ada-1", "ada-1", IDP.entity_id)
    assert (data["email"], data["email_verified"], data["name"]) == ("ada@other.example", True, "Ada")
    assert data["custom_claims"] == {"groups": ["a", "b"], "first_group": "a", "plan": "free", "zero": 0}


@pytest.mark.parametrize(
    "mapping", [None, {}, [], {"keys": None}, {"keys": {"a": None}}, {"keys": {"a": {"names": 3}}}]
)
def test_a_broken_mapping_maps_nothing(mapping: object) -> None:
    assert mapped_claims(prove(IDP.answer(SAID)), mapping) == {}
