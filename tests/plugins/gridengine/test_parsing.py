"""What 8.1.9 printed, read."""

import logging
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
    RefusedByScheduler,
)
from gateway_plugins.gridengine import parsing

QUEUE = """<?xml version='1.0'?>
<job_info  xmlns:xsd="http://arc.liv.ac.uk/repos/darcs/sge/source/dist/util/resources/schemas/qstat/qstat.xsd">
  <queue_info>
    <job_list state="running">
      <JB_job_number>132</JB_job_number>
      <JAT_prio>0.50000</JAT_prio>
      <JB_name>{name}</JB_name>
      <JB_owner>alice</JB_owner>
      <state>r</state>
      <JAT_start_time>2026-11-21T09:07:04</JAT_start_time>
      <queue_name>all.q@testhpc</queue_name>
      <slots>1</slots>
      <tasks>1</tasks>
    </job_list>
  </queue_info>
  <job_info>
    <job_list state="pending">
      <JB_job_number>132</JB_job_number>
      <JAT_prio>0.00000</JAT_prio>
      <JB_name>{name}</JB_name>
      <JB_owner>alice</JB_owner>
      <state>qw</state>
      <JB_submission_time>2026-11-21T09:07:04</JB_submission_time>
      <queue_name></queue_name>
      <slots>1</slots>
      <tasks>2,3</tasks>
    </job_list>
    <job_list state="pending">
      <JB_job_number>15</JB_job_number>
      <JAT_prio>0.75000</JAT_prio>
      <JB_name>eqw</JB_name>
      <JB_owner>alice</JB_owner>
      <state>Eqw</state>
      <JB_submission_time>2026-11-21T08:56:05</JB_submission_time>
      <queue_name></queue_name>
      <slots>4</slots>
    </job_list>
  </job_info>
</job_info>
"""

DETAILS = """<?xml version='1.0'?>
<detailed_job_info  xmlns:xsd="http://arc.liv.ac.uk/repos/darcs/sge/source/dist/util/resources/schemas/qstat/x.xsd">
  <djob_info>
    <element>
      <JB_job_number>15</JB_job_number>
      <JB_owner>alice</JB_owner>
      <JB_account>u-15.aborted</JB_account>
      <JB_merge_stderr>true</JB_merge_stderr>
      <JB_job_name>eqw</JB_job_name>
      <JB_stdout_path_list>
        <path_list>
          <PN_path>$HOME/$JOB_NAME.$JOB_ID</PN_path>
          <PN_host></PN_host>
        </path_list>
      </JB_stdout_path_list>
      <JB_ja_tasks>
        <ulong_sublist>
          <JAT_status>0</JAT_status>
          <JAT_task_number>1</JAT_task_number>
          <JAT_message_list>
            <ulong_sublist>
              <QIM_type>1</QIM_type>
              <QIM_message>11/21/2026 08:56:06 [2001:12864]: error: can&apos;t open output file</QIM_message>
            </ulong_sublist>
          </JAT_message_list>
        </ulong_sublist>
      </JB_ja_tasks>
      <JB_cwd>/home/alice/a  b</JB_cwd>
      <JB_type>0</JB_type>
    </element>
  </djob_info>
</detailed_job_info>
"""

UNKNOWN = "<?xml version='1.0'?>\n<unknown_jobs >\n    <ST_name>99999</ST_name>\n</unknown_jobs>\n"

USAGE = "0.007547:0.000000:5092.000000:0:0:0:0:598:0:0:8.000000:8:0:0:0:9:8:NONE:defaultdepartment"


def record(failed: int, status: int, *, account: str = "u-1", category: str = "NONE", seconds: int = 3, **more: object):
    given = {"id": 124, "owner": "alice", "task": 0, "part": "NONE", "start": 1795251929, **more}
    end = int(str(given["start"])) + seconds
    return (
        f"all.q:testhpc:alice:{given['owner']}:na|me:{given['id']}:{account}:0:1795251929:{given['start']}:{end}:"
        f"{failed}:{status}:{seconds}:{USAGE}:NONE:1:{given['task']}:0.007547:0.000000:0.000000:{category}:0.000000:"
        f"{given['part']}:0.000000:0:0\n"
    )


def ended(*records: str, account: str | None = "alice"):
    return parsing.accounting("".join(records) + "end\n", account, "smp")


