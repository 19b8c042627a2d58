"""Readers of what other services export: Supabase (SQL dump, JSON, our own file), Firebase, Auth0 (JSON, CSV)."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

from socle_auth.transfer import sql_dump
from socle_auth.transfer.people import IdentityOf, NotAPerson, Person, parse_time, stable_id

Source: TypeAlias = Literal["supabase", "firebase", "auth0"]
Json: TypeAlias = dict[str, Any]

SOURCES: Mapping[str, Source] = {"supabase": "supabase", "firebase": "firebase", "auth0": "auth0"}
_BEGINNING_OF_TIME = "1970-01-01T00:00:00+00:00"
_FIREBASE_PROVIDERS = {
    "google.com": "google",
    "apple.com": "apple",
    "facebook.com": "facebook",
    "github.com": "github",
    "twitter.com": "twitter",
    "microsoft.com": "azure",
}
_AUTH0_PROVIDERS = {
    "google-oauth2": "google",
    "windowslive": "azure",
    "linkedin": "linkedin_oidc",
    "oidc": "",
    "auth0": "email",
    "email": "email",
    "sms": "phone",
}


@dataclass(frozen=True, slots=True)
class FirebaseHash:
    """The project's password hash parameters, from the Firebase console."""

    signer_key: str = ""
    salt_separator: str = ""
    rounds: int = 8
    memory_cost: int = 14

    def hash_of(self, hashed: str, salt: str) -> str:
        """The stored form of a Firebase scrypt hash. Raises NotAPerson without the key."""
        if not self.signer_key:
            raise NotAPerson("has a Firebase password: give the project's hash parameters (--firebase-signer-key, …)")
        standard = str.maketrans("-_", "+/")
        hashed, salt = hashed.translate(standard), salt.translate(standard)
        cost = f"v=1,n={self.memory_cost},r={self.rounds},p=1"
        return f"$fbscrypt${cost},ss={self.salt_separator},sk={self.signer_key}${salt}${hashed}"


def guess_source(path: Path) -> Source:
    """Which service's file this is. Raises NotAPerson."""
    if path.suffix.lower() == ".sql":
        return "supabase"
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        head = file.read(20_000)
    if '"localId"' in head:
        return "firebase"
    first = head.partition("\n")[0].lower()
    if '"user_id"' in head and '"encrypted_password"' not in head and '"raw_app_meta_data"' not in head:
        return "auth0"
    if path.suffix.lower() == ".csv" and ("email verified" in first or "email_verified" in first):
        return "auth0"
    if '"id"' in head:
        return "supabase"
    raise NotAPerson(f"{path.name}: not a file of Supabase, Firebase or Auth0; name its kind with --from")


def read_people(path: Path, source: Source, firebase: FirebaseHash) -> Iterator[Person | NotAPerson]:
    """Everybody in the file, in its order; what cannot be read comes as NotAPerson. Raises NotAPerson for the whole."""
    for place, item in _items(path, source):
        try:
            if source == "firebase":
                yield _from_firebase(item, place, firebase)
            elif source == "auth0":
                yield _from_auth0(item, place)
            else:
                yield _from_supabase(item, place)
        except NotAPerson as error:
            yield NotAPerson(f"{place}: {error}")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            yield NotAPerson(f"{place}: cannot be read ({type(error).__name__}: {error})")


def _items(path: Path, source: Source) -> Iterator[tuple[str, Json]]:
    if path.suffix.lower() == ".sql":
        yield from sql_dump.users_of(path)
    elif path.suffix.lower() == ".csv":
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, row in enumerate(csv.DictReader(file), 2):
                yield f"line {number}", {_key(name): value for name, value in row.items() if name}
    else:
        yield from _json_items(path, source)


def _key(name: str) -> str:
    return name.strip().lower().replace(" ", "_")


def _json_items(path: Path, source: Source) -> Iterator[tuple[str, Json]]:
    with path.open(encoding="utf-8-sig") as file:
        first = file.readline()
        file.seek(0)
        if _is_object(first):
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield f"line {number}", _object(line, f"line {number}")
            return
        try:
            document: object = json.load(file)
        except ValueError as error:
            raise NotAPerson(f"{path.name} is not JSON: {error}") from error
    if isinstance(document, dict):
        document = cast("Json", document).get("users")
    if not isinstance(document, list):
        raise NotAPerson(f"{path.name} holds no list of users, as {source} writes it")
    for number, item in enumerate(cast("list[object]", document), 1):
        yield f"user {number}", cast("Json", item) if isinstance(item, dict) else {}


