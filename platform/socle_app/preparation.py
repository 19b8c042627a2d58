"""Brings a database to where the services can start: the platform's schema, the project's, its policies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from socle_platform.events import Noted
from socle_platform.migrate import ensure_platform
from socle_platform.migrate.history import plan_push, push
from socle_platform.migrate.policies import apply_policies

if TYPE_CHECKING:
    from socle_app.places import Place
    from socle_app.source import Source
    from socle_platform.events import Observe


async def prepare_database(source: Source, place: Place, given: Mapping[str, str], observe: Observe) -> tuple[str, ...]:
    """Applies what is missing and returns what a person should know. `given` is the environment of the start.

    The built-in project is brought up to date at every start. A project of one's own is applied, roles and seeds
    included, at its first start; later ones only tell what is pending, as the official stack has it. A first start that
    was interrupted goes on where it stopped. Raises the errors of `socle_platform.migrate`.
    """

    def tell(text: str) -> None:
        observe(Noted("migrate", "info", text))

    report = await ensure_platform(source.admin_dsn, passwords=source.passwords, progress=tell)
    notes = list(report.warnings)
    if place.project.built_in or not place.state.project_file.exists():
        await apply_project(source.operator_dsn, place, tell, given)
        place.state.project_file.write_text(place.project.name + "\n", encoding="utf-8")
    else:
        notes += await _pending(source.operator_dsn, place, given)
    return (*notes, *place.project.warnings(given))


async def apply_project(
    dsn: str, place: Place, tell: Callable[[str], None], given: Mapping[str, str] | None = None
) -> None:
    """Roles, migrations, seeds and policies of the project, as far as they are not applied yet."""
    project, roles_file = place.project, place.state.roles_file
    await push(
        dsn,
        project.migrations(given),
        seeds=project.seeds(given),
        roles=None if roles_file.exists() else project.roles_file(),
        include_seed=True,
        include_roles=True,
        progress=tell,
        roles_made=roles_file.touch,
    )
    report = await apply_policies(dsn, project.policies())
    if not report.is_unchanged:
        tell(report.render())


async def _pending(dsn: str, place: Place, given: Mapping[str, str]) -> list[str]:
    plan = await plan_push(dsn, place.project.migrations(given), include_all=True)
    if not plan.migrations:
        return []
    names = ", ".join(migration.title for migration in plan.migrations)
    return [f"{len(plan.migrations)} migrations are pending ({names}): apply them with `socle db push`"]
