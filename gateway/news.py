"""What a scheduler's answer changes of what is known: states change on evidence only, and missing is not done."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from gateway.model import REPORTED, TASK_REPORTED, JobReport, JobState, LiveJob, Task, TaskReport

LOST_WORDS = "neither the queue nor the accounting knows it any more"
# Of the tasks that have not ended, the first of these that occurs is the array's state.
LIVE_ORDER = (
    JobState.RUNNING,
    JobState.COMPLETING,
    JobState.SUSPENDED,
    JobState.UNKNOWN,
    JobState.QUEUED,
    JobState.HELD,
)
# What follows from an array's tasks, whatever is reported of the array as a whole.
FROM_TASKS = frozenset({"state", "reason", "exit_code", "signal", "start_time", "end_time"})


def news(
    job: LiveJob, report: JobReport | None, at: datetime, last_success: datetime | None, lost_after: timedelta
) -> Mapping[str, Any]:
    """What a query's answer changes of a job: its new columns, empty where there is nothing to write.

    `report` is None where the answer, a good one, does not mention the job: missing is not done, so it stays as it was,
    `stale`, and after `lost_after` it is lost. `last_success` is when the host last answered before."""
    if report is None:
        if not job.stale:
            return {"stale": True, "as_of": max(filter(None, (job.as_of, last_success)), default=at)}
        if job.state != JobState.LOST and at - (job.as_of or at) >= lost_after:
            return {"state": JobState.LOST, "reason": LOST_WORDS}
        return {}
    changed = _changed(job, report, REPORTED)
    if job.stale:
        changed["stale"] = False
    if job.state == JobState.LOST and report.reason is None:
        changed["reason"] = None
    return {**changed, "as_of": at} if changed else {}


def array_news(
    job: LiveJob,
    tasks: Collection[Task],
    report: JobReport | None,
    at: datetime,
    last_success: datetime | None,
    lost_after: timedelta,
) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    """As `news`, for an array and those of its tasks whose end is not known: its own new columns, without what follows
    from its tasks, and the tasks' new columns, each with its `task_id`. A task that is not mentioned stays as it is;
    where none is, the array counts as not mentioned."""
    told = report.tasks if report else {}
    if report is None or not any(task.task_id in told for task in tasks):
        values = news(job, None, at, last_success, lost_after)
        if values.get("state") != JobState.LOST:
            return values, []
        lost = {"state": JobState.LOST, "reason": LOST_WORDS}
        return {}, [{"task_id": task.task_id, **lost} for task in tasks]
    changed = [values for task in tasks if (values := _task_news(task, told.get(task.task_id)))]
    values = news(job, report, at, last_success, lost_after)
    own = {name: value for name, value in values.items() if name not in FROM_TASKS}
    return ({} if own.keys() == {"as_of"} and not changed else own), changed


def _task_news(task: Task, report: TaskReport | None) -> Mapping[str, Any]:
    if report is None or (
        report.state == task.state and report.native_state == task.native_state and _same(task, report)
    ):
        return {}
    changed = _changed(task, report, TASK_REPORTED)
    if changed.get("state", task.state) != task.state and report.reason is None and task.reason is not None:
        changed["reason"] = None
    return {"task_id": task.task_id, **changed} if changed else {}


def _same(task: Task, report: TaskReport) -> bool:
    """Of a state that has nothing more to tell: ten thousand tasks wait like this one."""
    return (
        report.start_time in (None, task.start_time)
        and report.reason in (None, task.reason)
        and report.end_time is None
    )


def _changed(known: object, report: object, names: Iterable[str]) -> dict[str, Any]:
    return {
        name: value for name in names if (value := getattr(report, name)) is not None and value != getattr(known, name)
    }


@dataclass(frozen=True, slots=True)
class Tally:
    """How many tasks of an array are in each state, the first start, the last end, and the highest exit code."""

    counts: Mapping[JobState, int]
    start_time: datetime | None = None
    end_time: datetime | None = None
    exit_code: int | None = None


def array_columns(tally: Tally) -> dict[str, Any]:
    """The columns of an array that follow from its tasks. It runs while one runs, and between one and the next; when
    all have ended it has failed if one has, and `reason` says how many."""
    state = array_state(tally.counts)
    return {
        "state": state,
        "reason": _reason(tally.counts) if state.final else None,
        "exit_code": tally.exit_code if state.final else None,
        "start_time": tally.start_time,
        "end_time": tally.end_time if state.final else None,
        "task_counts": {str(each): count for each, count in tally.counts.items()},
    }


def array_state(counts: Mapping[JobState, int]) -> JobState:
    """The state of an array with so many tasks in each state."""
    live = [state for state in LIVE_ORDER if state in counts]
    if live:
        begun = any(state.final and state != JobState.CANCELLED for state in counts)
        return JobState.RUNNING if begun and live[0] == JobState.QUEUED else live[0]
    if JobState.LOST in counts:
        return JobState.LOST
    if any(state.status == "ERROR" for state in counts):
        return JobState.FAILED
    return JobState.CANCELLED if JobState.CANCELLED in counts else JobState.FINISHED


def _reason(counts: Mapping[JobState, int]) -> str | None:
    """Such as `2 of 100 tasks failed, 1 cancelled`; nothing where all ended well."""
    bad = {state: count for state, count in counts.items() if state != JobState.FINISHED}
    if not bad:
        return None
    first, *others = (
        f"{count} {{}}{state.replace('_', ' ')}" for state, count in sorted(bad.items(), key=_worst_first)
    )
    of_all = f"of {sum(counts.values())} tasks "
    return ", ".join([first.format(of_all), *(other.format("") for other in others)])


def _worst_first(counted: tuple[JobState, int]) -> tuple[bool, int]:
    return counted[0].status != "ERROR", -counted[1]
