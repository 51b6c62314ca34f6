"""Grid Engine, steered with its commands on a submit host (qsub, qstat, qdel, qhold, qrls, qalter, qmod, qconf, qhost)
and its accounting file.

Tried with Son of Grid Engine 8.1.9. A job's end is in the accounting some seconds after it left the queue
(`flush_time` in sge_conf(5)); until then nobody knows it, and it stays as it was.
"""

import logging
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

from gateway import (
    Capabilities,
    ClusterInfo,
    Command,
    CommandBackend,
    CommandResult,
    Conflict,
    DependencyType,
    HostContext,
    JobgateError,
    JobReport,
    JobSpec,
    JobState,
    NotFound,
    Submitted,
    TaskReport,
    hookimpl,
    split_folder,
)

from . import commands, parsing
from .commands import GridEngineOptions

log = logging.getLogger(__name__)

FIELDS = frozenset(
    {"queue", "nodes", "cores", "memory", "gpus", "wall_time", "hold", "priority", "stdout", "stderr", "array"}
)
ACTIONS = frozenset({"abort", "hold", "release", "suspend", "continue"})


class GridEngineBackend(CommandBackend):
    """A host under Grid Engine."""

    name = "gridengine"
    capabilities = Capabilities(FIELDS, ACTIONS, dependencies=frozenset({DependencyType.AFTERANY}))
    options_type = GridEngineOptions

    def __init__(self, host: HostContext) -> None:
        super().__init__(host)
        self.site: GridEngineOptions = host.options
        self.commands = commands.Programs(host.options)

    # --- submit -------------------------------------------------------------------------------------------------------

    def submit(self, spec: JobSpec) -> Submitted:
        plan = commands.plan(spec, self.site)
        result = self.run(self.commands.submit(spec, plan), spec.account)
        folder, output = split_folder(result)
        parsing.check_submit(result)
        native_id, shown = parsing.submitted(output, result)
        job = parsing.Details(
            native_id, spec.account, spec.uuid, plan.name, folder, plan.stdout, plan.stderr, plan.one_log
        )
        if spec.array:
            job = replace(job, array=spec.array.ids)
        if plan.show:
            job = self._shown(shown, job)
        by_itself = job.array and spec.array is None  # the gateway knows of no tasks then, and could ask for no log
        stdout, stderr = (None, None) if by_itself else self._logs(job, spec.account)
        return Submitted(native_id, job.folder or folder, stdout, stderr, plan.warnings)

    @staticmethod
    def _shown(shown: str, planned: parsing.Details) -> parsing.Details:
        """What Grid Engine made of it. It has the job, so nothing that goes wrong here may lose that."""
        try:
            return parsing.details(shown).get(planned.native_id, planned)
        except JobgateError:
            log.warning("qstat did not say where the logs of job %s go: %r", planned.native_id, shown[:200])
            return planned

    def _logs(self, job: parsing.Details, account: str) -> tuple[str | None, str | None]:
        """Where its output goes; None where only its run will tell (the node's name)."""
        of_task = ".{task_id}" if job.array else ""
        try:
            home = self.host.transport.home(account) if parsing.needs_home(job) else ""
        except JobgateError:  # as below: the job is submitted by now
            return None, None
        stdout, stderr = (parsing.log_path(job, asked, account, home) for asked in (job.stdout, job.stderr))
        chosen = [path for path in (stdout, stderr) if path and path != job.folder]
        folders = {job.folder, *(self._folders(chosen, account) if chosen else ())}
        if stdout in folders:
            stdout = f"{stdout}/{job.name}.o{job.native_id}{of_task}"
        if stderr in folders:
            stderr = f"{stderr}/{job.name}.e{job.native_id}{of_task}"
        return stdout, stdout if job.one_log else stderr

    def _folders(self, paths: list[str], account: str) -> list[str]:
        """Those that are folders: Grid Engine writes `<name>.o<id>` in there. The job is submitted by now, so nothing
        that goes wrong here may lose it."""
        try:
            answers = self.ask(self.commands.folders(paths), account).split()
        except JobgateError:
            return []
        return [path for path, answer in zip(paths, answers, strict=False) if answer == "folder"]

    # --- ask ----------------------------------------------------------------------------------------------------------

    def query(self, jobs: Mapping[str, Collection[int]], account: str | None) -> Mapping[str, JobReport]:
        wanted = {native_id for native_id in jobs if parsing.ID.match(native_id)}
        if not wanted:
            return {}
        live = parsing.queue(self.ask(self.commands.queue(account), account))
        reports = {native_id: report for native_id, report in live.items() if native_id in wanted}
        reports |= self._with_reasons(reports, account)
        names = sorted(wanted - reports.keys())
        for native_id, report in reports.items():
            names += [f"{native_id}.{task}" for task in jobs[native_id] if task not in report.tasks]
        ended = self._ended(names, account)
        both = {
            native_id: replace(reports[native_id], tasks={**ended[native_id].tasks, **reports[native_id].tasks})
            for native_id in reports.keys() & ended
        }
        return {**ended, **reports, **both}

    def _with_reasons(self, reports: Mapping[str, JobReport], account: str | None) -> dict[str, JobReport]:
        """Jobs in error stay in the queue for ever; why is said elsewhere."""
        stuck = [native_id for native_id, report in reports.items() if parsing.in_error(report)]
        jobs = parsing.details(self.ask(self.commands.details(stuck), account)) if stuck else {}
        return {
            native_id: parsing.with_reason(reports[native_id], parsing.reason(job))
            for native_id, job in jobs.items()
            if native_id in stuck
        }

    def _ended(self, names: list[str], account: str | None) -> dict[str, JobReport]:
        """What the accounting has of jobs, `<id>`, and of tasks, `<id>.<task>`."""
        if not names:
            return {}
        output = self.ask(self.commands.accounting(names), account)
        return parsing.accounting(output, account, self.site.parallel_environment)

    def _live(self, native_id: str, account: str) -> parsing.Details | None:
        """The account's live job. qstat tells about everybody's."""
        job = parsing.details(self.ask(self.commands.details([native_id]), account)).get(native_id)
        return job if job and job.owner == account else None

    def find(self, uuid: str, account: str) -> JobReport | None:
        native_id = parsing.with_account_string(self.ask(self.commands.find(account), account), uuid)
        job = native_id and self._live(native_id, account)
        report = native_id and self.query({native_id: ()}, account).get(native_id)
        if job and report:
            return parsing.with_details(report, job, *self._logs(job, account))
        output = self.ask(self.commands.past(uuid), account)
        reports = parsing.accounting(output, account, self.site.parallel_environment)
        return next(iter(reports.values()), None)

    # --- steer --------------------------------------------------------------------------------------------------------

    def control(self, action: str, native_id: str, account: str) -> JobReport | None:
        job = self._live(native_id, account) if parsing.ID.match(native_id) else None
        if job is None:
            self._too_late(action, native_id, account)
            return None
        if (action == "hold" and job.started and not job.array) or (action == "suspend" and not job.started):
            which = "waiting" if action == "hold" else "running"
            raise Conflict(f"only a {which} job can be {'held' if action == 'hold' else 'suspended'}")
        if action == "abort":
            return self._abort(job)
        parsing.check_control(self.run(self.commands.control(action, native_id), account), native_id)
        return None

    def _abort(self, job: parsing.Details) -> JobReport | None:
        """Gives the end of a job that had not started: Grid Engine forgets it and writes no record of it (8.1.9)."""
        result = self.run(self.commands.abort(job.native_id, job.account_string), job.owner)
        if job.array:
            return self._deleted(result, job)
        if parsing.deleted_waiting(result):
            words, end = "deleted before it started", datetime.now(UTC)
            return JobReport(job.native_id, JobState.CANCELLED, "deleted", job.uuid, reason=words, end_time=end)
        with suppress(NotFound):  # it has just ended
            parsing.check_control(result, job.native_id)
        return None

    def abort_tasks(self, native_id: str, tasks: Collection[int], account: str) -> JobReport | None:
        job = self._live(native_id, account) if parsing.ID.match(native_id) else None
        if job is None:
            self._too_late("abort", native_id, account)
            return None
        result = self.run(self.commands.abort(native_id, job.account_string, sorted(tasks)), account)
        return self._deleted(result, job)

    @staticmethod
    def _deleted(result: CommandResult, job: parsing.Details) -> JobReport | None:
        """The end of an array's tasks that had not started, as above."""
        with suppress(NotFound):
            parsing.check_control(result, job.native_id)
        words, end = "deleted before it started", datetime.now(UTC)
        cancelled = TaskReport(JobState.CANCELLED, "deleted", reason=words, end_time=end)
        tasks = dict.fromkeys(parsing.deleted_tasks(result, job), cancelled)
        return JobReport(job.native_id, JobState.CANCELLED, "deleted", job.uuid, tasks=tasks) if tasks else None

    def _too_late(self, action: str, native_id: str, account: str) -> None:
        """Nothing to do for a job that has ended. Raises NotFound where there never was one."""
        known = parsing.ID.match(native_id) and (
            self._ended([native_id], account)
            or native_id in parsing.queue(self.ask(self.commands.queue(account, ended=True), account))
        )
        if not known:
            raise NotFound(f"Grid Engine does not know job {native_id}")
        if action != "abort":
            raise Conflict(f"the job has ended; there is nothing to {action}")

    # --- the cluster --------------------------------------------------------------------------------------------------

    def cluster(self, account: str | None = None) -> ClusterInfo:
        version, summary, configuration, nodes = (self.ask(command, account) for command in self.commands.cluster())
        return ClusterInfo(parsing.version(version), parsing.queues(summary, configuration), parsing.nodes(nodes))

    def check(self) -> list[str]:
        if self.host.operator is None:
            return []
        problems = []
        environments = self.ask(self.commands.parallel_environments(), None).split()
        if self.site.parallel_environment not in environments:
            words = f"the parallel environment {self.site.parallel_environment!r}, so jobs get one core only"
            problems.append(f"Grid Engine lacks {words}; there are {', '.join(environments) or 'none'}")
        complexes = self.ask(self.commands.complexes(), None).splitlines()
        names = {line.split()[0] for line in complexes if line.strip()}
        for option in ("memory_complex", "gpu_complex"):
            if (name := getattr(self.site, option)) not in names:
                problems.append(f"Grid Engine knows no resource {name!r}; set {option} to one of `qconf -sc`")
        parsing.complete(self.ask(self.commands.accounting(["1"]), None))
        return problems

    def ask(self, command: Command, account: str | None) -> str:
        """What a query printed; raises where it failed."""
        return parsing.checked(self.run(command, account))


@hookimpl
def register_backends() -> Iterable[type[GridEngineBackend]]:
    return [GridEngineBackend]


__all__ = ["GridEngineBackend", "GridEngineOptions"]
