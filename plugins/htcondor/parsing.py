"""Reads what HTCondor's commands print. Pure, and strict: what cannot be understood is an error, never an empty
answer."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from gateway import (
    CommandResult,
    HostDown,
    InvalidSchedulerAnswer,
    JobReport,
    JobState,
    OutcomeUnknown,
    RefusedByScheduler,
    TaskReport,
    task_range,
)

from .commands import CUT, END, SILENT, TASK

Ad = Mapping[str, Any]

# JobStatus, "condor_q -help JobStates" of 23.9
STATES = {
    1: ("IDLE", JobState.QUEUED),
    2: ("RUNNING", JobState.RUNNING),
    3: ("REMOVED", JobState.COMPLETING),
    4: ("COMPLETED", JobState.FINISHED),
    5: ("HELD", JobState.HELD),
    6: ("TRANSFERRING_OUTPUT", JobState.COMPLETING),
    7: ("SUSPENDED", JobState.SUSPENDED),
}
UNCREATED = "UNMATERIALIZED"  # our word: condor_q says nothing of such a task
OF_A_TASK = ("state", "native_state", "exit_code", "signal", "reason", "start_time", "end_time")
REMOVED = 3
COMPLETED = 4
HELD = 5
DURATION_EXCEEDED = 46

NATIVE_ID = re.compile(r"[1-9][0-9]{0,8}(\.[0-9]{1,9})?")
SUBMITTED = re.compile(r"([1-9][0-9]*)(\.[0-9]+) - \1(\.[0-9]+)")  # condor_submit -terse
UNREACHABLE = re.compile(
    r"Failed to (fetch ads|connect)|find address|unknown host|Unable to locate|SECMAN:200[37]|: not found$",
    re.MULTILINE,
)
UNCOMMITTED = "Failed to commit job submission"
ESCAPE = re.compile(r"\\([\s\S])")
VERSION = re.compile(r"\$CondorVersion: (\S+)")


def is_native_id(native_id: str) -> bool:
    return NATIVE_ID.fullmatch(native_id) is not None


def check_submit(result: CommandResult) -> None:
    """Raises unless condor_submit succeeded."""
    if result.exit_code == 0:
        return
    said = words(result)
    errors = re.findall(r"^ERROR:", result.stderr, re.MULTILINE)
    if result.exit_code == CUT or (UNCOMMITTED in result.stderr and len(errors) == 1):
        raise OutcomeUnknown(f"HTCondor did not answer: {said}", **_diagnosis(result))
    if result.exit_code == SILENT or UNREACHABLE.search(result.stderr):
        raise HostDown(f"HTCondor is down: {said}", **_diagnosis(result))
    if "-maxjobs" in said:
        said = "a request is one job, and this `queue` statement asks for several"
    raise RefusedByScheduler(f"HTCondor refused the job: {said}", **_diagnosis(result))


def submitted(output: str, result: CommandResult, *, array: bool) -> tuple[str, Ad]:
    """The job's id, an array's is its cluster's, and its ad where the command went on to show it."""
    first, _, rest = output.partition("\n")
    match = SUBMITTED.fullmatch(first)
    if not match or (match[2] != match[3] and not array):
        raise InvalidSchedulerAnswer(f"condor_submit answered {first[:100]!r}, not a job id", **_diagnosis(result))
    return match[1] if array else match[1] + match[2], _first_ad(rest)


def _first_ad(shown: str) -> Ad:
    """Of what condor_q and then condor_history say; a job may leave the one before it is in the other."""
    decoder = json.JSONDecoder(strict=False)
    text = _repaired(shown).lstrip()
    while text.startswith("["):
        try:
            found, end = decoder.raw_decode(text)
        except json.JSONDecodeError:
            return {}
        if found:
            return found[0]
        text = text[end:].lstrip()
    return {}


def submit_warnings(result: CommandResult) -> tuple[str, ...]:
    """What condor_submit has to say about the user's own description."""
    lines = (line.strip() for line in result.stderr.splitlines())
    return tuple(line.removeprefix("WARNING: ") for line in lines if line.startswith("WARNING: "))


