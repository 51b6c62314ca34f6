"""Slurm, steered with its commands on a login node (sbatch, squeue, sacct, scancel, scontrol, sinfo).

Tried with Slurm 24.11. Works without accounting too: then a job's end is known for MinJobAge seconds only, which every
poll interval is shorter than.
"""

import logging
from collections.abc import Collection, Iterable, Mapping
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

log = logging.getLogger(__name__)

FIELDS = frozenset(
    {"queue", "nodes", "cores", "memory", "gpus", "wall_time", "hold", "priority", "stdout", "stderr", "array"}
)
ACTIONS = frozenset({"abort", "hold", "release"})
OPERATOR_ACTIONS = frozenset({"suspend", "continue"})  # scontrol(1): privileged users only
WAITING = (JobState.QUEUED, JobState.HELD)
FEW_TASKS = 500  # more tasks that left the queue at once, and sacct is asked for the whole array
IDS_AT_ONCE = 2000  # of eight characters each, far below the longest command line


class SlurmBackend(CommandBackend):
    """A host under Slurm."""

    name = "slurm"

    def __init__(self, host: HostContext) -> None:
        super().__init__(host)
        actions = ACTIONS | (OPERATOR_ACTIONS if host.operator else frozenset())
        self.capabilities = Capabilities(FIELDS, actions, dependencies=frozenset(DependencyType))

    def submit(self, spec: JobSpec) -> Submitted:
        plan = commands.plan(spec)
        result = self.run(commands.submit(spec, plan), spec.account)
        folder, output = split_folder(result)
        parsing.check_submit(result)
        submitted = parsing.submitted(output, result)
        shown = submitted.shown
        return Submitted(
            native_id=submitted.native_id,
            working_directory=shown.get("WorkDir", folder),
            stdout_file=shown.get("StdOut") or commands.expand(plan.stdout, folder, submitted.native_id),
            stderr_file=shown.get("StdErr") or commands.expand(plan.stderr, folder, submitted.native_id),
            warnings=plan.warnings,
        )

    def query(self, jobs: Mapping[str, Collection[int]], account: str | None) -> Mapping[str, JobReport]:
        wanted = {native_id: jobs[native_id] for native_id in jobs if parsing.ID.match(native_id)}
        if not wanted:
            return {}
        live = parsing.queue(self.ask(commands.queue(account), account))
        reports = {name: report for name, report in live.items() if name in wanted}
        gone = _missing(wanted, reports)
        reports = _merged(reports, self._ended(_names(gone), account))
        # Tasks that were cancelled while they waited share a record, which answers to the array's number only (24.11).
        silent = _missing({name: tasks for name, tasks in gone.items() if 0 < len(tasks) <= FEW_TASKS}, reports)
        return _merged(reports, self._ended(sorted(silent), account)) if silent else reports

    def _ended(self, native_ids: list[str], account: str | None) -> dict[str, JobReport]:
        """What has left the queue: from the accounting, or from slurmctld's memory where there is none."""
        wanted = {native_id.partition("_")[0] for native_id in native_ids}
        reports: dict[str, JobReport] = {}
        for start in range(0, len(native_ids), IDS_AT_ONCE):
            some = native_ids[start : start + IDS_AT_ONCE]
            result = self.run(commands.accounting(some, account), account)
            if parsing.accounting_is_off(result):
                reports = parsing.memory(self.ask(commands.memory(account), account))
                break
            reports = _merged(reports, parsing.accounting(parsing.checked(result)))
        return {name: report for name, report in reports.items() if name in wanted}

    def _one(self, native_id: str, account: str) -> JobReport | None:
        """What slurmctld or the accounting says of one job. Cheaper than `query`, which reads the whole queue."""
        if not parsing.ID.match(native_id):
            return None
        result = self.run(commands.memory(account, native_id), account)
        known = {} if parsing.unknown(result) else parsing.memory(parsing.checked(result))
        return (known or self._ended([native_id], account)).get(native_id)

    def find(self, uuid: str, account: str) -> JobReport | None:
        native_id = parsing.with_comment(self.ask(commands.comments(account), account), uuid)
        if native_id is None:
            result = self.run(commands.past_comments(account), account)
            if parsing.accounting_is_off(result):
                return None
            native_id = parsing.with_comment(parsing.checked(result), uuid)
        report = native_id and self._one(native_id, account)
        if not report:
            return None
        shown = self.run(commands.show(report.native_id), account)
        return parsing.found(report, uuid, shown)

    def control(self, action: str, native_id: str, account: str) -> None:
        report = self._one(native_id, account)
        if report is None:  # scancel is silent about a job that it does not know (24.11)
            raise NotFound(f"Slurm does not know job {native_id}")
        if report.state.final and action == "abort":
            return
        # scontrol takes `hold` of a running job without a word, and does nothing (24.11)
        states = {report.state, *(task.state for task in report.tasks.values())}
        if action == "hold" and not states & {JobState.QUEUED, JobState.HELD}:
            raise Conflict(f"only a waiting job can be held; this one is {report.native_state}")
        who = self.host.operator if action in OPERATOR_ACTIONS else account
        parsing.check_control(self.run(commands.control(action, native_id), who), native_id)

    def abort_tasks(self, native_id: str, tasks: Collection[int], account: str) -> JobReport | None:
        """A task that is cancelled while it waits leaves no trace in Slurm, unless all that wait are (24.11)."""
        report = self._one(native_id, account)
        if report is None:
            raise NotFound(f"Slurm does not know job {native_id}")
        parsing.check_control(self.run(commands.abort_tasks(native_id, sorted(tasks)), account), native_id)
        waited = [task for task in tasks if task in report.tasks and report.tasks[task].state in WAITING]
        cancelled = TaskReport(JobState.CANCELLED, "CANCELLED", end_time=datetime.now(UTC))
        return replace(report, tasks=dict.fromkeys(waited, cancelled)) if waited else None

    def cluster(self, account: str | None = None) -> ClusterInfo:
        version, queues, nodes = (self.ask(command, account) for command in commands.CLUSTER)
        return ClusterInfo(version.strip(), parsing.queues(queues), parsing.nodes(nodes))

    def ask(self, command: Command, account: str | None) -> str:
        """What a query printed; raises where it failed."""
        return parsing.checked(self.run(command, account))


def _missing(wanted: Mapping[str, Collection[int]], reports: Mapping[str, JobReport]) -> dict[str, list[int]]:
    """The jobs that have no report, and of arrays the tasks that have none."""
    missing: dict[str, list[int]] = {}
    for native_id, tasks in wanted.items():
        told = reports[native_id].tasks if native_id in reports else {}
        silent = [task for task in tasks if task not in told]
        if silent or native_id not in reports:
            missing[native_id] = silent
    return missing


def _names(gone: Mapping[str, Collection[int]]) -> list[str]:
    """What sacct is asked for: a job, an array with many tasks that are gone, or single tasks."""
    names: list[str] = []
    for native_id, tasks in sorted(gone.items()):
        few = 0 < len(tasks) <= FEW_TASKS
        names += [f"{native_id}_{task}" for task in tasks] if few else [native_id]
    return names


def _merged(one: Mapping[str, JobReport], other: Mapping[str, JobReport]) -> dict[str, JobReport]:
    """Of an array that both tell about, the tasks of both; what the first says counts."""
    both = {name: replace(one[name], tasks={**other[name].tasks, **one[name].tasks}) for name in one.keys() & other}
    return {**other, **one, **both}


@hookimpl
def register_backends() -> Iterable[type[SlurmBackend]]:
    return [SlurmBackend]


__all__ = ["CommandResult", "SlurmBackend"]