def result(code: int = 0, out: str = "", err: str = "") -> CommandResult:
    return CommandResult(code, out, err)


# --- the queue --------------------------------------------------------------------------------------------------------


def test_an_array_is_what_its_most_alive_task_is() -> None:
    reports = parsing.queue(QUEUE.format(name="x"))
    assert set(reports) == {"132", "15"}
    job = reports["132"]
    assert (job.state, job.native_state, job.queue, job.nodes, job.cores) == (JobState.RUNNING, "r", "all.q", 1, 1)
    assert job.start_time == datetime(2026, 11, 21, 9, 7, 4, tzinfo=UTC)
    stuck = reports["15"]
    assert (stuck.state, stuck.start_time, stuck.queue, stuck.cores) == (JobState.HELD, None, None, 4)
    assert parsing.in_error(stuck)


@pytest.mark.parametrize("name", ["a\x01b", "a&#1;b", "a&#x1f;b", "a&#233;b", "x\ufffe", "&lt;/JB_name&gt;"])
def test_a_name_that_xml_cannot_hold(name: str) -> None:
    assert set(parsing.queue(QUEUE.format(name=name))) == {"132", "15"}


@pytest.mark.parametrize(
    "answer",
    ["", "\x01 no answer\n\ufffd", QUEUE[: len(QUEUE) // 2], UNKNOWN, "<!DOCTYPE x [<!ENTITY a 'b'>]><job_info/>"],
)
def test_nonsense_is_no_empty_queue(answer: str) -> None:
    with pytest.raises(InvalidSchedulerAnswer):
        parsing.queue(answer)


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("qw", JobState.QUEUED),
        ("hqw", JobState.HELD),
        ("Eqw", JobState.HELD),
        ("Rq", JobState.QUEUED),
        ("t", JobState.RUNNING),
        ("r", JobState.RUNNING),
        ("Rr", JobState.RUNNING),
        ("hr", JobState.RUNNING),
        ("s", JobState.SUSPENDED),
        ("S", JobState.SUSPENDED),
        ("T", JobState.SUSPENDED),
        ("dr", JobState.COMPLETING),
        ("dT", JobState.COMPLETING),
    ],
)
def test_states(word: str, state: JobState) -> None:
    assert parsing.state_of(word) is state


def test_an_unknown_state_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert [parsing.state_of("xy"), parsing.state_of("xy")] == [JobState.UNKNOWN] * 2
    assert len(caplog.records) == 1


def test_details() -> None:
    job = parsing.details(DETAILS)["15"]
    assert (job.owner, job.uuid, job.folder, job.one_log, job.started) == (
        "alice",
        "u-15",
        "/home/alice/a  b",
        True,
        False,
    )
    assert parsing.reason(job) == "can't open output file"
    assert parsing.needs_home(job)
    assert parsing.log_path(job, job.stdout, "alice", "/home/alice") == "/home/alice/eqw.15"
    assert parsing.log_path(job, None, "alice", "") == "/home/alice/a  b"
    assert parsing.log_path(job, "~/x", "alice", "/h") == "/h/x"
    assert parsing.log_path(job, "$HOSTNAME.log", "alice", "") is None
    assert parsing.details(UNKNOWN) == {}


@pytest.mark.parametrize("answer", ["", DETAILS[:-30], QUEUE.format(name="x")])
def test_nonsense_is_no_unknown_job(answer: str) -> None:
    with pytest.raises(InvalidSchedulerAnswer):
        parsing.details(answer)


FOUND = """      <JB_job_number>7</JB_job_number>
      <JB_account>sge</JB_account>
      <JB_job_number>15</JB_job_number>
      <JB_account>u-15.aborted</JB_account>
end
"""


