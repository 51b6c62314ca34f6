"""jman at a gateway: its options, of both generations of the tool, and what it says."""

import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.testing.certificates import Authority
from tests.client.terminal import BIN
from tests.client.terminal import at as terminal_at
from tests.client.typed import Typed, at
from tests.gateways import Server


@pytest.fixture
def ann(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Typed:
    return at(server, tmp_path / "here", monkeypatch)


def test_any_command_of_the_hosts(ann: Typed) -> None:
    line = ann.jman("submit", "echo", "a  b", "$HOME", "-n")
    assert re.fullmatch(r"Submitted \d+ @localhost \(\d+ seconds? ago\) echo a  b \$HOME -n\n", line)
    number = line.split()[1]
    assert ann.jman("wait", "-j", number) == ""
    assert ann.jman("logs", number) == "a  b $HOME -n\n"


def test_a_script_of_this_folder_goes_along(ann: Typed) -> None:
    (ann.folder / "run me.sh").write_text("#!/bin/sh\nprintf '%s|' \"$@\"\nexit 4")
    number = ann.submit("./run me.sh", "a b", "'")
    ann.jman("wait", "-j", number, code=1)
    assert ann.jman("logs", number) == "a b|'|"
    assert ann.json("list", "-j", number)[0]["exit_code"] == 4


def test_a_script_is_submitted_once_more_as_it_is_now(ann: Typed) -> None:
    number = ann.submit("-S", sys.executable, "myscript.py", "fail")
    ann.jman("wait", code=1)
    (ann.folder / "myscript.py").write_text("import sys\nprint('mended', sys.argv[1])\n")
    assert ann.jman("re", "-j", number).startswith("Re-submitted job ")
    ann.jman("wait")
    assert ann.jman("logs", ann.jman("ls", "-o").strip()) == "mended fail\n"


def test_the_options_of_a_submit(ann: Typed) -> None:
    options = ["-p", "2", "-n", "named", "-d", str(ann.folder), "-l", "my logs", "-s", "A=1 2", "B=3", "--tag", "t"]
    asked = ann.json("submit", *options, "--wall-time", "60", "-t", "2-6:2", "sh", "-c", "echo $A $B $SGE_TASK_ID")[0]
    assert (asked["name"], asked["array"], asked["tag"]) == ("named", "2-6:2", "t")
    assert asked["working_directory"] == str(ann.folder)
    ann.jman("wait")
    number = asked["job_id"].split(".")[0]
    assert (ann.folder / "my logs" / f"named.o{number}.4").read_text() == "1 2 3 4\n"
    assert ann.jman("logs", number, "--task", "6") == "1 2 3 6\n"
    assert ann.json("logs", number)[0]["2/stdout"] == "1 2 3 2\n"
    listed = ann.jman("list", "-a")
    assert f"  {number}.4 " in listed


def test_dependencies_of_both_generations(ann: Typed) -> None:
    first, second = ann.submit("false"), ann.submit("true")
    waits = [
        ann.json("submit", "--dependencies", first, second, "myscript.py", "--help"),  # as the seed, without `--`
        ann.json("submit", "-x", f"{first},{second}", "--", "myscript.py"),
        ann.json("submit", "-x", first, "-x", second, "myscript.py"),
        ann.json("submit", "-x", f"{first}+1", "myscript.py"),
    ]
    numbers = {job["uuid"] for job in ann.json("list", "-j", first, second)}
    for (job,) in waits:
        assert {each["job_id"] for each in job["dependencies"]} == numbers
        assert {each["type"] for each in job["dependencies"]} == {"afterany"}
    (never,) = ann.json("submit", "-k", "-x", first, "myscript.py")
    ann.jman("wait", code=1)
    states = {job["uuid"]: job["state"] for job in ann.json("list")}
    assert states[never["uuid"]] == "cancelled"
    assert {states[job["uuid"]] for (job,) in waits} == {"finished"}


def test_so_many_times_one_after_the_other(ann: Typed) -> None:
    jobs = ann.json("submit", "-r", "3", "true")
    assert [[each["job_id"] for each in job["dependencies"]] for job in jobs] == [
        [],
        [jobs[0]["uuid"]],
        [jobs[1]["uuid"]],
    ]


def test_a_dry_run_leaves_nothing_behind(ann: Typed) -> None:
    assert ann.jman("submit", "-z", "-q", "all.q", "myscript.py", "x").startswith("Would submit @all.q -S ")
    assert ann.files == set()
    assert ann.json("list", "--all", "-n", "myscript.py") == [] or "x" not in ann.jman("list")


def test_a_bundle(ann: Typed) -> None:
    (ann.folder / "run.sh").write_text('#!/bin/sh\ncat "$JOBGATE_INPUT/words"; echo "$@"\n')
    (ann.folder / "run.sh").chmod(0o755)
    (ann.folder / "words").write_text("to be\n")
    subprocess.run(["tar", "-czf", "b.tgz", "run.sh"], cwd=ann.folder, check=True)
    number = ann.submit("--bundle", "b.tgz", "--input", "words", "or", "--not")
    ann.jman("wait")
    assert ann.jman("logs", number) == "to be\nor --not\n"


def test_what_a_list_shows(ann: Typed) -> None:
    good, bad = ann.submit("-n", "good", "true"), ann.submit("-n", "bad", "sh", "-c", "exit 3")
    held = ann.submit("-x", ann.submit("-n", "long", "sleep", "600"), "-n", "held", "true")
    ann.jman("wait", "-j", good, bad, code=1)
    assert ann.jman("ls", "--ids-only", "-n", "good", "bad").split() == [good, bad]
    assert ann.jman("list", "-o", "-s", "failure").split() == [bad]
    assert ann.jman("list", "-o", "-s", "waiting").split() == [held]
    in_full = ann.jman("list", "-l", "-j", bad, held).splitlines()
    assert in_full[0].split() == [
        *("job-id", "queue", "age", "status", "name", "array", "exit", "submitted", "began", "ended", "waits-for"),
        "arguments",
    ]
    assert "failure (3)" in in_full[2]
    assert " waiting " in in_full[3]
    assert "\x1b" not in ann.jman("list")
    assert ann.jman("stop").count("Stopped ") == 2
    ann.jman("wait", "-n", "long", "held", code=1)
    assert [job["status"] for job in ann.json("list", "-n", "long", "held")] == ["ABORTED", "ABORTED"]


def test_what_waits_for_a_job_goes_with_it(ann: Typed) -> None:
    first = ann.submit("sleep", "600")
    second = ann.submit("-x", first, "true")
    third = ann.submit("-x", second, "true")
    other = ann.submit("true")
    gone = ann.jman("rm", "-j", first, "--dependents")
    assert re.findall(r"deleted job (\S+) from", gone) == [third, second, first]
    assert [job["job_id"].split(".")[0] for job in ann.json("list")] == [other]


def test_logs_are_kept_where_that_is_asked_for(ann: Typed) -> None:
    job = ann.json("submit", "-d", str(ann.folder), "false")[0]
    ann.jman("wait", code=1)
    log = ann.folder / "logs" / f"false.o{job['job_id'].split('.')[0]}"
    assert "removed" not in ann.jman("resubmit", "-k")
    assert log.exists()
    ann.jman("wait", code=1)
    assert "removed" not in ann.jman("delete", "--keep-logs")
    assert log.exists()


def test_only_tasks_are_stopped(ann: Typed) -> None:
    number = ann.submit("-t", "1-2", "sleep", "600")
    ann.jman("delete", "-j", number, "-a", "2")
    assert ann.json("list", "-j", number)[0]["tasks"]["total"] == 2
    ann.jman("delete", "-j", number)


def test_a_log_is_followed_until_the_job_ends(ann: Typed) -> None:
    number = ann.submit("sh", "-c", "for n in 1 2; do echo step $n; sleep 0.3; done; echo oops >&2")
    assert ann.jman("logs", "-f", number) == "step 1\nstep 2\n"
    assert ann.jman("logs", "--stderr", number) == "oops\n"
    assert ann.jman("logs", "--tail", "1", number) == "step 2\n"
    array = ann.submit("-t", "2", "sh", "-c", "sleep 0.3; echo $SGE_TASK_ID")
    assert ann.jman("logs", "-f", "--task", "2", array) == "2\n"
    assert "say which task with --task" in ann.refused("logs", array, code=2)


def test_hosts(ann: Typed) -> None:
    assert re.search(r"localhost \(default\) +local +ok", ann.jman("hosts"))
    assert ann.json("hosts")[0]["backend"] == "local"
    assert ann.json("--host", "zeus.cyfronet.pl", "submit", "true")[0]["host"] == "localhost"


def test_a_folder_has_its_own_jobs(ann: Typed, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    number = ann.submit("true")
    ann.jman("wait")
    elsewhere = at(server, tmp_path / "elsewhere", monkeypatch)
    code, out, err = elsewhere.run("delete")
    assert (code, out, err) == (0, "", "no jobs were submitted from this folder\n")
    assert number in elsewhere.jman("list", "-o").split()  # where none were, all are shown
    other = elsewhere.submit("true")
    assert elsewhere.jman("list", "-o").split() == [other]
    assert number in elsewhere.jman("list", "-o", "--all").split()
    assert f"deleted job {number} from" in elsewhere.jman("delete", "-j", number)


def test_each_name_of_a_job(ann: Typed) -> None:
    (job,) = ann.json("submit", "true")
    for name in (job["job_id"], job["uuid"], job["uuid"][:8], job["job_id"].split(".")[0]):
        assert [found["uuid"] for found in ann.json("list", "-j", name)] == [job["uuid"]], name


def test_completion(ann: Typed) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert "_JMAN_COMPLETE" in ann.jman("completion", shell)
    environment = {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(ann.folder)}
    typed = "COMP_WORDS=(jman res); COMP_CWORD=1; _jman_completion jman"
    script = f'eval "$(jman completion bash)"; {typed}; echo "${{COMPREPLY[@]}}"'
    done = subprocess.run(
        ["bash", "-c", script], env=environment, cwd=ann.folder, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["resubmit"]


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["submit"], "say what to submit"),
        (["submit", "nothing.py"], "nothing.py cannot be read: No such file"),
        (["submit", "folder.py"], "folder.py cannot be read: Is a directory"),
        (["submit", "binary.py"], "binary.py is no text in UTF-8"),
        (["submit", "-t", "x", "true"], 'must look like "1-10"'),
        (["submit", "-t", "0", "true"], "a task's number is 1 or more"),
        (["submit", "-t", "5-1", "true"], "a range goes upwards"),
        (["submit", "-m", "much", "true"], "'much' is no size"),
        (["submit", "-s", "A", "true"], "'A' is no NAME=value"),
        (["submit", "-x", "x", "true"], "'x' is no job's id"),
        (["submit", "--colour", "true"], "No such option"),
        (["submit", "-i", "true"], "--io-big is a resource of Grid Engine; localhost is under local"),
        (["list", "-j", "4-1"], "goes downwards"),
        (["list", "-j", "1-99999999999"], "goes downwards, or too far"),
        (["list", "-j", ""], "is no job's id"),
        (["list", "-s", "happy"], "'happy' is not one of"),
        (["execute"], "a gateway's jobs run by themselves"),
        (["nothing"], "No such command 'nothing'"),
        (["logs"], "Missing argument"),
    ],
)
def test_usage(ann: Typed, arguments: list[str], words: str) -> None:
    (ann.folder / "folder.py").mkdir()
    (ann.folder / "binary.py").write_bytes(b"\xff\xfe")
    assert words in ann.refused(*arguments, code=2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["list", "-j", "99999"], "there is no job 99999"),
        (["stop", "-j", "99999"], "there is no job 99999"),
        (["submit", "-x", "99999", "true"], "there is no job 99999"),
        (["logs", "99999"], "there is no job 99999"),
        (["--host", "nowhere", "submit", "true"], "'nowhere' is not a host of this gateway; it has: localhost"),
        (["submit", "-q", "fast", "true"], "queue cannot be honoured by localhost"),
        (["submit", "-d", "/proc/x", "true"], "working_directory"),
        (["submit", "--account", "root", "true"], "may not use the account 'root'"),
    ],
)
def test_what_the_gateway_refuses(ann: Typed, arguments: list[str], words: str) -> None:
    assert words in ann.refused(*arguments)
    assert ann.files == set()


