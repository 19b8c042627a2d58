"""pip install supabase && python docs/examples/quickstart.py"""

import os
import uuid

from postgrest.exceptions import APIError
from supabase import Client, create_client

url = os.environ.get("API_URL", "http://127.0.0.1:54321")
key = os.environ.get("PUBLISHABLE_KEY", "sb_publishable_ACJWlzQHlZjBrEguHvfOxg_3BJgxAaH")


def sign_up() -> tuple[Client, str]:
    client = create_client(url, key)
    answer = client.auth.sign_up({"email": f"{uuid.uuid4()}@example.com", "password": "a-good-password"})
    assert answer.user is not None
    return client, answer.user.id


alice, alice_id = sign_up()
bob, _ = sign_up()
anyone = create_client(url, key)

mine = {"title": "Sixty years of Alice", "created_by": alice_id}
product = alice.table("product").insert(mine).execute().data[0]
print("alice wrote", product["title"])

print("bob sees", len(bob.table("product").select("*").execute().data), end=" ")
print("- anyone sees", len(anyone.table("product").select("*").execute().data))
try:
    bob.table("product").insert(mine).execute()
except APIError as error:
    print("bob as alice:", error.code)

note = {"product_id": product["id"], "participant_name": "Charles"}
print("anyone wrote", anyone.table("product_items").insert(note).execute().data[0]["participant_name"])
