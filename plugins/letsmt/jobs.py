"""The gateway's jobs in LetsMT's words. Nothing is kept of them but in the job itself: which resource it is about and
where its description lies are its `extended_properties.letsmt`."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from gateway import Door, Job, JobState, NotFound

from .answers import NOT_READABLE, Entry, Fault
from .storage import Path, Storage

JOB_ID = re.compile(r"job_(\d{1,12})_(\d{1,18})", re.ASCII)
PROPERTY = "letsmt"
ENGINE = "submitted to grid engine with status: "
UNDER_WAY = ("waiting in import queue", "waiting in re-import queue", "importing")
# As squeue says it, which the repository passed on.
STATUS = {JobState.RUNNING: "RUNNING", JobState.SUSPENDED: "SUSPENDED", JobState.COMPLETING: "COMPLETING"}


def name_of(job: Job) -> str:
    """What LetsMT calls the job: made of when it was made, and its number."""
    return f"job_{int(job.created_at.timestamp())}_{job.number}"


def number_of(name: str) -> int | None:
    """The gateway's number of a job with that name; None where it is no such name."""
    found = JOB_ID.fullmatch(name)
    return int(found[2]) if found else None


def status(job: Job) -> str:
    return STATUS.get(job.state, "RUNNING" if job.state.status == "RUNNING" else "PENDING")


def in_queue(job: Job) -> bool:
    return not job.state.final and job.state != JobState.DRAFT


def entry(job: Job, *, everybodys: bool = False) -> Entry:
    """A line of the list of jobs. Of everybody's it has neither `file` nor `job`, as documented."""
    about = {} if everybodys else about_of(job)
    attributes = {
        "name": name_of(job),
        "file": about.get("file"),
        "id": job.native_id or job.uuid,
        "job": about.get("job"),
    }
    return Entry({k: v for k, v in attributes.items() if v is not None} | {"status": status(job)})


def about_of(job: Job) -> Mapping[str, str]:
    """The resource (`file`) and the description (`job`) of a job that came in here."""
    about = job.extended_properties.get(PROPERTY)
    return {k: v for k, v in about.items() if isinstance(v, str)} if isinstance(about, Mapping) else {}


class Jobs:
    """The caller's jobs."""

    def __init__(self, service: Any, door: Door) -> None:
        self.service = service
        self.door = door

    def named(self, name: str) -> Job:
        """The job with that LetsMT name. Raises Fault."""
        try:
            job: Job = self.service.get(self.door.principal, number_of(name) or name)
        except NotFound:
            raise Fault(NOT_READABLE, f"Cannot find/read job {name!r}") from None
        if number_of(name) and name_of(job) != name:
            raise Fault(NOT_READABLE, f"Cannot find/read job {name!r}")
        return job

    def of(self, path: Path) -> list[Job]:
        """The jobs of a description, with or without its `.xml`, or of a resource; the newest first."""
        found = {
            job.number: job
            for key, value in (("job", str(path)), ("job", f"{path}.xml"), ("file", str(path)))
            for job in self.door.jobs(properties=[([PROPERTY, key], value)])
        }
        return sorted(found.values(), key=lambda job: -job.number)

    def cancel(self, jobs: Iterable[Job], storage: Storage) -> None:
        """End those that have not ended; what is known of their paths says so."""
        for job in jobs:
            if not in_queue(job):
                continue
            self.service.control(self.door.principal, job.uuid, "abort")
            for path in about_of(job).values():
                storage.tell(Path(tuple(path.split("/"))), {"status": "job canceled"})

    def queued(self, everybodys: bool) -> list[Job]:
        """Those that have not ended."""
        states = [state for state in JobState if not state.final and state != JobState.DRAFT]
        return list(self.door.jobs(everybodys, states=states))

    def now(self, records: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
        """Records with what their jobs are at now, which only the scheduler knows."""
        numbers = {number for record in records.values() if (number := number_of(record.get("job_id", "")))}
        jobs = {name_of(job): job for job in self.door.numbered(numbers).values()}
        return {path: told(dict(record), jobs.get(record.get("job_id", ""))) for path, record in records.items()}


def told(record: dict[str, str], job: Job | None) -> dict[str, str]:
    """A record, and what the job that it names is at. A job that was ended from outside never said so itself."""
    if job is None:
        return record
    record["job_status"] = job_status(job, record)
    if job.state.final and record.get("status") in UNDER_WAY:
        record["status"] = "job canceled" if job.state == JobState.CANCELLED else "import failed"
    return record


def job_status(job: Job, record: Mapping[str, str]) -> str:
    """In turn: submitted, fetched, finished."""
    if not job.state.final:
        return "fetched job file" if job.start_time else f"{ENGINE}{status(job).lower()}"
    if job.state == JobState.CANCELLED:
        return "job canceled"
    failed = failures(job, record)
    return f"finished with {failed} failed command(s)" if failed else "finished"


def failures(job: Job, record: Mapping[str, str]) -> int:
    """How many commands failed, or tasks of a run over a subtree."""
    if job.state == JobState.FINISHED:
        return 0
    if job.array:
        return sum(count for state, count in job.task_counts.items() if JobState(state).status == "ERROR") or 1
    return sum(name.startswith("command_") and value != "finished" for name, value in record.items()) or 1
