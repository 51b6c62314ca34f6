"""Reads and writes jobs and their history. What a caller may see is decided by the `owner` that it passes."""

import base64
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from functools import cache
from types import MappingProxyType
from typing import Any

from sqlalchemy import (
    JSON,
    Connection,
    Row,
    Text,
    Update,
    and_,
    bindparam,
    case,
    cast,
    collate,
    delete,
    false,
    func,
    insert,
    literal,
    or_,
    select,
    tuple_,
    update,
)

from gateway.dependencies import Upstream
from gateway.errors import NotFound, Unprocessable
from gateway.model import FINAL_STATES, DependencyType, Job, JobState, LiveJob, Task
from gateway.store.database import Database, insert_unless_there, now
from gateway.store.dependencies import upstreams, write_dependencies
from gateway.store.outbox import notification
from gateway.store.tables import (
    BEGIN,
    begin_of_tag,
    dependencies,
    events,
    idempotency_keys,
    jobs,
    outbox,
    scripts,
    tasks,
)
from gateway.store.tasks import TASK_COLUMNS, TaskFilter, add_tasks, task_conditions, write_tasks

JOB_COLUMNS = [jobs.c[declared.name] for declared in fields(Job)]
# Built once: making such a statement takes longer than running it.
BY_JOB_ID, BY_UUID = (
    select(*JOB_COLUMNS).where(column == bindparam("ident")).order_by(jobs.c.number.desc())
    for column in (jobs.c.job_id, jobs.c.uuid)
)
INSERT_JOB = insert(jobs).returning(jobs.c.number)
INSERT_SCRIPT, INSERT_EVENT, INSERT_NOTIFICATION = insert(scripts), insert(events), insert(outbox)
LIVE_COLUMNS = [jobs.c[name] for name in LiveJob._fields]
LIVE = [*(set(JobState) - FINAL_STATES - {JobState.DRAFT}), JobState.LOST]
LARGEST_NUMBER = 2**63 - 1
# What is known of a job only once it was submitted.
OF_A_RUN = (
    *("native_id", "native_state", "reason", "exit_code", "signal", "as_of", "submitted_at", "start_time", "end_time"),
    *("nodes", "cores", "stdout_file", "stderr_file"),
)
NEWEST = 10_000  # what a list without a limit gives

# Field of `sort=` → its column and what stands for "none" there, so that a cursor can compare.
SORTS: Mapping[str, tuple[Any, Any]] = {
    "number": (jobs.c.number, 0),
    "created_at": (jobs.c.created_at, None),
    "updated_at": (jobs.c.updated_at, None),
    "name": (jobs.c.name, ""),
    "host": (jobs.c.host, ""),
    "state": (jobs.c.state, ""),
    "tag": (jobs.c.tag, ""),
    "queue": (jobs.c.queue, ""),
}


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs a list shows. None and empty: any. `owner` None: everybody's. `properties` are paths into
    extended_properties, each with the value there as text. `sort` is a key of SORTS, with "-" in front for the other
    direction."""

    owner: str | None
    tag: str | None = None
    states: Sequence[str] = ()
    host: str | None = None
    name: str | None = None
    queue: str | None = None
    job_ids: Sequence[str] = ()
    numbers: Sequence[int] = ()
    since: datetime | None = None
    until: datetime | None = None
    q: str | None = None
    properties: Sequence[tuple[Sequence[str], str]] = ()
    sort: str = "-number"
    limit: int = NEWEST
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """A page of jobs, how many there are in all, and the cursor of the next page (None on the last)."""

    jobs: list[Job]
    total: int
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job."""

    id: int
    number: int
    at: datetime
    state: JobState
    before: JobState | None
    reason: str | None
    kind: str = "job"


EVENT_COLUMNS = [events.c[declared.name] for declared in fields(Event)]


class KeyTaken(Exception):
    """The idempotency key stands for another request already. Holds what it stands for."""

    def __init__(self, body_hash: str, uuid: str) -> None:
        super().__init__("idempotency key taken")
        self.body_hash = body_hash
        self.uuid = uuid


