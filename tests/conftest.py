"""What many tests need: users with proxies, a gateway in this process, a gateway under gunicorn."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateways import InProcess, Server, World


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A certificate authority and its users ann, bob, carol (administrator) and eve (mapped to no account)."""
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture
def gateway(world: World, tmp_path: Path) -> Iterator[InProcess]:
    """A gateway of this test's own, with the local backend, in this process."""
    with InProcess(world, tmp_path) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def server(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A gateway under gunicorn with two workers, for the tests of one file."""
    with Server(world, tmp_path_factory.mktemp("server")) as server:
        yield server
