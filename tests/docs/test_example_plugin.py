"""docs/examples/*.py, the plugins that docs/plugins.md shows: they run, and the backend passes the contract."""

import dataclasses
import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from gateway.backend import Backend, HostContext
from gateway.model import JobSpec
from gateway.plugin_manager import Plugins
from gateway.testing.contract import BackendContract
from gateway.transport.local import LocalTransport
from tests.gateways import InProcess, World, error
from tests.unix_accounts import two_accounts

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def installed(monkeypatch: pytest.MonkeyPatch, **modules: str) -> Plugins:
    """The local backend, and what installed distributions with these entry points would bring."""
    monkeypatch.syspath_prepend(EXAMPLES)
    plugins = Plugins()
    everything = {"local": "gateway_plugins.local", **modules}
    plugins.add_entry_points(EntryPoint(name, module, "jobgate") for name, module in everything.items())
    assert plugins.broken == []
    return plugins


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> Plugins:
    return installed(monkeypatch, background="jobgate_background")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where every account may write, which pytest's own folders are not."""
    with tempfile.TemporaryDirectory(prefix="jobgate-background-", ignore_cleanup_errors=True) as name:
        made = Path(name)
        made.chmod(0o1777)
        yield made


def test_a_job_through_the_api(world: World, tmp_path: Path, plugins: Plugins, folder: Path) -> None:
    other = f'[hosts.other]\nbackend = "background"\naccounts = "gateway"\nfolder = "{folder}"\npoll_interval = 0.1\n'
    with InProcess(world, tmp_path, plugins=plugins, host=other) as gateway:
        answer = gateway.call("POST", "/api/jobs", json={"host": "other", "script": "#!/bin/sh\necho hello\nexit 3\n"})
        assert answer.status_code == 201, answer.text
        job = gateway.ended(answer.get_json()["job_id"])
        assert (job["status"], job["exit_code"], job["job_id"]) == ("ERROR", 3, f"{job['uuid']}.other")
        assert gateway.call("GET", f"/api/jobs/{job['job_id']}/stdout").data == b"hello\n"
        host = gateway.call("GET", "/api/hosts/other").get_json()
        assert (host["backend"], host["capabilities"]) == ("background", {"fields": [], "actions": ["abort"]})


def test_the_other_hooks(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"{hashlib.sha256(b'secret').hexdigest()} /C=PL/O=Site/CN=robot robot\n")
    monkeypatch.setenv("SITE_KEYS", str(keys))
    with InProcess(world, tmp_path, plugins=installed(monkeypatch, site="jobgate_site")) as gateway:
        job = gateway.ended(gateway.submit()["job_id"])
        assert "of ann ran for 0:00:0" in capsys.readouterr().err
        assert gateway.call("GET", f"/status/{job['job_id']}").text == "FINISHED\n"
        robot = {"headers": {"X-Site-Key": "secret"}, "user": None}
        assert gateway.call("GET", "/api/jobs", **robot).get_json() == []
        not_its_own = gateway.call("GET", f"/status/{job['job_id']}", **robot)
        assert (not_its_own.status_code, not_its_own.text) == (404, f"Job with {job['job_id']} not found\n")
        refused = gateway.call("GET", "/api/jobs", user=None, headers={"X-Site-Key": "guess"})
        assert (refused.status_code, error(refused)["code"]) == (401, "site_key_unknown")


def test_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    plugins = installed(monkeypatch, site="jobgate_site")
    cli = click.Group()
    plugins.hook.register_commands(cli=cli)
    key, line = CliRunner().invoke(cli, ["new-key", "/CN=robot", "robot"]).output.splitlines()
    assert line == f"{hashlib.sha256(key.encode()).hexdigest()} /CN=robot robot"


class BackgroundContract(BackendContract):
    poll = 0.05
    patience = 30.0

    def refusal(self, spec: JobSpec) -> JobSpec:
        return dataclasses.replace(spec, working_directory="/proc/nowhere")

    @contextmanager
    def down(self, backend: Backend) -> Iterator[None]:
        folder = Path(backend.host.options.folder)
        away = folder.rename(folder.with_name(f"{folder.name}-away"))
        yield
        away.rename(folder)


class TestShared(BackgroundContract):
    @pytest.fixture
    def backend(self, tmp_path: Path, plugins: Plugins, folder: Path) -> Backend:
        return host(plugins, folder, LocalTransport(shared_account=True, homes=tmp_path / "homes"))

    @pytest.fixture
    def account(self) -> str:
        return "ann"

    @pytest.fixture
    def other_account(self) -> str:
        return "bob"


class TestMapped(BackgroundContract):
    @pytest.fixture
    def backend(self, tmp_path: Path, plugins: Plugins, folder: Path) -> Backend:
        return host(plugins, folder, LocalTransport(shared_account=False, homes=tmp_path))

    @pytest.fixture
    def account(self) -> str:
        return two_accounts()[0]

    @pytest.fixture
    def other_account(self) -> str:
        return two_accounts()[1]


def host(plugins: Plugins, folder: Path, transport: LocalTransport) -> Backend:
    backend = plugins.backends["background"]
    options = backend.options_type(folder=str(folder))
    operator = None if transport.shared_account else "nobody"
    shared = transport.shared_account
    return backend(HostContext("other", options, transport, folder, operator, shared_account=shared))
