"""Two gateways on one database: the same jobs behind both, one may be lost, and a cluster is asked once."""

import re
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from gateway.sync import GRACE_SECONDS, LEASE_SECONDS
from tests.cluster.fixture import Cluster, _turn_on_the_cluster, cluster, cluster_alone
from tests.gateways import Server, World, until
from tests.test_clusters import host_section

__all__ = ["_turn_on_the_cluster", "cluster", "cluster_alone"]

Pair = tuple[Server, Server]


@pytest.fixture
def pair(world: World, tmp_path: Path) -> Iterator[Pair]:
    """Two gateways with one database and, since both have the backend `local`, one `state_dir`."""
    with _pair(world, tmp_path, "slots = 4\nsubmit_timeout = 1") as both:
        yield both


class _pair:
    def __init__(self, world: World, folder: Path, host: str) -> None:
        self.databases = world.databases
        self.folder = folder
        database = world.databases.url(folder)
        for name in ("one", "two", "state"):
            (folder / name).mkdir()
        for name in ("one", "two"):
            (folder / name / "state").symlink_to(folder / "state")
        self.gateways = [Server(world, folder / name, host=host, database=database) for name in ("one", "two")]

    def __enter__(self) -> Pair:
        for gateway in self.gateways:
            gateway.start()
        return self.gateways[0], self.gateways[1]

    def __exit__(self, *_: object) -> None:
        for gateway in self.gateways:
            gateway.__exit__()
        self.databases.drop(self.folder)


def test_a_job_of_one_is_a_job_of_the_other(pair: Pair) -> None:
    one, two = pair
    job = one.submit("#!/bin/sh\nsleep 600\n", tag="mine")
    path = f"/api/jobs/{job['job_id']}"
    assert [seen["uuid"] for seen in two.call("GET", "/api/jobs?tag=mine").json()] == [job["uuid"]]
    assert two.call("PUT", path, json={"action": "abort"}).status_code == 204
    assert until(lambda: one.call("GET", path).json()["status"] == "ABORTED")
    assert two.call("DELETE", path).status_code == 204
    assert one.call("GET", path).status_code == 404


def test_the_same_key_at_both_is_one_job(pair: Pair) -> None:
    def submit(n: int) -> str:
        body = {"host": "localhost", "script": "#!/bin/sh\n"}
        answer = pair[n % 2].call("POST", "/api/jobs", json=body, headers={"Idempotency-Key": f"key {n // 2}"})
        assert answer.status_code in (200, 201), answer.text
        return answer.json()["uuid"]

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(submit, range(40)))) == 20


def test_the_loss_of_one_costs_nothing(pair: Pair, tmp_path: Path) -> None:
    """kill -9 in the middle of submits. Who was cut off asks the other gateway, with the same key."""
    one, two = pair
    ran = tmp_path / "ran"
    ran.mkdir()
    acknowledged: list[str] = []

    def submit(n: int) -> None:
        script = f"#!/bin/sh\necho x >> {ran}/{n}\n"
        gateway = one
        while True:
            try:
                answer = gateway.call(
                    "POST",
                    "/api/jobs",
                    json={"host": "localhost", "script": script},
                    headers={"Idempotency-Key": f"key {n}"},
                )
            except httpx.TransportError:
                gateway = two
                continue
            assert answer.status_code in (200, 201), answer.text
            acknowledged.append(answer.json()["uuid"])
            return

    with ThreadPoolExecutor(8) as pool:
        submits = pool.map(submit, range(80))
        until(lambda: len(acknowledged) >= 20)
        one.stop(signal.SIGKILL)
        killed = time.monotonic()
        list(submits)
    submitted = time.monotonic()
    assert len(set(acknowledged)) == 80
    wanted = [{"status": "FINISHED"}] * 80
    until(lambda: [{"status": job["status"]} for job in two.call("GET", "/api/jobs?limit=200").json()] == wanted)
    now = time.monotonic()
    print(f"submits went on for {submitted - killed:.1f} s, the last job ended {now - submitted:.1f} s later")
    # the lease of a gateway that is no more, and meanwhile the grace period of a submission that nobody ended
    assert now - submitted < LEASE_SECONDS + 1 + GRACE_SECONDS + 15
    assert {file.name: file.read_text() for file in ran.iterdir()} == {str(n): "x\n" for n in range(80)}


def test_a_hundred_clients_and_two_gateways_are_one_query_per_interval(
    world: World, cluster_alone: Cluster, tmp_path: Path
) -> None:
    """Counted by slurmctld itself."""
    seconds = 20
    cluster_alone.enter("root", ["sdiag", "--reset"])
    time.sleep(3)
    assert _queries(cluster_alone) == 0, "somebody else asks this cluster too: the count would not be ours"
    people = World(tmp_path, {"ann": "alice", "bob": "bob", "carol": "carol"}, world.databases)
    (tmp_path / "site").mkdir()
    with _pair(people, tmp_path / "site", host_section("slurm", "slurm.example.org", cluster_alone)) as both:
        jobs = [
            both[n % 2].submit("#!/bin/sh\n", host="slurm.example.org", hold=True, user=("ann", "bob")[n % 2])
            for n in range(6)
        ]
        done = threading.Event()
        polls = 0

        def poll(n: int) -> None:
            nonlocal polls
            user = ("ann", "bob")[n % 2]
            while not done.wait(0.5):
                answer = both[n // 2 % 2].call("GET", "/api/jobs", user=user)
                assert answer.status_code == 200
                assert len(answer.json()) == 3
                polls += 1

        try:
            with ThreadPoolExecutor(100) as pool:
                clients = [pool.submit(poll, n) for n in range(100)]
                until(lambda: polls > 200)
                cluster_alone.enter("root", ["sdiag", "--reset"])
                begin, before = time.monotonic(), polls
                until(lambda: polls - before > 500 and time.monotonic() - begin > seconds)
                queries, asked = _queries(cluster_alone), polls - before
                took = time.monotonic() - begin
                done.set()
                for client in clients:
                    client.result()
        finally:
            done.set()
            for n, job in enumerate(jobs):
                both[0].call("DELETE", f"/api/jobs/{job['job_id']}", user=("ann", "bob")[n % 2])
    print(
        f"{asked} polls of 100 clients at two gateways, {queries} queue queries in {took:.1f} s at an interval of 1 s"
    )
    assert 5 <= queries <= took + 1  # at least: slurmctld does count them


def _queries(cluster: Cluster) -> int:
    """How often slurmctld was asked about jobs since its counters were reset."""
    counts = re.findall(r"REQUEST_JOB_(?:USER_)?INFO(?:_SINGLE)? .*count:(\d+)", cluster.enter("root", ["sdiag"]))
    return sum(map(int, counts))
