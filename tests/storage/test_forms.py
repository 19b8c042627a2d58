"""Forms as streams: however the bytes are cut, the file and the fields come out the same."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socle_storage.errors import Code, StorageError
from socle_storage.forms import Form, FormReader, boundary_of

CRLF = b"\r\n"


def part(name: str, body: bytes, file: str | None = None, kind: str | None = None) -> bytes:
    disposition = f'Content-Disposition: form-data; name="{name}"'
    lines = [disposition + (f'; filename="{file}"' if file is not None else "")]
    if kind is not None:
        lines.append(f"Content-Type: {kind}")
    return b"--B\r\n" + CRLF.join(line.encode() for line in lines) + CRLF + CRLF + body + CRLF


async def read(body: bytes, cuts: list[int] | None = None) -> tuple[bytes, Form]:
    """The file's bytes and the form; `cuts` are the lengths of the chunks, the last one repeated."""

    async def stream() -> AsyncGenerator[bytes, None]:
        rest, lengths = body, [*(cuts or [len(body) or 1])]
        while rest:
            length = lengths.pop(0) if len(lengths) > 1 else lengths[0]
            yield rest[:length]
            rest = rest[length:]

    reader = FormReader("multipart/form-data; boundary=B", stream())
    await reader.start()
    content = b"".join([chunk async for chunk in reader.file()])
    return content, reader.form


@given(
    st.binary(max_size=300),
    st.lists(st.integers(1, 40), min_size=1, max_size=30),
    st.text(alphabet='abcé☃ "%', max_size=20),
)
async def test_cuts_make_no_difference(content: bytes, cuts: list[int], text: str) -> None:
    body = part("before", text.encode()) + part("", content, "f", "image/png") + part("after", b"2") + b"--B--\r\n"
    got, form = await read(body, cuts)
    if b"\r\n--B" not in content:
        assert got == content
        assert form.fields == {"before": text, "after": "2"}
        assert (form.mimetype, form.late) == ("image/png", True)


@given(st.binary(max_size=200), st.lists(st.integers(1, 20), min_size=1, max_size=10))
async def test_any_bytes_are_a_form_or_a_refusal(body: bytes, cuts: list[int]) -> None:
    for whole in (body, b"--B\r\n" + body, part("f", b"x", "f") + body):
        code: Code | None = None
        try:
            await read(whole, cuts)
        except StorageError as error:
            code = error.code
        assert code in {None, Code.INVALID_REQUEST, Code.ENTITY_TOO_LARGE}


async def test_a_file_has_a_name_or_a_binary_type() -> None:
    for file in (part("x", b"1", ""), part("x", b"1", None, "application/octet-stream")):
        assert (await read(file + b"--B--\r\n"))[0] == b"1"
    with pytest.raises(StorageError, match="No content provided"):
        await read(part("x", b"1", None, "text/plain") + b"--B--\r\n")


async def test_what_follows_the_end_is_not_read() -> None:
    body = part("", b"data", "f") + b"--B--\r\n"
    assert (await read(body + b"epilogue " * 1000, [len(body), 10]))[0] == b"data"


async def test_a_form_cut_short_is_refused_only_once_its_end_is_missed() -> None:
    with pytest.raises(StorageError, match="Unexpected end of form"):
        await read(part("", b"data", "f"))


async def test_a_large_field_is_refused_while_it_comes() -> None:
    with pytest.raises(StorageError) as refused:
        await read(part("metadata", b"x" * (1024 * 1024 + 1)) + part("", b"", "f") + b"--B--\r\n", [65536])
    assert refused.value.code is Code.ENTITY_TOO_LARGE


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=" + "b" * 257])
def test_a_boundary_is_needed(kind: str) -> None:
    with pytest.raises(StorageError, match="Boundary not found"):
        boundary_of(kind)


def test_a_quoted_boundary() -> None:
    assert boundary_of('multipart/form-data; boundary="a b"') == b"a b"
