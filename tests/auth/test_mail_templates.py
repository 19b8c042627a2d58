"""The template language of mails, the built-in mails, and where templates come from (contracts/auth.md §7.6)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.internet import started_internet
from harness.site import Reply
from socle_auth.mail import builtin
from socle_auth.mail.go_template import TemplateError, parse_template
from socle_auth.mail.html_context import Trusted
from socle_auth.mail.plain_text import plain_text
from socle_auth.mail.templates import FRESH_SECONDS, TEMPLATE_NAMES, MailTemplates, TemplateUnusable
from socle_platform.config.auth_messages import MailerSettings
from socle_platform.config.reader import ConfigError
from socle_platform.ports import HttpClient

DATA: Mapping[str, Any] = {
    "Name": "Ada & <Co>",
    "Empty": "",
    "N": 3,
    "Half": 0.5,
    "Yes": True,
    "List": ["a", "b"],
    "Data": {"lang": "de", "plan": {"name": "pro"}, "n": 5.0},
    "Link": "https://example.com/a?b=c&d=e",
    "Script": "javascript:alert(1)",
    "App": Trusted("com.app://login"),
}


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("plain", "plain"),
        ("{{ .N }} {{.Half}} {{ .Yes }} {{ .List }} {{ .Missing }}|", "3 0.5 true [a b] |"),
        ("{{ .Data.plan.name }} {{ .Data.plan.none.deep }}|{{ .Data.n }}", "pro |5"),
        ('{{ if eq .Data.lang "de" }}Hallo{{ else }}Hello{{ end }}', "Hallo"),
        ('{{ if eq .Data.lang "fr" }}A{{ else if eq .Data.lang "de" "nl" }}B{{ else }}C{{ end }}', "B"),
        ('{{ if eq .Data.lang "fr" }}A{{ else if .Empty }}B{{ else }}C{{ end }}', "C"),
        (
            "{{ if and .Yes .N }}both{{ end }}{{ if or .Empty .N }}one{{ end }}{{ if not .Empty }}none{{ end }}",
            "bothonenone",
        ),
        ("{{ if ne .N 3 }}x{{ end }}{{ if gt .N 2 }}more{{ end }}{{ if le .N 2 }}less{{ end }}", "more"),
        ('{{ if eq .Missing "x" }}x{{ else }}other{{ end }}{{ if lt .N "4" }}y{{ end }}', "other"),
        ("{{ range .List }}<{{ . }}>{{ else }}none{{ end }}", "<a><b>"),
        ("{{ range .Missing }}<{{ . }}>{{ else }}none{{ end }}", "none"),
        ("{{ range $i, $x := .List }}{{ $i }}{{ $x }}{{ $.N }} {{ end }}", "0a3 1b3 "),
        ("{{ range $key, $value := .Data }}{{ $key }} {{ end }}", "lang n plan "),
        (
            "{{ with .Data.plan }}{{ .name }}{{ $.N }}{{ else }}no{{ end }}{{ with .Empty }}x{{ else }}no{{ end }}",
            "pro3no",
        ),
        ("{{ with $p := .Data.plan }}{{ $p.name }}{{ end }}", "pro"),
        ("{{ $x := .N }}{{ if .Yes }}{{ $x = 4 }}{{ end }}{{ $x }}", "4"),
        ('{{ printf "%s-%05d-%v-%%" .Data.lang .N .Yes }}', "de-00003-true-%"),
        ('{{ .Data.lang | printf "<%s>" | len }}', "4"),
        ('{{ index .List 1 }}{{ index .Data "plan" "name" }}{{ index .List 9 }}', "bpro"),
        ('{{ len .List }}{{ (len .Name) }}{{ print "a" 1 }}{{ urlquery "a b&c" }}', "210a1a+b%26c"),
        ("a  {{- .N -}}  b", "a3b"),
        ("a {{/* a comment }} */}} b", "a  b"),
        ('{{ `raw }} text` }} {{ "quo\\"te }}" }}', 'raw }} text quo"te }}'),
        ("{{ true }} {{ nil }} {{ -2 }} {{ 1.5 }}", "true  -2 1.5"),
    ],
)
def test_the_language(source: str, shown: str) -> None:
    assert parse_template(source, html=False).render(DATA) == shown


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("<p>{{ .Name }}</p>", "<p>Ada &amp; &lt;Co&gt;</p>"),
        ('<a href="{{ .Link }}">', '<a href="https://example.com/a?b=c&amp;d=e">'),
        ('<a href="{{ .Script }}">', '<a href="#ZgotmplZ">'),
        ('<a href="{{ .App }}">', '<a href="com.app://login">'),
        (
            '<a href="https://x.example/?next={{ .Link }}">',
            '<a href="https://x.example/?next=https%3A%2F%2Fexample.com%2Fa%3Fb%3Dc%26d%3De">',
        ),
        ("<img src='/i/{{ .Name }}'>", "<img src='/i/Ada%20&amp;%20%3CCo%3E'>"),
        ("<b title={{ .Name }}>", "<b title=Ada&#32;&amp;&#32;&lt;Co&gt;>"),
        ('<p style="color:{{ .Data.lang }};width:{{ .Name }}">', '<p style="color:de;width:ZgotmplZ">'),
        ("<style>b{color:{{ .Data.lang }}}</style>{{ .Name }}", "<style>b{color:de}</style>Ada &amp; &lt;Co&gt;"),
        ("<!-- {{ .Name }} -->x", "<!--  -->x"),
        ("<!--[if mso]><b>{{ .N }}</b><![endif]-->", "<!--[if mso]><b>3</b><![endif]-->"),
        (
            '<a {{ if .Yes }}href="{{ .Link }}"{{ end }}>{{ .N }}</a>',
            '<a href="https://example.com/a?b=c&amp;d=e">3</a>',
        ),
        ("{{ html .Name }}", "Ada &amp;amp; &amp;lt;Co&amp;gt;"),
    ],
)
def test_a_value_is_escaped_for_its_place(source: str, shown: str) -> None:
    assert parse_template(source, html=True).render(DATA) == shown


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("a\n{{ if }}x{{ end }}", "line 2: a value is missing"),
        ("{{ .A", "without its"),
        ("{{ end }}", "end without"),
        ("{{ else }}", "else without"),
        ("{{ if .A }}", "line 1: if without its end"),
        ("{{ if .A }}{{ else }}{{ else }}{{ end }}", "else without"),
        ("{{ nothing .A }}", "'nothing' is not a function"),
        ("{{ eq .A }}", "eq takes"),
        ("{{ .A .B }}", "not a function"),
        ("{{ (.A }}", "parenthesis"),
        ("{{ .A § }}", "not understood"),
        ('{{ template "x" }}', "template is not supported"),
        ("<script>{{ .A }}</script>", "inside a script"),
        ('<a onclick="{{ .A }}">', "event attribute onclick"),
        ("<{{ .A }}>", "inside a tag"),
        ("</{{ .A }}>", "inside a tag"),
        ("<b {{ .A }}>", "inside a tag"),
        ('{{ if .A }}<a href="{{ else }}x{{ end }}', "different places"),
        ("x" * ((1 << 20) + 1), "longer"),
    ],
)
def test_templates_that_cannot_be_used(source: str, words: str) -> None:
    with pytest.raises(TemplateError, match=words):
        parse_template(source, html=True)


def test_what_a_user_calls_herself_is_no_template() -> None:
    template = parse_template("{{ .Data.name }}", html=False)
    assert template.render({"Data": {"name": "{{ .Token }}"}, "Token": "123456"}) == "{{ .Token }}"


def test_the_text_of_a_mail() -> None:
    page = """<html><head><title>no</title><style>p{}</style></head><body><h1>Hello</h1><p>One
      two<br>three</p><ul><li>a</li><li>b</li></ul><a href="https://x.example/?a=1&amp;b=2">Open</a>
      <a href="https://y.example">https://y.example</a><a href="mailto:a@b.c">us</a><img alt="logo"></body></html>"""
    assert plain_text(page) == (
        "Hello\n\nOne two\nthree\n\n- a\n\n- b\n\nOpen\nhttps://x.example/?a=1&b=2\nhttps://y.exampleus\na@b.c\nlogo\n"
    )


