"""Fixtures of the auth tests."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from harness.auth_site import FAST, AuthSite, changed, open_site
from socle_platform.config.auth import AuthSettings
from socle_platform.db import Database


@pytest.fixture
async def site(database: Database, request: pytest.FixtureRequest) -> AsyncGenerator[AuthSite]:
    """The service with the settings of the test's `@pytest.mark.settings(**parts)`, else FAST."""
    marker = request.node.get_closest_marker("auth_settings")
    settings: AuthSettings = changed(FAST, **marker.kwargs) if marker else FAST
    async with open_site(database, settings) as opened:
        yield opened
