"""The contract on the real Grid Engine."""

import dataclasses
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from gateway.backend import Backend
from gateway.model import JobSpec
from gateway.testing.contract import BackendContract, Driver
from gateway_plugins.gridengine import GridEngineBackend, GridEngineOptions
from tests.cluster.fixture import Cluster
from tests.plugins.on_cluster import running


class TestGridEngine(BackendContract):
    cores = 2
    gpus = 1
    priority = -1
    wall_time = 2

    @pytest.fixture
    def backend(self, cluster: Cluster, tmp_path: Path) -> Iterator[GridEngineBackend]:
        self.cluster = cluster
        with running(GridEngineBackend, cluster, tmp_path, GridEngineOptions(patience=4)) as backend:
            yield backend

    @pytest.fixture
    def account(self) -> str:
        return "alice"

    @pytest.fixture
    def other_account(self) -> str:
        return "bob"

    def refusal(self, spec: JobSpec) -> JobSpec:
        return dataclasses.replace(spec, queue="nosuch.q")

    def down(self, backend: Backend) -> AbstractContextManager[None]:
        """The qmaster is there and does not answer."""
        return self.cluster.frozen("sge_qmaster")

    def test_scheduler_down(self, jobs: Driver, cluster_alone: Cluster) -> None:
        super().test_scheduler_down(jobs)
