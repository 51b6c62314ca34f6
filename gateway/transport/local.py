"""This machine as a host: commands run as processes, files are opened directly.

`shared_account=True`: everything happens as the gateway's own user, and an account is a folder below `homes`.
`shared_account=False`: everything happens as the account, which needs root. Root's rights never touch a user's file: a
child that has become the account opens it and passes the descriptor back.
"""

import os
import pwd
import socket
import subprocess
import sys
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from gateway.errors import Forbidden, HostDown, HostTimeout, JobgateError, NotFound
from gateway.transport import Command, CommandResult, FileEntry, Kept, RemoteFile, local_files
from gateway.transport.deadline import seconds_left
from gateway.transport.local_process import STDERR, STDOUT, Conversation

PATH = "/usr/local/bin:/usr/bin:/bin"
FILE_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class Account:
    """Who a command runs as. `groups` are all its groups; `switch` is false for the gateway's own user."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    shell: str
    switch: bool

    def environment(self) -> dict[str, str]:
        """All that a command is given; nothing of the gateway's own."""
        who = {"HOME": self.home, "USER": self.name, "LOGNAME": self.name, "SHELL": self.shell}
        return {"PATH": PATH, "LANG": "C.UTF-8", **who}


class LocalFile:
    """An open regular file of this machine."""

    def __init__(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        self.size = status.st_size
        self.mtime = datetime.fromtimestamp(status.st_mtime, UTC)
        self._descriptor = descriptor

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self._descriptor, length, offset)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


class LocalTransport:
    """The `Transport` of this machine. Keeps nothing open; safe to use from many threads."""

    def __init__(self, *, shared_account: bool, homes: Path) -> None:
        """`homes`: where the accounts' home folders lie with `shared_account`; not used without."""
        self.shared_account = shared_account
        self.homes = Path(homes).absolute()

    def run(self, command: Command, account: str) -> CommandResult:
        who = self.account(account)
        timeout = seconds_left(command.timeout)
        process = self._started(command, who)
        return process if isinstance(process, CommandResult) else _finish(process, command, timeout)

    def stream(self, command: Command, account: str) -> Generator[bytes, None, CommandResult]:
        process = self._started(command, self.account(account))
        if isinstance(process, CommandResult):
            return process
        errors = Kept(command.most_output)
        with Conversation(process, command.stdin) as talk:
            try:
                for stream, data in talk.pieces(command.timeout, streamed=True):
                    if stream == STDOUT:
                        yield data
                    else:
                        errors.add(data)
                return CommandResult(_exit_code(process, command.timeout), "", errors.text())
            except subprocess.TimeoutExpired:
                words = f"the command printed nothing for {command.timeout:g} seconds"
                raise HostTimeout(words, error_output=errors.text()) from None

    def home(self, account: str) -> str:
        return self.account(account).home

    def open_file(self, path: str, account: str, within: str) -> RemoteFile:
        who = self.account(account)
        with _file_errors(path):
            opener = _open_as if who.switch else _open_directly
            return LocalFile(opener(path, within, who))

    def list_files(self, directory: str, account: str, limit: int) -> Iterator[FileEntry]:
        who = self.account(account)
        with _file_errors(directory):
            found = (_list_as if who.switch else _list_directly)(directory, limit, who)
        return (FileEntry(path, size, datetime.fromtimestamp(ns / 1e9, UTC)) for path, size, ns in found)

    def close(self) -> None:
        """There is nothing to end."""

    def account(self, name: str) -> Account:
        """Who `name` is on this machine. Raises Forbidden where there is no such account or it is root, HostDown where
        the gateway cannot act as another."""
        if self.shared_account:
            return self._label(name)
        try:
            found = pwd.getpwnam(name)
        except (KeyError, ValueError):
            raise Forbidden(f"this host has no account {name!r}") from None
        if found.pw_uid == 0:
            raise Forbidden("nothing is run as root")
        if os.geteuid() != 0:
            raise HostDown('the gateway must run as root for accounts = "mapped"')
        groups = tuple(os.getgrouplist(name, found.pw_gid))
        shell = found.pw_shell or "/bin/sh"
        return Account(name, found.pw_uid, found.pw_gid, groups, found.pw_dir, shell, switch=True)

    def _label(self, name: str) -> Account:
        if not name or name in (".", "..") or "/" in name or "\0" in name:
            raise Forbidden(f"{name!r} is not an account name")
        home = self.homes / name
        try:
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as problem:
            raise HostDown(f"the host cannot make a home for {name!r}: {problem.strerror}") from problem
        user = pwd.getpwuid(os.geteuid())
        shell = user.pw_shell or "/bin/sh"
        return Account(user.pw_name, user.pw_uid, user.pw_gid, (), str(home), shell, switch=False)

    def _started(self, command: Command, who: Account) -> subprocess.Popen[bytes] | CommandResult:
        """The process; or what a shell answers where there is no such program."""
        try:
            return self._start(command, who)
        except (FileNotFoundError, PermissionError) as problem:
            code = 127 if isinstance(problem, FileNotFoundError) else 126
            return CommandResult(code, "", f"{command.argv[0]}: {problem.strerror}\n")
        except OSError as problem:
            raise HostDown(f"the host cannot start a command: {problem.strerror}") from problem

    def _start(self, command: Command, who: Account) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command.argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=who.home if os.path.isdir(who.home) else "/",  # noqa: PTH112
            env={**who.environment(), **command.environment},
            start_new_session=True,
            umask=0o022,
            user=who.uid if who.switch else None,
            group=who.gid if who.switch else None,
            extra_groups=who.groups if who.switch else None,
        )


