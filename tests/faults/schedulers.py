"""What the schedulers themselves say, asked past the gateway."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.fixture import Cluster
from tests.gateways import PATIENCE


@dataclass(frozen=True)
class Seen:
    """A job that a scheduler has or had."""

    native_id: str
    name: str
    uuid: str


def in_slurm(cluster: Cluster, since: float) -> Iterator[Seen]:
    begin = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(since))
    live = cluster.enter("root", ["squeue", "-h", "-a", "--states=all", "-o", "%i|%j|%k"])
    past = cluster.enter("root", ["sacct", "-nXPa", "-S", begin, "--format=JobIDRaw,JobName,Comment"])
    for line in (*live.splitlines(), *past.splitlines()):
        fields = line.split("|")
        if len(fields) == 3:  # other people's comments may hold anything, line breaks too
            yield Seen(*fields)


def in_grid_engine(cluster: Cluster, since: float) -> Iterator[Seen]:
    yield from _live_in_grid_engine(cluster)
    file = cluster.root / "var/lib/gridengine/default/common/accounting"
    for line in file.read_text(errors="replace").splitlines():
        if not line.startswith("#"):
            fields = line.split(":")
            yield Seen(fields[5], fields[4], fields[6].removesuffix(".aborted"))


def _live_in_grid_engine(cluster: Cluster) -> Iterator[Seen]:
    listed = cluster.enter("root", ["qstat", "-u", "*"]).splitlines()[2:]
    ids = sorted({line.split()[0] for line in listed})
    if not ids:
        return
    found: dict[str, str] = {}
    # a job that ends between the two questions fails the second, which tells about the others all the same
    text = cluster.enter("root", ["sh", "-c", f"qstat -j {','.join(ids)} || true"])
    for line in text.splitlines():
        field, _, value = line.partition(":")
        found[field] = value.strip()
        if field == "job_name":
            yield Seen(found["job_number"], found["job_name"], found["account"])


def in_htcondor(cluster: Cluster, since: float) -> Iterator[Seen]:
    wanted = ["-constraint", "JobgateId isnt undefined", "-af", "ClusterId", "ProcId", "JobBatchName", "JobgateId"]
    live = cluster.enter("root", ["condor_q", "-allusers", *wanted])
    # from the newest on; those that were removed have never been completed
    older = f"CompletionDate > 0 && CompletionDate < {since:.0f}"
    past = cluster.enter("root", ["condor_history", "-since", older, *wanted], timeout=PATIENCE)
    for line in (*live.splitlines(), *past.splitlines()):
        cluster_id, process, *name, uuid = line.split()
        yield Seen(f"{cluster_id}.{process}", " ".join(name), uuid)


def in_spool(folder: Path) -> Iterator[Seen]:
    """The local scheduler's, of the gateway in `folder`."""
    with closing(sqlite3.connect(f"file:{spool_of(folder)}?mode=ro", uri=True)) as connection:
        for number, name, uuid in connection.execute("SELECT id, name, uuid FROM jobs"):
            yield Seen(str(number), name, uuid)


def spool_of(folder: Path) -> Path:
    return folder / "state" / "hosts" / "localhost" / "spool.sqlite"


def runs_in(folder: Path) -> dict[str, int]:
    """How often each job's script ran."""
    return {file.name: len(file.read_text().splitlines()) for file in folder.iterdir()}