def _is_object(line: str) -> bool:
    try:
        value: object = json.loads(line)
    except ValueError:
        return False
    return isinstance(value, dict) and "users" not in value


def _object(line: str, place: str) -> Json:
    try:
        value: object = json.loads(line)
    except ValueError as error:
        raise NotAPerson(f"{place} is not JSON: {error}") from error
    return cast("Json", value) if isinstance(value, dict) else {}


# -- Supabase ----------------------------------------------------------------------------------------------------------


def _from_supabase(item: Json, place: str) -> Person:
    """A row of auth.users (a dump, our own file) or a user of the admin API."""
    identities = [_supabase_identity(entry) for entry in cast("Iterable[Json]", item.get("identities") or ())]
    return Person(
        place=place,
        id=stable_id("supabase", str(item["id"])),
        email=item.get("email") or "",
        phone=item.get("phone") or "",
        password_hash=item.get("encrypted_password") or "",
        email_confirmed_at=parse_time(item.get("email_confirmed_at")),
        phone_confirmed_at=parse_time(item.get("phone_confirmed_at")),
        invited_at=parse_time(item.get("invited_at")),
        last_sign_in_at=parse_time(item.get("last_sign_in_at")),
        created_at=parse_time(item.get("created_at")),
        banned_until=parse_time(item.get("banned_until")),
        app_metadata=_mapping(item.get("raw_app_meta_data") or item.get("app_metadata")),
        user_metadata=_mapping(item.get("raw_user_meta_data") or item.get("user_metadata")),
        identities=tuple(identities),
        factors=tuple(_parsed(row) for row in _rows(item, "factors") if _is_usable(row)),
        passkeys=tuple(_parsed(row) for row in _rows(item, "passkeys") if row.get("public_key")),
        recovery_codes=tuple(_rows(item, "recovery_codes")),
        is_anonymous=_flag(item.get("is_anonymous")),
        is_sso_user=_flag(item.get("is_sso_user")),
        role=item.get("role") or "authenticated",
        aud=item.get("aud") or "authenticated",
    )


def _supabase_identity(entry: Json) -> IdentityOf:
    """A row of auth.identities, where `id` is the row's, or an identity of the API, where it is the provider's."""
    data = _mapping(entry.get("identity_data"))
    if entry.get("provider_id"):
        return IdentityOf(str(entry["provider"]), str(entry["provider_id"]), data, str(entry.get("id") or ""))
    return IdentityOf(str(entry["provider"]), str(entry["id"]), data, str(entry.get("identity_id") or ""))


def _rows(item: Json, name: str) -> Iterable[Json]:
    return cast("Iterable[Json]", item.get(name) or ())


def _is_usable(factor: Json) -> bool:
    """The admin API names factors without their secrets: such a one would only lock its owner out."""
    needed = {"totp": "secret", "phone": "phone", "webauthn": "web_authn_credential"}
    return bool(factor.get(needed.get(str(factor.get("factor_type")), "")))


def _parsed(row: Json) -> Json:
    """A row whose JSON columns are values, not text."""
    found = dict(row)
    for name in ("web_authn_credential", "transports"):
        if isinstance(value := row.get(name), str):
            found[name] = json.loads(value)
    return found


def _flag(value: object) -> bool:
    return value is True or value in ("t", "true")


def _mapping(value: object) -> Mapping[str, Any]:
    if isinstance(value, str):
        value = json.loads(value) if value else {}
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


# -- Firebase ----------------------------------------------------------------------------------------------------------


