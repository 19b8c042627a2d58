-- The GraphQL entry point, which answers as it does everywhere without the pg_graphql extension.

set role supabase_admin;

create function graphql_public.graphql(
  "operationName" text default null,
  query text default null,
  variables jsonb default null,
  extensions jsonb default null
) returns jsonb language sql immutable as $$
  select '{"errors": [{"message": "pg_graphql extension is not enabled."}]}'::jsonb
$$;

reset role;

grant execute on function graphql_public.graphql(text, text, jsonb, jsonb) to public;
