"""What a scheduler adapter is. A third party writes a subclass of `Backend`, or of `CommandBackend` where the scheduler
is steered with commands, and hands it over in the hook `register_backends()`.

An adapter keeps nothing about jobs: it asks the scheduler. It never guesses: output that it cannot read is
`InvalidSchedulerAnswer`, a job that the scheduler does not mention is absent from the answer, a word that it does not
know is `JobState.UNKNOWN` with the word beside it.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from gateway.errors import Conflict, HostDown, RefusedByScheduler
from gateway.model import DependencyType, JobReport, JobSpec, Submitted
from gateway.transport import Command, CommandResult, Transport

ACTIONS = ("abort", "hold", "release", "suspend", "continue")
OPTIONAL_FIELDS = (
    "queue",
    "nodes",
    "cores",
    "memory",
    "gpus",
    "wall_time",
    "hold",
    "priority",
    "stdout",
    "stderr",
    "array",
)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can honour: `fields` of a request out of OPTIONAL_FIELDS (everything else is for every backend),
    and `actions` out of ACTIONS. A request for anything else is refused before the backend sees it. `needs_operator` is
    false where one query tells about everybody's jobs whoever asks. `dependencies` are the types that the scheduler
    itself waits for, of jobs of its own; for the others the gateway holds a job back."""

    fields: frozenset[str] = frozenset()
    actions: frozenset[str] = frozenset({"abort"})
    needs_operator: bool = True
    dependencies: frozenset[DependencyType] = frozenset()


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue (Slurm: partition). Limits are None where there is none; `wall_time` in seconds."""

    name: str
    default: bool = False
    up: bool = True
    wall_time: int | None = None
    nodes: int | None = None
    cores: int | None = None


@dataclass(frozen=True, slots=True)
class ClusterInfo:
    """`version` is the scheduler's own; `nodes` counts nodes by state in the scheduler's words, e.g. {"idle": 4}."""

    version: str
    queues: tuple[Queue, ...] = ()
    nodes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NoOptions:
    """For a backend without options of its own."""


@dataclass(frozen=True, slots=True)
class HostContext:
    """What a backend is given of its host. `options` is an instance of the backend's `options_type`; `state_dir` is a
    folder of the host's own; `operator` the account that may ask about everybody's jobs; `shared_account` is true where
    everybody's jobs run as the gateway's own user and accounts are labels."""

    name: str
    options: Any
    transport: Transport
    state_dir: Path
    operator: str | None = None
    shared_account: bool = False


class Backend(ABC):
    """One host's scheduler. Made once per process and host, used from many threads.

    `name` is the word in the configuration (`backend = "slurm"`), `capabilities` may depend on the host, `options_type`
    is a dataclass of `gateway.option` fields for the host's own section, `local_only` says that it runs jobs on the
    gateway's own machine, whatever the transport.
    """

    name: ClassVar[str]
    local_only: ClassVar[bool] = False
    capabilities: Capabilities = Capabilities()
    options_type: ClassVar[type] = NoOptions

    def __init__(self, host: HostContext) -> None:
        """Only keeps what it is given: no I/O here, so that `jobgate check` can name a host that is down."""
        self.host = host

    @abstractmethod
    def submit(self, spec: JobSpec) -> Submitted:
        """Hand the job to the scheduler, with `spec.uuid` where `find` will see it.

        Raises RefusedByScheduler (its words, its exit code), HostDown (nothing was started), OutcomeUnknown or
        HostTimeout (it may have been submitted), InvalidSchedulerAnswer.
        """

    @abstractmethod
    def query(self, jobs: Mapping[str, Collection[int]], account: str | None) -> Mapping[str, JobReport]:
        """What the scheduler says of these jobs, ended ones included, by native id. A job that it does not know is
        absent, which means nothing more than that. `account` is whose jobs they are, None when asking as `operator`.

        Beside the id of an array stand the tasks whose end is not known yet; a report's `tasks` are those of them that
        the scheduler mentions. Beside any other job stands nothing, so a backend without arrays reads `jobs` as the
        collection of ids that it is.

        Raises HostDown, HostTimeout or InvalidSchedulerAnswer; an answer that was cut short is one of these.
        """

    @abstractmethod
    def find(self, uuid: str, account: str) -> JobReport | None:
        """The job that was submitted with this uuid; None only when queue and accounting both answered without it."""

    @abstractmethod
    def control(self, action: str, native_id: str, account: str) -> JobReport | None:
        """One of `capabilities.actions`. A job that has ended already is left as it is. Gives a report where the
        scheduler said something just now that `query` will not be told again; the gateway writes it down.

        Raises Conflict where the job's state forbids it, NotFound where the scheduler has no such job.
        """

    def abort_tasks(self, native_id: str, tasks: Collection[int], account: str) -> JobReport | None:
        """As `control` with "abort", for these tasks of an array. For a backend with the field `array`."""
        raise Conflict(f"{self.host.name} cannot abort single tasks; abort the whole array")

    @abstractmethod
    def cluster(self, account: str | None = None) -> ClusterInfo:
        """Version, queues and nodes, asked as the account, by default as the operator. Raises as `query` does."""

    def check(self) -> list[str]:
        """What an administrator should know or mend, in sentences; empty when all is well. `cluster` is asked beside
        it, so this is for what that does not show."""
        return []

    def close(self) -> None:  # noqa: B027 - most have nothing to close
        """The process ends."""


# Go to a folder (made if absent; "" is the home), say which it is, and become the command. One round trip.
# mkdir only where cd fails: it is a process of its own.
IN_FOLDER = (
    'd=${1:-$HOME}; shift; cd -- "$d" 2>/dev/null || { mkdir -p -- "$d" && cd -- "$d"; } '
    '&& printf "%s\\0" "$PWD" && exec "$@"'
)


def in_folder(folder: str | None, argv: Sequence[str]) -> tuple[str, ...]:
    """The command, run in a working directory; None is the account's home. What it prints begins with the directory
    that it was run in and a NUL, see `split_folder`."""
    return ("/bin/sh", "-c", IN_FOLDER, "sh", folder or "", *argv)


MAKE_FOLDERS = 'mkdir -p -- "$1" "$2" && shift 2 && exec "$@"'


def is_folder(path: str | None) -> bool:
    """Whether a `stdout` or `stderr` is a folder for the log, which then has its default name there."""
    return bool(path and path.endswith("/"))


def with_log_folders(spec: JobSpec, argv: Sequence[str]) -> tuple[str, ...]:
    """The command, run once the folders that the logs were asked into are there; most ask for none. For a command that
    runs in the working directory, see `in_folder`."""
    asked = [path for path in (spec.stdout, spec.stderr) if path and is_folder(path)]
    return ("/bin/sh", "-c", MAKE_FOLDERS, "sh", asked[0], asked[-1], *argv) if asked else tuple(argv)


def split_folder(result: CommandResult) -> tuple[str, str]:
    """The working directory and the command's own output, of a command made by `in_folder`.

    Raises RefusedByScheduler where the directory could not be made or entered."""
    folder, nul, output = result.stdout.partition("\0")
    if nul:
        return folder, output
    raise RefusedByScheduler(
        f"the working directory cannot be used: {result.stderr.strip()}",
        errors={"working_directory": ["cannot be made or entered"]},
        exit_code=result.exit_code,
        standard_output=result.stdout,
        error_output=result.stderr,
    )


class CommandBackend(Backend):
    """A scheduler that is steered with commands: pure functions build them and parse what they print, `run` is the only
    I/O. See `docs/plugins.md`."""

    def run(self, command: Command, account: str | None = None) -> CommandResult:
        """Run it on the host as the account, by default as the operator."""
        who = account or self.host.operator or ("gateway" if self.host.shared_account else None)
        if who is None:
            raise HostDown(f"{self.host.name} has no operator, so there is nobody to ask it as")
        return self.host.transport.run(command, who)
