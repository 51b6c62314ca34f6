"""Notifications that are still to be delivered. A row is written together with the change of state that it tells of,
and goes when it was delivered or given up, so a notification is told at least once whatever is killed meanwhile.
"""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import delete, insert, or_, select, update

from gateway.model import Job, JobState
from gateway.store.database import Database, now
from gateway.store.tables import events, jobs, outbox


@dataclass(frozen=True, slots=True)
class Delivery:
    """A notification to be sent. `created` in seconds of the epoch; `tries` are those that failed."""

    id: str
    number: int
    url: str
    body: str
    created: float
    tries: int


COLUMNS = [outbox.c[declared.name] for declared in fields(Delivery)]


def notification(job: Job, at: datetime) -> dict[str, Any]:
    """The row that tells of a job's end. The last two names are those of the MODAClouds batch engine."""
    body = {
        "job_id": job.job_id,
        "uuid": job.uuid,
        "status": job.state.status,
        "state": job.state,
        "exit_code": job.exit_code,
        "job-uuid": job.uuid,
        "retcode": job.exit_code,
    }
    seconds = at.timestamp()
    return {
        "id": str(uuid.uuid4()),
        "number": job.number,
        "url": job.notify,
        "body": json.dumps(body),
        "created": seconds,
        "next_try": seconds,
        "tries": 0,
        "lease_until": 0.0,
    }


class Outbox:
    """The notifications of all jobs. Several gateways may take from it; each delivery is one's at a time."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def take(self, holder: str, at: float, seconds: float, most: int) -> list[Delivery]:
        """At most `most` deliveries that are due, leased to `holder` for so many seconds."""
        # A lease further ahead than it may be was given by a clock that has been put back since.
        free = or_(outbox.c.holder.is_(None), outbox.c.lease_until <= at, outbox.c.lease_until > at + 10 * seconds)
        due = select(outbox.c.id).where(outbox.c.next_try <= at, free).order_by(outbox.c.next_try).limit(most)
        with self.database.reading() as connection:
            ids = connection.execute(due).scalars().all()
        if not ids:
            return []  # the common case costs no write
        with self.database.writing() as connection:
            mine = {"holder": holder, "lease_until": at + seconds}
            connection.execute(update(outbox).where(outbox.c.id.in_(ids), free).values(**mine))
            query = select(*COLUMNS).where(outbox.c.id.in_(ids), outbox.c.holder == holder)
            return [Delivery(*row) for row in connection.execute(query)]

    def done(self, delivery: Delivery, words: str) -> None:
        """It was delivered, or given up: write that into the job's history, and forget it."""
        with self.database.writing() as connection:
            if connection.execute(delete(outbox).where(outbox.c.id == delivery.id)).rowcount:
                self._tell(connection, delivery, words)

    def again(self, delivery: Delivery, next_try: float, words: str) -> None:
        """It failed, and is to be tried again."""
        values = {"tries": delivery.tries + 1, "next_try": next_try, "holder": None}
        with self.database.writing() as connection:
            if connection.execute(update(outbox).where(outbox.c.id == delivery.id).values(**values)).rowcount:
                self._tell(connection, delivery, words)

    @staticmethod
    def _tell(connection: Any, delivery: Delivery, words: str) -> None:
        state: JobState = connection.execute(select(jobs.c.state).where(jobs.c.number == delivery.number)).scalar_one()
        event: Mapping[str, Any] = {
            "number": delivery.number,
            "at": now(),
            "state": state,
            "before": state,
            "reason": words,
            "kind": "notification",
        }
        connection.execute(insert(events).values(**event))
