"""Schedulers that hang, and that are killed and come back, while sixteen clients submit."""

import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cluster.fixture import Cluster
from tests.faults.site import BACKENDS, LONG, jobs_in_all, site
from tests.gateways import until

HUNG_SECONDS = 20 if LONG else 12  # Slurm's commands give up after 10 (MessageTimeout)
# What ends it, and who starts it again (None: its master does). slurmctld saves its jobs every few seconds only, so
# after a kill -9 it has forgotten what it acknowledged (24.11); sge_qmaster may hang when it is asked to go (8.1.9).
DAEMONS = {
    "slurmctld": (signal.SIGTERM, "slurm"),
    "sge_qmaster": (signal.SIGKILL, "root"),
    "condor_schedd": (signal.SIGKILL, None),
}


def test_hung(request: pytest.FixtureRequest, cluster_alone: Cluster, tmp_path: Path) -> None:
    with site(tmp_path, cluster_alone) as here:
        with here.crowd(here.wishes(list(BACKENDS), jobs_in_all(40))) as crowd:
            crowd.wait_for(0.2)
            with ExitStack() as frozen:
                for name in DAEMONS:
                    frozen.enter_context(cluster_alone.frozen(name))
                time.sleep(HUNG_SECONDS)
        here.settled()
        here.report(request, "scheduler hung", crowd.jobs)


def test_restarted(request: pytest.FixtureRequest, cluster_alone: Cluster, tmp_path: Path) -> None:
    with site(tmp_path, cluster_alone) as here:
        with here.crowd(here.wishes(list(BACKENDS), jobs_in_all(40))) as crowd:
            for share in (0.1, 0.3, 0.5, 0.7, 0.9) if LONG else (0.2, 0.6):
                crowd.wait_for(share)
                for name in DAEMONS:
                    restart(cluster_alone, name)
        here.settled()
        here.report(request, "scheduler restarted", crowd.jobs)


def restart(cluster: Cluster, name: str) -> None:
    """End it, and have it back."""
    how, user = DAEMONS[name]
    old = cluster.pids(name)
    for pid in old:
        os.kill(pid, how)
    try:
        until(lambda: not set(old) & set(cluster.pids(name)), f"{name} does not end")
    finally:
        if user:
            start = ["setpriv", "--reuid", user, "--regid", user, "--init-groups", "--", name]
            cluster.enter("root", ["sh", "-c", f"{' '.join(start)} </dev/null >/dev/null 2>&1"])
        until(lambda: cluster.pids(name), f"{name} does not start")
