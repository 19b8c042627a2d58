"""Row level security: every operation, by every kind of caller, with every set of policies (contract storage.md §5).

The table below says for each operation which policies on storage.objects it needs. The test tries all sixteen subsets
of them, so it fails both when the service asks for too little and when it asks for too much.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

import httpx
import pytest

from harness.storage import ALICE, BOB, Lab, refusal
from socle_platform.identity import RequestFacts
from socle_storage.context import Caller
from socle_storage.store.objects import FIND_OBJECT

ACTIONS = ("select", "insert", "update", "delete")
DENIED = (400, "403", "AccessDenied")
MISSING = (400, "404", "NoSuchKey")
Who = dict[str, str]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: how to ask for it, the policies it needs, and how it is refused without them.

    `refused` is asked with the policies that are there, for the refusal differs with what the caller can see.
    """

    name: str
    ask: Callable[[Lab, str, Who], Awaitable[httpx.Response]]
    needs: frozenset[str]
    refused: Callable[[frozenset[str]], object]
    granted: Callable[[httpx.Response], bool] = lambda answer: answer.status_code == 200


def denied(_policies: frozenset[str]) -> object:
    return DENIED


def missing(_policies: frozenset[str]) -> object:
    return MISSING


def body(lab: Lab, bucket: str, source: str, target: str) -> dict[str, str]:
    return {"bucketId": bucket, "sourceKey": source, "destinationKey": target}


async def upload(lab: Lab, bucket: str, who: Who) -> httpx.Response:
    return await lab.put(bucket, "new", who=who)


async def upsert_new(lab: Lab, bucket: str, who: Who) -> httpx.Response:
    return await lab.put(bucket, "new", who=who, x_upsert="true")


async def upsert_old(lab: Lab, bucket: str, who: Who) -> httpx.Response:
    return await lab.put(bucket, "old", who=who, x_upsert="true")


async def update_old(lab: Lab, bucket: str, who: Who) -> httpx.Response:
    return await lab.http.put(f"/object/{bucket}/old", content=b"x", headers=who)


async def sign_upload(lab: Lab, bucket: str, who: Who) -> httpx.Response:
    return await lab.http.post(f"/object/upload/sign/{bucket}/new", json={}, headers=who)


async def download(lab: Lab, bucket: str, who: Who) -> httpx.Response:
    return await lab.http.get(f"/object/{bucket}/old", headers=who)


async def download_authenticated(lab: Lab, bucket: str, who: Who) -> httpx.Response:
    return await lab.http.get(f"/object/authenticated/{bucket}/old", headers=who)


async def info(lab: Lab, bucket: str, who: Who) -> httpx.Response:
    return await lab.http.get(f"/object/info/{bucket}/old", headers=who)


async def sign(lab: Lab, bucket: str, who: Who) -> httpx.Response:
    return await lab.http.post(f"/object/sign/{bucket}/old", json={"expiresIn": 9}, headers=who)


async def sign_many(lab: Lab, bucket: str, who: Who) -> httpx.Response:
    return await lab.http.post(f"/object/sign/{bucket}", json={"expiresIn": 9, "paths": ["old"]}, headers=who)


async def list_v1(lab: Lab, bucket: str, who: Who) -> httpx.Response:
    return await lab.http.post(f"/object/list/{bucket}", json={"prefix": ""}, headers=who)


async def list_v2(lab: Lab, bucket: str, who: Who) -> httpx.Response:
    return await lab.http.post(f"/object/list-v2/{bucket}", json={}, headers=who)


async def copy(lab: Lab, bucket: str, who: Who) -> httpx.Response:
    return await lab.http.post("/object/copy", json=body(lab, bucket, "old", "new"), headers=who)


async def copy_onto(lab: Lab, bucket: str, who: Who) -> httpx.Response:
    way = body(lab, bucket, "old", "other")
    return await lab.http.post("/object/copy", json=way, headers={**who, "x-upsert": "true"})


async def move(lab: Lab, bucket: str, who: Who) -> httpx.Response:
    return await lab.http.post("/object/move", json=body(lab, bucket, "old", "new"), headers=who)


async def delete_one(lab: Lab, bucket: str, who: Who) -> httpx.Response:
    return await lab.http.delete(f"/object/{bucket}/old", headers=who)


async def delete_many(lab: Lab, bucket: str, who: Who) -> httpx.Response:
    return await lab.http.request("DELETE", f"/object/{bucket}", json={"prefixes": ["old"]}, headers=who)


