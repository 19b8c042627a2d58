-- Payments: the checkout sessions that were opened, and the events that Stripe sent.

create table public.checkout_sessions (
  id text primary key,
  product_id bigint not null references public.product on delete cascade,
  user_id uuid references auth.users on delete set null,
  attempt integer not null default 1 constraint checkout_sessions_attempt_check check (attempt > 0),
  status text not null default 'open'
    constraint checkout_sessions_status_check check (status in ('open', 'complete', 'expired', 'failed', 'suspect')),
  url text,
  expires_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
create index checkout_sessions_product_id_idx on public.checkout_sessions (product_id, created_at desc);
create index checkout_sessions_user_id_idx on public.checkout_sessions (user_id);

create trigger checkout_sessions_touch_updated_at before update on public.checkout_sessions
  for each row execute function public.touch_updated_at();

create table public.stripe_events (
  id text primary key,
  type text not null,
  created timestamptz not null,
  status text not null default 'received'
    constraint stripe_events_status_check check (status in ('received', 'processed', 'ignored', 'orphan', 'suspect')),
  payload jsonb not null,
  received_at timestamptz not null default now(),
  processed_at timestamptz
);
create index stripe_events_created_idx on public.stripe_events (created);

alter table public.checkout_sessions enable row level security;
alter table public.stripe_events enable row level security;

comment on table public.checkout_sessions is 'Stripe Checkout sessions; written by the service, read by the product''s owner.';
comment on column public.checkout_sessions.id is 'The session''s id at Stripe, cs_….';
comment on column public.checkout_sessions.attempt is 'Counts the sessions of a product; part of the idempotency key.';
comment on table public.stripe_events is 'Webhook events, each taken once. For the service only.';
comment on column public.stripe_events.created is 'When Stripe made the event: later news must not be undone by earlier ones.';
