-- Politique de stockage
CREATE POLICY "Allow authenticated uploads"
ON storage.objects
FOR INSERT
TO authenticated
WITH CHECK (bucket_id = 'video_dedicace');

CREATE POLICY "Allow public read"
ON storage.objects
FOR SELECT
TO anon
USING (bucket_id = 'video_dedicace');

-- The policy above names anon only; who is signed in must be able to sign URLs and to read as well.
create policy "Allow authenticated read"
on storage.objects
for select
to authenticated
using (bucket_id = 'video_dedicace');
