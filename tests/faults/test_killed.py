"""kill -9 of the gateway's processes while sixteen clients submit."""

import os
import random
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cluster.fixture import Cluster
from tests.faults.crowd import Crowd
from tests.faults.site import BACKENDS, LOCAL, LONG, Site, chance, jobs_in_all, site

KILLS = 60 if LONG else 8


def workers(site: Site) -> list[int]:
    assert site.server.process
    master = site.server.process.pid
    return [int(pid) for pid in Path(f"/proc/{master}/task/{master}/children").read_text().split()]


def kill_now_and_then(site: Site, crowd: Crowd, chance: random.Random) -> None:
    """Three workers for each whole gateway, at moments spread over the submits."""
    for share in sorted(chance.uniform(0.02, 0.95) for _ in range(KILLS)):
        if not crowd.wait_for(share):
            return
        pids = workers(site)
        if pids and chance.random() < 0.75:
            with suppress(ProcessLookupError):
                os.kill(chance.choice(pids), signal.SIGKILL)
        else:
            site.server.stop(signal.SIGKILL)
            site.server.start()


def test_local(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    with site(tmp_path) as here:
        with here.crowd(here.wishes([LOCAL], jobs_in_all(120, 1000))) as crowd:
            kill_now_and_then(here, crowd, chance())
        here.settled()
        here.report(request, "gateway killed", crowd.jobs)


def test_cluster(request: pytest.FixtureRequest, cluster: Cluster, tmp_path: Path) -> None:
    with site(tmp_path, cluster) as here:
        with here.crowd(here.wishes(list(BACKENDS), jobs_in_all(40, 1000))) as crowd:
            kill_now_and_then(here, crowd, chance())
        here.settled()
        here.report(request, "gateway killed", crowd.jobs)
