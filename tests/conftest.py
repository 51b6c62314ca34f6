"""What many tests need: users with proxies, a gateway in this process, a gateway under gunicorn."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.databases import Databases, databases_of
from tests.faults import figures
from tests.gateways import InProcess, Server, World


def pytest_addoption(parser: pytest.Parser) -> None:
    kinds = ("sqlite", "postgresql")
    parser.addoption("--database", choices=kinds, default="sqlite", help="what the gateways under test run on")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "only_on(kind, why): for facts of one of the databases")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    figures.show(terminalreporter)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    kind = config.getoption("database")
    for item in items:
        for mark in item.iter_markers("only_on"):
            if mark.args[0] != kind:
                item.add_marker(pytest.mark.skip(reason=f"only on {mark.args[0]}: {mark.args[1]}"))


@pytest.fixture(scope="session")
def databases(request: pytest.FixtureRequest) -> Iterator[Databases]:
    """Where the gateways under test get databases from: one server per worker of a run."""
    with databases_of(request.config.getoption("database")) as databases:
        yield databases


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, databases: Databases) -> World:
    """A certificate authority and its users ann, bob, carol (administrator) and eve (mapped to no account)."""
    return World(tmp_path_factory.mktemp("world"), databases=databases)


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
