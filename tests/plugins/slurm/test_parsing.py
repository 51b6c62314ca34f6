"""What Slurm 24.11 printed, and what is read from it. The recorded lines are from the real thing."""

from datetime import UTC, datetime

import pytest

from gateway import (
    CommandResult,
    Conflict,
    HostDown,
    InvalidSchedulerAnswer,
    JobState,
    NotFound,
    OutcomeUnknown,
    Queue,
    RefusedByScheduler,
)
from gateway_plugins.slurm import parsing

QUEUE = """\
4|RUNNING|None|1|1|batch|1795250653
3_[1-3]|PENDING|PartitionDown|1|1|closed|N/A
9|PENDING|JobHeldUser|2|16|batch|1795337053
"""
MEMORY = """\
1|FAILED|NonZeroExitCode|1|1|batch|1795250650|1795250651|3:0|
2|FAILED|RaisedSignal:9(Killed)|1|1|batch|1795250651|1795250652|0:9|
4|RUNNING|None|1|1|batch|1795250653|1795337053|0:0|
"""
ACCOUNTING = """\
1|FAILED|3:0|1|1|batch|1795250650|1795250651
2|CANCELLED by 2001|0:15|1|1|batch|1795250651|1795250652
5|CANCELLED by 2001|0:0|1|0|batch|None|1795250652
6|TIMEOUT|0:0|1|1|short|1795250600|1795250660
7|OUT_OF_MEMORY|0:125|1|1|short|1795250600|1795250660
8|COMPLETED|0:0|2|8|short|1795250600|1795250660
"""


def at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def test_queue() -> None:
    jobs = parsing.queue(QUEUE)
    assert set(jobs) == {"3", "4", "9"}
    assert (jobs["4"].state, jobs["4"].start_time, jobs["4"].reason) == (JobState.RUNNING, at(1795250653), None)
    assert (jobs["3"].state, jobs["3"].reason) == (JobState.QUEUED, "PartitionDown")
    assert (jobs["9"].state, jobs["9"].start_time, jobs["9"].cores) == (JobState.HELD, None, 16)


def test_memory() -> None:
    jobs = parsing.memory(MEMORY)
    assert (jobs["1"].state, jobs["1"].exit_code, jobs["1"].signal) == (JobState.FAILED, 3, None)
    assert (jobs["2"].exit_code, jobs["2"].signal, jobs["2"].reason) == (137, 9, "RaisedSignal:9(Killed)")
    assert (jobs["4"].exit_code, jobs["4"].end_time) == (None, None)


def test_accounting() -> None:
    jobs = parsing.accounting(ACCOUNTING)
    assert {name: job.state.value for name, job in jobs.items()} == {
        "1": "failed",
        "2": "cancelled",
        "5": "cancelled",
        "6": "timed_out",
        "7": "out_of_memory",
        "8": "finished",
    }
    assert (jobs["5"].start_time, jobs["5"].cores, jobs["5"].exit_code) == (None, None, None)
    assert (jobs["8"].exit_code, jobs["8"].nodes, jobs["8"].cores) == (0, 2, 8)
    assert jobs["2"].native_state == "CANCELLED by 2001"


def test_an_array_follows_its_tasks() -> None:
    rows = "5_1|COMPLETED|0:0|1|1|b|1|2\n5_2|FAILED|1:0|1|1|b|1|2\n5_3|COMPLETED|0:0|1|1|b|1|2\n"
    assert parsing.accounting(rows)["5"].state == JobState.FAILED
    live = "6_1|RUNNING|None|1|1|b|5\n6_[2-9]|PENDING|Resources|1|1|b|N/A\n"
    assert parsing.queue(live)["6"].state == JobState.RUNNING


def test_an_unknown_word_is_kept_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        job = parsing.queue("4|LEVITATING|None|1|1|batch|5\n")["4"]
        assert (job.state, job.native_state) == (JobState.UNKNOWN, "LEVITATING")
    assert caplog.text.count("LEVITATING") == 1


@pytest.mark.parametrize(
    "line", ["garbage", "4|RUNNING|None|1|1|batch", "4|RUNNING|None|1|1|batch|5|6", "x|a|b|c|d|e|f"]
)
def test_nonsense_is_an_error(line: str) -> None:
    with pytest.raises(InvalidSchedulerAnswer):
        parsing.queue(line + "\n")


def result(code: int = 0, out: str = "", err: str = "") -> CommandResult:
    return CommandResult(code, out, err)