class Repository:
    """Jobs, their scripts and their history. Safe to use from many threads and processes."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def add_job(
        self,
        values: Mapping[str, Any],
        script: str,
        key: tuple[str, str] | None = None,
        waits_for: Iterable[tuple[str, DependencyType]] = (),
    ) -> Job:
        """Commit a new job. `values` are its columns without number and times; `key` is (idempotency key, hash of the
        body), `waits_for` the jobs that it depends on, by uuid. Raises KeyTaken."""
        at = now()
        with self.database.writing() as connection:
            if key:
                self._take_key(connection, values["owner"], key, values["uuid"], at)
            row = {"stale": False, "warnings": [], **values, "created_at": at, "updated_at": at}
            number = connection.execute(INSERT_JOB, {**row, "job_id": values["uuid"]}).scalar_one()
            connection.execute(INSERT_SCRIPT, {"number": number, "script": script})
            write_dependencies(connection, number, waits_for)
            job = Job(number=number, **row)
            connection.execute(INSERT_EVENT, _event(job, None, at))
            return job

    def _take_key(self, connection: Connection, owner: str, key: tuple[str, str], uuid: str, at: datetime) -> None:
        row = {"owner": owner, "key": key[0], "body_hash": key[1], "uuid": uuid, "created_at": at}
        if not insert_unless_there(connection, idempotency_keys, row):
            raise self._key(connection, owner, key[0]) or KeyTaken("", "")

    def key(self, owner: str, key: str) -> KeyTaken | None:
        """What an idempotency key stands for, if for anything."""
        with self.database.reading() as connection:
            return self._key(connection, owner, key)

    @staticmethod
    def _key(connection: Connection, owner: str, key: str) -> KeyTaken | None:
        query = select(idempotency_keys.c.body_hash, idempotency_keys.c.uuid).where(
            idempotency_keys.c.owner == owner, idempotency_keys.c.key == key
        )
        row = connection.execute(query).one_or_none()
        return KeyTaken(*row) if row else None

    def job(self, ident: str | int, owner: str | None) -> Job | None:
        """The job with this job_id or uuid, the newest of that name, or with this number. `owner` None: anybody's."""
        if isinstance(ident, int):
            numbered = self.jobs_by_number([ident]) if 0 < ident <= LARGEST_NUMBER else {}
            return next((job for job in numbered.values() if owner in (None, job.owner)), None)
        if "\0" in ident:
            return None  # PostgreSQL would not even compare it
        query, ident = (BY_UUID, ident.lower()) if _like_uuid(ident) else (BY_JOB_ID, ident)
        with self.database.reading() as connection:
            found = map(_job, connection.execute(query, {"ident": ident}).all())
        return next((job for job in found if owner in (None, job.owner)), None)

    def page(self, wanted: JobFilter) -> Page:
        """A page of jobs in the order asked for. Raises Unprocessable for a cursor that is not ours."""
        key, descending = _sort_key(wanted.sort, None if self.database.sqlite else "C")
        where = [*_conditions(wanted), *(_property(*wish, self.database.sqlite) for wish in wanted.properties)]
        query = select(*JOB_COLUMNS).where(*where)
        if wanted.cursor:
            query = query.where(_after(key, descending, wanted))
        order = (key.desc(), jobs.c.number.desc()) if descending else (key, jobs.c.number)
        with self.database.reading() as connection:
            rows = connection.execute(query.order_by(*order).limit(wanted.limit + 1)).all()
            total = connection.execute(select(func.count()).select_from(jobs).where(*where)).scalar_one()
        found = [_job(row) for row in rows[: wanted.limit]]
        more = len(rows) > wanted.limit
        return Page(found, total, _cursor(found[-1], wanted.sort) if more else None)

    def live_jobs(self, host: str) -> list[LiveJob]:
        """The jobs of a host that its scheduler has and whose truth is still to come, lost ones included."""
        query = select(*LIVE_COLUMNS).where(jobs.c.host == host, jobs.c.state.in_(LIVE), jobs.c.native_id.is_not(None))
        with self.database.reading() as connection:
            return [LiveJob._make(row) for row in connection.execute(query).all()]

    def unsettled_jobs(self, host: str) -> list[Job]:
        """The jobs of a host that are being handed over, or were, and whether they arrived is not known."""
        query = select(*JOB_COLUMNS).where(jobs.c.host == host, jobs.c.state == JobState.SUBMITTING)
        with self.database.reading() as connection:
            return [_job(row) for row in connection.execute(query)]

    def script(self, number: int) -> str:
        with self.database.reading() as connection:
            return connection.execute(select(scripts.c.script).where(scripts.c.number == number)).scalar_one()

    def waits_for(self, number: int) -> list[Upstream]:
        """What a job depends on."""
        with self.database.reading() as connection:
            return upstreams(connection, dependencies.c.number == number)[number]

    def waiting_jobs(self, host: str) -> list[tuple[Job, list[Upstream]]]:
        """The jobs of a host that have not begun and depend on others, held back by the gateway or by the scheduler."""
        mine = (jobs.c.host == host, jobs.c.state.in_((JobState.QUEUED, JobState.HELD)))
        held_back = and_(jobs.c.state == JobState.HELD, jobs.c.native_id.is_(None))
        waiting = select(jobs.c.number).where(*mine, or_(held_back, jobs.c.number.in_(select(dependencies.c.number))))
        with self.database.reading() as connection:
            numbers = list(connection.execute(waiting.order_by(jobs.c.number)).scalars())
            found = upstreams(connection, dependencies.c.number.in_(waiting)) if numbers else {}
            return [(job, found.get(job.number, [])) for job in self._jobs(connection, numbers)]

    def dependents(self, job: Job) -> list[tuple[Job, list[Upstream]]]:
        """The jobs that depend on this one and have not begun."""
        on_it = select(dependencies.c.number).where(dependencies.c.uuid == job.uuid)
        with self.database.reading() as connection:
            found = upstreams(connection, dependencies.c.number.in_(on_it))
            jobs_found = self._jobs(connection, sorted(found))
        return [(one, found[one.number]) for one in jobs_found if one.state in (JobState.QUEUED, JobState.HELD)]

    def live_tasks(self, host: str) -> dict[int, dict[int, Task]]:
        """The tasks of a host's live arrays whose truth is still to come, by the job's number and the task's."""
        where = (jobs.c.host == host, jobs.c.state.in_(LIVE), jobs.c.native_id.is_not(None), jobs.c.array.is_not(None))
        query = select(*TASK_COLUMNS).join(jobs).where(*where, tasks.c.state.in_(LIVE))
        found: dict[int, dict[int, Task]] = defaultdict(dict)
        with self.database.reading() as connection:
            for row in connection.execute(query):
                found[row[0]][row[1]] = Task._make(row)
        return found

    def tasks(self, number: int, wanted: TaskFilter) -> list[Task]:
        """Tasks of an array, in the order of their numbers."""
        query = select(*TASK_COLUMNS).where(tasks.c.number == number, *task_conditions(wanted))
        query = query.order_by(tasks.c.task_id).limit(wanted.limit)
        with self.database.reading() as connection:
            return [Task._make(row) for row in connection.execute(query)]

    def states_of_tasks(self, keys: Sequence[tuple[int, int]]) -> dict[tuple[int, int], JobState]:
        """Of tasks by the number of their array and their own."""
        if not keys:
            return {}
        query = select(tasks.c.number, tasks.c.task_id, tasks.c.state)
        query = query.where(tuple_(tasks.c.number, tasks.c.task_id).in_(keys))
        with self.database.reading() as connection:
            return {(number, task): state for number, task, state in connection.execute(query)}

    def change_jobs(
        self,
        changes: Iterable[tuple[Job | LiveJob, Mapping[str, Any]]],
        task_changes: Mapping[int, Sequence[Mapping[str, Any]]] = MappingProxyType({}),
    ) -> list[tuple[Job, JobState]]:
        """Write what changed, in one transaction: pairs of a job and its new columns. A job whose state another process
        has changed since is left alone. Gives the jobs whose state changed, each with its state before.

        `task_changes` are the new columns of tasks, each with its `task_id`, by the number of an array that is among
        the jobs; what follows from its tasks is written where the job's own new columns do not say it."""
        # In the order of their numbers, so that two who write about the same jobs do not wait for each other in a ring.
        wanted = {job.number: (job, values) for job, values in sorted(changes, key=lambda change: change[0].number)}
        if not wanted:
            return []
        at = now()
        with self.database.writing() as connection:
            for number, rows in sorted(task_changes.items()):
                job, values = wanted[number]
                wanted[number] = (job, {**write_tasks(connection, number, rows), **values})
            moving = {number: change for number, change in wanted.items() if _moves(*change)}
            before = {job.number: job.state for job in self._as_seen(connection, moving)}
            _write_all(connection, wanted.values(), at)
            moved = [(job, before[job.number]) for job in self._jobs(connection, list(before))]
            if moved:
                _remember(connection, moved, at)
        return moved

    def jobs_by_number(self, numbers: list[int]) -> dict[int, Job]:
        """Those of the jobs that there still are."""
        if not numbers:
            return {}
        with self.database.reading() as connection:
            return {job.number: job for job in self._jobs(connection, numbers)}

    def change_job(self, job: Job, new_tasks: Iterable[int] = (), **values: Any) -> Job:
        """Write one job's new columns, unless another process has changed its state since; `new_tasks` are the numbers
        of an array's tasks, which begin in the job's state. Gives the job as it is. Raises NotFound where it was
        deleted meanwhile."""
        changed = replace(job, **values, updated_at=now())
        with self.database.writing() as connection:
            names = (*values, "updated_at", *(("job_id",) if "native_id" in values else ()))
            row = {f"new_{name}": getattr(changed, name) for name in names} | {
                "old": job.number,
                "state_seen": job.state,
            }
            if connection.execute(_update_if_as_seen(names), row).rowcount != 1:
                return self._job(connection, jobs.c.number == job.number)
            add_tasks(connection, changed, new_tasks)
            if changed.state != job.state:
                _remember(connection, [(changed, job.state)], changed.updated_at)
        return changed

    def change_draft(
        self, job: Job, values: Mapping[str, Any], script: str, waits_for: Iterable[tuple[str, DependencyType]]
    ) -> Job:
        """Write a draft's columns, its script and what it depends on, unless it is none any more. Its uuid and owner
        stay. Gives the job as it is."""
        row = {name: value for name, value in values.items() if name not in ("uuid", "owner")} | {"updated_at": now()}
        drafts = (jobs.c.number == job.number, jobs.c.state == JobState.DRAFT)
        with self.database.writing() as connection:
            if connection.execute(update(jobs).where(*drafts).values(**row)).rowcount == 1:
                connection.execute(update(scripts).where(scripts.c.number == job.number).values(script=script))
                write_dependencies(connection, job.number, waits_for)
            return self._job(connection, jobs.c.number == job.number)

    def reset_job(self, job: Job) -> Job | None:
        """Make a job that has ended a draft again, under its number and uuid. None where another process was faster."""
        fresh: dict[str, Any] = dict.fromkeys(OF_A_RUN) | {"stale": False, "warnings": [], "task_counts": {}}
        again = replace(job, **fresh, state=JobState.DRAFT, attempt=job.attempt + 1, updated_at=now())
        row = {name: getattr(again, name) for name in (*fresh, "state", "attempt", "updated_at", "job_id")}
        ended = (jobs.c.number == job.number, jobs.c.state == job.state, jobs.c.attempt == job.attempt)
        with self.database.writing() as connection:
            if connection.execute(update(jobs).where(*ended).values(**row)).rowcount != 1:
                return None
            connection.execute(delete(tasks).where(tasks.c.number == job.number))
            connection.execute(INSERT_EVENT, _event(again, job.state, again.updated_at))
        return again

    @staticmethod
    def _as_seen(
        connection: Connection, wanted: Mapping[int, tuple[Job | LiveJob, Mapping[str, Any]]]
    ) -> list[Job | LiveJob]:
        """Those of the jobs that are in the state that their writer saw, and stay so until the transaction ends."""
        states: dict[int, JobState] = {}
        for some in _chunks(list(wanted)):
            query = select(jobs.c.number, jobs.c.state).where(jobs.c.number.in_(some)).order_by(jobs.c.number)
            states.update((row[0], row[1]) for row in connection.execute(query.with_for_update()))
        return [job for number, (job, _) in wanted.items() if states.get(number) == job.state]

    @staticmethod
    def _jobs(connection: Connection, numbers: list[int]) -> list[Job]:
        found: list[Job] = []
        for some in _chunks(numbers):
            found += map(_job, connection.execute(select(*JOB_COLUMNS).where(jobs.c.number.in_(some))))
        return found

    def delete_job(self, job: Job) -> None:
        """Forget the job, its script, its history and its idempotency key. What waits for a job that has ended need not
        any more: it has been cancelled, or the job ended as it should."""
        with self.database.writing() as connection:
            if job.state.final:
                connection.execute(delete(dependencies).where(dependencies.c.uuid == job.uuid))
            connection.execute(delete(jobs).where(jobs.c.number == job.number))
            connection.execute(delete(idempotency_keys).where(idempotency_keys.c.uuid == job.uuid))

    def events(self, number: int) -> list[Event]:
        """A job's history, oldest first."""
        query = select(*EVENT_COLUMNS).where(events.c.number == number).order_by(events.c.id)
        with self.database.reading() as connection:
            return [Event(*row) for row in connection.execute(query)]

    def count_by_state(self) -> dict[tuple[str, str], int]:
        """How many jobs are in each (host, state)."""
        query = select(jobs.c.host, jobs.c.state, func.count()).group_by(jobs.c.host, jobs.c.state)
        with self.database.reading() as connection:
            return {(row[0], row[1]): row[2] for row in connection.execute(query)}

    @staticmethod
    def _job(connection: Connection, condition: Any) -> Job:
        row = connection.execute(select(*JOB_COLUMNS).where(condition)).one_or_none()
        if row is None:
            raise NotFound("the job was deleted meanwhile", code="job_not_found")
        return _job(row)


