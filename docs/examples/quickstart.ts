// deno run -A docs/examples/quickstart.ts
import { createClient } from "npm:@supabase/supabase-js@2";

const url = Deno.env.get("API_URL") ?? "http://127.0.0.1:54321";
const key = Deno.env.get("PUBLISHABLE_KEY") ?? "sb_publishable_ACJWlzQHlZjBrEguHvfOxg_3BJgxAaH";
const connect = () => createClient(url, key, { auth: { persistSession: false } });

// two people sign up; a third client stays anonymous
const [alice, bob, anyone] = [connect(), connect(), connect()];
const someone = () => ({ email: `${crypto.randomUUID()}@example.com`, password: "a-good-password" });
const { data: a } = await alice.auth.signUp(someone());
await bob.auth.signUp(someone());

// Alice writes a product of her own and reads it back
const mine = { title: "Sixty years of Alice", created_by: a.user!.id };
const { data: product, error } = await alice.from("product").insert(mine).select().single();
console.log("alice wrote", product?.title ?? error);

// row level security: nobody else sees it, nobody else can write as Alice
const { data: seenByBob } = await bob.from("product").select();
const { data: seenByAnyone } = await anyone.from("product").select();
console.log("bob sees", seenByBob?.length, "- anyone sees", seenByAnyone?.length ?? 0);
const refused = await bob.from("product").insert(mine);
console.log("bob as alice:", refused.status, refused.error?.code);

// anyone may leave a message on it
const note = { product_id: product!.id, participant_name: "Charles" };
const { data: item } = await anyone.from("product_items").insert(note).select().single();
console.log("anyone wrote", item?.participant_name);