def test_no_gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = Typed(tmp_path / "here", monkeypatch, X509_USER_PROXY="/nowhere")
    assert "which gateway? Set JOBGATE_URL" in nobody.refused("list", code=2)
    assert "is no gateway's address" in nobody.refused("--url", "gateway", "list", code=2)
    assert "there is no proxy certificate: /nowhere" in nobody.refused("--url", "http://127.0.0.1:9", "list")


def test_a_gateway_that_does_not_answer(ann: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.client.jman.session.PATIENCE", 0.0)
    assert "http://127.0.0.1:9 cannot be reached" in ann.refused("--url", "http://127.0.0.1:9", "hosts")


def test_an_expired_proxy(ann: Typed) -> None:
    past = datetime.now(UTC) - timedelta(hours=1)
    user = Authority.create("/C=PL/O=X/CN=CA").issue("/C=PL/O=X/CN=Ann")
    proxy = user.proxy(not_before=past - timedelta(hours=1), not_after=past)
    (ann.folder / "proxy.pem").write_bytes(proxy.pem())
    assert "renew it with `grid-proxy-init`" in ann.refused("list")


def test_a_proxy_that_the_gateway_does_not_know(ann: Typed) -> None:
    stranger = Authority.create("/C=PL/O=Y/CN=CA").issue("/C=PL/O=Y/CN=Eve").proxy()
    (ann.folder / "proxy.pem").write_bytes(stranger.pem())
    assert ann.refused("list").startswith("jman: ")


def test_a_record_that_is_broken_is_left_as_it_is(ann: Typed) -> None:
    file = ann.folder / "submitted.sql3"
    file.write_text("not a database, but long enough to look at " * 100)
    before = file.read_bytes()
    assert "submitted.sql3 is no database of jman, or a broken one" in ann.refused("list", code=2)
    assert "left as it is" in ann.refused("submit", "true", code=2)
    assert file.read_bytes() == before


def test_a_pipe_that_closes_and_a_terminal_that_is_narrow(server: Server, tmp_path: Path) -> None:
    """As processes: what a shell does with them."""
    terminal = terminal_at(server, tmp_path / "there")
    terminal.jman("submit", "echo", "x" * 300)
    script = (
        "import os, pty, sys; os.environ |= {'COLUMNS': '60', 'TERM': 'xterm'}; "
        "sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
    )
    command = [sys.executable, "-c", script, str(BIN / "jman"), "list"]
    done = subprocess.run(
        command, cwd=terminal.folder, env=terminal.environment, capture_output=True, text=True, check=True
    )
    lines = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout).splitlines()
    assert max(map(len, lines)) <= 60
    assert lines[2].endswith("…")
    assert "\x1b[" in done.stdout
    shell = f"set -o pipefail; {BIN}/jman list --all --json | head -c 5"
    done = subprocess.run(
        ["bash", "-c", shell],
        cwd=terminal.folder,
        env=terminal.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
