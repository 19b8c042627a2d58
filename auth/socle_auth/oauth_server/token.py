"""POST /oauth/token and GET /oauth/userinfo: what an application gets for a code (contract §3.16)."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from socle_auth import audit, sessions, wire
from socle_auth.errors import AuthError, ErrorCode, OAuthError, failure
from socle_auth.oauth_server import scopes
from socle_auth.oauth_server.client_rules import AUTHORIZATION_CODE, BASIC, NONE, POST, REFRESH_TOKEN
from socle_auth.oauth_server.clients import hash_secret
from socle_auth.pkce import matches_challenge
from socle_auth.refresh import refresh_session
from socle_auth.store import oauth_authorizations as store
from socle_auth.store import oauth_clients, users
from socle_auth.store.oauth_authorizations import Authorization

if TYPE_CHECKING:
    from socle_auth.context import AuthService, Call
    from socle_auth.sessions import TokenResponse
    from socle_auth.store.oauth_clients import OAuthClient
    from socle_auth.store.rows import User
    from socle_platform.db import Connection
    from socle_platform.errors import WireResponse

METHOD = "oauth_provider/authorization_code"
_ID_TOKEN_LIFETIME = 3600
_NO_STORE = (("cache-control", "no-store"), ("pragma", "no-cache"))


@dataclass(frozen=True, slots=True)
class ClientProof:
    """How an application proved itself in a request."""

    client_id: str
    method: str
    secret: str = field(default="", repr=False)


async def token(service: AuthService, call: Call) -> WireResponse:
    given = _read_parameters(call)
    client = await _prove_client(service, call, given)
    kind = given.get("grant_type", "")
    if not kind:
        raise OAuthError("invalid_request", "grant_type is required")
    if kind not in client.grant_types:
        raise OAuthError("unsupported_grant_type", f"Client is not allowed to use grant type: {kind}")
    if kind == AUTHORIZATION_CODE:
        response, id_token = await _trade_code(service, call, client, given)
    elif kind == REFRESH_TOKEN:
        response, id_token = await _refresh(service, call, client, given), ""
    else:
        raise OAuthError("unsupported_grant_type", f"Unsupported grant type: {kind}")
    body: dict[str, Any] = {
        "access_token": response.access_token,
        "token_type": "bearer",
        "expires_in": response.expires_in,
        "refresh_token": response.refresh_token,
    }
    if id_token:
        body["id_token"] = id_token
    return wire.reply(body, headers=(*response.headers, *_NO_STORE))


def _read_parameters(call: Call) -> Mapping[str, str]:
    """Fields of a JSON or form body. Raises OAuthError `invalid_request`."""
    kind = call.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if kind == "application/json":
            fields = call.optional_body().fields
            return {name: value for name, value in fields.items() if isinstance(value, str)}
        return wire.parse_form(call.raw_body)
    except AuthError as error:
        raise OAuthError("invalid_request", error.message) from error


def _invalid_credentials(message: str) -> AuthError:
    return AuthError(ErrorCode.INVALID_CREDENTIALS, message)


def read_proof(authorization: str, given: Mapping[str, str]) -> ClientProof:
    """HTTP Basic, else the body's fields. Raises `invalid_credentials`."""
    if authorization[:6].lower() == "basic ":
        try:
            pair = base64.b64decode(authorization[6:].strip(), validate=True).decode()
        except (ValueError, binascii.Error):
            raise _invalid_credentials("Invalid client credentials: invalid basic auth encoding") from None
        client_id, colon, secret = pair.partition(":")
        if not colon:
            raise _invalid_credentials("Invalid client credentials: invalid basic auth format")
        return ClientProof(unquote(client_id), BASIC, unquote(secret))
    client_id, secret = given.get("client_id", ""), given.get("client_secret", "")
    if not client_id:
        raise _invalid_credentials("Invalid client credentials: client_id is required")
    return ClientProof(client_id, POST if secret else NONE, secret)


async def _prove_client(service: AuthService, call: Call, given: Mapping[str, str]) -> OAuthClient:
    """The application, by the one method it is registered for. Raises `invalid_credentials`."""
    proof = read_proof(call.headers.get("authorization", ""), given)
    client_id = wire.parse_uuid(proof.client_id)
    if client_id is None:
        raise _invalid_credentials("Invalid client_id format")
    async with service.connect() as connection:
        client = await oauth_clients.find(connection, client_id)
    if client is None:
        raise _invalid_credentials("Invalid client credentials")
    if proof.method != client.auth_method:
        raise _invalid_credentials(
            f"invalid authentication method: client is registered for '{client.auth_method}' "
            f"but '{proof.method}' was used"
        )
    if client.is_confidential and not hmac.compare_digest(
        hash_secret(proof.secret).encode(), client.secret_hash.encode()
    ):
        raise _invalid_credentials("invalid client credentials")
    return client


