"""The queue and the accounting of the local scheduler: one SQLite file, shared by gateways and supervisors.

There is no daemon. Whoever submits, ends or asks about a job calls `dispatch`, which starts supervisors while slots are
free; a supervisor claims one job after the other until none can start. Every decision is one transaction, so order and
slots hold whatever runs at the same time and whatever is killed. Standard library only: a supervisor imports it too.

A job's `state` is a word of `gateway.JobState`. Times are seconds since the epoch. Each task of an array is a job like
any other; the array itself is a row in the state `array`, which nobody claims and which keeps the script for all.
"""

import json
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress

from . import processes

ACTIVE = ("running", "suspended", "completing")
WAITING = ("queued", "held")
VERSION = 2
BUSY_TIMEOUT = 60.0
SCHEMA = """
CREATE TABLE settings (slots INTEGER NOT NULL);
INSERT INTO settings VALUES (1);
CREATE TABLE supervisors (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    pid INTEGER NOT NULL, started INTEGER NOT NULL, boot TEXT NOT NULL,
    UNIQUE (pid, started, boot)
);
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid TEXT NOT NULL UNIQUE,
    account TEXT NOT NULL,
    home TEXT,              -- given: runs as the gateway's own user with this home; NULL: runs as the account
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    priority INTEGER NOT NULL,
    cores INTEGER NOT NULL,
    wall_time INTEGER,
    working_directory TEXT NOT NULL,
    stdout TEXT, stderr TEXT,   -- absolute
    append INTEGER NOT NULL,   -- bit 1: stdout was asked for by name, bit 2: stderr; such a file is not emptied
    environment BLOB,       -- NAME=value, each ended by a NUL; NULL when the job has ended, as the script
    script BLOB,
    wish TEXT,              -- what a running job's supervisor is to do: abort, suspend, continue
    supervisor INTEGER,
    pid INTEGER, pid_started INTEGER,
    submitted_at REAL NOT NULL, started_at REAL, ended_at REAL,
    exit_code INTEGER, signal INTEGER, reason TEXT
);
CREATE INDEX jobs_queued ON jobs (priority DESC, id) WHERE state = 'queued';
CREATE INDEX jobs_active ON jobs (cores) WHERE state IN ('running', 'suspended', 'completing');
"""
ARRAYS = """
ALTER TABLE jobs ADD COLUMN array INTEGER;    -- of a task: the array's id
ALTER TABLE jobs ADD COLUMN task INTEGER;
ALTER TABLE jobs ADD COLUMN at_once INTEGER;  -- of a task: how many of its array may run at the same time
CREATE INDEX jobs_of_array ON jobs (array, task) WHERE array IS NOT NULL;
CREATE INDEX jobs_of_array_live ON jobs (array) WHERE array IS NOT NULL AND ended_at IS NULL;
DROP INDEX jobs_queued;
CREATE INDEX jobs_queued ON jobs (priority DESC, id, array, at_once, cores) WHERE state = 'queued';
"""
IS_ACTIVE = "state IN ('running', 'suspended', 'completing')"


_INHERITED: list[sqlite3.Connection] = []  # from before a fork: SQLite forbids to close them here


class SpoolError(Exception):
    """The spool cannot be used; the text says why, without its path."""


class NoSuchJob(Exception):
    """There is no such job of this account."""


class WrongState(Exception):
    """The job's state forbids it; the text says why."""


class Spool:
    """One host's spool in a folder. Safe to use from many threads: each has a connection."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.file = os.path.join(folder, "spool.sqlite")  # noqa: PTH118
        self._local = threading.local()
        self._writing = threading.Lock()  # SQLite lets waiting writers sleep and race; threads can queue up

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """All of it or nothing, alone among the writers. `durable`: it also outlives a power cut."""
        with self._writing, self.reading() as connection:
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection for single reads. Whatever is wrong with the file is a SpoolError."""
        try:
            yield self._connection()
        except sqlite3.Error as problem:
            self.close()
            raise SpoolError(str(problem)) from problem
        except OSError as problem:
            raise SpoolError(problem.strerror or str(problem)) from problem

    def close(self) -> None:
        """Close this thread's connection."""
        connection = self._local.__dict__.pop("connection", None)
        if connection and self._local.owner[0] == os.getpid():
            connection.close()
        elif connection:
            _INHERITED.append(connection)

    def _connection(self) -> sqlite3.Connection:
        """This thread's connection, made anew after a fork and where the file is another than it was."""
        with suppress(AttributeError, FileNotFoundError):
            if self._local.owner == (os.getpid(), os.stat(self.file).st_ino):  # noqa: PTH116
                connection: sqlite3.Connection = self._local.connection
                return connection
        self.close()
        if not os.path.exists(self.file):  # noqa: PTH110
            _create(self.folder, self.file)
        self._local.connection = connection = connect(self.file)
        self._local.owner = (os.getpid(), os.stat(self.file).st_ino)  # noqa: PTH116
        return connection


