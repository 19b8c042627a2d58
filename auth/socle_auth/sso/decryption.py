"""Encrypted assertions (XML Encryption 1.1): RSA-OAEP for the key, AES for the content."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from socle_auth.sso.xml import DSIG, XENC, XENC11, SignatureFault, XmlFault, attribute, child, parse_xml, tag, text_of

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.hashes import HashAlgorithm

    from socle_auth.sso.xml import Element

_CBC = {f"{XENC}aes128-cbc": 16, f"{XENC}aes192-cbc": 24, f"{XENC}aes256-cbc": 32}
_GCM = {f"{XENC11}aes128-gcm": 16, f"{XENC11}aes192-gcm": 24, f"{XENC11}aes256-gcm": 32}
_OAEP = frozenset({f"{XENC}rsa-oaep-mgf1p", f"{XENC11}rsa-oaep"})


def decrypt_assertion(encrypted: Element, keys: tuple[RSAPrivateKey, ...]) -> Element:
    """The assertion inside an EncryptedAssertion. One answer for every fault, so that none of them tells anything.

    RSA with PKCS#1 v1.5 padding is not accepted. Raises SignatureFault.
    """
    from cryptography.exceptions import InvalidTag

    data = child(encrypted, XENC, "EncryptedData")
    wrapped = next(encrypted.iter(tag(XENC, "EncryptedKey")), None)
    if data is None or wrapped is None:
        raise SignatureFault
    for key in keys:
        try:
            return parse_xml(_decrypt(data, _unwrap(wrapped, key)))
        except (ValueError, TypeError, KeyError, InvalidTag, XmlFault, binascii.Error):
            continue
    raise SignatureFault


def _cipher_value(element: Element) -> bytes:
    value = child(child(element, XENC, "CipherData"), XENC, "CipherValue")
    return base64.b64decode("".join(text_of(value).split()), validate=True)


def _unwrap(wrapped: Element, key: RSAPrivateKey) -> bytes:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP

    method = child(wrapped, XENC, "EncryptionMethod")
    if attribute(method, "Algorithm") not in _OAEP:
        raise ValueError("key transport is not RSA-OAEP")
    digests: dict[str, HashAlgorithm] = {
        "sha1": hashes.SHA1(),  # noqa: S303 - the standard's own default; collisions do not matter to OAEP
        "sha256": hashes.SHA256(),
        "sha512": hashes.SHA512(),
    }
    digest = attribute(child(method, DSIG, "DigestMethod"), "Algorithm").rpartition("#")[2] or "sha1"
    mask = attribute(child(method, XENC11, "MGF"), "Algorithm").rpartition("mgf1")[2] or "sha1"
    padding = OAEP(mgf=MGF1(digests[mask]), algorithm=digests[digest], label=None)
    return key.decrypt(_cipher_value(wrapped), padding)


def _decrypt(data: Element, secret: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    method = attribute(child(data, XENC, "EncryptionMethod"), "Algorithm")
    raw = _cipher_value(data)
    if _GCM.get(method) == len(secret):
        return AESGCM(secret).decrypt(raw[:12], raw[12:], None)
    if _CBC.get(method) != len(secret) or len(raw) < 32 or len(raw) % 16:
        raise ValueError("content is not encrypted with AES")
    decryptor = Cipher(algorithms.AES(secret), modes.CBC(raw[:16])).decryptor()
    padded = decryptor.update(raw[16:]) + decryptor.finalize()
    if not 1 <= padded[-1] <= 16:
        raise ValueError("padding")
    return padded[: -padded[-1]]
