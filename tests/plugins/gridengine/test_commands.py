"""What qsub is told, and what gives way to what."""

import subprocess
from pathlib import Path

import pytest

from gateway import JobSpec, RefusedByScheduler, Resources
from gateway_plugins.gridengine import commands
from gateway_plugins.gridengine.commands import GridEngineOptions, Programs

SITE = GridEngineOptions()


def planned(script: str = "#!/bin/sh\n", site: GridEngineOptions = SITE, **asked: object) -> commands.Plan:
    return commands.plan(JobSpec(uuid="u-1", account="ann", script=script, **asked), site)  # type: ignore[arg-type]


def value(plan: commands.Plan, option: str) -> str | None:
    words = plan.options
    return words[words.index(option) + 1] if option in words else None


def asking(**resources: int) -> dict[str, Resources]:
    return {"resources": Resources(**resources)}


def test_the_uuid_is_carried_twice() -> None:
    plan = planned()
    assert (value(plan, "-A"), value(plan, "-ac")) == ("u-1", "jobgate=u-1")


@pytest.mark.parametrize(
    ("first", "shell"),
    [
        ("#!/bin/sh", "/bin/sh"),
        ("#! /opt/python-3.12/bin/python3 ", "/opt/python-3.12/bin/python3"),
        ("#!/usr/bin/env python3", "/usr/bin/env"),
        ("#!/bin/bash -eu", "/usr/bin/env"),
        ("#!/odd,path/sh", "/usr/bin/env"),
        ("echo no shebang", None),
        ("", None),
    ],
)
def test_the_first_line_is_honoured(first: str, shell: str | None) -> None:
    assert commands.interpreter(f"{first}\necho\n") == shell


def test_a_shell_that_the_script_asks_for_stays() -> None:
    assert value(planned("#!/bin/sh\n#$ -S /bin/tcsh\n"), "-S") is None


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("plain-1.2", "plain-1.2"),
        ("two words", "two_words"),
        ("żółć", "____"),
        ("9lives", "_9lives"),
        ("none", "_none"),
        ("", "_"),
        ("$(id)/../x", "__id__.._x"),
        ("n" * 300, "n" * 200),
    ],
)
def test_names(name: str, taken: str) -> None:
    assert commands.object_name(name) == taken


def test_resources() -> None:
    plan = planned(queue="all.q", hold=True, priority=-7, **asking(cores=4, memory=1001, gpus=8, wall_time=90))
    assert value(plan, "-q") == "all.q"
    assert value(plan, "-p") == "-7"
    assert "-h" in plan.options
    at = plan.options.index("-pe")
    assert plan.options[at : at + 3] == ("-pe", "smp", "4")
    assert value(plan, "-l") == "h_rt=90,h_vmem=251M,gpu=2"


def test_memory_is_shared_by_the_slots_that_the_script_asks_for() -> None:
    assert value(planned("#!/bin/sh\n#$ -pe smp 2-8\n", **asking(memory=1000)), "-l") == "h_vmem=500M"


def test_gpus_of_the_whole_job() -> None:
    site = GridEngineOptions(gpus_per_slot=False)
    assert value(planned(site=site, **asking(cores=4, gpus=1)), "-l") == "gpu=1"


@pytest.mark.parametrize(
    ("field", "asked"),
    [
        ("nodes", asking(nodes=2)),
        ("gpus", asking(cores=2, gpus=1)),
        ("priority", {"priority": 1}),
        ("priority", {"priority": -2000}),
        ("stdout", {"stdout": "a,b"}),
        ("stderr", {"stderr": "host:/x"}),
        ("stdout", {"stdout": "$HOME/x"}),
        ("stdout", {"stdout": "~/x"}),
        ("working_directory", {"working_directory": "/a\nb"}),
        ("working_directory", {"working_directory": "/a/$USER"}),
        ("environment", {"environment": {"PATH": "/a,/b"}}),
        ("environment", {"environment": {"A B": "x"}}),
        ("queue", {"queue": "two words"}),
        ("script", {"script": "#!/bin/sh\n#$ -sync y\n"}),
        ("script", {"script": "#!/bin/sh\n#$ -verify\n"}),
    ],
)
def test_what_cannot_be_honoured_is_named(field: str, asked: dict[str, object]) -> None:
    with pytest.raises(RefusedByScheduler) as refused:
        planned(**asked)  # type: ignore[arg-type]
    assert list(refused.value.errors) == [field]


