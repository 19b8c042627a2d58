"""The REST service as an ASGI application, without a framework's objects on the path (contract rest.md §1, §11, §13).

authenticate → parse → plan → run → respond; each stage is a value, and each is timed when `server-timing-enabled`.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Protocol

from socle_platform.db import Prepared
from socle_platform.events import RequestFailed
from socle_platform.http import decoded_path, facts_of, identity_of
from socle_platform.identity import Identity, RequestFacts
from socle_platform.keys import expiry_of
from socle_rest.cors import preflight, simple_headers
from socle_rest.disconnect import ClientGone, Disconnects
from socle_rest.errors import Code, RestError, failure_of, render_failure
from socle_rest.etag import with_etag
from socle_rest.job import Job, make_job, may_stream, pre_request_of
from socle_rest.openapi import ACCESSIBLE, OpenApiDocuments, parse_accessible
from socle_rest.plan import Description, Inspection, RelationRead, make_plan
from socle_rest.quick import KnownCaller, QuickRun, is_quick
from socle_rest.replicated import position_headers, run_replicated
from socle_rest.request import ApiRequest, RawRequest, parse_request
from socle_rest.respond import Response, respond, respond_description, respond_document, without_content
from socle_rest.run import Caller, run
from socle_rest.shapes import Shapes, cut, negotiated, take_apart
from socle_rest.statement_log import statements_answered
from socle_rest.streaming import open_stream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from socle_platform.config.rest import RestSettings
    from socle_platform.db import Database
    from socle_platform.errors import WireResponse
    from socle_platform.http import Receive, Scope, Send
    from socle_platform.ports import Resources
    from socle_platform.quick import GiveUp, Reply, WholeRequest
    from socle_platform.replicas import Replicas
    from socle_platform.request_headers import RequestHeaders
    from socle_rest.headers import Header
    from socle_rest.plan import DatabasePlan
    from socle_rest.reload import Serving
    from socle_rest.run import Outcome
    from socle_rest.schema import RoleSettings, Schema

_DISTRIBUTION = "socle-platform"
_LOGGED_JOB = "socle.rest.job"
"""Where a request keeps its job for `log-query`."""


class Live(Protocol):
    """What requests are served with at this moment; `reload.Live` keeps it."""

    @property
    def serving(self) -> Serving:
        """The current settings, keys and schema."""
        ...

    @property
    def retry_after(self) -> int:
        """Seconds until the next attempt to load the schema."""
        ...


def build(
    settings: RestSettings,
    resources: Resources,
    live: Live,
    *,
    standalone: bool = False,
    replicas: Replicas | None = None,
) -> RestService:
    """The service. `standalone`: nothing stands in front of it, so it answers CORS itself, as PostgREST does, knows
    callers by their bearer token alone, and signs its answers. `settings` are those at the start; the current ones are
    in `live`. `replicas` take reads."""
    del settings
    return RestService(resources, live, standalone=standalone, replicas=replicas)


_Work = Job | tuple[ApiRequest, Description | Inspection]
"""What a request comes to: a job for the database, or an answer that needs no statement of its own."""


class _NoTimer:
    """Where nobody wants to know."""

    __slots__ = ()

    def stage(self, name: str) -> None:
        """Nothing."""


class _Timer(_NoTimer):
    """How long each stage took, for Server-Timing."""

    __slots__ = ("_last", "_stages")

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self._stages: list[tuple[str, float]] = []

    def stage(self, name: str) -> None:
        now = time.perf_counter()
        self._stages.append((name, now - self._last))
        self._last = now

    def header(self) -> Header:
        text = ", ".join([f"{name};dur={seconds * 1000:.1f}" for name, seconds in self._stages])
        return b"server-timing", text.encode()


_NO_TIMER = _NoTimer()


class RestService:
    """One ASGI application; all state is in `live`, the connection pool and the caches of documents."""

    def __init__(self, resources: Resources, live: Live, *, standalone: bool, replicas: Replicas | None = None) -> None:
        self._resources = resources
        self._replicas = replicas
        self._live = live
        self._standalone = standalone
        self._shapes = Shapes()
        self._disconnects = Disconnects()
        self._shapes_of: Serving | None = None
        self._documents = OpenApiDocuments(version(_DISTRIBUTION))
        self._server = f"postgrest/socle-{version(_DISTRIBUTION)}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        serving = self._live.serving
        extra: tuple[Header, ...] = ()
        if self._standalone:
            headers = dict(scope["headers"])
            origins = serving.settings.cors_allowed_origins
            if scope["method"] == "OPTIONS" and (answer := preflight(headers, origins)) is not None:
                await _send(send, Response(200, answer))
                return
            extra = (*simple_headers(headers, origins), (b"server", self._server))
        if serving.settings.trace_header is not None:
            name = serving.settings.trace_header.lower().encode()
            extra += ((name, next((value for key, value in scope["headers"] if key == name), b"")),)
        response = await self._answer(serving, scope, receive)
        if serving.settings.etag_enabled and scope["method"] == "GET":
            response = with_etag(response, scope["headers"])
        if (logged := scope.get(_LOGGED_JOB)) is not None:
            for observation in statements_answered(logged, response.status):
                self._resources.observe(observation)
        if response.portions is None:
            await _send(send, response, extra)
            return
        with contextlib.suppress(ClientGone), self._disconnects.watch(receive):
            await _send_stream(send, response, response.portions, extra)

    async def _answer(self, serving: Serving, scope: Scope, receive: Receive) -> Response:
        """The response, whatever happens."""
        authenticated = False
        try:
            timer = _Timer() if serving.settings.timing_enabled else _NO_TIMER
            identity = self._identify(serving, scope)
            authenticated = identity.role != serving.settings.anon_role
            if serving.schema is None:
                raise RestError(Code.NO_SCHEMA)
            return await self._serve(serving, serving.schema, identity, scope, receive, timer)
        except Exception as error:  # noqa: BLE001 - the boundary: whatever happens is answered
            about = (scope["method"], scope["path"], scope.get("socle.request_id", ""))
            return self._failed(serving, error, about, authenticated=authenticated)

    def _failed(
        self, serving: Serving, error: Exception, about: tuple[str, str, str], *, authenticated: bool
    ) -> Response:
        """The answer to a request that raised; `about` is its method, path and id."""
        failure = failure_of(error, authenticated=authenticated)
        if failure.code == Code.INTERNAL:
            self._resources.observe(RequestFailed("rest", *about, error))
        response = render_failure(failure, verbose=serving.settings.verbose_errors)
        headers = _encoded(response)
        if failure.status == 503:
            headers = (*headers, (b"retry-after", str(self._live.retry_after).encode()))
        return Response(response.status, headers, b"" if about[0] == "HEAD" else response.body)

    # ---- the quick lane ------------------------------------------------------------------------------------------

    def begin(self, request: WholeRequest, reply: Reply) -> GiveUp | None:
        """As `QuickApp.begin`, behind a gateway. Whatever is refused or goes wrong here is said by `__call__`."""
        serving = self._live.serving
        schema, settings = serving.schema, serving.settings
        if schema is None or self._replicas is not None or _adds_to_answers(settings):
            return None
        try:
            caller = self._known_caller(serving, request.headers)
            job = None if caller.negotiated is None else self._known_job(serving, request, caller.negotiated)
            if job is None or not is_quick(job, role := schema.role(caller.identity.role)):
                return None
            return self._begin(serving, request, reply, caller.identity, job, role)
        except Exception:  # noqa: BLE001 - whatever it is, the application meets it again and tells of it
            return None

    def _begin(
        self, serving: Serving, request: WholeRequest, reply: Reply, identity: Identity, job: Job, role: RoleSettings
    ) -> GiveUp | None:
        path = decoded_path(request.path)

        def failed(error: Exception) -> Response:
            about = (request.method, path, request.request_id.decode())
            return self._failed(serving, error, about, authenticated=identity.role != serving.settings.anon_role)

        facts = RequestFacts(request.method, path, *request.headers.as_json())
        return QuickRun(serving, job, reply, failed).begin(self._resources.database, identity, facts, role)

    def _known_caller(self, serving: Serving, headers: RequestHeaders) -> KnownCaller:
        """Who calls, found out once for all requests with these headers. Raises as `_identify`."""
        keyring = serving.keyring
        known: KnownCaller | None = headers.remembered.get(self)
        if (
            known is None
            or known.serving is not serving
            or known.keys is not keyring.keys
            or known.until <= keyring.time_of_day()
        ):
            scope = {"headers": headers.pairs, "socle.headers": headers}
            identity = self._identify(serving, scope)
            known = KnownCaller(serving, keyring.keys, expiry_of(identity), identity, negotiated(headers.pairs))
            headers.remembered[self] = known
        return known

    def _known_job(
        self, serving: Serving, request: WholeRequest, headers: tuple[tuple[bytes, bytes], ...]
    ) -> Job | None:
        """The job of a request whose shape is known."""
        if serving is not self._shapes_of:
            return None
        method, path, query_string, _, body, _ = request
        asked = take_apart(method, path, query_string, headers, body)
        return None if asked is None else self._shapes.fill(asked, serving.settings.max_rows)

    # ---- the stages ----------------------------------------------------------------------------------------------

    def _identify(self, serving: Serving, scope: Scope) -> Identity:
        """Who calls. Raises TokenError, or RestError (PGRST302)."""
        role = serving.settings.anon_role
        if self._standalone:
            token = bearer_of(scope)
            identity = _anonymous(role or "") if token is None else serving.keyring.verify(token)
        else:
            identity = identity_of(scope, serving.keyring, _anonymous(role or ""))
        if not identity.role:
            raise RestError(Code.ANONYMOUS_DISABLED)
        return identity

    async def _serve(
        self, serving: Serving, schema: Schema, identity: Identity, scope: Scope, receive: Receive, timer: _NoTimer
    ) -> Response:
        settings = serving.settings
        body = await _read_body(receive) if scope["method"] in _BODY_METHODS else b""
        timer.stage("jwt")
        work = self._decide(serving, schema, _raw_request(scope, body), timer)
        if settings.log_query and isinstance(work, Job):
            scope[_LOGGED_JOB] = work
        caller = Caller(identity, facts_of(scope))
        with self._disconnects.watch(receive):
            if isinstance(work, Job):
                database, outcome = await self._run(caller, work, schema, settings.max_rows, scope)
                if work.streamed is not None and outcome.rows == work.max_rows:
                    return await open_stream(database, caller, work, schema)
                timer.stage("transaction")
                response = respond(work, outcome, verbose_errors=settings.verbose_errors)
                if self._replicas is not None and (position := await position_headers(self._replicas, work)):
                    response = response._replace(headers=(*response.headers, *position))
            else:
                response = await self._describe(serving, schema, caller, work)
                timer.stage("transaction")
        timer.stage("response")
        if isinstance(timer, _Timer):
            return Response(response.status, (*response.headers, timer.header()), response.body)
        return response

    async def _run(
        self, caller: Caller, job: Job, schema: Schema, max_rows: int | None, scope: Scope
    ) -> tuple[Database, Outcome]:
        """The outcome of a job, and the database that it is of."""
        if self._replicas is not None:
            return await run_replicated(self._replicas, caller, job, schema, max_rows, scope["headers"])
        return self._resources.database, await run(self._resources.database, caller, job, schema, max_rows)

    def _decide(self, serving: Serving, schema: Schema, raw: RawRequest, timer: _NoTimer) -> _Work:
        """What to do for a request: the job of its shape with its own values, or a plan of its own."""
        settings = serving.settings
        if serving is not self._shapes_of:
            self._shapes.clear()
            self._shapes_of = serving
        asked = cut(raw)
        job = None if asked is None else self._shapes.fill(asked, settings.max_rows)
        if job is not None:
            timer.stage("parse")
            timer.stage("plan")
            return job
        request = parse_request(raw, settings)
        timer.stage("parse")
        plan = make_plan(request, schema, settings)
        if isinstance(plan, Description | Inspection):
            timer.stage("plan")
            return request, plan
        job = self._job(plan, request, schema, settings)
        if asked is not None:
            self._shapes.keep(asked.key, job)
        timer.stage("plan")
        return job

    def _job(self, plan: DatabasePlan, request: ApiRequest, schema: Schema, settings: RestSettings) -> Job:
        """The job for a plan; a read that may be long is cut where streaming begins."""
        if not may_stream(plan, request, settings):
            return make_job(plan, request, settings)
        cut_short = replace(settings, max_rows=settings.stream_rows + 1)
        first = make_plan(request, schema, cut_short)
        assert isinstance(plan, RelationRead)
        assert isinstance(first, RelationRead)
        return make_job(first, request, cut_short, plan)

    async def _describe(
        self, serving: Serving, schema: Schema, caller: Caller, work: tuple[ApiRequest, Description | Inspection]
    ) -> Response:
        """The answer that follows from the schema."""
        request, plan = work
        if isinstance(plan, Description):
            return respond_description(plan)
        return respond_document(request, await self._document(serving, schema, caller, request))

    async def _document(self, serving: Serving, schema: Schema, caller: Caller, request: ApiRequest) -> bytes:
        """The OpenAPI document as far as the caller may see the schema."""
        settings = serving.settings
        name = request.target.schema
        before = pre_request_of(settings)
        result = await self._resources.database.run_as(
            caller.identity,
            caller.facts,
            Prepared(ACCESSIBLE, (name.encode(),)),
            read_only=True,
            search_path=settings.search_path(name),
            role_settings=dict(schema.role(caller.identity.role).settings),
            before=before,
            reset=before is not None,
        )
        follows = settings.openapi.mode == "follow-privileges"
        accessible = parse_accessible(result.rows[0][0] or b"{}") if follows else None
        return self._documents.document(serving.generation, schema, name, settings, accessible)


def _adds_to_answers(settings: RestSettings) -> bool:
    """Whether each answer is to say more than its job does, or the log: that is for `__call__`."""
    return settings.timing_enabled or settings.etag_enabled or settings.log_query or settings.trace_header is not None


_BODY_METHODS = frozenset({"POST", "PUT", "PATCH"})


@lru_cache(maxsize=8)
def _anonymous(role: str) -> Identity:
    return Identity.anonymous(role)


def bearer_of(scope: Scope) -> str | None:
    """The token of `Authorization: Bearer …`; another scheme is no token."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, token = value.decode("latin-1").partition(" ")
            return token.strip() if scheme.lower() == "bearer" else None
    return None


