"""The inbox of a running platform: on its own port and below /inbox, open here and locked elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import httpx

from harness.postgres import free_port
from harness.program import running_program

PERSON = {"email": "ada@example.com", "password": "correct horse battery"}


def test_a_mail_is_read_where_tools_look_for_it(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    environ = {
        "SOCLE_INBOX_PORT": str(free_port()),
        "GOTRUE_MAILER_AUTOCONFIRM": "false",
        "GOTRUE_EXTERNAL_PHONE_ENABLED": "true",
    }
    with running_program(tmp_path, environ=environ) as program, program.client("ANON_KEY") as client:
        mailpit = f"http://127.0.0.1:{environ['SOCLE_INBOX_PORT']}"
        assert program.values["MAILPIT_URL"] == program.values["INBUCKET_URL"] == mailpit
        assert client.post("/auth/v1/signup", json=PERSON).status_code == 200
        listed = httpx.get(f"{mailpit}/api/v1/messages").json()
        assert listed == client.get("/inbox/api/v1/messages").json()
        message = httpx.get(f"{mailpit}/api/v1/message/{listed['messages'][0]['ID']}").json()
        link = re.search(r"https?://\S+token=\S+", message["Text"])
        assert link is not None
        assert link[0].startswith(f"{program.values['API_URL']}/auth/v1/verify?")
        answer = httpx.get(link[0])
        assert answer.status_code == 303
        assert "access_token=" in answer.headers["location"]
        assert client.post("/auth/v1/otp", json={"phone": "15550101234"}).status_code == 200
        assert httpx.get(f"{mailpit}/api/v1/message/latest").json()["Tags"] == ["sms"]
        page = client.get("/inbox", follow_redirects=True)
        assert "Inbox (2)" in page.text
        assert page.headers["access-control-allow-origin"] != "*"


def test_elsewhere_it_is_locked_and_so_are_the_metrics(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    environ = {"SOCLE_INBOX_PORT": str(free_port()), "GOTRUE_EXTERNAL_PHONE_ENABLED": "true"}
    with running_program(tmp_path, "--host", "0.0.0.0", environ=environ) as program:
        mailpit = program.values["MAILPIT_URL"]
        assert httpx.get(f"{mailpit}/api/v1/messages").status_code == 401
        with program.client("SERVICE_ROLE_KEY") as client:
            assert client.get("/inbox/api/v1/messages").json()["total"] == 0
            assert client.post("/auth/v1/otp", json={"phone": "15550101234"}).status_code == 500
        with program.client("ANON_KEY") as client:
            assert client.get("/inbox/").status_code == 401
        metrics = f"{program.values['API_URL']}/metrics"
        assert httpx.get(metrics).status_code == 401
        for key, status in (
            ("ANON_KEY", 401),
            ("PUBLISHABLE_KEY", 401),
            ("SERVICE_ROLE_KEY", 200),
            ("SECRET_KEY", 200),
        ):
            sent = {"authorization": f"Bearer {program.values[key]}"}
            assert httpx.get(metrics, headers=sent).status_code == status
        assert httpx.get(metrics, headers={"authorization": "Bearer forged"}).status_code == 401
        opaque = httpx.get(f"{mailpit}/", auth=("anybody", program.values["SECRET_KEY"]))
        assert opaque.status_code == 200
