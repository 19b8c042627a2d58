"""XML in and out (namespace of Amazon S3; no document types or entities are read). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Any, TypeAlias
from xml.etree.ElementTree import Element, ParseError, SubElement, tostring

from socle_storage.s3api.errors import malformed_xml

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
MAX_DOCUMENT = 4 * 1024 * 1024
"""Bytes of a document that is read: ten thousand parts, or a thousand long keys."""

Node: TypeAlias = tuple[str, "str | int | bool | Sequence[Node] | None"]
"""A name and its content: a value or further nodes. None is left out."""


def render_document(root: str, content: str | Iterable[Node], *, namespace: bool = True) -> bytes:
    """A document with its declaration; the root holds a text or further nodes."""
    element = Element(root, {"xmlns": NAMESPACE} if namespace else {})
    if isinstance(content, str):
        element.text = content
    else:
        _fill(element, content)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{tostring(element, encoding="unicode")}'.encode()


def _fill(element: Element, children: Iterable[Node]) -> None:
    for name, content in children:
        if content is None:
            continue
        child = SubElement(element, name)
        if isinstance(content, bool):
            child.text = "true" if content else "false"
        elif isinstance(content, str | int):
            child.text = str(content)
        else:
            _fill(child, content)


def parse_document(body: bytes, root: str) -> Element:
    """The root element, names without namespaces. Raises MalformedXML."""
    defused: Any = import_module("defusedxml.ElementTree")
    try:
        element: Element = defused.fromstring(body, forbid_dtd=True)
    except (ParseError, ValueError, LookupError):
        raise malformed_xml() from None
    for each in element.iter():
        each.tag = each.tag.rpartition("}")[2]
    if element.tag != root:
        raise malformed_xml()
    return element
