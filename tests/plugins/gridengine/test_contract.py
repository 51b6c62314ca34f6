"""The contract on the real Grid Engine, and what is Grid Engine's own."""

import dataclasses
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from gateway.backend import Backend, HostContext
from gateway.errors import Conflict, Forbidden, HostDown, NotFound, RefusedByScheduler
from gateway.model import JobSpec, JobState, Resources, task_range
from gateway.testing.contract import BackendContract, Driver
from gateway_plugins.gridengine import GridEngineBackend, GridEngineOptions
from tests.cluster.fixture import Cluster
from tests.plugins.on_cluster import running


def files(jobs: Driver) -> list[str]:
    return jobs.shell(f"ls {jobs.workspace}").stdout.split()


class TestGridEngine(BackendContract):
    cores = 2
    gpus = 1
    priority = -1
    wall_time = 2

    @pytest.fixture
    def backend(self, cluster: Cluster, tmp_path: Path) -> Iterator[GridEngineBackend]:
        self.cluster = cluster
        with running(GridEngineBackend, cluster, tmp_path, GridEngineOptions(patience=4)) as backend:
            yield backend

    @pytest.fixture
    def account(self) -> str:
        return "alice"

    @pytest.fixture
    def other_account(self) -> str:
        return "bob"

    def refusal(self, spec: JobSpec) -> JobSpec:
        return dataclasses.replace(spec, queue="nosuch.q")

    def down(self, backend: Backend) -> AbstractContextManager[None]:
        """The qmaster is there and does not answer."""
        return self.cluster.frozen("sge_qmaster")

    def test_scheduler_down(self, jobs: Driver, cluster_alone: Cluster) -> None:
        super().test_scheduler_down(jobs)

    # --- the script's own directives ----------------------------------------------------------------------------------

    def test_logs_that_the_script_names(self, jobs: Driver) -> None:
        script = "#!/bin/sh\n#$ -N theirs\n#$ -o $HOME/../alice/{0}/logs/ -j y\necho out; echo err >&2\n"
        jobs.shell(f"mkdir {jobs.workspace}/logs")
        job, report = jobs.run(script.format(jobs.workspace.rpartition("/")[2]))
        assert report.state is JobState.FINISHED
        assert job.stdout_file == job.stderr_file == f"{jobs.workspace}/logs/theirs.o{job.native_id}"
        assert jobs.output(job) == b"out\nerr\n"
        assert job.warnings == ()

    def test_tasks_between_those_asked_for_leave_nothing(self, jobs: Driver) -> None:
        """Of 2, 5 and 8 to 10 Grid Engine makes 2 to 10."""
        job = jobs.submit("#!/bin/sh\n", array=task_range("2,5,8-10"))
        jobs.all_ended(job)
        logs = [f"job.{stream}{job.native_id}.{task}" for stream in "oe" for task in (2, 5, 8, 9, 10)]
        jobs.eventually(lambda: set(files(jobs)) == {*logs}, lambda: files(jobs))

    def test_a_list_with_too_many_gaps(self, jobs: Driver) -> None:
        with pytest.raises(RefusedByScheduler) as refused:
            jobs.backend.submit(jobs.spec("#!/bin/sh\n", array=task_range("1,2,100000")))
        assert set(refused.value.errors) == {"array"}

    def test_variables_in_the_scripts_log_names(self, jobs: Driver) -> None:
        job, _ = jobs.run(
            "#!/bin/sh\n#$ -o $JOB_NAME-$JOB_ID-$USER-$TASK_ID\n#$ -e e\necho out; echo err >&2\n", name="x"
        )
        assert job.stdout_file == f"{jobs.workspace}/x-{job.native_id}-alice-0"
        assert (jobs.output(job), jobs.read(job.stderr_file)) == (b"out\n", b"err\n")

    def test_the_scripts_own_folder(self, jobs: Driver) -> None:
        folder = f"{jobs.workspace}/own"
        jobs.shell(f"mkdir {folder}")
        job, _ = jobs.run(f"#!/bin/sh\n#$ -wd {folder}\npwd\n", working_directory=None)
        assert job.working_directory == folder
        assert jobs.output(job) == f"{folder}\n".encode()

    def test_the_request_wins_and_says_so(self, jobs: Driver) -> None:
        script = "#!/bin/sh\n#$ -q short.q -N theirs\n#$ -l h_rt=1 -o theirs\n#$ -wd /tmp\nsleep 2; pwd\n"
        job, report = jobs.run(script, name="ours", queue="all.q", stdout="ours", resources=Resources(wall_time=30))
        assert (report.state, report.queue) == (JobState.FINISHED, "all.q")
        assert jobs.read(f"{jobs.workspace}/ours") == f"{jobs.workspace}\n".encode()
        assert len(job.warnings) == 5

    def test_the_shebang_is_honoured(self, jobs: Driver) -> None:
        job, _ = jobs.run("#!/bin/sh -u\necho ${NOTHING}\necho not reached\n")
        assert b"not reached" not in jobs.output(job)
        job, _ = jobs.run("#!/usr/bin/python3\nimport sys\nprint(sys.version_info[0])\n")
        assert jobs.output(job) == b"3\n"

    def test_an_array_in_the_script_is_one_job(self, jobs: Driver) -> None:
        job, report = jobs.run("#!/bin/sh\n#$ -t 1-3\ntest $SGE_TASK_ID != 2\n")
        assert (report.state, report.exit_code) == (JobState.FAILED, 1)
        assert (job.stdout_file, job.stderr_file) == (None, None)

    def test_variables_that_the_commands_need_themselves(self, jobs: Driver) -> None:
        job, _ = jobs.run("#!/bin/bash -e\necho $LD_X $LANG\n", environment={"LD_X": "1", "LANG": "xx", "IFS": ":"})
        assert jobs.output(job) == b"1 xx\n"

    # --- what cannot be -----------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "asked",
        [
            {"resources": Resources(cores=1000)},
            {"queue": "short.q", "resources": Resources(wall_time=7200)},
            {"resources": Resources(gpus=9)},
        ],
    )
    def test_the_impossible_is_refused_at_once(self, jobs: Driver, asked: dict[str, object]) -> None:
        with pytest.raises(RefusedByScheduler, match="no suitable queues"):
            jobs.submit("#!/bin/sh\n", **asked)

    def test_a_job_in_error_is_held_and_says_why(self, jobs: Driver) -> None:
        job = jobs.submit("#!/bin/sh\n", stdout="no/such/folder")
        report = jobs.until(job, lambda report: report.reason is not None)
        assert (report.state, report.native_state) == (JobState.HELD, "Eqw")
        assert "can't" in str(report.reason)
        jobs.shell(f"mkdir -p {jobs.workspace}/no/such")
        jobs.backend.control("release", job.native_id, jobs.account)
        assert jobs.ended(job).state is JobState.FINISHED

    def test_a_job_that_waits_is_not_suspended(self, jobs: Driver) -> None:
        job = jobs.submit("#!/bin/sh\n", hold=True)
        with pytest.raises(Conflict):
            jobs.backend.control("suspend", job.native_id, jobs.account)

    def test_an_ended_job_is_not_held(self, jobs: Driver) -> None:
        job, _ = jobs.run("#!/bin/sh\n")
        with pytest.raises(Conflict):
            jobs.backend.control("hold", job.native_id, jobs.account)

    # --- who asks -----------------------------------------------------------------------------------------------------

    def test_bobs_own_commands_cannot_touch_it(self, jobs: Driver, backend: GridEngineBackend) -> None:
        """Even where our own check were missing."""
        job = jobs.submit("#!/bin/sh\nsleep 600\n")
        jobs.in_state(job, JobState.RUNNING)
        for command in (
            backend.commands.abort(job.native_id, "x"),
            *(backend.commands.control(action, job.native_id) for action in ("hold", "suspend", "release")),
        ):
            assert backend.run(command, "bob").exit_code != 0
        with pytest.raises(Forbidden):
            backend.host.transport.open_file(str(job.stdout_file), "bob", "/")
        report = jobs.report(job)
        assert report
        assert report.state is JobState.RUNNING

    def test_the_operator_asks_for_all(self, jobs: Driver) -> None:
        theirs = Driver(jobs.backend, "bob", "", self.poll, self.patience)
        other = theirs.submit("#!/bin/sh\nexit 3\n", working_directory=None, stdout="/dev/null", stderr="/dev/null")
        job = jobs.submit("#!/bin/sh\nsleep 600\n")
        jobs.in_state(job, JobState.RUNNING)
        theirs.ended(other)
        reports = jobs.backend.query(dict.fromkeys([job.native_id, other.native_id], ()), None)
        assert reports[job.native_id].state is JobState.RUNNING
        assert reports[other.native_id].exit_code == 3

    # --- found again --------------------------------------------------------------------------------------------------

    def test_a_running_job_is_adopted_with_its_files(self, jobs: Driver) -> None:
        spec = jobs.spec("#!/bin/sh\n#$ -o theirs\nsleep 600\n", name="adopted")
        job = jobs.hand_over(spec)
        jobs.in_state(job, JobState.RUNNING)
        found = jobs.backend.find(spec.uuid, jobs.account)
        assert found
        assert (found.native_id, found.state, found.uuid) == (job.native_id, JobState.RUNNING, spec.uuid)
        assert (found.working_directory, found.stdout_file, found.stderr_file) == (
            job.working_directory,
            job.stdout_file,
            job.stderr_file,
        )

    def test_an_aborted_job_is_found_by_its_uuid(self, jobs: Driver) -> None:
        spec = jobs.spec("#!/bin/sh\nsleep 600\n")
        job = jobs.hand_over(spec)
        jobs.in_state(job, JobState.RUNNING)
        assert jobs.backend.control("abort", job.native_id, jobs.account) is None
        assert jobs.ended(job).uuid == spec.uuid
        found = jobs.backend.find(spec.uuid, jobs.account)
        assert found
        assert (found.native_id, found.state) == (job.native_id, JobState.CANCELLED)
        assert jobs.backend.find(spec.uuid, "bob") is None

    def test_the_end_of_a_job_that_never_started_is_told_at_once(self, jobs: Driver) -> None:
        """Grid Engine itself forgets it."""
        spec = jobs.spec("#!/bin/sh\n", hold=True)
        job = jobs.hand_over(spec)
        jobs.in_state(job, JobState.HELD)
        report = jobs.backend.control("abort", job.native_id, jobs.account)
        assert report
        assert (report.native_id, report.uuid, report.state) == (job.native_id, spec.uuid, JobState.CANCELLED)
        assert report.end_time
        assert jobs.report(job) is None

    # --- how the site is set up ---------------------------------------------------------------------------------------

    def test_a_wrong_set_up_is_said(self, backend: GridEngineBackend) -> None:
        def with_options(**options: object) -> GridEngineBackend:
            host = dataclasses.replace(backend.host, options=GridEngineOptions(**options))  # type: ignore[arg-type]
            return GridEngineBackend(host)

        assert backend.check() == []
        environment, resource = with_options(parallel_environment="mpi", gpu_complex="ngpus").check()
        assert "'mpi'" in environment
        assert "gpu_complex" in resource
        with pytest.raises(HostDown, match="bin_dir"):
            with_options(bin_dir="/nowhere").query(dict.fromkeys(["1"], ()), "alice")
        with pytest.raises(HostDown, match="SGE_ROOT"):
            with_options(sge_root="/nowhere").query(dict.fromkeys(["1"], ()), "alice")

    def test_the_programs_themselves(self, jobs: Driver, backend: GridEngineBackend) -> None:
        """Debian's commands in the PATH are slow wrappers."""
        folder = "/usr/lib/gridengine"
        if jobs.shell(f"test -x {folder}/qsub").exit_code:
            pytest.skip("no such folder")
        host: HostContext = dataclasses.replace(backend.host, options=GridEngineOptions(bin_dir=folder))
        quick = Driver(GridEngineBackend(host), jobs.account, jobs.workspace, self.poll, self.patience)
        job, report = quick.run("#!/bin/sh\nexit 4\n")
        assert (report.native_id, report.exit_code) == (job.native_id, 4)

    def test_unknown_to_every_action(self, backend: GridEngineBackend) -> None:
        for action in sorted(backend.capabilities.actions):
            with pytest.raises(NotFound):
                backend.control(action, self.unknown_id, "alice")
