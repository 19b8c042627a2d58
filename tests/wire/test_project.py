"""A stock project folder: extensions of the official stack, seeds with `crypt(...)`, and what later starts do."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.program import Program, running_program

MIGRATION = """
create extension if not exists "uuid-ossp" with schema extensions;
create extension if not exists pgcrypto with schema extensions;
create extension if not exists pg_stat_statements with schema extensions;
create extension if not exists "vector" with schema extensions;
create table public.notes (
  id uuid primary key default extensions.uuid_generate_v4(),
  owner uuid not null default auth.uid() references auth.users (id) on delete cascade,
  body text not null,
  digest text generated always as (encode(extensions.digest(body, 'sha256'), 'hex')) stored
);
alter table public.notes enable row level security;
create policy "own notes" on public.notes to authenticated using (owner = (select auth.uid())) with check (true);
create table public.profiles (id uuid primary key references auth.users (id) on delete cascade, email text);
create function public.handle_new_user() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  insert into public.profiles (id, email) values (new.id, new.email);
  return new;
end $$;
create trigger on_auth_user_created after insert on auth.users for each row execute function public.handle_new_user();
"""
SEED = """
insert into auth.users (instance_id, id, aud, role, email, encrypted_password, email_confirmed_at, raw_app_meta_data,
  raw_user_meta_data, created_at, updated_at, confirmation_token, email_change, email_change_token_new, recovery_token)
values ('00000000-0000-0000-0000-000000000000', '11111111-1111-1111-1111-111111111111', 'authenticated',
  'authenticated', 'seeded@example.com', extensions.crypt('password123', extensions.gen_salt('bf')), now(),
  '{"provider":"email","providers":["email"]}', '{}', now(), now(), '', '', '', '');
insert into auth.identities (id, user_id, provider_id, identity_data, provider, last_sign_in_at, created_at, updated_at)
values (extensions.uuid_generate_v4(), '11111111-1111-1111-1111-111111111111', '11111111-1111-1111-1111-111111111111',
  '{"sub":"11111111-1111-1111-1111-111111111111","email":"seeded@example.com"}', 'email', now(), now(), now());
"""
CONFIG = """
project_id = "notes"
[api]
max_rows = 3
[auth]
site_url = "https://notes.test"
jwt_expiry = 1234
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    supabase = tmp_path / "supabase"
    (supabase / "migrations").mkdir(parents=True)
    (supabase / "config.toml").write_text(CONFIG)
    (supabase / "migrations" / "20260101000000_notes.sql").write_text(MIGRATION)
    (supabase / "seed.sql").write_text(SEED)
    return tmp_path


def sign_in(program: Program) -> str:
    with program.client("ANON_KEY") as client:
        credentials = {"email": "seeded@example.com", "password": "password123"}
        answer = client.post("/auth/v1/token?grant_type=password", json=credentials)
        assert answer.status_code == 200, answer.text
        assert answer.json()["expires_in"] == 1234
        return str(answer.json()["access_token"])


def test_a_stock_project_and_its_seeded_user(folder: Path) -> None:
    with running_program(folder) as program:
        token = {"authorization": f"Bearer {sign_in(program)}", "prefer": "return=representation"}
        with program.client("ANON_KEY") as client:
            written = client.post("/rest/v1/notes", json=[{"body": f"n{n}"} for n in range(5)], headers=token)
            assert written.status_code == 201, written.text
            assert len(written.json()[0]["digest"]) == 64
            assert len(client.get("/rest/v1/notes", headers=token).json()) == 3, "max_rows of config.toml"
            assert client.get("/rest/v1/notes").json() == []
            profiles = client.get("/rest/v1/profiles?select=email", headers=token).json()
            assert profiles == [{"email": "seeded@example.com"}], "the user's trigger ran"
    (folder / "supabase" / "migrations" / "20260201000000_more.sql").write_text("create table public.more (id int);")
    with running_program(folder) as program, program.client() as client:
        sign_in(program)
        assert client.get("/rest/v1/more").status_code == 404, "later migrations wait for db push"
        pushed = subprocess.run(
            [sys.executable, "-m", "socle_app", "db", "push"], cwd=folder, capture_output=True, text=True, check=True
        )
        assert "20260201000000_more.sql" in pushed.stderr
        deadline = time.monotonic() + 10
        while client.get("/rest/v1/more").status_code != 200 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert client.get("/rest/v1/more").json() == []


def test_a_broken_migration_is_named_and_healed(folder: Path) -> None:
    broken = folder / "supabase" / "migrations" / "20260201000000_broken.sql"
    broken.write_text("create table public.fine (id int);\nselect nothing_of_that_name;")
    (folder / "supabase" / "roles.sql").write_text("create role reporter;")  # not to be made twice
    with pytest.raises(RuntimeError, match=r"(?s)20260201000000_broken.*line 2"), running_program(folder):
        pass
    broken.write_text("create table public.fine (id int);")
    with running_program(folder) as program, program.client() as client:
        assert client.get("/rest/v1/fine").json() == []
        sign_in(program)
        told = [sys.executable, "-m", "socle_app", "status"]
        for option in (["--json"], ["-o", "json"]):
            done = subprocess.run([*told, *option], cwd=folder, capture_output=True, text=True, timeout=60, check=True)
            assert json.loads(done.stdout) == program.values