def _write_all(
    connection: Connection, changes: Iterable[tuple[Job | LiveJob, Mapping[str, Any]]], at: datetime
) -> None:
    """One statement for all jobs that change in the same columns."""
    alike: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for job, values in changes:
        row = {"updated_at": at, **values}
        if "native_id" in row:
            row["job_id"] = f"{row['native_id']}.{job.host}"
        told = {f"new_{name}": value for name, value in row.items()}
        alike[tuple(sorted(row))].append(told | {"old": job.number, "state_seen": job.state})
    for names, rows in alike.items():
        connection.execute(_update_if_as_seen(names), rows)


def _moves(job: Job | LiveJob, values: Mapping[str, Any]) -> bool:
    return bool(values.get("state", job.state) != job.state)


@cache
def _update_if_as_seen(names: tuple[str, ...]) -> Update:
    wanted = (jobs.c.number == bindparam("old"), jobs.c.state == bindparam("state_seen"))
    return update(jobs).where(*wanted).values({name: bindparam(f"new_{name}") for name in names})


def _remember(connection: Connection, moved: Sequence[tuple[Job, JobState]], at: datetime) -> None:
    """What a change of state leaves behind, in its own transaction: an event, and a notification when the job is final
    and somebody wants to know."""
    connection.execute(INSERT_EVENT, [_event(job, was, at) for job, was in moved])
    due = [notification(job, at) for job, was in moved if job.notify and job.state.final and not was.final]
    if due:
        connection.execute(INSERT_NOTIFICATION, due)


