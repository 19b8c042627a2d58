"""Images made smaller on their way out: sizes, formats, limits, bad input, the cache."""

from __future__ import annotations

import asyncio
import contextlib
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from harness.storage import Lab, refusal
from socle_storage.images import rendering
from socle_storage.images.cache import ImageCache
from socle_storage.images.layout import plan_layout
from socle_storage.images.rendering import Bounds, ImageTooLarge, ImageUnreadable, render, sniff
from socle_storage.images.routes import negotiate
from socle_storage.transforms import GRAVITIES, RESIZES, Transform

BOUNDS = Bounds(50_000_000, 60)


def picture(kind: str = "png", size: tuple[int, int] = (120, 60), **options: Any) -> bytes:
    """Left half red, right half blue."""
    image = Image.new("RGB", size, "blue")
    image.paste((255, 0, 0), (0, 0, size[0] // 2, size[1]))
    output = io.BytesIO()
    image.save(output, format=kind, **options)
    return output.getvalue()


def opened(body: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(body))
    image.load()
    return image


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def bomb(width: int, height: int) -> bytes:
    """A PNG that says it is huge, and whose few bytes really unpack to a lot."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(b"\0" * 10_000_000, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


async def put_picture(lab: Lab, bucket: str, name: str, body: bytes, kind: str = "image/png") -> None:
    answer = await lab.put(bucket, name, body, content_type=kind, cache_control="max-age=77")
    assert answer.status_code == 200, answer.text


async def test_an_image_over_http(lab: Lab) -> None:
    bucket = await lab.bucket(public=True)
    await put_picture(lab, bucket, "a.png", picture())
    url = f"/render/image/public/{bucket}/a.png?width=30&height=30&quality=60"
    answer = await lab.http.get(url, headers={"accept": "image/webp,*/*"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/webp"
    assert answer.headers["x-transformations"] == "height:30,width:30,resizing_type:fill,quality:60"
    assert answer.headers["vary"] == "Accept"
    assert answer.headers["cache-control"] == "max-age=77"
    assert "x-transformations" not in (await lab.http.get(f"/render/image/public/{bucket}/a.png")).headers
    row = await lab.row(bucket, "a.png")
    assert row is not None
    assert answer.headers["etag"] == row["metadata"]["eTag"]
    assert opened(answer.content).size == (30, 30)
    plain = await lab.http.get(url)
    assert plain.headers["content-type"] == "image/png"
    again = await lab.http.get(url, headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    head = await lab.http.head(url)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == plain.headers["content-length"]
    named = await lab.http.get(url + "&download=b.png")
    assert named.headers["content-disposition"].startswith("attachment; filename=b.png")


async def test_who_may(lab: Lab) -> None:
    bucket = await lab.bucket()
    await put_picture(lab, bucket, "a.png", picture())
    assert refusal(await lab.http.get(f"/render/image/public/{bucket}/a.png?width=9"))[2] == "NoSuchBucket"
    url = f"/render/image/authenticated/{bucket}/a.png?width=9"
    assert refusal(await lab.http.get(url, headers=lab.alice))[2] == "NoSuchKey"
    await lab.policy("select")
    assert opened((await lab.http.get(url, headers=lab.alice)).content).size == (9, 4)
    assert (await lab.http.get(url)).status_code == 400


async def test_a_signed_transform_is_the_tokens_own(lab: Lab) -> None:
    bucket = await lab.bucket()
    await put_picture(lab, bucket, "a.png", picture())
    asked = {"expiresIn": 60, "transform": {"width": 20, "height": 20, "resize": "contain", "format": "origin"}}
    signed = (await lab.http.post(f"/object/sign/{bucket}/a.png", json=asked, headers=lab.service)).json()["signedURL"]
    assert signed.startswith("/render/image/sign/")
    answer = await lab.http.get(signed + "&width=5&resize=fill", headers={"accept": "image/webp"})
    assert answer.headers["content-type"] == "image/png"
    assert opened(answer.content).size == (20, 10)
    assert "expires" in answer.headers
    assert refusal(await lab.http.get(signed[:-3] + "abc"))[2] == "InvalidJWT"
    assert refusal(await lab.http.get(f"/render/image/sign/{bucket}/a.png"))[2] == "InvalidRequest"


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (b"not an image", "image/png", rendering.UNREADABLE),
        (picture()[:25], "image/png", rendering.UNREADABLE),
        (picture("jpeg")[:30], "image/jpeg", rendering.UNREADABLE),
        (b"BM" + b"\0" * 80, "image/bmp", rendering.UNREADABLE),
        (b"\x00\x00\x01\x00" + b"\xff" * 80, "image/x-icon", rendering.UNREADABLE),
        (b"GIF89a" + b"\xff" * 80, "image/gif", rendering.UNREADABLE),
        (b"%PDF-1.4 ...", "application/pdf", rendering.UNREADABLE),
        (b"", "image/png", rendering.UNREADABLE),
        (bomb(60_000, 60_000), "image/png", rendering.TOO_MANY_PIXELS),
    ],
    ids=["text", "half a png", "half a jpeg", "bmp", "ico", "gif", "pdf", "nothing", "bomb"],
)
async def test_sources_that_are_refused(lab: Lab, body: bytes, kind: str, message: str) -> None:
    bucket = await lab.bucket(public=True)
    await put_picture(lab, bucket, "x", body, kind)
    answer = await lab.http.get(f"/render/image/public/{bucket}/x?width=10")
    assert refusal(answer)[:2] == (400, "400")
    assert answer.json()["message"] == message
    assert (await lab.http.get("/status")).status_code == 200


@pytest.mark.parametrize(
    "query", ["width=-1", "quality=19", "quality=101", "resize=x", "format=jpg", "width=a", "gravity=fp"]
)
async def test_queries_that_are_refused(lab: Lab, query: str) -> None:
    bucket = await lab.bucket(public=True)
    await put_picture(lab, bucket, "a.png", picture())
    assert refusal(await lab.http.get(f"/render/image/public/{bucket}/a.png?{query}"))[:2] == (400, "400")


async def test_svg_passes_through_inert(lab: Lab) -> None:
    bucket = await lab.bucket(public=True)
    body = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    await put_picture(lab, bucket, "a.svg", body, "image/svg+xml")
    answer = await lab.http.get(f"/render/image/public/{bucket}/a.svg?width=10")
    assert answer.content == body
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_many_askers_one_conversion(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = await lab.bucket(public=True)
    await put_picture(lab, bucket, "a.png", picture())
    made: list[int] = []

    def counted(*arguments: Any) -> rendering.Rendered:
        made.append(1)
        return render(*arguments)

    monkeypatch.setattr("socle_storage.images.routes.render", counted)
    url = f"/render/image/public/{bucket}/a.png?width=11"
    answers = await asyncio.gather(*(lab.http.get(url) for _ in range(8)))
    answers.append(await lab.http.get(url))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert len(made) == 1
    await lab.put(bucket, "a.png", picture(size=(10, 50)), content_type="image/png", x_upsert="true")
    assert opened((await lab.http.get(url)).content).size == (10, 50)
    assert len(made) == 2


@pytest.mark.parametrize("library", ["vips", "pillow"])
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "gif", "tiff", "avif", "bmp", "ico"])
def test_every_format_by_both_libraries(kind: str, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if library == "pillow":
        monkeypatch.setattr(rendering, "load_vips", lambda: None)
    source = picture(kind, (96, 48))
    assert sniff(source[:64]) == kind
    for wanted, mimetype in ((None, rendering.TYPES[kind]), ("webp", "image/webp"), ("avif", "image/avif")):
        rendered = render(source, Transform(width=24, quality=50), wanted, BOUNDS)
        assert rendered.mimetype == mimetype
        image = opened(rendered.body).convert("RGB")
        assert image.size == (24, 12)
        left, right = image.getpixel((3, 6)), image.getpixel((20, 6))
        assert isinstance(left, tuple)
        assert isinstance(right, tuple)
        assert left[0] > 180 > 90 > left[2]
        assert right[2] > 180 > 90 > right[0]


@pytest.mark.parametrize("library", ["vips", "pillow"])
def test_the_turned_photograph_and_the_cut(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if library == "pillow":
        monkeypatch.setattr(rendering, "load_vips", lambda: None)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = render(picture("jpeg", (120, 60), exif=exif), Transform(width=30), None, BOUNDS)
    assert opened(turned.body).size == (30, 60)
    west = render(picture(), Transform(width=30, height=60, gravity="we"), None, BOUNDS)
    east = render(picture(), Transform(width=30, height=60, gravity="ea"), None, BOUNDS)
    assert opened(west.body).convert("RGB").getpixel((29, 30)) == (255, 0, 0)
    assert opened(east.body).convert("RGB").getpixel((0, 30)) == (0, 0, 255)


def test_moving_pictures_keep_moving() -> None:
    frames = [Image.new("RGB", (80, 40), color) for color in ("red", "green", "blue")]
    output = io.BytesIO()
    frames[0].save(output, format="gif", save_all=True, append_images=frames[1:], duration=100, loop=0)
    for wanted in (None, "webp"):
        rendered = render(output.getvalue(), Transform(width=20, height=20), wanted, BOUNDS)
        image: Any = Image.open(io.BytesIO(rendered.body))
        assert (image.n_frames, image.size) == (3, (20, 20))
    still = render(output.getvalue(), Transform(width=20), "avif", BOUNDS)
    assert opened(still.body).size == (20, 10)
    with pytest.raises(ImageTooLarge):
        render(output.getvalue(), Transform(width=20), None, Bounds(3 * 80 * 40 - 1, 60))


@settings(deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["", "png", "gif", "bmp", "ico", "tiff", "webp"]))
def test_noise_is_refused_and_nothing_else(noise: bytes, kind: str) -> None:
    source = noise if not kind else picture(kind, (8, 8))[:40] + noise
    with contextlib.suppress(ImageUnreadable, ImageTooLarge):
        render(source, Transform(width=4), None, Bounds(1_000_000, 10))


@settings(deadline=None)
@given(
    st.integers(1, 5000),
    st.integers(1, 5000),
    st.none() | st.integers(1, 2000),
    st.none() | st.integers(1, 2000),
    st.none() | st.sampled_from(RESIZES),
    st.none() | st.sampled_from(GRAVITIES),
    st.floats(-3000, 3000),
)
def test_layouts_stay_inside_the_picture(
    width: int, height: int, x: int | None, y: int | None, resize: str | None, gravity: str | None, offset: float
) -> None:
    layout = plan_layout(width, height, Transform(x, y, resize, gravity=gravity, x_offset=offset, y_offset=offset))
    assert 1 <= layout.scaled[0] <= width
    assert 1 <= layout.scaled[1] <= height
    assert 0 <= layout.left <= layout.scaled[0] - layout.size[0]
    assert 0 <= layout.top <= layout.scaled[1] - layout.size[1]
    if x is not None:
        assert layout.size[0] <= max(x, 1)
    if y is not None:
        assert layout.size[1] <= max(y, 1)
    if x is not None and y is not None and resize in {None, "cover"} and width >= x and height >= y:
        assert layout.size == (x, y)


def test_negotiation() -> None:
    assert negotiate(None, "image/avif,image/webp,*/*;q=0.8") == "webp"
    assert negotiate(None, "image/*,*/*") is None
    assert negotiate("origin", "image/webp") is None
    assert negotiate("avif", "") == "avif"


def test_the_cache_keeps_the_last_used(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, 100)
    for name in "abcdefgh":
        cache.put(b"x" * 12, name)
    assert cache.used == 96
    assert cache.get("a") == b"x" * 12
    cache.put(b"y" * 12, "new")
    assert cache.get("b") is None
    assert cache.get("a") is not None
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == cache.used <= 100
    cache.put(b"z" * 13, "too large")
    assert cache.get("too large") is None
    again = ImageCache(tmp_path, 100)
    assert again.get("new") == b"y" * 12
    for path in tmp_path.iterdir():
        path.unlink()
    assert again.get("new") is None
    assert ImageCache(tmp_path / "nowhere", 0).get("a") is None
