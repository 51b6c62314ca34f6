"""The disk full under the database, the local scheduler's spool and all logs, while sixteen clients submit."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster.fixture import Cluster
from tests.faults.site import BACKENDS, LOCAL, LONG, Site, jobs_in_all, site
from tests.gateways import error, until

SIZE = "256m" if LONG else "64m"
FULL_SECONDS = 20 if LONG else 3


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "faults", folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def full(folder: Path) -> Iterator[None]:
    """Not a byte left, until the end of the block."""
    filler = folder / "filler"
    try:
        with filler.open("wb", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                try:
                    while True:
                        file.write(b"\0" * size)
                except OSError:
                    continue
        yield
    finally:
        filler.unlink()


def refused(here: Site) -> bool:
    """Whether a submit is answered as it must be; a page that SQLite still had room in takes some."""
    answer = here.server.call("POST", "/api/jobs", json={"host": LOCAL, "script": "#!/bin/sh\n"})
    if answer.status_code == 201:
        return False
    said = error(answer)
    assert (answer.status_code, said["retryable"]) in ((503, True), (504, True)), answer.text
    return answer.status_code == 503


def fill(request: pytest.FixtureRequest, here: Site, hosts: list[str], disk: Path) -> None:
    with here.crowd(here.wishes(hosts, jobs_in_all(80 // len(hosts)), description="x" * 4000)) as crowd:
        crowd.wait_for(0.3)
        with full(disk):
            until(lambda: refused(here), "submits go on")
            assert here.server.call("GET", "/api/jobs?limit=1").status_code == 200
            time.sleep(FULL_SECONDS)
            assert here.server.call("GET", "/health").status_code == 200
    here.settled()
    here.report(request, "disk full", crowd.jobs)


def test_local(request: pytest.FixtureRequest, small_disk: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What the jobs leave is elsewhere, so that it counts how often they ran."""
    with site(small_disk, traces=tmp_path_factory.mktemp("traces")) as here:
        fill(request, here, [LOCAL], small_disk)


def test_cluster(request: pytest.FixtureRequest, cluster: Cluster, small_disk: Path) -> None:
    with site(small_disk, cluster) as here:
        fill(request, here, list(BACKENDS), small_disk)
