"""What users upload: an archive with `run.sh` at its root, and files beside it.

An archive is never unpacked here. It is read once to be checked and once to be sent, and what is sent is a tar stream
of our own making: plain names, files, folders and links that stay inside, nothing else. Memory does not grow with the
archive; what a hostile one could make the readers keep (names, headers, a zip's directory) is bounded.
"""

import bz2
import gzip
import re
import shlex
import stat
import struct
import tarfile
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, NoReturn

from gateway.errors import TooLarge, Unprocessable

ENTRY_POINT = "run.sh"
CHUNK = 1 << 18
MOST_HEADERS = 1 << 18  # bytes that may stand before one entry of a tar: its long names, its extended attributes
DIRECTORY_ENTRY = 128  # bytes of a zip's directory that are allowed for each file
LONGEST_PATH, LONGEST_NAME = 4000, 255
LONGEST_ARCHIVE_MESSAGE = 200
UNREADABLE = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError),
    *(NotImplementedError, OverflowError, RecursionError),
)
NOT_PLAIN = re.compile(r"[/\\\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing in an archive. `kind` is a type of tarfile; `target` is where a link leads; `content` is there for a
    file and read at once or never."""

    name: str
    kind: bytes
    mode: int
    mtime: float
    size: int = 0
    target: str = ""
    content: IO[bytes] | None = None


@dataclass(frozen=True, slots=True)
class Bundle:
    """An uploaded bundle and the files beside it, by name. Iterating gives the tar stream for the workspace. It may be
    gone through again and again, by one at a time.

    Raises Unprocessable, which says what is wrong with it, and TooLarge."""

    archive: IO[bytes]
    inputs: Mapping[str, IO[bytes]]
    most_bytes: int
    most_files: int

    def check(self) -> None:
        """Read it all, so that nothing of a bad one is ever sent."""
        for _ in self:
            pass

    def __iter__(self) -> Iterator[bytes]:
        with _readable():
            yield from self._bundle()
        for name, file in self.inputs.items():
            size = file.seek(0, 2)
            file.seek(0)
            yield from _packed(Entry(f"input/{name}", tarfile.REGTYPE, 0o644, time.time(), size, content=file))
        yield bytes(2 * tarfile.BLOCKSIZE)

    def _bundle(self) -> Iterator[bytes]:
        rules = _Rules(self.most_bytes, self.most_files)
        for entry in _entries(self.archive, self.most_files):
            name = rules.checked(entry)
            if name:
                yield from _packed(entry, f"bundle/{name}", executable=name == ENTRY_POINT)
        if not rules.can_start:
            how = "pack the folder's content: tar -C folder -czf b.tar.gz ."
            refuse(f"has no file {ENTRY_POINT} at its root; {how}", code="no_entry_point")


def refuse(words: str, code: str | None = None) -> NoReturn:
    raise Unprocessable(f"the bundle {words}", errors={"bundle": [words]}, code=code)


def is_archive(file: IO[bytes]) -> bool:
    """Whether it begins as an archive does, of whichever kind; it may be broken all the same."""
    file.seek(0)
    head = file.read(tarfile.BLOCKSIZE)
    file.seek(0)
    if head.startswith((b"PK", b"\x1f\x8b", b"BZh", b"\xfd7zXZ")):
        return True
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def check_input_names(names: Sequence[str]) -> None:
    """Raises Unprocessable where one is no plain name of a file, or stands twice."""
    for number, name in enumerate(names):
        if not name or name in (".", "..") or NOT_PLAIN.search(name) or len(name.encode()) > LONGEST_NAME:
            words = f"{name!r} is not a plain file name"
        elif name in names[:number]:
            words = f"{name!r} stands twice; give each input a name of its own"
        else:
            continue
        raise Unprocessable(f"inputs: {words}", errors={"inputs": [words]})


def start_script(arguments: Sequence[str], prologue: str = "") -> str:
    """What the scheduler is given: it becomes the bundle's run.sh, in whose folder it runs. An argument is never code,
    and no line of one begins a line of the script, where a scheduler would look for directives. `prologue` are lines
    of shell that run before."""
    words = [shlex.quote(argument).replace("\n", "'\"$n\"'") for argument in arguments]
    return f"#!/bin/sh\n# Made by Jobgate.\n{prologue}n='\n'\nexec {' '.join([f'./{ENTRY_POINT}', *words])}\n"


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except UNREADABLE as problem:
        words = str(problem)[:LONGEST_ARCHIVE_MESSAGE] or type(problem).__name__
        refuse(f"cannot be read to its end ({words}); pack and send it again")


# --- what may be in it ----------------------------------------------------------------------------------------------


class _Rules:
    """What has been seen of an archive, and whether the next entry may follow."""

    def __init__(self, most_bytes: int, most_files: int) -> None:
        self.most_bytes = most_bytes
        self.most_files = most_files
        self.bytes = self.files = 0
        self.links: set[str] = set()
        self.can_start = False

    def checked(self, entry: Entry) -> str:
        """The entry's name in its plainest form, "" for the root. Raises Unprocessable or TooLarge."""
        self._count(entry)
        parts = _parts(entry.name)
        name = "/".join(parts)
        for depth in range(1, len(parts)):
            if "/".join(parts[:depth]) in self.links:
                refuse(f"has {name!r}, which lies behind a link")
        if entry.kind == tarfile.SYMTYPE:
            _check_link(name, entry.target)
            self.links.add(name)
        elif entry.kind == tarfile.LNKTYPE:
            _parts(entry.target)
        self.can_start = self.can_start or (name == ENTRY_POINT and entry.kind == tarfile.REGTYPE)
        return name

    def _count(self, entry: Entry) -> None:
        self.files += 1
        self.bytes += entry.size
        if self.files > self.most_files:
            raise TooLarge(f"the bundle has more than {self.most_files} files; pack some of them into one")
        if self.bytes > self.most_bytes:
            raise TooLarge(f"the bundle is larger than {self.most_bytes} bytes when it is unpacked")


def _parts(name: str) -> list[str]:
    if name.startswith("/"):
        refuse(f"has the absolute name {name!r}; pack it with relative names")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        refuse(f"has the name {name!r}, which leads out of it")
    size = len(name.encode("utf-8", "surrogateescape"))
    if size > LONGEST_PATH or any(len(part.encode("utf-8", "surrogateescape")) > LONGEST_NAME for part in parts):
        refuse(f"has a name that is too long: {name[:50]!r}...")
    if "\0" in name:
        refuse(f"has a name with a NUL in it: {name!r}")
    return parts


def _check_link(name: str, target: str) -> None:
    """`..` only at the beginning and no more of it than there are folders above the link: behind another link's name it
    would lead from where that link leads."""
    parts = [part for part in target.split("/") if part not in ("", ".")]
    climbs = next((number for number, part in enumerate(parts) if part != ".."), len(parts))
    if not target or target.startswith("/") or ".." in parts[climbs:] or climbs > name.count("/"):
        refuse(
            f"has the link {name!r}, which points out of it (to {target!r}); leave it out, or pack what it points to"
        )


# --- reading archives -----------------------------------------------------------------------------------------------


def _entries(archive: IO[bytes], most_files: int) -> Iterator[Entry]:
    """What is in it, told by its first bytes."""
    archive.seek(0)
    head = archive.read(6)
    archive.seek(0)
    if head.startswith(b"PK"):
        return _of_zip(archive, most_files)
    if head.startswith(b"\x1f\x8b"):
        return _of_tar(gzip.GzipFile(fileobj=archive))
    if head.startswith(b"BZh"):
        return _of_tar(bz2.BZ2File(archive))
    if head.startswith(b"\xfd7zXZ"):  # unpacking may take any amount of memory
        refuse("is compressed with xz; send .tar.gz, .tar.bz2, .tar or .zip")
    return _of_tar(archive)


class _Bounded:
    """A file that gives out no more than `left` bytes, where that is set, and none of it in one enormous piece."""

    def __init__(self, file: Any, largest_piece: int) -> None:
        self.file = file
        self.largest_piece = largest_piece
        self.left: int | None = None
        self.last = b""
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if size > self.largest_piece or (self.left is not None and size > self.left):
            refuse("has headers that are too large; pack it without extended attributes")
        data: bytes = self.file.read(size)
        if self.left is not None:
            self.left -= len(data)
        self.last = data
        return data


def _of_tar(file: Any) -> Iterator[Entry]:
    bounded = _Bounded(file, largest_piece=CHUNK)
    bounded.left = MOST_HEADERS
    with tarfile.open(fileobj=bounded, mode="r:") as tar:  # type: ignore[call-overload]
        while True:
            bounded.left = MOST_HEADERS
            found = tar.next()
            if found is None:
                if any(bounded.last):  # tarfile takes a damaged header for the end (3.11)
                    raise tarfile.ReadError("a damaged header")
                return
            bounded.left = None
            yield _of_member(tar, found)
            tar.members.clear()
            tar.pax_headers.clear()


def _of_member(tar: tarfile.TarFile, found: tarfile.TarInfo) -> Entry:
    if found.size < 0:
        raise ValueError("a negative size")
    mode, mtime = found.mode, found.mtime
    if found.isreg():
        return Entry(found.name, tarfile.REGTYPE, mode, mtime, found.size, content=tar.extractfile(found))
    if found.isdir():
        return Entry(found.name, tarfile.DIRTYPE, mode, mtime)
    if found.issym() or found.islnk():
        kind = tarfile.SYMTYPE if found.issym() else tarfile.LNKTYPE
        return Entry(found.name, kind, mode, mtime, target=found.linkname)
    refuse(f"has {found.name!r}, which is neither a file, a folder nor a link")


def _of_zip(file: IO[bytes], most_files: int) -> Iterator[Entry]:
    largest_directory = max(CHUNK, DIRECTORY_ENTRY * most_files)
    with zipfile.ZipFile(_Bounded(file, largest_directory)) as archive:
        if len(archive.filelist) > most_files:
            raise TooLarge(f"the bundle has more than {most_files} files; pack some of them into one")
        for found in archive.filelist:
            yield from _of_zipped(archive, found)


def _of_zipped(archive: zipfile.ZipFile, found: zipfile.ZipInfo) -> Iterator[Entry]:
    name, mode = found.filename, found.external_attr >> 16
    if found.flag_bits & 1:
        refuse(f"is encrypted ({name!r}); send it without a password")
    if found.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2):
        refuse(f"has {name!r} compressed in a way that is not accepted here; use deflate")
    mtime = time.mktime((*found.date_time, 0, 0, -1))
    if found.is_dir():
        yield Entry(name, tarfile.DIRTYPE, mode, mtime)
        return
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFLNK):
        refuse(f"has {name!r}, which is neither a file, a folder nor a link")
    with archive.open(found) as content:
        if stat.S_ISLNK(mode):
            target = content.read(LONGEST_PATH).decode("utf-8", "surrogateescape")
            yield Entry(name, tarfile.SYMTYPE, mode, mtime, target=target)
        else:
            yield Entry(name, tarfile.REGTYPE, mode, mtime, found.file_size, content=content)


# --- writing tar ----------------------------------------------------------------------------------------------------


def _packed(entry: Entry, name: str = "", executable: bool = False) -> Iterator[bytes]:
    """The entry as a tar has it: nobody's, with nothing but the ordinary rights, readable for its owner."""
    info = tarfile.TarInfo(name or entry.name)
    info.type, info.size = entry.kind, entry.size
    info.mtime = max(0, min(int(entry.mtime), 1 << 33))
    folder = entry.kind == tarfile.DIRTYPE
    info.mode = (entry.mode & 0o777) | (0o700 if folder or executable else 0o600)
    if entry.kind == tarfile.LNKTYPE:
        info.linkname = "bundle/" + "/".join(_parts(entry.target))
    else:
        info.linkname = entry.target
    yield info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
    if entry.content:
        yield from _whole(entry.content, entry.size)
        yield bytes(-entry.size % tarfile.BLOCKSIZE)


def _whole(content: IO[bytes], size: int) -> Iterable[bytes]:
    """Exactly so many bytes. Raises EOFError where there are fewer."""
    while size:
        piece = content.read(min(CHUNK, size))
        if not piece:
            raise EOFError("it ends in the middle of a file")
        size -= len(piece)
        yield piece
