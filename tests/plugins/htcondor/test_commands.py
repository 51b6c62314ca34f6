"""How job descriptions and command lines are built."""

from typing import Any

import pytest

from gateway.errors import NotFound, RefusedByScheduler
from gateway.model import JobSpec, Resources
from gateway_plugins.htcondor import commands

UUID = "0d0ef4a4-3a5e-4a0c-9b43-0a2c1d8f6c11"
DESCRIPTION = """\
# mine \\
executable = /bin/echo
Output   = out.$(Cluster)
request_memory = 1GB
+JobgateId = "other"
queue
"""


def spec(script: str = "#!/bin/sh\n", **more: Any) -> JobSpec:
    return JobSpec(uuid=UUID, account="alice", script=script, **more)


def lines(**more: Any) -> list[str]:
    return commands.plan(spec(**more), "pool").description.splitlines()


def test_a_program() -> None:
    assert lines(name="first") == [
        "universe = vanilla",
        f"executable = $ENV(HOME)/.jobgate/pool/{UUID}/run",
        "getenv = HOME, USER, LOGNAME, PATH, LANG",
        "should_transfer_files = NO",
        "batch_name = first",
        "output = first.o$(Cluster)",
        "error = first.e$(Cluster)",
        "log = first.log$(Cluster)",
        f'+JobgateId = "{UUID}"',
        "queue",
    ]


def test_resources() -> None:
    asked = lines(resources=Resources(nodes=1, cores=2, memory=64, gpus=1, wall_time=90), hold=True, priority=-3)
    assert {
        "request_cpus = 2",
        "request_memory = 64",
        "request_gpus = 1",
        "allowed_job_duration = 90",
        "+JobgateWallTime = 90",
        "hold = True",
        "priority = -3",
    } <= set(asked)
    assert not any(line.startswith(("request_", "hold", "priority", "periodic")) for line in lines())


def test_more_than_one_node_is_refused() -> None:
    with pytest.raises(RefusedByScheduler) as refused:
        lines(resources=Resources(nodes=2))
    assert list(refused.value.errors) == ["nodes"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\nqueue 5", "a_queue 5"),
        ("back\\", "back_"),
        ("$(HOME)", "$(DOLLAR)(HOME)"),
        ("$$(HOME)", "_HOME)"),
        (" blank ", "_blank_"),
        ("żółć \"x\" 'y' |", "żółć \"x\" 'y' |"),
    ],
)
def test_a_name_is_a_label_and_nothing_else(name: str, shown: str) -> None:
    assert f"batch_name = {shown}" in lines(name=name)
    assert lines(name=name).count("queue") == 1


def test_a_log_stays_in_its_folder() -> None:
    assert "output = .._.._etc_x.o$(Cluster)" in lines(name="../../etc/x")


@pytest.mark.parametrize("path", ["a\nqueue 5", "a\\", "$$(HOME)", " a", "a ", "a\r"])
@pytest.mark.parametrize("field", ["stdout", "stderr"])
def test_a_file_name_that_cannot_be_carried(field: str, path: str) -> None:
    with pytest.raises(RefusedByScheduler) as refused:
        lines(**{field: path})
    assert list(refused.value.errors) == [field]


@pytest.mark.parametrize("folder", ["/a\nb", "/a\\\\b", "/$$(HOME)"])
def test_a_folder_that_cannot_be_carried(folder: str) -> None:
    with pytest.raises(RefusedByScheduler, match="working_directory"):
        lines(working_directory=folder)


def test_paths_are_found_again() -> None:
    plan = commands.plan(spec(stdout="a $(Cluster) $x", stderr="/e"), "pool")
    assert commands.expand(plan.stdout, "/w/", "7.0") == "/w/a $(Cluster) $x"
    assert commands.expand(plan.stderr, "/w", "7.0") == "/e"
    assert commands.expand(commands.plan(spec(), "pool").stdout, "/", "7.0") == "/job.o7"


