"""The suite that every backend passes, ours and yours. It runs against a real scheduler, as real accounts.

    # conftest.py
    import pytest
    pytest.register_assert_rewrite("gateway.testing.contract")

    # test_contract.py
    import pytest
    from gateway import HostContext, RefusedByScheduler
    from gateway.testing.contract import BackendContract
    from jobgate_lsf import LsfBackend, LsfOptions

    class TestLsf(BackendContract):
        poll = 1.0                      # seconds between two looks
        patience = 120.0                # seconds within which a small job has ended and the accounting knows it
        unknown_id = "999999"

        @pytest.fixture
        def backend(self, tmp_path, cluster_transport):
            host = HostContext("lsf", LsfOptions(), cluster_transport, tmp_path, operator="jobgate")
            return LsfBackend(host)

        @pytest.fixture
        def account(self):
            return "alice"

        @pytest.fixture
        def other_account(self):
            return "bob"

        def refusal(self, spec):        # a request that this scheduler itself refuses
            return dataclasses.replace(spec, queue="nosuchqueue")

        @contextmanager
        def down(self, backend):        # the scheduler does not answer
            stop_lsf(); yield; start_lsf()

What a backend does not declare in its `capabilities`, and what a hook above leaves out, is skipped by name: run pytest
with `-rs`. With JOBGATE_REQUIRE_ALL=1 a hook that is left out is a failure.
"""

import dataclasses
import os
import shlex
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import UTC
from typing import Any, NoReturn, TypeVar

import pytest

from gateway.backend import ACTIONS, OPTIONAL_FIELDS, Backend, CommandBackend
from gateway.errors import (
    Conflict,
    Forbidden,
    HostDown,
    HostTimeout,
    InvalidSchedulerAnswer,
    JobgateError,
    NotFound,
    RefusedByScheduler,
)
from gateway.model import JobReport, JobSpec, JobState, Resources, Submitted, TaskReport, task_range
from gateway.transport import Command, CommandResult, Transport

T = TypeVar("T")

# {mark} is a file that must never come to be
HOSTILE = {
    "quotes": 'it\'s "quoted"',
    "substitution": "$(touch {mark})",
    "backticks": "`touch {mark}`",
    "semicolon": "x; touch {mark} #",
    "quoted-break-out": "'; touch {mark}; '\" ; touch {mark}; \"",
    "newline": "two\ntouch {mark}\nlines",
    "directive": "a\n#SBATCH --wrap=x\n#$ -N y\nqueue 3\n",
    "unicode": "żółć ☃ 作业",
    "leading-dash": "--help",
    "separators": "a|b,c;d:e\tf  g=h^i",
    "percent": "%n %j %A $HOME ${{HOME}} \\n \\\\",
    "markup": '<job_list>&amp;</job_list>{{"a": 1}}]]>',
    "glob": "* ? [a-z] ~ !",
    "long": "n" * 200,
}


