"""The sessions of gridtk-jman, remote and local."""

import re
from pathlib import Path

from tests.client import sessions
from tests.client.terminal import at, local
from tests.gateways import Server


def test_at_a_gateway(server: Server, tmp_path: Path) -> None:
    sessions.follow(at(server, tmp_path / "here"))


def test_on_the_local_machine(tmp_path: Path) -> None:
    terminal = local(tmp_path / "here")
    assert sessions.submitted(terminal.jman("submit", "myscript.py", "--help")) == "1"
    assert sessions.submitted(terminal.jman("submit", "--log-dir", "logs", "myscript.py", "--help")) == "2"
    assert sessions.submitted(terminal.jman("submit", "-t", "2", "myscript.py", "array"), "array") == "3"
    assert sessions.submitted(terminal.jman("submit", "--dependencies", "1", "myscript.py", "fail"), "fail") == "4"
    assert [job["state"] for job in terminal.json("list")] == ["draft"] * 4  # collected, not run

    code, out, err = terminal.run("execute", "--parallel", "4")
    assert code == 1
    assert sorted(out.splitlines()) == [
        "arguments ['--help'] task None",
        "arguments ['array'] task 1",
        "arguments ['array'] task 2",
        "arguments ['fail'] task None",
    ]
    assert "Traceback of a kind\n" in err
    assert err.rstrip().splitlines()[-1].startswith("failure (1): 4 @localhost")
    assert (terminal.folder / "logs" / "myscript.py.o2").read_text() == "arguments ['--help'] task None\n"

    again = terminal.jman("resubmit", "--clean")
    assert re.match(r"Re-submitted job 4 @localhost \(.* ago\) -S \S+ myscript.py fail\n  removed `", again)
    assert [(job["number"], job["state"]) for job in terminal.json("list", "-j", "4")] == [(4, "draft")]
    assert terminal.run("execute")[0] == 1

    gone = terminal.jman("delete")
    assert "  removed `logs/myscript.py.o2'\n  removed `logs/myscript.py.e2'\n  deleted job 2 from database\n" in gone
    assert terminal.files == set()
