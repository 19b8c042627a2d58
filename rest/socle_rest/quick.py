"""The quick lane of the service (`socle_platform.quick`): jobs of a known shape that are one statement."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from socle_platform.db import Outcome, Prepared
from socle_platform.quick import WholeResponse, header_lines
from socle_rest.respond import respond, without_content
from socle_rest.run import NO_SETTINGS, outcome_of, verify

if TYPE_CHECKING:
    from collections.abc import Callable

    from socle_platform.db import Database, DatabaseError, DatabaseUnavailable
    from socle_platform.identity import Identity, RequestFacts
    from socle_platform.quick import GiveUp, Reply
    from socle_rest.job import Job
    from socle_rest.reload import Serving
    from socle_rest.respond import Response
    from socle_rest.schema import RoleSettings


class KnownCaller(NamedTuple):
    """What the headers of a request come to: who calls, good until a time, and what they say about the answer."""

    serving: Serving
    keys: object
    until: float
    identity: Identity
    negotiated: tuple[tuple[bytes, bytes], ...] | None


def is_quick(job: Job, role: RoleSettings) -> bool:
    """Whether settings, the statement and Sync in one write are the whole transaction."""
    frame = job.frame
    return (
        frame.isolation is None
        and role.isolation is None
        and frame.before is None
        and not frame.rollback
        and (frame.limits is None or frame.read_only)
        and job.planned is None
    )


class QuickRun:
    """One job on its way. `failed` turns whatever was raised into a response."""

    __slots__ = ("_failed", "_job", "_reply", "_serving")

    def __init__(self, serving: Serving, job: Job, reply: Reply, failed: Callable[[Exception], Response]) -> None:
        self._serving = serving
        self._job = job
        self._reply = reply
        self._failed = failed

    def begin(self, database: Database, identity: Identity, facts: RequestFacts, role: RoleSettings) -> GiveUp | None:
        """None where the request needs a task after all."""
        statement, frame = self._job.statement, self._job.frame
        pending = database.begin_as(
            identity,
            facts,
            Prepared(statement.text, statement.args, "", frame.result_formats),
            self._answered,
            read_only=frame.read_only,
            search_path=frame.search_path,
            settings=frame.settings,
            role_settings=dict(role.settings) if role.settings else NO_SETTINGS,
            reset=not frame.read_only,
        )
        return None if pending is None else pending.cancel

    def _answered(self, found: Outcome | DatabaseError | DatabaseUnavailable | None) -> None:
        response = None if found is None else self._respond(found)
        if response is None:
            self._reply(None)
            return
        status, headers, body, _ = response
        self._reply(WholeResponse(status, header_lines(headers), body))

    def _respond(self, found: Outcome | DatabaseError | DatabaseUnavailable) -> Response | None:
        """The response; None where the rows are too many to be sent at once, which reads can be asked again for."""
        job, settings = self._job, self._serving.settings
        try:
            if not isinstance(found, Outcome):
                raise found
            if job.frame.limits is not None:
                verify(job.frame.limits, found.rows)
            outcome = outcome_of(job, found.rows, settings.max_rows)
            if job.streamed is not None and outcome.rows == job.max_rows:
                return None
            return without_content(respond(job, outcome, verbose_errors=settings.verbose_errors))
        except Exception as error:  # noqa: BLE001 - the boundary: whatever happens is answered
            return self._failed(error)
