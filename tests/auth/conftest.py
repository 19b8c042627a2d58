"""Fixtures of the auth tests."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from harness.auth_site import AuthSite, open_site
from socle_platform.db import Database


@pytest.fixture
async def site(database: Database) -> AsyncGenerator[AuthSite]:
    """The service with FAST settings; for others a test opens its own with open_site(database, changed(...))."""
    async with open_site(database) as opened:
        yield opened
