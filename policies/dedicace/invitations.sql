alter table product_item_invitations enable row level security;

create policy "Owners can view invitations to their products"
on product_item_invitations for select
to authenticated
using (
  exists (
    select from product_items as item join product on product.id = item.product_id
    where item.id = product_item_invitations.item_id and product.created_by = (select auth.uid())
  )
);

revoke all on product_item_invitations from anon;
grant select on product_item_invitations to authenticated;
