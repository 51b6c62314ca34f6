"""What can be done with jobs. Every door (native API, dialects, commands) comes through here, so the rules are here:
who may see what, what a host can honour, and that a job is submitted exactly once.
"""

import logging
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from gateway import workspaces
from gateway.audit import Audit
from gateway.backend import ACTIONS, OPTIONAL_FIELDS
from gateway.config import Config
from gateway.dependencies import Upstream, prospect
from gateway.errors import (
    Conflict,
    Forbidden,
    HostDown,
    HostTimeout,
    InvalidSchedulerAnswer,
    JobgateError,
    NotFound,
    OutcomeUnknown,
    RefusedByScheduler,
    TooLarge,
    Unprocessable,
)
from gateway.hosts import Host, Hosts
from gateway.model import (
    DEFAULT_NAME,
    REPORTED,
    TASK_REPORTED,
    DependencyType,
    Job,
    JobReport,
    JobSpec,
    JobState,
    Principal,
    Resources,
    Submitted,
    TaskRange,
    TaskReport,
    TooManyTasks,
    compact,
    task_range,
)
from gateway.notify import check_url
from gateway.reports import Reports
from gateway.store import Event, HostStore, JobFilter, KeyTaken, Page, Repository, TaskFilter, now
from gateway.transport import Command, FileEntry, RemoteFile
from gateway.transport.deadline import not_after
from gateway.workspaces import Contents

log = logging.getLogger(__name__)

JobChanged = Callable[[Job, JobState | None], None]
RESOURCE_FIELDS = ("nodes", "cores", "memory", "gpus", "wall_time")


@dataclass(frozen=True, slots=True)
class JobRequest:
    """A request for a job, checked for its form. `fields` are the optional ones that were given (API names; memory in
    MiB, wall_time in seconds), `key` is the idempotency key with a hash of the body. A `draft` is kept and
    not submitted. `contents` goes into a workspace of the job's own."""

    host: str
    script: str
    fields: Mapping[str, Any]
    key: tuple[str, str] | None = None
    draft: bool = False
    resubmitted_from: str | None = None
    contents: Contents | None = None
    template: str | None = None
    generated: bool = False  # the script is not the user's own, and larger than it


