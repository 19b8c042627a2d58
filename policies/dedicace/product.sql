alter table product enable row level security;

-- Lecture : propriétaire uniquement
CREATE POLICY "Users can view own products"
ON product FOR SELECT
TO authenticated
USING (created_by = auth.uid());

-- Création : utilisateurs authentifiés
CREATE POLICY "Users can create products"
ON product FOR INSERT
TO authenticated
WITH CHECK (created_by = auth.uid());

-- Mise à jour : propriétaire uniquement
CREATE POLICY "Users can update own products"
ON product FOR UPDATE
TO authenticated
USING (created_by = auth.uid());

-- These policies alone would let owners write plan = 'basic' without paying. So owners write the columns named here, and
-- plan and session_id are left to the service, which records payments.
grant select on product to anon, authenticated;
grant insert (created_by, title, description, event_date) on product to authenticated;
grant update (title, description, event_date) on product to authenticated;
