"""Observations: things worth logging or counting, reported as values to one observer (models.md §1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeAlias


@dataclass(frozen=True, slots=True)
class Observation:
    """Base of every observation; subclasses add fields of plain types. `LEVEL` is its logging level's name."""

    LEVEL: ClassVar[str] = "info"


@dataclass(frozen=True, slots=True)
class RequestServed(Observation):
    """One HTTP exchange, after its last byte left. Duration in seconds; sizes in bytes."""

    service: str
    method: str
    path: str
    status: int
    duration: float
    request_id: str


@dataclass(frozen=True, slots=True)
class RequestFailed(Observation):
    """An exception that no service knew: answered as that service's 500."""

    service: str
    method: str
    path: str
    request_id: str
    error: BaseException


@dataclass(frozen=True, slots=True)
class Noted(Observation):
    """A plain sentence for the log, with the service it comes from and its level (debug, info, warning, error)."""

    service: str
    level: str
    text: str


Observe: TypeAlias = Callable[[Observation], None]


def silent(_observation: Observation) -> None:
    """An observer that keeps nothing: the default in tests."""


class Observers:
    """Hands each observation to every subscriber, in the order of subscription."""

    def __init__(self, *subscribers: Observe) -> None:
        self._subscribers = list(subscribers)

    def subscribe(self, subscriber: Observe) -> None:
        self._subscribers.append(subscriber)

    def __call__(self, observation: Observation) -> None:
        for subscriber in self._subscribers:
            subscriber(observation)