class JobService:
    """Jobs of all hosts. Safe to use from many threads."""

    def __init__(
        self,
        config: Config,
        repository: Repository,
        host_store: HostStore,
        hosts: Hosts,
        changed: JobChanged,
        audit: Audit,
        reports: Reports,
    ) -> None:
        self.reports = reports
        self.audit = audit
        self.config = config
        self.repository = repository
        self.host_store = host_store
        self.hosts = hosts
        self.changed = changed

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
            self._check(host, "" if request.generated else request.script, request.fields)
            if known := self._known(principal, request):
                entry.job = known
                return known, False
            needs = self._needs(principal, request.fields)
            row = self._row(principal, host, request)
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
                entry.job = self._hand_over(host, entry.job, request.script, end, self._drop)
            return entry.job, True

    def _known(self, principal: Principal, request: JobRequest) -> Job | None:
        """The job that the key stands for already, asked for where it saves sending a bundle."""
        if not request.key or not request.contents:
            return None
        taken = self.repository.key(principal.subject, request.key[0])
        return self._same_again(principal, taken, request) if taken else None

    def _drop(self, job: Job) -> None:
        """Nothing is kept of a job that was refused."""
        self.repository.delete_job(job)
        if job.workspace:
            workspaces.remove(self.host_of(job), job.account, job.workspace)

    def _check(self, host: Host, script: str, fields: Mapping[str, Any]) -> None:
        self._check_script(script)
        self._check_fields(host, fields)
        self._check_notify(fields)
        asked_range(fields, self.config.limits.tasks)

    def _check_notify(self, fields: Mapping[str, Any]) -> None:
        if fields.get("notify"):
            check_url(fields["notify"], self.config.notify.allow)

    def _check_script(self, script: str) -> None:
        limit = self.config.limits.script
        if len(script.encode()) > limit:
            words = f"is larger than {limit} bytes; put what is large into a file on the host"
            raise TooLarge(f"script {words}", errors={"script": [words]})

    @staticmethod
    def _check_fields(host: Host, fields: Mapping[str, Any]) -> None:
        able = host.backend.capabilities.fields
        asked = {name for name in fields if name in OPTIONAL_FIELDS and fields[name] not in (None, False, 0)}
        refused = sorted(asked - able)
        if refused:
            words = f"cannot be honoured by {host.name} ({host.config.section.backend})"
            raise Unprocessable(f"{', '.join(refused)} {words}", errors={name: [words] for name in refused})

    def _row(self, principal: Principal, host: Host, request: JobRequest) -> dict[str, Any]:
        """The new job's columns."""
        given = request.fields
        array = asked_range(given, self.config.limits.tasks)
        row = {
            "uuid": str(uuid.uuid4()),
            "owner": principal.subject,
            "account": account_of(principal, given.get("account")),
            "host": host.name,
            "state": JobState.DRAFT if request.draft else JobState.SUBMITTING,
            "array": str(array) if array else None,
            "resubmitted_from": request.resubmitted_from,
            "template": request.template,
            "name": given.get("name") or DEFAULT_NAME,
            "extended_properties": given.get("extended_properties") or {},
            "request": {name: value for name, value in given.items() if name not in _KEPT_IN_COLUMNS},
        }
        return row | {name: given.get(name) for name in ("tag", "description", "queue", "working_directory", "notify")}

    def _same_again(self, principal: Principal, taken: KeyTaken, request: JobRequest) -> Job:
        if request.key and taken.body_hash != request.key[1]:
            raise Unprocessable(
                "this Idempotency-Key was sent with another request; use a new key for a new job", code="key_reused"
            )
        try:
            return self.get(principal, taken.uuid)
        except NotFound:
            raise Conflict("the first request with this Idempotency-Key was just refused; send it again") from None

    def _hand_over(self, host: Host, job: Job, script: str, end: float, refused: Callable[[Job], object]) -> Job:
        """`refused` is what becomes of a job that is known not to exist on the host: the answer says why."""
        with self._settled_later(job):
            prepared = self.prepare(host, job, script)
        if isinstance(prepared, Job):
            return prepared
        try:
            with not_after(end):
                submitted = host.backend.submit(prepared)
        except (RefusedByScheduler, HostDown, Forbidden) as problem:
            with self._settled_later(job):
                if (
                    "dependencies" in problem.errors
                ):  # the scheduler has forgotten a job; the tick will know how it ended
                    return self.wait(job, problem.message)
                refused(job)
            raise
        except (HostTimeout, OutcomeUnknown, InvalidSchedulerAnswer) as problem:
            with self._settled_later(job):
                return self._find_out(host, job, problem)
        with self._settled_later(job):
            return self.adopt(job, submitted)

    def spec(self, job: Job, script: str) -> JobSpec:
        """What the backend is to run."""
        return job_spec(job, script, self.reports.environment(job.uuid))

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

    def _moved(self, job: Job, **values: Any) -> Job:
        changed = self.repository.change_job(job, **values)
        if changed.state != job.state and changed.state == values["state"]:
            self.changed(changed, job.state)
        return changed

    def cancel_if_hopeless(self, job: Job, upstreams: Sequence[Upstream]) -> bool:
        """Whether a job can never start; then it is cancelled, on its host too."""
        ahead = prospect(upstreams, job.host, ())
        if not ahead.never:
            return False
        if job.native_id:
            with suppress(NotFound):
                self.host_of(job).backend.control("abort", job.native_id, job.account)
        cancelled = self.cancel(job, ahead.never)
        self.audit.gateway_did("cancel", cancelled, ahead.never)
        return cancelled.state.final

    def _steer_waiting(self, job: Job, action: str) -> None:
        """As `_steer`, for a job that the gateway holds back."""
        if action == "abort":
            steered = self.cancel(job, "aborted while it waited for other jobs")
        elif action == "hold" or (action == "release" and job.request.get("hold")):
            request = {**job.request, "hold": action == "hold"}
            steered = self.repository.change_job(job, request=request)
        else:
            raise Conflict(f"the job {job.reason}; there is nothing to {action}")
        if steered.state not in (JobState.HELD, JobState.CANCELLED):
            raise Conflict("the job is just being submitted; try again in a few seconds", code="not_settled")

    def _find_out(self, host: Host, job: Job, problem: JobgateError) -> Job:
        """The submit broke off. Perhaps the scheduler knows more; otherwise the tick asks again later."""
        try:
            report = host.backend.find(job.uuid, job.account)
        except JobgateError as other:
            log.warning("looking for job %s on %s failed: %s", job.uuid, host.name, other.message)
            report = None
        if report:
            return self.adopt(job, found(report, job))
        self.repository.change_job(job, reason=f"submission not confirmed: {problem.message}", stale=True)
        raise self._not_known(job, problem) from problem

    @contextmanager
    def _settled_later(self, job: Job) -> Iterator[None]:
        """A database that fails at this point knows of the job and not how its submission went; the tick finds out."""
        try:
            yield
        except HostDown as problem:
            raise self._not_known(job, OutcomeUnknown(problem.message)) from problem

    def _not_known(self, job: Job, problem: JobgateError) -> JobgateError:
        where = f"{self.config.gateway.base_url}/api/jobs/{job.uuid}"
        return type(problem)(
            f"{problem.message}. Whether the job was submitted is not known yet; ask {where}, or repeat the request "
            "with its Idempotency-Key. Do not submit it again without one.",
            exit_code=problem.exit_code,
            standard_output=problem.standard_output,
            error_output=problem.error_output,
            headers={"Location": where},
            uuid=job.uuid,
        )

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

    # -- looking ------------------------------------------------------------------------------------------------------

    def get(self, principal: Principal, ident: str) -> Job:
        """The job with this job_id or uuid. Raises NotFound, for another user's job in the very same words."""
        job = self.repository.job(ident, None if principal.admin else principal.subject)
        if job is None:
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

    # -- drafts -------------------------------------------------------------------------------------------------------

    def execute(self, job: Job) -> Job:
        """Submit a draft. Raises as `submit` does; a draft that was refused stays one, with the reason."""
        if job.state != JobState.DRAFT:
            raise Conflict(f"only a draft can be executed; this job was submitted and is {job.state}")
        host = self.host_of(job)
        end = time.monotonic() + host.config.section.submit_timeout
        moved = self.repository.change_jobs([(job, {"state": JobState.SUBMITTING, "reason": None})])
        if not moved:
            raise Conflict("the draft is being executed or deleted by another request", code="not_settled")
        submitting = moved[0][0]
        self.changed(submitting, job.state)
        return self._hand_over(host, submitting, self.repository.script(job.number), end, self._draft_again)

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
        self._check(host, script, fields)
        row = self._row(principal, host, JobRequest(host.name, script, fields, draft=True))
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
                self._check_notify(values)
                return self.repository.change_job(entry.job, **values)
            return self._edit_draft(principal, entry.job, values)

    def control(
        self, principal: Principal, ident: str, action: str, *, clean: bool = False, tasks: str | None = None
    ) -> Job | None:
        """Abort, hold, release, suspend, continue; `resubmit` gives a new job, `execute` the draft as it is then. With
        `clean` the logs of the resubmitted job are removed, with `tasks` only those of an array run again.
        Raises Conflict where the job's state or its host's backend does not allow it."""
        with self.audit.entry(action, principal, ident) as entry:
            entry.job = self.get(principal, ident)
            if action == "resubmit":
                return self.resubmit(principal, entry.job, clean, tasks)
            if action == "execute":
                entry.job = self.execute(entry.job)
                return entry.job
            self._steer(entry.job, action)
            return None

    def _steer(self, job: Job, action: str) -> None:
        if job.state == JobState.DRAFT:
            raise Conflict(f"the job is a draft, there is nothing to {action}; execute it or delete it")
        host = self.host_of(job)
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

    def resubmit(self, principal: Principal, job: Job, clean: bool = False, tasks: str | None = None) -> Job:
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
            *(job.host, self.repository.script(job.number), fields),
            resubmitted_from=job.job_id,
            contents=workspaces.CopyOf(job.workspace) if job.workspace else None,
            template=job.template,
            generated=job.template is not None,
        )
        new = self.submit(principal, request)[0]
        if clean:
            self._remove_logs(job, ids, sparing=new)
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

    def _remove_logs(self, job: Job, tasks: Iterable[int] | None, sparing: Job) -> None:
        """As the job's account; those of all `tasks` of an array where none are named. A log that the new job writes to
        as well is its own now."""
        spared = (sparing.stdout_file, sparing.stderr_file)
        patterns = sorted({log for log in (job.stdout_file, job.stderr_file) if log and log not in spared})
        numbers = tasks or (task_range(job.array).ids if job.array else (0,))
        logs = [task_log(pattern, number) for pattern in patterns for number in numbers]
        if logs:
            files = "".join(f"{log}\0" for log in logs).encode("utf-8", "surrogateescape")
            command = Command(("xargs", "-0", "rm", "-f", "--"), stdin=files, repeatable=True)
            self.host_of(job).transport.run(command, job.account)

    def delete(self, principal: Principal, ident: str) -> None:
        """Stop the job if it has not ended, and forget it."""
        with self.audit.entry("delete", principal, ident) as entry:
            entry.job = self.get(principal, ident)
            self._forget(entry.job)

    def _forget(self, job: Job) -> None:
        if job.state.final:  # afterwards nobody could say how it ended
            for waiting, upstreams in self.repository.dependents(job):
                self.cancel_if_hopeless(waiting, upstreams)
        if held_back(job):
            self._steer_waiting(job, "abort")
        if not job.state.final and job.native_id:
            try:
                self.host_of(job).backend.control("abort", job.native_id, job.account)
            except NotFound:
                log.info("job %s is gone from its scheduler already", job.job_id)
        elif job.state == JobState.SUBMITTING:
            self.native_id(job)
        if job.workspace and job.host in self.hosts.by_name:
            workspaces.remove(self.host_of(job), job.account, job.workspace)
        self.repository.delete_job(job)

    @staticmethod
    def native_id(job: Job) -> str:
        """The scheduler's id. Raises Conflict while there is none."""
        if job.native_id is None:
            raise Conflict("the job's submission is not settled yet; try again in a few seconds", code="not_settled")
        return job.native_id

    def host_of(self, job: Job) -> Host:
        """The job's host. Raises HostDown where the configuration has it no more."""
        if job.host not in self.hosts.by_name:
            raise HostDown(f"{job.host} is no longer a host of this gateway", retry_after=3600)
        return self.hosts.by_name[job.host]

    # -- files --------------------------------------------------------------------------------------------------------

    def open_stream(self, principal: Principal, ident: str, stream: str) -> tuple[Job, RemoteFile]:
        """The job's `stdout` or `stderr`, opened as the job's account. Raises NotFound while there is none."""
        job = self.with_one_log(principal, ident, stream)
        return job, self.open_log(job, stream)

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
        """The `stdout` or `stderr` of a job, or of that task of an array, opened as the job's account."""
        path = job.stdout_file if stream == "stdout" else job.stderr_file
        if path is None:
            raise NotFound(f"the job has no {stream} yet; it is {job.state}", code="no_output_yet")
        path = task_log(path, task) if job.array else path
        # A log that the user placed elsewhere is fenced in by its own folder.
        home = job.working_directory or ""
        within = home if home and path.startswith(f"{home.rstrip('/')}/") else path.rpartition("/")[0] or "/"
        return self.host_of(job).transport.open_file(path, job.account, within)

    def open_file(self, principal: Principal, ident: str, path: str) -> RemoteFile:
        """A file below the job's output folder, or its working directory where it has none."""
        job = self.get(principal, ident)
        root = self._root(job)
        return self.host_of(job).transport.open_file(f"{root.rstrip('/')}/{path}", job.account, root)

    def pack(self, principal: Principal, ident: str) -> tuple[Job, Generator[bytes, None, None]]:
        """A tar.gz of the same folder, made while it is read."""
        job = self.get(principal, ident)
        root = self._root(job)
        return job, workspaces.packed(self.host_of(job), job.account, root, job.workspace or root)

    def list_files(self, principal: Principal, ident: str, limit: int) -> list[FileEntry]:
        """The files below the same folder, at most `limit`."""
        job = self.get(principal, ident)
        return [*self.host_of(job).transport.list_files(self._root(job), job.account, limit)]

    @staticmethod
    def _root(job: Job) -> str:
        if job.working_directory is None:
            raise NotFound(f"the job has no files yet; it is {job.state}", code="no_output_yet")
        return job.output_directory or job.working_directory


