"""`jman submit`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from gateway.client import Job
from gateway.client.jman import asked, shown
from gateway.client.jman.asked import Asked
from gateway.client.jman.commandline import Command, JobIds, Several
from gateway.client.jman.here import Here
from gateway.client.jman.session import Session, json_option

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(cls=Command, context_settings={"allow_interspersed_args": False})
@click.option("-q", "--queue", help="Queue or partition.")
@click.option("-e", "--hvmem", help="Memory at most, such as 8G.")
@click.option("-m", "--memfree", help="Memory that must be free, such as 8G.")
@click.option("-p", "--parallel", "cores", type=click.IntRange(1), help="Cores.")
@click.option("-n", "--name", help="Names the job and its logs.  [default: the command's]")
@click.option("-x", "--dependencies", cls=Several, type=JobIds(), help="Run after these jobs.")
@click.option("-k", "--stop-on-failure", is_flag=True, help="Not if one of them fails.")
@click.option("-d", "--exec-dir", help="Folder to run in.  [default: the home on the host; --local: this one]")
@click.option("-l", "--log-dir", help="Folder for the logs.  [default: logs; --local: the terminal]")
@click.option("-s", "--environment", cls=Several, like="pairs", metavar="NAME=VALUE", help="Variables for the job.")
@click.option("-t", "--array", "--parametric", metavar="[FIRST-]LAST[:STEP]", help="Run it once for each task.")
@click.option("-S", "--python", help="The Python that runs a script.")
@click.option("-z", "--dry-run", is_flag=True, help="Only show what would be submitted.")
@click.option("-i", "--io-big", is_flag=True, help="Grid Engine: on a node for much I/O (-l io_big).")
@click.option("-r", "--repeat", type=click.IntRange(1, 1000), default=1, help="So many times, one after the other.")
@click.option("-o", "--print-id", is_flag=True, help="Print only the job's id.")
@click.option("--wall-time", help="Seconds, or [D-]HH:MM:SS.")
@click.option("--nodes", type=click.IntRange(1), help="Nodes.")
@click.option("--gpus", type=click.IntRange(1), help="GPUs per node.")
@click.option("--account", help="One of the accounts that your certificate may use.")
@click.option("--tag", help="A word to find the job by.")
@click.option("--bundle", type=FILE, help="Send this archive, and run the run.sh in it with the command as arguments.")
@click.option("--input", "inputs", type=FILE, multiple=True, help="With --bundle: a file to send along.")
@json_option
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def submit(session: Session, command: tuple[str, ...], json_wanted: bool, print_id: bool, **options: Any) -> None:
    """Submit a Python script of this folder, or any command of the host's.

    What follows the command is its own: jman submit -t 10 script.py --help
    """
    command = command[1:] if command[:1] == ("--",) else command
    if not command and not options["bundle"]:
        raise click.UsageError("say what to submit, such as: jman submit script.py --option")
    if options["bundle"] and session.local:
        raise click.UsageError("--bundle is for a gateway; with --local the files are here already")
    wanted = _asked(session, command, options)
    if options["dry_run"]:
        wanted.request()
        place = options["queue"] or session.host or "the default host"
        shown.say(f"Would submit @{place} {' '.join(wanted.shown)}")
        return
    jobs = _submit(session.here, wanted, options)
    if json_wanted:
        shown.as_json(jobs)
        return
    for job in jobs:
        shown.say(session.here.id_of(job) if print_id else f"Submitted {shown.line(session.here, job)}")
        for warning in job.as_json.get("warnings") or ():
            shown.note(f"jman: {warning}")


def _asked(session: Session, command: Sequence[str], options: Mapping[str, Any]) -> Asked:
    python = options["python"] or asked.default_python(session.local)
    log_dir = options["log_dir"] or (None if session.local else "logs")
    program = str(options["bundle"]) if options["bundle"] else command[0]
    folder = options["exec_dir"] or ("." if session.local else None)
    fields = {
        "name": options["name"] or Path(program).name,
        "queue": options["queue"],
        "cores": options["cores"],
        "memory": asked.memory(options["hvmem"], options["memfree"]),
        "wall_time": asked.wall_time(options["wall_time"]),
        "working_directory": str(Path(folder).absolute()) if folder else None,
        "stdout": asked.folder(log_dir),
        "stderr": asked.folder(log_dir),
        "environment": asked.environment(options["environment"]),
        "array": asked.tasks(options["array"]) if options["array"] else None,
        **{name: options[name] for name in ("nodes", "gpus", "account", "tag")},
    }
    return Asked(
        command=command,
        shown=[program, *command] if options["bundle"] else asked.shown(command, python),
        fields={name: value for name, value in fields.items() if value not in (None, {})},
        directives=("#$ -l io_big",) if options["io_big"] else (),
        local=session.local,
        python=python,
        bundle=options["bundle"],
    )


def _submit(here: Here, wanted: Asked, options: Mapping[str, Any]) -> list[Job]:
    """One job, or `--repeat` of them that wait for each other."""
    if options["io_big"]:
        here.check_io_big()
    ahead = here.named([name for several in options["dependencies"] for name in several])
    kind = "afterok" if options["stop_on_failure"] else "afterany"
    jobs: list[Job] = []
    for _ in range(options["repeat"]):
        waits_for = [{"job_id": str(job.uuid), "type": kind} for job in [*ahead, *jobs[-1:]]]
        request = {**wanted.request(), **({"dependencies": waits_for} if waits_for else {})}
        job = _upload(here, request, wanted, options["inputs"]) if wanted.bundle else here.submit(request)
        here.remember(job)
        jobs.append(job)
    return jobs


def _upload(here: Here, request: dict[str, Any], wanted: Asked, inputs: Sequence[Path]) -> Job:
    assert wanted.bundle
    size = sum(path.stat().st_size for path in (wanted.bundle, *inputs))
    with shown.transfer(f"sending {wanted.bundle.name}", size) as sent:
        return here.manager.submit_bundle(wanted.bundle, inputs, progress=sent, **request)
