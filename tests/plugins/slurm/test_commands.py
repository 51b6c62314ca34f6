"""What is said to Slurm."""

import pytest

from gateway import JobSpec, RefusedByScheduler, Resources
from gateway_plugins.slurm import commands

SCRIPT = "#!/bin/sh\n"


def spec(script: str = SCRIPT, **more: object) -> JobSpec:
    return JobSpec(uuid="u-1", account="alice", script=script, **more)  # type: ignore[arg-type]


def test_every_field_is_said() -> None:
    wanted = spec(
        name="a b",
        working_directory="/w",
        queue="short",
        resources=Resources(nodes=1, cores=4, memory=2048, gpus=1, wall_time=90061),
        hold=True,
        priority=-5,
        stdout="out",
        stderr="/e/rr",
    )
    assert set(commands.plan(wanted).options) == {
        "--chdir=/w",
        "--job-name=a b",
        "--partition=short",
        "--nodes=1",
        "--cpus-per-task=4",
        "--mem=2048M",
        "--gpus-per-node=1",
        "--time=1-01:01:01",
        "--hold",
        "--nice=5",
        "--output=out",
        "--error=/e/rr",
        "--comment=u-1",
    }


def test_cores_on_several_nodes_are_tasks() -> None:
    options = commands.plan(spec(resources=Resources(nodes=2, cores=16))).options
    assert "--nodes=2" in options
    assert "--ntasks=16" in options


def test_logs_of_a_job() -> None:
    plan = commands.plan(spec(name="a/b%c\\d\ne"))
    assert plan.stdout == "a_b%%c_d_e.o%j"
    assert commands.expand(plan.stdout, "/home/alice", "7") == "/home/alice/a_b%c_d_e.o7"


def test_a_folder_with_a_percent_sign() -> None:
    plan = commands.plan(spec(working_directory="/w/50%j"))
    assert plan.stdout == "/w/50%%j/job.o%j"
    assert commands.expand(plan.stdout, "/w/50%j", "7") == "/w/50%j/job.o7"


@pytest.mark.parametrize("more", [{"working_directory": "/a\\b"}, {"stdout": "a\\b"}, {"priority": 1}])
def test_what_slurm_cannot_honour_is_named(more: dict) -> None:
    with pytest.raises(RefusedByScheduler) as refused:
        commands.plan(spec(**more))
    assert set(refused.value.errors) == set(more)


@pytest.mark.parametrize(
    ("line", "option", "value"),
    [
        ("#SBATCH -p short", "partition", "short"),
        ("#SBATCH -pshort", "partition", "short"),
        ("#SBATCH --partition=short", "partition", "short"),
        ("#SBATCH --partition short", "partition", "short"),
        ("#SBATCH\t-J 'my job' # named", "job-name", "my job"),
        ("#SBATCH --hold", "hold", ""),
        ("#SBATCH -H", "hold", ""),
        ("#SBATCH -A grant", "A", "grant"),
        ("#SBATCH --exclusive", "exclusive", ""),
        ("#SBATCH -J 'open", "job-name", "'open"),
    ],
)
def test_directives(line: str, option: str, value: str) -> None:
    found = commands.script_directives(f"#!/bin/sh\n\n# a comment\n{line}\necho\n")
    assert [(directive.option, directive.value) for directive in found] == [(option, value)]


def test_directives_that_are_none() -> None:
    script = "#!/bin/sh\n##SBATCH -p a\n#SBATCHER -p b\n #SBATCH -p c\necho\n#SBATCH -p d\n"
    assert commands.script_directives(script) == []


def test_two_options_on_a_line() -> None:
    found = commands.script_directives("#!/bin/sh\n#SBATCH -N 2 --hold -n 4\n")
    assert [(directive.option, directive.value) for directive in found] == [
        ("nodes", "2"),
        ("hold", ""),
        ("ntasks", "4"),
    ]


def test_the_request_wins_and_says_so() -> None:
    script = "#!/bin/sh\n#SBATCH -p short\n#SBATCH -t 5\n#SBATCH --comment=mine\n"
    plan = commands.plan(spec(script, queue="batch"))
    assert "--partition=batch" in plan.options
    assert [words.split("`")[1] for words in plan.warnings] == ["#SBATCH -p short", "#SBATCH --comment=mine"]
    assert commands.plan(spec(script, queue="short")).warnings[0].startswith("the script's `#SBATCH --comment")


def test_the_scripts_own_logs_are_left_to_it() -> None:
    for line in ("-o mine.txt", "--error=err", "--array=1-3"):
        plan = commands.plan(spec(f"#!/bin/sh\n#SBATCH {line}\n"))
        assert not [option for option in plan.options if option.startswith(("--output", "--error"))]
        assert plan.show
    assert commands.plan(spec("#!/bin/sh\n#SBATCH -J mine\n")).stdout == "%x.o%j"
