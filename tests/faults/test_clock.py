"""The machine's clock an hour back and an hour on, amid the submits and the polls of a gateway."""

import os
import shutil
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.sync import LEASE_SECONDS
from tests.cluster.fixture import Cluster
from tests.databases import REQUIRED
from tests.faults.crowd import Job, wishes
from tests.faults.figures import Figures, record
from tests.faults.schedulers import in_spool, runs_in
from tests.faults.site import BACKENDS, LOCAL, LONG, jobs_in_all, site
from tests.gateways import InProcess, World, until

HOUR = 3600
STEPS = (-HOUR, HOUR, HOUR, -2 * HOUR) * (10 if LONG else 1)
JOBS_BETWEEN = 5
WRONG_SECONDS = 10 if LONG else 4


class Clock:
    """The real time, with what somebody has made of it."""

    def __init__(self) -> None:
        self.step = 0.0

    def __call__(self) -> float:
        return time.time() + self.step


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gateway(world: World, tmp_path: Path, clock: Clock) -> Iterator[InProcess]:
    with InProcess(world, tmp_path, host="slots = 4") as gateway:
        gateway.services.ticker.sync.clock = clock
        yield gateway


def test_local(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    step_amid_submits(request, None, tmp_path, [LOCAL])


def test_cluster(request: pytest.FixtureRequest, cluster: Cluster, tmp_path: Path) -> None:
    step_amid_submits(request, cluster, tmp_path, list(BACKENDS))


def step_amid_submits(
    request: pytest.FixtureRequest, cluster: Cluster | None, tmp_path: Path, hosts: list[str]
) -> None:
    """All processes of a gateway under another clock, while sixteen clients submit. Nobody lets the gateway in whose
    clock is wrong by an hour (the certificates that it makes for ssh are valid for minutes), so it is put right."""
    with false_clock(tmp_path) as (step, environment), site(tmp_path, cluster, environment=environment) as here:
        with here.crowd(here.wishes(hosts, jobs_in_all(120 // len(hosts))), {"account_refused"}) as crowd:
            for share in (0.1, 0.3, 0.5, 0.7, 0.9) if LONG else (0.2, 0.6):
                crowd.wait_for(share)
                step(-HOUR)
                time.sleep(WRONG_SECONDS)
                step(0)
        here.settled()
        here.report(request, "clock an hour back", crowd.jobs)


@contextmanager
def false_clock(folder: Path) -> Iterator[tuple[Callable[[int], None], dict[str, str]]]:
    """What steps the clock by so many seconds from the right time, and the environment of the processes that see it."""
    compiler = shutil.which("cc")
    if compiler is None:
        words = "no C compiler is installed (Debian: apt-get install gcc libc6-dev)"
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(words)
        pytest.skip(words)
    library, file = folder / "clock.so", folder / "clock"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, Path(__file__).with_name("clock.c")], check=True)
    file.write_bytes(bytes(8))

    def step(seconds: int) -> None:
        with file.open("r+b") as opened:
            opened.write(struct.pack("=q", seconds))

    yield step, {"LD_PRELOAD": str(library), "FALSE_CLOCK": str(file)}


def test_steps(request: pytest.FixtureRequest, gateway: InProcess, clock: Clock) -> None:
    """No step keeps a host from being asked, and no job becomes anything but what it is."""
    runs = gateway.folder / "runs"
    runs.mkdir()
    jobs = []
    for number, step in enumerate(STEPS):
        for wish in wishes(f"clock{number}", LOCAL, JOBS_BETWEEN, str(runs)):
            fields = {name: value for name, value in wish.body.items() if name not in ("script", "host")}
            jobs.append(gateway.submit(wish.body["script"], **fields))
        gateway.tick()
        clock.step += step
        until(lambda: gateway.tick().get(LOCAL) == "ok", "the host is left alone")
        for job in jobs:
            ended = gateway.ended(job["job_id"])
            assert (ended["state"], ended["exit_code"], ended["stale"]) == ("finished", 0, False)
    known = [Job(job["name"], LOCAL, job["job_id"].removesuffix(f".{LOCAL}"), job["uuid"]) for job in jobs]
    figures = Figures.of("clock steps of an hour", LOCAL, known, list(in_spool(gateway.folder)), runs_in(runs))
    record(request, figures)
    assert (figures.lost, figures.doubled, figures.present) == (0, 0, len(jobs))


def test_the_lease_of_a_dead_gateway_from_the_future(gateway: InProcess, clock: Clock) -> None:
    """It died with a lease, then the clock was put back: nobody waits for the clock to come round again."""
    store = gateway.services.host_store
    assert store.take_lease(LOCAL, "dead", clock(), LEASE_SECONDS)
    assert gateway.tick() == {}
    clock.step -= HOUR
    assert gateway.tick() == {LOCAL: "ok"}


def test_a_long_wait_from_the_future(gateway: InProcess, clock: Clock) -> None:
    store = gateway.services.host_store
    assert store.take_lease(LOCAL, "other", clock(), LEASE_SECONDS)
    store.end_lease(LOCAL, "other", next_poll=clock() + 300, failures=20)
    assert gateway.tick() == {}  # a host that fails is left alone for so long
    clock.step -= HOUR
    assert gateway.tick() == {LOCAL: "ok"}


def test_a_submission_from_the_future(gateway: InProcess, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut off, then the clock is put back: it is settled as soon as if nothing had happened to the clock."""

    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as dying:
        dying.setattr(gateway.services.hosts.by_name[LOCAL].backend, "submit", killed)
        with pytest.raises(Killed):
            gateway.submit()
    clock.step -= HOUR
    for seconds in (1, 45, 20):
        clock.step += seconds
        gateway.tick()
    assert [job["status"] for job in gateway.call("GET", "/api/jobs").get_json()] != []
    assert len(list(in_spool(gateway.folder))) == 1


def test_a_token_outlives_a_step(gateway: InProcess, clock: Clock) -> None:
    token = gateway.call("POST", "/api/tokens").get_json()["token"]
    for step in (-HOUR, HOUR):
        clock.step += step
        gateway.tick()
        answer = gateway.call("GET", "/api/jobs", user=None, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200
