"""XML that strangers send: parsed without entities, types or network; signatures proven, and only what was signed read.

The only module that knows lxml and signxml (the `saml` extra).
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeAlias

from socle_platform.errors import SocleError

if TYPE_CHECKING:
    from lxml.etree import _Element  # pyright: ignore[reportPrivateUsage] - lxml's only name for its type

    Element: TypeAlias = _Element

SAML = "urn:oasis:names:tc:SAML:2.0:assertion"
SAMLP = "urn:oasis:names:tc:SAML:2.0:protocol"
METADATA = "urn:oasis:names:tc:SAML:2.0:metadata"
DSIG = "http://www.w3.org/2000/09/xmldsig#"
XENC = "http://www.w3.org/2001/04/xmlenc#"
XENC11 = "http://www.w3.org/2009/xmlenc11#"

MAXIMUM = 1024 * 1024


class SamlExtraMissing(SocleError):
    """SAML needs the saml extra: install socle-platform[saml]."""


class XmlFault(SocleError):
    """The document is not XML that can be trusted with a look."""


class SignatureFault(SocleError):
    """The document is not signed by the identity provider."""


def ensure_installed() -> None:
    """Raises SamlExtraMissing."""
    if find_spec("lxml") is None or find_spec("signxml") is None:
        raise SamlExtraMissing


def parse_xml(data: bytes) -> Element:
    """The root element. Raises XmlFault for anything with a document type, or that is not well formed."""
    from lxml import etree

    if len(data) > MAXIMUM:
        raise XmlFault("the document is too large")
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise XmlFault("the document is not well-formed XML") from error
    if root.getroottree().docinfo.doctype or root.getroottree().docinfo.internalDTD is not None:
        raise XmlFault("a document type is not allowed")
    return root


def to_bytes(element: Element) -> bytes:
    from lxml import etree

    return etree.tostring(element)


def tag(namespace: str, name: str) -> str:
    return f"{{{namespace}}}{name}"


def children(element: Element, namespace: str, name: str) -> list[Element]:
    """Direct children of a name."""
    return list(element.iterchildren(tag(namespace, name)))


def child(element: Element | None, namespace: str, name: str) -> Element | None:
    """The first direct child of a name."""
    return None if element is None else next(element.iterchildren(tag(namespace, name)), None)


def text_of(element: Element | None) -> str:
    """All text inside, without the blanks around it."""
    return "" if element is None else "".join(str(part) for part in element.itertext()).strip()


def attribute(element: Element | None, name: str) -> str:
    return "" if element is None else str(element.get(name) or "")


def verify_signature(data: bytes, certificates: Sequence[bytes], location: str) -> Element:
    """What the signature under `location` (an ElementPath) covers, read from the signed bytes themselves.

    One of `certificates` (DER) has to have signed; their own dates do not count, the metadata names them. Only
    SHA-2 with RSA or ECDSA counts. Raises SignatureFault.
    """
    from cryptography import x509
    from lxml.etree import LxmlError
    from signxml.algorithms import DigestAlgorithm, SignatureMethod
    from signxml.exceptions import SignXMLException
    from signxml.verifier import SignatureConfiguration, XMLVerifier

    methods = frozenset(
        method
        for method in SignatureMethod
        if method.name.startswith(("RSA_SHA", "ECDSA_SHA")) and "SHA1" not in method.name
    )
    digests = frozenset(
        digest for digest in DigestAlgorithm if digest.name.startswith("SHA") and "SHA1" not in digest.name
    )
    for der in certificates:
        try:
            certificate = x509.load_der_x509_certificate(der)
            config = SignatureConfiguration(
                location=location,
                expect_references=1,
                signature_methods=methods,
                digest_algorithms=digests,
                ignore_ambiguous_key_info=True,
                verification_time=certificate.not_valid_before_utc,
            )
            verifier: Any = XMLVerifier()
            result = verifier.verify(data, x509_cert=certificate, expect_config=config, id_attribute="ID")
            return parse_xml(result.signed_data)
        except (SignXMLException, LxmlError, XmlFault, ValueError, TypeError, KeyError):
            continue
    raise SignatureFault
