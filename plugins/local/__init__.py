"""The backend `local`: jobs are processes of this machine, and nothing needs to be installed.

The queue, the slots and the accounting are those of `scheduler/`, which goes on when the gateway is killed: a job has a
supervisor of its own. (Under systemd the gateway's unit needs `KillMode=process`, or systemd ends the jobs too.)
"""

import getpass
import logging
import os
import pwd
import re
import stat
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from marshmallow import fields
from marshmallow.validate import Range

from gateway import (
    Backend,
    Capabilities,
    ClusterInfo,
    Command,
    Conflict,
    HostContext,
    HostDown,
    InvalidSchedulerAnswer,
    JobReport,
    JobSpec,
    JobState,
    NotFound,
    RefusedByScheduler,
    Submitted,
    TaskReport,
    hookimpl,
    is_folder,
    option,
)

from .scheduler import launch, spool

log = logging.getLogger(__name__)
LIMIT = 1 << 31
MAKE_DIRECTORY = 'mkdir -p -- "$1" && cd -- "$1"'


@dataclass(frozen=True)
class LocalOptions:
    slots: int = option(
        fields.Integer(strict=True, validate=Range(1)),
        4,
        "how many jobs run at once; a job of two cores takes two slots",
    )


class LocalBackend(Backend):
    """This machine as a host. See the package's first lines."""

    name = "local"
    local_only = True
    capabilities = Capabilities(
        fields=frozenset({"nodes", "cores", "wall_time", "hold", "priority", "stdout", "stderr", "array"}),
        actions=frozenset({"abort", "hold", "release", "suspend", "continue"}),
        needs_operator=False,
    )
    options_type = LocalOptions

    def __init__(self, host: HostContext) -> None:
        super().__init__(host)
        self._queue = spool.Spool(str(host.state_dir.absolute()))
        self._spawned: list[int] = []
        self._lock = threading.Lock()

    def submit(self, spec: JobSpec) -> Submitted:
        with self._spool() as queue:
            job = spool.find(queue, spec.uuid)
        if job is None:
            _refuse_impossible(spec, self.host.options.slots)
            home = self.host.transport.home(spec.account)
            directory = self._working_directory(spec, home)
            for log in filter(is_folder, (spec.stdout, spec.stderr)):
                self._make(os.path.join(directory, log or ""), spec.account, "stdout")  # noqa: PTH118
            with self._spool() as queue:
                row = _row(spec, directory, home if self.host.shared_account else None)
                job = spool.add(queue, row, spec.array.ids if spec.array else ())
        self._dispatch()
        report = _report(job)
        return Submitted(report.native_id, job["working_directory"], report.stdout_file, report.stderr_file)

    def query(self, jobs: Mapping[str, Collection[int]], account: str | None) -> Mapping[str, JobReport]:
        self._dispatch()
        numbers = [number for native_id in jobs if (number := _number(native_id))]
        with self._spool() as queue:
            found = [job for job in spool.get(queue, numbers) if account in (None, job["account"])]
            reports = {str(job["id"]): _report(job) for job in found}
            for native_id, report in reports.items():
                if tasks := jobs[native_id]:
                    rows = spool.tasks_of(queue, int(native_id), list(tasks))
                    reports[native_id] = replace(report, tasks={row["task"]: _task(row) for row in rows})
        return reports

    def find(self, uuid: str, account: str) -> JobReport | None:
        with self._spool() as queue:
            job = spool.find(queue, uuid)
        return _report(job) if job and job["account"] == account else None

    def control(self, action: str, native_id: str, account: str) -> None:
        self._control(action, native_id, account)

    def abort_tasks(self, native_id: str, tasks: Collection[int], account: str) -> None:
        self._control("abort", native_id, account, list(tasks))

    def _control(self, action: str, native_id: str, account: str, tasks: list[int] | None = None) -> None:
        number = _number(native_id)
        try:
            with self._spool() as queue:
                spool.control(queue, action, number or 0, account, tasks)
        except spool.NoSuchJob:
            raise NotFound(f"the scheduler has no job {native_id}") from None
        except spool.WrongState as problem:
            raise Conflict(str(problem)) from None
        self._dispatch()

    def cluster(self, account: str | None = None) -> ClusterInfo:
        with self._spool() as queue:
            used, slots = spool.usage(queue)
        state = "idle" if not used else "full" if used >= slots else "busy"
        return ClusterInfo(f"jobgate-local {version('jobgate')}", nodes={state: 1})

    def check(self) -> list[str]:
        if not self.host.shared_account and os.geteuid() != 0:
            raise HostDown('accounts = "mapped" needs a gateway that runs as root; run it so, or set "gateway"')
        try:
            with self._spool() as queue, queue.transaction():
                pass
        except HostDown as problem:
            raise HostDown(f"{problem.message} ({self.host.state_dir})") from problem
        if not self.host.shared_account:
            return []
        words = (
            f'accounts = "gateway": everybody\'s jobs run as the user {getpass.getuser()!r}, so each of them can '
            "read and change the others' files and the gateway's own; good for a demo or for one person"
        )
        return [words]

    def close(self) -> None:
        self._reap()
        self._queue.close()

    def _working_directory(self, spec: JobSpec, home: str) -> str:
        """Made as the account, so that its own rights decide. What it may not make is refused in the system's words."""
        directory = spec.working_directory or home
        self._make(directory, spec.account, "working_directory")
        return directory

    def _make(self, directory: str, account: str, field: str) -> None:
        if not self._belongs_to(directory, account):
            command = Command(("sh", "-c", MAKE_DIRECTORY, "sh", directory), repeatable=True)
            made = self.host.transport.run(command, account)
            if made.exit_code:
                raise _refused(made.stderr.strip(), field, made.exit_code)

    def _belongs_to(self, directory: str, account: str) -> bool:
        """It is there and the account's own; saves the start of a process."""
        uid = os.geteuid() if self.host.shared_account else pwd.getpwnam(account).pw_uid
        with suppress(OSError):
            found = os.stat(directory)  # noqa: PTH116
            return found.st_uid == uid and stat.S_ISDIR(found.st_mode) and found.st_mode & 0o300 == 0o300
        return False

    @contextmanager
    def _spool(self) -> Iterator[spool.Spool]:
        try:
            spool.set_slots(self._queue, self.host.options.slots)
            yield self._queue
        except spool.SpoolError as problem:
            down = HostDown(f"the local scheduler's spool cannot be used: {problem}")
            down.add_note(f"spool: {self._queue.file}")
            raise down from problem

    def _dispatch(self) -> None:
        """What cannot be started now is started by the next who calls: never a reason to fail the caller."""
        self._reap()
        try:
            spool.dispatch(self._queue, self._spawn)
        except spool.SpoolError as problem:
            log.warning("host %s: no supervisor could be started: %s", self.host.name, problem)

    def _spawn(self) -> int:
        pid = launch.supervisor(self._queue.folder)
        with self._lock:
            self._spawned.append(pid)
        return pid

    def _reap(self) -> None:
        """Wait for the supervisors that have ended; they are children of whichever process started them."""
        with self._lock:
            self._spawned = [pid for pid in self._spawned if _runs(pid)]


