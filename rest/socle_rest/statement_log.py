"""What `log-query` reports: the statements of a request, without their parameters (contract rest.md §15)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from socle_platform.events import Observation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from socle_rest.job import Job


@dataclass(frozen=True, slots=True)
class StatementAnswered(Observation):
    """One statement of a request that was answered with `status`."""

    statement: str
    status: int


def statements_answered(job: Job, status: int) -> Iterator[StatementAnswered]:
    """One observation per statement, in the order of their execution."""
    if job.frame.before is not None:
        yield StatementAnswered(job.frame.before.text, status)
    yield StatementAnswered(job.statement.text, status)
    if job.planned is not None:
        yield StatementAnswered(job.planned.text, status)
