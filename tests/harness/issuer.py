"""An OpenID Connect issuer with real keys: publishes its discovery document and key set, signs ID tokens."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from harness.internet import Internet

_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)


class Issuer:
    """Serves `<name>/.well-known/openid-configuration` and its keys on the Internet given; `sign` makes tokens."""

    def __init__(self, internet: Internet, name: str, *, algorithm: str = "RS256", published_at: str = "") -> None:
        self.internet = internet
        self.name = name
        self.algorithm = algorithm
        self.kid = "key-1"
        self.url = published_at or name.rstrip("/") + "/.well-known/openid-configuration"
        self.base = name.rstrip("/")
        self.key = new_key(algorithm)
        self.document: dict[str, Any] = {
            "issuer": name,
            "authorization_endpoint": f"{self.base}/authorize",
            "token_endpoint": f"{self.base}/token",
            "userinfo_endpoint": f"{self.base}/userinfo",
            "jwks_uri": f"{self.base}/keys",
            "id_token_signing_alg_values_supported": [algorithm],
        }
        self.publish()

    def publish(self) -> None:
        self.internet.say("GET", self.url, self.document)
        self.internet.say("GET", self.document["jwks_uri"], {"keys": [self.jwk()]})

    def rotate(self, kid: str) -> None:
        """A new key takes the old one's place."""
        self.kid = kid
        self.key = new_key(self.algorithm)
        self.publish()

    def jwk(self) -> dict[str, Any]:
        public = self.key.public_key()
        algorithm: Any = {"R": RSAAlgorithm, "P": RSAAlgorithm, "E": ECAlgorithm}[self.algorithm[0]]
        if self.algorithm == "EdDSA":
            algorithm = OKPAlgorithm
        jwk: dict[str, Any] = json.loads(algorithm.to_jwk(public))
        return jwk | {"kid": self.kid, "alg": self.algorithm, "use": "sig"}

    def sign(self, **claims: Any) -> str:
        now = int(time.time())
        whole: dict[str, Any] = {"iss": self.name, "iat": now, "exp": now + 600, **claims}
        whole = {name: value for name, value in whole.items() if value is not None}
        return jwt.encode(whole, self.key, algorithm=self.algorithm, headers={"kid": self.kid})


def new_key(algorithm: str) -> Any:
    """A private key for an algorithm; RSA keys are slow to make, so there is one for all."""
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(ec.SECP256R1()) if algorithm.startswith("ES") else _RSA


def at_hash(access_token: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(access_token.encode()).digest()[:16]).rstrip(b"=").decode()
