"""Opening and listing files so that no link and no race leads out of a folder.

Used in two ways: imported where the gateway's own rights are meant, and run as a program that first becomes another
account (`python -I -S local_files.py ...`, see `main`), so that root's rights never open a user's file. It starts in
10 ms because it imports next to nothing: `socket` alone would cost as much again. All imports come first, since the
account may be unable to reach the gateway's Python.
"""

import _socket
import os
import stat
import sys
from collections.abc import Iterator
from errno import ELOOP

DEPTH = 200


def open_below(path: str, within: str) -> int:
    """A descriptor of the regular file `path`, for reading. It must lie below `within` after every link is followed.

    Raises PermissionError where it does not, FileNotFoundError where it is no regular file, else the system's OSError.
    """
    folder = os.open(within, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # O_PATH touches neither FIFOs nor devices, and what is checked is the thing itself, not its name
        found = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            _check(found, folder)
            return os.open(_link(found), os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        finally:
            os.close(found)
    finally:
        os.close(folder)


def _check(found: int, folder: int) -> None:
    if not _name(found).startswith(_name(folder).rstrip("/") + "/"):
        raise PermissionError(1, "leads out of the job's folder")
    if not stat.S_ISREG(os.fstat(found).st_mode):
        raise FileNotFoundError(2, "is not a regular file")


def _name(descriptor: int) -> str:
    return os.readlink(_link(descriptor))  # noqa: PTH115 - pathlib takes as long to import as all the rest


def _link(descriptor: int) -> str:
    return f"/proc/self/fd/{descriptor}"


def walk(directory: str, limit: int) -> Iterator[tuple[str, int, int]]:
    """(path below `directory`, bytes, mtime in ns) of its regular files, sorted by path, at most `limit`. Links are
    left out, and so are folders that cannot be read or lie more than DEPTH deep."""
    top = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for count, entry in enumerate(_walk(top, "", DEPTH)):
        if count >= limit:
            return
        yield entry


def _walk(folder: int, prefix: str, depth: int) -> Iterator[tuple[str, int, int]]:
    try:
        for name in sorted(_names(folder)):
            if not name.endswith("/"):
                yield from _regular(folder, name, prefix)
            elif depth and (inner := _enter(folder, name)) is not None:
                yield from _walk(inner, prefix + name, depth - 1)
    finally:
        os.close(folder)


def _names(folder: int) -> Iterator[str]:
    """Files and folders; these end in "/", which puts what they hold where its whole path belongs in the order."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield entry.name + "/"
            elif entry.is_file(follow_symlinks=False):
                yield entry.name


def _regular(folder: int, name: str, prefix: str) -> Iterator[tuple[str, int, int]]:
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    if stat.S_ISREG(status.st_mode):
        yield prefix + name, status.st_size, status.st_mtime_ns


def _enter(folder: int, name: str) -> int | None:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(name.rstrip("/"), flags, dir_fd=folder)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    except OSError as problem:
        if problem.errno == ELOOP:
            return None
        raise


def main(arguments: list[str]) -> None:
    """`<uid> <gid> <group,group,...> open <socket> <path> <within>`: sends the descriptor, or errno and words.
    `<uid> <gid> <group,group,...> list <directory> <limit>`: prints path, size and mtime, each ended by a NUL."""
    uid, gid, groups, task, *rest = arguments
    os.setgroups([int(group) for group in groups.split(",")])
    os.setgid(int(gid))
    os.setuid(int(uid))
    if task == "open":
        _send(int(rest[0]), rest[1], rest[2])
    else:
        _print(rest[0], int(rest[1]))


def _send(channel: int, path: str, within: str) -> None:
    connection = _socket.socket(fileno=channel)
    try:
        descriptor = open_below(path, within)
    except OSError as problem:
        connection.send(f"{problem.errno} {problem.strerror}".encode())
    else:
        rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, descriptor.to_bytes(4, sys.byteorder))
        connection.sendmsg([b"0 "], [rights])


def _print(directory: str, limit: int) -> None:
    try:
        for path, size, mtime in walk(directory, limit):
            sys.stdout.buffer.write(b"%s\0%d\0%d\0" % (os.fsencode(path), size, mtime))
    except OSError as problem:
        sys.stderr.write(f"{problem.errno} {problem.strerror}")
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
