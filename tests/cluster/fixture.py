"""The running cluster for tests.

`cluster` (session) brings it up, building it first where it is missing; all workers of a run share one. A test that
disturbs it for others (stops a daemon, cuts the relay, switches accounting off) takes `cluster_alone` instead, which
waits until no other test uses it. A test that only needs its own connections cut makes a relay of its own with
`cluster.private_relay()`.
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

HERE = Path(__file__).parent
COMMAND = HERE / "cluster"
CANNOT_RUN_HERE = 3
REQUIRED = "JOBGATE_REQUIRE_ALL"


class Relay:
    """A way to the cluster's sshd of a test's own; its port stays the same when it is stopped and started."""

    def __init__(self, init_pid: int, inner_port: int) -> None:
        self.init_pid = init_pid
        self.inner_port = inner_port
        self.port = 0
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        argv = [sys.executable, str(HERE / "relay.py"), str(self.init_pid), f"{self.port}:{self.inner_port}"]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        self.port = int(self.process.stdout.readline())

    def stop(self) -> None:
        """Every connection through it is cut."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def cut(self) -> None:
        """Every connection is cut; new ones are let through."""
        assert self.process
        self.process.send_signal(signal.SIGHUP)

    def freeze(self) -> None:
        """As a network that swallows packets: nothing moves, nothing is refused."""
        assert self.process
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGCONT)


class Cluster:
    """What a test needs to know and do. Paths are those of this machine, `root` is the cluster's own `/`."""

    users = ("alice", "bob", "jobgate")
    operator = "jobgate"
    hostname = "127.0.0.1"

    def __init__(self, facts: dict[str, object]) -> None:
        self.folder = Path(str(facts["folder"]))
        self.root = Path(str(facts["root"]))
        self.keys = Path(str(facts["keys"]))
        self.host_key_alias = str(facts["host_key_alias"])
        self.ssh_config = Path(str(facts["ssh_config"]))
        self.ssh_port = int(str(facts["ssh_port"]))
        self.rest_port = int(str(facts["rest_port"]))
        self.init_pid = int(str(facts["init_pid"]))

    @property
    def known_hosts(self) -> Path:
        return self.keys / "known_hosts"

    @property
    def user_ca_key(self) -> Path:
        return self.keys / "user_ca"

    def identity(self, user: str) -> Path:
        """The plain key that lets its holder in as `user`."""
        return self.keys / user

    def enter(self, user: str, argv: Sequence[str], stdin: str = "", timeout: float = 60) -> str:
        """Run a command inside, past sshd; its standard output. Raises CalledProcessError."""
        command = [str(COMMAND), "enter", "-u", user, *argv]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, argv, done.stdout, done.stderr)
        return done.stdout

    def sshd_log(self) -> str:
        return (self.root / "var/log/sshd.log").read_text(errors="replace")

    def rest_token(self, user: str, lifespan: int = 600) -> str:
        """A token for slurmrestd (headers X-SLURM-USER-NAME and X-SLURM-USER-TOKEN)."""
        answer = self.enter("root", ["scontrol", "token", f"username={user}", f"lifespan={lifespan}"])
        return answer.strip().partition("=")[2]

    def pids(self, name: str) -> list[int]:
        """Ids, on this machine, of the cluster's processes called `name` (slurmctld, slurmdbd, sge_qmaster, ...)."""
        namespace = Path(f"/proc/{self.init_pid}/ns/pid").readlink()
        processes = [path for path in Path("/proc").iterdir() if path.name.isdigit()]
        return [int(path.name) for path in processes if _is(path, name, namespace)]

    @contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """A daemon that is there and does not answer. For tests with `cluster_alone`."""
        pids = self.pids(name)
        assert pids, f"no process {name} in the cluster"
        try:
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    @contextmanager
    def private_relay(self, inner_port: int = 2222) -> Iterator[Relay]:
        relay = Relay(self.init_pid, inner_port)
        relay.start()
        try:
            yield relay
        finally:
            relay.stop()

    def stop_relay(self) -> None:
        """Cut everybody's way in. For tests with `cluster_alone`."""
        _call("relay", "stop")

    def start_relay(self) -> None:
        _call("relay", "start")

    @contextmanager
    def without_slurm_accounting(self) -> Iterator[None]:
        """Slurm as sites without slurmdbd have it. For tests with `cluster_alone`."""
        _call("slurm-accounting", "off")
        try:
            yield
        finally:
            _call("slurm-accounting", "on")


def _is(process: Path, name: str, namespace: Path) -> bool:
    try:
        return (process / "comm").read_text().strip() == name[:15] and (process / "ns/pid").readlink() == namespace
    except OSError:
        return False


def _call(*arguments: str) -> None:
    subprocess.run([str(COMMAND), *arguments], check=True, capture_output=True, timeout=300)


def attach() -> Cluster:
    """The running cluster. Raises CalledProcessError where it does not run."""
    answer = subprocess.run([str(COMMAND), "status", "--json"], check=True, capture_output=True, text=True)
    return Cluster(json.loads(answer.stdout))


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The real cluster, built and started where it is not."""
    up = subprocess.run([str(COMMAND), "up"], capture_output=True, text=True, timeout=1800)
    if up.returncode:
        words = f"no test cluster: {(up.stderr or up.stdout).strip()} (then: make cluster-up)"
        if up.returncode != CANNOT_RUN_HERE or os.environ.get(REQUIRED) == "1":
            pytest.fail(words)
        pytest.skip(words)
    return attach()


@pytest.fixture
def cluster_alone(cluster: Cluster) -> Cluster:
    """The same with no other test on it meanwhile; everything runs again and accounting is on when it starts."""
    return cluster


@pytest.fixture
def others_again(_turn_on_the_cluster: int) -> Callable[[], None]:
    """For a test with `cluster_alone` that is done with disturbing and has long to wait: lets the others back in."""
    return lambda: _lock(_turn_on_the_cluster, exclusive=False)


@pytest.fixture(autouse=True)
def _turn_on_the_cluster(request: pytest.FixtureRequest) -> Iterator[int]:
    """Tests with `cluster` share it, one with `cluster_alone` has it to itself, over all workers of a run."""
    names = request.fixturenames
    if "cluster" not in names:
        yield -1
        return
    cluster = request.getfixturevalue("cluster")
    run = cluster.folder / "run"
    with (run / "tests.lock").open("w") as lock, (run / "tests.door").open("w") as door:
        # Everybody comes in through the door, and who wants to be alone waits in it: nobody overtakes.
        fcntl.flock(door, fcntl.LOCK_EX)
        _lock(lock.fileno(), exclusive="cluster_alone" in names)
        fcntl.flock(door, fcntl.LOCK_UN)
        yield lock.fileno()


def _lock(descriptor: int, *, exclusive: bool) -> None:
    fcntl.flock(descriptor, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)


def wait_for(true: object, seconds: float = 20, every: float = 0.1) -> None:
    """Until the callable answers something true."""
    deadline = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(every)
