"""Reads what Grid Engine's commands print. Pure, and strict: what cannot be understood is an error, never an empty
answer."""

import logging
import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree

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

from .commands import ABORTED

log = logging.getLogger(__name__)

ID = re.compile(r"[1-9][0-9]{0,8}\Z", re.ASCII)
NOT_SENT = re.compile(r"unable to (send message to|contact) qmaster|Connection refused|can't connect|SGE_ROOT")
NO_ANSWER = re.compile(r"failed receiving gdi request|got no response|got read (error|timeout)|commlib error")
TIMED_OUT, NOT_RUN, NOT_FOUND = 124, 126, 127  # timeout(1)
UNKNOWN_JOB = re.compile(r"does not exist|at least owner|necessary privileges|no permission", re.IGNORECASE)
DELETED_WAITING, DELETED_RUNNING = re.compile(r"has deleted job\b"), re.compile(r"has registered the job\b")
DELETED_TASKS = re.compile(r"has deleted job-array task(?: \d+\.(\d+)$|s ([\d:,-]+) of job)", re.MULTILINE)
DELETED_ALL = re.compile(r"has deleted job \d+$", re.MULTILINE)
ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|&#(x[0-9a-fA-F]+|[0-9]+);")

# accounting(5), "failed". After these there will be another record: the job is rescheduled, or stays in the queue with
# an error until somebody clears that or deletes it (8.1.9 writes one for each attempt).
AGAIN = {*range(1, 12), *range(24, 31)}
AROUND_THE_JOB = {12, 13, 14, 15}  # stopping the parallel environment, the epilog: the job itself has ended
NODE = {18, 19, 20, 21}  # the shepherd or the execution daemon failed it
LIMIT = 37  # "qmaster enforced h_rt, h_cpu, or h_vmem limit"
KILLED = 100  # "assumedly after job": by a signal, whoever sent it
FIELDS = 45  # of a record, its category counted as one

# Of an array's tasks the first of these that occurs is the array's state.
ORDER = (
    JobState.RUNNING,
    JobState.COMPLETING,
    JobState.SUSPENDED,
    JobState.QUEUED,
    JobState.HELD,
    JobState.UNKNOWN,
    JobState.CANCELLED,
    JobState.TIMED_OUT,
    JobState.OUT_OF_MEMORY,
    JobState.NODE_FAILED,
    JobState.FAILED,
    JobState.FINISHED,
)

OF_A_TASK = ("state", "native_state", "exit_code", "signal", "reason", "start_time", "end_time")

_told: set[str] = set()


@dataclass(frozen=True, slots=True)
class Details:
    """A live job as `qstat -j` has it. `stdout` and `stderr` are as they were asked for, with Grid Engine's variables
    in them; None: nobody asked."""

    native_id: str
    owner: str
    account_string: str
    name: str
    folder: str | None
    stdout: str | None
    stderr: str | None
    one_log: bool = False
    array: tuple[int, ...] = ()
    started: bool = False
    messages: tuple[str, ...] = ()

    @property
    def uuid(self) -> str:
        return self.account_string.partition(ABORTED)[0]


# --- what went wrong --------------------------------------------------------------------------------------------------


def check_submit(result: CommandResult) -> None:
    """Raises unless qsub succeeded."""
    if result.exit_code == 0:
        return
    _check_reached(result)
    words = last_line(result.stderr) or f"qsub ended with exit code {result.exit_code}"
    if result.exit_code >= TIMED_OUT or NO_ANSWER.search(result.stderr):
        raise OutcomeUnknown(f"Grid Engine did not answer: {words}", **_diagnosis(result))
    raise RefusedByScheduler(f"Grid Engine refused the job: {words}", **_diagnosis(result))


def checked(result: CommandResult) -> str:
    """What a query printed. Raises unless it succeeded."""
    if result.exit_code == 0:
        return result.stdout
    _check_reached(result)
    _check_answered(result)
    words = last_line(result.stderr) or f"exit code {result.exit_code}"
    raise InvalidSchedulerAnswer(f"Grid Engine answered with an error: {words}", **_diagnosis(result))


