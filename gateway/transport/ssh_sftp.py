"""Reading files over sftp (version 3, draft-ietf-secsh-filexfer-02).

paramiko's client decodes file names as strict UTF-8, so one odd name hides a whole folder, and it may not be shared by
threads. This one keeps names as bytes, asks for many blocks at once, and serves all open files of an account over one
channel, so that a hundred followers of a log do not use up the connections.
"""

import stat
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

import paramiko  # type: ignore[import-untyped]

from gateway.errors import Forbidden, HostDown, HostTimeout, JobgateError, NotFound
from gateway.transport import FileEntry
from gateway.transport.ssh_channel import Lost, request
from gateway.transport.ssh_pool import CONNECTION_SECONDS

INIT, OPEN, CLOSE, READ, LSTAT, FSTAT = 1, 3, 4, 5, 7, 8
OPENDIR, READDIR, REALPATH = 11, 12, 16
STATUS, HANDLE, DATA, NAME, ATTRS = 101, 102, 103, 104, 105
END_OF_FILE, PERMISSION_DENIED = 1, 3
READ_ONLY = 1
BLOCK = 1 << 15
READ_AHEAD = 1 << 19
MOST_AT_ONCE = 1 << 21
LONGEST_ANSWER = 1 << 24
DEPTH = 200


class Status(Exception):
    """The server's no. `code` is one of the protocol's."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code


@dataclass(frozen=True, slots=True)
class Attributes:
    size: int
    mode: int
    mtime: datetime


class Packet:
    """An answer, read from the front."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def number(self) -> int:
        return int(self._unpack(">I", 4))

    def long(self) -> int:
        return int(self._unpack(">Q", 8))

    def string(self) -> bytes:
        length = self.number()
        self.position += length
        return self.data[self.position - length : self.position]

    def attributes(self) -> Attributes:
        flags = self.number()
        size = self.long() if flags & 1 else 0
        if flags & 2:
            self.long()  # owner and group
        mode = self.number() if flags & 4 else 0
        times = (self.number(), self.number()) if flags & 8 else (0, 0)
        for _ in range(self.number() if flags & 0x80000000 else 0):
            self.string()
            self.string()
        return Attributes(size, mode, datetime.fromtimestamp(times[1], UTC))

    def _unpack(self, form: str, width: int) -> int:
        (value,) = struct.unpack_from(form, self.data, self.position)
        self.position += width
        return int(value)


