"""HTCondor, steered with its commands on a submit host (condor_submit, condor_q, condor_history, condor_rm ...).

Tried with HTCondor 23.9. The pool's machines share the accounts' home and working directories, so jobs run where they
were told to and their logs grow there: `<name>.o<cluster>`, `.e<cluster>` and HTCondor's own `.log<cluster>`. A script
is kept in `~/.jobgate/<host>/<uuid>/` as long as HTCondor knows its job, and removed a day or so later.
"""

import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime

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
    TaskReport,
    hookimpl,
    split_folder,
)

from . import commands, parsing

FIELDS = frozenset({"nodes", "cores", "memory", "gpus", "wall_time", "hold", "priority", "stdout", "stderr", "array"})
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
    """A host under HTCondor. A job's native id is `<cluster>.<process>`, with process 0; an array's is `<cluster>`."""

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
        native_id, ad = parsing.submitted(output, result, array=spec.array is not None)
        self._submitted_at = time.monotonic()
        shown_folder, stdout, stderr = parsing.paths(ad)
        return Submitted(
            native_id=native_id,
            working_directory=shown_folder or folder,
            stdout_file=stdout or (commands.expand(plan.stdout, folder, native_id) if plan.stdout else None),
            stderr_file=stderr or (commands.expand(plan.stderr, folder, native_id) if plan.stderr else None),
            warnings=plan.warnings + (parsing.submit_warnings(result) if plan.show else ()),
        )

    def query(self, jobs: Mapping[str, Collection[int]], account: str | None) -> Mapping[str, JobReport]:
        wanted = {name: jobs[name] for name in jobs if parsing.is_native_id(name)}
        if not wanted:
            return {}
        reports = parsing.queue(self.ask(commands.queue(wanted, account), account))
        for some in _batches(_missing(wanted, reports)):
            ended = parsing.history(self.ask(commands.history(some, account), account))
            reports = _merged(reports, ended)
        return {name: report for name, report in reports.items() if name in wanted}

    def find(self, uuid: str, account: str) -> JobReport | None:
        live = parsing.found(self.ask(commands.find_live(uuid, account), account), left=False)
        return live or parsing.found(self.ask(commands.find_ended(uuid, account), account), left=True)

    def control(self, action: str, native_id: str, account: str) -> JobReport | None:
        # Looked up first: in a pool that is new, condor_rm and its like succeed on a job that there is not (23.9).
        if not parsing.is_native_id(native_id) or not (known := self.query({native_id: ()}, account)):
            raise NotFound(f"HTCondor does not know job {native_id}")
        result = self.run(commands.control(action, native_id, account), account)
        parsing.check_reachable(result)
        if result.exit_code:
            self._explain(action, native_id, account)
            return None
        return _never_created(known[native_id]) if action == "abort" else None

    def abort_tasks(self, native_id: str, tasks: Collection[int], account: str) -> None:
        known = self.query({native_id: tasks}, account).get(native_id)
        if known is None:
            raise NotFound(f"HTCondor does not know job {native_id}")
        if to_come := sorted({*tasks} & _uncreated(known)):
            words = "the array says how many tasks are to run at once, and HTCondor creates each when its turn has come"
            raise Conflict(f"task {to_come[0]} cannot be aborted yet: {words}; abort it then, or the whole array")
        parsing.check_reachable(self.run(commands.control("abort", native_id, account, tasks), account))

    def _explain(self, action: str, native_id: str, account: str) -> None:
        """HTCondor found no such job in a state for the action: why, and is that an error?"""
        report = self.query({native_id: ()}, account).get(native_id)
        if report is None:
            raise NotFound(f"HTCondor does not know job {native_id}")
        states = {task.state for task in report.tasks.values()} or {report.state}
        if not all(state.final or state == DONE[action] for state in states):
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


def _missing(wanted: Mapping[str, Collection[int]], reports: Mapping[str, JobReport]) -> dict[str, list[int]]:
    """The jobs that have no report, and of arrays the tasks that have none."""
    missing: dict[str, list[int]] = {}
    for native_id, tasks in sorted(wanted.items()):
        told = reports[native_id].tasks if native_id in reports else {}
        silent = [task for task in tasks if task not in told]
        if silent or native_id not in reports:
            missing[native_id] = silent
    return missing


def _batches(missing: Mapping[str, list[int]]) -> Iterator[dict[str, list[int]]]:
    """Of so many jobs and tasks as go into one command line."""
    batch: dict[str, list[int]] = {}
    room = IDS_AT_ONCE
    for native_id, tasks in missing.items():
        for start in range(0, max(1, len(tasks)), IDS_AT_ONCE):
            some = tasks[start : start + IDS_AT_ONCE]
            if batch and (room < len(some) + 1 or native_id in batch):
                yield batch
                batch, room = {}, IDS_AT_ONCE
            batch[native_id] = some
            room -= len(some) + 1
    if batch:
        yield batch


def _merged(one: Mapping[str, JobReport], other: Mapping[str, JobReport]) -> dict[str, JobReport]:
    """Of an array that both tell about, the tasks of both; what the first says counts."""
    both = {name: replace(one[name], tasks={**other[name].tasks, **one[name].tasks}) for name in one.keys() & other}
    return {**other, **one, **both}


def _uncreated(report: JobReport) -> set[int]:
    return {number for number, task in report.tasks.items() if task.native_state == parsing.UNCREATED}


def _never_created(report: JobReport) -> JobReport | None:
    """An array that was removed: HTCondor will not say what became of tasks that it has not created (23.9)."""
    cancelled = TaskReport(
        JobState.CANCELLED, "REMOVED", reason="removed before it started", end_time=datetime.now(UTC)
    )
    tasks = dict.fromkeys(_uncreated(report), cancelled)
    return replace(report, tasks=tasks) if tasks else None


@hookimpl
def register_backends() -> Iterable[type[HTCondorBackend]]:
    return [HTCondorBackend]
