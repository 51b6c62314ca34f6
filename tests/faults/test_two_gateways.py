"""Two gateways on one database: the same key at the same moment, and one that was stopped while it asked a host."""

import fcntl
import os
import signal
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.fixture import Cluster
from tests.faults.crowd import Job
from tests.faults.schedulers import spool_of
from tests.faults.site import BACKENDS, LOCAL, LONG, Site, site
from tests.gateways import Server, until

ROUNDS = 100 if LONG else 15
SLURM = "slurm.example.org"
BUSY = "somebody is writing"


@contextmanager
def second(here: Site, host: str) -> Iterator[Server]:
    """Another gateway on the same database and the same hosts."""
    with Server(here.server.world, here.server.folder, host=host) as server:
        yield server


def lines_of_hosts(here: Site) -> str:
    """The first gateway's own configuration of its hosts, below [hosts.localhost]."""
    return here.server.config.read_text().partition("poll_interval = 0.1\n")[2]


def test_one_key_at_the_same_moment_local(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    send_together(request, None, tmp_path, [LOCAL])


def test_one_key_at_the_same_moment(request: pytest.FixtureRequest, cluster: Cluster, tmp_path: Path) -> None:
    send_together(request, cluster, tmp_path, list(BACKENDS))


def send_together(request: pytest.FixtureRequest, cluster: Cluster | None, tmp_path: Path, hosts: list[str]) -> None:
    """Eight clients send the same request with the same key, four to each gateway."""
    with site(tmp_path, cluster) as here, second(here, lines_of_hosts(here)) as other, ThreadPoolExecutor(8) as pool:
        jobs = []
        for wish in here.wishes(hosts, ROUNDS if hosts == [LOCAL] else max(ROUNDS // 5, 2)):
            together = threading.Barrier(8)

            def send(server: Server, body: Any = wish.body, key: str = wish.name, start: Any = together) -> Any:
                start.wait()
                return server.call("POST", "/api/jobs", json=body, headers={"Idempotency-Key": key})

            answers = list(pool.map(send, [here.server, other] * 4))
            assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201], answers[0].text
            made = next(answer.json() for answer in answers if answer.status_code == 201)
            assert {answer.json()["uuid"] for answer in answers} == {made["uuid"]}
            jobs.append(Job(wish.name, wish.host, made["job_id"].removesuffix(f".{wish.host}"), made["uuid"]))
        here.settled()
        here.report(request, "one key, two gateways", jobs)


def holder(folder: Path, host: str) -> str | None:
    """Who holds the lease; BUSY where the database cannot be written: somebody was stopped in the middle of a
    transaction, or with the turn to write."""
    with (folder / "jobgate.db-turn").open() as turn:
        try:
            fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return BUSY
    try:
        with writing(spool_of(folder)) if host == LOCAL else nullcontext(), writing(folder / "jobgate.db") as database:
            row = database.execute("SELECT holder FROM hosts WHERE name = ?", (host,)).fetchone()
    except sqlite3.OperationalError:
        return BUSY
    return row[0] if row else None


@contextmanager
def writing(file: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(file, timeout=0.2, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection
        connection.execute("ROLLBACK")


def stop_while_it_asks(server: Server, host: str) -> str:
    """SIGSTOP to the whole gateway at a moment when it holds the host's lease; who that was."""
    assert server.process

    def stopped() -> str | None:
        assert server.process
        os.killpg(server.process.pid, signal.SIGSTOP)
        who = holder(server.folder, host)
        if who not in (None, BUSY):
            return who
        os.killpg(server.process.pid, signal.SIGCONT)
        return None

    who: str = until(stopped, "it never holds the lease")
    return who


def test_a_stale_lease_local(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    stand_still(request, None, tmp_path, LOCAL)


@pytest.mark.parametrize("host", list(BACKENDS) if LONG else [SLURM])
def test_a_stale_lease(request: pytest.FixtureRequest, cluster: Cluster, tmp_path: Path, host: str) -> None:
    stand_still(request, cluster, tmp_path, host)


def stand_still(request: pytest.FixtureRequest, cluster: Cluster | None, tmp_path: Path, host: str) -> None:
    """The other takes over what the first had begun to ask, and nothing of it is undone by the first's late answer."""
    with site(tmp_path, cluster) as here:
        hosts = lines_of_hosts(here)
        until(lambda: _polled(here.server, host), f"nobody asks {host}")
        wish = here.wishes([host], 1)[0]
        script = f"{wish.body['script']}while [ ! -e {here.inner}/go ]; do sleep 0.2; done\nexit 3\n"
        first = here.server.submit(script, **{k: v for k, v in wish.body.items() if k != "script"})
        until(lambda: here.server.call("GET", f"/api/jobs/{first['job_id']}").json()["status"] == "RUNNING")
        who = stop_while_it_asks(here.server, host)
        try:
            with second(here, hosts) as other:
                (here.outer / "go").touch()
                until(lambda: holder(here.server.folder, host) not in (who, BUSY), "nobody takes over")
                ended = other.ended(first["job_id"])
                assert (ended["status"], ended["exit_code"]) == ("ERROR", 3)
                assert here.server.process
                os.killpg(here.server.process.pid, signal.SIGCONT)
                until(lambda: here.server.call("GET", "/ready").status_code == 200)
                seen = [here.server.call("GET", f"/api/jobs/{first['job_id']}").json() for _ in range(30)]
                assert {(job["status"], job["state"], job["exit_code"]) for job in seen} == {("ERROR", "failed", 3)}
                events = other.call("GET", f"/api/jobs/{first['job_id']}").json()
                assert events["end_time"] == ended["end_time"]
        finally:
            assert here.server.process
            os.killpg(here.server.process.pid, signal.SIGCONT)
        (here.outer / "go").unlink()
        job = Job(wish.name, host, first["job_id"].removesuffix(f".{host}"), first["uuid"])
        here.report(request, "stale lease", [job])


def _polled(server: Server, host: str) -> bool:
    return bool(server.call("GET", f"/api/hosts/{host}").json()["health"]["last_success"])