async def _trade_code(
    service: AuthService, call: Call, client: OAuthClient, given: Mapping[str, str]
) -> tuple[TokenResponse, str]:
    """The code becomes a session of the application; it is gone with that, whoever else holds it."""
    if not given.get("code"):
        raise OAuthError("invalid_request", "code is required for authorization_code grant")
    async with service.connect() as connection:
        found = await store.find_by_code(connection, given["code"])
        if found is None:
            raise OAuthError("invalid_grant", "Invalid authorization code")
        user = await _check_code(service, connection, client, found, given)
        if scopes.OPENID in found.scopes and service.resources.keyring.signing_key.is_symmetric:
            # an ID token under a shared secret would prove nothing to the application
            raise failure("Error generating ID token")
        traits = {"provider_type": "oauth_provider_authorization_code", "client_id": client.id}
        await audit.record(service, connection, call, "login", user, traits)
        response = await sessions.issue_session(
            service, connection, call, user, METHOD, oauth_client_id=client.id, scopes=found.scope
        )
        await store.delete(connection, found)
    id_token = _sign_id_token(service, client, found, user) if scopes.OPENID in found.scopes else ""
    return response, id_token


async def _check_code(
    service: AuthService,
    connection: Connection,
    client: OAuthClient,
    found: Authorization,
    given: Mapping[str, str],
) -> User:
    """The code's user, once it is proven to be this application's code. Raises OAuthError."""
    if service.now() > found.expires_at:
        raise OAuthError("invalid_grant", "Authorization code has expired")
    if found.client_id != client.id:
        raise OAuthError("invalid_grant", "Authorization code was not issued for this client")
    if given.get("resource") and given["resource"] != found.resource:
        raise OAuthError("invalid_grant", "Authorization code resource does not match the resource parameter")
    if given.get("redirect_uri") and given["redirect_uri"] != found.redirect_uri:
        raise OAuthError("invalid_grant", "Invalid redirect_uri")
    verifier = given.get("code_verifier", "")
    if found.code_challenge and not matches_challenge(found.code_challenge, found.code_challenge_method, verifier):
        raise OAuthError("invalid_grant", "PKCE verification failed: code challenge does not match code verifier")
    user = None if found.user_id is None else await users.find(connection, found.user_id)
    if user is None:
        raise OAuthError("invalid_grant", "User not found for authorization code")
    if user.is_banned(service.now()):
        raise OAuthError("access_denied", "User is banned")
    return user


def _sign_id_token(service: AuthService, client: OAuthClient, found: Authorization, user: User) -> str:
    """`token_use` keeps an ID token from being taken for an access token."""
    now = int(service.now().timestamp())
    signed_in = user.last_sign_in_at or service.now()
    claims: dict[str, Any] = {
        "iss": service.settings.jwt.issuer or service.settings.external_url,
        "sub": user.id,
        "aud": client.id,
        "iat": now,
        "exp": now + _ID_TOKEN_LIFETIME,
        "auth_time": int(signed_in.timestamp()),
        "client_id": client.id,
        "token_use": "id",
        **({"nonce": found.nonce} if found.nonce else {}),
        **scopes.id_token_claims(user, found.scopes),
    }
    return service.resources.keyring.sign(claims)


async def _refresh(service: AuthService, call: Call, client: OAuthClient, given: Mapping[str, str]) -> TokenResponse:
    if not given.get("refresh_token"):
        raise OAuthError("invalid_request", "refresh_token is required for refresh_token grant")
    try:
        return await refresh_session(service, call, given["refresh_token"], client.id)
    except AuthError as error:
        if error.status != 400:
            raise
        raise OAuthError("invalid_grant", error.message) from error


async def userinfo(service: AuthService, call: Call) -> WireResponse:
    """What the session's scopes let an application know; a session of ours without scopes gets `sub` alone."""
    del service
    session = call.require_caller().session
    granted = (session.scopes or "").split() if session is not None else []
    return wire.reply(scopes.userinfo(call.require_user(), granted))
