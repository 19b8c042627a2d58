alter table checkout_sessions enable row level security;
alter table stripe_events enable row level security;

create policy "Owners can view checkouts of their products"
on checkout_sessions for select
to authenticated
using (
  exists (
    select from product
    where product.id = checkout_sessions.product_id and product.created_by = (select auth.uid())
  )
);

revoke all on checkout_sessions from anon;
grant select on checkout_sessions to authenticated;

-- No policy: for the service only.
revoke all on stripe_events from anon, authenticated;