def check_control(result: CommandResult, native_id: str) -> None:
    """Raises unless qdel, qhold, qrls or qmod did it."""
    if result.exit_code == 0:
        return
    _check_reached(result)
    _check_answered(result)
    said = f"{result.stdout}\n{result.stderr}"
    if UNKNOWN_JOB.search(said):
        raise NotFound(f"Grid Engine does not know job {native_id}")
    raise Conflict(f"Grid Engine refused: {last_line(said)}", **_diagnosis(result))


def _check_reached(result: CommandResult) -> None:
    """Raises HostDown where the qmaster was asked nothing."""
    words = last_line(result.stderr)
    if result.exit_code in (NOT_RUN, NOT_FOUND):
        raise HostDown(f"Grid Engine's commands cannot be run; is bin_dir right? {words}", **_diagnosis(result))
    if NOT_SENT.search(result.stderr):
        raise HostDown(f"Grid Engine is down: {words}", **_diagnosis(result))


def _check_answered(result: CommandResult) -> None:
    if result.exit_code == TIMED_OUT or NO_ANSWER.search(result.stderr):
        words = last_line(result.stderr) or "the qmaster does not answer"
        raise HostDown(f"Grid Engine is down: {words}", **_diagnosis(result))


def deleted_waiting(result: CommandResult) -> bool:
    """qdel removed what had not started, all of it; the accounting will never hear of that (8.1.9)."""
    return bool(DELETED_WAITING.search(result.stdout)) and not DELETED_RUNNING.search(result.stdout)


def deleted_tasks(result: CommandResult, job: Details) -> list[int]:
    """The tasks of an array that qdel removed before they started, of which the accounting will never hear (8.1.9)."""
    if deleted := DELETED_TASKS.findall(result.stdout):
        return [task for one, several in deleted for task in task_range(one or several).ids]
    return [*job.array] if DELETED_ALL.search(result.stdout) else []


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip() not in ("", "Exiting.")]
    return re.sub(r"^(Unable to run job: |qsub: |error: |denied: )+", "", lines[-1]) if lines else ""


def _diagnosis(result: CommandResult) -> dict[str, Any]:
    return {"exit_code": result.exit_code, "standard_output": result.stdout[-2000:], "error_output": result.stderr}


def _nonsense(what: str, text: str) -> InvalidSchedulerAnswer:
    return InvalidSchedulerAnswer(f"{what} cannot be understood: {text[:200]!r}", standard_output=text[-2000:])


# --- jobs that are live -----------------------------------------------------------------------------------------------


def submitted(output: str, result: CommandResult) -> tuple[str, str]:
    """The job's id, from `qsub -terse` (`7`, or `7.1-5:1` for an array; warnings come before it), and the XML of
    `qstat -j` behind it, if any."""
    said, mark, shown = output.partition("<?xml")
    match = re.search(r"^([1-9][0-9]*)(\.[0-9:-]+)?\s*\Z", said, re.MULTILINE)
    if not match:
        text = "qsub answered something else than a job's id"
        raise InvalidSchedulerAnswer(f"{text}: {said[:100]!r}", **_diagnosis(result))
    return match[1], mark + shown


def xml(text: str) -> ElementTree.Element:
    """Raises InvalidSchedulerAnswer where it is none, or half of one. What XML cannot hold, names may."""
    if "<!DOCTYPE" in text:
        raise _nonsense("Grid Engine's answer", text)
    try:
        return ElementTree.fromstring(ILLEGAL.sub(_legal, text))
    except ElementTree.ParseError as problem:
        raise _nonsense("Grid Engine's answer", text) from problem


def _legal(match: re.Match[str]) -> str:
    if not match[1]:
        return "\ufffd"
    code = int(match[1][1:], 16) if match[1].startswith("x") else int(match[1])
    return "\ufffd" if code < 32 and code not in (9, 10, 13) else match[0]


def queue(output: str) -> dict[str, JobReport]:
    """Live jobs, from `qstat -xml`; an array's report follows from its tasks."""
    root = xml(output)
    if root.tag != "job_info":
        raise _nonsense("qstat's answer", output)
    return _by_job(_live(job) for job in root.iter("job_list"))