def _runs(child: int) -> bool:
    with suppress(ChildProcessError):
        return os.waitpid(child, os.WNOHANG) == (0, 0)
    return False


# --- a request becomes a row ----------------------------------------------------------------------------------------


def _refuse_impossible(spec: JobSpec, slots: int) -> None:
    asked = spec.resources
    if (asked.cores or 1) > slots:
        raise _refused(f"this host has {slots} slots, the job asks for {asked.cores} cores", "cores")
    if asked.nodes not in (None, 1):
        raise _refused(f"this host is one node, the job asks for {asked.nodes}", "nodes")
    for field, value in (("priority", spec.priority), ("wall_time", asked.wall_time or 0)):
        if not -LIMIT < value < LIMIT:
            raise _refused(f"{value} is out of range", field)
    if "\r\n" in spec.script:
        raise _refused(
            "the script has DOS line ends (CRLF), which no interpreter here understands; remove them with: "
            r"sed -i 's/\r$//' <script>",
            "script",
        )
    if spec.working_directory is not None and not spec.working_directory.startswith("/"):
        raise _refused("must be an absolute path", "working_directory")
    for field, texts in _texts(spec).items():
        if not all(_can_be_passed(text) for text in texts):
            raise _refused("holds a NUL or something else that no program can be given", field)
    if any(not name or "=" in name for name in spec.environment):
        raise _refused("a variable's name may not be empty and has no '='", "environment")


