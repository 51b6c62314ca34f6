"""Job templates, with real jobs on the local backend."""

import shlex
from pathlib import Path

import pytest

from gateway import hookimpl
from gateway.errors import ConfigError
from gateway.plugin_manager import load_plugins
from gateway.templates import check_script, over_files, rendered
from tests.gateways import InProcess, World, error

BUILT_IN = ["align", "import", "parse", "reimport", "tokenize", "wordalign"]  # plugins/letsmt
GREETER = {
    "name": "greeter",
    "host": "localhost",
    "description": "says hello",
    "script": '#!/bin/sh\necho "{{ greeting }}, {{who}}!"\necho $JOBGATE_PARAM_times\n',
    "parameters": {
        "greeting": {"default": "hello", "choices": ["hello", "good day"]},
        "who": {"type": "string", "required": True},
        "times": {"type": "integer", "default": 1},
    },
    "environment": {"LANG": "C"},
    "tag": "greetings",
}


def make(gateway: InProcess, user: str = "ann", **fields):
    answer = gateway.call("POST", "/api/templates", json={**GREETER, **fields}, user=user)
    assert answer.status_code == 201, answer.text
    return answer.get_json()


def listed(gateway: InProcess, user: str = "ann") -> list[dict]:
    """Those that there are beside the six that come with Jobgate."""
    found = gateway.call("GET", "/api/templates", user=user).get_json()
    built_in = [one["name"] for one in found if one["name"] in BUILT_IN and one["owner"] is None and one["shared"]]
    assert built_in == BUILT_IN
    return [one for one in found if one["name"] not in BUILT_IN]


def run(gateway: InProcess, name: str = "greeter", user: str = "ann", **fields):
    return gateway.call("POST", "/api/jobs", json={"template": name, **fields}, user=user)


def output(gateway: InProcess, answer, user: str = "ann") -> str:
    assert answer.status_code == 201, answer.text
    job = answer.get_json()
    assert gateway.ended(job["uuid"], user)["status"] == "FINISHED"
    return gateway.call("GET", f"/api/jobs/{job['uuid']}/stdout", user=user).text


def test_a_job_from_a_template(gateway: InProcess) -> None:
    assert make(gateway) == {**GREETER, "shared": False, "owner": "/C=PL/O=Jobgate Tests/CN=Ann"}
    answer = run(gateway, parameters={"who": "Żółw"}, tag="mine")
    job = answer.get_json()
    assert (job["template"], job["tag"], job["name"], job["host"]) == ("greeter", "mine", "greeter", "localhost")
    assert output(gateway, answer) == "hello, Żółw!\n1\n"


@pytest.mark.parametrize(
    "value",
    ["$(touch pwned)", "`touch pwned`", '"; touch pwned; "', "'; touch pwned; '", "a\nb", "${HOME}", "\\", "-n", "*"],
)
def test_a_value_never_becomes_code(gateway: InProcess, value: str) -> None:
    folder = gateway.folder / "work"
    make(gateway, script='#!/bin/sh\nprintf %s "{{ who }}"\ncat <<E\n{{ who }}\nE\n', working_directory=str(folder))
    assert output(gateway, run(gateway, parameters={"who": value})) == f"{value}{value}\n"
    assert not (folder / "pwned").exists()


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({}, "parameters.who"),
        ({"who": 7}, "parameters.who"),
        ({"who": "\0"}, "parameters.who"),
        ({"who": "x" * 200_000}, "parameters.who"),
        ({"who": "x", "greeting": "bye"}, "parameters.greeting"),
        ({"who": "x", "times": "1"}, "parameters.times"),
        ({"who": "x", "times": True}, "parameters.times"),
        ({"who": "x", "times": 1.5}, "parameters.times"),
        ({"who": "x", "more": 1}, "parameters.more"),
    ],
)
def test_wrong_parameters(gateway: InProcess, given: dict, field: str) -> None:
    make(gateway)
    refused = run(gateway, parameters=given)
    assert refused.status_code == 422
    assert field in error(refused)["errors"]
    assert gateway.call("GET", "/api/jobs").get_json() == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "a/b"},
        {"script": "#!/bin/sh\necho {{ nobody }}\n"},
        {"script": "#!/usr/bin/env python3\nprint('{{ who }}')\n"},
        {"script": '#!/bin/sh\n#SBATCH -J {{ who }}\necho "{{ who }}"\n'},
        {"parameters": {"1x": {}}},
        {"parameters": {"who": {"type": "list"}}},
        {"parameters": {"who": {"default": 7}}},
        {"parameters": {"who": {"choices": []}}},
        {"nodes": "many"},
        {"something": 1},
        {"files": {"pattern": "*"}},
        {"files": 7},
    ],
)
def test_wrong_templates(gateway: InProcess, wrong: dict) -> None:
    assert gateway.call("POST", "/api/templates", json={**GREETER, **wrong}).status_code == 422
    assert listed(gateway) == []


