"""Who calls, by the tokens that HTTP carries."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from socle_platform.http import OPAQUE_PREFIX
from socle_platform.keys import TokenEmpty, TokenError, TokenMalformed
from socle_storage.errors import StorageError, access_denied, invalid_input, jwt_text

if TYPE_CHECKING:
    from socle_platform.identity import Identity
    from socle_platform.keys import Keyring
    from socle_storage.wire import Exchange

_BEARER = re.compile(r"Bearer\s+", re.IGNORECASE)


def identify(exchange: Exchange, keyring: Keyring) -> Identity | None:
    """Who calls: the token in `Authorization` (with or without `Bearer`), or an opaque key there or in `apikey`.

    None when there is neither. Raises TokenError.
    """
    authorization = exchange.header("authorization")
    apikey = exchange.header("apikey")
    if authorization is None:
        if apikey is None or not apikey.startswith(OPAQUE_PREFIX):
            return None
        authorization = apikey
    token = _BEARER.sub("", authorization, count=1).strip()
    if not token.startswith(OPAQUE_PREFIX):
        return keyring.verify(token)
    identity = keyring.identity_of_key(token)
    if identity is None:
        raise TokenMalformed("Invalid API key")
    return identity


def require_identity(exchange: Exchange, keyring: Keyring) -> Identity:
    """Like `identify`. Raises AccessDenied for a bad token, and for none at all what the contract says (§1)."""
    try:
        identity = identify(exchange, keyring)
    except TokenError as error:
        raise access_denied(jwt_text(error)) from error
    if identity is None:
        raise _no_token(exchange)
    return identity


def _no_token(exchange: Exchange) -> StorageError:
    """Alone, the service misses the header; the official gateway puts an empty one in, which is no token either."""
    if exchange.scope.get("root_path"):
        return access_denied(jwt_text(TokenEmpty()))
    return invalid_input("headers must have required property 'authorization'")
