"""What is Slurm's own, on the real one: the script's directives, no accounting, and two users."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import Command, JobState, NotFound
from gateway.testing.contract import Driver
from gateway_plugins.slurm import SlurmBackend
from tests.cluster.fixture import Cluster
from tests.plugins.on_cluster import running


@pytest.fixture
def backend(cluster: Cluster, tmp_path: Path) -> Iterator[SlurmBackend]:
    with running(SlurmBackend, cluster, tmp_path) as backend:
        yield backend


@pytest.fixture
def jobs(backend: SlurmBackend) -> Iterator[Driver]:
    folder = backend.host.transport.home("alice") + "/slurm-tests"
    driver = Driver(backend, "alice", folder, poll=0.5, patience=60)
    yield driver
    driver.stop_all()


@pytest.mark.parametrize("line", ["-o mine-%j.txt", "--output=%x-%u.txt -J named", "-D /tmp -o here-%j.txt"])
def test_the_users_own_logs_are_found(jobs: Driver, line: str) -> None:
    more = {"working_directory": None} if "-D" in line else {}
    job, report = jobs.run(f"#!/bin/sh\n#SBATCH {line}\necho out; echo err >&2\n", **more)
    assert report.state is JobState.FINISHED
    assert job.stdout_file == job.stderr_file  # as Slurm has it, where the script names one
    assert jobs.output(job) == b"out\nerr\n"
    if "-D" in line:
        assert job.working_directory == "/tmp"
    jobs.shell(f"rm -f '{job.stdout_file}'")


def test_what_the_request_does_not_say_is_the_scripts(jobs: Driver) -> None:
    job, report = jobs.run("#!/bin/sh\n#SBATCH -p short -c 2\necho\n")
    assert (report.queue, report.cores, job.warnings) == ("short", 2, ())


def test_without_accounting(cluster_alone: Cluster, backend: SlurmBackend, jobs: Driver) -> None:
    """slurmctld's memory is what is left, for MinJobAge seconds."""
    with cluster_alone.without_slurm_accounting():
        for script, state, code in (
            ("#!/bin/sh\nexit 0\n", JobState.FINISHED, 0),
            ("#!/bin/sh\nexit 77\n", JobState.FAILED, 77),
            ("#!/bin/sh\nkill -9 $$\n", JobState.FAILED, 137),
        ):
            spec = jobs.spec(script)
            report = jobs.ended(jobs.hand_over(spec))
            assert (report.state, report.exit_code) == (state, code)
            found = backend.find(spec.uuid, "alice")
            assert found is not None
            assert found.native_id == report.native_id
        job = jobs.submit("#!/bin/sh\nsleep 600\n")
        jobs.in_state(job, JobState.RUNNING)
        backend.control("abort", job.native_id, "alice")
        assert jobs.ended(job).state is JobState.CANCELLED
        assert backend.query(dict.fromkeys(["4000000000"], ()), "alice") == {}


def test_slurm_itself_keeps_bob_out(backend: SlurmBackend, jobs: Driver) -> None:
    """Past every check of ours: bob's own certificate, alice's job id."""
    job = jobs.submit("#!/bin/sh\numask 077\necho secret > secret\nsleep 600\n")
    jobs.in_state(job, JobState.RUNNING)
    run = backend.host.transport.run
    assert run(Command(("scancel", job.native_id)), "bob").exit_code != 0
    assert run(Command(("cat", f"{jobs.workspace}/secret")), "bob").exit_code != 0
    with pytest.raises(NotFound):
        backend.control("abort", job.native_id, "bob")
    report = jobs.report(job)
    assert report is not None
    assert report.state is JobState.RUNNING


def test_a_job_cancelled_while_it_was_held(backend: SlurmBackend, jobs: Driver) -> None:
    """Plain `sacct` leaves such a job out; with its id it is told."""
    job = jobs.submit("#!/bin/sh\n", hold=True)
    backend.control("abort", job.native_id, "alice")
    report = jobs.ended(job)
    assert (report.state, report.start_time) == (JobState.CANCELLED, None)


def test_cluster(backend: SlurmBackend) -> None:
    cluster = backend.cluster()
    assert cluster.version.startswith("slurm")
    queues = {queue.name: queue for queue in cluster.queues}
    assert (queues["batch"].default, queues["batch"].wall_time) == (True, 86400)
    assert (queues["short"].wall_time, queues["closed"].up) == (600, False)
    assert sum(cluster.nodes.values()) == 4