@pytest.mark.parametrize("language", builtin.LANGUAGES)
@pytest.mark.parametrize("name", TEMPLATE_NAMES)
async def test_every_built_in_mail_is_complete(name: str, language: str) -> None:
    data = builtin.sample_data(name)
    words = await make(MailerSettings()).render(name, language, data)
    assert words.subject
    assert "\n" not in words.subject
    assert f'lang="{language}"' in words.html
    assert "{{" not in words.html + words.subject
    for variable in ("Token", "ConfirmationURL"):
        if variable in data:
            assert data[variable] in words.text


@pytest.mark.parametrize(
    ("locale", "language"), [("fr", "fr"), ("fr-CA", "fr"), ("FR_fr", "fr"), ("en", "en"), ("de", "en"), (7, "en")]
)
def test_the_language_is_the_users(locale: object, language: str) -> None:
    assert builtin.choose_language(locale) == language


# -- sources -----------------------------------------------------------------------------------------------------------


class Notes:
    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, level: str, text: str) -> None:
        self.texts.append(f"{level}: {text}")


def make(
    settings: MailerSettings, http: HttpClient | None = None, now: list[float] | None = None, notes: Notes | None = None
) -> MailTemplates:
    moments = now or [0.0]
    return MailTemplates(settings, http, lambda: moments[0], notes or Notes())


