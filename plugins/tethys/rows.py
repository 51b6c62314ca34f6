"""A job as a row of a Tethys jobs table."""

from datetime import UTC, datetime
from typing import Any

from gateway import Job, JobState

STATUS = {
    JobState.DRAFT: "Pending",
    JobState.SUBMITTING: "Submitted",
    JobState.QUEUED: "Submitted",
    JobState.HELD: "Paused",
    JobState.SUSPENDED: "Paused",
    JobState.FINISHED: "Complete",
    JobState.CANCELLED: "Aborted",
}


def row(job: Job) -> dict[str, Any]:
    """The job's columns, and which actions are open to it. Times are RFC 3339 in UTC, `run_time` is in seconds."""
    end = job.end_time or datetime.now(UTC)
    return {
        "id": job.number,
        "name": job.name,
        "description": job.description or "",
        "user": job.account,
        "status": status(job),
        "creation_time": time(job.created_at),
        "execute_time": time(job.submitted_at),
        "start_time": time(job.start_time),
        "completion_time": time(job.end_time),
        "run_time": round((end - job.start_time).total_seconds()) if job.start_time else None,
        "workspace": job.working_directory,
        "extended_properties": dict(job.extended_properties),
        "job_id": job.job_id,
        "reason": job.reason,
        "actions": actions(job),
    }


def status(job: Job) -> str:
    """Tethys's word. An array whose tasks differ is Various."""
    if job.array and len(job.task_counts) > 1:
        return "Various-Complete" if job.state.final else "Various"
    return STATUS.get(job.state) or ("Error" if job.state.final else "Running")


def actions(job: Job) -> dict[str, bool]:
    """The buttons of the table's row: Run iff pending, Resubmit iff final, Terminate iff active, Delete iff not active,
    logs not before running."""
    draft, final = job.state == JobState.DRAFT, job.state.final
    return {
        "run": draft,
        "resubmit": final,
        "terminate": not draft and not final,
        "delete": draft or final,
        "logs": job.start_time is not None or final,
        "results": final and job.state.status == "FINISHED",
    }


def time(at: datetime | None) -> str | None:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z") if at else None


def field(row: dict[str, Any], path: str) -> Any:
    """A column such as `name` or `extended_properties.a.b`; None where there is no such thing."""
    value: Any = row
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def comparable(value: Any) -> tuple[int, int | float, str]:
    """To sort any column by: what is not there first, then numbers, then text."""
    if value is None:
        return 0, 0, ""
    return (1, value, "") if isinstance(value, int | float) else (2, 0, str(value))
