"""Sign-in. A project's own Python code needs two names of it: `hook` and `HookRejected` (python_hooks)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from socle_auth.python_hooks import HookRejected, hook

__all__ = ["HookRejected", "hook"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from socle_auth import python_hooks

    return getattr(python_hooks, name)