def _in_workspace(workspace: str) -> dict[str, str]:
    """The columns of a job that has one."""
    folders = {"working_directory": "bundle", "output_directory": "output"}
    return {"workspace": workspace, **{column: f"{workspace}/{folder}" for column, folder in folders.items()}}


BOUND_TO_WORKSPACE = frozenset({"host", "account", "script", "working_directory"})
NOTES = frozenset({"tag", "description", "extended_properties", "notify"})
_KEPT_IN_COLUMNS = (
    "name",
    "tag",
    "queue",
    "account",
    "description",
    "extended_properties",
    "working_directory",
    "notify",
)


def asked_for(job: Job) -> dict[str, Any]:
    """The fields of the request that the job came from."""
    kept = {name: getattr(job, name) for name in _KEPT_IN_COLUMNS}
    return {name: value for name, value in {**kept, **job.request}.items() if value not in (None, {}, False)}


def account_of(principal: Principal, asked: str | None) -> str:
    """The account that the caller acts as: the one asked for, else the default. Raises Forbidden."""
    account = asked or principal.accounts[0]
    if account not in principal.accounts:
        known = ", ".join(principal.accounts)
        raise Forbidden(f"your certificate may not use the account {account!r}; it may use: {known}")
    return account


def held_back(job: Job) -> bool:
    """The gateway itself holds the job back; the scheduler does not have it."""
    return job.state == JobState.HELD and job.native_id is None


