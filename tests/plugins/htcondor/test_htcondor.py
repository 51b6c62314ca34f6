"""What is HTCondor's own, on the real one: submit descriptions, reasons, folders, and what keeps bob out."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.errors import Conflict, Forbidden, NotFound, OutcomeUnknown, RefusedByScheduler
from gateway.model import JobState, Resources
from gateway.testing.contract import Driver, _workspace
from gateway.transport import Command
from gateway_plugins.htcondor import HTCondorBackend
from tests.cluster.fixture import Cluster
from tests.plugins.on_cluster import running

SLEEP = "#!/bin/sh\nsleep 600\n"


@pytest.fixture
def backend(cluster: Cluster, tmp_path: Path) -> Iterator[HTCondorBackend]:
    with running(HTCondorBackend, cluster, tmp_path) as backend:
        yield backend


@pytest.fixture
def jobs(backend: HTCondorBackend) -> Iterator[Driver]:
    for workspace in _workspace(backend, "alice"):
        driver = Driver(backend, "alice", workspace, 0.2, 60.0)
        yield driver
        driver.stop_all()


def description(**settings: str) -> str:
    own = {"executable": "/bin/sh", "arguments": "\"-c 'echo out; echo err >&2; pwd'\"", **settings}
    return "".join(f"{key} = {value}\n" for key, value in own.items()) + "queue\n"


def test_a_submit_description(jobs: Driver) -> None:
    job, report = jobs.run(description())
    assert (report.state, report.exit_code, job.warnings) == (JobState.FINISHED, 0, ())
    number = job.native_id.partition(".")[0]
    assert job.stdout_file == f"{jobs.workspace}/job.o{number}"
    assert jobs.output(job).decode() == f"out\n{jobs.workspace}\n"
    assert jobs.read(job.stderr_file) == b"err\n"


def test_the_descriptions_own_files_are_found(jobs: Driver) -> None:
    folder = f"{jobs.workspace}/sub"
    jobs.shell(f"mkdir {folder}")
    script = description(initialdir=folder, output="mine.$(Cluster).$(Process)", error=f"{folder}/mine.err")
    spec = jobs.spec(script, working_directory=None)
    job = jobs.hand_over(spec)
    number = job.native_id.partition(".")[0]
    assert (job.working_directory, job.stderr_file) == (folder, f"{folder}/mine.err")
    assert job.stdout_file == f"{folder}/mine.{number}.0"
    jobs.ended(job)
    assert jobs.output(job).decode() == f"out\n{folder}\n"
    found = jobs.backend.find(spec.uuid, "alice")
    assert found
    assert (found.working_directory, found.stdout_file) == (folder, job.stdout_file)
    jobs.shell("rm -f ~/job.log*")


def test_the_request_wins_over_the_description_and_says_so(jobs: Driver) -> None:
    script = description(initialdir="/tmp", output="mine", request_cpus="3")
    job, report = jobs.run(script, stdout="asked $(Cluster)", resources=Resources(cores=2), environment={"A": "b"})
    assert report.cores == 2
    assert job.stdout_file == f"{jobs.workspace}/asked $(Cluster)"
    assert jobs.output(job).decode() == f"out\n{jobs.workspace}\n"
    told = "\n".join(job.warnings)
    assert all(words in told for words in ("output = mine", "request_cpus = 3", "initialdir = /tmp"))


def test_environment_of_a_description(jobs: Driver) -> None:
    value = 'it\'s "q" $(HOME) $HOME `id` \\'
    job, _ = jobs.run(description(executable="/usr/bin/printenv", arguments="A"), environment={"A": value})
    assert jobs.output(job).decode() == f"{value}\n"


def test_a_setting_that_condor_submit_does_not_know(jobs: Driver) -> None:
    job, _ = jobs.run(description(requets_memory="3"))
    assert any("requets_memory" in words for words in job.warnings)


def test_one_request_is_one_job(jobs: Driver) -> None:
    spec = jobs.spec(description().replace("queue", "queue 3"))
    with pytest.raises(RefusedByScheduler, match="one job"):
        jobs.hand_over(spec)
    assert jobs.backend.find(spec.uuid, "alice") is None


def test_a_held_job_says_why(jobs: Driver) -> None:
    job = jobs.submit(description(should_transfer_files="YES", transfer_input_files="/no/such/file"))
    report = jobs.in_state(job, JobState.HELD)
    assert "/no/such/file" in (report.reason or "")


def test_a_wrong_state_is_a_conflict(jobs: Driver) -> None:
    held, running_ = jobs.submit(SLEEP, hold=True), jobs.submit(SLEEP)
    jobs.in_state(running_, JobState.RUNNING)
    for action, job in (("release", running_), ("suspend", held), ("continue", held), ("hold", running_)):
        with pytest.raises(Conflict):
            jobs.backend.control(action, job.native_id, "alice")
    for action, job in (("hold", held), ("continue", running_)):
        jobs.backend.control(action, job.native_id, "alice")


def test_bob_cannot_touch_it_even_without_us(jobs: Driver) -> None:
    spec = jobs.spec(SLEEP)
    job = jobs.hand_over(spec)
    jobs.in_state(job, JobState.RUNNING)
    transport = jobs.backend.host.transport
    for program in ("condor_rm", "condor_hold", "condor_suspend"):
        assert transport.run(Command((program, job.native_id)), "bob").exit_code != 0
    with pytest.raises(NotFound):
        jobs.backend.control("abort", job.native_id, "bob")
    kept = f"{transport.home('alice')}/.jobgate/{jobs.backend.host.name}/{spec.uuid}"
    for path in (f"{kept}/script", f"{kept}/description", job.stdout_file or ""):
        with pytest.raises(Forbidden):
            transport.open_file(path, "bob", "/")
    assert jobs.shell(f"stat -c %a {kept} {kept}/script").stdout.split() == ["700", "700"]
    assert jobs.report(job).state is JobState.RUNNING  # type: ignore[union-attr]


def test_folders_of_jobs_that_are_gone_are_removed(jobs: Driver) -> None:
    kept = jobs.spec(SLEEP)
    jobs.hand_over(kept)
    gone = "00000000-0000-4000-8000-000000000000"
    host = jobs.backend.host.name
    age = f"cd ~/.jobgate/{host} && mkdir -p {gone} && touch -d '3 days ago' {gone} {kept.uuid} && rm -f .swept"
    assert jobs.shell(age).exit_code == 0
    jobs.submit("#!/bin/sh\n")
    there = f"cd ~/.jobgate/{host} && test -f {kept.uuid}/script && ! test -e {gone}"
    jobs.eventually(lambda: jobs.shell(there).exit_code == 0)
    time.sleep(0.5)
    assert jobs.shell(there).exit_code == 0


def test_a_thousand_jobs_in_one_question(jobs: Driver) -> None:
    """As many as are asked for together rather than by their numbers."""
    held = jobs.submit(SLEEP, hold=True)
    _, ended = jobs.run("#!/bin/sh\nexit 5\n")
    others = [f"{number}.0" for number in range(90_000_000, 90_001_000)]
    answer = jobs.backend.query(dict.fromkeys([held.native_id, ended.native_id, *others], ()), None)
    assert {name: report.state for name, report in answer.items()} == {
        held.native_id: JobState.HELD,
        ended.native_id: JobState.FAILED,
    }


def test_a_submit_that_is_cut_has_no_effect_later(jobs: Driver, cluster_alone: Cluster) -> None:
    """The schedd hangs after it was asked whether it answers: nobody knows, and what was left there is void."""
    spec = jobs.spec("#!/bin/sh\n")
    with cluster_alone.frozen("condor_schedd"):
        jobs.backend._submitted_at = time.monotonic()  # type: ignore[attr-defined]
        with pytest.raises(OutcomeUnknown):
            jobs.backend.submit(spec)
    jobs.run("#!/bin/sh\n")
    assert jobs.backend.find(spec.uuid, "alice") is None


def test_check_finds_nothing_wrong(backend: HTCondorBackend) -> None:
    assert backend.check() == []
    cluster = backend.cluster()
    assert cluster.version.startswith("23.9")
    assert sum(cluster.nodes.values()) == 1
