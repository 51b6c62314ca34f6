"""How a command reaches a host, and how its files come back. The only place below the backends.

A transport runs argument vectors, never shell text: where the far side insists on a shell (ssh), the transport quotes,
once. It acts as the account it is given, so the host's own permissions hold even if a check of ours were missing.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, Self


@dataclass(frozen=True, slots=True)
class Command:
    """What to run. `timeout` is in seconds; where input or output is streamed, in which nothing moves. `stdin` may be
    pieces that are made while they are sent; it must be possible to go through them again. Of each output at most
    `most_output` bytes are kept. `repeatable` says that running it twice does no harm (a query), so that it may be sent
    again when a connection broke after it may have started."""

    argv: tuple[str, ...]
    stdin: bytes | Iterable[bytes] = field(default=b"", repr=False)
    timeout: float = 30.0
    repeatable: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    most_output: int | None = None

    @property
    def streamed(self) -> bool:
        """Whether its input is made while it is sent."""
        return not isinstance(self.stdin, bytes)


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What came back. Bytes that are not UTF-8 stand as backslash escapes. A signal gives 128 + its number."""

    exit_code: int
    stdout: str = field(repr=False)
    stderr: str


class Kept:
    """What is kept of an output: at most `most` bytes, and a line that says so where there were more."""

    def __init__(self, most: int | None = None) -> None:
        self.most = most
        self.data = bytearray()
        self.cut = False

    def add(self, data: bytes) -> None:
        room = len(data) if self.most is None else max(0, self.most - len(self.data))
        self.data += data[:room]
        self.cut = self.cut or room < len(data)

    def text(self) -> str:
        text = self.data.decode("utf-8", "backslashreplace")
        return f"{text}\n[jobgate: cut after {self.most} bytes]\n" if self.cut else text


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A regular file below a folder: `path` is relative to it, `size` in bytes."""

    path: str
    size: int
    mtime: datetime


class RemoteFile(Protocol):
    """An open regular file. `size` (bytes) and `mtime` are those at opening; a growing file gives more on reading."""

    size: int
    mtime: datetime

    def read(self, offset: int, length: int) -> bytes:
        """At most `length` bytes from `offset`; b"" at the end."""

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


class Transport(Protocol):
    """One host's way in. Safe to use from many threads."""

    def run(self, command: Command, account: str) -> CommandResult:
        """Run it as `account` and wait. Any exit code is a result.

        Raises HostDown where the command is known not to have started, HostTimeout (with what had been printed) where
        it did not end in time, OutcomeUnknown where the connection broke after it may have started.
        """

    def stream(self, command: Command, account: str) -> Generator[bytes, None, CommandResult]:
        """Run it as `account` and give its standard output as it comes, in constant memory; the generator's value is
        the result, with no `stdout` and at most `most_output` bytes of `stderr`. Who closes the generator ends the
        command.

        Raises as `run` does, HostDown also where the connection breaks, when the generator is asked for a piece.
        """

    def home(self, account: str) -> str:
        """The account's home directory. Raises Forbidden where the host has no such account."""

    def open_file(self, path: str, account: str, within: str) -> RemoteFile:
        """Open a regular file for reading as `account`. `path` is absolute and must lie, after every symbolic link is
        followed, below the folder `within`.

        Raises NotFound where it is missing or not a regular file, Forbidden where it leads out of `within` or the
        account may not read it.
        """

    def list_files(self, directory: str, account: str, limit: int) -> Iterator[FileEntry]:
        """The regular files below `directory`, sorted by path, at most `limit`. Links are neither followed nor listed.

        Raises NotFound where the folder is missing, Forbidden where the account may not read it.
        """

    def close(self) -> None:
        """End idle connections; the transport can be used again."""


def _ssh_options() -> type:
    from gateway.transport.ssh_options import SshOptions

    return SshOptions


# Name in the configuration → the class of its own options, read when needed (None: it has none).
TRANSPORTS: Mapping[str, Callable[[], type] | None] = {"local": None, "ssh": _ssh_options}
