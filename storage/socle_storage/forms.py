"""Uploads as multipart/form-data: the first file's bytes pass through, the fields around it are kept (contract §3.1).

Fields are taken before and after the file. What came after it was unknown when the caller's rights were probed, so
`Form.late` tells that they have to be probed again.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from socle_storage.errors import invalid_request, no_content, too_large

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from python_multipart.multipart import MultipartCallbacks

MAX_FIELDS = 10
MAX_FIELD = 1024 * 1024
"""Bytes of one field."""


@dataclass(slots=True)
class Form:
    """What is known of the form so far. `mimetype`: the file part's own. `late`: a field came after the file."""

    fields: dict[str, str] = field(default_factory=dict[str, str])
    mimetype: str | None = None
    late: bool = False


def boundary_of(content_type: str) -> bytes:
    """The boundary in a multipart content type. Raises InvalidRequest."""
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if not 0 < len(boundary) <= 256:
        raise invalid_request("Multipart: Boundary not found")
    return boundary


class FormReader:
    """Reads a form from a stream: `start` goes up to the file's first byte, `file` gives its bytes, then the rest."""

    def __init__(self, content_type: str, stream: AsyncIterator[bytes], max_fields: int = MAX_FIELDS) -> None:
        self.form = Form()
        self._max_fields = max_fields
        self._stream = stream
        self._parts = _Parts()
        self._parser = MultipartParser(boundary_of(content_type), self._parts.callbacks())
        self._ready: list[bytes] = []
        self._file: _Part | None = None

    async def start(self) -> Form:
        """Reads the fields before the file. Raises InvalidRequest when the form ends without a file."""
        while self._file is None:
            if not await self._advance():
                raise no_content()
        return self.form

    async def file(self) -> AsyncGenerator[bytes, None]:
        """The file's bytes; afterwards the form is complete. Raises InvalidRequest for a form cut short."""
        while True:
            ready, self._ready = self._ready, []
            for chunk in ready:
                yield chunk
            if not await self._advance():
                break
        if not self._parts.ended:
            raise invalid_request("Unexpected end of form")

    async def _advance(self) -> bool:
        """Feeds one chunk of the stream; False at its end, or when the form has ended before it."""
        if self._parts.ended:
            return False
        chunk = await anext(self._stream, None)
        if chunk is None:
            return False
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise invalid_request(f"Malformed multipart form: {error}") from error
        for part, data, ended in self._parts.take():
            self._accept(part, data, ended=ended)
        return True

    def _accept(self, part: _Part, data: bytes, *, ended: bool) -> None:
        if part.is_file:
            self._accept_file(part, data)
            return
        part.value += data
        if len(part.value) > MAX_FIELD:
            raise too_large("user_metadata")
        if ended:
            if len(self.form.fields) >= self._max_fields:
                raise invalid_request("reach fields limit")
            self.form.fields[part.name] = part.value.decode("utf-8", "replace")
            self.form.late = self.form.late or self._file is not None

    def _accept_file(self, part: _Part, data: bytes) -> None:
        if self._file is None:
            self._file = part
            self.form.mimetype = part.content_type
        elif part is not self._file:
            raise invalid_request("reach files limit")
        if data:
            self._ready.append(data)


class _Part:
    """One part as its headers describe it."""

    def __init__(self) -> None:
        self.name = ""
        self.content_type: str | None = None
        self.is_file = False
        self.value = b""

    def take_headers(self, headers: dict[bytes, bytes]) -> None:
        """A part with a file name, or of another type than text without one, is a file (as busboy sees it)."""
        _, options = parse_options_header(headers.get(b"content-disposition", b""))
        self.name = options.get(b"name", b"").decode("utf-8", "replace")
        kind = headers.get(b"content-type")
        self.content_type = kind.decode("latin-1") if kind else None
        binary = kind is not None and kind.lower().startswith(b"application/octet-stream")
        self.is_file = b"filename" in options or b"filename*" in options or binary


class _Parts:
    """Collects what the parser calls back, until the reader takes it."""

    def __init__(self) -> None:
        self.ended = False
        self._events: list[tuple[_Part, bytes, bool]] = []
        self._part = _Part()
        self._headers: dict[bytes, bytes] = {}
        self._name = b""
        self._value = b""

    def take(self) -> list[tuple[_Part, bytes, bool]]:
        events, self._events = self._events, []
        return events

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._on_name,
            "on_header_value": self._on_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers,
            "on_part_data": self._on_data,
            "on_part_end": self._on_end,
            "on_end": self._on_finish,
        }

    def _begin(self) -> None:
        self._part = _Part()
        self._headers = {}

    def _on_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _on_headers(self) -> None:
        self._part.take_headers(self._headers)
        self._events.append((self._part, b"", False))

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._events.append((self._part, data[start:end], False))

    def _on_end(self) -> None:
        self._events.append((self._part, b"", True))

    def _on_finish(self) -> None:
        self.ended = True