def string(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


class Session:
    """One sftp channel. Safe for threads: each question and its answer are under one lock. A broken session says so
    in `broken` and is not used again."""

    def __init__(self, channel: paramiko.Channel, release: ExitStack, timeout: float) -> None:
        self.channel = channel
        self.release = release
        self.files = 0
        self.broken = False
        self.born = self.used = time.monotonic()
        self._number = 0
        self._lock = threading.Lock()
        channel.settimeout(timeout)
        with self._lock, _Guard(self):
            request(channel, "subsystem", b"sftp")
            self._send(INIT, struct.pack(">I", 3))
            self._receive()

    @property
    def usable(self) -> bool:
        """Whether new files may be opened: it shall not outlive its connection's age by more than its open files."""
        young = time.monotonic() - self.born < CONNECTION_SECONDS
        return young and not self.broken and bool(self.channel.get_transport().is_active())

    def realpath(self, path: bytes) -> bytes:
        answer = self.ask(REALPATH, string(path), NAME)
        answer.number()
        return answer.string()

    def lstat(self, path: bytes) -> Attributes:
        return self.ask(LSTAT, string(path), ATTRS).attributes()

    def fstat(self, handle: bytes) -> Attributes:
        return self.ask(FSTAT, string(handle), ATTRS).attributes()

    def open(self, path: bytes) -> bytes:
        return self.ask(OPEN, string(path) + struct.pack(">II", READ_ONLY, 0), HANDLE).string()

    def close_handle(self, handle: bytes) -> None:
        try:
            self.ask(CLOSE, string(handle), STATUS)
        except (Status, JobgateError):
            return

    def read(self, handle: bytes, offset: int, length: int) -> bytes:
        """All blocks are asked for at once. A short answer ends it, since what follows would not be adjacent."""
        blocks = [(at, min(BLOCK, offset + length - at)) for at in range(offset, offset + length, BLOCK)]
        questions = [(READ, string(handle) + struct.pack(">QI", *block)) for block in blocks]
        data = bytearray()
        for (_, wanted), answer in zip(blocks, self._ask_all(questions), strict=True):
            block = _data(answer)
            data += block
            if len(block) < wanted:
                break
        return bytes(data)

    def folder(self, path: bytes) -> list[tuple[bytes, Attributes]]:
        handle = self.ask(OPENDIR, string(path), HANDLE).string()
        try:
            found: list[tuple[bytes, Attributes]] = []
            while batch := self._batch(handle):
                found += batch
            return found
        finally:
            self.close_handle(handle)

    def _batch(self, handle: bytes) -> list[tuple[bytes, Attributes]]:
        try:
            answer = self.ask(READDIR, string(handle), NAME)
        except Status as status:
            if status.code == END_OF_FILE:
                return []
            raise
        return [_entry(answer) for _ in range(answer.number())]

    def ask(self, kind: int, body: bytes, expected: int) -> Packet:
        """One question. Raises Status, HostTimeout or HostDown."""
        ((got, answer),) = self._ask_all([(kind, body)])
        if got == expected == STATUS:
            return answer
        _check(got, answer, expected)
        return answer

    def _ask_all(self, questions: list[tuple[int, bytes]]) -> list[tuple[int, Packet]]:
        with self._lock, _Guard(self):
            self.used = time.monotonic()
            numbers = [self._ask(kind, body) for kind, body in questions]
            answers = dict(self._answer() for _ in numbers)
            return [answers[number] for number in numbers]

    def _ask(self, kind: int, body: bytes) -> int:
        self._number += 1
        self._send(kind, struct.pack(">I", self._number) + body)
        return self._number

    def _answer(self) -> tuple[int, tuple[int, Packet]]:
        kind, answer = self._receive()
        return answer.number(), (kind, answer)

    def _send(self, kind: int, body: bytes) -> None:
        self.channel.sendall(struct.pack(">IB", len(body) + 1, kind) + body)

    def _receive(self) -> tuple[int, Packet]:
        (length,) = struct.unpack(">I", self._exactly(4))
        if not 0 < length < LONGEST_ANSWER:
            raise Lost("the sftp server speaks nonsense")
        data = self._exactly(length)
        return data[0], Packet(data[1:])

    def _exactly(self, length: int) -> bytes:
        data = bytearray()
        while len(data) < length:
            piece = self.channel.recv(length - len(data))
            if not piece:
                raise Lost("the sftp session ended")
            data += piece
        return bytes(data)

    def close(self) -> None:
        self.broken = True
        self.release.close()


class _Guard:
    """Any trouble in mid-conversation ends the session, since the next answer would be to another's question."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def __enter__(self) -> None:
        if self.session.broken:
            raise HostDown("the connection to the host broke")

    def __exit__(self, kind: object, problem: BaseException | None, traceback: object) -> None:
        if problem is None:
            return
        self.session.close()
        if isinstance(problem, TimeoutError):
            raise HostTimeout("the host did not answer about a file in time") from problem
        if isinstance(problem, Lost | OSError | EOFError | KeyError | struct.error | paramiko.SSHException):
            raise HostDown("the connection to the host broke") from problem


def _check(got: int, answer: Packet, expected: int) -> None:
    if got == STATUS:
        raise Status(answer.number(), answer.string().decode("utf-8", "backslashreplace"))
    if got != expected:
        raise HostDown("the sftp server speaks nonsense")


def _data(answer: tuple[int, Packet]) -> bytes:
    try:
        _check(*answer, DATA)
    except Status as status:
        if status.code == END_OF_FILE:
            return b""
        raise
    return answer[1].string()


def _entry(answer: Packet) -> tuple[bytes, Attributes]:
    name = answer.string()
    answer.string()  # the line that `ls -l` would print
    return name, answer.attributes()


class SftpFile:
    """An open regular file on the host. One thread at a time reads it."""

    def __init__(self, session: Session, handle: bytes, on_close: Callable[[], None]) -> None:
        status = session.fstat(handle)
        self.size = status.size
        self.mtime = status.mtime
        self._session = session
        self._handle = handle
        self._on_close = on_close
        self._open = True
        self._next = 0
        self._start, self._buffer = 0, b""

    def read(self, offset: int, length: int) -> bytes:
        """Who reads on from where the last read ended is given more than asked for, out of a buffer."""
        if not self._start <= offset < self._start + len(self._buffer):
            wanted = max(length, READ_AHEAD) if offset == self._next else length
            with file_errors("the file"):
                self._buffer = self._session.read(self._handle, offset, min(wanted, MOST_AT_ONCE))
            self._start = offset
        begin = offset - self._start
        data = self._buffer[begin : begin + length]
        self._next = offset + len(data)
        return data

    def close(self) -> None:
        if self._open:
            self._open = False
            self._session.close_handle(self._handle)
            self._on_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@contextmanager
def file_errors(path: str) -> Iterator[None]:
    """The server's no in our words."""
    try:
        yield
    except Status as status:
        if status.code == PERMISSION_DENIED:
            raise Forbidden(f"{path}: permission denied") from None
        raise NotFound(f"{path}: {status}") from None


def open_below(session: Session, path: str, within: str) -> bytes:
    """A handle of the regular file `path`, which must lie below `within` after every link is followed.

    Between the check and the opening the account may swap the file for a link. That gains it nothing: the server opens
    as that very account, so all it can reach is what is its own to read anyway.
    """
    real, folder = session.realpath(encoded(path)), session.realpath(encoded(within))
    if not real.startswith(folder.rstrip(b"/") + b"/"):
        raise Forbidden(f"{path}: leads out of the job's folder")
    if not stat.S_ISREG(session.lstat(real).mode):  # asked before opening: that of a FIFO would wait for a writer
        raise NotFound(f"{path}: is not a regular file")
    handle = session.open(real)
    if not stat.S_ISREG(session.fstat(handle).mode):
        session.close_handle(handle)
        raise NotFound(f"{path}: is not a regular file")
    return handle


def walk(session: Session, directory: str, limit: int) -> list[FileEntry]:
    """The regular files below, sorted by path. Links, unreadable folders and what is deeper than DEPTH are left out."""
    top = encoded(directory)
    # a stack of what is still to be visited, the next on top; folders end in "/", which sorts their content rightly
    ahead = sorted(_children(session, top, b""), reverse=True, key=_path)
    found: list[FileEntry] = []
    while ahead and len(found) < limit:
        path, status = ahead.pop()
        if not path.endswith(b"/"):
            found.append(FileEntry(decoded(path), status.size, status.mtime))
        elif path.count(b"/") <= DEPTH:
            ahead += sorted(_children_or_none(session, top, path), reverse=True, key=_path)
    return found


def _path(child: tuple[bytes, Attributes]) -> bytes:
    return child[0]


def _children(session: Session, top: bytes, folder: bytes) -> list[tuple[bytes, Attributes]]:
    found = []
    for name, status in session.folder(top + b"/" + folder):
        if stat.S_ISREG(status.mode):
            found.append((folder + name, status))
        elif stat.S_ISDIR(status.mode) and name not in (b".", b".."):
            found.append((folder + name + b"/", status))
    return found


def _children_or_none(session: Session, top: bytes, folder: bytes) -> list[tuple[bytes, Attributes]]:
    try:
        if not stat.S_ISDIR(session.lstat(top + b"/" + folder.rstrip(b"/")).mode):
            return []
        return _children(session, top, folder)
    except Status:
        return []


def encoded(path: str) -> bytes:
    if "\0" in path:  # OpenSSH would read up to there
        raise NotFound(f"{path!r}: no such file")
    return path.encode("utf-8", "surrogateescape")


def decoded(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")
