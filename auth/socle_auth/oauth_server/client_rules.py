"""What a registered application may look like (RFC 7591, contract §3.16; pure)."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from socle_auth.errors import invalid
from socle_auth.store.oauth_clients import CONFIDENTIAL, PUBLIC

AUTHORIZATION_CODE = "authorization_code"
REFRESH_TOKEN = "refresh_token"
GRANT_TYPES = (AUTHORIZATION_CODE, REFRESH_TOKEN)
BASIC = "client_secret_basic"
POST = "client_secret_post"
NONE = "none"
AUTH_METHODS = (NONE, BASIC, POST)

_DANGEROUS = frozenset({"javascript", "data", "file", "vbscript", "about", "blob"})
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_MOST_URIS = 10
_LONGEST_NAME = 1024
_LONGEST_URI = 2048


@dataclass(frozen=True, slots=True)
class ClientKind:
    """How an application proves itself."""

    client_type: str
    auth_method: str


def choose_kind(client_type: str, auth_method: str) -> ClientKind:
    """Type and method, each from the other where one is missing. Raises `validation_failed` when they disagree."""
    if client_type not in ("", PUBLIC, CONFIDENTIAL):
        raise invalid(f"client_type must be '{PUBLIC}' or '{CONFIDENTIAL}'")
    if auth_method and auth_method not in AUTH_METHODS:
        raise invalid(f"token_endpoint_auth_method must be one of: {', '.join(AUTH_METHODS)}")
    fitting = PUBLIC if auth_method == NONE else CONFIDENTIAL
    if client_type and auth_method and client_type != fitting:
        raise invalid(
            f"client_type '{client_type}' is inconsistent with token_endpoint_auth_method '{auth_method}' "
            f"(expected client_type '{fitting}')"
        )
    chosen = client_type or fitting
    return ClientKind(chosen, auth_method or (NONE if chosen == PUBLIC else BASIC))


def check_redirect_uris(uris: list[str]) -> tuple[str, ...]:
    """One to ten absolute URIs. Raises `validation_failed`."""
    if not uris:
        raise invalid("redirect_uris is required")
    if len(uris) > _MOST_URIS:
        raise invalid(f"redirect_uris cannot exceed {_MOST_URIS} items")
    for uri in uris:
        if fault := redirect_uri_fault(uri):
            raise invalid(f"invalid redirect_uri '{uri}': {fault}")
    return tuple(uris)


def redirect_uri_fault(uri: str) -> str | None:
    """Why a code may not be sent there; None when it may. Commas separate the list in the database."""
    if not uri:
        return "redirect URI cannot be empty"
    if len(uri) > _LONGEST_URI:
        return f"cannot exceed {_LONGEST_URI} characters"
    if "," in uri or not uri.isprintable() or " " in uri or "\\" in uri:
        return "contains a character that has to be escaped"
    try:
        parts = urlsplit(uri)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return "invalid URL format"
    if not parts.scheme or not parts.netloc:
        return "must have scheme and host"
    if parts.scheme.lower() in _DANGEROUS:
        return f"scheme '{parts.scheme}' is not allowed for security reasons"
    if parts.scheme == "http" and host not in _LOOPBACK:
        return "HTTP scheme only allowed for localhost"
    return "fragment not allowed in redirect URI" if "#" in uri else None


def check_grant_types(types: list[str] | None) -> tuple[str, ...]:
    """A subset of ours, or both when not given. Raises `validation_failed`."""
    if any(one not in GRANT_TYPES for one in types or ()):
        raise invalid("grant_types must only contain 'authorization_code' and/or 'refresh_token'")
    return tuple(types) if types else GRANT_TYPES


def check_name(name: str) -> str:
    if len(name) > _LONGEST_NAME:
        raise invalid(f"client_name cannot exceed {_LONGEST_NAME} characters")
    return name


def check_uri(field: str, uri: str) -> str:
    """A web address to be shown to people: http(s) only. Raises `validation_failed`."""
    if not uri:
        return ""
    if len(uri) > _LONGEST_URI:
        raise invalid(f"{field} cannot exceed {_LONGEST_URI} characters")
    try:
        parts = urlsplit(uri)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise invalid(f"{field} must be a valid URL")
    return uri