def test_variables_travel_by_name() -> None:
    plan = planned(environment={"A": "1,2\n3", "PATH": "/x:/y"})
    assert value(plan, "-v") == "A,PATH=/x:/y"
    assert plan.environment == {"A": "1,2\n3"}


SCRIPT = """#!/bin/sh
#$ -N theirs -q short.q # -p -9
#$ -l h_rt=0:1:30,mem_free=1G
#$-pe smp 3
  #$ -p -3
#$ -o "a b" -p -4
echo
#$ -j y
"""


def test_directives() -> None:
    found = [(directive.option, directive.value) for directive in commands.script_directives(SCRIPT)]
    assert found == [
        ("N", "theirs"),
        ("q", "short.q"),
        ("h_rt", "90"),
        ("mem_free", "1G"),
        ("pe", "smp 3"),
        ("o", "a b -p -4"),
        ("j", "y"),
    ]


def test_the_request_wins_and_says_so() -> None:
    plan = planned(SCRIPT, name="ours", queue="all.q", stdout="mine", **asking(cores=2, wall_time=91))
    warned = "\n".join(plan.warnings)
    for word in ("'ours'", "'all.q'", "'mine'", "'smp 2'", "'91'"):
        assert word in warned
    assert len(plan.warnings) == 5


def test_what_agrees_is_no_contradiction() -> None:
    asked = {"name": "theirs", "queue": "short.q", **asking(cores=3, wall_time=90)}
    assert planned(SCRIPT, **asked).warnings == ()


def test_logs_that_the_script_names_are_asked_for() -> None:
    plan = planned("#!/bin/sh\n#$ -o logs -j y\n")
    assert plan.show
    assert not {"-o", "-j"} & set(plan.options)
    assert not planned("#!/bin/sh\n#$ -o logs\n", stdout="mine").show
    assert not planned().show


def test_a_script_is_asked_in_one_round_trip() -> None:
    spec = JobSpec(uuid="u-1", account="ann", script="#!/bin/sh\n#$ -o x\n")
    command = Programs(GridEngineOptions(bin_dir="/ge/bin/", sge_root="/ge")).submit(
        spec, commands.plan(spec, GridEngineOptions())
    )
    assert "/ge/bin/qsub" in command.argv
    assert "/ge/bin/qstat" in command.argv
    assert command.environment["SGE_ROOT"] == "/ge"
    assert command.stdin == spec.script.encode()
    assert not command.repeatable


RECORD = "all.q:node:ann:ann:name:{id}:{account}:0:1:2:3:0:0" + ":0" * 26 + ":NONE:0:NONE:0:0:0\n"


def records(command: object) -> subprocess.CompletedProcess[str]:
    argv, stdin = command.argv, command.stdin.decode()  # type: ignore[attr-defined]
    environment = {"PATH": "/usr/bin:/bin", **command.environment}  # type: ignore[attr-defined]
    return subprocess.run(argv, input=stdin, env=environment, capture_output=True, text=True, check=False)


def test_the_accounting_file_is_read_once(tmp_path: Path) -> None:
    common = tmp_path / "default/common"
    common.mkdir(parents=True)
    programs = Programs(GridEngineOptions(sge_root=str(tmp_path)))
    assert records(programs.accounting(["1"])).stdout == "end\n"
    lines = [RECORD.format(id=number, account=f"u-{number}") for number in range(1, 13)]
    (common / "accounting").write_text("# Version: 8.1.9\n" + "".join(lines))
    assert records(programs.accounting(["1", "12"])).stdout == f"{lines[0]}{lines[11]}end\n"
    assert records(programs.past("u-2")).stdout == f"{lines[1]}end\n"
    (common / "accounting").write_text(aborted := RECORD.format(id=13, account="u-2.aborted"))
    assert records(programs.past("u-2")).stdout == f"{aborted}end\n"
    assert records(programs.past("u")).stdout == "end\n"


def test_no_accounting_is_not_an_empty_one(tmp_path: Path) -> None:
    nowhere = Programs(GridEngineOptions(sge_root=str(tmp_path / "nowhere")))
    unset = Programs(GridEngineOptions())
    for programs in (nowhere, unset):
        done = records(programs.accounting(["1"]))
        assert done.returncode != 0
        assert "end" not in done.stdout