def lists_one(answer: httpx.Response) -> bool:
    return answer.status_code == 200 and '"old"' in answer.text


def signs_one(answer: httpx.Response) -> bool:
    return answer.json()[0]["signedURL"] is not None


def needs(*actions: str) -> frozenset[str]:
    return frozenset(actions)


OPERATIONS = (
    Operation("upload", upload, needs("insert"), denied),
    Operation("upsert of a new object", upsert_new, needs("insert", "select"), denied),
    Operation("upsert of an object", upsert_old, needs("insert", "select", "update"), denied),
    Operation("update", update_old, needs("insert", "select", "update"), denied),
    Operation("sign an upload", sign_upload, needs("insert"), denied),
    Operation("download", download, needs("select"), missing),
    Operation("authenticated download", download_authenticated, needs("select"), missing),
    Operation("info", info, needs("select"), missing),
    Operation("sign", sign, needs("select"), missing),
    Operation("sign many", sign_many, needs("select"), lambda _: None, signs_one),
    Operation("list", list_v1, needs("select"), lambda _: None, lists_one),
    Operation("list v2", list_v2, needs("select"), lambda _: None, lists_one),
    Operation("copy", copy, needs("select", "insert"), lambda have: DENIED if "select" in have else MISSING),
    Operation(
        "copy onto an object",
        copy_onto,
        needs("select", "insert", "update"),
        lambda have: DENIED if "select" in have else MISSING,
    ),
    Operation("move", move, needs("select", "update"), missing),
    Operation("delete", delete_one, needs("select", "delete"), denied),
    Operation("delete many", delete_many, needs("select", "delete"), lambda _: None, lists_one),
)


def subsets() -> Iterator[frozenset[str]]:
    for size in range(len(ACTIONS) + 1):
        yield from map(frozenset, itertools.combinations(ACTIONS, size))


async def set_policies(lab: Lab, have: frozenset[str], role: str = "public", check: str = "true") -> None:
    """Exactly these policies on storage.objects."""
    for row in await lab.admin.fetch("select policyname from pg_policies where tablename = 'objects'"):
        await lab.admin.execute(f'drop policy "{row["policyname"]}" on storage.objects')
    for action in have:
        await lab.policy(action, role, check)


async def fresh(lab: Lab, bucket: str) -> None:
    """The bucket holds `old` and `other`, and no `new`."""
    await lab.admin.execute("delete from storage.objects where bucket_id = $1 and name = 'new'", bucket)
    for name in ("old", "other"):
        await lab.put(bucket, name, x_upsert="true")


def outcome(operation: Operation, answer: httpx.Response) -> object:
    """None where the refusal is an answer that shows nothing, else status and codes."""
    return None if answer.status_code == 200 else refusal(answer)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
async def test_an_operation_needs_exactly_its_policies(lab: Lab, operation: Operation) -> None:
    bucket = await lab.bucket()
    await fresh(lab, bucket)
    for have in subsets():
        await set_policies(lab, have)
        answer = await operation.ask(lab, bucket, lab.alice)
        if operation.needs <= have:
            assert operation.granted(answer), (sorted(have), answer.text)
            await fresh(lab, bucket)
            continue
        assert answer.status_code != 200 or not operation.granted(answer), sorted(have)
        assert outcome(operation, answer) == operation.refused(have), (sorted(have), answer.text)
        assert await lab.row(bucket, "old") is not None
        assert await lab.row(bucket, "new") is None
    assert await lab.versions() <= await lab.stored()


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
async def test_policies_are_for_whom_they_say(lab: Lab, operation: Operation) -> None:
    """Policies of owners: theirs may, others and anonymous may not, the service role always may."""
    bucket = await lab.bucket()
    await set_policies(lab, frozenset(ACTIONS), "authenticated", "owner_id = (auth.jwt() ->> 'sub')")
    creates = operation.ask in {upload, upsert_new, sign_upload}
    for who, may in ((lab.alice, True), (lab.bob, creates), (lab.anon, False), (lab.service, True)):
        names = {"prefixes": ["old", "other", "new"]}
        await lab.http.request("DELETE", f"/object/{bucket}", json=names, headers=lab.service)
        for name in ("old", "other"):
            assert (await lab.put(bucket, name, who=lab.alice)).status_code == 200
        answer = await operation.ask(lab, bucket, who)
        assert (answer.status_code == 200 and operation.granted(answer)) is may, answer.text