def _live(job: ElementTree.Element) -> JobReport:
    native_id, native_state = _text(job, "JB_job_number"), _text(job, "state")
    tasks = _text(job, "tasks")
    if not native_id or not native_state:
        raise _nonsense("qstat's answer", ElementTree.tostring(job, "unicode"))
    slots = int(_text(job, "slots") or 0)
    queue_name = _text(job, "queue_name").partition("@")[0]
    return JobReport(
        native_id=f"{native_id}.{tasks}" if tasks else native_id,
        state=state_of(native_state),
        native_state=native_state,
        nodes=1 if slots == 1 and queue_name else None,
        cores=slots or None,
        queue=queue_name or None,
        start_time=_local(_text(job, "JAT_start_time")) if queue_name else None,
    )


def state_of(word: str) -> JobState:
    """From qstat's letters, e.g. `hqw` (qstat(1), "state")."""
    letters = set(word)
    if not letters <= set("dEhrRsStTwqP"):
        if word not in _told:
            _told.add(word)
            log.warning("Grid Engine says the state %r, which is not known here", word)
        return JobState.UNKNOWN
    if "d" in letters:
        return JobState.COMPLETING
    if "E" in letters:
        return JobState.HELD
    if letters & set("sSTP"):
        return JobState.SUSPENDED
    if letters & set("rt"):
        return JobState.RUNNING
    return JobState.HELD if "h" in letters else JobState.QUEUED


def in_error(report: JobReport) -> bool:
    return "E" in report.native_state and report.state == JobState.HELD


def _text(element: ElementTree.Element, tag: str) -> str:
    return (element.findtext(tag) or "").strip()


def _local(text: str) -> datetime | None:
    """`2026-11-21T09:07:04`, which is UTC since qstat ran with TZ=UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC) if text else None


def _by_job(reports: Iterable[JobReport]) -> dict[str, JobReport]:
    """One report per job, of which each is called `<id>` or `<id>.<tasks>`; an array's has those of its tasks."""
    found: dict[str, JobReport] = {}
    tasks: dict[str, dict[int, TaskReport]] = {}
    for report in reports:
        native_id, _, numbers = report.native_id.partition(".")
        if numbers:
            told = TaskReport(**{name: getattr(report, name) for name in OF_A_TASK})
            tasks.setdefault(native_id, {}).update(dict.fromkeys(task_range(numbers).ids, told))
        known = found.get(native_id)
        if known is None or ORDER.index(report.state) < ORDER.index(known.state):
            found[native_id] = replace(report, native_id=native_id)
    return {native_id: replace(report, tasks=tasks.get(native_id, {})) for native_id, report in found.items()}


def details(output: str) -> dict[str, Details]:
    """From `qstat -xml -j`. Jobs that have ended are absent."""
    root = xml(output)
    if root.tag not in ("detailed_job_info", "unknown_jobs"):
        raise _nonsense("qstat's answer", output)
    return {job.native_id: job for job in map(_details, root.iterfind("djob_info/element"))}


def _details(job: ElementTree.Element) -> Details:
    tasks = job.findall("JB_ja_tasks/ulong_sublist")
    native_id = _text(job, "JB_job_number")
    if not native_id:
        raise _nonsense("qstat's answer", ElementTree.tostring(job, "unicode"))
    return Details(
        native_id=native_id,
        owner=_text(job, "JB_owner"),
        account_string=_text(job, "JB_account"),
        name=_text(job, "JB_job_name"),
        folder=job.findtext("JB_cwd"),
        stdout=job.findtext("JB_stdout_path_list/path_list/PN_path"),
        stderr=job.findtext("JB_stderr_path_list/path_list/PN_path"),
        one_log=_text(job, "JB_merge_stderr") == "true",
        array=_range(job) if int(_text(job, "JB_type") or 0) & 128 else (),
        started=any(int(_text(task, "JAT_status") or 0) for task in tasks),
        messages=tuple(said.text for said in job.iter("QIM_message") if said.text),
    )


def _range(job: ElementTree.Element) -> tuple[int, ...]:
    first, last, step = (
        int(_text(job, f"JB_ja_structure/task_id_range/RN_{name}") or 1) for name in ("min", "max", "step")
    )
    return tuple(range(first, last + 1, step))


