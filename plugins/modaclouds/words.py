"""A job in the words of the MODAClouds batch engine, which are HTCondor's."""

from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

from gateway import Job, JobState

STATUS = {
    JobState.DRAFT: "idle",
    JobState.SUBMITTING: "idle",
    JobState.QUEUED: "idle",
    JobState.HELD: "held",
    JobState.RUNNING: "running",
    JobState.SUSPENDED: "running",
    JobState.COMPLETING: "running",
    JobState.UNKNOWN: "running",
    JobState.CANCELLED: "removed",
    JobState.LOST: "removed",
    JobState.SUBMIT_FAILED: "submission_error",
}

# State → number and words of an event in HTCondor's user log (HTCondor manual, "Job Event Log Codes").
EVENTS = {
    JobState.QUEUED: (0, "Job submitted"),
    JobState.RUNNING: (1, "Job executing"),
    JobState.CANCELLED: (9, "Job was aborted"),
    JobState.SUSPENDED: (10, "Job was suspended"),
    JobState.HELD: (12, "Job was held"),
}
TERMINATED, OTHER = (5, "Job terminated"), (28, "Job ad information")


def status(state: JobState) -> str:
    """A job whose program failed is completed, too: `exit_status` tells."""
    return STATUS.get(state, "completed")


def listed(job: Job) -> dict[str, str]:
    return {"id": job.uuid, "job_status": status(job.state)}


def information(job: Job, history: Iterable[Any] = ()) -> dict[str, Any]:
    """What the engine told of a job; null where nobody knows."""
    cluster, proc = ids(job)
    started = date(job.start_time)
    return {
        "backend_job_status": (job.native_state or status(job.state)).lower(),
        "cluster_id": cluster,
        "exit_by_signal": job.signal is not None,
        "exit_status": job.exit_code,
        "global_job_id": f"{job.host}#{job.native_id}#{round((job.submitted_at or job.created_at).timestamp())}",
        "id": job.uuid,
        "image_size": None,
        "job_completion_date": date(job.end_time),
        "job_current_start_date": started,
        "job_priority": job.request.get("priority") or 0,
        "job_run_count": int(job.start_time is not None),
        "job_start_date": started,
        "job_status": status(job.state),
        "job_universe": "vanilla",
        "local_user_cpu": "0.0",
        "previous_job_status": previous(job, history),
        "proc_id": proc,
    }


def ids(job: Job) -> tuple[Any, int]:
    """The scheduler's number, and the process in it that HTCondor has. A text where a scheduler has no numbers."""
    cluster, _, proc = (job.native_id or "").partition(".")
    number = int(cluster) if cluster.isascii() and cluster.isdigit() else job.native_id
    return number, int(proc) if proc.isascii() and proc.isdigit() else 0


def previous(job: Job, history: Iterable[Any]) -> str | None:
    """The status before the present one."""
    words = [status(event.state) for event in history if event.kind == "job"]
    earlier = [word for word in words if word != status(job.state)]
    return earlier[-1] if earlier else None


def date(at: datetime | None) -> str | None:
    """Such as `Wed, 03 Sep 2014 15:32:56 -0000` (RFC 2822: a time in UTC of which no zone is told)."""
    return format_datetime(at.astimezone(UTC).replace(tzinfo=None)) if at else None


def user_log(job: Job, history: Iterable[Any]) -> str:
    """What happened to the job, as HTCondor's user log tells it."""
    cluster, proc = ids(job)
    name = f"({cluster or 0!s:0>3}.{proc:03}.000)"
    events = []
    for event in history:
        if event.kind != "job" or event.state in (JobState.DRAFT, JobState.SUBMITTING):
            continue
        number, words = EVENTS.get(event.state, TERMINATED if event.state.final else OTHER)
        reason = f"\t{event.reason}\n" if event.reason else ""
        events.append(f"{number:03} {name} {event.at.astimezone(UTC):%Y-%m-%d %H:%M:%S} {words}.\n{reason}...\n")
    return "".join(events)
