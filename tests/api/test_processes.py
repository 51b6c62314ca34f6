"""Short commands over HTTP, on this machine; tests/test_clusters.py has them over ssh."""

import json
import os
import time
from pathlib import Path

import pytest

from tests.gateways import InProcess, World, error, until


def run(gateway: InProcess, command: str, **more: str):
    return gateway.call("POST", "/api/process", json={"host": "localhost", "command": command, **more})


def test_the_seeds_shape(gateway: InProcess) -> None:
    answer = run(gateway, "echo out; echo err >&2; exit 3")
    assert answer.status_code == 200
    assert answer.get_json() == {
        "status": "OK",
        "exit_code": 3,
        "standard_output": "out\n",
        "error_output": "err\n",
        "error_message": None,
    }


def test_where_it_runs(gateway: InProcess, tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    assert run(gateway, "pwd", working_directory=str(folder)).get_json()["standard_output"] == f"{folder}\n"
    assert run(gateway, "pwd").get_json()["standard_output"].endswith("/home/ann\n")
    assert run(gateway, "pwd", account="ann2").get_json()["standard_output"].endswith("/home/ann2\n")


def test_quotes_and_lines_arrive(gateway: InProcess) -> None:
    command = "printf '%s|' \"it's\" '$HOME'\nprintf '%s' \"$(echo 'a b' | tr a c)\""
    assert run(gateway, command).get_json()["standard_output"] == "it's|$HOME|c b"


def test_it_cannot_enter(gateway: InProcess, tmp_path: Path) -> None:
    answer = run(gateway, "touch ran", working_directory=str(tmp_path / "missing"))
    assert answer.status_code == 422
    assert "working_directory" in error(answer)["errors"]
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def hasty(world: World, tmp_path: Path):
    with InProcess(world, tmp_path, host="process_timeout = 1") as gateway:
        yield gateway


def test_too_long(hasty: InProcess) -> None:
    began = time.monotonic()
    answer = run(hasty, "echo $$; echo err >&2; trap '' TERM; sleep 600; sleep 600")
    said = error(answer)
    assert time.monotonic() - began < 5
    assert (answer.status_code, said["code"], said["exit_code"], said["error_output"]) == (408, "timeout", -1, "err\n")
    until(lambda: not _alive(int(said["standard_output"])))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_too_much_output(hasty: InProcess) -> None:
    said = error(run(hasty, "yes"))
    assert said["standard_output"].startswith("y\ny\n")
    assert said["standard_output"].endswith("y\n[jobgate: cut after 1048576 bytes]\n")
    answer = run(hasty, "head -c 2000000 /dev/zero | tr '\\0' x >&2").get_json()
    assert len(answer["error_output"]) == 1048576 + len("\n[jobgate: cut after 1048576 bytes]\n")


def test_switched_off(world: World, tmp_path: Path) -> None:
    with InProcess(world, tmp_path, host="process = false") as gateway:
        answer = run(gateway, "touch ran")
        assert (answer.status_code, error(answer)["code"]) == (403, "process_off")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"command": "true"}, 422),
        ({"host": "localhost"}, 422),
        ({"host": "localhost", "command": " "}, 422),
        ({"host": "localhost", "command": "a\0b"}, 422),
        ({"host": "localhost", "command": "x" * 100_001}, 422),
        ({"host": "localhost", "command": "true", "working_directory": "here"}, 422),
        ({"host": "nowhere", "command": "true"}, 422),
        ({"host": "localhost", "command": "true", "account": "bob"}, 403),
    ],
)
def test_what_is_refused(gateway: InProcess, body: dict, status: int) -> None:
    answer = gateway.call("POST", "/api/process", json=body)
    assert answer.status_code == status
    error(answer)


def test_without_a_proxy(gateway: InProcess) -> None:
    assert (
        gateway.call("POST", "/api/process", json={"host": "localhost", "command": "true"}, user=None).status_code
        == 401
    )


def test_it_is_audited(gateway: InProcess) -> None:
    run(gateway, "echo hello")
    line = json.loads((gateway.folder / "state" / "audit.log").read_text().splitlines()[-1])
    assert (line["action"], line["to"], line["command"], line["result"]) == ("process", "localhost", "echo hello", "ok")