class Driver:
    """One account's jobs on one backend: what the tests say, in their words. Whatever it submitted is stopped at the
    end."""

    def __init__(self, backend: Backend, account: str, workspace: str, poll: float, patience: float) -> None:
        self.backend = backend
        self.account = account
        self.workspace = workspace
        self.poll = poll
        self.patience = patience
        self.submitted: list[str] = []
        self.told: dict[str, JobReport] = {}
        self.tasks: dict[str, dict[int, TaskReport | None]] = {}

    def spec(self, script: str, **more: Any) -> JobSpec:
        values = {"uuid": str(uuid.uuid4()), "account": self.account, "working_directory": self.workspace}
        return JobSpec(script=script, **{**values, **more})

    def submit(self, script: str, **more: Any) -> Submitted:
        return self.hand_over(self.spec(script, **more))

    def hand_over(self, spec: JobSpec) -> Submitted:
        submitted = self.backend.submit(spec)
        self.submitted.append(submitted.native_id)
        if spec.array:
            self.tasks[submitted.native_id] = dict.fromkeys(spec.array.ids)
        return submitted

    def report(self, job: Submitted) -> JobReport | None:
        """What `query` says, or what `abort` said, as a gateway would know it."""
        if job.native_id in self.told:
            return self.told[job.native_id]
        return self.backend.query(alone(job.native_id), self.account).get(job.native_id)

    def abort(self, job: Submitted) -> None:
        report = self.backend.control("abort", job.native_id, self.account)
        if report and job.native_id in self.tasks:
            self._learn(job, report)
        elif report:
            assert report.native_id == job.native_id
            self.told[job.native_id] = report

    def abort_tasks(self, job: Submitted, *tasks: int) -> None:
        if report := self.backend.abort_tasks(job.native_id, tasks, self.account):
            self._learn(job, report)

    def states(self, job: Submitted) -> dict[int, JobState | None]:
        """What is known of an array's tasks by now, as a gateway would know it: None for what was never mentioned."""
        known = self.tasks[job.native_id]
        live = [task for task, report in known.items() if report is None or not report.state.final]
        if live and (report := self.backend.query({job.native_id: live}, self.account).get(job.native_id)):
            self._learn(job, report)
        return {task: report.state if report else None for task, report in known.items()}

    def _learn(self, job: Submitted, report: JobReport) -> None:
        """What has ended stays as it ended."""
        assert report.native_id == job.native_id
        known = self.tasks[job.native_id]
        live = {task for task, report in known.items() if report is None or not report.state.final}
        known.update({task: told for task, told in report.tasks.items() if task in live})

    def until_tasks(
        self, job: Submitted, accept: Callable[[dict[int, JobState | None]], bool]
    ) -> dict[int, JobState | None]:
        return self.eventually(
            lambda: (states := self.states(job)) and accept(states) and states, lambda: self.states(job)
        )

    def all_ended(self, job: Submitted) -> dict[int, TaskReport]:
        self.until_tasks(job, lambda states: all(state and state.final for state in states.values()))
        return {task: report for task, report in self.tasks[job.native_id].items() if report}

    def task_log(self, job: Submitted, task: int) -> bytes:
        assert job.stdout_file
        return self.read(job.stdout_file.replace("{task_id}", str(task)))

    def until(self, job: Submitted, accept: Callable[[JobReport], bool], patience: float | None = None) -> JobReport:
        """Ask until the report is as wished. A job that the scheduler does not mention for a while is waited for."""
        return self.eventually(
            lambda: (report := self.report(job)) and accept(report) and report, lambda: self.report(job), patience
        )

    def in_state(self, job: Submitted, *states: JobState) -> JobReport:
        return self.until(job, lambda report: report.state in states)

    def ended(self, job: Submitted, patience: float | None = None) -> JobReport:
        return self.until(job, lambda report: report.state.final, patience)

    def run(self, script: str, **more: Any) -> tuple[Submitted, JobReport]:
        job = self.submit(script, **more)
        return job, self.ended(job)

    def run_or_refused(self, script: str, **more: Any) -> tuple[Submitted, JobReport] | None:
        """None where the scheduler cannot honour it and says so; it may not honour it in half."""
        with suppress(RefusedByScheduler):
            return self.run(script, **more)
        return None

    def eventually(
        self, look: Callable[[], T | bool | None], last: Callable[[], object] = str, patience: float | None = None
    ) -> T:
        deadline = time.monotonic() + (patience or self.patience)
        while not (found := look()):
            if time.monotonic() > deadline:
                pytest.fail(f"not within {patience or self.patience:g} seconds; last: {last()}")
            time.sleep(self.poll)
        return found  # type: ignore[return-value]

    def read(self, path: str | None) -> bytes:
        assert path is not None
        assert path.startswith("/")
        with self.backend.host.transport.open_file(path, self.account, "/") as file:
            return file.read(0, file.size)

    def output(self, job: Submitted) -> bytes:
        return self.read(job.stdout_file)

    def exists(self, path: str) -> bool:
        return self.shell(f"test -e {shlex.quote(path)}").exit_code == 0

    def shell(self, script: str) -> CommandResult:
        """As the account, on the host."""
        return self.backend.host.transport.run(Command(("sh", "-c", script)), self.account)

    def stop_all(self) -> None:
        for native_id in self.submitted:
            with suppress(JobgateError):
                self.backend.control("abort", native_id, self.account)


def alone(*native_ids: str) -> dict[str, tuple[int, ...]]:
    """Jobs that are no arrays, as `query` is asked about them."""
    return dict.fromkeys(native_ids, ())


BEAT = "#!/bin/sh\nwhile :; do echo x >> beat; sleep 0.1; done\n"


