"""Every line of the contract that asks for a test has one (contracts/auth.md §9, §12)."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from harness.auth_contract import ATTACKS, BEHAVIOURS, PROPERTIES

TESTS = Path(__file__).parents[1]
HOW_MANY_BEHAVIOURS = 55
PROPERTY_NAMES = (
    "enumeration: signup",
    "enumeration: recover, resend",
    "enumeration: password",
    "enumeration: otp create_user=false",
    "OTP single use",
    "OTP guessing",
    "PKCE binding",
    "CSRF state",
    "nonce",
    "open redirect",
    "host header",
    "pre-account takeover",
    "email promotion",
    "refresh replay",
    "MFA step-up",
    "MFA bypass",
    "banned",
    "admin token revocation",
    "alg confusion",
    "reserved provider params",
    "OAuth code replay",
    "secrets never serialised",
    "SSRF",
    "reauthentication",
    "resource exhaustion",
)


@cache
def functions_of(module: str) -> frozenset[str]:
    """The names of the test functions of a module, without running it."""
    room, _, name = module.rpartition("/")
    file = TESTS / (room or "auth") / f"test_{name}.py"
    tree = ast.parse(file.read_text())
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_no_behaviour_is_without_a_test() -> None:
    assert set(BEHAVIOURS) == set(range(1, HOW_MANY_BEHAVIOURS + 1))
    assert all(BEHAVIOURS.values())


def test_no_property_is_without_a_test() -> None:
    assert set(PROPERTIES) == set(PROPERTY_NAMES)
    assert all(PROPERTIES.values())
    assert all(ATTACKS.values())


NAMED = sorted({name for table in (BEHAVIOURS, PROPERTIES, ATTACKS) for names in table.values() for name in names})


@pytest.mark.parametrize("name", NAMED)
def test_every_test_that_is_named_exists(name: str) -> None:
    module, _, function = name.partition("::")
    assert function in functions_of(module), name
