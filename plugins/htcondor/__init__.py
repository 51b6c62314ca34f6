"""HTCondor, steered with its commands on a submit host (condor_submit, condor_q, condor_history, condor_rm ...).

Tried with HTCondor 23.9. The pool's machines share the accounts' home and working directories, so jobs run where they
were told to and their logs grow there: `<name>.o<cluster>`, `.e<cluster>` and HTCondor's own `.log<cluster>`. A script
is kept in `~/.jobgate/<host>/<uuid>/` as long as HTCondor knows its job, and removed a day or so later.
"""

import time
from collections.abc import Collection, Iterable, Mapping

from gateway import (
    Capabilities,
    ClusterInfo,
    Command,
    CommandBackend,
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

FIELDS = frozenset({"nodes", "cores", "memory", "gpus", "wall_time", "hold", "priority", "stdout", "stderr"})
IDS_AT_ONCE = 5000  # of nine characters each, far below the longest command line
FRESH_SECONDS = 0.5
# A job in this state needs no more of the action, and nothing is wrong.
DONE = {
    "abort": JobState.COMPLETING,
    "hold": JobState.HELD,
    "release": JobState.QUEUED,
    "suspend": JobState.SUSPENDED,
    "continue": JobState.RUNNING,
}


class HTCondorBackend(CommandBackend):
    """A host under HTCondor. A job's native id is `<cluster>.<process>`; its process is always 0."""

    name = "htcondor"
    capabilities = Capabilities(FIELDS, frozenset(commands.ACTIONS))

    def __init__(self, host: HostContext) -> None:
        super().__init__(host)
        self._submitted_at = float("-inf")

    def submit(self, spec: JobSpec) -> Submitted:
        """condor_submit(1). Of many submits in a row only some ask first whether condor_schedd answers."""
        plan = commands.plan(spec, self.host.name)
        probe = time.monotonic() - self._submitted_at > FRESH_SECONDS
        result = self.run(commands.submit(spec, plan, self.host.name, probe=probe), spec.account)
        folder, output = split_folder(result)
        parsing.check_submit(result)
        native_id, ad = parsing.submitted(output, result)
        self._submitted_at = time.monotonic()
        shown_folder, stdout, stderr = parsing.paths(ad)
        return Submitted(
            native_id=native_id,
            working_directory=shown_folder or folder,
            stdout_file=stdout or (commands.expand(plan.stdout, folder, native_id) if plan.stdout else None),
            stderr_file=stderr or (commands.expand(plan.stderr, folder, native_id) if plan.stderr else None),
            warnings=plan.warnings + (parsing.submit_warnings(result) if plan.show else ()),
        )

    def query(self, native_ids: Collection[str], account: str | None) -> Mapping[str, JobReport]:
        wanted = {name for name in native_ids if parsing.is_native_id(name)}
        if not wanted:
            return {}
        reports = parsing.queue(self.ask(commands.queue(wanted, account), account))
        missing = sorted(wanted - reports.keys())
        for start in range(0, len(missing), IDS_AT_ONCE):
            some = missing[start : start + IDS_AT_ONCE]
            reports |= parsing.history(self.ask(commands.history(some, account), account))
        return {name: report for name, report in reports.items() if name in wanted}

    def find(self, uuid: str, account: str) -> JobReport | None:
        live = parsing.found(self.ask(commands.find_live(uuid, account), account), left=False)
        return live or parsing.found(self.ask(commands.find_ended(uuid, account), account), left=True)

    def control(self, action: str, native_id: str, account: str) -> None:
        # Looked up first: in a pool that is new, condor_rm and its like succeed on a job that there is not (23.9).
        if not parsing.is_native_id(native_id) or not self.query([native_id], account):
            raise NotFound(f"HTCondor does not know job {native_id}")
        result = self.run(commands.control(action, native_id, account), account)
        parsing.check_reachable(result)
        if result.exit_code:
            self._explain(action, native_id, account)

    def _explain(self, action: str, native_id: str, account: str) -> None:
        """HTCondor found no such job in a state for the action: why, and is that an error?"""
        report = self.query([native_id], account).get(native_id)
        if report is None:
            raise NotFound(f"HTCondor does not know job {native_id}")
        if not report.state.final and report.state != DONE[action]:
            raise Conflict(f"HTCondor cannot {action} a job that is {report.native_state}")

    def cluster(self, account: str | None = None) -> ClusterInfo:
        version = parsing.version(self.ask(commands.version(), account))
        self.ask(commands.schedd_answers(), account)
        machines = parsing.ads(self.ask(commands.machines(), account))
        return ClusterInfo(version, nodes=parsing.nodes(machines))

    def check(self) -> list[str]:
        problems = super().check()
        if self.host.operator is None:
            return problems
        self.ask(commands.latest())  # without a history nobody knows how a job ended
        domain = self.ask(commands.domain()).strip()
        machines = parsing.ads(self.ask(commands.machines()))
        if not machines:
            problems.append("the pool has no machines: is condor_startd running, and may this host read the collector?")
        elif domain not in {ad.get("FileSystemDomain") for ad in machines}:
            problems.append(f"no machine has this host's FILESYSTEM_DOMAIN ({domain}), so every job would stay idle")
        return problems

    def ask(self, command: Command, account: str | None = None) -> str:
        """What a query printed; raises where it failed."""
        return parsing.checked(self.run(command, account))


@hookimpl
def register_backends() -> Iterable[type[HTCondorBackend]]:
    return [HTCondorBackend]
