"""jman --local: the application in the process itself, over a file in the folder."""

import os
import re
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.client import terminal as terminals
from tests.client.typed import Typed
from tests.gateways import until


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Typed:
    return Typed(tmp_path / "here", monkeypatch, "--local", GREETING="hello")


def states(here: Typed) -> dict[int, str]:
    return {job["number"]: job["state"] for job in here.json("list")}


def test_jobs_are_collected_and_run_with_the_environment_of_who_runs_them(
    here: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        assert here.submit("-s", "OWN=1", "--", "sh", "-c", 'echo "$GREETING $OWN $JOB_ID $SGE_TASK_ID $HOME"') in "12"
    assert states(here) == {1: "draft", 2: "draft"}
    assert {"submitted.sql3"} <= here.files
    monkeypatch.setenv("GREETING", "bye")
    here.jman("execute", "-p", "2")
    assert states(here) == {1: "finished", 2: "finished"}
    assert here.jman("logs", "1", "2") == f"bye 1 1  {here.folder}\nbye 1 2  {here.folder}\n"


def test_what_waits_runs_behind_what_it_waits_for(here: Typed) -> None:
    order = here.folder / "order"
    for number, waits in enumerate(([], ["-x", "1"], ["-x", "2"], ["-x", "1-3"])):
        here.submit(*waits, "--", "sh", "-c", f"sleep 0.1; echo {number} >> {order}")
    never = here.submit("-k", "-x", here.submit("false"), "true")
    here.jman("x", "--parallel", "4", code=1)
    assert order.read_text().split() == ["0", "1", "2", "3"]
    assert states(here)[int(never)] == "cancelled"
    assert "can never start" in here.jman("why", "-j", never)


def test_only_those_that_are_named(here: Typed) -> None:
    here.submit("true")
    here.submit("-x", "1", "true")
    here.submit("true")
    code, _, told = here.run("execute", "-j", "2-3")
    assert code == 0
    assert told.startswith("not run, since it waits for jobs that were not to be executed: 2 @localhost")
    assert states(here) == {1: "draft", 2: "draft", 3: "finished"}
    assert "there is no job 9" in here.refused("execute", "-j", "9")


def test_tasks_of_an_array(here: Typed) -> None:
    here.submit("-t", "1-5:2", "--log-dir", "logs", "--", "sh", "-c", 'echo "$JOB_ID.$SGE_TASK_ID"')
    here.jman("run-scheduler", "--parallel", "2", "--die-when-finished")
    assert sorted(path.name for path in (here.folder / "logs").iterdir() if ".o" in path.name) == [
        "sh.o1.1",
        "sh.o1.3",
        "sh.o1.5",
    ]
    assert (here.folder / "logs" / "sh.o1.3").read_text() == "1.3\n"


def test_no_more_at_a_time_than_was_said(here: Typed) -> None:
    running = here.folder / "running"
    running.mkdir()
    script = f"touch {running}/$$; ls {running} | wc -l; sleep 0.3; rm {running}/$$"
    for _ in range(6):
        here.submit("--", "sh", "-c", script)
    here.jman("execute", "--parallel", "2")
    seen = [int(here.jman("logs", str(number))) for number in range(1, 7)]
    assert max(seen) == 2


def test_a_number_stays_on_resubmission(here: Typed) -> None:
    here.submit("false")
    here.submit("-x", "1", "-k", "true")
    here.jman("execute", code=1)
    assert here.jman("resubmit").count("Re-submitted job ") == 2
    assert states(here) == {1: "draft", 2: "draft"}
    (here.folder / "bin").mkdir()
    here.jman("execute", code=1)
    assert [job["number"] for job in here.json("list")] == [1, 2]
    assert here.submit("true") == "3"


def test_output_goes_to_the_terminal_and_stays_there_to_be_read(here: Typed, tmp_path: Path) -> None:
    here.submit("--", "sh", "-c", "echo out; echo err >&2")
    here.submit("--log-dir", "logs", "--", "echo", "into the log")
    terminal = terminals.local(here.folder)
    assert terminal.run("execute") == (0, "out\n", "err\n")
    assert here.jman("logs", "1") == "out\n"
    here.jman("resubmit", "-s", "--clean")
    assert terminal.run("execute", "--no-log-files")[1].splitlines() == ["out", "into the log"]
    assert not (here.folder / "logs" / "echo.o2").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_what_runs_and_leaves_the_rest_collected(here: Typed, number: signal.Signals) -> None:
    for _ in range(6):
        here.submit("sleep", "600")
    terminal = terminals.local(here.folder)
    process = terminal.start("execute", "--parallel", "2")
    until(lambda: [job["status"] for job in here.json("list")].count("RUNNING") == 2)
    assert "are being executed already" in here.refused("execute", code=2)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopping the jobs that run; the rest stays collected" in err
    assert "Traceback" not in err
    assert states(here) == {1: "cancelled", 2: "cancelled", 3: "draft", 4: "draft", 5: "draft", 6: "draft"}


def test_a_job_is_stopped_from_another_terminal(here: Typed) -> None:
    here.submit("sleep", "600")
    here.submit("true")
    process = terminals.local(here.folder).start("execute", "-p", "2")
    until(lambda: here.json("list")[0]["status"] == "RUNNING")
    assert here.jman("stop", "-j", "1").startswith("Stopped 1 @")
    assert process.wait(60) == 1
    assert states(here) == {1: "cancelled", 2: "finished"}


def test_whoever_executes_may_be_killed(here: Typed) -> None:
    here.submit("sleep", "0.5")
    here.submit("-x", "1", "true")
    process = terminals.local(here.folder).start("execute")
    until(lambda: here.json("list")[0]["status"] == "RUNNING")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    until(lambda: states(here)[1] == "finished")  # whoever looks next learns it
    here.jman("execute")
    assert states(here) == {1: "finished", 2: "finished"}


def test_stay_and_wait_for_more(here: Typed) -> None:
    here.submit("true")
    process = terminals.local(here.folder).start("execute", "--stay", "--sleep-time", "0.1")
    until(lambda: states(here)[1] == "finished")
    here.submit("true")
    here.jman("wait")
    assert states(here) == {1: "finished", 2: "finished"}
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130


def test_waiting_where_nobody_executes(here: Typed) -> None:
    here.submit("true")
    assert "run them with `jman --local execute`" in here.refused("wait")


def test_the_database_goes_with_the_last_job(here: Typed) -> None:
    here.submit("--log-dir", "logs", "true")
    here.submit("true")
    here.jman("execute")
    here.jman("delete", "-j", "1")
    assert {"submitted.sql3", ".submitted.sql3.d"} <= here.files
    assert "logs" not in here.files
    here.jman("delete")
    assert here.files == set()


def test_a_dry_run_and_a_list_leave_nothing_behind(here: Typed) -> None:
    assert here.jman("submit", "-z", "myscript.py").startswith("Would submit @")
    assert here.run("list") == (0, "", "no jobs were submitted from this folder\n")
    assert here.run("execute")[0] == 0
    assert here.files == set()


def test_another_database(here: Typed) -> None:
    other = Typed.__new__(Typed)
    other.__dict__ = {**here.__dict__, "before": ("-l", "-d", "other.sql3")}
    assert other.submit("true") == "1"
    assert here.json("list") == []
    other.jman("execute")
    other.jman("delete")
    assert here.files == set()


def test_others_cannot_read_what_is_kept_beside_it(here: Typed) -> None:
    here.submit("true")
    assert stat.S_IMODE((here.folder / ".submitted.sql3.d").stat().st_mode) & 0o077 == 0


def garbage(file: Path) -> None:
    file.write_bytes(os.urandom(8192))


def cut(file: Path) -> None:
    with file.open("r+b") as content:
        content.truncate(9000)


def overwritten(file: Path) -> None:
    with file.open("r+b") as content:
        content.seek(4096)
        content.write(b"x" * 8192)


def of_another_program(file: Path) -> None:
    file.unlink()
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE Job (id INTEGER)")
    connection.close()


def of_the_future(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()


@pytest.mark.parametrize("spoil", [garbage, cut, overwritten, of_another_program, of_the_future])
def test_a_database_that_is_broken_is_said_so_and_left_untouched(here: Typed, spoil: object) -> None:
    here.submit("true")
    file = here.folder / "submitted.sql3"
    spoil(file)  # type: ignore[operator]
    before = file.read_bytes()
    for command in (["list"], ["submit", "true"], ["execute"], ["delete"]):
        words = here.refused(*command, code=2)
        assert words.startswith("jman: ")
        assert re.search(r"submitted\.sql3 (is|was made)", words), words
    assert file.read_bytes() == before


def test_a_folder_that_cannot_be_written(here: Typed) -> None:
    assert "cannot be made" in here.refused("-d", "/proc/x.sql3", "submit", "true", code=2)


def test_on_a_terminal_there_is_a_bar_and_the_output_is_whole(here: Typed) -> None:
    for number in range(3):
        here.submit("--", "sh", "-c", f"echo begin {number}; sleep 0.3; echo end {number}")
    script = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
    command = [sys.executable, "-c", script, str(terminals.JMAN), "--local", "execute", "--parallel", "2"]
    environment = {**terminals.local(here.folder).environment, "TERM": "xterm"}
    done = subprocess.run(
        command, cwd=here.folder, env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", done.stdout)
    lines = [line.rpartition("\r")[2] for line in plain.replace("\r\n", "\n").splitlines()]
    for number in range(3):
        assert {f"begin {number}", f"end {number}"} <= {*lines}
    assert "running" in plain
