"""The way to the hosts cut, restored, and swallowing packets, while sixteen clients submit and the gateway asks."""

import time
from pathlib import Path

import pytest

from tests.cluster.fixture import Cluster, Relay
from tests.faults.crowd import Crowd
from tests.faults.site import BACKENDS, LONG, chance, jobs_in_all, site

CUTS = 30 if LONG else 4
FREEZES = 5 if LONG else 1
CUT_SECONDS = 1.5
FROZEN_SECONDS = 30 if LONG else 9  # longer than a submit may take


def disturb(relay: Relay, crowd: Crowd) -> None:
    moments = chance()
    kinds = ["cut"] * CUTS + ["freeze"] * FREEZES
    moments.shuffle(kinds)
    for share, kind in zip(sorted(moments.uniform(0.02, 0.9) for _ in kinds), kinds, strict=True):
        if not crowd.wait_for(share):
            return
        if kind == "cut":
            relay.stop()
            time.sleep(CUT_SECONDS)  # how long it lasts is the fault itself
            relay.start()
        else:
            relay.freeze()
            time.sleep(FROZEN_SECONDS)
            relay.thaw()


def test_cluster(request: pytest.FixtureRequest, cluster: Cluster, tmp_path: Path) -> None:
    with cluster.private_relay() as relay, site(tmp_path, cluster, relay) as here:
        with here.crowd(here.wishes(list(BACKENDS), jobs_in_all(40))) as crowd:
            disturb(relay, crowd)
        here.settled()
        here.report(request, "ssh cut", crowd.jobs)
