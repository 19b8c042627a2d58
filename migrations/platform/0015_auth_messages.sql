-- What the sign-in service keeps for itself: the built-in inbox of mails and text messages that no server or provider
-- takes away, and the levels of rate limits, shared by all nodes. Limits are worth nothing after a crash: no log of them.

set role supabase_admin;

create table socle.inbox_messages (
  id text primary key,
  kind text not null constraint inbox_messages_kind_check check (kind in ('mail', 'sms')),
  created_at timestamptz not null,
  sender text not null,
  recipient text not null,
  subject text not null,
  html text not null,
  body text not null,
  source text not null,
  is_read boolean not null default false
);
create index inbox_messages_created_at_idx on socle.inbox_messages (created_at desc, id);
comment on table socle.inbox_messages is 'Mails and text messages that stayed here because no server or provider is set.';

create unlogged table socle.rate_limits (
  bucket text not null,
  key text not null,
  level double precision not null,
  burst double precision not null,
  pause double precision not null,
  moment double precision not null,
  primary key (bucket, key)
);
comment on table socle.rate_limits is 'Token buckets shared by all nodes: level at a moment (unix seconds), one token more per pause.';

grant select, insert, update, delete on socle.inbox_messages, socle.rate_limits to supabase_auth_admin;

reset role;