def _finish(process: subprocess.Popen[bytes], command: Command, timeout: float) -> CommandResult:
    kept = {STDOUT: Kept(command.most_output), STDERR: Kept(command.most_output)}
    with Conversation(process, command.stdin) as talk:
        try:
            for stream, data in talk.pieces(timeout, streamed=command.streamed):
                kept[stream].add(data)
            code = _exit_code(process, timeout)
        except subprocess.TimeoutExpired:
            talk.kill()
            with suppress(subprocess.TimeoutExpired):  # something that left the group may hold the pipes
                for stream, data in talk.pieces(1.0):
                    kept[stream].add(data)
            raise HostTimeout(
                f"the command did not end within {timeout:.3g} seconds",
                standard_output=kept[STDOUT].text(),
                error_output=kept[STDERR].text(),
            ) from None
    return CommandResult(code, kept[STDOUT].text(), kept[STDERR].text())


def _exit_code(process: subprocess.Popen[bytes], timeout: float) -> int:
    code = process.wait(timeout)
    return code if code >= 0 else 128 - code


def _text(output: bytes) -> str:
    return output.decode("utf-8", "backslashreplace")


@contextmanager
def _file_errors(path: str) -> Iterator[None]:
    try:
        yield
    except PermissionError as problem:
        raise Forbidden(f"{path}: {problem.strerror}") from None
    except (OSError, ValueError) as problem:  # ValueError: a NUL in the path
        words = problem.strerror if isinstance(problem, OSError) else "no such file"
        raise NotFound(f"{path}: {words}") from None


def _open_directly(path: str, within: str, who: Account) -> int:
    return local_files.open_below(path, within)


def _open_as(path: str, within: str, who: Account) -> int:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.settimeout(FILE_TIMEOUT)
        helper = _helper(who, "open", str(theirs.fileno()), path, within, pass_fds=(theirs.fileno(),))
        theirs.close()
        with _ended(helper):
            return _received(ours)


def _received(channel: socket.socket) -> int:
    try:
        answer, descriptors, _, _ = socket.recv_fds(channel, 4096, 1, socket.MSG_CMSG_CLOEXEC)
    except TimeoutError:
        raise HostTimeout(f"the file could not be opened within {FILE_TIMEOUT:g} seconds") from None
    if descriptors:
        return descriptors[0]
    if not answer:
        raise HostDown("the host cannot open files as the account")
    number, words = answer.decode().split(" ", 1)
    raise OSError(int(number), words)


def _list_directly(directory: str, limit: int, who: Account) -> list[tuple[str, int, int]]:
    return list(local_files.walk(directory, limit))


def _list_as(directory: str, limit: int, who: Account) -> list[tuple[str, int, int]]:
    helper = _helper(who, "list", directory, str(limit))
    with _ended(helper):
        try:
            out, err = helper.communicate(timeout=FILE_TIMEOUT)
        except subprocess.TimeoutExpired:
            words = f"the folder could not be listed within {FILE_TIMEOUT:g} seconds"
            raise HostTimeout(words) from None
    if helper.returncode == 1 and err[:1].isdigit():
        number, words = err.decode().split(" ", 1)
        raise OSError(int(number), words)
    if helper.returncode:
        raise _broken_helper(err)
    cells = out.split(b"\0")[:-1]
    rows = zip(cells[::3], cells[1::3], cells[2::3], strict=True)
    return [(os.fsdecode(path), int(size), int(mtime)) for path, size, mtime in rows]


def _broken_helper(err: bytes) -> JobgateError:
    problem = HostDown("the host cannot list files as the account")
    problem.add_note(_text(err))
    return problem


def _helper(who: Account, *arguments: str, pass_fds: tuple[int, ...] = ()) -> subprocess.Popen[bytes]:
    """Started as root, since the account may be unable to reach the gateway's Python; its first act is to become the
    account."""
    groups = ",".join(map(str, who.groups))
    program = (sys.executable, "-I", "-S", local_files.__file__, str(who.uid), str(who.gid), groups)
    environment: Mapping[str, str] = {"PATH": PATH, "LANG": "C.UTF-8"}
    return subprocess.Popen(
        (*program, *arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd="/",
        env=environment,
        start_new_session=True,
        pass_fds=pass_fds,
    )


@contextmanager
def _ended(helper: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        helper.kill()
        raise
    finally:
        for pipe in (helper.stdout, helper.stderr):
            if pipe:
                pipe.close()
        helper.wait()