def _from_firebase(item: Json, place: str, parameters: FirebaseHash) -> Person:
    """An entry of `firebase auth:export users.json`."""
    person_id = stable_id("firebase", str(item["localId"]))
    created = parse_time(item.get("createdAt"))
    identities = list[IdentityOf]()
    verified = bool(item.get("emailVerified"))
    if item.get("email"):
        data = {"email": str(item["email"]).lower(), "email_verified": verified, "phone_verified": False}
        identities.append(IdentityOf("email", person_id, data))
    if item.get("phoneNumber"):
        identities.append(IdentityOf("phone", person_id, {"phone": item["phoneNumber"], "phone_verified": True}))
    for entry in cast("Iterable[Json]", item.get("providerUserInfo") or ()):
        provider = _FIREBASE_PROVIDERS.get(str(entry.get("providerId")), "")
        if provider:
            named = {
                "email": entry.get("email"),
                "full_name": entry.get("displayName"),
                "avatar_url": entry.get("photoUrl"),
            }
            kept = {name: value for name, value in named.items() if value}
            identities.append(IdentityOf(provider, str(entry["rawId"]), {**kept, "email_verified": verified}))
    hashed = str(item.get("passwordHash") or "")
    profile = {"full_name": item.get("displayName"), "avatar_url": item.get("photoUrl")}
    return Person(
        place=place,
        id=person_id,
        email=item.get("email") or "",
        phone=item.get("phoneNumber") or "",
        password_hash=parameters.hash_of(hashed, str(item.get("salt") or "")) if hashed else "",
        email_confirmed_at=(created or parse_time(_BEGINNING_OF_TIME)) if verified else None,
        phone_confirmed_at=(created or parse_time(_BEGINNING_OF_TIME)) if item.get("phoneNumber") else None,
        last_sign_in_at=parse_time(item.get("lastSignedInAt")),
        created_at=created,
        banned_until=parse_time("3000-01-01T00:00:00+00:00") if item.get("disabled") else None,
        app_metadata=_mapping(item.get("customAttributes")),
        user_metadata={name: value for name, value in profile.items() if value},
        identities=tuple(identities),
        is_anonymous=not identities,
    )


# -- Auth0 -------------------------------------------------------------------------------------------------------------


def _from_auth0(item: Json, place: str) -> Person:
    """A line of an export job (JSON or CSV); `passwordHash` (bcrypt) is what Auth0's support adds."""
    native = str(item.get("user_id") or item.get("id") or "")
    if not native:
        raise NotAPerson("has no user_id")
    person_id = stable_id("auth0", native)
    verified = item.get("email_verified") is True or str(item.get("email_verified")).lower() == "true"
    created = parse_time(item.get("created_at"))
    email, phone = str(item.get("email") or ""), str(item.get("phone_number") or "")
    profile = {
        "full_name": item.get("name"),
        "given_name": item.get("given_name"),
        "family_name": item.get("family_name"),
        "nickname": item.get("nickname"),
        "avatar_url": item.get("picture") or item.get("picture_url"),
    }
    return Person(
        place=place,
        id=person_id,
        email=email,
        phone=phone,
        password_hash=str(item.get("passwordHash") or item.get("password_hash") or ""),
        email_confirmed_at=(created or parse_time(_BEGINNING_OF_TIME)) if verified else None,
        phone_confirmed_at=(created or parse_time(_BEGINNING_OF_TIME)) if phone else None,
        last_sign_in_at=parse_time(item.get("last_login")),
        created_at=created,
        banned_until=parse_time("3000-01-01T00:00:00+00:00") if item.get("blocked") is True else None,
        app_metadata=_mapping(item.get("app_metadata")),
        user_metadata={
            **{name: value for name, value in profile.items() if value},
            **_mapping(item.get("user_metadata")),
        },
        identities=tuple(_auth0_identities(item, native, person_id, verified=verified)),
    )


def _auth0_identities(item: Json, native: str, person_id: str, *, verified: bool) -> Iterator[IdentityOf]:
    entries = cast("list[Json]", item.get("identities") or [])
    if not entries:
        provider, _, user = native.partition("|")
        entries = [{"provider": provider, "user_id": user}]
    for entry in entries:
        provider = _AUTH0_PROVIDERS.get(str(entry.get("provider")), str(entry.get("provider")))
        data = {"email": item.get("email"), "email_verified": verified}
        if provider == "email":
            yield IdentityOf("email", person_id, {**data, "phone_verified": False})
        elif provider == "phone":
            yield IdentityOf("phone", person_id, {"phone": item.get("phone_number"), "phone_verified": True})
        elif provider:
            yield IdentityOf(provider, str(entry.get("user_id")), {key: value for key, value in data.items() if value})
