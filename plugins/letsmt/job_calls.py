"""/ws/job: submitting, looking and cancelling."""

import flask

from gateway import Job

from .answers import MISSING, NOT_READABLE, Fault, answer
from .caller import Caller
from .jobs import Jobs, entry, in_queue, name_of, status
from .runs import run, submit_description
from .storage import path_of


def add(blueprint: flask.Blueprint, caller: Caller, jobs: Jobs) -> None:
    @blueprint.get("/ws/job")
    def queue() -> flask.Response:
        """What is in the queue, of one account; everything for an administrator. With job_id the status of one."""
        if name := caller.arguments.get("job_id"):
            job = jobs.named(name) if caller.is_admin or caller.uid else None
            return answer(words(name, job))
        everybodys = caller.is_admin
        account = None if everybodys else caller.uid
        wanted = [job for job in jobs.queued(everybodys) if account in (None, job.account)]
        return answer(entries=[entry(job, everybodys=everybodys) for job in wanted], of="jobs", location="job")

    @blueprint.get("/ws/job/<path:path>")
    def show(path: str) -> flask.Response:
        """The status of the newest job of a description or resource."""
        wanted = path_of(path)
        known = caller.storage.known(wanted) or {}
        newest = next(iter(jobs.of(wanted)), None)
        if newest is None and "job_id" not in known:
            return answer("job ID not given or found in meta data")
        return answer(words(name_of(newest) if newest else known["job_id"], newest))

    @blueprint.put("/ws/job/<path:path>")
    def start(path: str) -> flask.Response:
        """With run= what that names; without it the job description at the path, whose old job is cancelled first."""
        wanted, storage, arguments = path_of(path), caller.storage, caller.arguments
        if name := arguments.pop("run", ""):
            return answer(run(jobs, storage, name, wanted, arguments))
        jobs.cancel(jobs.of(wanted), storage)
        return answer(submit_description(jobs, storage, wanted))

    @blueprint.post("/ws/job/<path:path>")
    def submit(path: str) -> flask.Response:
        """The job description at the path."""
        return answer(submit_description(jobs, caller.storage, path_of(path)))

    @blueprint.route("/ws/job", methods=["PUT", "POST"])
    def again() -> flask.Response:
        """The job with that job_id once more."""
        job = given()
        new = jobs.service.control(jobs.door.principal, job.uuid, "resubmit")
        return answer(f"submitted job with ID '{name_of(new)}'")

    @blueprint.delete("/ws/job/<path:path>")
    def cancel(path: str) -> flask.Response:
        """The jobs of a description or resource."""
        wanted, storage = path_of(path), caller.storage
        found = jobs.of(wanted)
        if not found:
            raise Fault(NOT_READABLE, f"Cannot find/read a job of {wanted}")
        jobs.cancel(found, storage)
        return answer()

    @blueprint.delete("/ws/job")
    def cancel_one() -> flask.Response:
        """The job with that job_id."""
        jobs.cancel([given()], caller.storage)
        return answer()

    def given() -> Job:
        name = caller.arguments.get("job_id", "")
        if caller.uid and not name:
            raise Fault(MISSING, "Missing job ID (job_id)")
        return jobs.named(name)


def words(name: str, job: Job | None) -> str:
    """A status as squeue was asked for it: a job that has ended is none any more."""
    return status(job).lower() if job and in_queue(job) else f"no job with ID '{name}' found"