def needs_home(job: Details) -> bool:
    return any(path and (path.startswith("~") or "$HOME" in path) for path in (job.stdout, job.stderr))


def log_path(job: Details, asked: str | None, account: str, home: str) -> str | None:
    """The file or folder behind a qsub -o or -e: submit(1) has the variables. None where it is on a node."""
    path = asked or "."
    values = {
        "HOME": home,
        "USER": account,
        "JOB_ID": job.native_id,
        "JOB_NAME": job.name,
        "TASK_ID": "{task_id}" if job.array else "0",
    }
    if "$HOSTNAME" in path:
        return None
    path = re.sub(r"\$(HOME|USER|JOB_ID|JOB_NAME|TASK_ID)", lambda match: values[match[1]], path)
    path = re.sub(r"^~(?=/|\Z)", lambda _: home, path)
    return posixpath.normpath(posixpath.join(job.folder or home, path))


def reason(job: Details) -> str | None:
    """Why it is in error, without the time and the process id before it."""
    return re.sub(r"^.*?\]: (error: )?", "", job.messages[0]) if job.messages else None


def with_reason(report: JobReport, words: str | None) -> JobReport:
    """A job in error, or an array with tasks that are."""
    tasks = {
        number: replace(task, reason=words) if "E" in task.native_state else task
        for number, task in report.tasks.items()
    }
    return replace(report, reason=words, tasks=tasks)


def with_account_string(output: str, uuid: str) -> str | None:
    """The job that carries the uuid, from lines of `qstat -j` with numbers and account strings in turn."""
    native_id = None
    for line in complete(output):
        match = re.fullmatch(r" *<JB_(job_number|account)>(.*)</JB_\1>\s*", line)
        if not match:
            raise _nonsense("qstat's answer", line)
        if match[1] == "job_number":
            native_id = match[2]
        elif match[2].partition(ABORTED)[0] == uuid:
            return native_id
    return None


def complete(output: str) -> list[str]:
    """The lines before the last, which says `end`."""
    *lines, last = output.splitlines() or [""]
    if last != "end" or not output.endswith("\n"):
        raise _nonsense("Grid Engine's answer", output)
    return lines


# --- jobs that have ended ---------------------------------------------------------------------------------------------


def accounting(output: str, account: str | None, parallel_environment: str) -> dict[str, JobReport]:
    """Ended jobs, from records of accounting(5). Of a number that was used twice, or of a job that ran twice, the last
    record counts."""
    last: dict[tuple[str, str], list[str]] = {}
    for record in _records(output):
        if account in (None, record[3]):
            last[record[5], record[35]] = record
    return _by_job(_ended(record, parallel_environment) for record in last.values() if _is_the_end(record))


def _is_the_end(record: list[str]) -> bool:
    return int(record[11]) not in AGAIN or _aborted(record)


def _aborted(record: list[str]) -> bool:
    """Somebody asked for its end: of the whole job, or of this task."""
    _, mark, tasks = record[6].partition(ABORTED)
    return bool(mark) and (not tasks or record[35] in tasks.split("."))


def _records(output: str) -> Iterator[list[str]]:
    """The fields of each; the category may hold colons. A line that is cut short is being written, and is left for the
    next time. Of a parallel job's parts on other nodes only the whole counts."""
    for line in complete(output):
        fields = line.split(":")
        if len(fields) < FIELDS or not all(fields[at].isdigit() for at in (5, 9, 10, 11, 12, 34, 35)):
            continue
        if fields[-4] == "NONE":
            yield [*fields[:39], ":".join(fields[39:-5]), *fields[-5:]]


