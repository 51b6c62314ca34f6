"""How busy each host was: how many jobs waited and ran there, and ended since the line before. A line a minute, for a
week."""

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, insert, or_, select

from gateway.model import FINAL_STATES, STATUS_OF, JobState
from gateway.store.database import Database
from gateway.store.events import EventLog
from gateway.store.tables import events, host_history, jobs

EVERY = timedelta(seconds=60)
KEPT = timedelta(days=7)
LIVE = [state for state in JobState if not state.final and state != JobState.DRAFT]
LAST = select(host_history.c.at, host_history.c.event).order_by(host_history.c.at.desc()).limit(1)
COLUMNS = [host_history.c[name] for name in ("at", "queued", "running", "finished", "aborted", "failed")]


@dataclass(frozen=True, slots=True)
class Sample:
    """Jobs of everybody on a host: how many waited and ran at that time, and how many ended since the sample before."""

    at: datetime
    queued: int
    running: int
    finished: int = 0
    aborted: int = 0
    failed: int = 0


class HostHistory:
    """The samples of all hosts."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.events = EventLog(database)

    def record(self, host: str, at: datetime) -> None:
        """Write down how things stand, where it is time. For whoever holds the host's lease: one at a time."""
        with self.database.reading() as connection:
            last = connection.execute(LAST.where(host_history.c.host == host)).one_or_none()
        if last and abs(at - last.at) < EVERY:
            return
        newest = self.events.newest()
        sample = self.now(host, at)
        ended = self._ended(host, last.event, newest) if last else {}
        names = {"finished": "FINISHED", "aborted": "ABORTED", "failed": "ERROR"}
        row = {"host": host, "at": at, "queued": sample.queued, "running": sample.running, "event": newest}
        row |= {name: ended.get(status, 0) for name, status in names.items()}
        out_of_time = or_(host_history.c.at < at - KEPT, host_history.c.at > at + KEPT)  # a clock that was put back
        with self.database.writing() as connection:
            connection.execute(delete(host_history).where(host_history.c.host == host, out_of_time))
            connection.execute(insert(host_history).values(**row))

    def now(self, host: str, at: datetime) -> Sample:
        """How things stand."""
        query = select(jobs.c.state, func.count()).where(jobs.c.host == host, jobs.c.state.in_(LIVE))
        with self.database.reading() as connection:
            counts = _by_status(connection.execute(query.group_by(jobs.c.state)))
        return Sample(at, counts.get("QUEUED", 0), counts.get("RUNNING", 0))

    def since(self, host: str, start: datetime) -> list[Sample]:
        """The samples of a host from then on, the oldest first."""
        query = select(*COLUMNS).where(host_history.c.host == host, host_history.c.at >= start)
        with self.database.reading() as connection:
            return [Sample(*row) for row in connection.execute(query.order_by(host_history.c.at))]

    def _ended(self, host: str, after: int, newest: int) -> dict[str, int]:
        """How many jobs ended with an event of such a number, by status."""
        before = or_(events.c.before.is_(None), events.c.before.not_in(FINAL_STATES))
        query = (
            select(events.c.state, func.count())
            .join(jobs, jobs.c.number == events.c.number)
            .where(events.c.id > after, events.c.id <= newest, events.c.kind == "job", jobs.c.host == host)
            .where(events.c.state.in_(FINAL_STATES), before)
            .group_by(events.c.state)
        )
        with self.database.reading() as connection:
            return _by_status(connection.execute(query))


def thinned(samples: Iterable[Sample], seconds: float) -> list[Sample]:
    """One sample for each span of so many seconds: how things stood at its end, and all that ended in it."""
    kept: list[Sample] = []
    for sample in samples:
        if kept and kept[-1].at.timestamp() // seconds == sample.at.timestamp() // seconds:
            ended = [sum(pair) for pair in zip(astuple(kept.pop())[3:], astuple(sample)[3:], strict=True)]
            sample = Sample(sample.at, sample.queued, sample.running, *ended)
        kept.append(sample)
    return kept


def _by_status(rows: Iterable[Sequence[Any]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for state, count in rows:
        counts[STATUS_OF[state]] = counts.get(STATUS_OF[state], 0) + count
    return counts
