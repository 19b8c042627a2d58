"""Extensions that need more than SQL and are not served yet: they can be created, with a warning.

Their usual functions and views exist under their own signatures and raise 0A000 when used, so that migrations which
only name them go through, and those that rely on them learn why they cannot.
"""

from __future__ import annotations

from dataclasses import dataclass

VERSION = "unserved"
"""A version of its own: the first served one comes with an update script from it."""


@dataclass(frozen=True, slots=True)
class Unserved:
    """One extension: its schema, what to do instead, types to create first, signatures, and views with columns."""

    name: str
    schema: str
    comment: str
    instead: str
    functions: tuple[str, ...]
    types: tuple[str, ...] = ()
    views: tuple[tuple[str, str], ...] = ()


_NET_OPTIONS = "headers jsonb default '{}', timeout_milliseconds integer default 5000"
_MESSAGE = "setof pgmq.message_record"

UNSERVED = (
    Unserved(
        "pg_net",
        "net",
        "asynchronous HTTP from SQL",
        "Make the request in a function of the platform",
        (
            f"http_get(url text, params jsonb default '{{}}', {_NET_OPTIONS}) returns bigint",
            "http_post(url text, body jsonb default '{}', params jsonb default '{}', headers jsonb default "
            """'{"Content-Type": "application/json"}', timeout_milliseconds integer default 5000) returns bigint""",
            f"http_delete(url text, params jsonb default '{{}}', {_NET_OPTIONS}, body jsonb default null)"
            " returns bigint",
            "http_collect_response(request_id bigint, async boolean default true) returns net.http_response_result",
            "worker_restart() returns boolean",
        ),
        types=(
            "net.request_status as enum ('PENDING', 'SUCCESS', 'ERROR')",
            "net.http_response as (status_code integer, headers jsonb, body text)",
            "net.http_response_result as (status net.request_status, message text, response net.http_response)",
        ),
        views=(
            (
                "_http_response",
                "id bigint, status_code integer, content_type text, headers jsonb, content text, timed_out boolean, "
                "error_msg text, created timestamptz",
            ),
        ),
    ),
    Unserved(
        "pg_cron",
        "cron",
        "scheduled SQL",
        "Run it from a scheduler of your own",
        (
            "schedule(schedule text, command text) returns bigint",
            "schedule(job_name text, schedule text, command text) returns bigint",
            "schedule_in_database(job_name text, schedule text, command text, database text, "
            "username text default null, active boolean default true) returns bigint",
            "unschedule(job_id bigint) returns boolean",
            "unschedule(job_name text) returns boolean",
            "alter_job(job_id bigint, schedule text default null, command text default null, "
            "database text default null, username text default null, active boolean default null) returns void",
        ),
        views=(
            (
                "job",
                "jobid bigint, schedule text, command text, nodename text, nodeport integer, database text, "
                "username text, active boolean, jobname text",
            ),
            (
                "job_run_details",
                "jobid bigint, runid bigint, job_pid integer, database text, username text, command text, status text, "
                "return_message text, start_time timestamptz, end_time timestamptz",
            ),
        ),
    ),
    Unserved(
        "pgmq",
        "pgmq",
        "message queues",
        "Keep the queue in a table and read it with `for update skip locked`",
        (
            "create(queue_name text) returns void",
            "create_non_partitioned(queue_name text) returns void",
            "create_unlogged(queue_name text) returns void",
            "create_partitioned(queue_name text, partition_interval text default '10000', "
            "retention_interval text default '100000') returns void",
            "send(queue_name text, msg jsonb) returns setof bigint",
            "send(queue_name text, msg jsonb, headers jsonb) returns setof bigint",
            "send(queue_name text, msg jsonb, delay integer) returns setof bigint",
            "send(queue_name text, msg jsonb, delay timestamptz) returns setof bigint",
            "send(queue_name text, msg jsonb, headers jsonb, delay integer) returns setof bigint",
            "send(queue_name text, msg jsonb, headers jsonb, delay timestamptz) returns setof bigint",
            "send_batch(queue_name text, msgs jsonb[]) returns setof bigint",
            "send_batch(queue_name text, msgs jsonb[], headers jsonb[]) returns setof bigint",
            "send_batch(queue_name text, msgs jsonb[], delay integer) returns setof bigint",
            "send_batch(queue_name text, msgs jsonb[], delay timestamptz) returns setof bigint",
            "send_batch(queue_name text, msgs jsonb[], headers jsonb[], delay integer) returns setof bigint",
            "send_batch(queue_name text, msgs jsonb[], headers jsonb[], delay timestamptz) returns setof bigint",
            f"read(queue_name text, vt integer, qty integer, conditional jsonb default '{{}}') returns {_MESSAGE}",
            "read_with_poll(queue_name text, vt integer, qty integer, max_poll_seconds integer default 5, "
            f"poll_interval_ms integer default 100, conditional jsonb default '{{}}') returns {_MESSAGE}",
            f"pop(queue_name text) returns {_MESSAGE}",
            f"set_vt(queue_name text, msg_id bigint, vt integer) returns {_MESSAGE}",
            "archive(queue_name text, msg_id bigint) returns boolean",
            "archive(queue_name text, msg_ids bigint[]) returns setof bigint",
            "delete(queue_name text, msg_id bigint) returns boolean",
            "delete(queue_name text, msg_ids bigint[]) returns setof bigint",
            "detach_archive(queue_name text) returns void",
            "drop_queue(queue_name text) returns boolean",
            "purge_queue(queue_name text) returns bigint",
            "list_queues() returns setof pgmq.queue_record",
            "metrics(queue_name text) returns pgmq.metrics_result",
            "metrics_all() returns setof pgmq.metrics_result",
        ),
        types=(
            "pgmq.message_record as (msg_id bigint, read_ct integer, enqueued_at timestamptz, vt timestamptz, "
            "message jsonb, headers jsonb)",
            "pgmq.queue_record as (queue_name varchar, is_partitioned boolean, is_unlogged boolean, "
            "created_at timestamptz)",
            "pgmq.metrics_result as (queue_name text, queue_length bigint, newest_msg_age_sec integer, "
            "oldest_msg_age_sec integer, total_messages bigint, scrape_time timestamptz, queue_visible_length bigint)",
        ),
        views=(("meta", "queue_name varchar, is_partitioned boolean, is_unlogged boolean, created_at timestamptz"),),
    ),
    Unserved(
        "supabase_vault",
        "vault",
        "encrypted secrets",
        "Keep secrets in the environment of the platform's functions",
        (
            "create_secret(new_secret text, new_name text default null, new_description text default '', "
            "new_key_id uuid default null) returns uuid",
            "update_secret(secret_id uuid, new_secret text default null, new_name text default null, "
            "new_description text default null, new_key_id uuid default null) returns void",
        ),
        views=(
            (
                "secrets",
                "id uuid, name text, description text, secret text, key_id uuid, nonce bytea, created_at timestamptz, "
                "updated_at timestamptz",
            ),
            (
                "decrypted_secrets",
                "id uuid, name text, description text, secret text, decrypted_secret text, key_id uuid, nonce bytea, "
                "created_at timestamptz, updated_at timestamptz",
            ),
        ),
    ),
    Unserved(
        "pg_graphql",
        "graphql",
        "GraphQL over the database",
        "Use the REST interface",
        (
            "resolve(query text, variables jsonb default '{}', \"operationName\" text default null, "
            "extensions jsonb default null) returns jsonb",
            "get_schema_version() returns integer",
        ),
    ),
)