def paths(ad: Ad) -> tuple[str | None, str | None, str | None]:
    """Working directory, standard output and error, absolute; with `{task_id}` where the ad is a task's."""
    folder = _word(ad.get("Iwd"))
    logs = [_path(folder, ad.get(name)) for name in ("Out", "Err")]
    if (task := _number(ad.get(TASK))) is not None:
        logs = [log and f"{log.removesuffix(f'.{task}')}.{{task_id}}" for log in logs]
    return folder, logs[0], logs[1]


def _path(folder: str | None, name: Any) -> str | None:
    name = _word(name)
    if name is None or name.startswith("/"):
        return name
    return f"{folder.rstrip('/')}/{name}" if folder else None


def checked(result: CommandResult) -> str:
    """What a query printed. Raises unless it succeeded and its output is whole."""
    if result.exit_code == 0:
        output, end, rest = result.stdout.rpartition(f"{END}\n")
        if not end or rest:
            raise InvalidSchedulerAnswer("HTCondor's answer is cut short", **_diagnosis(result))
        return output
    check_reachable(result)
    raise InvalidSchedulerAnswer(f"HTCondor answered with an error: {words(result)}", **_diagnosis(result))


def check_reachable(result: CommandResult) -> None:
    """Raises where a command failed since condor_schedd did not answer."""
    if result.exit_code and UNREACHABLE.search(result.stderr):
        raise HostDown(f"HTCondor is down: {words(result)}", **_diagnosis(result))


def ads(output: str) -> list[Ad]:
    """From `-json`. condor_q prints nothing where it has no jobs, condor_history an empty list (23.9)."""
    if not output.strip():
        return []
    try:
        found = json.loads(_repaired(output), strict=False)
    except (json.JSONDecodeError, RecursionError) as problem:
        raise InvalidSchedulerAnswer(f"HTCondor's answer cannot be understood: {problem}") from None
    if not isinstance(found, list) or not all(isinstance(ad, dict) for ad in found):
        raise InvalidSchedulerAnswer("HTCondor's answer cannot be understood: it is not a list of ads")
    return found


def _repaired(text: str) -> str:
    """JSON again: bytes that are not UTF-8 came as `\\xff`, which JSON does not know."""
    return ESCAPE.sub(lambda match: match[0] if match[1] in '"\\/bfnrtu' else f"\\\\{match[1]}", text)


def queue(output: str) -> dict[str, JobReport]:
    """Live jobs."""
    return _by_id(ads(output), left=False)


def history(output: str) -> dict[str, JobReport]:
    """Jobs that have left the queue."""
    return _by_id(ads(output), left=True)


def found(output: str, *, left: bool) -> JobReport | None:
    """The job that was asked for, with its files."""
    for ad in ads(output):
        folder, stdout, stderr = paths(ad)
        return replace(report(ad, left=left), working_directory=folder, stdout_file=stdout, stderr_file=stderr)
    return None


def _by_id(found: Iterable[Ad], *, left: bool) -> dict[str, JobReport]:
    """One report per job; an array's has those of its tasks."""
    reports: dict[str, JobReport] = {}
    tasks: dict[str, dict[int, TaskReport]] = {}
    for ad in found:
        told = report(ad, left=left)
        reports[told.native_id] = told
        if (task := _number(ad.get(TASK))) is not None:
            of_array = tasks.setdefault(told.native_id, {})
            if not of_array:
                of_array.update(to_come(ad))
            of_array[task] = TaskReport(**{name: getattr(told, name) for name in OF_A_TASK})
    return {native_id: replace(told, tasks=tasks.get(native_id, {})) for native_id, told in reports.items()}


def to_come(ad: Ad) -> dict[int, TaskReport]:
    """The tasks that HTCondor has not created yet, by what any ad of the array says."""
    following, everything = _number(ad.get("JobMaterializeNextProcId")), _word(ad.get("JobgateTasks"))
    if following is None or everything is None:
        return {}
    return dict.fromkeys(task_range(everything).ids[following:], TaskReport(JobState.QUEUED, UNCREATED))