def _texts(spec: JobSpec) -> dict[str, list[str]]:
    given = {field: getattr(spec, field) or "" for field in ("script", "working_directory", "stdout", "stderr")}
    environment = [*spec.environment, *spec.environment.values()]
    return {"environment": environment, **{field: [text] for field, text in given.items()}}


def _can_be_passed(text: str) -> bool:
    try:
        return "\0" not in text and text.encode() is not None
    except UnicodeEncodeError:
        return False


def _refused(words: str, field: str, exit_code: int = 1) -> RefusedByScheduler:
    return RefusedByScheduler(
        f"the host refuses the job: {field}: {words}",
        errors={field: [words]},
        exit_code=exit_code,
        error_output=words,
    )


def _row(spec: JobSpec, directory: str, home: str | None) -> dict[str, object]:
    environment = "".join(f"{name}={value}\0" for name, value in spec.environment.items())
    return {
        "uuid": spec.uuid,
        "account": spec.account,
        "home": home,
        "name": file_name(spec.name),
        "state": "held" if spec.hold else "queued",
        "priority": spec.priority,
        "cores": spec.resources.cores or 1,
        "wall_time": spec.resources.wall_time,
        "working_directory": directory,
        "stdout": os.path.join(directory, spec.stdout or ""),  # noqa: PTH118
        "stderr": os.path.join(directory, spec.stderr or ""),  # noqa: PTH118
        "at_once": spec.array.at_once if spec.array else None,
        "append": _own_file(spec.stdout) | _own_file(spec.stderr) << 1,
        "environment": environment.encode(),
        "script": spec.script.encode(),
    }


def _own_file(path: str | None) -> bool:
    """It was asked for by its name, and may have had something in it before."""
    return bool(path) and not is_folder(path)


def file_name(name: str) -> str:
    """The job's name as the beginning of a file's: letters and digits of any language, `_`, `.`, `+`, `-`."""
    safe = re.sub(r"[^\w.+-]", "_", name).lstrip("-.")
    return safe.encode()[:150].decode(errors="ignore") or "job"


# --- a row becomes a report -----------------------------------------------------------------------------------------


def _number(native_id: str) -> int | None:
    return int(native_id) if re.fullmatch("[1-9][0-9]{0,17}", native_id, re.ASCII) else None


def _report(job: Any) -> JobReport:
    try:
        return _readable(job)
    except (TypeError, ValueError, OverflowError) as problem:
        raise InvalidSchedulerAnswer(f"the spool's entry of job {job['id']} cannot be read: {problem}") from None


def _task(row: Any) -> TaskReport:
    report = _report(row)
    return TaskReport(
        report.state,
        report.native_state,
        report.exit_code,
        report.signal,
        report.reason,
        report.start_time,
        report.end_time,
    )


def _readable(job: Any) -> JobReport:
    array = job["state"] == "array"
    known = job["state"] in set(JobState)
    return JobReport(
        native_id=str(job["id"]),
        state=JobState.QUEUED if array else JobState(job["state"]) if known else JobState.UNKNOWN,
        native_state=job["state"],
        uuid=job["uuid"],
        exit_code=job["exit_code"],
        signal=job["signal"],
        reason=job["reason"],
        nodes=1,
        cores=int(job["cores"]),
        start_time=_time(job["started_at"]),
        end_time=_time(job["ended_at"]),
        working_directory=job["working_directory"],
        stdout_file=f"{job['stdout']}.{{task_id}}" if array else job["stdout"],
        stderr_file=f"{job['stderr']}.{{task_id}}" if array else job["stderr"],
    )


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


@hookimpl
def register_backends() -> Iterable[type[Backend]]:
    return [LocalBackend]
