"""What the contract does not ask: slots, order, what happens when things are killed, and what a job must not see."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.errors import Forbidden, HostDown, RefusedByScheduler
from gateway.model import JobReport, JobState, Resources, Submitted
from gateway.testing.contract import Driver
from gateway_plugins.local import LocalBackend, file_name
from gateway_plugins.local.scheduler import processes
from tests.plugins.local import hosts
from tests.unix_accounts import two_accounts

SLEEP = "#!/bin/sh\nsleep 600\n"
NOTE = "#!/bin/sh\necho $JOB_ID >> order\n"


def driver(local: LocalBackend, folder: Path) -> Driver:
    return Driver(local, "ann", str(folder / "homes" / "ann"), poll=0.02, patience=30.0)


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Driver]:
    """Four slots."""
    with hosts.running(tmp_path) as local:
        yield driver(local, tmp_path)


@pytest.fixture
def one_slot(tmp_path: Path) -> Iterator[Driver]:
    with hosts.running(tmp_path, slots=1) as local:
        yield driver(local, tmp_path)


def states(jobs: Driver, *submitted: Submitted) -> list[str]:
    reports = jobs.backend.query(dict.fromkeys([job.native_id for job in submitted], ()), jobs.account)
    return [reports[job.native_id].state.value for job in submitted]


def lines(jobs: Driver, name: str) -> list[str]:
    return jobs.read(f"{jobs.workspace}/{name}").decode().split()


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def processes_of(folder: Path, count: int) -> list[int]:
    """The pids of so many jobs. (A job counts as running shortly before it has a process.)"""
    query = "SELECT pid FROM jobs WHERE pid IS NOT NULL"
    wait_for(lambda: len(hosts.rows(folder, query)) == count)
    return [pid for (pid,) in hosts.rows(folder, query)]


def wait_for(look: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# --- slots and order --------------------------------------------------------------------------------------------------


def test_no_more_than_the_slots_at_once(jobs: Driver) -> None:
    counting = "#!/bin/sh\necho + >> log\nsleep 0.2\necho - >> log\n"
    submitted = [jobs.submit(counting) for _ in range(12)]
    for job in submitted:
        jobs.ended(job)
    running = peak = 0
    for line in lines(jobs, "log"):
        running += 1 if line == "+" else -1
        peak = max(peak, running)
    assert peak == 4


def test_in_order_of_submission(one_slot: Driver) -> None:
    submitted = [one_slot.submit(NOTE) for _ in range(20)]
    for job in submitted:
        one_slot.ended(job)
    assert lines(one_slot, "order") == [job.native_id for job in submitted]


def test_higher_priority_is_sooner(one_slot: Driver) -> None:
    blocker = one_slot.submit(SLEEP)
    one_slot.in_state(blocker, JobState.RUNNING)
    low, normal, high = (one_slot.submit(NOTE, priority=priority) for priority in (-1, 0, 5))
    one_slot.backend.control("abort", blocker.native_id, "ann")
    one_slot.ended(low)
    assert lines(one_slot, "order") == [high.native_id, normal.native_id, low.native_id]


def test_cores_take_slots_and_nobody_overtakes(jobs: Driver) -> None:
    three = jobs.submit(SLEEP, resources=Resources(cores=3))
    jobs.in_state(three, JobState.RUNNING)
    two = jobs.submit(SLEEP, resources=Resources(cores=2))
    one = jobs.submit(SLEEP)
    time.sleep(0.3)
    assert states(jobs, three, two, one) == ["running", "queued", "queued"]
    jobs.backend.control("abort", three.native_id, "ann")
    jobs.in_state(two, JobState.RUNNING)
    jobs.in_state(one, JobState.RUNNING)


def test_a_wide_job_that_ends_lets_many_start(jobs: Driver) -> None:
    wide = jobs.submit(SLEEP, resources=Resources(cores=4))
    narrow = [jobs.submit(SLEEP) for _ in range(4)]
    jobs.in_state(wide, JobState.RUNNING)
    jobs.backend.control("abort", wide.native_id, "ann")
    wait_for(lambda: states(jobs, *narrow) == ["running"] * 4)


def test_more_cores_than_slots_is_refused(jobs: Driver) -> None:
    with pytest.raises(RefusedByScheduler) as refused:
        jobs.submit(SLEEP, resources=Resources(cores=5))
    assert "4 slots" in refused.value.message
    assert "cores" in refused.value.errors


def test_fewer_slots_than_a_waiting_job_asks_for(tmp_path: Path) -> None:
    with hosts.running(tmp_path) as local:
        jobs = driver(local, tmp_path)
        wide = jobs.submit(SLEEP, resources=Resources(cores=4), hold=True)
        # `running` aborts what is left, so the configuration changes while the job is held
        with hosts.running(tmp_path, slots=2) as smaller:
            smaller.control("release", wide.native_id, "ann")
            report = driver(smaller, tmp_path).ended(wide)
    assert report.state is JobState.FAILED
    assert "only 2 slots" in (report.reason or "")


def test_a_held_job_lets_others_pass(one_slot: Driver) -> None:
    held = one_slot.submit(NOTE, hold=True)
    later = one_slot.submit(NOTE)
    one_slot.ended(later)
    assert states(one_slot, held) == ["held"]


def test_the_slots_hold_across_processes(tmp_path: Path) -> None:
    with hosts.running(tmp_path, slots=2) as local:
        jobs = driver(local, tmp_path)
        with ThreadPoolExecutor(3) as pool:
            printed = list(pool.map(lambda _: submit_elsewhere(tmp_path, count=4, slots=2), range(3)))
        numbers = [number for ids in printed for number in ids]
        assert len(set(numbers)) == 12
        for _ in range(20):
            reports = local.query(dict.fromkeys(numbers, ()), None)
            assert sum(report.state is JobState.RUNNING for report in reports.values()) <= 2
            time.sleep(0.02)
        for number in numbers:
            jobs.ended(Submitted(number, ""))


def submit_elsewhere(folder: Path, *, count: int, slots: int, die: bool = False) -> list[str]:
    """Submit from another process, which is killed with -9 at once when told to `die`; the ids."""
    program = f"""