def _raw_request(scope: Scope, body: bytes) -> RawRequest:
    """The request below the mount point, with the path still encoded."""
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    root = scope.get("root_path", "").encode()
    if root and path.startswith(root):
        path = path[len(root) :]
    return RawRequest(scope["method"], path.partition(b"?")[0], scope["query_string"], tuple(scope["headers"]), body)


async def _read_body(receive: Receive) -> bytes:
    """The whole body. Raises RestError when the client goes away in the middle of it."""
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        return body
    chunks = [body]
    while message.get("more_body", False):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RestError(Code.BODY_UNREADABLE, message="The request body ended early")
        chunks.append(message.get("body", b""))
    return b"".join(chunks)


def _encoded(response: WireResponse) -> tuple[Header, ...]:
    return tuple(
        (name.lower().encode("latin-1"), value.encode("latin-1", "replace")) for name, value in response.headers
    )


async def _send(send: Send, response: Response, extra: tuple[Header, ...] = ()) -> None:
    status, headers, body, _ = without_content(response)
    await send({"type": "http.response.start", "status": status, "headers": list(_with_extra(headers, extra))})
    await send({"type": "http.response.body", "body": body})


async def _send_stream(
    send: Send, response: Response, portions: AsyncGenerator[bytes], extra: tuple[Header, ...]
) -> None:
    """Sends as fast as the client reads. A failure on the way breaks the connection: no part is taken for the whole."""
    headers = list(_with_extra(response.headers, extra))
    async with contextlib.aclosing(portions):
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        async for portion in portions:
            await send({"type": "http.response.body", "body": portion, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def _with_extra(headers: tuple[Header, ...], extra: tuple[Header, ...]) -> tuple[Header, ...]:
    if not extra:
        return headers
    names = {name for name, _ in headers}
    return (*headers, *(pair for pair in extra if pair[0] not in names))
