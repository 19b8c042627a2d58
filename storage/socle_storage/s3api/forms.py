"""Uploads by an HTML form with a signed policy (POST).

Source: «POST Policy», Amazon S3 API reference. Every field but the signature's own must be covered by a condition.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from socle_platform.errors import WireResponse
from socle_platform.http import facts_of
from socle_storage.caching import parse_moment
from socle_storage.context import Caller
from socle_storage.errors import access_denied, too_large
from socle_storage.forms import FormReader
from socle_storage.s3api.call import xml_response
from socle_storage.s3api.checksums import checksum_header, digester_of, parse_checksum
from socle_storage.s3api.credentials import trust
from socle_storage.s3api.documents import render_document
from socle_storage.s3api.errors import (
    bad_digest,
    expired_request,
    invalid_argument,
    malformed_signature,
    part_too_small,
    signature_mismatch,
)
from socle_storage.s3api.signature import Claim, parse_scope, sign
from socle_storage.uploads import (
    DEFAULT_TYPE,
    Upload,
    discard,
    find_target,
    probe,
    publish,
    receive,
    single_limit,
    verify_type,
)

if TYPE_CHECKING:
    from socle_storage.context import Storage
    from socle_storage.uploads import WrittenBlob
    from socle_storage.wire import Exchange

_MAX_FIELDS = 40
_META = "x-amz-meta-"
_UNCOVERED = frozenset(
    {"policy", "x-amz-signature", "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-security-token", "file"}
)


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy document: until when, which fields are what, and how many bytes."""

    expiration: datetime
    equal: Mapping[str, str]
    prefixed: Mapping[str, str]
    minimum: int = 0
    maximum: int | None = None

    def verify(self, fields: Mapping[str, str]) -> None:
        """Raises AccessDenied when a field is not as agreed, or not agreed at all."""
        for name, value in self.equal.items():
            if fields.get(name) != value:
                raise access_denied(f'Policy condition failed: "{name}" does not match')
        for name, value in self.prefixed.items():
            if not fields.get(name, "").startswith(value):
                raise access_denied(f'Policy condition failed: "{name}" does not start with "{value}"')
        for name in fields:
            covered = name in self.equal or name in self.prefixed or name in _UNCOVERED
            if not covered and not name.startswith("x-ignore-"):
                raise access_denied(f'Policy condition failed: field "{name}" is not covered by the policy')


def parse_policy(encoded: str) -> Policy:
    """Raises InvalidSignature for anything that is no policy."""
    try:
        document: Any = json.loads(base64.b64decode(encoded, validate=True))
        expiration = parse_moment(document["expiration"])
        conditions = document["conditions"]
    except (binascii.Error, ValueError, KeyError, TypeError, RecursionError):
        raise malformed_signature("Invalid POST policy") from None
    if expiration is None or not isinstance(conditions, list):
        raise malformed_signature("Invalid policy expiration")
    equal: dict[str, str] = {}
    prefixed: dict[str, str] = {}
    bounds: tuple[int, int | None] = (0, None)
    for condition in cast("list[object]", conditions):
        match _normalized(condition):
            case ["eq", str(name), str(value)]:
                equal[name] = value
            case ["starts-with", str(name), str(value)]:
                prefixed[name] = value
            case ["content-length-range", int(low), int(high)]:
                bounds = (low, high)
            case _:
                raise malformed_signature("Unsupported policy condition")
    return Policy(expiration, equal, prefixed, *bounds)


def _normalized(condition: object) -> Sequence[object]:
    """Every form of a condition as a list; names in lower case and without `$`."""
    if isinstance(condition, dict):
        pairs = list(cast("dict[str, object]", condition).items())
        return ["eq", pairs[0][0].lower(), str(pairs[0][1])] if len(pairs) == 1 else []
    if not isinstance(condition, list):
        return []
    items = cast("list[object]", condition)
    if len(items) != 3 or not isinstance(items[0], str):
        return []
    if items[0] == "content-length-range":
        with contextlib.suppress(TypeError, ValueError):
            return [items[0], int(cast("Any", items[1])), int(cast("Any", items[2]))]
        return []
    if not isinstance(items[1], str) or not items[1].startswith("$"):
        return []
    return [items[0], items[1][1:].lower(), str(items[2])]


