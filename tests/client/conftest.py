"""Users of the SDK at a gateway under gunicorn."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.client import JobManager
from tests.gateways import Server


@pytest.fixture
def proxy(server: Server, tmp_path: Path) -> Path:
    """Ann's proxy file."""
    file = tmp_path / "proxy.pem"
    file.touch(mode=0o600)
    file.write_bytes(server.world.proxies["ann"].pem())
    return file


@pytest.fixture
def manager(server: Server, proxy: Path, tmp_path: Path) -> Iterator[JobManager]:
    """Ann's job manager."""
    with JobManager(server.url, proxy, workspace=tmp_path / "workspaces") as manager:
        yield manager
