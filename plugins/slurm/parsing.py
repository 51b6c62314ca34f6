"""Reads what Slurm's commands print. Pure, and strict: what cannot be understood is an error, never an empty answer."""

import logging
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from gateway import (
    CommandResult,
    Conflict,
    HostDown,
    InvalidSchedulerAnswer,
    JobReport,
    JobState,
    NotFound,
    OutcomeUnknown,
    Queue,
    RefusedByScheduler,
    TaskReport,
    task_range,
)

log = logging.getLogger(__name__)

# squeue(1) "JOB STATE CODES" of 24.11
STATES = {
    "PENDING": JobState.QUEUED,
    "REQUEUED": JobState.QUEUED,
    "REQUEUE_FED": JobState.QUEUED,
    "REQUEUE_HOLD": JobState.HELD,
    "RESV_DEL_HOLD": JobState.HELD,
    "SPECIAL_EXIT": JobState.HELD,
    "CONFIGURING": JobState.RUNNING,
    "RUNNING": JobState.RUNNING,
    "RESIZING": JobState.RUNNING,
    "SIGNALING": JobState.RUNNING,
    "STOPPED": JobState.SUSPENDED,
    "SUSPENDED": JobState.SUSPENDED,
    "COMPLETING": JobState.COMPLETING,
    "STAGE_OUT": JobState.COMPLETING,
    "COMPLETED": JobState.FINISHED,
    "CANCELLED": JobState.CANCELLED,
    "REVOKED": JobState.CANCELLED,
    "FAILED": JobState.FAILED,
    "LAUNCH_FAILED": JobState.FAILED,
    "RECONFIG_FAIL": JobState.FAILED,
    "TIMEOUT": JobState.TIMED_OUT,
    "DEADLINE": JobState.TIMED_OUT,
    "OUT_OF_MEMORY": JobState.OUT_OF_MEMORY,
    "NODE_FAIL": JobState.NODE_FAILED,
    "BOOT_FAIL": JobState.NODE_FAILED,
    "PREEMPTED": JobState.PREEMPTED,
}
HELD_REASONS = frozenset({"JobHeldUser", "JobHeldAdmin"})
NO_REASON = frozenset({"None", "", "(null)"})
FORGOTTEN = "Job dependency problem"  # also of a job that ended more than MinJobAge ago (24.11)
UNSET = str(2**32 - 2)  # "%a" in a log's name, before there is a task (24.11)
# Of an array's tasks the first of these that occurs is the array's state.
ARRAY_ORDER = (
    JobState.RUNNING,
    JobState.COMPLETING,
    JobState.SUSPENDED,
    JobState.QUEUED,
    JobState.HELD,
    JobState.UNKNOWN,
    JobState.FAILED,
)

ID = re.compile(r"[1-9][0-9]{0,9}\Z")
UNREACHABLE = re.compile(r"Unable to (contact|establish)|Connection refused|not found|No route", re.IGNORECASE)
# slurm_errno.h: of the failures to talk to slurmctld only that to connect says that nothing was sent
CUT_OFF = re.compile(
    r"Socket timed out|Zero Bytes were transmitted|Unexpected message received|Connection reset"
    r"|\((send|receive|shutdown) failure\)|(Message (send|receive)|Communication shutdown) failure"
)
NO_ACCOUNTING = re.compile(r"accounting storage is disabled", re.IGNORECASE)
TOO_LATE = re.compile(r"already (completing|completed|finished)|has finished", re.IGNORECASE)
ARRAY_TASK = re.compile(r"^JobId=\d+ ArrayJobId=\d+ ArrayTaskId=(\S+)", re.MULTILINE)
PATHS = re.compile(r"^   (WorkDir|StdOut|StdErr)=(.*)$", re.MULTILINE)

_told: set[str] = set()


@dataclass(frozen=True, slots=True)
class Answer:
    """sbatch's answer: the job's id, and what `scontrol show job` added of its paths."""

    native_id: str
    shown: dict[str, str]


def check_submit(result: CommandResult) -> None:
    """Raises unless sbatch succeeded."""
    if result.exit_code == 0:
        return
    words = last_line(result.stderr) or f"sbatch ended with exit code {result.exit_code}"
    if CUT_OFF.search(result.stderr):
        raise OutcomeUnknown(f"Slurm did not answer: {words}", **_diagnosis(result))
    if UNREACHABLE.search(result.stderr):
        raise HostDown(f"Slurm is down: {words}", **_diagnosis(result))
    errors = {"dependencies": [words]} if FORGOTTEN in words else {}
    raise RefusedByScheduler(f"Slurm refused the job: {words}", errors=errors, **_diagnosis(result))


def submitted(output: str, result: CommandResult) -> Answer:
    """From `sbatch --parsable`: `<id>` or `<id>;<cluster>`, perhaps `scontrol show job` behind it."""
    first, _, rest = output.partition("\n")
    native_id = first.split(";")[0]
    if not native_id.isdigit():
        raise InvalidSchedulerAnswer(f"sbatch answered {first[:100]!r} instead of a job id", **_diagnosis(result))
    return Answer(native_id, paths(rest))