def connect(file: str) -> sqlite3.Connection:
    connection = sqlite3.connect(file, timeout=BUSY_TIMEOUT, isolation_level=None)
    connection.row_factory = sqlite3.Row
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == 1:
        version = _bring_up_to_date(connection)
    if version != VERSION:
        raise sqlite3.DatabaseError(f"it was made by another version of Jobgate (its format is {version})")
    return connection


def _bring_up_to_date(connection: sqlite3.Connection) -> int:
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        if connection.execute("PRAGMA user_version").fetchone()[0] == 1:
            for statement in ARRAYS.strip().split(";")[:-1]:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {VERSION}")
    return VERSION


def _create(folder: str, file: str) -> None:
    """Under another name first, so that nobody ever sees half a spool. (Opening the file itself a second time would not
    do either: closing it drops the locks that SQLite holds for the whole process.)"""
    os.makedirs(folder, mode=0o711, exist_ok=True)  # noqa: PTH103
    draft = f"{file}.{os.getpid()}.{threading.get_ident()}"
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))
    try:
        with closing(sqlite3.connect(draft)) as connection:
            connection.executescript(f"PRAGMA journal_mode = WAL; {SCHEMA} {ARRAYS} PRAGMA user_version = {VERSION};")
        with suppress(FileExistsError):  # somebody was faster
            os.link(draft, file)
    finally:
        os.unlink(draft)  # noqa: PTH108


# --- starting what can start ----------------------------------------------------------------------------------------


def dispatch(spool: Spool, spawn: Callable[[], int]) -> None:
    """Clear up after supervisors that were killed, then start as many as there are jobs that can start now. `spawn`
    starts one and answers its pid."""
    recover(spool)
    with spool.reading() as connection:
        if not _wanted(connection):
            return
    with spool.transaction() as connection:
        for _ in range(_wanted(connection)):
            register(connection, spawn())


# How many more tasks of each array that is limited may run, of those that run now.
ROOM = f"SELECT array, at_once - count(*) FROM jobs WHERE {IS_ACTIVE} AND at_once IS NOT NULL GROUP BY array"
# What may start, in order: an array at its limit is passed over.
NEXT = f"""FROM jobs WHERE state = 'queued' AND coalesce(array, 0) NOT IN
    (SELECT array FROM jobs WHERE {IS_ACTIVE} AND at_once IS NOT NULL GROUP BY array HAVING count(*) >= at_once)
    ORDER BY priority DESC, id"""


def _wanted(connection: sqlite3.Connection) -> int:
    """How many supervisors are missing: for each job that can start, less those that are on their way to claim one."""
    slots, used, active, supervisors = connection.execute(
        f"""SELECT (SELECT slots FROM settings), coalesce(sum(cores), 0), count(*), (SELECT count(*) FROM supervisors)
            FROM jobs WHERE {IS_ACTIVE}"""
    ).fetchone()
    if used >= slots:
        return 0
    startable = 0
    room: dict[int, int] = dict(connection.execute(ROOM))
    for array, at_once, cores in connection.execute(f"SELECT array, at_once, cores {NEXT}"):
        if at_once is not None:
            room[array] = room.get(array, at_once) - 1
            if room[array] < 0:
                continue
        used += cores if cores <= slots else 0  # what asks for too much is claimed as well, to be told so
        if used > slots or startable == slots:
            break
        startable += 1
    return int(max(0, startable - max(0, supervisors - active)))


def register(connection: sqlite3.Connection, pid: int) -> int:
    """Write a supervisor down; its number. Writing it down twice gives the same number."""
    who = (pid, processes.started(pid) or 0, processes.boot_id())
    connection.execute("INSERT OR IGNORE INTO supervisors (pid, started, boot) VALUES (?, ?, ?)", who)
    found = connection.execute("SELECT id FROM supervisors WHERE (pid, started, boot) = (?, ?, ?)", who)
    return int(found.fetchone()[0])


