"""Schedulers that hang, and that are killed and come back, while sixteen clients submit."""

import os
import signal
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cluster.fixture import Cluster
from tests.faults.site import BACKENDS, LONG, jobs_in_all, site
from tests.gateways import until

HUNG_SECONDS = 20 if LONG else 12  # Slurm's commands give up after 10 (MessageTimeout)
GRID_ENGINE = "ge.example.org"
ENDS: dict[str, signal.Signals | list[str]] = {
    "slurmctld": signal.SIGTERM,
    "sge_qmaster": signal.SIGKILL,
    "condor_schedd": ["condor_off", "-fast", "-daemon", "schedd"],
}
STARTS = {
    "slurmctld": "setpriv --reuid slurm --regid slurm --init-groups -- slurmctld",
    "sge_qmaster": "sge_qmaster",
    "condor_schedd": "condor_on -daemon schedd",
}
QUESTIONS = {"slurmctld": ["sinfo"], "sge_qmaster": ["qstat"], "condor_schedd": ["condor_q"]}


def test_hung(request: pytest.FixtureRequest, cluster_alone: Cluster, tmp_path: Path) -> None:
    with site(tmp_path, cluster_alone) as here:
        with here.crowd(here.wishes(list(BACKENDS), jobs_in_all(40))) as crowd:
            crowd.wait_for(0.2)
            with ExitStack() as frozen:
                for name in QUESTIONS:
                    frozen.enter_context(cluster_alone.frozen(name))
                time.sleep(HUNG_SECONDS)
        here.settled()
        here.report(request, "scheduler hung", crowd.jobs)


def test_restarted(request: pytest.FixtureRequest, cluster_alone: Cluster, tmp_path: Path) -> None:
    """Grid Engine's jobs are held meanwhile: a qmaster that was killed (8.1.9) leaves those in `t` for minutes
    that were on their way to a node."""
    count = jobs_in_all(40)
    with site(tmp_path, cluster_alone) as here:
        held = here.wishes([GRID_ENGINE], count, hold=True)
        others = here.wishes([host for host in BACKENDS if host != GRID_ENGINE], count)
        mixed = [wish for some in zip(held, others[::2], others[1::2], strict=True) for wish in some]
        with here.crowd(mixed) as crowd:
            for share in (0.1, 0.3, 0.5, 0.7, 0.9) if LONG else (0.2, 0.6):
                crowd.wait_for(share)
                for name in QUESTIONS:
                    restart(cluster_alone, name)
        here.settled()
        here.report(request, "scheduler restarted", crowd.jobs, held=GRID_ENGINE)


def restart(cluster: Cluster, name: str) -> None:
    """End it, and have it back and answering. sge_qmaster is killed with -9. slurmctld is asked to go: it saves its
    jobs now and then only, so after a kill it may have forgotten what it was told in the last seconds. HTCondor's
    master is told, since after each kill it waits longer before it starts a new one."""
    old = cluster.pids(name)
    end, start = ENDS[name], STARTS[name]
    try:
        if isinstance(end, signal.Signals):
            for pid in old:
                os.kill(pid, end)
        else:
            cluster.enter("root", end)
        until(lambda: not set(old) & set(cluster.pids(name)), f"{name} does not end")
    finally:
        cluster.enter("root", ["sh", "-c", f"{start} </dev/null >/dev/null 2>&1"])
        until(lambda: answers(cluster, name), f"{name} does not start")


def answers(cluster: Cluster, name: str) -> bool:
    try:
        cluster.enter("root", QUESTIONS[name])
    except subprocess.CalledProcessError:
        return False
    return True
