"""Rows that say which job waits for which."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from gateway.dependencies import Upstream
from gateway.model import DependencyType
from gateway.store.tables import dependencies, jobs

UPSTREAM = jobs.alias("upstream")
COLUMNS = [
    dependencies.c.number,
    dependencies.c.type,
    dependencies.c.uuid,
    *(UPSTREAM.c[name] for name in ("job_id", "host", "native_id", "state", "start_time")),
]
JOINED = dependencies.outerjoin(UPSTREAM, UPSTREAM.c.uuid == dependencies.c.uuid)


def write_dependencies(connection: Connection, number: int, wanted: Iterable[tuple[str, DependencyType]]) -> None:
    """The jobs, by uuid, that this one waits for, in place of those that it waited for."""
    connection.execute(delete(dependencies).where(dependencies.c.number == number))
    if rows := [{"number": number, "uuid": uuid, "type": kind.value} for uuid, kind in dict.fromkeys(wanted)]:
        connection.execute(insert(dependencies), rows)


def upstreams(connection: Connection, condition: Any) -> dict[int, list[Upstream]]:
    """What jobs wait for, by their numbers."""
    found: dict[int, list[Upstream]] = defaultdict(list)
    for number, kind, *rest in connection.execute(select(*COLUMNS).select_from(JOINED).where(condition)):
        found[number].append(Upstream(DependencyType(kind), *rest))
    return found
