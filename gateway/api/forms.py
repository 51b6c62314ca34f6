"""Forms with files in their bodies. A file is never in memory as a whole."""

import hashlib
import io
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO, Any, cast
from urllib.parse import parse_qsl

from flask import current_app, request
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.formparser import FormDataParser

from gateway.api.requests import services
from gateway.errors import BadRequest, HostDown, TooLarge

BESIDE_FILES = 1 << 20  # bytes of the body that are neither in a file nor in a value
MOST_PARTS = 1000
URLENCODED = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Form:
    """The values and the files of a form, by name. Bytes of a value that are not UTF-8 stand as lone surrogates."""

    values: dict[str, list[str]]
    files: dict[str, list[FileStorage]]

    def file(self, name: str) -> IO[bytes] | None:
        """What was sent under that name last, as a file or as a value."""
        if name in self.files:
            return content(self.files[name][-1])
        return io.BytesIO(self.values[name][-1].encode("utf-8", "surrogateescape")) if name in self.values else None

    def text(self, name: str) -> str | None:
        """The same as text. Raises TooLarge."""
        return self.values[name][-1] if name in self.values else self._read(name)

    def _read(self, name: str) -> str | None:
        return text_of(self.files[name][-1]) if name in self.files else None

    def digests(self) -> list[tuple[str, str, str]]:
        """Name, file name and SHA-256 of each file."""
        return [digest(file) for files in self.files.values() for file in files]


@contextmanager
def received(how: str) -> Iterator[Form]:
    """The form that is the request's body, read to its end; its files are there until the block ends. Raises
    BadRequest, which says `how` it should be sent, and TooLarge."""
    if request.mimetype == URLENCODED:
        yield Form(_urlencoded(), {})
        return
    with ExitStack() as stack:
        yield _multipart(_Parts(stack), how)


def _urlencoded() -> dict[str, list[str]]:
    """Small ones only: all of it is in memory. It is read as bytes, since a file may be a value."""
    longest = current_app.config["MAX_CONTENT_LENGTH"]
    body = request.get_data(cache=False)
    if len(body) >= longest:
        raise RequestEntityTooLarge
    values: dict[str, list[str]] = {}
    try:
        text = body.decode("utf-8", "surrogateescape")
        for name, value in parse_qsl(text, True, errors="surrogateescape", max_num_fields=MOST_PARTS):
            values.setdefault(name, []).append(value)
    except ValueError as problem:
        raise BadRequest(f"the form cannot be read: {problem}") from None
    return values


def _multipart(parts: "_Parts", how: str) -> Form:
    longest_value = current_app.config["MAX_CONTENT_LENGTH"]
    request.max_content_length = parts.limit + longest_value + BESIDE_FILES
    parser = FormDataParser(
        stream_factory=cast(Any, lambda **_: Spool(parts)),
        max_form_memory_size=longest_value,
        max_content_length=request.max_content_length,
        max_form_parts=MOST_PARTS,
        silent=False,
    )
    try:
        _, form, files = parser.parse(
            request.stream, request.mimetype, request.content_length, dict(request.mimetype_params)
        )
    except ValueError as problem:
        raise BadRequest(f"the form cannot be read ({problem}); {how}") from None
    return Form(dict(form.lists()), dict(files.lists()))


class Spool:
    """A part of the body on its way to the disk, in a file without a name: it is gone when it is closed or the process
    ends, however that happens."""

    def __init__(self, parts: "_Parts") -> None:
        self.parts = parts
        self.digest = hashlib.sha256()
        self.file = parts.open()

    def write(self, data: bytes) -> int:
        self.parts.count(len(data))
        self.digest.update(data)
        with _room():
            return self.file.write(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        with _room():
            return self.file.seek(offset, whence)  # flushes


class _Parts:
    """The files of one request."""

    def __init__(self, stack: ExitStack) -> None:
        self.stack = stack
        self.limit = services().config.limits.upload
        self.received = 0

    def open(self) -> IO[bytes]:
        folder = services().config.gateway.state_dir / "uploads"
        with _room():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return self.stack.enter_context(tempfile.TemporaryFile(dir=folder))

    def count(self, size: int) -> None:
        self.received += size
        if self.received > self.limit:
            raise TooLarge(f"the bundle and its inputs are larger than {self.limit} bytes")


@contextmanager
def _room() -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise HostDown(f"the gateway has no room for the bundle: {problem.strerror}", code="no_room") from problem


def content(file: FileStorage) -> IO[bytes]:
    """A received file, as it lies on the disk."""
    return cast(Spool, file.stream).file


def text_of(file: FileStorage) -> str:
    """A received file as text. Raises TooLarge."""
    longest = current_app.config["MAX_CONTENT_LENGTH"]
    data = content(file).read(longest + 1)
    if len(data) > longest:
        raise TooLarge(f"the part `{file.name}` is larger than {longest} bytes")
    return data.decode("utf-8", "surrogateescape")


def digest(file: FileStorage) -> tuple[str, str, str]:
    return file.name or "", file.filename or "", cast(Spool, file.stream).digest.hexdigest()