def render_unserved(extension: Unserved) -> dict[str, str]:
    """Control file and script by file name. No fixed schema in the control file: any `with schema` is accepted."""
    control = (
        f"comment = '{extension.comment} (not served by the embedded server yet)'\n"
        f"default_version = '{VERSION}'\nrelocatable = false\ntrusted = true\n"
    )
    return {f"{extension.name}.control": control, f"{extension.name}--{VERSION}.sql": _script(extension)}


def _script(extension: Unserved) -> str:
    schema = extension.schema
    instead = extension.instead.replace("'", "''")
    hint = f"{instead}, or use an external PostgreSQL that has {extension.name} (--db-url)."
    parts = [
        "set local search_path = pg_catalog, pg_temp;",
        f"do $$ begin if to_regnamespace('{schema}') is null then create schema {schema}; end if; end $$;",
        f"grant usage on schema {schema} to @extowner@;",
        *(f"create type {declaration};" for declaration in extension.types),
        *(_function(f"{schema}.{signature}", hint) for signature in extension.functions),
        _function(f"{schema}._unserved(what text) returns boolean", hint, "%', what"),
        *(_view(f"{schema}.{name}", columns) for name, columns in extension.views),
        f"do $$ begin raise warning '{extension.name} is not served by the embedded server yet: using it will raise an "
        f"error' using hint = '{hint}'; end $$;",
    ]
    return "\n".join(parts) + "\n"


def _function(signature: str, hint: str, what: str | None = None) -> str:
    subject = what or f"{signature.partition('(')[0]}()'"
    text = subject.replace("'", " is not in the embedded server yet'", 1)
    return (
        f"create function {signature} language plpgsql as $$ begin raise '{text} "
        f"using errcode = '0A000', hint = '{hint}'; end $$;"
    )


def _view(name: str, columns: str) -> str:
    """Reading it raises the same error; only its creator may, as whatever serves it later will decide who else."""
    items = [column.split(" ", 1) for column in columns.split(", ")]
    selected = ", ".join(f"null::{kind} as {column}" for column, kind in items)
    schema = name.partition(".")[0]
    return (
        f"create view {name} as select {selected} where {schema}._unserved('{name}');\n"
        f"grant select on {name} to @extowner@;"
    )