def _event(job: Job, before: JobState | None, at: datetime) -> dict[str, Any]:
    return {"number": job.number, "at": at, "state": job.state, "before": before, "reason": job.reason}


def _chunks(numbers: list[int]) -> Iterator[list[int]]:
    """Of a size that every database takes in one statement."""
    return (numbers[start : start + 1000] for start in range(0, len(numbers), 1000))


def _job(row: Row) -> Job:
    return Job(*row)


def _like_uuid(ident: str) -> bool:
    return len(ident) == 36 and ident[8] == ident[13] == ident[18] == ident[23] == "-"


def _conditions(wanted: JobFilter) -> list[Any]:
    equal = {"owner": wanted.owner, "tag": wanted.tag, "host": wanted.host, "name": wanted.name, "queue": wanted.queue}
    where = [jobs.c[name] == value for name, value in equal.items() if value is not None]
    if wanted.tag is not None:
        where.append(begin_of_tag == wanted.tag[:BEGIN])  # what the index has
    if wanted.states:
        where.append(jobs.c.state.in_(wanted.states))
    if wanted.job_ids:
        where.append(or_(jobs.c.job_id.in_(wanted.job_ids), jobs.c.uuid.in_(wanted.job_ids)))
    if wanted.numbers:
        where.append(jobs.c.number.in_(wanted.numbers))
    if wanted.since:
        where.append(jobs.c.created_at >= wanted.since)
    if wanted.until:
        where.append(jobs.c.created_at < wanted.until)
    if wanted.q:
        pattern = f"%{_escaped(wanted.q)}%"
        columns = (jobs.c.name, jobs.c.description, jobs.c.tag)
        where.append(or_(*(column.ilike(pattern, escape="\\") for column in columns)))
    return where


