alter table product_items enable row level security;

-- Lecture publique (pour les participants)
CREATE POLICY "Anyone can view items"
ON product_items FOR SELECT
TO anon, authenticated
USING (true);

-- Création : tout le monde (messages anonymes)
CREATE POLICY "Anyone can create items"
ON product_items FOR INSERT
TO anon, authenticated
WITH CHECK (true);

grant select on product_items to anon, authenticated;
grant insert (product_id, participant_id, participant_name, message, video_path) on product_items
  to anon, authenticated;