# All that a supervisor must know of a job. A task's script and environment are its array's.
CLAIMED = """SELECT jobs.id, jobs.uuid, jobs.account, jobs.home, jobs.name, jobs.cores, jobs.wall_time,
    jobs.working_directory, jobs.stdout, jobs.stderr, jobs.append, jobs.array, jobs.task,
    coalesce(jobs.environment, whole.environment) AS environment, coalesce(jobs.script, whole.script) AS script
    FROM jobs LEFT JOIN jobs AS whole ON whole.id = jobs.array WHERE jobs.id = ?"""


def can_start(spool: Spool) -> bool:
    """Whether some job may perhaps be claimed; costs no lock."""
    with spool.reading() as connection:
        return connection.execute(f"SELECT 1 {NEXT} LIMIT 1").fetchone() is not None


def claim(spool: Spool, supervisor: int) -> sqlite3.Row | None:
    """The next job for this supervisor, marked as running; None when none can start, and the supervisor is struck off
    in the same transaction, so that whoever submits next sees that a new one is needed."""
    with spool.transaction() as connection:
        slots, used = connection.execute(
            f"SELECT (SELECT slots FROM settings), coalesce(sum(cores), 0) FROM jobs WHERE {IS_ACTIVE}"
        ).fetchone()
        while job := connection.execute(f"SELECT id, cores {NEXT} LIMIT 1").fetchone():
            if job["cores"] <= slots - used:
                connection.execute(
                    "UPDATE jobs SET state = 'running', supervisor = ?, started_at = ? WHERE id = ?",
                    (supervisor, time.time(), job["id"]),
                )
                claimed: sqlite3.Row = connection.execute(CLAIMED, (job["id"],)).fetchone()
                return claimed
            if job["cores"] <= slots:
                break
            reason = f"it asks for {job['cores']} cores and the host has only {slots} slots now"
            _end(connection, job["id"], "failed", reason=reason)
        connection.execute("DELETE FROM supervisors WHERE id = ?", (supervisor,))
    return None


# --- what a supervisor writes down ----------------------------------------------------------------------------------


def set_process(spool: Spool, job: int, pid: int) -> None:
    """Before the script runs: so a job without a process never ran, and may be queued again."""
    with spool.transaction() as connection:
        values = (pid, processes.started(pid), job)
        connection.execute("UPDATE jobs SET pid = ?, pid_started = ? WHERE id = ?", values)


def set_state(spool: Spool, job: int, state: str) -> None:
    with spool.transaction() as connection:
        connection.execute(f"UPDATE jobs SET state = ? WHERE id = ? AND {IS_ACTIVE}", (state, job))


def take_wish(spool: Spool, job: int) -> str | None:
    """What the job's supervisor is to do now. An abort stands until the job has ended."""
    with spool.reading() as connection:
        row = connection.execute("SELECT wish FROM jobs WHERE id = ?", (job,)).fetchone()
    if not row or row["wish"] in (None, "abort"):
        return row and row["wish"]
    with spool.transaction() as connection:
        connection.execute("UPDATE jobs SET wish = NULL WHERE id = ? AND wish = ?", (job, row["wish"]))
    return str(row["wish"])


def end(
    spool: Spool,
    job: int,
    state: str,
    *,
    exit_code: int | None = None,
    number: int | None = None,
    reason: str | None = None,
) -> None:
    """The job has ended; `number` is the signal's that killed it."""
    with spool.transaction() as connection:
        _end(connection, job, state, exit_code, number, reason)


def _end(
    connection: sqlite3.Connection,
    job: int,
    state: str,
    exit_code: int | None = None,
    number: int | None = None,
    reason: str | None = None,
) -> None:
    connection.execute(
        """UPDATE jobs SET state = ?, exit_code = ?, signal = ?, reason = ?, ended_at = ?,
           script = NULL, environment = NULL, wish = NULL WHERE id = ? AND ended_at IS NULL""",
        (state, exit_code, number, reason, time.time(), job),
    )
    connection.execute(
        """UPDATE jobs SET ended_at = ?, script = NULL, environment = NULL
           WHERE state = 'array' AND id = (SELECT array FROM jobs WHERE id = ?) AND NOT EXISTS
           (SELECT 1 FROM jobs AS task WHERE task.array = jobs.id AND task.ended_at IS NULL)""",
        (time.time(), job),
    )