def report(ad: Ad, *, left: bool) -> JobReport:
    """What an ad says of its job; `left`: the job is in the queue no more."""
    cluster, process, status = (_number(ad.get(key)) for key in ("ClusterId", "ProcId", "JobStatus"))
    if cluster is None or process is None or status is None:
        raise InvalidSchedulerAnswer(f"HTCondor's answer cannot be understood: {str(ad)[:200]}")
    word, _ = STATES.get(status, (f"JobStatus {status}", None))
    state = _state(ad, status, left)
    code, signal = _exit(ad) if status == COMPLETED else (None, None)
    waiting = state in (JobState.QUEUED, JobState.HELD)
    return JobReport(
        native_id=f"{cluster}" if TASK in ad else f"{cluster}.{process}",
        state=state,
        native_state=word,
        uuid=_word(ad.get("JobgateId")),
        exit_code=code,
        signal=signal,
        reason=_reason(ad, state),
        nodes=None if waiting else 1,
        cores=_number(ad.get("CpusProvisioned")) or _number(ad.get("RequestCpus")),
        start_time=None if waiting else _time(ad.get("JobCurrentStartDate")),
        end_time=(_time(ad.get("CompletionDate")) or _time(ad.get("EnteredCurrentStatus"))) if state.final else None,
    )


def _state(ad: Ad, status: int, left: bool) -> JobState:
    if _timed_out(ad, status):
        return JobState.TIMED_OUT
    if status == REMOVED:
        return JobState.CANCELLED if left else JobState.COMPLETING
    if status == COMPLETED:
        code, _ = _exit(ad)
        return {None: JobState.UNKNOWN, 0: JobState.FINISHED}.get(code, JobState.FAILED)
    _, state = STATES.get(status, ("", JobState.UNKNOWN))
    return JobState.UNKNOWN if left else state


def _timed_out(ad: Ad, status: int) -> bool:
    """HTCondor holds a job that ran too long (23.9); a limit of ours has it removed then."""
    if "JobgateWallTime" not in ad:
        return False
    why = {HELD: "HoldReasonCode", REMOVED: "LastHoldReasonCode"}.get(status)
    return why is not None and ad.get(why) == DURATION_EXCEEDED


def _exit(ad: Ad) -> tuple[int | None, int | None]:
    signal = _number(ad.get("ExitSignal"))
    if ad.get("ExitBySignal") is True and signal is not None:
        return 128 + signal, signal
    return _number(ad.get("ExitCode")), None


def _reason(ad: Ad, state: JobState) -> str | None:
    if state == JobState.TIMED_OUT:
        return _word(ad.get("HoldReason")) or _word(ad.get("LastHoldReason"))
    key = {JobState.HELD: "HoldReason", JobState.CANCELLED: "RemoveReason", JobState.COMPLETING: "RemoveReason"}
    return _word(ad.get(key[state])) if state in key else None


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None  # an expression is a string


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _time(value: Any) -> datetime | None:
    seconds = _number(value)
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


def version(output: str) -> str:
    match = VERSION.search(output)
    if not match:
        raise InvalidSchedulerAnswer(f"condor_version answered {output[:100]!r}")
    return match[1]


def nodes(machines: Iterable[Ad]) -> dict[str, int]:
    """How many machines are in each state. One is Claimed as soon as one of its slots is."""
    state_of: dict[str, str] = {}
    for ad in machines:
        machine, state = _word(ad.get("Machine")), _word(ad.get("State"))
        if machine and state and (state == "Claimed" or machine not in state_of):
            state_of[machine] = state
    states = list(state_of.values())
    return {state: states.count(state) for state in sorted(set(states))}


def words(result: CommandResult) -> str:
    """What went wrong, in HTCondor's words: without its warnings, and without the advice of several paragraphs that
    condor_q adds."""
    lines = (line.strip() for line in result.stderr.partition("Extra Info:")[0].splitlines())
    said = (re.sub(r"^(ERROR:|Error:|--) *", "", line) for line in lines if not line.startswith("WARNING:"))
    return " ".join(filter(None, said))[:500] or f"exit code {result.exit_code}"


def _diagnosis(result: CommandResult) -> dict:
    return {"exit_code": result.exit_code, "standard_output": result.stdout[-2000:], "error_output": result.stderr}