async def test_what_a_policy_sees_of_an_upload(lab: Lab) -> None:
    bucket = await lab.bucket()
    await lab.admin.execute(
        """
        create function public.note(o storage.objects) returns boolean language plpgsql as $$
        begin
          raise sqlstate '22P02' using message = to_jsonb(o)::text || '|' || jsonb_build_object(
            'operation', storage.operation(),
            'method', current_setting('request.method', true),
            'path', current_setting('request.path', true),
            'sub', current_setting('request.jwt.claim.sub', true),
            'role', current_setting('request.jwt.claim.role', true),
            'claims', current_setting('request.jwt.claims', true)::jsonb ->> 'sub',
            'header', current_setting('request.headers', true)::jsonb ->> 'x-custom',
            'timeout', current_setting('statement_timeout'))::text;
        end $$
        """
    )
    await lab.admin.execute(
        "create policy p on storage.objects for insert to authenticated with check (public.note(objects))"
    )
    answer = await lab.put(
        bucket,
        "dir/new.png",
        b"12345",
        who=lab.alice,
        content_type="image/png",
        x_metadata="eyJrIjoxfQ==",
        x_custom="y",
    )
    row, settings = (json.loads(part) for part in answer.json()["message"].split("|"))
    assert row["metadata"] == {"mimetype": "image/png", "contentLength": 5}
    assert row["user_metadata"] == {"k": 1}
    assert (row["bucket_id"], row["name"], row["version"]) == (bucket, "dir/new.png", "1")
    assert (row["owner"], row["owner_id"]) == (ALICE, ALICE)
    assert settings == {
        "operation": "storage.object.upload",
        "method": "POST",
        "path": f"/object/{bucket}/dir/new.png",
        "sub": ALICE,
        "role": "authenticated",
        "claims": ALICE,
        "header": "y",
        "timeout": "30s",
    }
    assert await lab.stored() == set()


async def test_policies_can_read_facts_and_folders(lab: Lab) -> None:
    bucket = await lab.bucket()
    await lab.policy(
        "insert",
        check="metadata ->> 'mimetype' like 'image/%' and (metadata ->> 'contentLength')::int < 10"
        " and (storage.foldername(name))[1] = auth.uid()::text and storage.extension(name) = 'png'",
    )
    answer = await lab.put(bucket, f"{ALICE}/a.png", b"x" * 9, who=lab.alice, content_type="image/png")
    assert answer.status_code == 200
    for name, content, kind in (
        (f"{ALICE}/b.png", b"x" * 10, "image/png"),
        (f"{ALICE}/b.png", b"x", "text/plain"),
        (f"{ALICE}/b.gif", b"x", "image/png"),
        (f"{BOB}/b.png", b"x", "image/png"),
    ):
        assert refusal(await lab.put(bucket, name, content, who=lab.alice, content_type=kind)) == DENIED


async def test_operations_have_their_names_in_policies(lab: Lab) -> None:
    bucket = await lab.bucket()
    await lab.put(bucket, "a")
    await lab.policy("select", check="storage.operation() = 'object.get_authenticated_info'")
    assert (await lab.http.get(f"/object/info/{bucket}/a", headers=lab.alice)).status_code == 200
    assert refusal(await lab.http.get(f"/object/{bucket}/a", headers=lab.alice)) == MISSING
    await set_policies(lab, frozenset({"select"}), check="storage.allow_only_operation('storage.object.list')")
    assert "a" in [row["name"] for row in (await list_v1(lab, bucket, lab.alice)).json()]
    assert (await list_v2(lab, bucket, lab.alice)).json()["objects"] == []


async def test_the_probe_leaves_nothing(lab: Lab) -> None:
    bucket = await lab.bucket()
    await lab.policy("insert")
    await lab.http.post(f"/object/upload/sign/{bucket}/new", json={}, headers=lab.alice)
    assert await lab.row(bucket, "new") is None
    assert await lab.admin.fetchval("select count(*) from storage_internal.blob_gc") == 0


async def test_a_trigger_of_the_project_is_asked_before_a_byte_is_stored(lab: Lab) -> None:
    """Even for the service role, which passes every policy."""
    await lab.admin.execute(
        """
        create function public.no_upper() returns trigger language plpgsql as $$
        begin
          if new.name <> lower(new.name) then raise sqlstate '42501' using message = 'lower case, please'; end if;
          return new;
        end $$
        """
    )
    await lab.admin.execute(
        "create trigger no_upper before insert on storage.objects for each row execute function public.no_upper()"
    )
    bucket = await lab.bucket()
    answer = await lab.put(bucket, "UPPER", who=lab.service)
    assert (refusal(answer), answer.json()["message"]) == (DENIED, "lower case, please")
    assert await lab.stored() == set()
    assert await lab.admin.fetchval("select count(*) from storage_internal.blob_gc") == 0
    assert (await lab.put(bucket, "lower", who=lab.service)).status_code == 200