import os, signal, uuid
from pathlib import Path
from gateway.model import JobSpec
from tests.plugins.local import hosts
local = hosts.backend(Path({str(folder)!r}), slots={slots})
for _ in range({count}):
    spec = JobSpec(uuid=str(uuid.uuid4()), account="ann", script="#!/bin/sh\\nsleep 0.3\\nexit 9\\n")
    print(local.submit(spec).native_id, flush=True)
if {die}:
    os.killpg(0, signal.SIGKILL)
"""
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert done.returncode == (-signal.SIGKILL if die else 0)
    return done.stdout.split()


# --- killed -----------------------------------------------------------------------------------------------------------


def test_jobs_go_on_when_the_gateway_is_killed(tmp_path: Path) -> None:
    with hosts.running(tmp_path, slots=2) as local:
        numbers = submit_elsewhere(tmp_path, count=6, slots=2, die=True)
        # nobody asks meanwhile
        wait_for(lambda: hosts.rows(tmp_path, "SELECT count(*) FROM jobs WHERE ended_at IS NOT NULL") == [(6,)])
        assert {report.exit_code for report in local.query(dict.fromkeys(numbers, ()), "ann").values()} == {9}


def test_a_killed_supervisor(one_slot: Driver, tmp_path: Path) -> None:
    job = one_slot.submit("#!/bin/sh\nsetsid sleep 600 &\necho $! $$ > pids\nsleep 600\n")
    after = one_slot.submit(NOTE)
    wait_for(lambda: one_slot.exists(f"{one_slot.workspace}/pids") and len(lines(one_slot, "pids")) == 2)
    pids = [int(pid) for pid in lines(one_slot, "pids")]
    (supervisor,) = hosts.supervisors(tmp_path)
    os.kill(supervisor, signal.SIGKILL)
    report = one_slot.ended(job)
    assert report.state is JobState.FAILED
    assert "supervisor was killed" in (report.reason or "")
    assert all(gone(pid) for pid in pids)
    assert one_slot.ended(after).state is JobState.FINISHED


def test_supervisors_clear_up_after_each_other(tmp_path: Path) -> None:
    with hosts.running(tmp_path, slots=2) as local:
        jobs = driver(local, tmp_path)
        first, _ = (jobs.submit(script) for script in (SLEEP, "#!/bin/sh\nsleep 1\n"))
        processes_of(tmp_path, 2)
        third = jobs.submit("#!/bin/sh\n")
        ((pid,),) = hosts.rows(
            tmp_path,
            f"SELECT supervisors.pid FROM jobs JOIN supervisors ON supervisors.id = supervisor "
            f"WHERE jobs.id = {int(first.native_id)}",
        )
        os.kill(pid, signal.SIGKILL)
        states_wanted = [("failed",), ("finished",), ("finished",)]
        wait_for(lambda: hosts.rows(tmp_path, "SELECT state FROM jobs ORDER BY id") == states_wanted)
        assert third.native_id == "3"


def test_after_a_restart_of_the_machine(one_slot: Driver, tmp_path: Path) -> None:
    job = one_slot.submit(SLEEP)
    (pid,) = processes_of(tmp_path, 1)
    (supervisor,) = hosts.supervisors(tmp_path)
    os.kill(supervisor, signal.SIGKILL)
    os.killpg(pid, signal.SIGKILL)
    hosts.change(tmp_path, "UPDATE supervisors SET boot = 'before'")
    report = one_slot.ended(job)
    assert report.state is JobState.NODE_FAILED
    assert "restarted" in (report.reason or "")


def test_a_supervisor_killed_before_the_script_started(one_slot: Driver, tmp_path: Path) -> None:
    """It never ran, so it is queued again, and runs once."""
    job = one_slot.submit(NOTE, hold=True)
    dead = subprocess.Popen(["true"])
    dead.wait()
    hosts.change(tmp_path, f"INSERT INTO supervisors VALUES (77, {dead.pid}, 1, 'x')")
    hosts.change(tmp_path, "UPDATE jobs SET state = 'running', supervisor = 77, started_at = 1")
    assert one_slot.ended(job).state is JobState.FINISHED
    assert lines(one_slot, "order") == [job.native_id]


def test_a_pid_that_is_somebody_elses_by_now(one_slot: Driver, tmp_path: Path) -> None:
    job = one_slot.submit(NOTE, hold=True)
    stranger = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        values = f"(77, {stranger.pid}, 1, '{processes.boot_id()}')"
        hosts.change(tmp_path, f"INSERT INTO supervisors VALUES {values}")
        active = "state = 'running', supervisor = 77, started_at = 1"
        hosts.change(tmp_path, f"UPDATE jobs SET {active}, pid = {stranger.pid}, pid_started = 1")
        assert one_slot.ended(job).state is JobState.FAILED
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


# --- the whole tree ---------------------------------------------------------------------------------------------------

TREE = """#!/bin/bash
trap '' TERM
setsid bash -c 'trap "" TERM; echo $$ >> pids; sleep 600' &
(setsid bash -c 'echo $$ >> pids; exec sleep 600' &)
nohup bash -c 'echo $$ >> pids; exec sleep 600' &
echo $$ >> pids
while :; do sleep 0.2; done
"""


def test_abort_ends_the_whole_tree(jobs: Driver) -> None:
    job = jobs.submit(TREE)
    wait_for(lambda: jobs.exists(f"{jobs.workspace}/pids") and len(lines(jobs, "pids")) == 4)
    pids = [int(pid) for pid in lines(jobs, "pids")]
    began = time.monotonic()
    jobs.backend.control("abort", job.native_id, "ann")
    assert time.monotonic() - began < 1
    jobs.in_state(job, JobState.COMPLETING)
    report = jobs.ended(job)
    assert 9 < time.monotonic() - began < 20
    assert (report.state, report.signal) == (JobState.CANCELLED, signal.SIGKILL)
    assert all(gone(pid) for pid in pids)


def test_what_a_script_leaves_behind_is_ended(jobs: Driver) -> None:
    _, report = jobs.run("#!/bin/sh\nsetsid sleep 600 &\necho $! > pid\nexit 5\n")
    assert report.exit_code == 5
    assert gone(int(lines(jobs, "pid")[0]))


def test_abort_while_suspended(jobs: Driver) -> None:
    job = jobs.submit(SLEEP)
    jobs.in_state(job, JobState.RUNNING)
    jobs.backend.control("suspend", job.native_id, "ann")
    jobs.in_state(job, JobState.SUSPENDED)
    jobs.backend.control("abort", job.native_id, "ann")
    report = jobs.ended(job)
    assert (report.state, report.signal) == (JobState.CANCELLED, signal.SIGTERM)


def test_wall_time(jobs: Driver) -> None:
    _, report = jobs.run(SLEEP, resources=Resources(wall_time=1))
    assert report.state is JobState.TIMED_OUT
    assert (report.exit_code, report.signal) == (128 + signal.SIGTERM, signal.SIGTERM)
    assert "1 seconds" in (report.reason or "")


# --- scripts and files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", ["#!/bin/sh\r\necho\r\n", "echo 1\r\n"])
def test_crlf_is_refused_with_a_hint(jobs: Driver, script: str) -> None:
    with pytest.raises(RefusedByScheduler, match=r"sed -i 's/\\r\$//'"):
        jobs.submit(script)


def test_no_shebang_is_the_shell(jobs: Driver) -> None:
    job, report = jobs.run("echo hello")
    assert report.exit_code == 0
    assert jobs.output(job) == b"hello\n"


def test_missing_interpreter(jobs: Driver) -> None:
    job, report = jobs.run("#!/no/such/interpreter\n")
    assert (report.state, report.exit_code) == (JobState.FAILED, 127)
    assert "interpreter" in (report.reason or "")
    assert b"interpreter" in jobs.read(job.stderr_file)


def test_default_output_names(jobs: Driver) -> None:
    job, _ = jobs.run("#!/bin/sh\n", name="../my job/1")
    assert job.stdout_file == f"{jobs.workspace}/_my_job_1.o{job.native_id}"
    assert job.stderr_file == f"{jobs.workspace}/_my_job_1.e{job.native_id}"


@pytest.mark.parametrize(
    ("name", "safe"),
    [("", "job"), ("...", "job"), ("-rf", "rf"), ("żółć", "żółć"), ("a\nb", "a_b"), ("\ud800", "_")],
)
def test_file_name(name: str, safe: str) -> None:
    assert file_name(name) == safe


def test_file_name_is_cut_between_letters() -> None:
    assert file_name("ż" * 300) == "ż" * 75


def test_default_output_replaces_an_old_file(jobs: Driver) -> None:
    Path(jobs.workspace).mkdir(parents=True)
    Path(jobs.workspace, "job.o1").write_text("from a spool that was removed\n")
    job, _ = jobs.run("#!/bin/sh\necho new\n")
    assert jobs.output(job) == b"new\n"


def test_named_output_of_two_jobs(jobs: Driver) -> None:
    first = jobs.submit("#!/bin/sh\necho one\nsleep 0.3\necho one\n", stdout="log")
    second = jobs.submit("#!/bin/sh\nsleep 0.1\necho two\n", stdout="log")
    jobs.ended(first)
    jobs.ended(second)
    assert sorted(lines(jobs, "log")) == ["one", "one", "two"]


@pytest.mark.parametrize("kind", ["fifo", "folder", "no-folder", "terminal"])
def test_output_that_is_no_file(jobs: Driver, kind: str) -> None:
    Path(jobs.workspace).mkdir(parents=True)
    path = Path(jobs.workspace, "x")
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path = Path("/dev/zero") if kind == "terminal" else path / "y"
    _, report = jobs.run("#!/bin/sh\n", stdout=str(path))
    assert report.state is JobState.FAILED
    assert str(path) in (report.reason or "")


def test_output_to_nowhere(jobs: Driver) -> None:
    _, report = jobs.run("#!/bin/sh\necho out\n", stdout="/dev/null", stderr="/dev/null")
    assert report.state is JobState.FINISHED


@pytest.mark.parametrize(
    ("directory", "words"),
    [("/proc/x/y", "No such file"), ("/etc/passwd/x", "Not a directory"), ("relative", "absolute"), ("/\0", "NUL")],
)
def test_working_directory_is_refused(jobs: Driver, directory: str, words: str) -> None:
    with pytest.raises(RefusedByScheduler) as refused:
        jobs.submit(SLEEP, working_directory=directory)
    assert words in refused.value.error_output
    assert refused.value.exit_code == 1
    assert "working_directory" in refused.value.errors


@pytest.mark.parametrize("environment", [{"": "x"}, {"A=B": "x"}, {"A": "\0"}, {"A": "\ud800"}])
def test_impossible_environment_is_refused(jobs: Driver, environment: dict[str, str]) -> None:
    with pytest.raises(RefusedByScheduler):
        jobs.submit(SLEEP, environment=environment)


# --- what a job sees --------------------------------------------------------------------------------------------------

LOOK = """#!/bin/sh
echo "ENV"; env -0 | tr '\\0' '\\n' | cut -d= -f1 | sort
echo "FDS"; ls /proc/$$/fd
echo "MASK"; umask
exec grep -E 'Sig(Blk|Ign)' /proc/self/status
"""


def test_a_job_sees_nothing_of_the_gateway(jobs: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBGATE_SECRET", "s3cret")
    read, write = os.pipe()
    os.set_inheritable(read, True)
    before = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        job, _ = jobs.run(LOOK, environment={"ASKED": "1"})
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        signal.signal(signal.SIGUSR2, before)
        os.close(read)
        os.close(write)
    names, _, rest = jobs.output(job).decode().removeprefix("ENV\n").partition("FDS\n")
    own = {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "JOB_ID", "JOBGATE_JOB_UUID"}
    assert set(names.split()) == own | {"ASKED", "PWD"}
    descriptors, _, masks = rest.partition("MASK\n")
    assert {*descriptors.split()} == {"0", "1", "2", "10"}  # dash reads its script by 10
    umask, blocked, ignored = (line.split()[-1] for line in masks.splitlines())
    assert int(blocked, 16) == 0
    # posix_spawn of glibc 2.36 leaves its own two (32 and 33) ignored in whatever it starts
    assert int(ignored, 16) & ~(3 << 31) == 0
    assert umask == "0022"


def test_a_job_leads_a_session_of_its_own(jobs: Driver) -> None:
    job, _ = jobs.run("#!/bin/bash\ncut -d' ' -f5,6 /proc/$$/stat\necho $$\n")
    group, session, pid = jobs.output(job).split()
    assert group == session == pid


# --- mapped accounts --------------------------------------------------------------------------------------------------


@pytest.fixture
def mapped(tmp_path: Path) -> Iterator[Driver]:
    account, _ = two_accounts()
    tmp_path.chmod(0o700)
    with hosts.running(tmp_path, shared=False) as local:
        home = local.host.transport.home(account)
        yield Driver(local, account, f"{home}/test-{uuid.uuid4().hex}", poll=0.02, patience=30.0)


@pytest.mark.parametrize(
    ("shebang", "line"),
    [
        ("#!/bin/bash", "id -un"),
        ("#!/bin/sh", "id -un"),
        ("", "id -un"),
        ("#!/usr/bin/env python3", "import os, pwd; print(pwd.getpwuid(os.getuid()).pw_name)"),
    ],
)
def test_mapped_account_that_cannot_reach_the_spool(mapped: Driver, shebang: str, line: str) -> None:
    job, report = mapped.run(f"{shebang}\n{line}\n")
    assert report.state is JobState.FINISHED, mapped.read(job.stderr_file)
    assert mapped.output(job).decode().strip() == mapped.account
    mapped.shell(f"rm -r {mapped.workspace}")


def test_mapped_account_is_whole(mapped: Driver) -> None:
    job, report = mapped.run("#!/bin/sh\nid -u; id -ru; id -G; echo $HOME $USER\ntouch /root/x\n")
    uid, real, groups, who = mapped.output(job).decode().splitlines()
    assert uid == real != "0"
    assert "0" not in groups.split()
    assert who == f"{mapped.backend.host.transport.home(mapped.account)} {mapped.account}"
    assert report.state is JobState.FAILED
    mapped.shell(f"rm -r {mapped.workspace}")


def test_mapped_account_may_not_make_the_folder(mapped: Driver) -> None:
    with pytest.raises(RefusedByScheduler) as refused:
        mapped.submit(SLEEP, working_directory="/root/x")
    assert "Permission denied" in refused.value.error_output


def test_root_is_refused(mapped: Driver) -> None:
    with pytest.raises(Forbidden):
        mapped.submit(SLEEP, account="root")
    with pytest.raises(Forbidden):
        mapped.submit(SLEEP, account="nosuchaccount")


# --- a spool that cannot be used --------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", ["garbage", "newer", "no-folder"])
def test_a_spool_that_cannot_be_used(tmp_path: Path, trouble: str) -> None:
    local = hosts.backend(tmp_path)
    spool = tmp_path / "spool"
    if trouble == "no-folder":
        spool.write_text("")
    elif trouble == "garbage":
        spool.mkdir()
        (spool / "spool.sqlite").write_bytes(b"\x07garbage" * 1000)
    else:
        local.cluster()
        hosts.change(tmp_path, "PRAGMA user_version = 99")
        local = hosts.backend(tmp_path)
    for ask in (
        local.cluster,
        lambda: local.query(dict.fromkeys(["1"], ()), None),
        lambda: driver(local, tmp_path).submit(SLEEP),
    ):
        with pytest.raises(HostDown, match="spool cannot be used") as down:
            ask()
        assert str(tmp_path) not in down.value.message
    with pytest.raises(HostDown, match=str(spool)):  # the administrator is told where
        local.check()
    local.close()


def test_a_spool_that_was_removed_is_made_anew(jobs: Driver, tmp_path: Path) -> None:
    jobs.run("#!/bin/sh\n")
    (tmp_path / "spool").rename(tmp_path / "away")
    assert jobs.run("#!/bin/sh\n")[1].state is JobState.FINISHED


def test_check_says_what_shared_accounts_mean(jobs: Driver) -> None:
    (problem,) = jobs.backend.check()
    assert 'accounts = "gateway"' in problem


# --- many -------------------------------------------------------------------------------------------------------------


def test_a_thousand_quick_jobs(jobs: Driver, tmp_path: Path) -> None:
    began = time.monotonic()
    submitted = [jobs.submit("#!/bin/sh\ntrue\n", stdout="/dev/null", stderr="/dev/null") for _ in range(1000)]
    numbers = [job.native_id for job in submitted]
    reports: dict[str, JobReport] = {}
    while not (len(reports) == 1000 and all(report.state.final for report in reports.values())):
        assert time.monotonic() - began < 60
        time.sleep(0.2)
        reports = dict(jobs.backend.query(dict.fromkeys(numbers, ()), "ann"))
    print(f"1000 jobs of `true` on 4 slots: {time.monotonic() - began:.1f} s")
    assert {report.exit_code for report in reports.values()} == {0}
    assert hosts.rows(tmp_path, "PRAGMA integrity_check") == [("ok",)]
    assert numbers == [str(number) for number in range(1, 1001)]
    assert not any((tmp_path / "spool" / "scripts").iterdir())
