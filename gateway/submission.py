"""The way of a committed job to its host, and what is written down of it: handed over, held back, adopted, cancelled.
The service goes it with a request, the tick with what was cut off.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from gateway.audit import Audit
from gateway.dependencies import Upstream, prospect
from gateway.errors import (
    Forbidden,
    HostDown,
    HostTimeout,
    InvalidSchedulerAnswer,
    JobgateError,
    NotFound,
    OutcomeUnknown,
    RefusedByScheduler,
)
from gateway.hosts import Host, Hosts
from gateway.model import Job, JobReport, JobSpec, JobState, Submitted, task_range
from gateway.reports import Reports
from gateway.request import job_spec
from gateway.store import Repository, TaskFilter, now
from gateway.transport.deadline import not_after

log = logging.getLogger(__name__)

JobChanged = Callable[[Job, JobState | None], None]


class Submission:
    """Of the jobs of all hosts. `changed` is told of each new state. Safe to use from many threads."""

    def __init__(
        self, hosts: Hosts, repository: Repository, changed: JobChanged, audit: Audit, reports: Reports
    ) -> None:
        self.hosts = hosts
        self.repository = repository
        self.changed = changed
        self.audit = audit
        self.reports = reports

    def hand_over(self, host: Host, job: Job, script: str, end: float, refused: Callable[[Job], object]) -> Job:
        """Submit it and wait for the answer, until `end` (monotonic seconds). `refused` is what becomes of a job that
        is known not to exist on the host. Raises as `JobService.submit` does."""
        with self._settled_later(job):
            prepared = self.prepare(host, job, script)
        if isinstance(prepared, Job):
            return prepared
        try:
            with not_after(end):
                submitted = host.backend.submit(prepared)
        except (RefusedByScheduler, HostDown, Forbidden) as problem:
            with self._settled_later(job):
                if "dependencies" in problem.errors:  # it has forgotten a job; the tick will know how that one ended
                    return self.wait(job, problem.message)
                refused(job)
            raise
        except (HostTimeout, OutcomeUnknown, InvalidSchedulerAnswer) as problem:
            with self._settled_later(job):
                return self._find_out(host, job, problem)
        with self._settled_later(job):
            return self.adopt(job, submitted)

    def prepare(self, host: Host, job: Job, script: str) -> JobSpec | Job:
        """What the backend is to run now. Where it is not to run yet, or never, that is written down, and the answer is
        the job as it is then."""
        if not job.request.get("dependencies"):
            return self.spec(job, script)
        native = host.backend.capabilities.dependencies
        ahead = prospect(self.repository.waits_for(job.number), host.name, native)
        if ahead.never:
            return self.cancel(job, ahead.never)
        if ahead.waits:
            return self.wait(job, ahead.waits)
        return replace(self.spec(job, script), dependencies=ahead.native)

    def _find_out(self, host: Host, job: Job, problem: JobgateError) -> Job:
        """The submit broke off. Perhaps the scheduler knows more; otherwise the tick asks again later."""
        try:
            report = host.backend.find(job.mark, job.account)
        except JobgateError as other:
            log.warning("looking for job %s on %s failed: %s", job.uuid, host.name, other.message)
            report = None
        if report:
            return self.adopt(job, found(report, job))
        self.repository.change_job(job, reason=f"submission not confirmed: {problem.message}", stale=True)
        raise self._not_known(job, problem) from problem

    def adopt(self, job: Job, submitted: Submitted) -> Job:
        """Commit what the scheduler answered to a submit."""
        state = JobState.HELD if job.request.get("hold") else JobState.QUEUED
        tasks = task_range(job.array).ids if job.array else ()
        changed = self.repository.change_job(
            job,
            new_tasks=tasks,
            state=state,
            task_counts={state: len(tasks)} if tasks else {},
            native_id=submitted.native_id,
            working_directory=submitted.working_directory,
            stdout_file=submitted.stdout_file,
            stderr_file=submitted.stderr_file,
            warnings=list(submitted.warnings),
            submitted_at=now(),
            as_of=now(),
            stale=False,
            reason=None,
            native_state=None,
        )
        self.changed(changed, job.state)
        return changed

    def wait(self, job: Job, words: str) -> Job:
        """Hold a job back until what it depends on has happened. The scheduler does not have it."""
        return self._moved(job, state=JobState.HELD, reason=words, native_state=None, as_of=None)

    def cancel(self, job: Job, words: str) -> Job:
        """End a job that has not begun, and is not the scheduler's, or not any more."""
        end = {"state": JobState.CANCELLED, "reason": words, "end_time": now()}
        if not job.task_counts:
            return self._moved(job, **end, stale=False)
        rows = [{"task_id": task.task_id, **end} for task in self.repository.tasks(job.number, TaskFilter())]
        for changed, before in self.repository.change_jobs([(job, {**end, "stale": False})], {job.number: rows}):
            self.changed(changed, before)
            job = changed
        return job

    def cancel_if_hopeless(self, job: Job, upstreams: Sequence[Upstream]) -> bool:
        """Whether a job can never start; then it is cancelled, on its host too."""
        ahead = prospect(upstreams, job.host, ())
        if not ahead.never:
            return False
        if job.native_id:
            with suppress(NotFound):
                self.hosts.of(job).backend.control("abort", job.native_id, job.account)
        cancelled = self.cancel(job, ahead.never)
        self.audit.gateway_did("cancel", cancelled, ahead.never)
        return cancelled.state.final

    def _moved(self, job: Job, **values: Any) -> Job:
        changed = self.repository.change_job(job, **values)
        if changed.state != job.state and changed.state == values["state"]:
            self.changed(changed, job.state)
        return changed

    def spec(self, job: Job, script: str) -> JobSpec:
        """What the backend is to run."""
        return job_spec(job, script, self.reports.environment(job.uuid))

    @contextmanager
    def _settled_later(self, job: Job) -> Iterator[None]:
        """A database that fails at this point knows of the job and not how its submission went; the tick finds out."""
        try:
            yield
        except HostDown as problem:
            raise self._not_known(job, OutcomeUnknown(problem.message)) from problem

    def _not_known(self, job: Job, problem: JobgateError) -> JobgateError:
        where = f"{self.reports.base_url}/api/jobs/{job.uuid}"
        return type(problem)(
            f"{problem.message}. Whether the job was submitted is not known yet; ask {where}, or repeat the request "
            "with its Idempotency-Key. Do not submit it again without one.",
            exit_code=problem.exit_code,
            standard_output=problem.standard_output,
            error_output=problem.error_output,
            headers={"Location": where},
            uuid=job.uuid,
        )


def held_back(job: Job) -> bool:
    """The gateway itself holds the job back; the scheduler does not have it."""
    return job.state == JobState.HELD and job.native_id is None


def found(report: JobReport, job: Job) -> Submitted:
    """A job that was found in the scheduler, as if its submit had just answered."""
    return Submitted(
        native_id=report.native_id,
        working_directory=report.working_directory or job.working_directory or "",
        stdout_file=report.stdout_file,
        stderr_file=report.stderr_file,
    )
