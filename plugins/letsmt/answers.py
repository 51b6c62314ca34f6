"""Answers in XML: the result of a call, or its mistake with the number that the LetsMT repository has for it."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from xml.etree import ElementTree

import flask

from gateway import JobgateError

VERSION = "56"
NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, section 2.2
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,199}")

# The repository's numbers of mistakes (its own page on them). 7 was an error of its database.
NOT_READABLE = 6
UNKNOWN_PATH = 7
SYSTEM = 8
OTHER = 11
MISSING = 12
NOT_IMPLEMENTED = 13
DENIED = 14
NO_USER = 15
INVALID = 17
STATUS = {
    NOT_IMPLEMENTED: 400,
    OTHER: 409,
    NOT_READABLE: 404,
    UNKNOWN_PATH: 404,
    MISSING: 400,
    DENIED: 403,
    NO_USER: 403,
    INVALID: 400,
}
NUMBERS = {400: INVALID, 401: DENIED, 403: DENIED, 404: NOT_READABLE, 405: NOT_IMPLEMENTED, 413: INVALID, 422: INVALID}


class Fault(JobgateError):
    """A mistake with its LetsMT number."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number
        self.status = STATUS[number]


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a list: its attributes, and its elements, whose values are texts or mappings of the same."""

    attributes: Mapping[str, str]
    elements: Mapping[str, object] = field(default_factory=dict)


def answer(
    message: str = "", entries: Iterable[Entry] | None = None, of: str = "", location: str = ""
) -> flask.Response:
    """What went well; with `entries` a list `of` that path."""
    root = ElementTree.Element("letsmt-ws", version=VERSION)
    if entries is not None:
        shown = ElementTree.SubElement(root, "list", path=clean(of))
        for entry in entries:
            element = ElementTree.SubElement(shown, "entry", {k: clean(v) for k, v in entry.attributes.items()})
            _add(element, entry.elements)
    return _with_status(root, "ok", 0, message, location)


def shown(error: JobgateError) -> flask.Response:
    """A mistake in the dialect's shape."""
    number = (
        error.number if isinstance(error, Fault) else NUMBERS.get(error.status, SYSTEM if error.status > 499 else OTHER)
    )
    return _with_status(ElementTree.Element("letsmt-ws", version=VERSION), "error", number, error.message)


def _with_status(root: ElementTree.Element, kind: str, code: int, message: str, location: str = "") -> flask.Response:
    where = location or flask.request.path.removeprefix("/ws") or "/"
    about = {"code": str(code), "location": clean(where), "operation": clean(flask.request.method), "type": kind}
    ElementTree.SubElement(root, "status", about).text = clean(message)
    ElementTree.indent(root)
    return flask.Response(
        ElementTree.tostring(root, "utf-8", xml_declaration=True), content_type="text/xml; charset=utf-8"
    )


def _add(element: ElementTree.Element, values: Mapping[str, object]) -> None:
    for name, value in values.items():
        inner = ElementTree.SubElement(element, name)
        if isinstance(value, Mapping):
            inner.attrib.update({k[1:]: str(v) for k, v in value.items() if k.startswith("@")})
            _add(inner, {k: v for k, v in value.items() if not k.startswith("@")})
        else:
            inner.text = clean(str(value))


def clean(text: str) -> str:
    """The text without what XML cannot hold."""
    return NOT_XML.sub("\ufffd", text)
