"""Fixtures of the wire tests: the plugin that users of Socle get, on the built-in project."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from socle_app.places import Place
from socle_app.project import Project
from socle_app.state import StateFolder
from socle_app.testing import ProjectTemplate, TestPlatform, project_template


@pytest.fixture(scope="session")
def dedicace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProjectTemplate]:
    """The built-in project on a PostgreSQL of its own."""
    folder = tmp_path_factory.mktemp("dedicace")
    with project_template(Place(Project(folder, built_in=True), StateFolder(folder / ".socle"))) as template:
        yield template


@pytest.fixture
def platform(dedicace: ProjectTemplate) -> Iterator[TestPlatform]:
    """A running platform with an empty dedicace project."""
    with dedicace.platform() as running:
        yield running
