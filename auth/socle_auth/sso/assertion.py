"""What an identity provider's response proves (SAML 2.0 Core, Web SSO profile §4.1.4; contract §3.15)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from socle_auth.json_values import members, pick_list, pick_text
from socle_auth.oauth.profile import PROFILE_CLAIMS, Profile, ProviderEmail
from socle_auth.sso.decryption import decrypt_assertion
from socle_auth.sso.identity_provider import EMAIL_ADDRESS, TRANSIENT, IdentityProvider, parse_time
from socle_auth.sso.xml import (
    SAML,
    SAMLP,
    SignatureFault,
    XmlFault,
    attribute,
    child,
    children,
    parse_xml,
    tag,
    text_of,
    to_bytes,
    verify_signature,
)
from socle_platform.errors import SocleError

if TYPE_CHECKING:
    from socle_auth.sso.service_provider import ServiceProvider
    from socle_auth.sso.xml import Element

SUBJECT_ID = "urn:oasis:names:tc:SAML:attribute:subject-id"
CLOCK_SKEW = timedelta(minutes=3)
MAXIMUM_AGE = timedelta(seconds=90)
_SUCCESS = "urn:oasis:names:tc:SAML:2.0:status:Success"
_BEARER = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
_EMAIL_ATTRIBUTES = (
    "urn:oid:0.9.2342.19200300.100.1.3",
    "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress",
    "http://schemas.xmlsoap.org/claims/EmailAddress",
    "mail",
    "Mail",
    "email",
)
_OURS = frozenset({"iss", "sub", "email", "email_verified", "phone_verified", "custom_claims", "provider_id"})


class AssertionRefused(SocleError):
    """The assertion proves nothing here and now."""


@dataclass(frozen=True, slots=True)
class Assertion:
    """A proven statement about a person. `attributes` by name and by friendly name, in lower case."""

    id: str
    name_id: str
    name_id_format: str
    attributes: Mapping[str, tuple[str, ...]]
    expires_at: datetime
    session_expires_at: datetime | None = None

    def values(self, name: str) -> tuple[str, ...]:
        return self.attributes.get(name.lower(), ())

    @property
    def user_id(self) -> str:
        """What identifies the person for good; "" when nothing does (a transient NameID changes each time)."""
        if subject := self.values(SUBJECT_ID):
            return subject[0]
        if self.name_id_format == TRANSIENT:
            return ""
        return self.name_id.strip().lower() if self.name_id_format == EMAIL_ADDRESS else self.name_id

    @property
    def email(self) -> str:
        """The best guess for an address."""
        for name in _EMAIL_ATTRIBUTES:
            for value in self.values(name):
                if value:
                    return value
        return self.name_id if self.name_id_format == EMAIL_ADDRESS else ""


def response_issuer(data: bytes) -> str:
    """Who says to have sent a response, unproven. Raises XmlFault."""
    return text_of(child(parse_xml(data), SAML, "Issuer"))


def verify_response(
    data: bytes,
    party: ServiceProvider,
    provider: IdentityProvider,
    now: datetime,
    request_ids: Collection[str],
) -> Assertion:
    """The assertion of a response, proven. `request_ids` are those it may answer; empty allows one that answers none.

    Raises AssertionRefused.
    """
    try:
        response = parse_xml(data)
        if response.tag != tag(SAMLP, "Response"):
            raise AssertionRefused("the document is not a SAML response")
        signed = bool(children(response, "http://www.w3.org/2000/09/xmldsig#", "Signature"))
        if signed:
            response = verify_signature(data, provider.certificates, "./")
            if response.tag != tag(SAMLP, "Response"):
                raise AssertionRefused("the signature does not cover the response")
        _check_response(response, party, provider, now, request_ids)
        assertion = _proven_assertion(data, response, party, provider, signed=signed)
        return _read(assertion, party, provider, now, request_ids)
    except XmlFault as fault:
        raise AssertionRefused(fault.message) from fault
    except SignatureFault as fault:
        raise AssertionRefused(fault.message) from fault


def _check_response(
    response: Element,
    party: ServiceProvider,
    provider: IdentityProvider,
    now: datetime,
    request_ids: Collection[str],
) -> None:
    destination, issuer = attribute(response, "Destination"), child(response, SAML, "Issuer")
    if destination and destination != party.acs_url:
        raise AssertionRefused("the response is for another place")
    if issuer is not None and text_of(issuer) != provider.entity_id:
        raise AssertionRefused("the response is of another identity provider")
    if parse_time(attribute(response, "IssueInstant")) + MAXIMUM_AGE + CLOCK_SKEW < now:
        raise AssertionRefused("the response is too old")
    status = attribute(child(child(response, SAMLP, "Status"), SAMLP, "StatusCode"), "Value")
    if status != _SUCCESS:
        raise AssertionRefused(f"the identity provider says {status.rpartition(':')[2] or 'nothing'}")
    _check_answer(attribute(response, "InResponseTo"), request_ids)


def _check_answer(in_response_to: str, request_ids: Collection[str]) -> None:
    if request_ids and in_response_to not in request_ids:
        raise AssertionRefused("the response answers another request")
    if not request_ids and in_response_to:
        raise AssertionRefused("the response answers a request that is not open")


def _proven_assertion(
    data: bytes, response: Element, party: ServiceProvider, provider: IdentityProvider, *, signed: bool
) -> Element:
    """The one assertion, as it was signed: by itself, or with the response around it."""
    plain = children(response, SAML, "Assertion")
    encrypted = children(response, SAML, "EncryptedAssertion")
    if len(plain) + len(encrypted) != 1:
        raise AssertionRefused("the response has not exactly one assertion")
    if encrypted:
        if not party.decrypts:
            raise AssertionRefused("encrypted assertions are not allowed")
        keys = (party.key,) if party.next_key is None else (party.key, party.next_key)
        assertion = decrypt_assertion(encrypted[0], keys)
    else:
        (assertion,) = plain
    if assertion.tag != tag(SAML, "Assertion"):
        raise AssertionRefused("the response has not exactly one assertion")
    if signed:
        return assertion
    if encrypted:
        proven = verify_signature(to_bytes(assertion), provider.certificates, "./")
    else:
        proven = verify_signature(data, provider.certificates, f"./{tag(SAML, 'Assertion')}/")
    if proven.tag != tag(SAML, "Assertion"):
        raise AssertionRefused("the signature does not cover the assertion")
    return proven


def _read(
    assertion: Element,
    party: ServiceProvider,
    provider: IdentityProvider,
    now: datetime,
    request_ids: Collection[str],
) -> Assertion:
    if text_of(child(assertion, SAML, "Issuer")) != provider.entity_id:
        raise AssertionRefused("the assertion is of another identity provider")
    if parse_time(attribute(assertion, "IssueInstant")) + MAXIMUM_AGE + CLOCK_SKEW < now:
        raise AssertionRefused("the assertion is too old")
    if not attribute(assertion, "ID"):
        raise AssertionRefused("the assertion has no ID")
    subject = child(assertion, SAML, "Subject")
    expires = _check_subject(subject, party, now, request_ids)
    _check_conditions(child(assertion, SAML, "Conditions"), party, now)
    name_id = child(subject, SAML, "NameID")
    limits = [
        parse_time(attribute(statement, "SessionNotOnOrAfter"))
        for statement in children(assertion, SAML, "AuthnStatement")
        if attribute(statement, "SessionNotOnOrAfter")
    ]
    return Assertion(
        id=attribute(assertion, "ID"),
        name_id=text_of(name_id),
        name_id_format=attribute(name_id, "Format"),
        attributes=_read_attributes(assertion),
        expires_at=expires,
        session_expires_at=min(limits, default=None),
    )


def _check_subject(
    subject: Element | None, party: ServiceProvider, now: datetime, request_ids: Collection[str]
) -> datetime:
    """Some bearer confirmation has to be for us, now and for this request; gives its end."""
    refusal = AssertionRefused("the assertion has no bearer confirmation")
    for confirmation in children(subject, SAML, "SubjectConfirmation") if subject is not None else []:
        if attribute(confirmation, "Method") != _BEARER:
            continue
        data = child(confirmation, SAML, "SubjectConfirmationData")
        try:
            if attribute(data, "Recipient") != party.acs_url:
                raise AssertionRefused("the assertion is for another recipient")
            end = parse_time(attribute(data, "NotOnOrAfter"))
            if now >= end + CLOCK_SKEW:
                raise AssertionRefused("the assertion has expired")
            _check_answer(attribute(data, "InResponseTo"), request_ids)
        except AssertionRefused as error:
            refusal = error
            continue
        return end
    raise refusal


def _check_conditions(conditions: Element | None, party: ServiceProvider, now: datetime) -> None:
    """Times, and the audience: without one the assertion is for nobody."""
    if conditions is None:
        raise AssertionRefused("the assertion has no conditions")
    start, end = attribute(conditions, "NotBefore"), attribute(conditions, "NotOnOrAfter")
    if start and now < parse_time(start) - CLOCK_SKEW:
        raise AssertionRefused("the assertion is not valid yet")
    if end and now >= parse_time(end) + CLOCK_SKEW:
        raise AssertionRefused("the assertion has expired")
    restrictions = children(conditions, SAML, "AudienceRestriction")
    for restriction in restrictions:
        if party.entity_id not in {text_of(one) for one in children(restriction, SAML, "Audience")}:
            raise AssertionRefused("the assertion is for another audience")
    if not restrictions:
        raise AssertionRefused("the assertion names no audience")


def _read_attributes(assertion: Element) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for statement in children(assertion, SAML, "AttributeStatement"):
        for one in children(statement, SAML, "Attribute"):
            values = tuple(text_of(value) for value in children(one, SAML, "AttributeValue"))
            for name in {attribute(one, "Name").lower(), attribute(one, "FriendlyName").lower()} - {""}:
                found[name] = (*found.get(name, ()), *values)
    return found


def mapped_claims(assertion: Assertion, mapping: object) -> dict[str, Any]:
    """Claims by the provider's attribute mapping: `{"keys": {claim: {name | names, default, array}}}`."""
    claims: dict[str, Any] = {}
    for claim, rule in members(members(mapping).get("keys")).items():
        names: Sequence[object] = [pick_text(rule, "name"), *pick_list(rule, "names")]
        offered = ([one for one in assertion.values(str(name)) if one] for name in names)
        values = next(filter(None, offered), None)
        if values:
            claims[claim] = values if members(rule).get("array") is True else values[0]
        elif members(rule).get("default") is not None:
            claims[claim] = members(rule)["default"]
    return claims


def profile_of(assertion: Assertion, mapping: object, entity_id: str) -> Profile | None:
    """The person; None without an address. Claims that are not standard ones are custom."""
    claims = mapped_claims(assertion, mapping)
    mapped = claims.pop("email", "")
    email = mapped if isinstance(mapped, str) and mapped else assertion.email
    if not email:
        return None
    standard = {name: value for name, value in claims.items() if name in PROFILE_CLAIMS - _OURS}
    custom = {name: value for name, value in claims.items() if name not in PROFILE_CLAIMS}
    kept: dict[str, object] = {"iss": entity_id, "sub": assertion.user_id, **standard}
    if custom:
        kept["custom_claims"] = custom
    return Profile(assertion.user_id, (ProviderEmail(email, verified=True),), kept)
