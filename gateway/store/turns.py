"""Writers of a SQLite database take turns: SQLite's own waiters sleep longer and longer while others overtake them. Of
submits by 16 clients to two workers, the slowest hundredth took 0.5 to 2 s without this, and takes 0.2 to 0.4 s."""

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.errors import HostDown

LOOK_AGAIN = 0.001  # seconds; flock itself would wait without an end for a process that is stopped


class Turns:
    """A lock of this process's threads, then one of the machine's processes on a file beside the database. The kernel
    gives it back when its holder is killed."""

    def __init__(self, database: Path, patience: float) -> None:
        self.file = database.with_name(f"{database.name}-turn")
        self.patience = patience
        self.lock = threading.Lock()

    @contextmanager
    def take(self) -> Iterator[None]:
        """Raises HostDown where the turn does not come, or the file cannot be made."""
        end = time.monotonic() + self.patience
        if not self.lock.acquire(timeout=self.patience):
            raise _too_slow()
        try:
            descriptor = self._open()
            try:
                while not _locked(descriptor):
                    if time.monotonic() > end:
                        raise _too_slow()
                    time.sleep(LOOK_AGAIN)
                yield
            finally:
                os.close(descriptor)
        finally:
            self.lock.release()

    def _open(self) -> int:
        try:
            return os.open(
                self.file, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644
            )  # whoever made it, all can lock it
        except OSError as problem:
            raise HostDown(f"the gateway's database cannot be written: {self.file}: {problem.strerror}") from None


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _too_slow() -> HostDown:
    return HostDown("the gateway's database does not answer: another process does not end its turn")