def paths(shown: str) -> dict[str, str]:
    """WorkDir, StdOut and StdErr of `scontrol show job`. The first line holds the job's name, which may try to look
    like them; the last word on each is Slurm's own."""
    known = {key: value for key, value in PATHS.findall(shown) if value and value != "(null)"}
    tasks = ARRAY_TASK.findall(shown)
    logs = {key: _of_any_task(known[key], tasks[-1]) for key in ("StdOut", "StdErr") if tasks and key in known}
    return {**known, **logs}


def _of_any_task(path: str, task: str) -> str:
    """The file's name with `{task_id}` where it has, at last, the number of the task that was shown."""
    number = UNSET if UNSET in path else task
    before, found, behind = path.rpartition(number)
    return f"{before}{{task_id}}{behind}" if found and number.isdigit() else path


def found(report: JobReport, uuid: str, shown: CommandResult) -> JobReport:
    """A job that was found again, with its folder and its logs as far as Slurm still knows them."""
    found = paths(shown.stdout)
    return replace(
        report,
        uuid=uuid,
        working_directory=found.get("WorkDir"),
        stdout_file=found.get("StdOut"),
        stderr_file=found.get("StdErr"),
    )


def checked(result: CommandResult) -> str:
    """What a query printed. Raises unless it succeeded and its output is whole."""
    if result.exit_code == 0:
        if result.stdout and not result.stdout.endswith("\n"):
            raise InvalidSchedulerAnswer("Slurm's answer is cut short", **_diagnosis(result))
        return result.stdout
    words = last_line(result.stderr) or f"exit code {result.exit_code}"
    if UNREACHABLE.search(result.stderr) or CUT_OFF.search(result.stderr):
        raise HostDown(f"Slurm is down: {words}", **_diagnosis(result))
    raise InvalidSchedulerAnswer(f"Slurm answered with an error: {words}", **_diagnosis(result))


def accounting_is_off(result: CommandResult) -> bool:
    return result.exit_code != 0 and bool(NO_ACCOUNTING.search(result.stderr))


def queue(output: str) -> dict[str, JobReport]:
    """Live jobs, from commands.QUEUE_FORMAT."""
    rows = (_fields(line, 7) for line in output.splitlines())
    return _by_job(
        _report(native_id, state, reason, nodes, cores, partition, start, "", "")
        for native_id, state, reason, nodes, cores, partition, start in rows
    )


def memory(output: str) -> dict[str, JobReport]:
    """Remembered jobs, from commands.MEMORY_FORMAT, which ends each field with `|`."""
    rows = (_fields(line, 10)[:9] for line in output.splitlines())
    return _by_job(_report(*row) for row in rows)


def accounting(output: str) -> dict[str, JobReport]:
    """Ended jobs, from commands.ACCOUNTING_FORMAT."""
    rows = (_fields(line, 8) for line in output.splitlines())
    return _by_job(
        _report(native_id, state, "", nodes, cores, partition, start, end, exit_code)
        for native_id, state, exit_code, nodes, cores, partition, start, end in rows
    )


def _fields(line: str, expected: int) -> list[str]:
    fields = line.split("|")
    if len(fields) != expected or not fields[0][:1].isdigit():
        raise InvalidSchedulerAnswer(f"Slurm's answer cannot be understood: {line[:200]!r}", standard_output=line)
    return fields


def _report(
    native_id: str,
    native_state: str,
    reason: str,
    nodes: str,
    cores: str,
    partition: str,
    start: str,
    end: str,
    exit_code: str,
) -> JobReport:
    state = _state(native_state, reason)
    waiting = state in (JobState.QUEUED, JobState.HELD)
    code, signal = _exit(exit_code) if state.final else (None, None)
    unset = code == 0 and signal is None and state != JobState.FINISHED  # 0:0 where the job did not end by itself
    return JobReport(
        native_id=native_id,
        state=state,
        native_state=native_state,
        exit_code=None if unset else code,
        signal=signal,
        reason=None if reason in NO_REASON else reason,
        nodes=_number(nodes),
        cores=_number(cores) or None,  # 0: nothing was ever allocated
        queue=partition or None,
        start_time=None if waiting else _time(start),  # of a pending job squeue prints a guess
        end_time=_time(end) if state.final else None,  # of a running job it is the limit
    )


def _state(native_state: str, reason: str) -> JobState:
    word = native_state.split(" ")[0].rstrip("+")  # "CANCELLED by 1000"
    state = STATES.get(word)
    if state is None:
        if word not in _told:
            _told.add(word)
            log.warning("Slurm says the state %r, which is not known here", word)
        return JobState.UNKNOWN
    return JobState.HELD if state == JobState.QUEUED and reason in HELD_REASONS else state


