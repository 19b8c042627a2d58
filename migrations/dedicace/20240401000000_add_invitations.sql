-- What is known about an invitation. Beside product_items, because everybody reads that table.

create table public.product_item_invitations (
  item_id bigint primary key references public.product_items on delete cascade,
  invite_email text not null
    constraint product_item_invitations_invite_email_length check (char_length(invite_email) between 3 and 320),
  invited_at timestamptz not null default now(),
  last_invited_at timestamptz not null default now(),
  invite_count integer not null default 0
    constraint product_item_invitations_invite_count_check check (invite_count >= 0),
  confirmed_at timestamptz
);
create index product_item_invitations_invite_email_idx on public.product_item_invitations (lower(invite_email));

alter table public.product_item_invitations enable row level security;

comment on table public.product_item_invitations is 'One row per invited item; written by the service, read by the product''s owner.';
comment on column public.product_item_invitations.last_invited_at is 'When a mail was last sent; another waits for the cool-down.';
comment on column public.product_item_invitations.invite_count is 'How many times the invitation was sent again.';
