"""Parsers on what HTCondor 23.9.6 printed."""

import json
from datetime import UTC, datetime

import pytest

from gateway.errors import HostDown, InvalidSchedulerAnswer, OutcomeUnknown, RefusedByScheduler
from gateway.model import JobState
from gateway.transport import CommandResult
from gateway_plugins.htcondor import commands, parsing

COMPLETED = """[
{
  "ClusterId": 6,
  "CompletionDate": 1795251258,
  "CpusProvisioned": 2,
  "EnteredCurrentStatus": 1795251258,
  "ExitBySignal": false,
  "ExitCode": 3,
  "JobCurrentStartDate": 1795251257,
  "JobStatus": 4,
  "JobgateId": "abc",
  "ProcId": 0,
  "RequestCpus": "\\/Expr(ifthenelse(true,1,2))\\/"
}
]
"""
SIGNALLED = """[
{
  "ClusterId": 34,
  "CompletionDate": 1795251830,
  "ExitBySignal": true,
  "ExitSignal": 15,
  "JobStatus": 4,
  "ProcId": 0
}
]
"""
REMOVED = """[
{
  "ClusterId": 30,
  "EnteredCurrentStatus": 1795251582,
  "ExitBySignal": true,
  "ExitSignal": 15,
  "JobCurrentStartDate": 1795251573,
  "JobStatus": 3,
  "ProcId": 0,
  "RemoveReason": "via condor_rm (by user alice)"
}
]
"""
HELD = """[
{
  "ClusterId": 15,
  "EnteredCurrentStatus": 1795251457,
  "HoldReason": "Transfer input files failure at access point testhpc: reading from file /nonexist/in: (errno 2)",
  "HoldReasonCode": 13,
  "JobCurrentStartDate": 1795251457,
  "JobStatus": 5,
  "ProcId": 0,
  "RequestCpus": 1
}
]
"""
OUT_OF_TIME = """[
{
  "ClusterId": 8,
  "EnteredCurrentStatus": 1795251463,
  "HoldReason": "The job exceeded allowed job duration of 00:05",
  "HoldReasonCode": 46,
  "JobCurrentStartDate": 1795251457,
  "JobgateWallTime": 5,
  "JobStatus": 5,
  "ProcId": 0
}
]
"""
OUT_OF_TIME_AND_GONE = """[
{
  "ClusterId": 8,
  "EnteredCurrentStatus": 1795251463,
  "JobCurrentStartDate": 1795251457,
  "JobgateWallTime": 5,
  "JobStatus": 3,
  "LastHoldReason": "The job exceeded allowed job duration of 00:05",
  "LastHoldReasonCode": 46,
  "ProcId": 0,
  "RemoveReason": "The job attribute PeriodicRemove expression 'HoldReasonCode =?= 46' evaluated to TRUE"
}
]
"""
FROZEN = (
    "\n-- Failed to fetch ads from: <127.0.0.1:9618?addrs=127.0.0.1-9618&alias=testhpc&noUDP&sock=schedd_44_12a9> "
    ": testhpc\nSECMAN:2007:Read failure during security negotiation.\n"
)
NO_SCHEDD = """Error: unknown host nosuch

Extra Info: You probably saw this error because the condor_schedd is not
running on the machine you are trying to query.
"""


def only(output: str, *, left: bool) -> parsing.JobReport:
    (report,) = (parsing.history if left else parsing.queue)(output).values()
    return report


def test_completed() -> None:
    report = only(COMPLETED, left=True)
    assert (report.native_id, report.uuid, report.native_state) == ("6.0", "abc", "COMPLETED")
    assert (report.state, report.exit_code, report.signal, report.reason) == (JobState.FAILED, 3, None, None)
    assert (report.nodes, report.cores) == (1, 2)
    assert report.start_time == datetime.fromtimestamp(1795251257, UTC)
    assert report.end_time == datetime.fromtimestamp(1795251258, UTC)
    assert only(COMPLETED.replace('"ExitCode": 3', '"ExitCode": 0'), left=True).state is JobState.FINISHED
    assert only(COMPLETED.replace('"ExitCode": 3', '"Other": 3'), left=True).state is JobState.UNKNOWN


