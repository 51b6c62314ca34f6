"""The contract on the local backend: everybody as the gateway's user, and as real accounts."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.backend import Backend
from gateway.model import JobSpec, Resources
from gateway.testing.contract import BackendContract
from gateway_plugins.local import LocalBackend
from tests.plugins.local import hosts
from tests.unix_accounts import two_accounts


class LocalContract(BackendContract):
    poll = 0.05
    patience = 30.0
    wall_time = 1
    wall_time_patience = 30.0
    cores = 2
    same_uuid_same_job = True

    def refusal(self, spec: JobSpec) -> JobSpec:
        return dataclasses.replace(spec, resources=Resources(cores=5))

    @contextmanager
    def down(self, backend: Backend) -> Iterator[None]:
        spool: Path = backend.host.state_dir
        away = spool.with_name("away")
        spool.rename(away)
        spool.write_text("a file where the folder was")
        yield
        spool.unlink()
        away.rename(spool)

    @contextmanager
    def garbage(self, backend: Backend) -> Iterator[Backend]:
        hosts.change(backend.host.state_dir.parent, "UPDATE jobs SET started_at = 'yesterday'")
        yield backend
        hosts.change(backend.host.state_dir.parent, "UPDATE jobs SET started_at = 1")

    @contextmanager
    def cut_short(self, backend: Backend) -> Iterator[Backend]:
        """A row of which half was written."""
        hosts.change(backend.host.state_dir.parent, "UPDATE jobs SET started_at = x'00', cores = ''")
        yield backend
        hosts.change(backend.host.state_dir.parent, "UPDATE jobs SET started_at = 1, cores = 1")


class TestShared(LocalContract):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> Iterator[LocalBackend]:
        with hosts.running(tmp_path) as local:
            yield local

    @pytest.fixture
    def account(self) -> str:
        return "ann"

    @pytest.fixture
    def other_account(self) -> str:
        return "bob"


class TestMapped(LocalContract):
    @pytest.fixture
    def accounts(self) -> tuple[str, str]:
        return two_accounts()

    @pytest.fixture
    def backend(self, tmp_path: Path, accounts: tuple[str, str]) -> Iterator[LocalBackend]:
        tmp_path.chmod(0o700)  # so the accounts cannot reach the spool
        with hosts.running(tmp_path, shared=False) as local:
            yield local

    @pytest.fixture
    def account(self, accounts: tuple[str, str]) -> str:
        return accounts[0]

    @pytest.fixture
    def other_account(self, accounts: tuple[str, str]) -> str:
        return accounts[1]
