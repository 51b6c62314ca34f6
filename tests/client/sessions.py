"""The sessions of gridtk-jman, from top to bottom: each command as the document writes it."""

import re

from tests.client.terminal import Terminal

SUBMITTED = re.compile(r"Submitted (\d+) @\S+ \(\d+ seconds? ago\) -S \S*python\S* myscript\.py (.*)\n")


def submitted(printed: str, arguments: str = "--help") -> str:
    """The id in such a line."""
    read = SUBMITTED.fullmatch(printed)
    assert read, printed
    assert read[2] == arguments
    return read[1]


def follow(terminal: Terminal) -> None:
    """`Submitting jobs to the SGE grid` up to `Cleaning-up`, on whatever host the terminal's jobs go to."""
    first = submitted(terminal.jman("submit", "myscript.py", "--help"))
    assert "submitted.sql3" in terminal.files

    array = submitted(terminal.jman("submit", "-t", "3", "myscript.py", "--help"))
    dependent = submitted(terminal.jman("submit", "--dependencies", first, "myscript.py", "--help"))
    failing = submitted(terminal.jman("submit", "myscript.py", "fail"), "fail")

    listed = terminal.jman("list").splitlines()
    assert re.fullmatch(r"  job-id +queue +age +status +arguments", listed[0])
    assert re.fullmatch(r"  =+(  =+)+", listed[1])
    assert [line.split()[0] for line in listed[2:]] == [first, array, dependent, failing]
    assert listed[2].endswith("myscript.py --help")

    code, _, told = terminal.run("wait")
    assert code == 1
    assert told.startswith(f"failure (1): {failing} @")
    jobs = {job["job_id"].split(".")[0]: job for job in terminal.json("list")}
    assert [jobs[number]["state"] for number in (first, array, dependent)] == ["finished"] * 3
    assert jobs[dependent]["start_time"] >= jobs[first]["end_time"]

    report = without_undefined(terminal.jman("report"))
    assert f"{first} stdout ({jobs[first]['stdout_file']})\narguments ['--help'] task None\n" in without_undefined(
        report
    )
    for task in (1, 2, 3):
        assert f"\n{array}.{task} stdout (" in report
        assert f"arguments ['--help'] task {task}\n" in report

    report = terminal.jman("report", "--errors-only")
    assert report.startswith(f"Job {failing} @")
    assert f"\n{failing} stderr ({jobs[failing]['stderr_file']})\nTraceback of a kind\n" in report
    assert "Command line: (['-S', '" in report
    assert first not in re.findall(r"^Job (\d+)", report, re.MULTILINE)

    again = terminal.jman("resubmit", "--clean")
    name = f"logs/myscript.py.{{}}{failing}"
    new = re.fullmatch(
        rf"Re-submitted job (\d+) @\S+ \(\d+ seconds? ago\) -S \S+ myscript.py fail\n"
        rf"  removed `{name.format('o')}'\n  removed `{name.format('e')}'\n  deleted job {failing} from database\n",
        again,
    )
    assert new, again
    assert new[1] != failing

    terminal.jman("stop")
    terminal.run("wait")
    gone = terminal.jman("delete")
    assert f"  removed `logs/myscript.py.o{first}'\n  removed `logs/myscript.py.e{first}'\n" in gone
    for number in (first, array, dependent, new[1]):
        assert f"  deleted job {number} from database\n" in gone
    assert terminal.files == set()


def without_undefined(report: str) -> str:
    """Grid Engine sets SGE_TASK_ID outside arrays too (8.1.9)."""
    return report.replace("task undefined", "task None")
