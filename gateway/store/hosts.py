"""What the gateways know together about each host's health, and the lease that says which of them may ask it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import and_, or_, select, update

from gateway.store.database import Database, insert_unless_there
from gateway.store.tables import hosts


@dataclass(frozen=True, slots=True)
class HostRecord:
    """Times are UTC; `next_poll` in seconds of the epoch; `info` is a ClusterInfo as JSON, as of `info_at`."""

    name: str
    failures: int = 0
    next_poll: float = 0.0
    last_success: datetime | None = None
    last_error: str | None = None
    last_error_at: datetime | None = None
    info: Mapping[str, Any] | None = None
    info_at: datetime | None = None


RECENT_SECONDS = 0.5
COLUMNS = [hosts.c[declared.name] for declared in fields(HostRecord)]


class HostStore:
    """One record per host that was ever asked."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._recent: tuple[float, dict[str, HostRecord]] = (-RECENT_SECONDS, {})

    def get(self, name: str) -> HostRecord:
        """A blank record where nobody has asked the host yet."""
        return self.all().get(name, HostRecord(name))

    def all(self) -> dict[str, HostRecord]:
        with self.database.reading() as connection:
            return {row.name: HostRecord(**row._mapping) for row in connection.execute(select(*COLUMNS))}

    def recently(self) -> dict[str, HostRecord]:
        """As `all`, at most half a second old: for answers that only mention a host in passing."""
        read_at, records = self._recent
        if time.monotonic() - read_at > RECENT_SECONDS:
            records = self.all()
            self._recent = (time.monotonic(), records)
        return records

    def take_lease(self, name: str, holder: str, at: float, seconds: float, horizon: float = 600.0) -> bool:
        """Whether `holder` may ask this host now: its next poll is due and nobody else holds the lease. A time further
        ahead than `horizon` seconds was written by a clock that has been put back since, and holds nobody up."""
        ahead = at + horizon
        asked_for = or_(hosts.c.next_poll <= at, hosts.c.next_poll > ahead)
        free = or_(hosts.c.holder.is_(None), hosts.c.lease_until <= at, hosts.c.lease_until > ahead)
        due = and_(asked_for, free)
        with self.database.reading() as connection:
            known = connection.execute(select(due).where(hosts.c.name == name)).one_or_none()
        if known is not None and not known[0]:
            return False  # the common case costs no write
        with self.database.writing() as connection:
            if known is None:
                row = {"name": name, "lease_until": 0.0, "next_poll": 0.0, "failures": 0}
                insert_unless_there(connection, hosts, row)
            query = update(hosts).where(hosts.c.name == name, due).values(holder=holder, lease_until=at + seconds)
            return connection.execute(query).rowcount == 1

    def hurry(self, name: str, at: float) -> None:
        """Let a host that is well be asked no later than `at`. A host that fails is left alone as before."""
        query = update(hosts).where(hosts.c.name == name, hosts.c.failures == 0, hosts.c.next_poll > at)
        with self.database.writing() as connection:
            connection.execute(query.values(next_poll=at))

    def renew_lease(self, name: str, holder: str, until: float) -> bool:
        """Keep a lease that is held; False, and nothing done, where somebody else has taken it meanwhile."""
        query = update(hosts).where(hosts.c.name == name, hosts.c.holder == holder).values(lease_until=until)
        with self.database.writing() as connection:
            return connection.execute(query).rowcount == 1

    def end_lease(self, name: str, holder: str, **values: Any) -> None:
        """Give the lease back and write what was learnt; nothing where somebody else has taken it meanwhile."""
        query = update(hosts).where(hosts.c.name == name, hosts.c.holder == holder).values(holder=None, **values)
        with self.database.writing() as connection:
            connection.execute(query)