class BackendContract:
    """See the module's first lines for how to use it."""

    poll = 0.5
    patience = 60.0
    grace = 15.0
    """Seconds that an ended job's processes may take to be gone."""
    wall_time = 60
    """Seconds: a limit that the scheduler can keep (Slurm counts in minutes)."""
    wall_time_patience = 240.0
    unknown_id = "999999999"
    big_output = 100_000_000
    big_script = 1 << 20
    cores = 1
    priority = 1
    """One that a user may ask for; Slurm and Grid Engine let users lower it only."""
    gpus: int | None = None
    """How many may be asked for; None where the host has none."""
    same_uuid_same_job = False
    """The backend itself recognises a uuid that it has been given before."""

    # --- what a subclass brings ---------------------------------------------------------------------------------------

    @pytest.fixture
    def backend(self) -> Backend:
        raise NotImplementedError("a subclass gives the fixture `backend`")

    @pytest.fixture
    def account(self) -> str:
        raise NotImplementedError("a subclass gives the fixture `account`")

    @pytest.fixture
    def other_account(self) -> str | None:
        """Another account of the host; None where there is none."""
        return None

    def refusal(self, spec: JobSpec) -> JobSpec | None:
        """The request changed so that the scheduler refuses it."""
        return None

    def down(self, backend: Backend) -> AbstractContextManager[object] | None:
        """While it lasts, the scheduler does not answer."""
        return None

    def garbage(self, backend: Backend) -> AbstractContextManager[Backend] | None:
        """While it lasts, the scheduler answers nonsense to a query; gives the backend to ask."""
        return (
            _garbling(backend, lambda text: "\x01 no answer\n\ufffd") if isinstance(backend, CommandBackend) else None
        )

    def cut_short(self, backend: Backend) -> AbstractContextManager[Backend] | None:
        """While it lasts, half of the scheduler's answer arrives."""
        return _garbling(backend, lambda text: text[: len(text) // 2])

    # --- fixtures -----------------------------------------------------------------------------------------------------

    @pytest.fixture
    def workspace(self, backend: Backend, account: str) -> Iterator[str]:
        """A folder of the account's own on the host."""
        yield from _workspace(backend, account)

    @pytest.fixture
    def jobs(self, backend: Backend, account: str, workspace: str) -> Iterator[Driver]:
        driver = Driver(backend, account, workspace, self.poll, self.patience)
        yield driver
        driver.stop_all()

    # --- a job's life -------------------------------------------------------------------------------------------------

    def test_a_job_runs_and_finishes(self, jobs: Driver) -> None:
        job, report = jobs.run("#!/bin/sh\necho out\necho err >&2\n", name="first")
        assert (report.state, report.exit_code, report.signal) == (JobState.FINISHED, 0, None)
        assert report.native_id == job.native_id
        assert report.native_state
        assert jobs.output(job) == b"out\n"
        assert jobs.read(job.stderr_file).endswith(b"err\n")

    def test_times_are_utc_and_in_order(self, jobs: Driver) -> None:
        _, report = jobs.run("#!/bin/sh\nsleep 1\n")
        assert report.start_time is not None
        assert report.end_time is not None
        assert report.start_time.tzinfo is UTC
        assert report.start_time <= report.end_time
        assert abs(report.end_time.timestamp() - time.time()) < self.patience + 60

    @pytest.mark.parametrize("code", [0, 1, 77])
    def test_exit_code(self, jobs: Driver, code: int) -> None:
        _, report = jobs.run(f"#!/bin/sh\nexit {code}\n")
        assert (report.state, report.exit_code) == (JobState.FAILED if code else JobState.FINISHED, code)

    def test_killed_by_a_signal(self, jobs: Driver) -> None:
        _, report = jobs.run("#!/bin/sh\nkill -9 $$\nsleep 60\n")
        assert (report.state, report.exit_code, report.signal) == (JobState.FAILED, 137, 9)

    def test_running_is_seen(self, jobs: Driver) -> None:
        job = jobs.submit("#!/bin/sh\nsleep 600\n")
        report = jobs.in_state(job, JobState.RUNNING)
        assert report.end_time is None
        assert report.exit_code is None

    def test_script_runs_as_given(self, jobs: Driver) -> None:
        script = "#!/usr/bin/env python3\nimport sys\nsys.stdout.write('''$HOME `id` \\\\ \"'%s'\" \tżółć''')"
        job, report = jobs.run(script)
        assert report.state is JobState.FINISHED
        assert jobs.output(job).decode() == "$HOME `id` \\ \"'%s'\" \tżółć"

    def test_big_script(self, jobs: Driver) -> None:
        line = "# " + "x" * 97 + "\n"
        script = "#!/bin/sh\n" + line * ((self.big_script - 100) // len(line)) + "echo the end\n"
        job, report = jobs.run(script)
        assert report.state is JobState.FINISHED
        assert jobs.output(job) == b"the end\n"

    def test_big_output(self, jobs: Driver) -> None:
        job = jobs.submit(f"#!/bin/sh\nhead -c {self.big_output} /dev/zero\nprintf end\n")
        assert jobs.ended(job, self.patience * 3).state is JobState.FINISHED
        assert job.stdout_file is not None
        with jobs.backend.host.transport.open_file(job.stdout_file, jobs.account, "/") as file:
            assert file.size == self.big_output + 3
            assert file.read(self.big_output - 1, 100) == b"\0end"

    def test_two_jobs_in_one_folder(self, jobs: Driver) -> None:
        first, second = (jobs.submit(f"#!/bin/sh\necho {word}\n", name="same") for word in ("one", "two"))
        jobs.ended(first)
        jobs.ended(second)
        assert (jobs.output(first), jobs.output(second)) == (b"one\n", b"two\n")

    def test_many_at_once(self, jobs: Driver) -> None:
        with ThreadPoolExecutor(8) as pool:
            submitted = list(pool.map(lambda number: jobs.submit(f"#!/bin/sh\nexit {number}\n"), range(20)))
        assert len({job.native_id for job in submitted}) == 20
        assert [jobs.ended(job).exit_code for job in submitted] == list(range(20))

    # --- ending a job -------------------------------------------------------------------------------------------------

    def test_abort_a_running_job(self, jobs: Driver) -> None:
        job = jobs.submit(BEAT)
        self._beats(jobs)
        before = time.monotonic()
        jobs.backend.control("abort", job.native_id, jobs.account)
        assert time.monotonic() - before < 10
        assert jobs.ended(job).state is JobState.CANCELLED
        self._is_still(jobs)

    def test_abort_reaches_what_left_the_session(self, jobs: Driver) -> None:
        self._require("setsid", jobs.shell("command -v setsid").exit_code == 0)
        job = jobs.submit("#!/bin/sh\nsetsid sh -c 'while :; do echo x >> beat; sleep 0.1; done' &\nsleep 600\n")
        self._beats(jobs)
        jobs.backend.control("abort", job.native_id, jobs.account)
        assert jobs.ended(job).state is JobState.CANCELLED
        self._is_still(jobs)

    def test_abort_again_and_after_the_end(self, jobs: Driver) -> None:
        job = jobs.submit("#!/bin/sh\nsleep 600\n")
        jobs.in_state(job, JobState.RUNNING)
        jobs.backend.control("abort", job.native_id, jobs.account)
        jobs.backend.control("abort", job.native_id, jobs.account)
        assert jobs.ended(job).state is JobState.CANCELLED
        jobs.backend.control("abort", job.native_id, jobs.account)
        assert jobs.ended(job).state is JobState.CANCELLED

    def test_abort_of_a_finished_job_changes_nothing(self, jobs: Driver) -> None:
        job, before = jobs.run("#!/bin/sh\nexit 3\n")
        jobs.backend.control("abort", job.native_id, jobs.account)
        assert jobs.report(job) == before

    # --- what it does not know ----------------------------------------------------------------------------------------

    def test_unknown_id_is_absent(self, jobs: Driver) -> None:
        job, _ = jobs.run("#!/bin/sh\n")
        assert jobs.backend.query(alone(self.unknown_id), jobs.account) == {}
        answer = jobs.backend.query(alone(self.unknown_id, job.native_id), jobs.account)
        assert set(answer) == {job.native_id}

    def test_asking_about_nothing(self, backend: Backend, account: str) -> None:
        assert backend.query({}, account) == {}

    def test_unknown_id_cannot_be_controlled(self, backend: Backend, account: str) -> None:
        with pytest.raises(NotFound):
            backend.control("abort", self.unknown_id, account)

    @pytest.mark.parametrize("native_id", ["--help", "$(id)", "1;id", "", "0", "\u0661", "1\n2", "9" * 40])
    def test_hostile_id_is_unknown(self, backend: Backend, account: str, native_id: str) -> None:
        assert backend.query(alone(native_id), account) == {}
        with pytest.raises(NotFound):
            backend.control("abort", native_id, account)

    # --- found again --------------------------------------------------------------------------------------------------

    def test_find_by_uuid(self, jobs: Driver) -> None:
        spec = jobs.spec("#!/bin/sh\nsleep 2\n")
        job = jobs.hand_over(spec)
        found = jobs.eventually(lambda: jobs.backend.find(spec.uuid, jobs.account))
        assert (found.native_id, found.uuid) == (job.native_id, spec.uuid)
        jobs.ended(job)
        found = jobs.eventually(lambda: jobs.backend.find(spec.uuid, jobs.account))
        assert found.native_id == job.native_id

    def test_find_an_unknown_uuid(self, backend: Backend, account: str) -> None:
        assert backend.find(str(uuid.uuid4()), account) is None

    def test_the_same_uuid_is_the_same_job(self, jobs: Driver) -> None:
        self._require("same_uuid_same_job", self.same_uuid_same_job)
        spec = jobs.spec("#!/bin/sh\necho x >> ran\n")
        with ThreadPoolExecutor(8) as pool:
            submitted = set(pool.map(lambda _: jobs.hand_over(spec), range(8)))
        assert len(submitted) == 1
        jobs.ended(submitted.pop())
        assert jobs.read(f"{jobs.workspace}/ran") == b"x\n"

    # --- nothing is executed but the script ---------------------------------------------------------------------------

    @pytest.mark.parametrize("kind", HOSTILE)
    def test_hostile_name(self, jobs: Driver, kind: str) -> None:
        mark = f"{jobs.workspace}/mark"
        plain = jobs.submit("#!/bin/sh\nexit 5\n", name="plain")
        ran = jobs.run_or_refused("#!/bin/sh\nexit 6\n", name=HOSTILE[kind].format(mark=mark))
        if ran:
            assert (ran[1].state, ran[1].exit_code) == (JobState.FAILED, 6)
            both = jobs.backend.query(alone(plain.native_id, ran[0].native_id), jobs.account)
            assert set(both) <= {plain.native_id, ran[0].native_id}
        assert jobs.ended(plain).exit_code == 5
        assert not jobs.exists(mark)

    @pytest.mark.parametrize("kind", [*HOSTILE, "empty"])
    def test_hostile_environment_value(self, jobs: Driver, kind: str) -> None:
        mark = f"{jobs.workspace}/mark"
        value = HOSTILE.get(kind, "").format(mark=mark)
        script = '#!/bin/sh\nprintf \'%s|%s\' "${VALUE-unset}" "$SECOND"\n'
        ran = jobs.run_or_refused(script, environment={"VALUE": value, "SECOND": "2"})
        if ran:
            assert ran[1].state is JobState.FINISHED
            assert jobs.output(ran[0]).decode() == f"{value}|2"
        assert not jobs.exists(mark)

    @pytest.mark.parametrize("kind", HOSTILE)
    def test_hostile_working_directory(self, jobs: Driver, kind: str) -> None:
        mark = "mark"
        directory = f"{jobs.workspace}/{HOSTILE[kind].format(mark=mark).replace('/', '_')}"
        ran = jobs.run_or_refused("#!/bin/sh\npwd\necho here > file\n", working_directory=directory)
        if ran:
            assert ran[1].state is JobState.FINISHED
            assert ran[0].working_directory == directory
            assert jobs.read(f"{directory}/file") == b"here\n"
            assert jobs.output(ran[0]).decode() == f"{directory}\n"
        assert not jobs.exists(f"{jobs.workspace}/{mark}")
        assert not jobs.exists(f"{directory}/{mark}")

    def test_working_directory_is_made(self, jobs: Driver) -> None:
        directory = f"{jobs.workspace}/not/there/yet"
        job, report = jobs.run("#!/bin/sh\npwd\n", working_directory=directory)
        assert report.state is JobState.FINISHED
        assert jobs.output(job).decode() == f"{directory}\n"

    def test_working_directory_defaults_to_home(self, jobs: Driver) -> None:
        job, report = jobs.run("#!/bin/sh\npwd -P; cd; pwd -P\n", working_directory=None, name="home")
        assert report.state is JobState.FINISHED
        assert len(set(jobs.output(job).split())) == 1
        jobs.shell(f"rm -f -- {shlex.quote(job.stdout_file or '')} {shlex.quote(job.stderr_file or '')}")

    # --- two users ----------------------------------------------------------------------------------------------------

    def test_nobody_elses_job(self, jobs: Driver, other_account: str | None) -> None:
        other = self._given("other_account", other_account)
        spec = jobs.spec("#!/bin/sh\nsleep 3\nexit 4\n")
        job = jobs.hand_over(spec)
        for action in sorted(jobs.backend.capabilities.actions):
            with pytest.raises((NotFound, Forbidden)):
                jobs.backend.control(action, job.native_id, other)
        assert jobs.backend.query(alone(job.native_id), other) == {}
        assert jobs.backend.find(spec.uuid, other) is None
        assert jobs.ended(job).exit_code == 4

    def test_jobs_run_as_their_account(self, jobs: Driver, other_account: str | None) -> None:
        other = self._given("other_account", other_account)
        self._require("accounts of their own", not jobs.backend.host.shared_account)
        job, _ = jobs.run("#!/bin/sh\nid -un\nid -u\n(umask 077; echo secret > secret)\n")
        assert jobs.output(job).split()[0].decode() == jobs.account
        assert jobs.output(job).split()[1] != b"0"
        with pytest.raises(Forbidden):
            jobs.backend.host.transport.open_file(f"{jobs.workspace}/secret", other, "/")

    # --- a scheduler that says no, nothing, or nonsense ---------------------------------------------------------------

    def test_refused(self, jobs: Driver) -> None:
        spec = self._given("refusal", self.refusal(jobs.spec("#!/bin/sh\n")))
        with pytest.raises(RefusedByScheduler) as refused:
            jobs.backend.submit(spec)
        assert refused.value.error_output.strip()
        assert refused.value.exit_code not in (0, None)
        assert jobs.backend.find(spec.uuid, jobs.account) is None

    def test_scheduler_down(self, jobs: Driver) -> None:
        job, _ = jobs.run("#!/bin/sh\n")
        spec = jobs.spec("#!/bin/sh\n")
        with self._given("down", self.down(jobs.backend)):
            with pytest.raises(HostDown):
                jobs.backend.submit(spec)
            for ask in (
                lambda: jobs.backend.query(alone(job.native_id), jobs.account),
                lambda: jobs.backend.find(spec.uuid, jobs.account),
                lambda: jobs.backend.cluster(),
            ):
                with pytest.raises((HostDown, HostTimeout)):
                    ask()
        assert jobs.ended(job).state is JobState.FINISHED
        assert jobs.backend.find(spec.uuid, jobs.account) is None

    @pytest.mark.parametrize("trouble", ["garbage", "cut_short"])
    def test_nonsense_is_an_error(self, jobs: Driver, trouble: str) -> None:
        """Never an empty answer: that would be read as "no such jobs"."""
        spec = jobs.spec("#!/bin/sh\nsleep 600\n")
        job = jobs.hand_over(spec)
        jobs.in_state(job, JobState.RUNNING)
        with self._given(trouble, getattr(self, trouble)(jobs.backend)) as backend:
            with pytest.raises(InvalidSchedulerAnswer):
                backend.query(alone(job.native_id), jobs.account)
            with pytest.raises(InvalidSchedulerAnswer):
                backend.find(spec.uuid, jobs.account)

    # --- capabilities -------------------------------------------------------------------------------------------------

    def test_capabilities_are_known_words(self, backend: Backend) -> None:
        assert backend.capabilities.fields <= set(OPTIONAL_FIELDS)
        assert {"abort"} <= backend.capabilities.actions <= set(ACTIONS)

    def test_cluster(self, backend: Backend) -> None:
        cluster = backend.cluster()
        assert cluster.version
        assert all(queue.name for queue in cluster.queues)
        assert all(count >= 0 for count in cluster.nodes.values())

    def test_check_speaks_in_sentences(self, backend: Backend) -> None:
        assert all(isinstance(problem, str) and problem for problem in backend.check())

    @pytest.mark.parametrize("field", ["nodes", "cores", "memory", "gpus"])
    def test_resource(self, jobs: Driver, field: str) -> None:
        self._field(jobs, field)
        amount = {"nodes": 1, "cores": self.cores, "memory": 64, "gpus": self.gpus}[field]
        amount = self._given(field, amount)
        _, report = jobs.run("#!/bin/sh\n", resources=Resources(**{field: amount}))
        assert report.state is JobState.FINISHED
        if field in ("nodes", "cores"):
            assert getattr(report, field) in (None, amount)

    def test_queue(self, jobs: Driver) -> None:
        self._field(jobs, "queue")
        queues = jobs.backend.cluster().queues
        assert queues, "a backend with queues names them"
        name = next((queue.name for queue in queues if queue.default), queues[0].name)
        _, report = jobs.run("#!/bin/sh\n", queue=name)
        assert (report.state, report.queue) == (JobState.FINISHED, name)

    def test_wall_time(self, jobs: Driver) -> None:
        self._field(jobs, "wall_time")
        job = jobs.submit("#!/bin/sh\nsleep 900\n", resources=Resources(wall_time=self.wall_time))
        assert jobs.ended(job, self.wall_time_patience).state is JobState.TIMED_OUT

    def test_priority(self, jobs: Driver) -> None:
        self._field(jobs, "priority")
        _, report = jobs.run("#!/bin/sh\n", priority=self.priority)
        assert report.state is JobState.FINISHED

    def test_stdout_and_stderr(self, jobs: Driver) -> None:
        self._field(jobs, "stdout", "stderr")
        job, report = jobs.run("#!/bin/sh\necho out\necho err >&2\n", stdout="my out", stderr=f"{jobs.workspace}/err")
        assert report.state is JobState.FINISHED
        assert (job.stdout_file, job.stderr_file) == (f"{jobs.workspace}/my out", f"{jobs.workspace}/err")
        assert (jobs.output(job), jobs.read(job.stderr_file)) == (b"out\n", b"err\n")

    def test_stdout_and_stderr_in_one_file(self, jobs: Driver) -> None:
        self._field(jobs, "stdout", "stderr")
        job, report = jobs.run("#!/bin/sh\necho out\necho err >&2\necho out\n", stdout="both", stderr="both")
        assert report.state is JobState.FINISHED
        assert jobs.output(job) == b"out\nerr\nout\n"

    def test_logs_in_a_folder(self, jobs: Driver) -> None:
        """It is made, and the logs have their default names there; those of an array one for each task."""
        self._field(jobs, "stdout", "stderr")
        asked = {"stdout": "my logs/deep/", "stderr": f"{jobs.workspace}/my logs/deep/"}
        job, report = jobs.run("#!/bin/sh\necho out\necho err >&2\n", **asked)
        assert report.state is JobState.FINISHED
        assert (jobs.output(job), jobs.read(job.stderr_file or "")) == (b"out\n", b"err\n")
        assert {(path or "").rpartition("/")[0] for path in (job.stdout_file, job.stderr_file)} == {
            f"{jobs.workspace}/my logs/deep"
        }
        if "array" in jobs.backend.capabilities.fields:
            array = jobs.submit("#!/bin/sh\necho $JOBGATE_TASK_ID\n", array=task_range("1-2"), **asked)
            jobs.all_ended(array)
            assert [jobs.task_log(array, task) for task in (1, 2)] == [b"1\n", b"2\n"]

    def test_submitted_held(self, jobs: Driver) -> None:
        self._field(jobs, "hold")
        job = jobs.submit("#!/bin/sh\necho ran\n", hold=True)
        jobs.in_state(job, JobState.HELD)
        time.sleep(2 * self.poll)
        assert (report := jobs.report(job))
        assert report.state is JobState.HELD
        self._action(jobs, "release")
        jobs.backend.control("release", job.native_id, jobs.account)
        assert jobs.ended(job).state is JobState.FINISHED

    def test_abort_a_held_job(self, jobs: Driver) -> None:
        self._field(jobs, "hold")
        job = jobs.submit("#!/bin/sh\necho x > ran\n", hold=True)
        jobs.in_state(job, JobState.HELD)
        jobs.abort(job)
        assert jobs.ended(job).state is JobState.CANCELLED
        assert not jobs.exists(f"{jobs.workspace}/ran")

    def test_hold_of_a_running_job(self, jobs: Driver) -> None:
        self._action(jobs, "hold")
        job = jobs.submit("#!/bin/sh\nsleep 600\n")
        jobs.in_state(job, JobState.RUNNING)
        with pytest.raises(Conflict):
            jobs.backend.control("hold", job.native_id, jobs.account)

    def test_suspend_and_continue(self, jobs: Driver) -> None:
        self._action(jobs, "suspend", "continue")
        job = jobs.submit(BEAT)
        self._beats(jobs)
        jobs.backend.control("suspend", job.native_id, jobs.account)
        jobs.in_state(job, JobState.SUSPENDED)
        count = self._is_still(jobs)
        jobs.backend.control("continue", job.native_id, jobs.account)
        jobs.in_state(job, JobState.RUNNING)
        jobs.eventually(lambda: self._beats(jobs) > count)

    # --- arrays -------------------------------------------------------------------------------------------------------

    def test_array(self, jobs: Driver) -> None:
        self._field(jobs, "array")
        script = "#!/bin/sh\necho $JOBGATE_TASK_ID $SGE_TASK_ID\necho $JOBGATE_TASK_ID >&2\n"
        script += "[ $JOBGATE_TASK_ID != 6 ] || exit 3\n"
        job = jobs.submit(script, array=task_range("2-10:2"), name="many")
        ended = jobs.all_ended(job)
        codes = {task: (report.state, report.exit_code) for task, report in ended.items()}
        assert codes == dict.fromkeys((2, 4, 8, 10), (JobState.FINISHED, 0)) | {6: (JobState.FAILED, 3)}
        assert job.stderr_file
        for task, report in ended.items():
            assert jobs.task_log(job, task).decode() == f"{task} {task}\n"
            assert jobs.read(job.stderr_file.replace("{task_id}", str(task))).decode() == f"{task}\n"
            assert report.native_state
            assert report.start_time
            assert report.end_time
            assert report.start_time <= report.end_time

    def test_array_of_one(self, jobs: Driver) -> None:
        self._field(jobs, "array")
        job = jobs.submit("#!/bin/sh\necho $JOBGATE_TASK_ID\n", array=task_range("37"))
        assert jobs.all_ended(job)[37].state is JobState.FINISHED
        assert jobs.task_log(job, 37) == b"37\n"

    def test_array_of_an_irregular_list(self, jobs: Driver) -> None:
        """Also under a scheduler that knows ranges only: no other task runs."""
        self._field(jobs, "array")
        asked = (3, 7, 9, 10, 11)
        job = jobs.submit("#!/bin/sh\necho $JOBGATE_TASK_ID >> ran\n", array=task_range("3,7,9-11"))
        ended = jobs.all_ended(job)
        assert {ended[task].state for task in asked} == {JobState.FINISHED}
        assert sorted(map(int, jobs.read(f"{jobs.workspace}/ran").split())) == [*asked]

    def test_array_with_so_many_at_once(self, jobs: Driver) -> None:
        self._field(jobs, "array")
        script = "#!/bin/sh\necho begin >> order; sleep 1; echo end >> order\n"
        job = jobs.submit(script, array=task_range("1-3%1"))
        jobs.all_ended(job)
        assert jobs.read(f"{jobs.workspace}/order").decode().split() == ["begin", "end"] * 3

    def test_array_runs_any_script_as_given(self, jobs: Driver) -> None:
        self._field(jobs, "array")
        script = "#!/usr/bin/env python3\nimport os\nprint(os.environ['JOBGATE_TASK_ID'], '$HOME `id`', flush=True)\n"
        script += "os.kill(os.getpid(), 9)\n"
        job = jobs.submit(script, array=task_range("1-2"), environment={"A": "x'y"})
        ended = jobs.all_ended(job)
        assert {(report.exit_code, report.signal) for report in ended.values()} == {(137, 9)}
        assert jobs.task_log(job, 2).decode() == "2 $HOME `id`\n"

    def test_array_with_logs_of_its_own(self, jobs: Driver) -> None:
        """Each task's has the task's number behind its name."""
        self._field(jobs, "array", "stdout")
        job = jobs.submit("#!/bin/sh\necho $JOBGATE_TASK_ID\n", array=task_range("1-2"), stdout="my log")
        jobs.all_ended(job)
        assert job.stdout_file == f"{jobs.workspace}/my log.{{task_id}}"
        assert [jobs.task_log(job, task) for task in (1, 2)] == [b"1\n", b"2\n"]

    def test_array_is_found_by_its_uuid(self, jobs: Driver) -> None:
        self._field(jobs, "array")
        spec = jobs.spec("#!/bin/sh\nsleep 600\n", array=task_range("5-7"))
        job = jobs.hand_over(spec)
        jobs.until_tasks(job, lambda states: JobState.RUNNING in states.values())
        found = jobs.eventually(lambda: jobs.backend.find(spec.uuid, jobs.account))
        assert found.native_id == job.native_id
        assert (found.stdout_file, found.stderr_file) == (job.stdout_file, job.stderr_file)

    def test_abort_an_array(self, jobs: Driver) -> None:
        self._field(jobs, "array")
        job = jobs.submit("#!/bin/sh\nsleep 600\n", array=task_range("1-6%2"))
        jobs.until_tasks(job, lambda states: list(states.values()).count(JobState.RUNNING) == 2)
        jobs.abort(job)
        assert {report.state for report in jobs.all_ended(job).values()} == {JobState.CANCELLED}

    def test_abort_single_tasks(self, jobs: Driver) -> None:
        """One that runs and one that waits; the others go on."""
        self._field(jobs, "array")
        script = "#!/bin/sh\nwhile [ ! -e go ]; do sleep 0.2; done\n"
        job = jobs.submit(script, array=task_range("1-4%1"))
        jobs.until_tasks(job, lambda states: states[1] is JobState.RUNNING and states[2] is JobState.QUEUED)
        jobs.abort_tasks(job, 1)
        jobs.until_tasks(job, lambda states: states[1] is JobState.CANCELLED and states[2] is JobState.RUNNING)
        with suppress(Conflict):  # a scheduler may say that it cannot: then the task runs
            jobs.abort_tasks(job, 4)
            jobs.until_tasks(job, lambda states: states[4] is JobState.CANCELLED)
        jobs.shell(f"touch {shlex.quote(jobs.workspace)}/go")
        ended = jobs.all_ended(job)
        assert [ended[task].state for task in (1, 2, 3)] == [JobState.CANCELLED, JobState.FINISHED, JobState.FINISHED]

    def test_array_submitted_held(self, jobs: Driver) -> None:
        self._field(jobs, "array", "hold")
        self._action(jobs, "release")
        job = jobs.submit("#!/bin/sh\n", array=task_range("1-2"), hold=True)
        jobs.until_tasks(job, lambda states: set(states.values()) == {JobState.HELD})
        jobs.backend.control("release", job.native_id, jobs.account)
        assert {report.state for report in jobs.all_ended(job).values()} == {JobState.FINISHED}

    def test_nobody_elses_tasks(self, jobs: Driver, other_account: str | None) -> None:
        self._field(jobs, "array")
        other = self._given("other_account", other_account)
        job = jobs.submit("#!/bin/sh\nsleep 600\n", array=task_range("1-2"))
        jobs.until_tasks(job, lambda states: JobState.RUNNING in states.values())
        with pytest.raises((NotFound, Forbidden)):
            jobs.backend.abort_tasks(job.native_id, [1], other)
        assert jobs.backend.query({job.native_id: [1, 2]}, other) == {}

    def test_a_job_that_is_no_array_has_no_task(self, jobs: Driver) -> None:
        job, _ = jobs.run("#!/bin/sh\necho ${JOBGATE_TASK_ID-unset}\n")
        assert jobs.output(job) == b"unset\n"

    # --- in the tests' words ------------------------------------------------------------------------------------------

    def _beats(self, jobs: Driver) -> int:
        """How often the job has written; waits for the first time."""

        def count() -> int:
            with suppress(NotFound):
                return len(jobs.read(f"{jobs.workspace}/beat"))
            return 0

        return jobs.eventually(count)

    def _is_still(self, jobs: Driver) -> int:
        def same() -> int:
            before = self._beats(jobs)
            time.sleep(1.0)
            return before if self._beats(jobs) == before else 0

        return jobs.eventually(same, patience=self.grace)

    def _field(self, jobs: Driver, *fields: str) -> None:
        for field in fields:
            if field not in jobs.backend.capabilities.fields:
                pytest.skip(f"{jobs.backend.name} does not declare the field {field!r}")

    def _action(self, jobs: Driver, *actions: str) -> None:
        for action in actions:
            if action not in jobs.backend.capabilities.actions:
                pytest.skip(f"{jobs.backend.name} does not declare the action {action!r}")

    def _require(self, what: str, there: bool) -> None:
        if not there:
            pytest.skip(f"{type(self).__name__} is without: {what}")

    def _given(self, what: str, value: T | None) -> T:
        if value is None:
            missing(f"{type(self).__name__} brings no {what!r}")
        return value


def missing(words: str) -> NoReturn:
    """Skip; where everything is required (JOBGATE_REQUIRE_ALL=1), fail."""
    if os.environ.get("JOBGATE_REQUIRE_ALL") == "1":
        pytest.fail(words)
    pytest.skip(words)


def _workspace(backend: Backend, account: str) -> Iterator[str]:
    transport = backend.host.transport
    # resolved, so that `pwd` prints the same
    made = transport.run(Command(("sh", "-c", 'mkdir -p "$1" && cd "$1" && pwd -P', "sh", _folder_name())), account)
    assert made.exit_code == 0, made.stderr
    folder = made.stdout.rstrip("\n")
    yield folder
    transport.run(Command(("rm", "-rf", "--", folder)), account)


def _folder_name() -> str:
    return f"contract-{uuid.uuid4().hex[:12]}"


class _Garbling:
    """A transport whose commands succeed and print something else."""

    def __init__(self, inner: Transport, change: Callable[[str], str]) -> None:
        self._inner = inner
        self._change = change

    def run(self, command: Command, account: str) -> CommandResult:
        result = self._inner.run(command, account)
        return CommandResult(0, self._change(result.stdout), "")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def _garbling(backend: Backend, change: Callable[[str], str]) -> AbstractContextManager[Backend] | None:
    if not isinstance(backend, CommandBackend):
        return None
    transport: Any = _Garbling(backend.host.transport, change)
    return nullcontext(type(backend)(dataclasses.replace(backend.host, transport=transport)))
