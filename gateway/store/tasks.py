"""Rows of the tasks of arrays, and what of an array's own row follows from them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Connection, Update, bindparam, func, insert, select, update

from gateway.model import Job, Task
from gateway.news import Tally, array_columns
from gateway.store.tables import tasks

TASK_COLUMNS = [tasks.c[name] for name in Task._fields]
INSERT_TASK = insert(tasks)


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which tasks a list shows: `states` (empty: any), with a number above `after`, at most `limit` (None: all)."""

    states: Sequence[str] = ()
    after: int = 0
    limit: int | None = None


def task_conditions(wanted: TaskFilter) -> list[Any]:
    where = [tasks.c.task_id > wanted.after]
    return [*where, tasks.c.state.in_(wanted.states)] if wanted.states else where


def add_tasks(connection: Connection, job: Job, numbers: Iterable[int]) -> None:
    """The tasks of an array that has just been handed over, in its state."""
    if rows := [{"number": job.number, "task_id": number, "state": job.state} for number in numbers]:
        connection.execute(INSERT_TASK, rows)


def write_tasks(connection: Connection, number: int, changes: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Write new columns of tasks, each with its `task_id`. Gives the columns of the array that follow."""
    alike: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for values in changes:
        names = tuple(sorted(values.keys() - {"task_id"}))
        new = {f"new_{name}": values[name] for name in names}
        alike[names].append({"of": number, "which": values["task_id"], **new})
    for names, rows in alike.items():
        connection.execute(_update(names), rows)
    return array_columns(_tally(connection, number))


@cache
def _update(names: tuple[str, ...]) -> Update:
    which = (tasks.c.number == bindparam("of"), tasks.c.task_id == bindparam("which"))
    return update(tasks).where(*which).values({name: bindparam(f"new_{name}") for name in names})


def _tally(connection: Connection, number: int) -> Tally:
    extremes = (func.min(tasks.c.start_time), func.max(tasks.c.end_time), func.max(tasks.c.exit_code))
    query = select(tasks.c.state, func.count(), *extremes).where(tasks.c.number == number).group_by(tasks.c.state)
    rows = connection.execute(query).all()
    starts, ends, codes = ([value for row in rows if (value := row[at]) is not None] for at in (2, 3, 4))
    counts = {row[0]: row[1] for row in rows}
    return Tally(counts, min(starts, default=None), max(ends, default=None), max(codes, default=None))
