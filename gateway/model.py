"""What Jobgate talks about: jobs, what they ask for, their states, and who asks. Plain data, no framework.

Times are aware datetimes in UTC, memory is in MiB, wall times in seconds.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID, uuid5


class JobState(StrEnum):
    """A job's state in full. `status` is the seed's word for it (plgrid-job-submitter)."""

    DRAFT = "draft"
    SUBMITTING = "submitting"
    QUEUED = "queued"
    HELD = "held"
    RUNNING = "running"
    SUSPENDED = "suspended"
    COMPLETING = "completing"
    FINISHED = "finished"
    CANCELLED = "cancelled"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    NODE_FAILED = "node_failed"
    PREEMPTED = "preempted"
    SUBMIT_FAILED = "submit_failed"
    LOST = "lost"
    UNKNOWN = "unknown"

    @property
    def status(self) -> str:
        return STATUS_OF[self]

    @property
    def final(self) -> bool:
        """No evidence short of a miracle changes it. A `lost` job is still looked for, so it is not final in the
        scheduler's sense, but its clients need not wait."""
        return self.status in ("FINISHED", "ABORTED", "ERROR")


STATUS_OF: Mapping[JobState, str] = {
    JobState.DRAFT: "QUEUED",
    JobState.SUBMITTING: "QUEUED",
    JobState.QUEUED: "QUEUED",
    JobState.HELD: "QUEUED",
    JobState.RUNNING: "RUNNING",
    JobState.SUSPENDED: "RUNNING",
    JobState.COMPLETING: "RUNNING",
    JobState.UNKNOWN: "RUNNING",
    JobState.FINISHED: "FINISHED",
    JobState.CANCELLED: "ABORTED",
    JobState.FAILED: "ERROR",
    JobState.TIMED_OUT: "ERROR",
    JobState.OUT_OF_MEMORY: "ERROR",
    JobState.NODE_FAILED: "ERROR",
    JobState.PREEMPTED: "ERROR",
    JobState.SUBMIT_FAILED: "ERROR",
    JobState.LOST: "ERROR",
}
FINAL_STATES = frozenset(state for state in JobState if state.final)
STATUSES = ("QUEUED", "RUNNING", "FINISHED", "ABORTED", "ERROR")


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks: the end-entity certificate's subject in slash form and the accounts that the grid-mapfile gives it,
    the default first. `expires_at` is when the proxy or token ends."""

    subject: str
    accounts: tuple[str, ...]
    expires_at: datetime
    admin: bool = False


@dataclass(frozen=True, slots=True)
class Resources:
    """What a job asks of a scheduler. None: not asked for, the scheduler's default."""

    nodes: int | None = None
    cores: int | None = None
    memory: int | None = None
    gpus: int | None = None
    wall_time: int | None = None


DEFAULT_NAME = "job"
LARGEST_TASK = 2**31 - 1


@dataclass(frozen=True, slots=True)
class TaskRange:
    """The tasks of an array, written `1-10`, `1-100:5`, `3,7,9-12`, or `1-100%4` for four at once (sbatch(1)).

    `ids` are ascending and distinct; `at_once` is None where as many may run as the scheduler lets."""

    ids: tuple[int, ...]
    at_once: int | None = None

    @property
    def row(self) -> range:
        """The shortest one that has all of these tasks, for schedulers that know a first, a last and a step only."""
        first, last = self.ids[0], self.ids[-1]
        return range(first, last + 1, math.gcd(*(each - first for each in self.ids)) or 1)

    def __str__(self) -> str:
        return compact(self.ids) + (f"%{self.at_once}" if self.at_once else "")


class TooManyTasks(ValueError):
    """An array has more tasks than it may have."""


def task_range(text: str, most: int = LARGEST_TASK) -> TaskRange:
    """What such a text means. Raises ValueError with a sentence where it means nothing, TooManyTasks where it has more
    than `most`."""
    matched = re.fullmatch(r"([0-9,:-]+)(?:%([0-9]{1,9}))?", text.strip())
    pieces = (
        [re.fullmatch(r"(\d{1,10})(?:-(\d{1,10})(?::(\d{1,10}))?)?", piece) for piece in matched[1].split(",")]
        if matched
        else []
    )
    if not matched or None in pieces or matched[2] == "0":
        raise ValueError('must look like "1-10", "1-100:5" or "3,7,9-12", with "%4" behind it for four at once')
    ids: set[int] = set()
    for piece in pieces:
        assert piece
        first, last, step = int(piece[1]), int(piece[2] or piece[1]), int(piece[3] or 1)
        if not 0 < first <= last <= LARGEST_TASK or step < 1:
            raise ValueError(f"{piece[0]}: a task's number is 1 or more, and a range goes upwards")
        if (last - first) // step >= most or len(ids) > most:
            raise TooManyTasks(f"has more than {most} tasks")
        ids.update(range(first, last + 1, step))
    if len(ids) > most:
        raise TooManyTasks(f"has more than {most} tasks")
    return TaskRange(tuple(sorted(ids)), int(matched[2]) if matched[2] else None)


def compact(ids: Sequence[int]) -> str:
    """Ascending numbers in the same notation: `1-3,7`, `1-9:2`."""
    pieces: list[list[int]] = []
    for number in ids:
        if pieces and (len(pieces[-1]) == 1 or number - pieces[-1][-1] == pieces[-1][1] - pieces[-1][0]):
            pieces[-1].append(number)
        else:
            pieces.append([number])
    return ",".join(_piece(piece) for piece in pieces)


