"""The dedicace front end's way with videos: upload when signed in, sign, play and seek in a browser."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx

from harness.chromium import run_page
from harness.deno import run_deno
from socle_app.testing import TestPlatform

VIDEO = Path(__file__).parent / "video" / "twenty-seconds.webm"
FRONT_END = """
import { createClient } from "npm:@supabase/supabase-js@2";
const connect = () => createClient(given.url, given.key, { auth: { persistSession: false } });
const supabase = connect();
await supabase.auth.signUp({ email: `${crypto.randomUUID()}@example.com`, password: "a-good-password" });
const file = new File([await Deno.readFile(given.video)], "video.webm", { type: "video/webm" });
const path = `video_${given.product}/dedicaces_${crypto.randomUUID()}.webm`;
const send = (who: any) => who.storage.from("video_dedicace").upload(path, file, { cacheControl: "30", upsert: false });
const stranger = await send(connect());
const uploaded = await send(supabase);
const again = await send(supabase);
const signed = await supabase.storage.from("video_dedicace").createSignedUrl(path, 3600);
const byAnyone = await connect().storage.from("video_dedicace").createSignedUrl(path, 3600);
answer({ path, stranger, uploaded, again, signed, byAnyone });
"""
PAGE = """
<!doctype html>
<video id="video" muted playsinline></video>
<script>
const video = document.getElementById("video");
const happens = (name) => new Promise((resolve, reject) => {
  video.addEventListener(name, resolve, { once: true });
  video.addEventListener("error", () => reject(video.error), { once: true });
});
const tell = (found) => fetch("/found", { method: "POST", body: JSON.stringify(found) });
(async () => {
  try {
    const ready = happens("loadedmetadata");
    video.src = ADDRESS;
    await ready;
    const seekable = video.seekable.length ? video.seekable.end(0) : 0;
    await Promise.all([happens("timeupdate"), video.play()]);
    const sought = [];
    for (const second of [17, 3]) {
      const arrived = happens("seeked");
      video.currentTime = second;
      await arrived;
      sought.push(Math.round(video.currentTime));
    }
    await tell({ duration: video.duration, width: video.videoWidth, seekable, sought });
  } catch (error) {
    await tell({ error: String(error && error.message || error) });
  }
})();
</script>
"""


async def upload(platform: TestPlatform) -> str:
    """What the front end does; returns the signed address."""
    found = await run_deno(
        FRONT_END,
        url=platform.url,
        key=platform.anon_key,
        video=str(VIDEO),
        product="0c5b3d1e-8d5a-4a39-9e8f-2b6f5d9f7a10",
    )
    assert re.fullmatch(r"video_[0-9a-f-]{36}/dedicaces_[0-9a-f-]{36}\.webm", found["path"])
    assert found["stranger"]["data"] is None
    assert found["stranger"]["error"]["statusCode"] == "403"
    assert found["uploaded"]["error"] is None
    assert found["uploaded"]["data"]["fullPath"] == f"video_dedicace/{found['path']}"
    assert found["again"]["error"]["statusCode"] == "409"
    assert found["signed"]["error"] is None
    assert found["byAnyone"]["error"] is None
    return str(found["signed"]["data"]["signedUrl"])


async def test_a_video_is_uploaded_signed_and_served_in_ranges(platform: TestPlatform) -> None:
    address = await upload(platform)
    body = VIDEO.read_bytes()
    async with httpx.AsyncClient() as http:
        whole = await http.get(address)
        assert whole.content == body
        assert whole.headers["content-type"] == "video/webm"
        assert whole.headers["accept-ranges"] == "bytes"
        part = await http.get(address, headers={"range": "bytes=1000-1999"})
        assert (part.status_code, part.content) == (206, body[1000:2000])
        assert part.headers["content-range"] == f"bytes 1000-1999/{len(body)}"
        stored = await http.head(
            address.partition("?")[0].replace("/object/sign/", "/object/authenticated/"),
            headers={"authorization": f"Bearer {platform.service_role_key}", "apikey": platform.anon_key},
        )
        assert stored.headers["cache-control"] == "max-age=30"
        forged = await http.get(address[:-6] + "AAAAAA")
        assert forged.status_code == 400


async def test_the_video_plays_and_seeks_in_a_browser(platform: TestPlatform) -> None:
    address = await upload(platform)
    found = json.loads(await run_page(PAGE.replace("ADDRESS", json.dumps(address))))
    assert "error" not in found, found
    assert round(found["duration"]) == 20
    assert found["width"] == 160
    assert round(found["seekable"]) == 20
    assert found["sought"] == [17, 3]
