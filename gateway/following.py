"""Following a log while its job, or a task of it, runs.

The file is asked for what is new twice a second. What state the followed jobs and tasks are in, the database is asked
once a second for all of a process together, however many follow.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from gateway.errors import HostDown, HostTimeout, NotFound
from gateway.model import Job
from gateway.store import Repository
from gateway.transport import RemoteFile

CHUNK = 1 << 18
FILE_SECONDS = 0.5
LOOK_SECONDS = 1.0
TRIES = 20  # of a host that does not answer, before its followers are sent away


@dataclass(frozen=True, slots=True)
class Followed:
    """A job whose log is followed, or one of its tasks, and whether that has ended."""

    job: Job
    ended: bool


class Watch:
    """What the followed jobs and tasks of a process are like. Safe to use from many threads."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self.alive: Callable[[], bool] = lambda: True  # false when the process is told to go
        self.lock = threading.Lock()
        self.followed: Counter[tuple[int, int]] = Counter()  # number of the job, task of an array or 0
        self.known: dict[tuple[int, int], Followed] = {}
        self.looked_at = time.monotonic()

    @contextmanager
    def following(self, job: Job, task: int = 0) -> Iterator[Callable[[], Followed | None]]:
        """Gives what tells how the job is now, or that task of it; None where it was deleted."""
        key = (job.number, task)
        with self.lock:
            self.followed[key] += 1
            self.known.setdefault(key, Followed(job, False))
        try:
            yield lambda: self._look(key)
        finally:
            with self.lock:
                self.followed -= Counter([key])

    def _look(self, key: tuple[int, int]) -> Followed | None:
        with self.lock:
            if time.monotonic() - self.looked_at >= LOOK_SECONDS:
                self.known = self._now([*self.followed])
                self.looked_at = time.monotonic()
            return self.known.get(key)

    def _now(self, keys: list[tuple[int, int]]) -> dict[tuple[int, int], Followed]:
        jobs = self.repository.jobs_by_number([*{number for number, _ in keys}])
        tasks = self.repository.states_of_tasks([key for key in keys if key[1]])
        return {
            key: Followed(jobs[key[0]], (tasks.get(key) or jobs[key[0]].state).final) for key in keys if key[0] in jobs
        }


def follow(
    watch: Watch,
    job: Job,
    task: int,
    opened: Callable[[Job], RemoteFile],
    start: Callable[[RemoteFile], int],
    gone: Callable[[], bool],
) -> Iterator[bytes]:
    """What is in the log from `start` on, and what is written to it until the job is final, or its `task` where that is
    not 0. The file may not be there yet. Ends also when the client is `gone`.

    Raises as `opened` does where the file may not be read, HostDown where the host does not answer for long."""
    with watch.following(job, task) as look:
        log = _Log(opened, start)
        try:
            while not gone() and watch.alive():
                now = look()  # before the file: what was written until then is still read
                yield from log.news(now.job if now else job)
                if now is None or (now.ended and not log.failures):
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
