"""Slurm, steered with its commands on a login node (sbatch, squeue, sacct, scancel, scontrol, sinfo).

Tried with Slurm 24.11. Works without accounting too: then a job's end is known for MinJobAge seconds only, which every
poll interval is shorter than.
"""

import logging
from collections.abc import Collection, Iterable, Mapping

from gateway import (
    Capabilities,
    ClusterInfo,
    Command,
    CommandBackend,
    CommandResult,
    Conflict,
    HostContext,
    JobReport,
    JobSpec,
    JobState,
    NotFound,
    Submitted,
    hookimpl,
    split_folder,
)

from . import commands, parsing

log = logging.getLogger(__name__)

FIELDS = frozenset({"queue", "nodes", "cores", "memory", "gpus", "wall_time", "hold", "priority", "stdout", "stderr"})
ACTIONS = frozenset({"abort", "hold", "release"})
OPERATOR_ACTIONS = frozenset({"suspend", "continue"})  # scontrol(1): privileged users only
IDS_AT_ONCE = 2000  # of eight characters each, far below the longest command line


class SlurmBackend(CommandBackend):
    """A host under Slurm."""

    name = "slurm"

    def __init__(self, host: HostContext) -> None:
        super().__init__(host)
        self.capabilities = Capabilities(FIELDS, ACTIONS | (OPERATOR_ACTIONS if host.operator else frozenset()))

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

    def query(self, native_ids: Collection[str], account: str | None) -> Mapping[str, JobReport]:
        wanted = {native_id for native_id in native_ids if parsing.ID.match(native_id)}
        if not wanted:
            return {}
        live = parsing.queue(self.ask(commands.queue(account), account))
        reports = {name: report for name, report in live.items() if name in wanted}
        return reports | self._ended(sorted(wanted - reports.keys()), account)

    def _ended(self, native_ids: list[str], account: str | None) -> dict[str, JobReport]:
        """What has left the queue: from the accounting, or from slurmctld's memory where there is none."""
        reports: dict[str, JobReport] = {}
        for start in range(0, len(native_ids), IDS_AT_ONCE):
            some = native_ids[start : start + IDS_AT_ONCE]
            result = self.run(commands.accounting(some, account), account)
            if parsing.accounting_is_off(result):
                everything = parsing.memory(self.ask(commands.memory(account), account))
                return {name: report for name, report in everything.items() if name in native_ids}
            reports |= parsing.accounting(parsing.checked(result))
        return {name: report for name, report in reports.items() if name in native_ids}

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
        if action == "hold" and report.state not in (JobState.QUEUED, JobState.HELD):
            raise Conflict(f"only a waiting job can be held; this one is {report.native_state}")
        who = self.host.operator if action in OPERATOR_ACTIONS else account
        parsing.check_control(self.run(commands.control(action, native_id), who), native_id)

    def cluster(self, account: str | None = None) -> ClusterInfo:
        version, queues, nodes = (self.ask(command, account) for command in commands.CLUSTER)
        return ClusterInfo(version.strip(), parsing.queues(queues), parsing.nodes(nodes))

    def ask(self, command: Command, account: str | None) -> str:
        """What a query printed; raises where it failed."""
        return parsing.checked(self.run(command, account))


@hookimpl
def register_backends() -> Iterable[type[SlurmBackend]]:
    return [SlurmBackend]


__all__ = ["CommandResult", "SlurmBackend"]