def _property(path: Sequence[str], value: str, sqlite: bool) -> Any:
    """Whether there is such a text, number, true, false or null at that path of objects."""
    column = cast(jobs.c.extended_properties, Text)
    if not sqlite:
        return func.json_extract_path_text(cast(column, JSON), *path) == value
    if any('"' in name for name in path):
        return false()  # SQLite's paths have no way to write it (JSON1, "path arguments")
    where = "$" + "".join(f'."{name}"' for name in path)
    as_text = cast(func.json_extract(column, where), Text)
    as_word = case((func.json_type(column, where).in_(("true", "false")), func.json_type(column, where)), else_=as_text)
    return as_word == value


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _sort_key(sort: str, collation: str | None) -> tuple[Any, bool]:
    """What to sort by, and whether the greatest comes first. Text sorts by its bytes on every database."""
    column, blank = SORTS[sort.removeprefix("-")]
    key = column if blank in (None, 0) else func.coalesce(column, blank)
    return (collate(key, collation) if collation and blank == "" else key), sort.startswith("-")


def _cursor(job: Job, sort: str) -> str:
    value = getattr(job, sort.removeprefix("-"))
    plain = value.isoformat() if isinstance(value, datetime) else (value if value is not None else "")
    return base64.urlsafe_b64encode(json.dumps([plain, job.number]).encode()).decode().rstrip("=")


def _after(key: Any, descending: bool, wanted: JobFilter) -> Any:
    try:
        plain, number = json.loads(base64.urlsafe_b64decode((wanted.cursor or "") + "=="))
        column = SORTS[wanted.sort.removeprefix("-")][0]
        if column.type.python_type is datetime:
            plain = datetime.fromisoformat(plain).astimezone(UTC)
        if type(plain) is not column.type.python_type or type(number) is not int or not 0 <= number < 1 << 62:
            raise ValueError(plain)
    except (ValueError, TypeError, UnicodeDecodeError):
        words = "is not a cursor of this list; take it from the Link header"
        raise Unprocessable(f"cursor {words}", errors={"cursor": [words]}) from None
    here = tuple_(literal(plain, column.type), literal(number))
    return tuple_(key, jobs.c.number) < here if descending else tuple_(key, jobs.c.number) > here
