"""Schedulers that hang, and that are killed and come back, while sixteen clients submit."""

import os
import random
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest

from tests.cluster.fixture import Cluster
from tests.faults.crowd import Crowd
from tests.faults.schedulers import spool_of
from tests.faults.site import BACKENDS, LOCAL, LONG, Site, chance, jobs_in_all, site
from tests.gateways import until

HUNG_SECONDS = 20 if LONG else 12  # Slurm's commands give up after 10 (MessageTimeout)
SAVED_SECONDS = 8  # slurmctld writes down what changed after at most 5 (24.11), so before that -9 makes it forget
SHARES = (0.1, 0.3, 0.5, 0.7, 0.9) if LONG else (0.2, 0.6)
KILLS = 60 if LONG else 8
GRID_ENGINE = "ge.example.org"
STARTS = {
    "slurmctld": "setpriv --reuid slurm --regid slurm --init-groups -- slurmctld",
    "sge_qmaster": "sge_qmaster",
    "condor_schedd": "condor_on -daemon schedd",
}
QUESTIONS = {"slurmctld": ["sinfo"], "sge_qmaster": ["qstat"], "condor_schedd": ["condor_q"]}


def test_hung(
    request: pytest.FixtureRequest, cluster_alone: Cluster, others_again: Callable[[], None], tmp_path: Path
) -> None:
    with site(tmp_path, cluster_alone) as here:
        with here.crowd(here.wishes(list(BACKENDS), jobs_in_all(40))) as crowd:
            crowd.wait_for(0.2)
            with ExitStack() as frozen:
                for name in QUESTIONS:
                    frozen.enter_context(cluster_alone.frozen(name))
                time.sleep(HUNG_SECONDS)
            others_again()
        here.settled()
        here.report(request, "scheduler hung", crowd.jobs)


def test_restarted(
    request: pytest.FixtureRequest, cluster_alone: Cluster, others_again: Callable[[], None], tmp_path: Path
) -> None:
    """Grid Engine's jobs are held meanwhile: a qmaster that was killed (8.1.9) leaves those in `t` for minutes
    that were on their way to a node."""
    count = jobs_in_all(40)
    with site(tmp_path, cluster_alone) as here:
        held = here.wishes([GRID_ENGINE], count, hold=True)
        others = here.wishes([host for host in BACKENDS if host != GRID_ENGINE], count)
        mixed = [wish for some in zip(held, others[::2], others[1::2], strict=True) for wish in some]
        with here.crowd(mixed) as crowd:
            for share in SHARES:
                crowd.wait_for(share)
                for name in QUESTIONS:
                    restart(cluster_alone, name, crowd)
            others_again()
        here.settled()
        here.report(request, "scheduler killed", crowd.jobs, held=GRID_ENGINE)


def restart(cluster: Cluster, name: str, crowd: Crowd) -> None:
    """Kill it with -9, and have it back and answering. HTCondor's master is told, since after each kill it waits longer
    before it starts a new one."""
    old = cluster.pids(name)
    try:
        if name == "slurmctld":
            with crowd.quiet():
                time.sleep(SAVED_SECONDS)
        if name == "condor_schedd":
            cluster.enter("root", ["condor_off", "-fast", "-daemon", "schedd"])
        else:
            for pid in old:
                os.kill(pid, signal.SIGKILL)
        until(lambda: not set(old) & set(cluster.pids(name)), f"{name} does not end")
    finally:
        cluster.enter("root", ["sh", "-c", f"{STARTS[name]} </dev/null >/dev/null 2>&1"])
        until(lambda: answers(cluster, name), f"{name} does not start")


def answers(cluster: Cluster, name: str) -> bool:
    try:
        cluster.enter("root", QUESTIONS[name])
    except subprocess.CalledProcessError:
        return False
    return True


# --- the local scheduler has no daemon, only a supervisor for each job ------------------------------------------------


def rows(here: Site, query: str) -> Sequence[tuple[int | str, ...]]:
    with closing(sqlite3.connect(f"file:{spool_of(here.server.folder)}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


def supervisors(here: Site) -> list[int]:
    return [int(row[0]) for row in rows(here, "SELECT pid FROM supervisors")]


def send(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


@contextmanager
def stopped(pids: Sequence[int]) -> Iterator[None]:
    send(pids, signal.SIGSTOP)
    try:
        yield
    finally:
        send(pids, signal.SIGCONT)


def test_hung_local(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    with site(tmp_path) as here:
        with here.crowd(here.wishes([LOCAL], jobs_in_all(80), seconds=0.2)) as crowd:
            crowd.wait_for(0.2)
            with stopped(until(lambda: supervisors(here))):
                time.sleep(HUNG_SECONDS)
        here.settled()
        here.report(request, "scheduler hung", crowd.jobs)


def test_killed_local(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """The job of a supervisor that is killed is killed with it, and told to be: never run again, never forgotten."""
    moments = chance()
    with site(tmp_path) as here:
        with here.crowd(here.wishes([LOCAL], jobs_in_all(80), seconds=0.2)) as crowd:
            kill_some(here, crowd, moments)
        here.settled()
        failed = rows(here, "SELECT name, uuid FROM jobs WHERE reason LIKE '%supervisor was killed%'")
        for _, uuid in failed:
            assert here.server.call("GET", f"/api/jobs/{uuid}").json()["state"] == "failed"
        assert failed
        here.report(request, "scheduler killed", crowd.jobs, killed={str(name) for name, _ in failed})


def kill_some(here: Site, crowd: Crowd, moments: random.Random) -> None:
    for share in sorted(moments.uniform(0.02, 0.95) for _ in range(KILLS)):
        if not crowd.wait_for(share):
            return
        send([moments.choice(until(lambda: supervisors(here)))], signal.SIGKILL)
