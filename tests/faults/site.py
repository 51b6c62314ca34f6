"""A gateway in front of real schedulers, with clients at work while a test breaks something."""

import os
import random
import shutil
import time
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.fixture import Cluster, Relay
from tests.faults.crowd import Crowd, Job, Wish, wishes
from tests.faults.figures import Figures, record
from tests.faults.schedulers import Seen, in_grid_engine, in_htcondor, in_slurm, in_spool, runs_in
from tests.gateways import Server, World, until

LONG = os.environ.get("JOBGATE_FAULTS") == "long"
SEED = int(os.environ.get("JOBGATE_FAULTS_SEED", "1"))
PATIENCE = 3600 if LONG else 600
LOCAL = "localhost"
BACKENDS = {"slurm.example.org": "slurm", "ge.example.org": "gridengine", "condor.example.org": "htcondor"}
SUBMIT_TIMEOUT = 6
MOVING = ("submitting", "queued", "running", "suspended", "completing", "unknown")
IN_SCHEDULER = {"slurm.example.org": in_slurm, "ge.example.org": in_grid_engine, "condor.example.org": in_htcondor}


def chance() -> random.Random:
    """Random moments that come again with the same seed."""
    print(f"JOBGATE_FAULTS_SEED={SEED}")
    return random.Random(SEED)


def jobs_in_all(short: int, long: int = 300) -> int:
    """How many jobs a case submits to each host."""
    return long if LONG else short


def sections(cluster: Cluster, relay: Relay | None = None, names: Collection[str] = tuple(BACKENDS)) -> str:
    """The configuration of the cluster's hosts, through the shared way in or through one of the test's own."""
    port = relay.port if relay else cluster.ssh_port
    return "\n".join(
        f"""
        [hosts."{name}"]
        backend = "{backend}"
        transport = "ssh"
        operator = "jobgate"
        poll_interval = 1
        submit_timeout = {SUBMIT_TIMEOUT}
          [hosts."{name}".ssh]
          hostname = "127.0.0.1"
          port = {port}
          known_hosts = "{cluster.known_hosts}"
          host_key_alias = "{cluster.host_key_alias}"
          user_ca_key = "{cluster.user_ca_key}"
        """
        for name, backend in BACKENDS.items()
        if name in names
    )


@dataclass
class Site:
    """A server, and where its jobs leave their traces. `inner` and `outer` are one folder, as the hosts and as this
    machine see it."""

    server: Server
    cluster: Cluster | None
    run: str
    inner: str
    outer: Path
    since: float = field(default_factory=lambda: time.time() - 60)

    def wishes(self, hosts: Sequence[str], count: int, **more: Any) -> list[Wish]:
        """So many for each host, mixed."""
        piles = [wishes(f"{self.run}-{host.split('.')[0]}", host, count, self.inner, **more) for host in hosts]
        return [wish for some in zip(*piles, strict=True) for wish in some]

    def crowd(self, wanted: Sequence[Wish], passing: Collection[str] = ()) -> Crowd:
        return Crowd(self.server.url, self.server.world.headers["ann"], wanted, PATIENCE, passing)

    def seen(self, host: str) -> set[Seen]:
        """This run's jobs, as the host's scheduler has them."""
        everything = in_spool(self.server.folder) if host == LOCAL else IN_SCHEDULER[host](self._cluster, self.since)
        return {job for job in everything if job.name.startswith(f"{self.run}-")}

    @property
    def _cluster(self) -> Cluster:
        assert self.cluster
        return self.cluster

    def settled(self, patience: float = PATIENCE) -> None:
        """When every job of the run has ended, or is held, and is known to."""
        words = "?limit=5&" + "&".join(f"state={state}" for state in MOVING)
        try:
            until(lambda: not self._listed(words), seconds=patience)
        except AssertionError:
            raise AssertionError(f"not all jobs ended: {self._listed(words)}") from None

    def _listed(self, words: str) -> list[dict[str, Any]]:
        answer = self.server.call("GET", f"/api/jobs{words}")
        return answer.json() if answer.status_code == 200 else [{"status": answer.text}]

    def remove(self) -> None:
        """Whatever a test that failed has left in the schedulers."""
        for host, program in {
            "slurm.example.org": "scancel",
            "ge.example.org": "qdel",
            "condor.example.org": "condor_rm",
        }.items():
            ids = [job.native_id for job in self.seen(host) if not (self.outer / job.name).exists()]
            if ids:
                separator = "," if program == "qdel" else " "
                self._cluster.enter("root", ["sh", "-c", f"{program} {separator.join(ids)} || true"])

    def report(
        self,
        request: pytest.FixtureRequest,
        case: str,
        jobs: Sequence[Job],
        held: str = "",
        killed: Collection[str] = (),
    ) -> None:
        """The figures of each host; fails where one is not as promised. `held`: the host whose jobs never ran;
        `killed`: names of jobs that were killed, perhaps before they left a trace."""
        runs = runs_in(self.outer)
        wrong = []
        for host in sorted({job.host for job in jobs}):
            mine = [job for job in jobs if job.host == host]
            seen = self.seen(host)
            figures = Figures.of(case, host, mine, seen, runs)
            record(request, figures)
            missing = [
                job.name for job in mine if job.name not in killed and runs.get(job.name, 0) != int(host != held)
            ]
            if figures.lost or figures.doubled or figures.present != figures.acknowledged or missing:
                wrong.append((figures, missing[:5], self._odd(mine, seen)))
        assert not wrong, wrong

    def _odd(self, jobs: Sequence[Job], seen: Collection[Seen]) -> list[Any]:
        known = {(job.name, job.native_id, job.uuid) for job in jobs}
        there = {(job.name, job.native_id, job.uuid) for job in seen}
        return sorted(known ^ there)[:10]


@contextmanager
def site(
    folder: Path,
    cluster: Cluster | None = None,
    relay: Relay | None = None,
    host: str = "",
    traces: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Site]:
    """A gateway in front of the local scheduler and, with `cluster`, of the cluster's three. Without it, jobs leave
    their traces in `traces`, by default in `folder`."""
    run = f"f{uuid.uuid4().hex[:6]}"
    outer = cluster.root / f"home/alice/{run}" if cluster else (traces or folder) / "runs"
    inner = f"/home/alice/{run}" if cluster else str(outer)  # HTCondor gives each job a /tmp of its own
    outer.mkdir()
    outer.chmod(0o1777)
    world = World(folder, {"ann": "alice", "bob": "bob", "carol": "carol"})
    hosts = f"slots = 8\nsubmit_timeout = {SUBMIT_TIMEOUT}\n{host}" + (sections(cluster, relay) if cluster else "")
    server = Server(world, folder, host=hosts, environment=environment)
    here = Site(server, cluster, run, inner, outer)
    try:
        with server:
            yield here
    finally:
        try:
            if cluster:
                here.remove()
        finally:
            shutil.rmtree(outer, ignore_errors=True)
