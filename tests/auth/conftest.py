from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.testing.certificates import Authority

from .world import ANN, ORGANISATION, World, key


@pytest.fixture(scope="session")
def make_world() -> Callable[[Path], World]:
    authority = Authority.create(f"{ORGANISATION}/CN=CA", key=key("authority"))
    ann = authority.issue(ANN, key=key("ann"))

    def make(directory: Path) -> World:
        authority.install(directory)
        return World(directory, authority, ann)

    return make


@pytest.fixture
def world(make_world: Callable[[Path], World], tmp_path: Path) -> World:
    return make_world(tmp_path / "certificates")
