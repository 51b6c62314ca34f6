"""The sessions of gridtk-jman on the real cluster: on Grid Engine, where the tool comes from, and on Slurm."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client import sessions
from tests.client.terminal import Terminal, at
from tests.cluster.fixture import Cluster, _turn_on_the_cluster, cluster
from tests.gateways import Server, World
from tests.test_clusters import HOSTS, host_section

__all__ = ["_turn_on_the_cluster", "cluster"]


@pytest.fixture(scope="module")
def site(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A gateway before both schedulers, where ann is alice."""
    folder = tmp_path_factory.mktemp("site")
    world = World(folder, {"ann": "alice", "bob": "bob", "carol": "carol"})
    hosts = [host_section(backend, HOSTS[backend], cluster) for backend in ("gridengine", "slurm")]
    with Server(world, folder, host="\n".join(hosts)) as server:
        yield server


@pytest.mark.parametrize("backend", ["gridengine", "slurm"])
def test_the_seeds_session(site: Server, tmp_path: Path, backend: str) -> None:
    sessions.follow(at(site, tmp_path / "here", JOBGATE_HOST=HOSTS[backend]))


def test_a_host_is_named_on_the_command_line(site: Server, tmp_path: Path) -> None:
    terminal: Terminal = at(site, tmp_path / "here")
    assert " @short (" in terminal.jman("-H", HOSTS["slurm"], "submit", "-q", "short", "true")
    assert terminal.run("wait")[0] == 0
    terminal.jman("delete")
