"""WebAuthn ceremonies against a software authenticator: what is proven, and every way an answer can lie."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from harness.authenticator import PRESENT, Authenticator, b64, unb64
from socle_auth.passkeys.ceremony import (
    CeremonyFailed,
    Credential,
    PersonEntity,
    RelyingParty,
    authentication_options,
    credential_id_of,
    registration_options,
    relying_party,
    user_handle_of,
    verify_assertion,
    verify_registration,
)
from socle_auth.passkeys.names import name_of_model
from socle_platform.config.auth import AuthSettings
from socle_platform.config.auth_factors import WebAuthnSettings

PARTY = RelyingParty("example.com", "Example", ("https://example.com", "https://app.example.com"))
HANDLE = b"3f0f8a30-2b53-4d51-8c8a-0d6c7c6f2a10"
PERSON = PersonEntity(HANDLE, "ada@example.com", "Ada")


def register(device: Authenticator, **changes: Any) -> tuple[dict[str, Any], bytes]:
    challenge = secrets.token_bytes(32)
    options = registration_options(PARTY, PERSON, challenge, [], discoverable=True)
    return device.create(options, **changes), challenge


def device(**changes: Any) -> Authenticator:
    return Authenticator("https://app.example.com", **changes)


def test_registration_options_are_what_browsers_want() -> None:
    known = Credential(b"known", b"", transports=("usb", "unheard-of"))
    options = registration_options(PARTY, PERSON, b"c" * 32, [known], discoverable=True)
    assert options["rp"] == {"id": "example.com", "name": "Example"}
    assert options["user"] == {"id": b64(HANDLE), "name": "ada@example.com", "displayName": "Ada"}
    assert options["challenge"] == b64(b"c" * 32)
    assert options["attestation"] == "none"
    assert options["authenticatorSelection"] == {
        "residentKey": "required",
        "requireResidentKey": True,
        "userVerification": "preferred",
    }
    assert options["excludeCredentials"] == [{"type": "public-key", "id": b64(b"known"), "transports": ["usb"]}]
    assert {"type": "public-key", "alg": -7} in options["pubKeyCredParams"]
    factor = registration_options(PARTY, PERSON, b"c" * 32, [], discoverable=False)
    assert factor["authenticatorSelection"]["residentKey"] == "discouraged"


def test_authentication_options_name_no_credential_for_passkeys() -> None:
    options = authentication_options(PARTY, b"c" * 32, [])
    assert options == {
        "challenge": b64(b"c" * 32),
        "rpId": "example.com",
        "timeout": 300000,
        "userVerification": "preferred",
    }


def test_a_person_without_an_address_still_gets_options() -> None:
    options = registration_options(PARTY, PersonEntity(HANDLE, "", ""), b"c" * 32, [], discoverable=True)
    assert options["user"]["name"] == "user"


def test_a_registered_credential_signs_in() -> None:
    phone = device(model=bytes.fromhex("ea9b8d664d011d213ce4b6b48cb575d4"))
    answer, challenge = register(phone)
    credential = verify_registration(PARTY, answer, challenge)
    assert credential.id == phone.credentials[0].id
    assert credential.model == "ea9b8d66-4d01-1d21-3ce4-b6b48cb575d4"
    assert credential.transports == ("internal", "hybrid")
    assert (credential.backup_eligible, credential.backed_up, credential.user_verified) == (True, True, True)
    assert credential.attestation == "none"

    given = phone.get(authentication_options(PARTY, challenge, []))
    assert credential_id_of(given) == credential.id
    assert user_handle_of(given) == HANDLE.decode()
    assert verify_assertion(PARTY, given, challenge, credential).sign_count == 0


def test_a_device_that_does_not_tell_its_model() -> None:
    answer, challenge = register(device())
    assert verify_registration(PARTY, answer, challenge).model is None


def test_a_copied_credential_is_found_by_its_counter() -> None:
    key = device(counts=True, flags=PRESENT)
    answer, challenge = register(key)
    credential = verify_registration(PARTY, answer, challenge)
    assert (credential.backup_eligible, credential.user_verified) == (False, False)
    given = key.get(authentication_options(PARTY, challenge, []))
    used = replace(credential, sign_count=verify_assertion(PARTY, given, challenge, credential).sign_count)
    assert used.sign_count == 1
    with pytest.raises(CeremonyFailed):
        verify_assertion(PARTY, given, challenge, used)


LIES: list[tuple[str, Callable[[dict[str, Any]], dict[str, Any]]]] = [
    ("nothing", lambda answer: {}),
    ("no response", lambda answer: {**answer, "response": None}),
    ("text for a response", lambda answer: {**answer, "response": "x"}),
    ("other raw id", lambda answer: {**answer, "rawId": b64(b"other")}),
    ("other type", lambda answer: {**answer, "type": "password"}),
    ("id is a number", lambda answer: {**answer, "id": 7, "rawId": 7}),
    ("client data is not base64", lambda answer: _with(answer, clientDataJSON="!!!")),
    ("client data is not JSON", lambda answer: _with(answer, clientDataJSON=b64(b"\xff\xfe"))),
    ("client data is a list", lambda answer: _with(answer, clientDataJSON=b64(b"[]"))),
]


def _with(answer: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {**answer, "response": {**answer["response"], **members}}


@pytest.mark.parametrize("lie", [lie for _, lie in LIES], ids=[name for name, _ in LIES])
def test_malformed_answers_prove_nothing(lie: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    phone = device()
    answer, challenge = register(phone)
    with pytest.raises(CeremonyFailed):
        verify_registration(PARTY, lie(answer), challenge)
    credential = verify_registration(PARTY, answer, challenge)
    given = phone.get(authentication_options(PARTY, challenge, []))
    with pytest.raises(CeremonyFailed):
        verify_assertion(PARTY, lie(given), challenge, credential)


@pytest.mark.parametrize(
    "changes",
    [
        {"origin": "https://evil.example"},
        {"origin": "https://example.com.evil.example"},
        {"type": "webauthn.steal"},
        {"challenge": b64(b"another challenge")},
    ],
    ids=str,
)
def test_answers_for_other_pages_or_challenges_prove_nothing(changes: dict[str, Any]) -> None:
    phone = device()
    answer, challenge = register(phone, **changes)
    with pytest.raises(CeremonyFailed):
        verify_registration(PARTY, answer, challenge)
    honest, challenge = register(phone)
    credential = verify_registration(PARTY, honest, challenge)
    given = phone.get(authentication_options(PARTY, challenge, []), **changes)
    with pytest.raises(CeremonyFailed):
        verify_assertion(PARTY, given, challenge, credential)


def test_answers_for_another_domain_or_key_prove_nothing() -> None:
    phone, other = device(), device()
    answer, challenge = register(phone)
    credential = verify_registration(PARTY, answer, challenge)
    elsewhere = replace(PARTY, id="example.org")
    with pytest.raises(CeremonyFailed):
        verify_registration(elsewhere, answer, challenge)
    stranger, second = register(other)
    verify_registration(PARTY, stranger, second)
    with pytest.raises(CeremonyFailed):
        verify_assertion(PARTY, other.get(authentication_options(PARTY, challenge, [])), challenge, credential)


def test_a_signature_counts_for_its_own_credential_only() -> None:
    """The same key under another id: the id in the answer must be the stored one."""
    phone = device()
    answer, challenge = register(phone)
    credential = verify_registration(PARTY, answer, challenge)
    given = phone.get(authentication_options(PARTY, challenge, []))
    with pytest.raises(CeremonyFailed):
        verify_assertion(PARTY, given, challenge, replace(credential, id=b"other"))


def test_presence_is_demanded() -> None:
    silent = device(flags=0)
    answer, challenge = register(silent)
    with pytest.raises(CeremonyFailed):
        verify_registration(PARTY, answer, challenge)


@pytest.mark.parametrize("answer", [{}, {"id": None}, {"id": "!"}, {"id": ""}, {"id": 3}], ids=str)
def test_an_answer_without_an_id_names_nothing(answer: dict[str, Any]) -> None:
    with pytest.raises(CeremonyFailed):
        credential_id_of(answer)
    with pytest.raises(CeremonyFailed):
        user_handle_of(answer)
    with pytest.raises(CeremonyFailed):
        user_handle_of({"response": {"userHandle": b64(b"\xff")}})


def test_the_relying_party_follows_the_site_unless_set() -> None:
    assert relying_party(AuthSettings(site_url="https://app.example.com:8443/x")) == RelyingParty(
        "app.example.com", "app.example.com", ("https://app.example.com:8443",)
    )
    configured = WebAuthnSettings("localhost", "My app", ("http://localhost:5173",))
    assert relying_party(AuthSettings(webauthn=configured)) == RelyingParty(
        "localhost", "My app", ("http://localhost:5173",)
    )


def test_models_have_names() -> None:
    assert name_of_model("EA9B8D66-4D01-1D21-3CE4-B6B48CB575D4") == "Google Password Manager"
    assert name_of_model("00000000-0000-0000-0000-000000000001") == "Passkey"
    assert name_of_model(None) == "Passkey"
    assert unb64(b64(b"\x00\x01")) == b"\x00\x01"