def test_a_description_is_the_users_own() -> None:
    plan = commands.plan(spec(DESCRIPTION), "pool")
    assert plan.description == DESCRIPTION
    assert plan.show
    assert plan.appended == ("error = job.e$(Cluster)", "log = job.log$(Cluster)", f'+JobgateId = "{UUID}"')
    assert len(plan.warnings) == 1
    assert 'JobgateId = "other"' in plan.warnings[0]


def test_a_request_wins_over_a_description() -> None:
    asked = spec(DESCRIPTION, stdout="$mine", resources=Resources(memory=64), working_directory="/w")
    plan = commands.plan(asked, "pool")
    assert {"output = $(DOLLAR)mine", "request_memory = 64", "initialdir = $ENV(PWD)"} <= set(plan.appended)
    told = "\n".join(plan.warnings)
    assert "`Output   = out.$(Cluster)` gives way to the request, which says '$mine'" in told
    assert "`request_memory = 1GB` gives way to the request, which says '64'" in told
    assert "initialdir" not in told


def test_what_is_continued_or_a_comment_is_no_setting() -> None:
    said = commands.directives("a = 1 \\\n queue\n# b = 2\n C=3\r\nMY.Flag = x\n+Other=y\nd == 4\n")
    assert {key: each.value for key, each in said.items()} == {"a": "1   queue", "c": "3", "+flag": "x", "+other": "y"}


@pytest.mark.parametrize("script", ["echo hello\n", "executable = x\n", "queue\n", "", "executable = x \\\nqueue\n"])
def test_neither_a_program_nor_a_description(script: str) -> None:
    with pytest.raises(RefusedByScheduler, match="begin it with `#!`"):
        commands.plan(spec(script), "pool")


def test_environment_of_a_description() -> None:
    plan = commands.plan(spec(DESCRIPTION, environment={"A": 'it\'s "x" $(y)', "B": ""}), "pool")
    assert """environment = "A='it''s ""x"" $(DOLLAR)(y)' B=''\"""" in plan.appended
    with pytest.raises(RefusedByScheduler, match="environment"):
        commands.plan(spec(DESCRIPTION, environment={"A": "two\nlines"}), "pool")


def test_everything_travels_on_standard_input() -> None:
    job = spec("#!/bin/sh\necho ż\n", environment={"A": "b'c"})
    plan = commands.plan(job, "pool")
    command = commands.submit(job, plan, "pool", probe=True)
    stored = command.argv[command.argv.index(UUID) + 1 :][:2]
    script, run = (int(size) for size in stored)
    assert command.stdin[:script].decode() == job.script
    assert command.stdin[script:][:run].decode() == commands.wrapper(job.environment)
    assert command.stdin[script + run :].decode() == plan.description
    assert "echo" not in " ".join(command.argv).replace(commands.SUBMIT, "")


def test_others_jobs_are_not_asked_for() -> None:
    assert 'Owner =?= "alice"' in " ".join(commands.queue(["7.0"], "alice").argv)
    assert "Owner" not in " ".join(commands.queue(["7.0"], None).argv)
    with pytest.raises((RefusedByScheduler, NotFound)):
        commands.queue(["7.0"], 'a" || true || "')


def test_few_by_their_numbers_many_at_once() -> None:
    assert "member(ClusterId, {7,12})" in " ".join(commands.queue(["7.0", "12.0"], None).argv)
    many = commands.queue([f"{number}.0" for number in range(1, 5000)], None)
    assert len(" ".join(many.argv)) < 1000


def test_a_host_is_one_folder() -> None:
    assert commands.folder_name("hpc.example.org") == "hpc.example.org"
    assert commands.folder_name("../x y") == "_._x_y"


def test_single_tasks_are_steered_and_not_the_cluster() -> None:
    """Its own ad looks like the first task's, and ending it ends the making of further ones."""
    argv = commands.control("abort", "8", "alice", [3, 1]).argv
    assert argv[:2] == ("condor_rm", "-constraint")
    assert argv[2].startswith("ClusterId == 8 && member(JobgateTask, {1,3}) && ProcId >= 0 && ")
    assert "ProcId" not in commands.control("abort", "8", "alice").argv[2]
    assert "ProcId >= 0" in commands.control("hold", "8", "alice").argv[2]