def test_a_job_by_its_account_string() -> None:
    assert parsing.with_account_string(FOUND, "u-15") == "15"
    assert parsing.with_account_string(FOUND, "u-7") is None
    assert parsing.with_account_string("end\n", "u-7") is None
    for cut in ("", "end", FOUND[:-4], FOUND[: len(FOUND) // 2], "junk\nend\n"):
        with pytest.raises(InvalidSchedulerAnswer):
            parsing.with_account_string(cut, "u-7")


# --- the accounting ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "state", "exit_code", "signal"),
    [
        (record(0, 0), JobState.FINISHED, 0, None),
        (record(0, 77), JobState.FAILED, 77, None),
        (record(0, 137), JobState.FAILED, 137, None),  # said by itself
        (record(100, 137), JobState.FAILED, 137, 9),
        (record(100, 143), JobState.FAILED, 143, 15),
        (record(100, 137, account="u-1.aborted"), JobState.CANCELLED, 137, 9),
        (record(0, 3, account="u-1.aborted"), JobState.FAILED, 3, None),  # it was quicker
        (record(37, 137, category="-l h_rt=3"), JobState.TIMED_OUT, 137, 9),
        (record(37, 137, category="-l h_rt=0:0:3,h_vmem=1G"), JobState.TIMED_OUT, 137, 9),
        (record(37, 137, category="-l h_rt=90,h_vmem=1K"), JobState.OUT_OF_MEMORY, 137, 9),
        (record(37, 137), JobState.TIMED_OUT, 137, 9),
        (record(100, 137, category="-l h_rt=3"), JobState.TIMED_OUT, 137, 9),
        (record(26, 0, start=0, seconds=0, account="u-1.aborted"), JobState.CANCELLED, None, None),
        (record(21, 0), JobState.NODE_FAILED, 0, None),
        (record(15, 0), JobState.FINISHED, 0, None),
    ],
)
def test_how_it_ended(line: str, state: JobState, exit_code: int | None, signal: int | None) -> None:
    report = ended(line)["124"]
    assert (report.state, report.exit_code, report.signal, report.uuid) == (state, exit_code, signal, "u-1")


def test_times_and_runtime_attributes() -> None:
    report = ended(record(0, 0, category="-q all.q@h:x -l a=b"))["124"]
    assert report.start_time == datetime.fromtimestamp(1795251929, UTC)
    assert report.end_time == datetime.fromtimestamp(1795251932, UTC)
    assert (report.queue, report.nodes, report.cores) == ("all.q", 1, 1)


def test_the_last_record_of_a_number_counts() -> None:
    assert ended(record(0, 1, account="old"), record(0, 0))["124"].uuid == "u-1"


def test_somebody_elses_record_does_not() -> None:
    lines = record(0, 0), record(0, 5, owner="bob")
    assert ended(*lines)["124"].exit_code == 0
    assert ended(*lines, account=None)["124"].exit_code == 5


def test_a_job_that_will_run_again_has_not_ended() -> None:
    assert ended(record(25, 0)) == {}
    assert ended(record(26, 0, start=0, seconds=0)) == {}
    assert ended(record(25, 0), record(0, 0))["124"].state is JobState.FINISHED


def test_an_array_failed_if_one_task_did() -> None:
    assert ended(record(0, 0, task=1), record(0, 4, task=2), record(0, 0, task=3))["124"].exit_code == 4


def test_a_part_of_a_parallel_job_is_not_the_job() -> None:
    assert ended(record(0, 0), record(0, 9, part="1.node2"))["124"].exit_code == 0


def test_a_line_that_is_being_written_waits() -> None:
    assert ended(record(0, 0)[:60] + "\n") == {}


@pytest.mark.parametrize("answer", ["", "end", record(0, 0), "\x01 no answer\n\ufffd"])
def test_a_cut_accounting_is_no_empty_one(answer: str) -> None:
    with pytest.raises(InvalidSchedulerAnswer):
        parsing.accounting(answer, None, "smp")


# --- qsub and the others ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "native_id"),
    [("7\n", "7"), ("7.1-5:1\n", "7"), ("warning: -N option has already been set\n12\n", "12"), ("3\n" + UNKNOWN, "3")],
)
def test_the_id(output: str, native_id: str) -> None:
    assert parsing.submitted(output, result())[0] == native_id


@pytest.mark.parametrize("output", ["", "usage: qsub\n", "7 8\n", "\x01 no answer\n\ufffd"])
def test_no_id(output: str) -> None:
    with pytest.raises(InvalidSchedulerAnswer):
        parsing.submitted(output, result())


SEND = 'Unable to run job: unable to send message to qmaster using port 6444 on host "h": got send error\nExiting.\n'


