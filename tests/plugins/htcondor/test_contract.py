"""The contract on the real HTCondor, over ssh, and what is HTCondor's own."""

import dataclasses
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from gateway.backend import Backend
from gateway.model import JobSpec
from gateway.testing.contract import BackendContract, Driver
from gateway_plugins.htcondor import HTCondorBackend
from tests.cluster.fixture import Cluster
from tests.plugins.on_cluster import running


class TestHTCondor(BackendContract):
    poll = 0.2
    patience = 90.0
    unknown_id = "99999999.0"
    wall_time = 3
    cores = 2
    gpus = 1

    @pytest.fixture
    def backend(self, cluster: Cluster, tmp_path: Path) -> Iterator[HTCondorBackend]:
        self.cluster = cluster
        with running(HTCondorBackend, cluster, tmp_path) as backend:
            yield backend
        cluster.enter("alice", ["sh", "-c", "rm -f -- ~/home.log*"])

    @pytest.fixture
    def account(self) -> str:
        return "alice"

    @pytest.fixture
    def other_account(self) -> str:
        return "bob"

    def refusal(self, spec: JobSpec) -> JobSpec:
        return dataclasses.replace(spec, script="executable = /no/such/program\nqueue\n")

    def down(self, backend: Backend) -> AbstractContextManager[None]:
        """condor_schedd is there, and does not answer."""
        return self.cluster.frozen("condor_schedd")

    @pytest.fixture
    def probing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every submit asks first whether condor_schedd answers; right after one that it answered, none would."""
        monkeypatch.setattr("gateway_plugins.htcondor.FRESH_SECONDS", 0.0)

    @pytest.mark.usefixtures("probing")
    def test_scheduler_down(self, jobs: Driver, cluster_alone: Cluster) -> None:
        super().test_scheduler_down(jobs)
