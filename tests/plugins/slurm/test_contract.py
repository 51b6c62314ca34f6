"""The contract on the real Slurm."""

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.backend import Backend
from gateway.model import JobSpec
from gateway.testing.contract import BackendContract, Driver
from gateway_plugins.slurm import SlurmBackend
from tests.cluster.fixture import Cluster
from tests.plugins.on_cluster import running


class TestSlurm(BackendContract):
    cores = 2
    gpus = 1
    priority = -1

    @pytest.fixture
    def backend(self, cluster: Cluster, tmp_path: Path) -> Iterator[SlurmBackend]:
        self.cluster = cluster
        with running(SlurmBackend, cluster, tmp_path) as backend:
            yield backend

    @pytest.fixture
    def account(self) -> str:
        return "alice"

    @pytest.fixture
    def other_account(self) -> str:
        return "bob"

    def refusal(self, spec: JobSpec) -> JobSpec:
        return dataclasses.replace(spec, queue="nosuchqueue")

    @contextmanager
    def down(self, backend: Backend) -> Iterator[None]:
        """slurmctld ends, and is started again."""
        self.cluster.enter("root", ["scontrol", "shutdown", "slurmctld"])
        while self.cluster.pids("slurmctld"):
            time.sleep(0.1)
        try:
            yield
        finally:
            as_slurm = ["setpriv", "--reuid", "slurm", "--regid", "slurm", "--init-groups"]
            self.cluster.enter("root", [*as_slurm, "slurmctld"])
            self.cluster.enter("root", ["sh", "-c", "until scontrol ping | grep -q UP; do sleep 0.1; done"])

    def test_scheduler_down(self, jobs: Driver, cluster_alone: Cluster) -> None:
        super().test_scheduler_down(jobs)
