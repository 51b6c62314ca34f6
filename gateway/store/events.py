"""Reads what happened to all jobs, in the order of its numbers: for those who listen."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, text

from gateway.model import JobState
from gateway.store.database import Database
from gateway.store.tables import events, jobs

PAGE = 1000
COLUMNS = (events.c.id, events.c.number, jobs.c.uuid, jobs.c.job_id, jobs.c.owner, events.c.kind)
QUERY = (
    select(*COLUMNS, events.c.state, events.c.before, events.c.at)
    .join(jobs, jobs.c.number == events.c.number)
    .order_by(events.c.id)
    .limit(PAGE)
)


@dataclass(frozen=True, slots=True)
class JobEvent:
    """A line of some job's history. `kind` is "job" for a change of its state."""

    id: int
    number: int
    uuid: str
    job_id: str
    owner: str
    kind: str
    state: JobState
    before: JobState | None
    at: datetime


class EventLog:
    """What happened, to whichever job."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def newest(self) -> int:
        """The greatest number that is settled: none up to it will still appear. 0 where nothing has happened."""
        with self.database.reading() as connection:
            if not self.database.sqlite:
                # Waits for the transactions that took a number and have not committed it yet.
                connection.execute(text("LOCK TABLE events IN SHARE MODE"))
            return connection.execute(select(func.max(events.c.id))).scalar() or 0

    def after(self, number: int, owner: str | None = None) -> list[JobEvent]:
        """At most a page of what has a greater number, of one owner or of everybody."""
        query = QUERY.where(events.c.id > number)
        if owner is not None:
            query = query.where(jobs.c.owner == owner)
        with self.database.reading() as connection:
            return [JobEvent(*row) for row in connection.execute(query)]

    def in_flight(self) -> tuple[int, int] | None:
        """The oldest transaction that has not ended and the next one to begin (PostgreSQL, pg_current_snapshot()). None
        where writers come one after the other, so that numbers appear in their order."""
        if self.database.sqlite:
            return None
        now = "pg_snapshot_xmin(s)::text::bigint, pg_snapshot_xmax(s)::text::bigint"
        with self.database.reading() as connection:
            row = connection.execute(text(f"SELECT {now} FROM pg_current_snapshot() AS s")).one()
        return row[0], row[1]