async def confirmation(templates: MailTemplates) -> str:
    return (await templates.render("confirmation", "en", builtin.sample_data("confirmation"))).html


async def test_subjects_and_contents_from_settings() -> None:
    settings = MailerSettings(
        subjects={"confirmation": "{{ .Token }} for\r\n {{ .Email }}"}, contents={"confirmation": "<b>{{ .Token }}</b>"}
    )
    words = await make(settings).render("confirmation", "fr", builtin.sample_data("confirmation"))
    assert (words.subject, words.html, words.text) == ("123456 for ada@example.com", "<b>123456</b>", "123456\n")


async def test_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path, notes = tmp_path / "confirm.html", Notes()
    path.write_text("one {{ .Token }}")
    templates = make(MailerSettings(templates={"confirmation": str(path)}), notes=notes)
    assert await confirmation(templates) == "one 123456"
    path.write_text("two {{ .Token }}")
    os.utime(path, (1, 1))
    assert await confirmation(templates) == "two 123456"
    path.write_text("broken {{ .Token")
    os.utime(path, (2, 2))
    assert await confirmation(templates) == "two 123456"
    assert "GOTRUE_MAILER_TEMPLATES_CONFIRMATION" in notes.texts[-1]
    assert notes.texts[-1].startswith("error: ")
    path.unlink()
    assert await confirmation(templates) == "two 123456"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            MailerSettings(templates={"invite": "/nowhere/invite.html"}),
            "TEMPLATES_INVITE: the file /nowhere/invite.html",
        ),
        (MailerSettings(contents={"recovery": "{{ .Tokken }}"}), r"CONTENTS_RECOVERY: \.Tokken is not a variable"),
        (MailerSettings(contents={"reauthentication": "{{ .ConfirmationURL }}"}), "CONTENTS_REAUTHENTICATION"),
        (MailerSettings(subjects={"magic_link": "{{ if }}"}), "SUBJECTS_MAGIC_LINK"),
        (MailerSettings(contents={"password_changed_notification": "{{ .Token }}"}), "PASSWORD_CHANGED_NOTIFICATION"),
    ],
)
def test_what_cannot_be_used_stops_the_start(settings: MailerSettings, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make(settings)


async def test_a_template_from_an_address_is_kept_and_refreshed() -> None:
    async with started_internet() as internet:
        url, now, notes = "https://cdn.example.com/confirm.html", [0.0], Notes()
        internet.on("GET", url, Reply(b"one {{ .Token }}"))
        templates = make(MailerSettings(templates={"confirmation": url}), internet, now, notes)
        await templates.load()
        assert await confirmation(templates) == "one 123456"
        internet.on("GET", url, Reply(b"two {{ .Token }}"))
        assert await confirmation(templates) == "one 123456"
        now[0] = FRESH_SECONDS + 1
        assert await confirmation(templates) == "two 123456"
        internet.on("GET", url, Reply(b"gone", 404))
        now[0] *= 2
        assert await confirmation(templates) == "two 123456"
        assert "404" in notes.texts[-1]
        assert len(internet.calls(url)) == 3


async def test_an_address_without_a_template_stops_the_start() -> None:
    async with started_internet() as internet:
        url = "https://cdn.example.com/confirm.html"
        templates = make(MailerSettings(templates={"confirmation": url}), internet)
        for reply, words in (
            (Reply(b"no", 404), "status 404"),
            (Reply(b"{{ .Nonsense }}"), "Nonsense"),
            (Reply(b"x" * ((1 << 20) + 1)), "longer"),
            (Reply(b"\xff\xfe"), "cannot be fetched"),
        ):
            internet.on("GET", url, reply)
            with pytest.raises(ConfigError, match=words):
                await templates.load()
        with pytest.raises(TemplateUnusable):
            await confirmation(templates)
