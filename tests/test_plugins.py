"""The plugin manager: built-in plugins have no other door, a broken one stops nobody, a misspelt hook is an error."""

import inspect
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import flask
import pytest
from marshmallow import fields

from gateway import Backend, hookimpl, hookspecs, option
from gateway.config import load_config
from gateway.errors import ConfigError
from gateway.plugin_manager import Plugins, load_plugins
from tests.gateways import InProcess, World, error


def test_the_local_backend_comes_in_through_its_entry_point() -> None:
    plugins = load_plugins()
    local = next(plugin for plugin in plugins.loaded if plugin.name == "local")
    assert local.source.startswith("jobgate ")
    assert "gateway_plugins.local" in local.source
    assert local.hooks == ("register_backends",)
    assert "local" in plugins.backends
    assert plugins.broken == []


def test_nothing_in_gateway_imports_a_plugin_and_plugins_import_gateway_alone() -> None:
    for file in Path("gateway").rglob("*.py"):
        assert "gateway_plugins" not in file.read_text().replace("`jobgate 0.1.0: gateway_plugins.local`", ""), file
    for file in Path("plugins").rglob("*.py"):
        for line in file.read_text().splitlines():
            assert not line.startswith("from gateway."), f"{file}: {line}"


def plugin(**hooks: object) -> ModuleType:
    module = ModuleType("third_party")
    for name, function in hooks.items():
        setattr(module, name, hookimpl(function))
    return module


class Stub(Backend):
    name = "stub"
    submit = query = find = control = cluster = None


def test_a_misspelt_hook_is_an_error() -> None:
    plugins = load_plugins(("typo", plugin(register_backend=lambda: [])))
    assert [(broken.name, "register_backend" in broken.reason) for broken in plugins.broken] == [("typo", True)]
    assert "register_backends" in plugins.broken[0].reason
    assert "local" in plugins.backends


def test_a_wrong_argument_is_an_error() -> None:
    def job_changed(jobb):
        """Misspelt."""

    plugins = load_plugins(("typo", plugin(job_changed=job_changed)))
    assert "jobb" in plugins.broken[0].reason


def test_a_backend_name_that_is_taken() -> None:
    Second = type("Second", (Stub,), {"name": "local"})
    plugins = load_plugins(("second", plugin(register_backends=lambda: [Second])))
    assert "registered already" in plugins.broken[0].reason
    assert plugins.backends["local"] is not Second


@pytest.mark.parametrize("body", ["import nothing_like_that", "raise ValueError(1)", "import sys; sys.exit(3)", "def"])
def test_a_plugin_that_fails_to_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    (tmp_path / "broken_plugin.py").write_text(body)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken_plugin", raising=False)
    plugins = Plugins()
    points = [EntryPoint("a", "broken_plugin", "jobgate"), EntryPoint("b", "gateway_plugins.local", "jobgate")]
    plugins.add_entry_points(points)
    assert [broken.name for broken in plugins.broken] == ["a"]
    assert [loaded.name for loaded in plugins.loaded] == ["b"]


def test_a_host_whose_plugin_is_broken_is_down_and_the_others_are_not(world: World, tmp_path: Path) -> None:
    plugins = load_plugins(("pbs", plugin(register_backend=lambda: [])))
    host = 'slots = 1\n[hosts.pbs]\nbackend = "pbs"\nwalltime = 3\n'
    with InProcess(world, tmp_path, plugins=plugins, host=host) as gateway:
        down = gateway.call("POST", "/api/jobs", json={"host": "pbs", "script": "x"})
        assert (down.status_code, error(down)["retryable"]) == (503, True)
        assert "register_backend" in error(down)["error_message"]
        assert gateway.ended(gateway.submit()["job_id"])["status"] == "FINISHED"


def test_a_dialect_and_a_listener(world: World, tmp_path: Path) -> None:
    heard: list[tuple[str, str | None]] = []

    def register_dialects(service):
        blueprint = flask.Blueprint("other", __name__)
        blueprint.add_url_rule("/other", view_func=lambda: {"hosts": [host.name for host in service.hosts]})
        return [blueprint]

    def job_changed(job, before):
        heard.append((job.state.value, before and before.value))
        raise RuntimeError("a listener's fault is its own")

    plugins = load_plugins(("third", plugin(register_dialects=register_dialects, job_changed=job_changed)))
    with InProcess(world, tmp_path, plugins=plugins) as gateway:
        assert gateway.call("GET", "/other").get_json() == {"hosts": ["localhost"]}
        gateway.ended(gateway.submit()["job_id"])
    assert heard[:2] == [("submitting", None), ("queued", "submitting")]
    assert heard[-1][0] == "finished"