def test_what_does_not_go_together(gateway: InProcess) -> None:
    make(gateway)
    for body, field in (
        ({"template": "greeter", "script": "true"}, "script"),
        ({"template": "nothing"}, "template"),
        ({"host": "localhost", "script": "true", "parameters": {}}, "parameters"),
        ({"host": "localhost", "script": "true", "files": "x"}, "files"),
        ({"script": "true"}, "host"),
    ):
        refused = gateway.call("POST", "/api/jobs", json=body)
        assert refused.status_code == 422, body
        assert field in error(refused)["errors"]


def test_show_replace_delete(gateway: InProcess) -> None:
    shown = make(gateway)
    assert gateway.call("POST", "/api/templates", json=GREETER).status_code == 409
    assert gateway.call("GET", "/api/templates/greeter").get_json() == shown
    changed = {**shown, "script": '#!/bin/sh\necho "{{ who }}"\n'}
    assert gateway.call("PUT", "/api/templates/greeter", json=changed).status_code == 200
    assert output(gateway, run(gateway, parameters={"who": "x"})) == "x\n"
    assert gateway.call("PUT", "/api/templates/nothing", json=changed).status_code == 404
    assert gateway.call("DELETE", "/api/templates/greeter").status_code == 204
    assert gateway.call("DELETE", "/api/templates/greeter").status_code == 404
    assert gateway.call("GET", "/api/templates/greeter").status_code == 404


def test_whose_template_it_is(gateway: InProcess) -> None:
    make(gateway)
    assert listed(gateway, "bob") == []
    assert run(gateway, user="bob", parameters={"who": "x"}).status_code == 422
    assert gateway.call("DELETE", "/api/templates/greeter", user="bob").status_code == 404
    assert gateway.call("POST", "/api/templates", json={**GREETER, "shared": True}, user="bob").status_code == 403
    make(gateway, "carol", shared=True, description="carol's")
    assert output(gateway, run(gateway, user="bob", parameters={"who": "bob"}), "bob") == "hello, bob!\n1\n"
    [shared] = listed(gateway, "bob")
    assert (shared["shared"], shared["description"]) == (True, "carol's")
    [own] = listed(gateway)
    assert own["description"] == "says hello"


def test_templates_of_a_plugin(world: World, tmp_path: Path) -> None:
    class Bringer:
        @hookimpl
        def register_templates(self):
            return [GREETER]

    plugins = load_plugins()
    plugins.manager.register(Bringer())
    with InProcess(world, tmp_path, plugins=plugins) as gateway:
        [brought] = listed(gateway)
        assert (brought["owner"], brought["shared"]) == (None, True)
        assert output(gateway, run(gateway, parameters={"who": "you"})) == "hello, you!\n1\n"
        assert gateway.call("DELETE", "/api/templates/greeter").status_code == 404


def test_a_plugins_bad_template(world: World, tmp_path: Path) -> None:
    class Bringer:
        @hookimpl
        def register_templates(self):
            return [{"name": "bad"}]

    plugins = load_plugins()
    plugins.manager.register(Bringer())
    with pytest.raises(ConfigError, match="bad"):
        InProcess(world, tmp_path, plugins=plugins)


def test_workspaces(gateway: InProcess) -> None:
    make(
        gateway,
        script='#!/bin/sh\necho "{{ where }}"\necho "$MORE"\n',
        parameters={"where": {"type": "path", "default": "x"}},
        environment={"MORE": "$(APP_WORKSPACE)/tool"},
        extended_properties={"a": [{"b": "$(USER_WORKSPACE)/x"}]},
    )
    answer = run(gateway, parameters={"where": "$(USER_WORKSPACE)/in"})
    user, app = output(gateway, answer).split()
    assert user.startswith("/")
    assert user.endswith("/in")
    assert app.startswith("/")
    assert answer.get_json()["extended_properties"] == {"a": [{"b": user.replace("/in", "/x")}]}


def test_a_path_is_no_option(gateway: InProcess) -> None:
    make(gateway, script='#!/bin/sh\ncat "{{ where }}"\n', parameters={"where": {"type": "path"}})
    for wrong in ("-rf", "", 7):
        assert run(gateway, parameters={"where": wrong}).status_code == 422


