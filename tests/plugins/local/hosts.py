"""A host with the backend `local` in a folder, and its end: no test leaves a process behind."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from gateway.backend import HostContext
from gateway.errors import JobgateError
from gateway.transport.local import LocalTransport
from gateway_plugins.local import LocalBackend, LocalOptions


def backend(folder: Path, *, slots: int = 4, shared: bool = True) -> LocalBackend:
    transport = LocalTransport(shared_account=shared, homes=folder / "homes")
    return LocalBackend(
        HostContext("localhost", LocalOptions(slots), transport, folder / "spool", shared_account=shared)
    )


@contextmanager
def running(folder: Path, *, slots: int = 4, shared: bool = True) -> Iterator[LocalBackend]:
    local = backend(folder, slots=slots, shared=shared)
    try:
        yield local
    finally:
        clear(local, folder)
        local.close()


def clear(local: LocalBackend, folder: Path) -> None:
    """Abort every job, and wait until no supervisor is left."""
    deadline = time.monotonic() + 30
    while supervisors(folder):
        with suppress(JobgateError):
            for number, account in alive(folder):
                local.control("abort", str(number), account)
            local.query({}, None)
        assert time.monotonic() < deadline, "supervisors do not end"
        time.sleep(0.05)


def rows(folder: Path, query: str) -> list[tuple]:
    file = folder / "spool" / "spool.sqlite"
    if not file.is_file():
        return []
    with closing(sqlite3.connect(file, timeout=30)) as connection:
        return connection.execute(query).fetchall()


def alive(folder: Path) -> list[tuple[int, str]]:
    return rows(folder, "SELECT id, account FROM jobs WHERE ended_at IS NULL")


def supervisors(folder: Path) -> list[int]:
    """Pids of the living ones, as the machine tells it."""
    spool = str(folder / "spool").encode()
    numbers = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [number for number in numbers if _supervises(number, spool)]


def _supervises(pid: int, spool: bytes) -> bool:
    with suppress(OSError):
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return arguments[-2:-1] == [spool] and b"supervisor.py" in arguments[-3]
    return False


def change(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / "spool" / "spool.sqlite", timeout=30)) as connection:
        connection.execute(statement)
        connection.commit()