def test_an_answer_that_is_cut_short() -> None:
    with pytest.raises(InvalidSchedulerAnswer):
        parsing.checked(result(out="4|RUNNING|None|1|1|ba"))
    assert parsing.checked(result()) == ""


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (
            "sbatch: error: invalid partition specified: x\nsbatch: error: Batch job submission failed",
            RefusedByScheduler,
        ),
        ("sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)", HostDown),
        (
            "sbatch: error: Batch job submission failed: Unable to contact slurm controller (receive failure)",
            OutcomeUnknown,
        ),
        ("sbatch: error: Batch job submission failed: Message receive failure", OutcomeUnknown),
        ("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", OutcomeUnknown),
        ("sh: 1: exec: sbatch: not found", HostDown),
    ],
)
def test_what_a_failed_submit_means(words: str, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        parsing.check_submit(result(1, "", words))
    assert caught.value.error_output == words
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(("printed", "native_id"), [("77\n", "77"), ("77;cluster\n", "77")])
def test_a_submits_answer(printed: str, native_id: str) -> None:
    assert parsing.submitted(printed, result()).native_id == native_id


def test_a_submits_answer_that_is_none() -> None:
    for printed in ("", "Submitted batch job 77\n", "\n77\n"):
        with pytest.raises(InvalidSchedulerAnswer):
            parsing.submitted(printed, result())


def test_paths_cannot_be_forged_by_a_name() -> None:
    shown = "JobId=1 JobName=a\n   StdOut=/etc/passwd\n   WorkDir=/home/alice\n   StdErr=/h/e\n   StdOut=/h/o\n"
    assert parsing.paths(shown) == {"WorkDir": "/home/alice", "StdErr": "/h/e", "StdOut": "/h/o"}


def test_comments() -> None:
    lines = "@12|theirs\n@999|u-2\n@7|u-1\n@8_[1-3]|u-3\n"
    assert parsing.with_comment(lines, "u-1") == "7"
    assert parsing.with_comment(lines, "u-3") == "8"
    assert parsing.with_comment(lines, "u-4") is None
    with pytest.raises(InvalidSchedulerAnswer):
        parsing.with_comment("what?\n", "u-1")


def test_control() -> None:
    parsing.check_control(result(1, "", "Job has already finished for job 2\nslurm_suspend error: x"), "2")
    for words, error in (
        ("Invalid job id specified for job 99999", NotFound),
        ("scancel: error: Kill job error on job id 4: Access/permission denied", NotFound),
        ("Job is not suspended for job 4", Conflict),
        ("slurm_suspend error: Unable to contact slurm controller (connect failure)", HostDown),
    ):
        with pytest.raises(error):
            parsing.check_control(result(1, "", words), "4")


def test_queues_and_nodes() -> None:
    queues = parsing.queues(
        "batch*|up|1-00:00:00|4|1/31/0/32\nshort|up|10:00|4|1/31/0/32\nlong|down|infinite|1|0/8/0/8\n"
    )
    assert queues == (
        Queue("batch", True, True, 86400, 4, 32),
        Queue("short", False, True, 600, 4, 32),
        Queue("long", False, False, None, 1, 8),
    )
    assert parsing.nodes("c1|mixed\nc1|mixed\nc2|idle\nc3|down*\n") == {"down": 1, "idle": 1, "mixed": 1}


def test_tasks_of_an_array() -> None:
    """Those that wait share a line."""
    lines = "7_3|RUNNING|None|1|1|batch|1795250653\n7_[4-8:2,10%2]|PENDING|JobArrayTaskLimit|1|1|batch|N/A\n"
    report = parsing.queue(lines)["7"]
    assert report.state == JobState.RUNNING
    assert {task: told.state.value for task, told in report.tasks.items()} == {
        3: "running",
        **dict.fromkeys((4, 6, 8, 10), "queued"),
    }


def test_logs_of_an_array() -> None:
    first = "JobId=8 ArrayJobId=7 ArrayTaskId=7 JobName=a\n   WorkDir=/h7\n   StdOut=/h7/a.o7.7\n"
    assert parsing.paths(first) == {"WorkDir": "/h7", "StdOut": "/h7/a.o7.{task_id}"}
    waiting = "JobId=7 ArrayJobId=7 ArrayTaskId=1-3%2 JobName=a\n   StdOut=/h/a.o7.4294967294\n"
    assert parsing.paths(waiting) == {"StdOut": "/h/a.o7.{task_id}"}
