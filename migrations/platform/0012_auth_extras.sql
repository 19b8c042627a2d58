-- What the auth service keeps beside the tables that users' dumps know: recovery codes of second factors, signatures
-- that have been used, and limits of sessions. They live in our own schema, so that a dump of schema auth restores
-- elsewhere.

set role supabase_admin;

create table socle.recovery_codes (
  user_id uuid not null,
  set_id uuid not null,
  code_hash text not null,
  created_at timestamptz not null,
  used_at timestamptz,
  primary key (user_id, code_hash)
);
comment on table socle.recovery_codes is 'Hashed recovery codes of users with second factors; each signs in once.';

create table socle.used_signatures (
  digest bytea primary key,
  expires_at timestamptz not null
);
create index used_signatures_expires_at_idx on socle.used_signatures (expires_at);
comment on table socle.used_signatures is 'Wallet signatures and assertions that have signed somebody in, until they expire.';

create table socle.session_limits (
  flow_id uuid primary key,
  not_after timestamptz not null
);
comment on table socle.session_limits is 'Until when the session may live that the code of a sign-in flow will give.';

grant usage on schema socle to supabase_auth_admin;
grant select, insert, update, delete on socle.recovery_codes, socle.used_signatures, socle.session_limits
to supabase_auth_admin;

reset role;
