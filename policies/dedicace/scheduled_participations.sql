alter table scheduled_participations enable row level security;

create policy "Owners can view participations planned for their products"
on scheduled_participations for select
to authenticated
using (
  exists (
    select from product
    where product.id = scheduled_participations.product_id and product.created_by = (select auth.uid())
  )
);

revoke all on scheduled_participations from anon;
grant select on scheduled_participations to authenticated;
