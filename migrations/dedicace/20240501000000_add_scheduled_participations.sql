-- Participations planned for later: at scheduled_at the service invites, reminds or opens.

create table public.scheduled_participations (
  id uuid primary key default gen_random_uuid(),
  product_id bigint not null references public.product on delete cascade,
  participant_id uuid references auth.users on delete set null,
  email text not null constraint scheduled_participations_email_length check (char_length(email) between 3 and 320),
  action text not null default 'invite'
    constraint scheduled_participations_action_check check (action in ('invite', 'remind', 'open')),
  send_by_email boolean not null default true,
  message text constraint scheduled_participations_message_length check (char_length(message) <= 5000),
  scheduled_at timestamptz not null,
  timezone text not null default 'UTC',
  recurrence text not null default 'none'
    constraint scheduled_participations_recurrence_check check (recurrence in ('none', 'daily', 'weekly', 'monthly')),
  until timestamptz,
  status text not null default 'pending' constraint scheduled_participations_status_check
    check (status in ('pending', 'running', 'done', 'failed', 'cancelled')),
  attempts integer not null default 0 constraint scheduled_participations_attempts_check check (attempts >= 0),
  max_attempts integer not null default 5
    constraint scheduled_participations_max_attempts_check check (max_attempts > 0),
  next_attempt_at timestamptz not null,
  locked_until timestamptz,
  last_error text,
  idempotency_key text constraint scheduled_participations_idempotency_key_key unique,
  created_by uuid references auth.users on delete set null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  executed_at timestamptz,
  constraint scheduled_participations_once_key unique (product_id, email, scheduled_at, action),
  constraint scheduled_participations_until_check check (until is null or until >= scheduled_at)
);
create index scheduled_participations_due_idx on public.scheduled_participations (status, next_attempt_at);
create index scheduled_participations_participant_id_idx on public.scheduled_participations (participant_id);
create index scheduled_participations_created_by_idx on public.scheduled_participations (created_by);

create trigger scheduled_participations_touch_updated_at before update on public.scheduled_participations
  for each row execute function public.touch_updated_at();

alter table public.scheduled_participations enable row level security;

comment on table public.scheduled_participations is 'Planned invitations and reminders; written by the service, read by the product''s owner.';
comment on column public.scheduled_participations.timezone is 'IANA name: repetitions keep their hour in this zone across clock changes.';
comment on column public.scheduled_participations.locked_until is 'A worker holds the row until then; afterwards it counts as pending again.';