def _ended(record: list[str], parallel_environment: str) -> JobReport:
    start, end, failed, status = (int(record[at]) for at in (9, 10, 11, 12))
    state, words = _outcome(record)
    killed = failed in (KILLED, LIMIT) and status > 128
    return JobReport(
        native_id=record[5] if record[35] == "0" else f"{record[5]}.{record[35]}",
        state=state,
        native_state=f"failed {failed}" if failed else "finished",
        uuid=record[6].partition(ABORTED)[0],
        exit_code=status if start and failed not in AGAIN else None,
        signal=status - 128 if killed else None,
        reason=words,
        nodes=1 if record[33] in ("NONE", parallel_environment) else None,
        cores=int(record[34]),
        queue=record[0],
        start_time=datetime.fromtimestamp(start, UTC) if start else None,
        end_time=datetime.fromtimestamp(end, UTC) if end else None,
    )


def _outcome(record: list[str]) -> tuple[JobState, str | None]:
    start, end, failed, status = (int(record[at]) for at in (9, 10, 11, 12))
    if failed in (0, *AROUND_THE_JOB):
        return (JobState.FAILED if status else JobState.FINISHED), None
    if failed in (KILLED, *AGAIN) and _aborted(record):
        return JobState.CANCELLED, None
    if failed in (KILLED, LIMIT) and end - start >= _limit(record[39], "h_rt"):
        return JobState.TIMED_OUT, "it ran into its wall time"
    if failed == LIMIT:
        memory = re.search(r"\bh_(vmem|data|rss|as)=", record[39])
        return (JobState.OUT_OF_MEMORY, "over its memory") if memory else (JobState.TIMED_OUT, "over its limits")
    if failed in NODE:
        return JobState.NODE_FAILED, f"the node failed it ({failed})"
    return JobState.FAILED, None if failed == KILLED else f"Grid Engine says failed {failed}"


def _limit(category: str, name: str) -> float:
    """Seconds of `-l h_rt=60`; a queue's own limit does not stand there."""
    match = re.search(rf"\b{name}=([0-9:]+)", category)
    if not match:
        return float("inf")
    total = 0
    for part in match[1].split(":"):
        total = total * 60 + int(part or 0)
    return total


def with_details(report: JobReport, job: Details, stdout: str | None, stderr: str | None) -> JobReport:
    return replace(report, uuid=job.uuid, working_directory=job.folder, stdout_file=stdout, stderr_file=stderr)


# --- the cluster ------------------------------------------------------------------------------------------------------


def version(output: str) -> str:
    """The first line of `qstat -help`, e.g. `SGE 8.1.9`."""
    return output.partition("\n")[0].strip()


def queues(summary: str, configuration: str) -> tuple[Queue, ...]:
    """From `qstat -g c -xml` and `qconf -sq '*'`. Grid Engine has no default queue: it takes any that suits."""
    root = xml(summary)
    if root.tag != "job_info":
        raise _nonsense("qstat's answer", summary)
    limits = wall_times(configuration)
    return tuple(_queue(element, limits) for element in root.iter("cluster_queue_summary"))


def _queue(element: ElementTree.Element, limits: dict[str, int | None]) -> Queue:
    name = _text(element, "name")
    total, broken = (int(_text(element, tag) or 0) for tag in ("total", "manual_intervention"))
    return Queue(name, up=broken < total, wall_time=limits.get(name), cores=total)


def wall_times(configuration: str) -> dict[str, int | None]:
    """Each queue's h_rt: `00:10:00`, seconds, or INFINITY, perhaps with `,[host=...]` behind it."""
    limits: dict[str, int | None] = {}
    name = ""
    for line in configuration.splitlines():
        key, _, value = line.partition(" ")
        if key == "qname":
            name = value.strip()
        elif key == "h_rt":
            limits[name] = seconds(value.strip().split(",")[0])
    return limits


def seconds(clock: str) -> int | None:
    parts = clock.split(":")
    if not all(part.isdigit() for part in parts):
        return None
    total = 0
    for part in parts:
        total = total * 60 + int(part)
    return total


def nodes(output: str) -> dict[str, int]:
    """How many hosts report their load, from `qhost -xml`, and how many do not."""
    root = xml(output)
    if root.tag != "qhost":
        raise _nonsense("qhost's answer", output)
    found: dict[str, int] = {}
    for host in root.iterfind("host"):
        if host.get("name") != "global":
            load = host.findtext("hostvalue[@name='load_avg']")
            state = "down" if load in (None, "-") else "up"
            found[state] = found.get(state, 0) + 1
    return found