def task_log(pattern: str, task: int) -> str:
    """The log of a task of an array, see `Submitted`."""
    return pattern.replace("{task_id}", str(task))


def job_spec(job: Job, script: str, environment: Mapping[str, str]) -> JobSpec:
    """What the backend is to run, from what was committed: so that the tick can hand over what a crash cut off.
    `environment` is what every job finds there, unless it brings its own."""
    asked = job.request
    return JobSpec(
        uuid=job.uuid,
        account=job.account,
        script=script,
        name=job.name,
        working_directory=job.working_directory,
        queue=job.queue,
        resources=Resources(**{name: asked.get(name) for name in RESOURCE_FIELDS}),
        environment={**environment, **(asked.get("environment") or {}), **workspaces.environment(job)},
        hold=bool(asked.get("hold")),
        priority=asked.get("priority") or 0,
        stdout=asked.get("stdout"),
        stderr=asked.get("stderr"),
        array=task_range(job.array) if job.array else None,
    )


def asked_range(fields: Mapping[str, Any], most: int) -> TaskRange | None:
    """The tasks that a request for an array asks for. Raises Unprocessable, and TooLarge for more than `most`."""
    try:
        return task_range(fields["array"], most) if fields.get("array") is not None else None
    except TooManyTasks as problem:
        raise TooLarge(f"array {problem}", errors={"array": [str(problem)]}) from None
    except ValueError as problem:
        raise Unprocessable(f"array {problem}", errors={"array": [str(problem)]}) from None


def found(report: JobReport, job: Job) -> Submitted:
    """A job that was found in the scheduler, as if its submit had just answered."""
    return Submitted(
        native_id=report.native_id,
        working_directory=report.working_directory or job.working_directory or "",
        stdout_file=report.stdout_file,
        stderr_file=report.stderr_file,
    )
