"""Following a log while its job runs.

The file is asked for what is new twice a second. What state the followed jobs are in, the database is asked once a
second for all of a process together, however many follow.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from gateway.errors import HostDown, HostTimeout, NotFound
from gateway.model import Job
from gateway.store import Repository
from gateway.transport import RemoteFile

CHUNK = 1 << 18
FILE_SECONDS = 0.5
LOOK_SECONDS = 1.0
TRIES = 20  # of a host that does not answer, before its followers are sent away


class Watch:
    """What the followed jobs of a process are like. Safe to use from many threads."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self.alive: Callable[[], bool] = lambda: True  # false when the process is told to go
        self.lock = threading.Lock()
        self.followed: Counter[int] = Counter()
        self.known: dict[int, Job] = {}
        self.looked_at = time.monotonic()

    @contextmanager
    def following(self, job: Job) -> Iterator[Callable[[], Job | None]]:
        """Gives what tells how the job is now; None where it was deleted."""
        with self.lock:
            self.followed[job.number] += 1
            self.known[job.number] = job
        try:
            yield lambda: self._look(job.number)
        finally:
            with self.lock:
                self.followed -= Counter([job.number])

    def _look(self, number: int) -> Job | None:
        with self.lock:
            if time.monotonic() - self.looked_at >= LOOK_SECONDS:
                self.known = self.repository.jobs_by_number(list(self.followed))
                self.looked_at = time.monotonic()
            return self.known.get(number)


def follow(
    watch: Watch,
    job: Job,
    opened: Callable[[Job], RemoteFile],
    start: Callable[[RemoteFile], int],
    gone: Callable[[], bool],
) -> Iterator[bytes]:
    """What is in the log from `start` on, and what is written to it until the job is final, its file may not be there
    yet. Ends also when the client is `gone`.

    Raises as `opened` does where the file may not be read, HostDown where the host does not answer for long."""
    with watch.following(job) as look:
        log = _Log(opened, start)
        try:
            while not gone() and watch.alive():
                now = look()  # before the file: what was written until then is still read
                yield from log.news(now or job)
                if now is None or (now.state.final and not log.failures):
                    return
                time.sleep(FILE_SECONDS)
        finally:
            log.close()


class _Log:
    """A file that grows, or is not there yet."""

    def __init__(self, opened: Callable[[Job], RemoteFile], start: Callable[[RemoteFile], int]) -> None:
        self.opened = opened
        self.start = start
        self.file: RemoteFile | None = None
        self.at: int | None = None
        self.failures = 0

    def news(self, job: Job) -> Iterator[bytes]:
        """What was written since."""
        try:
            if self.file is None:
                self._open(job)
            while self.file and (data := self.file.read(self.at or 0, CHUNK)):
                self.at = (self.at or 0) + len(data)
                yield data
            self.failures = 0
        except NotFound:
            self.failures = 0
        except (HostDown, HostTimeout):
            self.close()
            self.failures += 1
            if self.failures >= TRIES:
                raise

    def _open(self, job: Job) -> None:
        file = self.opened(job)
        try:
            self.at = self.start(file) if self.at is None else self.at
        except BaseException:
            file.close()
            raise
        self.file = file

    def close(self) -> None:
        file, self.file = self.file, None
        if file:
            with suppress(HostDown, HostTimeout):
                file.close()