def test_killed_by_a_signal() -> None:
    report = only(SIGNALLED, left=True)
    assert (report.state, report.exit_code, report.signal) == (JobState.FAILED, 143, 15)


def test_removed_is_over_when_it_has_left_the_queue() -> None:
    gone, going = only(REMOVED, left=True), only(REMOVED, left=False)
    assert (gone.state, gone.exit_code, gone.signal) == (JobState.CANCELLED, None, None)
    assert gone.reason == "via condor_rm (by user alice)"
    assert gone.end_time == datetime.fromtimestamp(1795251582, UTC)
    assert (going.state, going.end_time) == (JobState.COMPLETING, None)


def test_held_says_why() -> None:
    report = only(HELD, left=False)
    assert report.state is JobState.HELD
    assert "/nonexist/in" in (report.reason or "")
    assert report.start_time is None


def test_out_of_time() -> None:
    held, gone = only(OUT_OF_TIME, left=False), only(OUT_OF_TIME_AND_GONE, left=True)
    assert held.state is gone.state is JobState.TIMED_OUT
    assert held.reason == gone.reason == "The job exceeded allowed job duration of 00:05"
    assert held.end_time == gone.end_time == datetime.fromtimestamp(1795251463, UTC)


def test_a_limit_that_is_not_ours_holds() -> None:
    assert only(OUT_OF_TIME.replace("JobgateWallTime", "x"), left=False).state is JobState.HELD


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (1, JobState.QUEUED),
        (2, JobState.RUNNING),
        (6, JobState.COMPLETING),
        (7, JobState.SUSPENDED),
        (9, JobState.UNKNOWN),
    ],
)
def test_states(status: int, state: JobState) -> None:
    report = only(HELD.replace('"JobStatus": 5', f'"JobStatus": {status}'), left=False)
    assert (report.state, report.reason) == (state, None)


def test_no_jobs() -> None:
    assert parsing.queue("") == {}
    assert parsing.history("[\n]\n") == {}
    assert parsing.found("", left=False) is None


@pytest.mark.parametrize("output", ["[\n{\n", '{"ClusterId": 1}', "[3]", "no answer", '[{"ClusterId": 1}]', '[{"": "'])
def test_nonsense(output: str) -> None:
    with pytest.raises(InvalidSchedulerAnswer):
        parsing.queue(output)


@pytest.mark.parametrize("text", ["odd \\xff name", 'a \\"b\\" \\\\xff \\u017c \\/x', "tab\there"])
def test_free_text_that_is_no_json(text: str) -> None:
    report = only(HELD.replace("/nonexist/in", text), left=False)
    assert report.state is JobState.HELD
    assert report.reason


def test_a_whole_answer_has_a_last_line() -> None:
    assert parsing.checked(CommandResult(0, f"x\n{commands.END}\n", "")) == "x\n"
    for cut in ("", "x\n", commands.END, f"{commands.END}\nx"):
        with pytest.raises(InvalidSchedulerAnswer):
            parsing.checked(CommandResult(0, cut, ""))


@pytest.mark.parametrize("stderr", [FROZEN, NO_SCHEDD, "/bin/sh: 1: condor_q: not found\n"])
def test_nobody_answers(stderr: str) -> None:
    with pytest.raises(HostDown) as down:
        parsing.checked(CommandResult(1, "", stderr))
    assert "Extra Info" not in down.value.message


def test_another_error_is_nonsense() -> None:
    with pytest.raises(InvalidSchedulerAnswer, match="Parse error"):
        parsing.checked(CommandResult(1, "", '\n-- Parse error in constraint expression "x"\n'))