def test_the_command_lists_plugins() -> None:
    jobgate = Path(sys.executable).parent / "jobgate"
    done = subprocess.run([jobgate, "plugins"], capture_output=True, text=True, check=True)
    assert "local" in done.stdout
    assert "register_backends" in done.stdout


def test_a_plugin_adds_a_command() -> None:
    import click

    from gateway.cli import cli

    def register_commands(cli):
        cli.add_command(click.Command("greet", callback=lambda: click.echo("hello")))

    load_plugins(("third", plugin(register_commands=register_commands))).hook.register_commands(cli=cli)
    assert "greet" in cli.commands
    del cli.commands["greet"]


def test_every_hook_stands_in_the_docs_with_its_exact_signature() -> None:
    page = Path("docs/plugins.md").read_text()
    hooks = [hook for hook in vars(hookspecs).values() if hasattr(hook, "jobgate_spec")]
    assert hooks
    for hook in hooks:
        signature = f"{hook.__name__}({', '.join(inspect.signature(hook).parameters)})"
        assert f"`{signature}`" in page


@dataclass(frozen=True)
class Options:
    colour: str = option(fields.String(), "red", "a colour")
    host: str | None = option(fields.String(), None, "a host")


def test_a_dialect_has_options_of_its_own(tmp_path: Path, world: World) -> None:
    plugins = load_plugins(("third", plugin(register_options=lambda: {"third": Options})))
    with_options = '[dialects.third]\ncolour = "blue"\nhost = "localhost"\n'
    assert load_config(world.config(tmp_path, "http://x", with_options), plugins).dialects["third"].colour == "blue"
    assert load_config(world.config(tmp_path, "http://x"), plugins).dialects["third"] == Options()
    wrong = '[dialects.third]\nsize = 3\nhost = "nowhere"\n[dialects.fourth]\n'
    with pytest.raises(ConfigError) as mistakes:
        load_config(world.config(tmp_path, "http://x", wrong), plugins)
    no_dialect, no_option = (problem.partition(": ")[2] for problem in mistakes.value.problems)
    assert no_dialect.startswith("dialects.fourth: there is no such dialect; known: ")
    assert no_option == "dialects.third.size: there is no such option"
    with pytest.raises(ConfigError) as mistakes:
        load_config(world.config(tmp_path, "http://x", '[dialects.third]\nhost = "nowhere"'), plugins)
    assert "dialects.third.host: there is no [hosts.nowhere]" in str(mistakes.value)


def test_an_option_table_that_is_taken() -> None:
    first, second = (plugin(register_options=lambda: {"third": Options}) for _ in range(2))
    assert "registered already" in load_plugins(("first", first), ("second", second)).broken[0].reason


def test_a_dialect_answers_for_everything_below_its_mount(world: World, tmp_path: Path) -> None:
    def register_dialects(door):
        blueprint = door.blueprint("third", "/third", error=lambda problem: flask.Response(f"no: {problem.code}"))
        blueprint.add_url_rule("/third/fault", view_func=lambda: {}[door.principal])
        return [blueprint]

    with InProcess(world, tmp_path, plugins=load_plugins(("third", plugin(register_dialects=register_dialects)))) as it:
        assert it.call("GET", "/third/fault", user=None).text == "no: proxy_missing"
        assert it.call("GET", "/third/nothing").text == "no: not_found"
        answer = it.call("BREW", "/third/fault")
        assert (answer.status_code, answer.text) == (405, "no: method_not_allowed")
        fault = it.call("GET", "/third/fault")
        assert (fault.status_code, fault.text) == (500, "no: internal_error")
        assert error(it.call("GET", "/thirdly"))["code"] == "not_found"


def test_a_configuration_may_name_a_third_partys_backend(tmp_path: Path, world: World) -> None:
    plugins = load_plugins(("third", plugin(register_backends=lambda: [Stub])))
    file = world.config(tmp_path, "http://x", 'slots = 1\n[hosts.other]\nbackend = "stub"')
    assert load_config(file, plugins).hosts["other"].section.backend == "stub"
    assert {"local", "stub"} <= set(plugins.backends)
