"""What a big bundle costs a worker in memory: the body is spooled, the archive is read and sent on, all in pieces.

`JOBGATE_BUNDLE_MIB=1024 pytest -rP tests/test_bundle_memory.py` measures with a bundle of so many MiB and prints what
it found; by default it is small enough for every run.
"""

import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster.fixture import Cluster, _turn_on_the_cluster, cluster
from tests.gateways import Server, World, until
from tests.test_bundles import member, tar
from tests.test_clusters import host_section

__all__ = ["_turn_on_the_cluster", "cluster"]

MIB = 1 << 20
SIZE = int(os.environ.get("JOBGATE_BUNDLE_MIB", "192")) * MIB
MOST_GROWTH = 50_000_000
COUNT = b'#!/bin/sh\nwc -c < noise > "$JOBGATE_OUTPUT/size"; cp noise "$JOBGATE_OUTPUT/"\n'


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Of noise, so that as much is sent as is unpacked."""
    file = tmp_path_factory.mktemp("big") / "big.tar.gz"
    with tarfile.open(file, "w:gz", compresslevel=1) as archive:
        for info, data in (member("run.sh", COUNT),):
            archive.addfile(info, io.BytesIO(data))
        info, _ = member("noise")
        info.size = SIZE
        with Path("/dev/urandom").open("rb") as noise:
            archive.addfile(info, noise)
    yield file
    file.unlink()


@contextmanager
def site(folder: Path, host: str = "") -> Iterator[Server]:
    world = World(folder, {"ann": "alice", "bob": "bob", "carol": "carol"})
    with Server(world, folder, workers=1, host=host) as server:
        yield server


def worker(server: Server) -> int:
    assert server.process
    return int(Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()[0])


def peak(pid: int) -> int:
    """Bytes of resident memory at most since it was last forgotten."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def forget_peak(pid: int) -> int:
    """Begin anew; what is resident now (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return peak(pid)


def send(server: Server, host: str, bundle: Path) -> str:
    header = f"PROXY: {server.world.headers['ann']['PROXY']}"
    form = ["-F", f"job={json.dumps({'host': host})}", "-F", f"bundle=@{bundle}"]
    command = ["curl", "-s", "-H", header, *form, f"{server.url}/api/jobs"]
    job = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=1800).stdout)
    assert job["status"] == "QUEUED", job
    return str(job["uuid"])


def test_on_this_machine(big: Path, tmp_path: Path) -> None:
    with site(tmp_path) as server:
        check(server, "localhost", big, tmp_path)


def test_over_ssh(big: Path, tmp_path: Path, cluster: Cluster) -> None:
    with site(tmp_path, host_section("slurm", "slurm.example.org", cluster)) as server:
        check(server, "slurm.example.org", big, tmp_path)


def check(server: Server, host: str, big: Path, folder: Path) -> None:
    small = folder / "small.tar.gz"
    small.write_bytes(tar().getvalue())
    server.call("DELETE", f"/api/jobs/{send(server, host, small)}")  # connections and modules are there now
    pid = worker(server)
    before = forget_peak(pid)
    uuid = send(server, host, big)
    sending = peak(pid) - before
    until(lambda: server.call("GET", f"/api/jobs/{uuid}").json()["status"] == "FINISHED", seconds=600)
    assert server.call("GET", f"/api/jobs/{uuid}/files/size").text.strip() == str(SIZE)
    before = forget_peak(pid)
    got = 0
    headers = server.world.headers["ann"]
    with server.http.stream("GET", f"/api/jobs/{uuid}/output", headers=headers, timeout=600) as answer:
        for piece in answer.iter_raw():
            got += len(piece)
    fetching = peak(pid) - before
    assert got > SIZE
    print(f"{host}: {SIZE / MIB:.0f} MiB sent: +{sending / MIB:.1f} MiB, fetched: +{fetching / MIB:.1f} MiB")
    assert max(sending, fetching) < MOST_GROWTH
    assert server.call("DELETE", f"/api/jobs/{uuid}").status_code == 204
