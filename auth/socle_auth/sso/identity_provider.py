"""An identity provider's metadata as a value (SAML 2.0 Metadata §2.4)."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from datetime import UTC, datetime

from socle_auth.sso.xml import DSIG, METADATA, XmlFault, attribute, children, parse_xml, tag, text_of

REDIRECT = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect"
PERSISTENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent"
TRANSIENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"
EMAIL_ADDRESS = "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress"
UNSPECIFIED = "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified"
NAME_ID_FORMATS = (PERSISTENT, EMAIL_ADDRESS, TRANSIENT, UNSPECIFIED)

_DURATION = re.compile(r"P(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?", re.ASCII)
_SECONDS = (365 * 86400.0, 30 * 86400.0, 86400.0, 3600.0, 60.0, 1.0)


@dataclass(frozen=True, slots=True)
class IdentityProvider:
    """Who vouches for users: name, where they are sent, and the certificates (DER) that sign."""

    entity_id: str
    redirect_url: str
    certificates: tuple[bytes, ...]
    valid_until: datetime | None = None
    cache_seconds: float | None = None


def parse_metadata(text: str) -> IdentityProvider:
    """The one identity provider of a metadata document. Raises XmlFault with what is wrong."""
    root = parse_xml(text.encode())
    if root.tag == tag(METADATA, "EntitiesDescriptor"):
        entities = [one for one in root.iter(tag(METADATA, "EntityDescriptor")) if children(one, METADATA, _ROLE)]
        if len(entities) != 1:
            raise XmlFault("SAML Metadata does not contain exactly one identity provider")
        root = entities[0]
    if root.tag != tag(METADATA, "EntityDescriptor"):
        raise XmlFault("SAML Metadata does not contain an EntityDescriptor")
    entity_id = attribute(root, "entityID")
    if not entity_id:
        raise XmlFault("SAML Metadata does not contain an EntityID")
    roles = children(root, METADATA, _ROLE)
    if not roles:
        raise XmlFault("SAML Metadata does not contain any IDPSSODescriptor")
    if len(roles) > 1:
        raise XmlFault("SAML Metadata contains multiple IDPSSODescriptors")
    (role,) = roles
    services = children(role, METADATA, "SingleSignOnService")
    url = next((attribute(one, "Location") for one in services if attribute(one, "Binding") == REDIRECT), "")
    if not url.startswith(("https://", "http://")):
        raise XmlFault("SAML Metadata does not offer the HTTP-Redirect binding for single sign-on")
    certificates = tuple(
        _certificate(text_of(found))
        for descriptor in children(role, METADATA, "KeyDescriptor")
        if attribute(descriptor, "use") in ("", "signing")
        for found in descriptor.iter(tag(DSIG, "X509Certificate"))
    )
    if not certificates:
        raise XmlFault("SAML Metadata does not contain a signing certificate")
    return IdentityProvider(
        entity_id,
        url,
        certificates,
        valid_until=parse_time(attribute(root, "validUntil")) if attribute(root, "validUntil") else None,
        cache_seconds=_parse_duration(attribute(root, "cacheDuration")),
    )


_ROLE = "IDPSSODescriptor"


def _certificate(text: str) -> bytes:
    from cryptography import x509

    try:
        der = base64.b64decode("".join(text.split()), validate=True)
        x509.load_der_x509_certificate(der)
    except (ValueError, binascii.Error):
        raise XmlFault("SAML Metadata contains a certificate that cannot be read") from None
    return der


def parse_time(text: str) -> datetime:
    """An xs:dateTime in UTC. Raises XmlFault."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise XmlFault(f"not a time: {text!r}") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _parse_duration(text: str) -> float | None:
    """Seconds of an xs:duration; None without one that can be read."""
    match = _DURATION.fullmatch(text) if text else None
    if match is None or not any(match.groups()):
        return None
    return sum(float(part or 0) * size for part, size in zip(match.groups(), _SECONDS, strict=True))