async def post_object(storage: Storage, exchange: Exchange, bucket: str) -> None:
    """Takes a form's file as an object."""
    content_type = exchange.header("content-type") or ""
    async with contextlib.aclosing(exchange.stream()) as stream:
        reader = FormReader(content_type, stream, _MAX_FIELDS)
        form = await reader.start()
        fields = {name.lower(): value for name, value in form.fields.items()}
        caller, policy = authenticate_form(storage, exchange, bucket, fields)
        name = fields.get("key", "")
        if "${filename}" in name:
            raise invalid_argument("A key with ${filename} is not supported; name the object.")
        target = await find_target(storage, caller, bucket, name)
        upload = Upload(
            bucket,
            name,
            owner=caller.owner,
            upsert=True,
            mimetype=fields.get("content-type") or form.mimetype or DEFAULT_TYPE,
            cache_control=fields.get("cache-control") or "no-cache",
            content_length=exchange.content_length,
            user_metadata={key[len(_META) :]: value for key, value in fields.items() if key.startswith(_META)},
        )
        verify_type(target, name, upload.mimetype)
        await probe(storage, caller, upload)
        limit = single_limit(storage, target, name)
        if policy.maximum is not None:
            limit = min(limit, policy.maximum)
        announced = checksum_header(fields.items())
        expected = None if announced is None else parse_checksum(*announced)
        digesters = [digester_of(announced[0])] if announced is not None else []
        async with contextlib.aclosing(reader.file()) as file:
            blob = await receive(storage, bucket, name, file, limit=limit, hashers=digesters)
    await _verify_size(storage, policy, blob)
    if announced is not None and digesters[0].digest() != expected:
        await discard(storage, blob)
        raise bad_digest(announced[0])
    if reader.form.late:
        await discard(storage, blob)
        raise invalid_argument("The file must be the last field of the form.")
    await publish(storage, caller, upload, blob)
    await _answer(exchange, bucket, name, blob, fields)


def authenticate_form(
    storage: Storage, exchange: Exchange, bucket: str, fields: Mapping[str, str]
) -> tuple[Caller, Policy]:
    """Who signed the policy, and the policy, if this form keeps to it."""
    encoded, signature = fields.get("policy", ""), fields.get("x-amz-signature", "")
    date = fields.get("x-amz-date", "")
    scope = parse_scope(fields.get("x-amz-credential", ""))
    claim = Claim(scope, (), signature, date, session_token=fields.get("x-amz-security-token"))
    identity, key = trust(storage, claim)
    expected = sign(key, encoded)
    if not hmac.compare_digest(expected.encode(), signature.encode("utf-8", "surrogatepass")):
        raise signature_mismatch(session=claim.session_token is not None)
    policy = parse_policy(encoded)
    if policy.expiration < storage.clock.now():
        raise expired_request()
    policy.verify({**fields, "bucket": bucket})
    return Caller(identity, facts_of(exchange.scope), "storage.s3.upload"), policy


async def _verify_size(storage: Storage, policy: Policy, blob: WrittenBlob) -> None:
    if blob.size < policy.minimum:
        await discard(storage, blob)
        raise part_too_small()
    if policy.maximum is not None and blob.size > policy.maximum:
        await discard(storage, blob)
        raise too_large()


async def _answer(exchange: Exchange, bucket: str, name: str, blob: WrittenBlob, fields: Mapping[str, str]) -> None:
    headers = (("etag", blob.etag), ("location", f"/{bucket}/{name}"))
    if (address := fields.get("success_action_redirect")) is not None:
        await exchange.respond(WireResponse(303, (("etag", blob.etag), ("location", address))))
        return
    status = fields.get("success_action_status", "204")
    if status == "201":
        nodes = [("Location", f"/{bucket}/{name}"), ("Bucket", bucket), ("Key", name), ("ETag", blob.etag)]
        await exchange.respond(xml_response(201, render_document("PostResponse", nodes, namespace=False), headers))
        return
    await exchange.respond(WireResponse(200 if status == "200" else 204, headers))
