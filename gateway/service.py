"""What can be done with jobs. Every door (native API, dialects, commands) comes through here, so the rules are here:
who may see what, what a host can honour, and that a job is submitted exactly once.
"""

import logging
import time
from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import Any

from gateway import job_files, workspaces
from gateway.audit import Audit
from gateway.backend import ACTIONS
from gateway.config import Config
from gateway.errors import Conflict, Forbidden, NotFound, Unprocessable
from gateway.hosts import Hosts
from gateway.model import (
    REPORTED,
    TASK_REPORTED,
    DependencyType,
    Job,
    JobReport,
    JobState,
    Principal,
    TaskRange,
    TaskReport,
    compact,
    task_range,
)
from gateway.request import JobRequest, asked_for, check, check_notify, columns
from gateway.store import Event, JobFilter, KeyTaken, Page, Repository, TaskFilter, now
from gateway.submission import Submission, held_back
from gateway.transport import FileEntry, RemoteFile

log = logging.getLogger(__name__)


class JobService:
    """Jobs of all hosts. Safe to use from many threads."""

    def __init__(
        self, config: Config, repository: Repository, hosts: Hosts, submission: Submission, audit: Audit
    ) -> None:
        self.config = config
        self.repository = repository
        self.hosts = hosts
        self.submission = submission
        self.audit = audit
        self.changed = submission.changed

    # -- submitting ---------------------------------------------------------------------------------------------------

    def submit(self, principal: Principal, request: JobRequest) -> tuple[Job, bool]:
        """Submit a job and wait for the scheduler's answer. The second value is False where the idempotency key stood
        for this job already.

        Raises Unprocessable, Forbidden, TooLarge before anything was written; RefusedByScheduler and HostDown when
        nothing was submitted (and nothing is kept); HostTimeout and OutcomeUnknown when that is not known yet: then the
        job is kept in `submitting` and the tick finds out.
        """
        with self.audit.entry("submit", principal, to=request.host) as entry:
            host = self.hosts.named(request.host)
            check(self.config, host, "" if request.generated else request.script, request.fields)
            if known := self._known(principal, request):
                entry.job = known
                return known, False
            needs = self._needs(principal, request.fields)
            row = columns(principal, host, request)
            if request.contents:
                row |= _in_workspace(workspaces.fill(host, row["account"], row["uuid"], request.contents))
            end = time.monotonic() + host.config.section.submit_timeout  # counted from before others can see the row
            try:
                entry.job = self.repository.add_job(row, request.script, request.key, needs)  # intent, before all else
            except KeyTaken as taken:
                if request.contents:
                    workspaces.remove(host, row["account"], row["workspace"])
                entry.job = self._same_again(principal, taken, request)
                return entry.job, False
            self.changed(entry.job, None)
            if not request.draft:
                entry.job = self.submission.hand_over(host, entry.job, request.script, end, self._drop)
            return entry.job, True

    def _known(self, principal: Principal, request: JobRequest) -> Job | None:
        """The job that the key stands for already, asked for where it saves sending a bundle, or where what the first
        request depended on may be gone since."""
        if not request.key or not (request.contents or request.fields.get("dependencies")):
            return None
        taken = self.repository.key(principal.subject, request.key[0])
        return self._same_again(principal, taken, request) if taken else None

    def _drop(self, job: Job) -> None:
        """Nothing is kept of a job that was refused."""
        self.repository.delete_job(job)
        if job.workspace:
            workspaces.remove(self.hosts.of(job), job.account, job.workspace)

    def _same_again(self, principal: Principal, taken: KeyTaken, request: JobRequest) -> Job:
        if request.key and taken.body_hash != request.key[1]:
            raise Unprocessable(
                "this Idempotency-Key was sent with another request; use a new key for a new job", code="key_reused"
            )
        try:
            return self.get(principal, taken.uuid)
        except NotFound:
            raise Conflict("the first request with this Idempotency-Key was just refused; send it again") from None

    # -- waiting for other jobs ---------------------------------------------------------------------------------------

    def _needs(self, principal: Principal, fields: Mapping[str, Any]) -> list[tuple[str, DependencyType]]:
        """The jobs that a request depends on, by uuid. Raises Unprocessable for one that is not the caller's own."""
        needs = []
        for asked in fields.get("dependencies") or ():
            try:
                needs.append((self.get(principal, asked["job_id"]).uuid, DependencyType(asked["type"])))
            except NotFound as problem:
                words = f"dependencies: {problem.message}"
                raise Unprocessable(words, errors={"dependencies": [problem.message]}) from None
        return needs

    def _steer_waiting(self, job: Job, action: str) -> None:
        """As `_steer`, for a job that the gateway holds back."""
        if action == "abort":
            steered = self.submission.cancel(job, "aborted while it waited for other jobs")
        elif action == "hold" or (action == "release" and job.request.get("hold")):
            request = {**job.request, "hold": action == "hold"}
            steered = self.repository.change_job(job, request=request)
        else:
            raise Conflict(f"the job {job.reason}; there is nothing to {action}")
        if steered.state not in (JobState.HELD, JobState.CANCELLED):
            raise Conflict("the job is just being submitted; try again in a few seconds", code="not_settled")

    # -- looking ------------------------------------------------------------------------------------------------------

    def get(self, principal: Principal, ident: str | int) -> Job:
        """The job with this job_id or uuid, or with this number. Raises NotFound, for another user's job in the
        very same words."""
        job = self.repository.job(ident, None if principal.admin else principal.subject)
        if job is None and isinstance(ident, str):
            job = self._by_alias(principal, ident)
        if job is None:
            raise NotFound(f"Job with {ident} not found", code="job_not_found")
        return job

    def _by_alias(self, principal: Principal, ident: str) -> Job | None:
        """Clients that build ids from the host name that they sent find their job as well."""
        for alias, host in self.hosts.by_any_name.items():
            if alias != host.name and ident.endswith(f".{alias}"):
                canonical = f"{ident.removesuffix(alias)}{host.name}"
                return self.repository.job(canonical, None if principal.admin else principal.subject)
        return None

    def find(self, principal: Principal, wanted: JobFilter) -> Page:
        """A page of jobs. Only an administrator's `wanted.owner` may be another subject, or None for everybody."""
        if wanted.owner != principal.subject and not principal.admin:
            raise Forbidden("only an administrator may list other users' jobs")
        if wanted.host:
            host = self.hosts.by_any_name.get(wanted.host)
            wanted = replace(wanted, host=host.name if host else wanted.host)
        return self.repository.page(wanted)

    def history(self, principal: Principal, ident: str) -> list[Event]:
        """What happened to a job, oldest first."""
        return self.repository.events(self.get(principal, ident).number)

    def script(self, principal: Principal, ident: str) -> str:
        """The script as it was sent."""
        return self.repository.script(self.get(principal, ident).number)

    def request(self, principal: Principal, ident: str) -> dict[str, Any]:
        """What was asked for, as the native API takes it; of a bundle what goes along with it."""
        job = self.get(principal, ident)
        fields = {"host": job.host, **asked_for(job)}
        if job.workspace:
            fields.pop("working_directory")
            return fields
        return {**fields, "script": self.repository.script(job.number)}

    # -- drafts -------------------------------------------------------------------------------------------------------

    def execute(self, job: Job) -> Job:
        """Submit a draft. Raises as `submit` does; a draft that was refused stays one, with the reason."""
        if job.state != JobState.DRAFT:
            raise Conflict(f"only a draft can be executed; this job was submitted and is {job.state}")
        host = self.hosts.of(job)
        end = time.monotonic() + host.config.section.submit_timeout
        moved = self.repository.change_jobs([(job, {"state": JobState.SUBMITTING, "reason": None})])
        if not moved:
            raise Conflict("the draft is being executed or deleted by another request", code="not_settled")
        submitting = moved[0][0]
        self.changed(submitting, job.state)
        return self.submission.hand_over(host, submitting, self.repository.script(job.number), end, self._draft_again)

    def _edit_draft(self, principal: Principal, job: Job, values: Mapping[str, Any]) -> Job:
        if job.state != JobState.DRAFT:
            only = ", ".join(sorted(NOTES))
            raise Conflict(f"the job is {job.state}; only {only} can be changed now, every field only of a draft")
        if job.workspace and (bound := sorted(values.keys() & BOUND_TO_WORKSPACE)):
            words = "cannot be changed of a bundle that is on its host already; submit it anew"
            raise Unprocessable(f"{', '.join(bound)} {words}", errors={name: [words] for name in bound})
        values = dict(values)
        host = self.hosts.named(values.pop("host", None) or job.host)
        script = values.pop("script", None) or self.repository.script(job.number)
        fields = {name: value for name, value in {**asked_for(job), **values}.items() if value is not None}
        check(self.config, host, script, fields)
        row = columns(principal, host, JobRequest(host.name, script, fields, draft=True))
        return self.repository.change_draft(job, row, script, self._needs(principal, fields))

    def _draft_again(self, job: Job) -> None:
        words = "it was refused when it was executed; change it and try again"
        self.changed(self.repository.change_job(job, state=JobState.DRAFT, reason=words), job.state)

    # -- steering -----------------------------------------------------------------------------------------------------

    def edit(self, principal: Principal, ident: str, values: Mapping[str, Any]) -> Job:
        """Change what is kept beside a job, NOTES; of a draft every field of a request."""
        with self.audit.entry("edit", principal, ident, fields=sorted(values)) as entry:
            entry.job = self.get(principal, ident)
            if values.keys() <= NOTES:
                check_notify(self.config, values)
                return self.repository.change_job(entry.job, **values)
            return self._edit_draft(principal, entry.job, values)

    def control(
        self,
        principal: Principal,
        ident: str,
        action: str,
        *,
        clean: bool = False,
        tasks: str | None = None,
        key: tuple[str, str] | None = None,
    ) -> Job | None:
        """Abort, hold, release, suspend, continue; `resubmit` gives a new job, or the one that the idempotency `key`
        stands for; `reset` and `execute` give the job as it is then. With `clean` the old logs are removed, with
        `tasks` only those of an array run again.
        Raises Conflict where the job's state or its host's backend does not allow it."""
        with self.audit.entry(action, principal, ident) as entry:
            entry.job = self.get(principal, ident)
            if action == "resubmit":
                return self.resubmit(principal, entry.job, clean, tasks, key)
            if action == "reset":
                entry.job = self.reset(entry.job, clean)
                return entry.job
            if action == "execute":
                entry.job = self.execute(entry.job)
                return entry.job
            self._steer(entry.job, action)
            return None

    def _steer(self, job: Job, action: str) -> None:
        if job.state == JobState.DRAFT:
            raise Conflict(f"the job is a draft, there is nothing to {action}; execute it or delete it")
        host = self.hosts.of(job)
        able = host.backend.capabilities.actions
        if action not in able:
            can = ", ".join(name for name in ACTIONS if name in able)
            raise Conflict(f"{host.name} cannot {action} jobs; it can: {can}", code="action_not_supported")
        if job.state.final:
            raise Conflict(f"the job is {job.state} already; there is nothing to {action}")
        if held_back(job):
            self._steer_waiting(job, action)
            return
        report = host.backend.control(action, self.native_id(job), job.account)
        if report:
            self.learn(job, report)

    def learn(self, job: Job, report: JobReport) -> None:
        """Write down what nobody will say again, whatever another process has written about the job since."""
        if job.array:
            self._learn_tasks(job, report.tasks)
            return
        told = {name: value for name in REPORTED if (value := getattr(report, name)) is not None}
        while not job.state.final:
            changed = self.repository.change_job(job, **told, stale=False, as_of=now())
            if changed.state == report.state:
                self.changed(changed, job.state)
            job = changed

    def _learn_tasks(self, job: Job, reports: Mapping[int, TaskReport]) -> None:
        """As `learn`, for the tasks of an array."""
        live = [task for task in self.repository.tasks(job.number, TaskFilter()) if not task.state.final]
        rows = [
            {"task_id": task.task_id, **{name: getattr(report, name) for name in TASK_REPORTED}}
            for task in live
            if (report := reports.get(task.task_id))
        ]
        if rows:
            for changed, before in self.repository.change_jobs([(job, {"as_of": now()})], {job.number: rows}):
                self.changed(changed, before)

    def reset(self, job: Job, clean: bool = False) -> Job:
        """Make a job that has ended a draft again: the same job, under its number and uuid, which jobs that wait for it
        go on waiting for."""
        if job.state == JobState.DRAFT:
            return job
        if not job.state.final:
            raise Conflict(f"the job is {job.state}; abort it first, and reset it when it has ended")
        if clean:
            job_files.remove_logs(self.hosts.of(job), job, None)
        again = self.repository.reset_job(job)
        if again is None:
            raise Conflict("the job is being reset or deleted by another request", code="not_settled")
        self.changed(again, job.state)
        return again

    def resubmit(
        self,
        principal: Principal,
        job: Job,
        clean: bool = False,
        tasks: str | None = None,
        key: tuple[str, str] | None = None,
    ) -> Job:
        """The same request once more, as a new job of the caller's; of an array perhaps only some `tasks`, "failed" or
        such as "3,7". `clean` removes the old one's logs, once the new one is submitted."""
        ids = self._some_tasks(job, tasks) if tasks is not None else None
        if clean and not job.state.final:
            raise Conflict(f"the job is {job.state} and still writes its logs; abort it, or resubmit it without clean")
        fields = asked_for(job)
        if ids:
            fields["array"] = str(TaskRange(ids, task_range(job.array or "").at_once))
        if job.workspace:
            fields.pop("working_directory")
        request = JobRequest(
            *(job.host, self.repository.script(job.number), fields, key),
            resubmitted_from=job.job_id,
            contents=workspaces.CopyOf(job.workspace) if job.workspace else None,
            template=job.template,
            generated=job.template is not None,
        )
        new = self.submit(principal, request)[0]
        if clean:
            job_files.remove_logs(self.hosts.of(job), job, ids, sparing=new)
        return new

    def _some_tasks(self, job: Job, wanted: str) -> tuple[int, ...]:
        """Those tasks of an array that are to run again."""
        if job.array is None:
            raise Unprocessable("tasks goes with an array; this job is none", errors={"tasks": ["the job is no array"]})
        if wanted.lower() == "failed":
            states = [state for state in JobState if state.status == "ERROR"]
            found = self.repository.tasks(job.number, TaskFilter(states))
            if not found:
                raise Conflict(f"no task of the job has failed; it is {job.state}")
            return tuple(task.task_id for task in found)
        try:
            ids = task_range(wanted, self.config.limits.tasks).ids
        except ValueError as problem:
            raise Unprocessable(f"tasks {problem}", errors={"tasks": [str(problem)]}) from None
        if strange := sorted({*ids} - {*task_range(job.array).ids}):
            words = f"are no tasks of this array ({job.array}): {compact(strange)}"
            raise Unprocessable(f"these {words}", errors={"tasks": [words]})
        return ids

    def delete(self, principal: Principal, ident: str, *, clean: bool = False) -> None:
        """Stop the job if it has not ended, and forget it; `clean`: with its logs, for which it must have ended."""
        with self.audit.entry("delete", principal, ident) as entry:
            entry.job = self.get(principal, ident)
            if clean and not (entry.job.state.final or entry.job.state == JobState.DRAFT):
                words = "and still writes its logs; abort it first, or delete it without clean"
                raise Conflict(f"the job is {entry.job.state} {words}")
            self._forget(entry.job)
            if clean:
                job_files.remove_logs(self.hosts.of(entry.job), entry.job, None)

    def _forget(self, job: Job) -> None:
        if job.state.final:  # afterwards nobody could say how it ended
            for waiting, upstreams in self.repository.dependents(job):
                self.submission.cancel_if_hopeless(waiting, upstreams)
        if held_back(job):
            self._steer_waiting(job, "abort")
        if not job.state.final and job.native_id:
            try:
                self.hosts.of(job).backend.control("abort", job.native_id, job.account)
            except NotFound:
                log.info("job %s is gone from its scheduler already", job.job_id)
        elif job.state == JobState.SUBMITTING:
            self.native_id(job)
        if job.workspace and job.host in self.hosts.by_name:
            workspaces.remove(self.hosts.of(job), job.account, job.workspace)
        self.repository.delete_job(job)

    @staticmethod
    def native_id(job: Job) -> str:
        """The scheduler's id. Raises Conflict while there is none."""
        if job.native_id is None:
            raise Conflict("the job's submission is not settled yet; try again in a few seconds", code="not_settled")
        return job.native_id

    # -- files --------------------------------------------------------------------------------------------------------

    def with_one_log(self, principal: Principal, ident: str, stream: str) -> Job:
        """The job. Raises Conflict where it is an array, whose tasks have a log each."""
        job = self.get(principal, ident)
        if job.array:
            where = (
                f"{self.config.gateway.base_url}/api/jobs/{job.job_id}/tasks/{task_range(job.array).ids[0]}/{stream}"
            )
            raise Conflict(
                f"the job is an array, and each task has a {stream} of its own; ask {where}", code="is_array"
            )
        return job

    def open_log(self, job: Job, stream: str, task: int = 0) -> RemoteFile:
        """The `stdout` or `stderr` of a job that the caller was found to see, or of that task of an array. It is opened
        as the job's account. Raises NotFound while there is none."""
        return job_files.open_log(self.hosts.of(job), job, stream, task)

    def open_file(self, principal: Principal, ident: str, path: str) -> RemoteFile:
        """A file below the job's output folder, or its working directory where it has none."""
        job = self.get(principal, ident)
        root = job_files.root(job)
        return self.hosts.of(job).transport.open_file(f"{root.rstrip('/')}/{path}", job.account, root)

    def pack(self, principal: Principal, ident: str) -> tuple[Job, Generator[bytes, None, None]]:
        """A tar.gz of the same folder, made while it is read."""
        job = self.get(principal, ident)
        root = job_files.root(job)
        return job, workspaces.packed(self.hosts.of(job), job.account, root, job.workspace or root)

    def list_files(self, principal: Principal, ident: str, limit: int) -> list[FileEntry]:
        """The files below the same folder, at most `limit`."""
        job = self.get(principal, ident)
        return [*self.hosts.of(job).transport.list_files(job_files.root(job), job.account, limit)]


def _in_workspace(workspace: str) -> dict[str, str]:
    """The columns of a job that has one."""
    folders = {"working_directory": "bundle", "output_directory": "output"}
    return {"workspace": workspace, **{column: f"{workspace}/{folder}" for column, folder in folders.items()}}


BOUND_TO_WORKSPACE = frozenset({"host", "account", "script", "working_directory"})
NOTES = frozenset({"tag", "description", "extended_properties", "notify"})
