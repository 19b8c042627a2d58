"""`socle auth preview-mail`: what a project's templates make of sample values."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from socle_app.cli import app
from socle_platform.config.reader import ConfigError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a template of its own, and somebody working in it."""
    templates = tmp_path / "supabase" / "templates"
    templates.mkdir(parents=True)
    (templates / "invite.html").write_text("<p>Come in, {{ .Email }}: {{ .Token }}</p>")
    (tmp_path / "supabase" / "config.toml").write_text(
        'project_id = "mails"\n[auth.email.template.invite]\nsubject = "Join {{ .Data.name }}"\n'
        'content_path = "./supabase/templates/invite.html"\n'
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def preview(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["auth", "preview-mail", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_projects_own_mail(folder: Path) -> None:
    assert folder.is_dir()
    assert preview("invite") == "<p>Come in, ada@example.com: 123456</p>\n"
    assert preview("invite", "--part", "subject") == "Join Ada Lovelace\n"
    assert preview("invite", "--part", "text") == "Come in, ada@example.com: 123456\n"


def test_a_built_in_mail_in_each_language(folder: Path) -> None:
    assert folder.is_dir()
    assert preview("recovery", "--part", "subject") == "Reset your password\n"
    assert "mot de passe" in preview("recovery", "--language", "fr", "--part", "text")


def test_all_are_tried(folder: Path) -> None:
    preview("all")
    (folder / "supabase" / "templates" / "invite.html").write_text("{{ .Tokken }}")
    with pytest.raises(ConfigError, match=r"invite\.html.*Tokken"):
        preview("all")
    (folder / "supabase" / "templates" / "invite.html").unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        preview("invite")


@pytest.mark.parametrize("arguments", [("nothing",), ("invite", "--language", "de"), ("invite", "--part", "pdf")])
def test_what_there_is_not(folder: Path, arguments: tuple[str, ...]) -> None:
    assert folder.is_dir()
    result = CliRunner().invoke(app, ["auth", "preview-mail", *arguments])
    assert result.exit_code == 2
