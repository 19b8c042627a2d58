"""The few functions of authlib that we use, given types: OAuth 2 requests, PKCE, OAuth 1 signatures."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any


def grant_uri(endpoint: str, client_id: str, redirect_uri: str, scope: str, state: str, **more: str) -> str:
    """The address that asks a person for consent (RFC 6749 §4.1.1)."""
    parameters: Any = import_module("authlib.oauth2.rfc6749.parameters")
    uri: str = parameters.prepare_grant_uri(
        endpoint, client_id, "code", redirect_uri=redirect_uri, scope=scope or None, state=state, **more
    )
    return uri


def token_request(code: str, redirect_uri: str, **more: str) -> str:
    """The form that trades a code for tokens (RFC 6749 §4.1.3)."""
    parameters: Any = import_module("authlib.oauth2.rfc6749.parameters")
    body: str = parameters.prepare_token_request(
        "authorization_code", body="", redirect_uri=redirect_uri, code=code, **more
    )
    return body


def code_challenge(verifier: str) -> str:
    """The S256 challenge of a PKCE verifier (RFC 7636 §4.2)."""
    pkce: Any = import_module("authlib.oauth2.rfc7636")
    challenge: str = pkce.create_s256_code_challenge(verifier)
    return challenge


def oauth1_headers(
    method: str,
    url: str,
    client_id: str,
    secret: str,
    *,
    token: str = "",
    token_secret: str = "",
    verifier: str = "",
    callback: str = "",
) -> Mapping[str, str]:
    """The Authorization header of an OAuth 1 request (RFC 5849, HMAC-SHA1)."""
    signing: Any = import_module("authlib.oauth1.rfc5849.client_auth")
    signer = signing.ClientAuth(
        client_id,
        secret,
        token=token or None,
        token_secret=token_secret or None,
        redirect_uri=callback or None,
        verifier=verifier or None,
    )
    _, headers, _ = signer.prepare(method, url, {}, b"")
    return {str(name): str(value) for name, value in headers.items()}