async def test_the_service_role_signs_no_upload_into_nowhere(lab: Lab) -> None:
    answer = await lab.http.post("/object/upload/sign/nowhere/a", json={}, headers=lab.service)
    assert refusal(answer) == (400, "404", "InvalidRequest")


async def test_bucket_policies(lab: Lab) -> None:
    await lab.bucket("theirs")
    for method, path, content in (
        ("GET", "/bucket/theirs", None),
        ("PUT", "/bucket/theirs", {"public": True}),
        ("DELETE", "/bucket/theirs", None),
    ):
        answer = await lab.http.request(method, path, json=content, headers=lab.alice)
        assert refusal(answer) == (400, "404", "NoSuchBucket")
    assert (await lab.http.get("/bucket", headers=lab.alice)).json() == []
    assert refusal(await lab.http.post("/bucket", json={"name": "new"}, headers=lab.alice)) == DENIED
    for action, clause in (
        ("insert", "with check (true)"),
        ("select", "using (true)"),
        ("update", "using (true)"),
        ("delete", "using (true)"),
    ):
        await lab.admin.execute(f"create policy p_{action} on storage.buckets for {action} to authenticated {clause}")
    assert (await lab.http.post("/bucket", json={"name": "new"}, headers=lab.alice)).status_code == 200
    assert len((await lab.http.get("/bucket", headers=lab.alice)).json()) == 2
    assert (await lab.http.put("/bucket/theirs", json={"public": True}, headers=lab.alice)).status_code == 200
    assert (await lab.http.delete("/bucket/theirs", headers=lab.alice)).status_code == 200
    assert refusal(await lab.http.delete("/bucket/new", headers=lab.anon)) == (400, "404", "NoSuchBucket")


async def test_the_owners_policies_of_the_video_bucket(lab: Lab) -> None:
    """INSERT for authenticated, SELECT for anon, and SELECT for authenticated because they sign URLs."""
    bucket = await lab.bucket("video_dedicace")
    await lab.admin.execute(
        """create policy "Allow authenticated uploads" on storage.objects for insert to authenticated
           with check (bucket_id = 'video_dedicace')"""
    )
    await lab.admin.execute(
        """create policy "Allow public read" on storage.objects for select to anon
           using (bucket_id = 'video_dedicace')"""
    )
    name = "video_7/dedicaces_x.webm"
    answer = await lab.put(bucket, name, who=lab.alice, content_type="video/webm", cache_control="max-age=30")
    assert answer.status_code == 200
    assert refusal(await lab.put(bucket, name, who=lab.anon)) == DENIED
    assert refusal(await lab.put(bucket, name, who=lab.alice))[2] == "KeyAlreadyExists"
    assert (await lab.http.get(f"/object/{bucket}/{name}", headers=lab.anon)).content == b"hello"
    body = {"expiresIn": 3600}
    assert refusal(await lab.http.post(f"/object/sign/{bucket}/{name}", json=body, headers=lab.alice)) == MISSING
    await lab.policy("select", "authenticated", "bucket_id = 'video_dedicace'")
    signed = await lab.http.post(f"/object/sign/{bucket}/{name}", json=body, headers=lab.alice)
    got = await lab.http.get(signed.json()["signedURL"], headers={"range": "bytes=1-3"})
    assert (got.status_code, got.content) == (206, b"ell")


async def test_one_object_is_found_by_its_own_index_however_many_policies_name_buckets(lab: Lab) -> None:
    """Also before the table is first analysed, when an index on the bucket alone looks as good to PostgreSQL."""
    bucket, other = await lab.bucket(), await lab.bucket()
    for name in (bucket, other):
        await lab.policy("select", check=f"bucket_id = '{name}'")
    await lab.admin.execute(
        "insert into storage.objects (bucket_id, name) select $1, n::text from generate_series(1, 3000) n", bucket
    )
    caller = Caller(lab.keyring.verify(lab.token("authenticated", ALICE)), RequestFacts(), "storage.object.info")
    async with lab.storage.store.acting_as(caller) as connection:
        plan = "\n".join(row["QUERY PLAN"] for row in await connection.fetch(f"explain {FIND_OBJECT}", bucket, "7"))
    assert "using bucketid_objname" in plan, plan
    assert "Filter: (name" not in plan
