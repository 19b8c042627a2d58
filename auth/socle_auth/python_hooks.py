"""Hooks as Python functions in the service's own process: the library face beside SQL and HTTP ones.

    from socle_auth import HookRejected, hook

    @hook("custom_access_token")
    async def add_plan(event):
        return {"claims": {**event["claims"], "plan": "pro"}}

`SOCLE_HOOK_MODULES` names the modules to import at start. What a function is given and gives is the contract's table of
§7.5; None means {}. A hook that the settings switch on (`GOTRUE_HOOK_…`) goes before a function of that name.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeAlias, TypeVar, cast

from socle_auth.errors import AuthError, ErrorCode, failure
from socle_platform.config.auth import HOOK_NAMES
from socle_platform.config.reader import ConfigError

SECONDS = 5.0
"""How long a function may take."""

Answer: TypeAlias = Mapping[str, Any] | None
HookFunction: TypeAlias = Callable[[dict[str, Any]], Answer] | Callable[[dict[str, Any]], Awaitable[Answer]]
_Function = TypeVar("_Function", bound=Callable[..., Any])

_functions: dict[str, HookFunction] = {}


class HookRejected(Exception):
    """Raised by a function to refuse: `message` and `status` (400 to 599) reach the caller."""

    def __init__(self, message: str, status: int = 403) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


def hook(name: str) -> Callable[[_Function], _Function]:
    """Registers a function, plain or async, for one of the seven hooks. Raises ValueError for an unknown or taken name.

    A plain function runs in a thread.
    """
    if name not in HOOK_NAMES:
        raise ValueError(f"{name!r} is not a hook: there are {', '.join(HOOK_NAMES)}")

    def register(function: _Function) -> _Function:
        if name in _functions:
            raise ValueError(f"the hook {name} has a function already: {_functions[name]!r}")
        _functions[name] = function
        return function

    return register


def forget_hooks() -> None:
    """Unregisters every function (for tests)."""
    _functions.clear()


def is_registered(name: str) -> bool:
    return name in _functions


def import_hooks(modules: Iterable[str]) -> None:
    """Imports the modules that register functions. Raises ConfigError naming one that cannot be imported."""
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:
            raise ConfigError([f"SOCLE_HOOK_MODULES: {module} cannot be imported: {error}"]) from error


async def ask(name: str, payload: dict[str, Any]) -> dict[str, Any]:
    """The function's answer. Raises AuthError: its rejection, `hook_timeout`, or 500 when it fails."""
    function = _functions[name]
    try:
        async with asyncio.timeout(SECONDS):
            answer = await _run(function, payload)
    except HookRejected as rejection:
        status = rejection.status if 400 <= rejection.status < 600 else 500
        raise AuthError(None, rejection.message, status) from rejection
    except TimeoutError as error:
        message = f"Failed to reach hook within maximum time of {SECONDS:f} seconds"
        raise AuthError(ErrorCode.HOOK_TIMEOUT, message, cause=error) from error
    except Exception as error:
        raise failure("Error invoking hook", error) from error
    if answer is None:
        return {}
    if not isinstance(answer, Mapping):
        raise failure(f"The hook {name} gave a {type(answer).__name__} instead of a mapping")
    return dict(cast("Mapping[str, Any]", answer))


async def _run(function: HookFunction, payload: dict[str, Any]) -> object:
    if inspect.iscoroutinefunction(function):
        return await cast("Awaitable[object]", function(payload))
    answer = await asyncio.to_thread(function, payload)
    return await cast("Awaitable[object]", answer) if inspect.isawaitable(answer) else answer
