"""Signed URLs: made for one object, one action and a time; everything else is refused."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

from harness.storage import ALICE, Lab, refusal
from socle_platform.keys import Keyring, secret_key


def claims_of(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    value: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return value


async def signed(lab: Lab, bucket: str, name: str, seconds: int = 60) -> str:
    answer = await lab.http.post(f"/object/sign/{bucket}/{name}", json={"expiresIn": seconds}, headers=lab.service)
    assert answer.status_code == 200, answer.text
    url: str = answer.json()["signedURL"]
    return url


async def test_a_signed_url_opens_its_object_without_credentials(lab: Lab) -> None:
    bucket = await lab.bucket()
    await lab.put(bucket, "folder/a b.txt", b"hello")
    url = await signed(lab, bucket, "folder/a%20b.txt")
    path, _, token = url.partition("?token=")
    assert path == f"/object/sign/{bucket}/folder/a b.txt"
    claims = claims_of(token)
    assert claims == {
        "url": f"{bucket}/folder/a b.txt",
        "scope": "download",
        "iat": claims["iat"],
        "exp": claims["iat"] + 60,
    }
    got = await lab.http.get(url)
    assert (got.status_code, got.content) == (200, b"hello")
    assert "cache-control" not in got.headers
    assert got.headers["expires"].endswith("GMT")
    assert (await lab.http.head(url)).status_code == 200
    assert (await lab.http.get(url + "&download=x.txt")).headers["content-disposition"].startswith("attachment;")
    assert (await lab.http.get(url, headers={"range": "bytes=1-2"})).content == b"el"


async def test_signing_needs_an_object_that_the_caller_sees(lab: Lab) -> None:
    bucket = await lab.bucket()
    await lab.put(bucket, "a")
    for who, name in ((lab.alice, "a"), (lab.service, "none")):
        answer = await lab.http.post(f"/object/sign/{bucket}/{name}", json={"expiresIn": 9}, headers=who)
        assert refusal(answer) == (400, "404", "NoSuchKey")
    for body, message in (
        ({}, "body must have required property 'expiresIn'"),
        ({"expiresIn": 0}, "body/expiresIn must be >= 1"),
        ({"expiresIn": "soon"}, "body/expiresIn must be integer"),
        ({"expiresIn": 1.5}, "body/expiresIn must be integer"),
    ):
        answer = await lab.http.post(f"/object/sign/{bucket}/a", json=body, headers=lab.service)
        assert (refusal(answer), answer.json()["message"]) == ((400, "400", "InvalidRequest"), message)
    endless = await lab.http.post(f"/object/sign/{bucket}/a", json={"expiresIn": 2**52}, headers=lab.service)
    assert refusal(endless) == (400, "400", "InvalidParameter")


async def test_tokens_that_open_nothing(lab: Lab) -> None:
    bucket = await lab.bucket()
    await lab.put(bucket, "a")
    await lab.put(bucket, "b")
    url = f"{bucket}/a"
    now = int(time.time())

    async def status(token: str, name: str = "a") -> tuple[str, str]:
        answer = await lab.http.get(f"/object/sign/{bucket}/{name}", params={"token": token})
        return (refusal(answer)[2], answer.json()["message"]) if answer.status_code != 200 else ("", "")

    good = lab.keyring.sign({"url": url, "scope": "download", "exp": now + 60})
    assert await status(good) == ("", "")
    assert await status(lab.keyring.sign({"url": url, "exp": now + 60})) == ("", "")
    assert await status(good, "b") == ("InvalidSignature", "Invalid signature")
    head, body, mac = good.split(".")
    assert (await status(f"{head}.{body}.{mac[:-4]}AAAA"))[0] == "InvalidJWT"
    other = Keyring([secret_key("another secret of at least thirty-two characters")])
    assert (await status(other.sign({"url": url, "scope": "download"})))[0] == "InvalidJWT"
    assert (await status("nonsense"))[0] == "InvalidJWT"
    assert (await status(""))[0] == "InvalidJWT"
    expired = lab.keyring.sign({"url": url, "scope": "download", "exp": now - 1})
    assert await status(expired) == ("InvalidJWT", '"exp" claim timestamp check failed')
    for upload in ({"scope": "upload"}, {"upsert": False}, {"scope": "upload", "upsert": True}):
        assert (await status(lab.keyring.sign({"url": url, **upload, "exp": now + 60})))[1] == (
            "Token is not scoped for download"
        )
    assert (await status(lab.token("service_role")))[0] == "InvalidSignature"
    none = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
    assert (await status(f"{none}.{body}."))[0] == "InvalidJWT"
    missing = await lab.http.get(f"/object/sign/{bucket}/a")
    assert missing.json()["message"] == "querystring must have required property 'token'"


async def test_many_are_signed_in_the_order_asked_for(lab: Lab) -> None:
    bucket = await lab.bucket()
    for name in ("b", "a"):
        await lab.put(bucket, name)
    paths = ["a", "none", "b", "a", "~"]
    answer = await lab.http.post(f"/object/sign/{bucket}", json={"expiresIn": 60, "paths": paths}, headers=lab.service)
    entries = answer.json()
    assert [entry["path"] for entry in entries] == paths
    assert [entry["error"] is None for entry in entries] == [True, False, True, True, False]
    assert entries[1] == {
        "error": "Either the object does not exist or you do not have access to it",
        "path": "none",
        "signedURL": None,
    }
    assert (await lab.http.get(entries[0]["signedURL"])).content == b"hello"
    hidden = await lab.http.post("/object/sign/nowhere", json={"expiresIn": 9, "paths": ["a"]}, headers=lab.alice)
    assert (hidden.status_code, hidden.json()[0]["signedURL"]) == (200, None)
    for paths in ([], ["x"] * 1001):
        answer = await lab.http.post(f"/object/sign/{bucket}", json={"expiresIn": 9, "paths": paths}, headers=lab.alice)
        assert refusal(answer) == (400, "400", "InvalidRequest")


async def test_a_transform_travels_in_the_token(lab: Lab) -> None:
    bucket = await lab.bucket()
    await lab.put(bucket, "a.png")

    async def sign(transform: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        body = {"expiresIn": 60, "transform": transform}
        answer = await lab.http.post(f"/object/sign/{bucket}/a.png", json=body, headers=lab.service)
        path, _, token = answer.json()["signedURL"].partition("?token=")
        return path, claims_of(token)

    path, claims = await sign({"width": 100, "height": 9999, "resize": "contain", "role": "service_role", "url": "x/y"})
    assert path == f"/render/image/sign/{bucket}/a.png"
    assert claims["transformations"] == "height:2000,width:100,resize:contain"
    assert (claims["url"], claims["scope"]) == (f"{bucket}/a.png", "download")
    assert not {"role", "upsert", "owner"} & set(claims)
    path, claims = await sign({})
    assert path == f"/object/sign/{bucket}/a.png"
    assert "transformations" not in claims
    bad = {"expiresIn": 60, "transform": {"gravity": "fp"}}
    answer = await lab.http.post(f"/object/sign/{bucket}/a.png", json=bad, headers=lab.service)
    assert refusal(answer) == (400, "400", "InvalidParameter")


async def upload_token(lab: Lab, bucket: str, name: str, **headers: str) -> str:
    answer = await lab.http.post(f"/object/upload/sign/{bucket}/{name}", json={}, headers={**lab.alice, **headers})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["url"] == f"/object/upload/sign/{bucket}/{name}?token={body['token']}"
    token: str = body["token"]
    return token


async def test_a_signed_upload_needs_no_credentials_and_works_once(lab: Lab) -> None:
    bucket = await lab.bucket()
    await lab.policy("insert")
    token = await upload_token(lab, bucket, "a")
    claims = claims_of(token)
    assert (claims["owner"], claims["upsert"], claims["scope"]) == (ALICE, False, "upload")
    assert claims["exp"] - claims["iat"] == 7200
    path = f"/object/upload/sign/{bucket}/a"
    first = await lab.http.put(path, params={"token": token}, content=b"one", headers={"content-type": "a/b"})
    assert first.json() == {"Key": f"{bucket}/a"}
    row = await lab.row(bucket, "a")
    assert row is not None
    assert row["owner_id"] == ALICE
    second = await lab.http.put(path, params={"token": token}, content=b"two", headers={"x-upsert": "true"})
    assert refusal(second) == (400, "409", "KeyAlreadyExists")
    wrong = await lab.http.put(f"/object/upload/sign/{bucket}/b", params={"token": token}, content=b"x")
    assert refusal(wrong) == (400, "400", "InvalidSignature")
    download = (await signed(lab, bucket, "a")).partition("?token=")[2]
    for misused in (download, lab.token("service_role")):
        refused = await lab.http.put(path, params={"token": misused}, content=b"x")
        assert refused.json()["message"] == "Token is not scoped for upload"


async def test_a_signed_upload_with_upsert_replaces(lab: Lab) -> None:
    bucket = await lab.bucket()
    await lab.policy("all")
    await lab.put(bucket, "a", b"old")
    refused = await lab.http.post(f"/object/upload/sign/{bucket}/a", json={}, headers=lab.alice)
    assert refusal(refused) == (400, "409", "KeyAlreadyExists")
    token = await upload_token(lab, bucket, "a", **{"x-upsert": "true"})
    for body in (b"new", b"newer"):
        answer = await lab.http.put(f"/object/upload/sign/{bucket}/a", params={"token": token}, content=body)
        assert answer.status_code == 200
    assert (await lab.http.get(f"/object/{bucket}/a", headers=lab.service)).content == b"newer"


async def test_a_signed_upload_keeps_the_buckets_limits(lab: Lab) -> None:
    bucket = await lab.bucket(file_size_limit=3, allowed_mime_types=["image/png"])
    await lab.policy("insert")
    token = await upload_token(lab, bucket, "a")
    path = f"/object/upload/sign/{bucket}/a"
    for body, kind, code in ((b"xxxx", "image/png", "EntityTooLarge"), (b"x", "image/gif", "InvalidMimeType")):
        answer = await lab.http.put(path, params={"token": token}, content=body, headers={"content-type": kind})
        assert refusal(answer)[2] == code
    assert await lab.stored() == set()


async def test_nobody_signs_an_upload_that_policies_forbid(lab: Lab) -> None:
    bucket = await lab.bucket()
    answer = await lab.http.post(f"/object/upload/sign/{bucket}/a", json={}, headers=lab.alice)
    assert refusal(answer) == (400, "403", "AccessDenied")
    assert answer.json()["message"] == "new row violates row-level security policy"
    assert answer.json()["error"] == "Unauthorized"