@pytest.mark.parametrize(
    ("code", "err", "kind"),
    [
        (1, "Unable to run job: error: no suitable queues\nExiting.\n", RefusedByScheduler),
        (1, SEND, HostDown),
        (124, SEND, HostDown),
        (124, "", OutcomeUnknown),
        (1, "error: failed receiving gdi request response\n", OutcomeUnknown),
        (127, "timeout: failed to run command 'qsub': No such file or directory\n", HostDown),
        (1, "critical error: Please set the environment variable SGE_ROOT.\n", HostDown),
    ],
)
def test_a_submit_that_failed(code: int, err: str, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        parsing.check_submit(result(code, "", err))


def test_the_schedulers_own_words() -> None:
    with pytest.raises(RefusedByScheduler, match="Grid Engine refused the job: no suitable queues") as refused:
        parsing.check_submit(result(1, "", "Unable to run job: error: no suitable queues\nExiting.\n"))
    assert refused.value.exit_code == 1
    assert "no suitable queues" in refused.value.error_output


@pytest.mark.parametrize(
    ("out", "err", "kind"),
    [
        ('denied: job "99999999" does not exist\n', "", NotFound),
        ('denied: "alice" must be at least owner of job 20 to change job attributes\n', "", NotFound),
        ('alice - you do not have the necessary privileges to delete the job "20"\n', "", NotFound),
        ('alice - you have no permission to modify job "20"\n', "", NotFound),
        ("", SEND, HostDown),
        ("something else\n", "", Conflict),
    ],
)
def test_an_action_that_failed(out: str, err: str, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        parsing.check_control(result(1, out, err), "20")


def test_only_a_waiting_job_is_deleted_at_once() -> None:
    assert parsing.deleted_waiting(result(0, "alice has deleted job 13\n"))
    assert parsing.deleted_waiting(result(0, "alice has deleted job-array tasks 1-3:1 of job 131\n"))
    assert not parsing.deleted_waiting(result(0, "alice has registered the job 10 for deletion\n"))
    started = "alice has registered the job-array task 131.1 for deletion\n"
    waiting = "alice has deleted job-array tasks 2-3:1 of job 131\n"
    assert not parsing.deleted_waiting(result(0, started + waiting))


# --- the cluster ------------------------------------------------------------------------------------------------------

SUMMARY = """<?xml version='1.0'?>
<job_info>
  <cluster_queue_summary>
    <name>short.q</name>
    <total>8</total>
    <manual_intervention>8</manual_intervention>
  </cluster_queue_summary>
  <cluster_queue_summary>
    <name>all.q</name>
    <total>32</total>
    <manual_intervention>0</manual_intervention>
  </cluster_queue_summary>
</job_info>
"""
LIMITS = "qname                 all.q\nh_rt                  INFINITY\n\nqname   short.q\nh_rt  00:10:00,[h=1:0:0]\n"
HOSTS = """<?xml version='1.0'?>
<qhost>
 <host name='global'><hostvalue name='load_avg'>-</hostvalue></host>
 <host name='n1'><hostvalue name='load_avg'>2.42</hostvalue></host>
 <host name='n2'><hostvalue name='load_avg'>-</hostvalue></host>
</qhost>
"""


def test_the_cluster() -> None:
    short, long = parsing.queues(SUMMARY, LIMITS)
    assert (short.name, short.up, short.wall_time, short.cores) == ("short.q", False, 600, 8)
    assert (long.name, long.up, long.wall_time, long.cores) == ("all.q", True, None, 32)
    assert parsing.nodes(HOSTS) == {"up": 1, "down": 1}
    assert parsing.version("SGE 8.1.9\nusage: qstat [options]\n") == "SGE 8.1.9"


@pytest.mark.parametrize(
    ("said", "tasks"),
    [
        ("alice has deleted job-array task 7.8\n", [8]),
        ("alice has deleted job-array tasks 4-8:2 of job 7\nalice has deleted job-array task 7.9\n", [4, 6, 8, 9]),
        ("alice has registered the job-array task 7.2 for deletion\n", []),
        ("alice has deleted job 7\n", [1, 2, 3]),
    ],
)
def test_tasks_that_were_deleted_before_they_started(said: str, tasks: list[int]) -> None:
    job = parsing.Details("7", "alice", "u", "job", "/h", None, None, array=(1, 2, 3))
    assert parsing.deleted_tasks(CommandResult(0, said, ""), job) == tasks