@pytest.fixture
def corpus(gateway: InProcess) -> Path:
    """A subtree of 30 XML files with nasty names, and others."""
    folder = gateway.folder / "corpus"
    for language in ("en", "sv"):
        (folder / language).mkdir(parents=True)
        for number in range(15):
            (folder / language / f"{number} $(touch pwned) 'x' \"y\".xml").write_text(f"{language} {number}")
    (folder / "README").write_text("no XML")
    return folder


@pytest.mark.parametrize("interpreter", ["/bin/sh", "/usr/bin/env python3"])
def test_once_per_file(gateway: InProcess, corpus: Path, interpreter: str) -> None:
    script = {
        "/bin/sh": 'cat "$JOBGATE_FILE"; echo " {{ word }} $JOBGATE_TASK_ID"\n',
        "/usr/bin/env python3": (
            "from os import environ\nprint(open(environ['JOBGATE_FILE']).read(), environ['JOBGATE_PARAM_word'])\n"
        ),
    }[interpreter]
    make(gateway, script=f"#!{interpreter}\n{script}", parameters={"word": {"default": "seen"}})
    answer = run(gateway, files={"path": "corpus", "pattern": "*.xml"}, working_directory=str(corpus.parent))
    assert answer.status_code == 201, answer.text
    job = answer.get_json()
    assert job["count"] == 30
    assert gateway.ended(job["uuid"])["status"] == "FINISHED"
    texts = set()
    for number in range(1, 31):
        log = gateway.call("GET", f"/api/jobs/{job['uuid']}/tasks/{number}/stdout").text
        texts.add(" ".join(log.split()[:3]))
    assert texts == {f"{language} {number} seen" for language in ("en", "sv") for number in range(15)}
    assert not (corpus.parent / "pwned").exists()


def test_files_that_are_not_there(gateway: InProcess, corpus: Path) -> None:
    make(gateway, parameters={}, script="#!/bin/sh\ntrue\n")
    work = str(corpus.parent)
    assert run(gateway, files={"path": "corpus", "pattern": "*.pdf"}, working_directory=work).status_code == 422
    assert run(gateway, files="nowhere", working_directory=work).status_code in (404, 422)
    assert run(gateway, files="corpus", array="1-3", working_directory=work).status_code == 422
    assert run(gateway, files="corpus", working_directory=work).get_json()["count"] == 31
    assert len(gateway.call("GET", "/api/jobs").get_json()) == 1


def test_a_run_over_files_can_be_repeated(gateway: InProcess, corpus: Path) -> None:
    make(gateway, parameters={}, script='#!/bin/sh\ntest -f "$JOBGATE_FILE"\n')
    body = {"template": "greeter", "files": str(corpus)}
    first, again = (gateway.call("POST", "/api/jobs", json=body, headers={"Idempotency-Key": "k"}) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 200)
    job = gateway.ended(first.get_json()["uuid"])
    assert job["status"] == "FINISHED"
    new = gateway.call("PUT", f"/api/jobs/{job['uuid']}", json={"action": "resubmit"}).get_json()
    assert new["template"] == "greeter"
    assert gateway.ended(new["uuid"])["status"] == "FINISHED"


def test_in_bulk_and_as_a_draft(gateway: InProcess) -> None:
    make(gateway)
    items = [{"template": "greeter", "parameters": {"who": "a"}}, {"template": "greeter"}]
    good, bad = gateway.call("POST", "/api/jobs/bulk", json=items).get_json()
    assert (good["template"], bad["status_code"]) == ("greeter", 422)
    draft = run(gateway, parameters={"who": "a"}, draft=True).get_json()
    executed = gateway.call("PUT", f"/api/jobs/{draft['uuid']}", json={"action": "execute"})
    assert output(gateway, executed) == "hello, a!\n1\n"


def test_rendering() -> None:
    assert rendered("#!/bin/sh\n{{a}} {{ b_1 }} {{ 1 }} {{}}") == (
        "#!/bin/sh\n${JOBGATE_PARAM_a} ${JOBGATE_PARAM_b_1} {{ 1 }} {{}}"
    )
    for first in ("#!/bin/bash", "#!/usr/bin/env bash", "#! /bin/sh -e", "#!/usr/bin/env -S dash"):
        check_script(f"{first}\n{{{{ a }}}}", ["a"])
    script = over_files("#!/bin/sh\n#SBATCH -p short\ntrue", ["/a b"])
    assert script.splitlines()[1] == "#SBATCH -p short"
    assert shlex.quote("/a b") not in script