@pytest.mark.parametrize(
    ("code", "stderr", "error"),
    [
        (1, "\nERROR: Executable file /nonexist does not exist\n", RefusedByScheduler),
        (1, "ERROR: I don't know about the 'moon' universe.\n", RefusedByScheduler),
        (1, "ERROR: Failed to commit job submission into the queue.\nERROR: not for you\n", RefusedByScheduler),
        (1, "ERROR: Failed to commit job submission into the queue.\n", OutcomeUnknown),
        (124, "", OutcomeUnknown),
        (75, FROZEN, HostDown),
        (1, "\nERROR: Can't find address of local schedd\n", HostDown),
        (1, "\nERROR: Failed to connect to local queue manager\n", HostDown),
    ],
)
def test_submit_said_no(code: int, stderr: str, error: type[Exception]) -> None:
    with pytest.raises(error) as raised:
        parsing.check_submit(CommandResult(code, "", stderr))
    assert raised.value.error_output == stderr  # type: ignore[attr-defined]


def test_several_jobs_in_one_description() -> None:
    words = "\nERROR: Number of submitted jobs would exceed -maxjobs (1)\n"
    with pytest.raises(RefusedByScheduler, match="a request is one job"):
        parsing.check_submit(CommandResult(1, "", words))


def test_submitted() -> None:
    done = CommandResult(0, "", "")
    assert parsing.submitted("8.0 - 8.0\n", done, array=False) == ("8.0", {})
    queued = '8.0 - 8.0\n[\n{\n  "Err": "/e",\n  "Iwd": "/w",\n  "Out": "o.8"\n}\n]\n[\n]\n'
    native_id, ad = parsing.submitted(queued, done, array=False)
    assert (native_id, *parsing.paths(ad)) == ("8.0", "/w", "/w/o.8", "/e")
    ended = '8.0 - 8.0\n[\n{\n  "Iwd": "/w"\n}\n]\n'
    assert parsing.paths(parsing.submitted(ended, done, array=False)[1]) == ("/w", None, None)
    for odd in ("", "8.0\n", "8.0 - 8.4\n", "WARNING\n8.0 - 8.0\n"):
        with pytest.raises(InvalidSchedulerAnswer):
            parsing.submitted(odd, done, array=False)
    assert parsing.submitted("8.0 - 8.99\n", done, array=True) == ("8", {})
    with pytest.raises(InvalidSchedulerAnswer):
        parsing.submitted("8.0 - 8.1\n", done, array=False)


def test_tasks_that_htcondor_has_not_created() -> None:
    """Of three, two at once: the ads of those that are there tell which is to come."""
    of_array = {"ClusterId": 8, "JobStatus": 2, "JobgateTasks": "3,7,9", "JobMaterializeNextProcId": 2}
    ads = [{**of_array, "ProcId": at, "JobgateTask": task} for at, task in enumerate((3, 7))]
    report = parsing.queue(json.dumps(ads))["8"]
    states = {task: told.native_state for task, told in report.tasks.items()}
    assert states == {3: "RUNNING", 7: "RUNNING", 9: parsing.UNCREATED}


@pytest.mark.parametrize("name", ["0", "0.0", "1.0\n", "\u0661.0", "-1.0", "1.0 || true", f"{'9' * 40}.0", "01.0"])
def test_what_is_no_id(name: str) -> None:
    assert not parsing.is_native_id(name)
    assert parsing.is_native_id("125.0")


def test_machines() -> None:
    machines = [
        {"Machine": "a", "State": "Unclaimed"},
        {"Machine": "a", "State": "Claimed"},
        {"Machine": "b", "State": "Drained"},
    ]
    assert parsing.nodes(machines) == {"Claimed": 1, "Drained": 1}
    banner = "$CondorVersion: 23.9.6 2026-07-12 PackageID: 23.9.6+dfsg-2.1+b10 $\n$CondorPlatform: X86_64-Debian_13 $\n"
    assert parsing.version(banner) == "23.9.6"