# --- after a kill -9 or a restart -----------------------------------------------------------------------------------


def recover(spool: Spool) -> None:
    """Strike off supervisors that no longer live, and end what is left of their jobs."""
    with spool.reading() as connection:
        supervisors = connection.execute("SELECT * FROM supervisors").fetchall()
    for supervisor in supervisors:
        if not processes.alive(supervisor["pid"], supervisor["started"], supervisor["boot"]):
            _bury(spool, supervisor)


def _bury(spool: Spool, supervisor: sqlite3.Row) -> None:
    orphans = f"SELECT * FROM jobs WHERE supervisor = ? AND {IS_ACTIVE}"
    with spool.reading() as connection:
        jobs = connection.execute(orphans, (supervisor["id"],)).fetchall()
    rebooted = supervisor["boot"] != processes.boot_id()
    for job in jobs:
        if not rebooted and job["pid"]:
            processes.end_orphans(job["uuid"], job["pid"], job["pid_started"])
    with spool.transaction() as connection:
        for job in connection.execute(orphans, (supervisor["id"],)).fetchall():
            _give_up(connection, job, rebooted)
        connection.execute("DELETE FROM supervisors WHERE id = ?", (supervisor["id"],))


def _give_up(connection: sqlite3.Connection, job: sqlite3.Row, rebooted: bool) -> None:
    if job["pid"] is None and job["wish"] != "abort":
        connection.execute(
            "UPDATE jobs SET state = 'queued', supervisor = NULL, started_at = NULL, wish = NULL WHERE id = ?",
            (job["id"],),
        )
    elif job["wish"] == "abort":
        _end(connection, job["id"], "cancelled")
    elif rebooted:
        _end(connection, job["id"], "node_failed", reason="the machine was restarted while the job ran")
    else:
        _end(connection, job["id"], "failed", reason="the job's supervisor was killed, and the job with it")


# --- what a gateway asks and wants ----------------------------------------------------------------------------------


def set_slots(spool: Spool, slots: int) -> None:
    """The last configuration that was read counts, for supervisors that run already too."""
    with spool.reading() as connection:
        if connection.execute("SELECT slots FROM settings").fetchone()[0] == slots:
            return
    with spool.transaction() as connection:
        connection.execute("UPDATE settings SET slots = ?", (slots,))


def add(spool: Spool, job: Mapping[str, object], tasks: Sequence[int] = ()) -> sqlite3.Row:
    """Queue a job, once: the same uuid again gives the job that is there. A `stdout` that ends in a slash becomes
    `<name>.o<id>` in that folder, a `stderr` `<name>.e<id>`. With `tasks` it is an array; the logs of its tasks have
    `.<task>` behind these names."""
    row = {**job, "state": "array"} if tasks else job
    columns = ", ".join(row)
    marks = ", ".join(f":{name}" for name in row)
    with spool.transaction(durable=True) as connection:
        added = connection.execute(
            f"INSERT INTO jobs ({columns}, submitted_at) VALUES ({marks}, {time.time()}) ON CONFLICT DO NOTHING", row
        )
        connection.execute(
            """UPDATE jobs SET stdout = iif(substr(stdout, -1) = '/', stdout || name || '.o' || id, stdout),
               stderr = iif(substr(stderr, -1) = '/', stderr || name || '.e' || id, stderr) WHERE uuid = ?""",
            (job["uuid"],),
        )
        if tasks and added.rowcount == 1:
            connection.execute(ADD_TASKS, {"uuid": job["uuid"], "state": job["state"], "tasks": json.dumps(tasks)})
        found = connection.execute(f"SELECT {REPORTED} FROM jobs WHERE uuid = ?", (job["uuid"],))
        return found.fetchone()


ADD_TASKS = """INSERT INTO jobs (uuid, account, home, name, state, priority, cores, wall_time, working_directory,
    stdout, stderr, append, array, task, at_once, submitted_at)
    SELECT uuid || '.' || value, account, home, name, :state, priority, cores, wall_time, working_directory,
    stdout || '.' || value, stderr || '.' || value, append, jobs.id, value, at_once, submitted_at
    FROM jobs, json_each(:tasks) WHERE uuid = :uuid"""