def _exit(text: str) -> tuple[int | None, int | None]:
    """`<exit code>:<signal>`; a signal counts as exit code 128 + signal."""
    match = re.fullmatch(r"(\d+):(\d+)", text)
    if not match:
        return None, None
    code, signal = int(match[1]), int(match[2])
    return (128 + signal, signal) if signal else (code, None)


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def _time(text: str) -> datetime | None:
    return datetime.fromtimestamp(int(text), UTC) if text.isdigit() else None  # else N/A, Unknown, None


def _by_job(reports: Iterable[JobReport]) -> dict[str, JobReport]:
    """One report per job; an array's is that of its liveliest task, with those of all."""
    found: dict[str, JobReport] = {}
    tasks: dict[str, dict[int, TaskReport]] = {}
    for report in reports:
        native_id, numbers = job_and_tasks(report.native_id)
        if numbers:
            tasks.setdefault(native_id, {}).update(dict.fromkeys(numbers, _task(report)))
        known = found.get(native_id)
        if known is None or _rank(report) < _rank(known):
            found[native_id] = report
    return {
        native_id: replace(report, native_id=native_id, tasks=tasks.get(native_id, {}))
        for native_id, report in found.items()
    }


def job_and_tasks(native_id: str) -> tuple[str, tuple[int, ...]]:
    """Of `123_4` or, for several tasks that wait, `123_[4-9,12%2]`. Tasks that no gateway asks for are left out."""
    job, _, numbers = native_id.partition("_")
    with suppress(ValueError):
        return job, task_range(numbers.strip("[]")).ids
    return job.split("+")[0], ()


def _task(report: JobReport) -> TaskReport:
    return TaskReport(
        report.state,
        report.native_state,
        report.exit_code,
        report.signal,
        report.reason,
        report.start_time,
        report.end_time,
    )


def _rank(report: JobReport) -> int:
    return ARRAY_ORDER.index(report.state) if report.state in ARRAY_ORDER else len(ARRAY_ORDER)


def with_comment(output: str, uuid: str) -> str | None:
    """The job whose comment is the uuid, from lines `<id>|<comment>`, perhaps with a mark in front."""
    if output and not re.match(r"@?[0-9]", output):
        raise InvalidSchedulerAnswer(f"Slurm's answer cannot be understood: {output[:200]!r}")
    for line in output.splitlines():
        native_id, bar, comment = line.partition("|")
        if bar and comment == uuid:
            return re.split("[_+]", native_id.removeprefix("@"))[0]
    return None


def unknown(result: CommandResult) -> bool:
    """slurmctld has never heard of the job, or has forgotten it."""
    return result.exit_code != 0 and "Invalid job id" in result.stderr


def check_control(result: CommandResult, native_id: str) -> None:
    """Raises unless scancel or scontrol did it, or came too late."""
    if result.exit_code == 0 or TOO_LATE.search(result.stderr):
        return
    if unknown(result) or "permission denied" in result.stderr:
        raise NotFound(f"Slurm does not know job {native_id}")
    if UNREACHABLE.search(result.stderr) or CUT_OFF.search(result.stderr):
        raise HostDown(f"Slurm is down: {last_line(result.stderr)}", **_diagnosis(result))
    raise Conflict(f"Slurm refused: {last_line(result.stderr)}", **_diagnosis(result))


def queues(output: str) -> tuple[Queue, ...]:
    """From `sinfo -o %P|%a|%l|%D|%C`; the default partition has a star."""
    found = {}
    for line in output.splitlines():
        fields = line.split("|")
        if len(fields) != 5:
            raise InvalidSchedulerAnswer(f"sinfo's answer cannot be understood: {line[:200]!r}")
        partition, available, limit, nodes, cores = fields
        name = partition.rstrip("*")
        total = _number(cores.split("/")[-1])
        found[name] = Queue(name, partition.endswith("*"), available == "up", seconds(limit), _number(nodes), total)
    return tuple(found.values())


def seconds(limit: str) -> int | None:
    """Of `[D-]HH:MM:SS`, `MM:SS`; None for `infinite`."""
    days, _, clock = limit.rpartition("-")
    parts = clock.split(":")
    if not all(part.isdigit() for part in parts):
        return None
    total = 0
    for part in parts:
        total = total * 60 + int(part)
    return total + 86400 * (_number(days) or 0)


def nodes(output: str) -> dict[str, int]:
    """How many nodes are in each state; a node that is in several partitions counts once."""
    state_of = dict(line.split("|", 1) for line in output.splitlines() if "|" in line)
    states = [state.rstrip("*~#!%$@^-") for state in state_of.values()]
    return {state: states.count(state) for state in sorted(set(states))}


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return re.sub(r"^\w+: error: ", "", lines[-1]) if lines else ""


def _diagnosis(result: CommandResult) -> dict:
    return {"exit_code": result.exit_code, "standard_output": result.stdout[-2000:], "error_output": result.stderr}
