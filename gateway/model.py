"""What Jobgate talks about: jobs, what they ask for, their states, and who asks. Plain data, no framework.

Times are aware datetimes in UTC, memory is in MiB, wall times in seconds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple


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


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What a backend is to run, for which account. `working_directory` is None for the account's home.

    `uuid` is the gateway's name for the job; a backend hands it to the scheduler, so that the job can be found again.
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


@dataclass(frozen=True, slots=True)
class Submitted:
    """A backend's answer to a submit. Paths are absolute, on the host. `warnings` are sentences for the user, such as a
    directive in the script that the request overrides."""

    native_id: str
    working_directory: str
    stdout_file: str | None = None
    stderr_file: str | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JobReport:
    """What a scheduler says of one job. None: it did not say, so what is known stays."""

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


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the gateway knows it; one row of the table `jobs` (the script lies beside it)."""

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

    @property
    def job_id(self) -> str:
        """`<scheduler's id>.<host>`; the uuid until the scheduler has answered."""
        return f"{self.native_id}.{self.host}" if self.native_id else self.uuid