def find(spool: Spool, uuid: str) -> sqlite3.Row | None:
    with spool.reading() as connection:
        found = connection.execute(f"SELECT {REPORTED} FROM jobs WHERE uuid = ?", (uuid,))
        return found.fetchone()


def get(spool: Spool, numbers: Sequence[int]) -> list[sqlite3.Row]:
    """Those of the jobs that there are."""
    found: list[sqlite3.Row] = []
    with spool.reading() as connection:
        for start in range(0, len(numbers), 500):
            some = numbers[start : start + 500]
            marks = ",".join("?" * len(some))
            found += connection.execute(f"SELECT {REPORTED} FROM jobs WHERE id IN ({marks})", some)
    return found


def tasks_of(spool: Spool, array: int, wanted: Sequence[int]) -> list[sqlite3.Row]:
    """Those of the array's tasks that there are, or all where many are wanted."""
    query = f"SELECT {REPORTED}, task FROM jobs WHERE array = ?"
    some = f" AND task IN ({','.join('?' * len(wanted))})"
    with spool.reading() as connection:
        if len(wanted) > 500:
            return connection.execute(query, (array,)).fetchall()
        return connection.execute(query + some, (array, *wanted)).fetchall()


def usage(spool: Spool) -> tuple[int, int]:
    """Slots in use, and slots."""
    with spool.reading() as connection:
        found = connection.execute(
            f"SELECT coalesce(sum(cores), 0), (SELECT slots FROM settings) FROM jobs WHERE {IS_ACTIVE}"
        )
        used, slots = found.fetchone()
        return used, slots


STEERED = """SELECT jobs.*, supervisors.pid AS keeper, supervisors.started AS keeper_started
    FROM jobs LEFT JOIN supervisors ON supervisors.id = supervisor"""


def control(spool: Spool, action: str, number: int, account: str, tasks: Sequence[int] | None = None) -> None:
    """Do it, or let the job's supervisor do it; to these `tasks` of an array, or to all. What has ended stays as it is.
    Raises NoSuchJob, WrongState."""
    with spool.transaction(durable=True) as connection:
        job = connection.execute(f"{STEERED} WHERE jobs.id = ? AND account = ?", (number, account)).fetchone()
        if job is None:
            raise NoSuchJob
        steered = _tasks_to_steer(connection, number, tasks) if job["state"] == "array" else [job]
        _control_all(connection, [one for one in steered if one["ended_at"] is None], action)
    for one in steered:
        if one["state"] in ACTIVE and one["keeper"]:
            processes.signal_process(one["keeper"], one["keeper_started"], signal.SIGUSR1)


def _tasks_to_steer(connection: sqlite3.Connection, array: int, tasks: Sequence[int] | None) -> list[sqlite3.Row]:
    live = connection.execute(f"{STEERED} WHERE array = ? AND ended_at IS NULL", (array,)).fetchall()
    return live if tasks is None else [task for task in live if task["task"] in set(tasks)]


def _control_all(connection: sqlite3.Connection, jobs: Sequence[sqlite3.Row], action: str) -> None:
    """Some tasks of an array may be in a state that forbids it, but not all."""
    problems = []
    for job in jobs:
        try:
            (_control_waiting if job["state"] in WAITING else _control_active)(connection, job, action)
        except WrongState as problem:
            problems.append(problem)
    if problems and len(problems) == len(jobs):
        raise problems[0]


def _control_waiting(connection: sqlite3.Connection, job: sqlite3.Row, action: str) -> None:
    if action == "abort":
        _end(connection, job["id"], "cancelled")
    elif action in ("hold", "release"):
        state = "held" if action == "hold" else "queued"
        connection.execute("UPDATE jobs SET state = ? WHERE id = ?", (state, job["id"]))
    else:
        raise WrongState("the job does not run yet")


def _control_active(connection: sqlite3.Connection, job: sqlite3.Row, action: str) -> None:
    if action in ("hold", "release"):
        raise WrongState("the job has started already")
    if action != "abort" and (job["state"] == "completing" or job["wish"] == "abort"):
        raise WrongState("the job is being ended")
    connection.execute("UPDATE jobs SET wish = ? WHERE id = ?", (action, job["id"]))


REPORTED = """id, uuid, account, state, cores, exit_code, signal, reason, started_at, ended_at, working_directory,
    stdout, stderr"""