def _piece(row: Sequence[int]) -> str:
    if len(row) < 3:
        return ",".join(map(str, row))
    step = row[1] - row[0]
    return f"{row[0]}-{row[-1]}" + (f":{step}" if step > 1 else "")


class DependencyType(StrEnum):
    """When a job may start: after another ended well, ended, ended badly, or began (sbatch(1) --dependency)."""

    AFTEROK = "afterok"
    AFTERANY = "afterany"
    AFTERNOTOK = "afternotok"
    AFTER = "after"


@dataclass(frozen=True, slots=True)
class Dependency:
    """Another job of the same host, by the scheduler's id."""

    native_id: str
    type: DependencyType


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What a backend is to run, for which account. `working_directory` is None for the account's home.

    `uuid` is the gateway's mark for this run of the job; a backend hands it to the scheduler, so that it can be found
    again. A `stdout` or `stderr` that ends in a slash is a folder, made if absent, for the log under its default name.
    """

    uuid: str
    account: str
    script: str = field(repr=False)
    name: str = DEFAULT_NAME
    working_directory: str | None = None
    queue: str | None = None
    resources: Resources = Resources()
    environment: Mapping[str, str] = field(default_factory=dict)
    hold: bool = False
    priority: int = 0
    stdout: str | None = None
    stderr: str | None = None
    array: TaskRange | None = None
    dependencies: tuple[Dependency, ...] = ()


@dataclass(frozen=True, slots=True)
class Submitted:
    """A backend's answer to a submit. Paths are absolute, on the host; in those of an array `{task_id}` stands for the
    task's number. `warnings` are sentences for the user, such as a directive in the script that the request overrides.
    """

    native_id: str
    working_directory: str
    stdout_file: str | None = None
    stderr_file: str | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TaskReport:
    """What a scheduler says of one task of an array. None: it did not say, so what is known stays."""

    state: JobState
    native_state: str
    exit_code: int | None = None
    signal: int | None = None
    reason: str | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class JobReport:
    """What a scheduler says of one job. None: it did not say, so what is known stays. `tasks` are those of an array
    that the scheduler mentioned, by number; the array's own `state` and times follow from all its tasks, whatever the
    report says."""

    native_id: str
    state: JobState
    native_state: str
    uuid: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    reason: str | None = None
    nodes: int | None = None
    cores: int | None = None
    queue: str | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    working_directory: str | None = None
    stdout_file: str | None = None
    stderr_file: str | None = None
    tasks: Mapping[int, TaskReport] = field(default_factory=dict)


# What of a report is written into a task's row.
TASK_REPORTED = ("state", "native_state", "reason", "exit_code", "signal", "start_time", "end_time")

# What of a report is written into the job's row.
REPORTED = (
    "state",
    "native_state",
    "reason",
    "exit_code",
    "signal",
    "nodes",
    "cores",
    "queue",
    "start_time",
    "end_time",
    "stdout_file",
    "stderr_file",
)


class LiveJob(NamedTuple):
    """What a tick must know of a job that the scheduler still has: a host may have ten thousand of them."""

    number: int
    native_id: str
    account: str
    host: str
    state: JobState
    native_state: str | None
    stale: bool
    as_of: datetime | None
    reason: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    nodes: int | None = None
    cores: int | None = None
    queue: str | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    stdout_file: str | None = None
    stderr_file: str | None = None
    array: str | None = None


class Task(NamedTuple):
    """A task of an array as the gateway knows it; one row of the table `tasks`. An array may have ten thousand."""

    number: int
    task_id: int
    state: JobState
    native_state: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    reason: str | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the gateway knows it; one row of the table `jobs` (the script lies beside it).

    `workspace` is the folder of a bundle's own, on the host; `output_directory` what `/output` gives, None for the
    working directory. `resubmitted_from` is the job_id of the job that this one repeats. `task_counts` says how many
    tasks of an array are in each state. `attempt` is how often it was made a draft again."""

    number: int
    uuid: str
    owner: str
    account: str
    host: str
    state: JobState
    created_at: datetime
    updated_at: datetime
    name: str = "job"
    native_id: str | None = None
    native_state: str | None = None
    tag: str | None = None
    queue: str | None = None
    reason: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    stale: bool = False
    as_of: datetime | None = None
    submitted_at: datetime | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    nodes: int | None = None
    cores: int | None = None
    working_directory: str | None = None
    stdout_file: str | None = None
    stderr_file: str | None = None
    description: str | None = None
    extended_properties: Mapping[str, Any] = field(default_factory=dict)
    request: Mapping[str, Any] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    array: str | None = None
    task_counts: Mapping[str, int] = field(default_factory=dict)
    resubmitted_from: str | None = None
    template: str | None = None
    notify: str | None = None
    workspace: str | None = None
    output_directory: str | None = None
    attempt: int = 0

    @property
    def mark(self) -> str:
        """What its host's scheduler finds it by: the uuid, or one of its own for a job that was made a draft again, so
        that its earlier runs are not taken for it."""
        return str(uuid5(UUID(self.uuid), str(self.attempt))) if self.attempt else self.uuid

    @property
    def job_id(self) -> str:
        """`<scheduler's id>.<host>`; the uuid until the scheduler has answered."""
        return f"{self.native_id}.{self.host}" if self.native_id else self.uuid
