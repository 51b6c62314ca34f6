"""The command `jobgate`, as a process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gateways import World

JOBGATE = Path(sys.executable).parent / "jobgate"


def run(*arguments: object, folder: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [str(JOBGATE), *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=os.environ | environment, timeout=60, check=False
    )


@pytest.fixture
def config(world: World, tmp_path: Path) -> Path:
    return world.config(tmp_path, "http://127.0.0.1:1")


@pytest.mark.parametrize("command", [[], ["serve"], ["check"], ["plugins"], ["migrate"], ["tick"], ["demo"]])
def test_help(command: list[str]) -> None:
    done = run(*command, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: jobgate")


def test_check_of_a_good_configuration(config: Path) -> None:
    run("migrate", "--config", config)
    done = run("check", "--config", config)
    assert done.returncode == 0, done.stdout
    assert "0 problems" in done.stdout
    assert "everybody's jobs run as" in done.stdout  # what accounts = "gateway" means


def test_check_says_everything_that_is_wrong(config: Path, tmp_path: Path) -> None:
    (tmp_path / "map").write_text('"/CN=Ann ann\n"/CN=Bob" root\n')
    text = config.read_text().replace("trusted_ca_dir = ", 'trusted_ca_dir = "nowhere" # ')
    config.write_text(text.replace("grid_mapfile = ", 'grid_mapfile = "map" # '))
    done = run("check", "--config", config)
    assert done.returncode == 1
    assert "auth.trusted_ca_dir" in done.stdout
    assert "map:1" in done.stdout
    assert "map:2" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("command", ["serve", "check", "migrate", "tick"])
def test_a_bad_configuration_is_said_in_lines(command: str, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("[gateway]\ncolour = 1\n[hosts.x]\n")
    done = run(command, "--config", tmp_path / "bad.toml")
    assert done.returncode == 2
    assert f"{tmp_path}/bad.toml: gateway.colour: there is no such option" in done.stderr
    assert "Traceback" not in done.stderr


def test_serve_with_a_bad_grid_mapfile(config: Path, tmp_path: Path) -> None:
    config.write_text(config.read_text().replace("grid_mapfile = ", 'grid_mapfile = "missing" # '))
    done = run("serve", "--config", config)
    assert done.returncode == 2
    assert "missing" in done.stderr
    assert "Traceback" not in done.stderr


def test_migrate_and_tick(config: Path) -> None:
    assert "revision" in run("migrate", "--config", config).stdout
    first = run("tick", "--config", config)
    assert (first.returncode, first.stdout) == (0, "localhost: ok\n")


def test_a_database_that_cannot_be_opened(world: World, tmp_path: Path) -> None:
    config = world.config(tmp_path, "http://127.0.0.1:1", database="sqlite:////proc/no/jobgate.db")
    for command in ("migrate", "tick"):
        done = run(command, "--config", config)
        assert done.returncode == 1
        assert "database" in done.stderr
        assert "Traceback" not in done.stderr


def test_demo(tmp_path: Path) -> None:
    for _ in range(2):
        done = run("demo", "--directory", tmp_path / "demo")
        assert done.returncode == 0
        assert "proxy.pem" in done.stdout
    assert {file.name for file in (tmp_path / "demo").iterdir()} >= {"certificates", "grid-mapfile", "proxy.pem"}
    assert (tmp_path / "demo" / "proxy.pem").stat().st_mode & 0o777 == 0o600
