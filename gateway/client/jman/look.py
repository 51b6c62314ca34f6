"""`jman list`, `report`, `logs`, `wait`, `hosts`: looking, and changing nothing."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from gateway.client import Job
from gateway.client.jman import shown
from gateway.client.jman.commandline import Command, JobIds, Several
from gateway.client.jman.here import Here
from gateway.client.jman.session import Chosen, Session, json_option, selection

STEP = 5.0  # seconds after which the other jobs are looked at as well


@click.command("list", cls=Command)
@selection
@click.option("-A", "--all", "everything", is_flag=True, help="All of yours, wherever they were submitted from.")
@click.option("-a", "--print-array-jobs", "arrays", is_flag=True, help="The tasks of arrays too.")
@click.option("-l", "--long", "in_full", is_flag=True, help="All columns.")
@click.option("-t", "--print-times", "times", is_flag=True, help="When it was submitted, began, and ended.")
@click.option("-x", "--print-dependencies", "dependencies", is_flag=True, help="What it waits for.")
@click.option("-o", "--ids-only", is_flag=True, help="Only the ids, for scripts.")
@json_option
@click.pass_obj
def list_jobs(
    session: Session, chosen: Chosen, everything: bool, ids_only: bool, json_wanted: bool, **more: bool
) -> None:
    """List the jobs that were submitted from this folder; all of yours where none were."""
    here = session.here
    jobs = chosen.of(here, everything or here.is_empty())
    if json_wanted:
        shown.as_json(jobs)
    elif ids_only:
        for job in jobs:
            click.echo(here.id_of(job))
    elif jobs:
        _table(here, jobs, **more)


def _table(here: Here, jobs: Sequence[Job], arrays: bool, in_full: bool, times: bool, dependencies: bool) -> None:
    heads = ["job-id", "queue", "age", "status"]
    heads += ["name", "array", "exit"] if in_full else []
    heads += ["submitted", "began", "ended"] if times or in_full else []
    heads += ["waits-for"] if dependencies or in_full else []
    names = here.names(jobs)
    rows = []
    for job in jobs:
        about = job.as_json
        row = [here.id_of(job), shown.queue(job), shown.age(shown.seconds_old(job)), shown.status_in_full(job)]
        row += [job.name, about.get("array") or "", _text(job.exit_code)] if in_full else []
        if times or in_full:
            row += [
                str(about.get("created_at"))[:19].replace("T", " "),
                *(about.get(f"{end}_time", "") for end in ("start", "end")),
            ]
        if dependencies or in_full:
            row += [",".join(names.get(each["job_id"], each["job_id"]) for each in about["dependencies"])]
        rows.append([*row, " ".join(shown.arguments(job))])
        if arrays and about.get("array"):
            rows += [_task(here, job, task, len(heads)) for task in job.tasks().values()]
    shown.table([*heads, "arguments"], rows, colour=3)


def _task(here: Here, job: Job, task: dict[str, Any], columns: int) -> list[str]:
    one = Job(here.manager, known={**job.as_json, **task, "name": job.name})
    row = [f"{here.id_of(job)}.{task['task_id']}", "", "", shown.status_in_full(one)]
    return [*row, *[""] * (columns - len(row)), ""]


def _text(value: object) -> str:
    return "" if value is None else str(value)


@click.command(cls=Command)
@selection
@click.option("-e", "--errors-only", is_flag=True, help="Only jobs and tasks that failed.")
@click.option("-o", "--output-only", is_flag=True, help="Only what went to stdout.")
@click.option("-a", "--array-ids", cls=Several, type=JobIds(), help="Only these tasks of arrays.")
@json_option
@click.pass_obj
def report(
    session: Session, chosen: Chosen, errors_only: bool, output_only: bool, array_ids: Any, json_wanted: bool
) -> None:
    """Show the logs of jobs that have ended, with how they were asked for."""
    here = session.here
    jobs = [job for job in chosen.of(here, here.is_empty()) if job.final]
    jobs = [job for job in jobs if not errors_only or shown.status(job) == "failure"]
    only = {int(number) for several in array_ids for number in several}
    streams = ("stdout",) if output_only else ("stdout", "stderr")
    reports = []
    names = here.names(here.jobs())
    for job in jobs:
        tasks = _tasks(job, only, errors_only)
        logs = [(task, stream, job.log(stream, task)) for task in tasks for stream in streams]
        reports.append({**job.as_json, "logs": [{"task_id": t, "stream": s, "text": text} for t, s, text in logs]})
        if not json_wanted:
            _report(here, job, logs, names)
    if json_wanted:
        shown.as_json(reports)
    elif not jobs:
        shown.note("nothing has failed" if errors_only else "nothing has ended yet")


def _tasks(job: Job, only: set[int], errors_only: bool) -> list[int | None]:
    """Whose logs are to be shown; None for a job that is no array."""
    if not job.as_json.get("array"):
        return [None]
    found = job.tasks("ERROR") if errors_only else job.tasks()
    return [number for number in found if not only or number in only]


def _report(here: Here, job: Job, logs: Sequence[tuple[int | None, str, str]], names: Mapping[str, str]) -> None:
    about = job.as_json
    words = shown.arguments(job)
    split = [*words[:2], "--", *words[2:]] if words[0] == "-S" else words
    said = {
        "deps": [names.get(each["job_id"], each["job_id"]) for each in about["dependencies"]],
        **{stream: shown.folder_of(job, stream) for stream in ("stderr", "stdout")},
        "queue": about["queue"],
        "cwd": about["working_directory"],
        "name": job.name,
    }
    shown.say(f"Job {shown.line(here, job)}")
    shown.say(f"Command line: ({split},) {said}")
    if shown.status(job) == "failure":
        shown.say(f"Status: {shown.status_in_full(job)}{': ' + about['reason'] if about['reason'] else ''}")
    for task, stream, text in logs:
        number = here.id_of(job) + (f".{task}" if task is not None else "")
        path = str(about.get(f"{stream}_file") or "").replace("{task_id}", str(task))
        shown.say(f"\n{number} {stream} ({path})\n{text}")


@click.command(cls=Command)
@click.option("-f", "--follow", is_flag=True, help="Go on until the job ends.")
@click.option("-e", "--stderr", is_flag=True, help="What went to stderr.")
@click.option("-t", "--task", type=click.IntRange(0), help="Of an array: this task.")
@click.option("--tail", type=click.IntRange(0), help="The last so many lines.")
@json_option
@click.argument("job_ids", type=JobIds(), nargs=-1, required=True)
@click.pass_obj
def logs(
    session: Session,
    job_ids: Sequence[Sequence[str]],
    follow: bool,
    stderr: bool,
    task: int | None,
    tail: int | None,
    json_wanted: bool,
) -> None:
    """Print what jobs have written, as it is."""
    stream = "stderr" if stderr else "stdout"
    for job in session.here.named([name for several in job_ids for name in several]):
        if json_wanted:
            shown.as_json([{"job_id": job.job_id, **job.get_logs(task, tail)}])
        elif job.as_json.get("array") and task is None:
            raise click.UsageError("the job is an array; say which task with --task")
        elif follow:
            for piece in job.follow(stream, tail, task):
                sys.stdout.buffer.write(piece)
                sys.stdout.buffer.flush()
        else:
            sys.stdout.buffer.write(job.log_bytes(stream, task, tail))


@click.command(cls=Command)
@selection
@json_option
@click.pass_obj
def wait(session: Session, chosen: Chosen, json_wanted: bool) -> None:
    """Wait until jobs have ended. Exit code 1 if any has not ended well."""
    here = session.here
    jobs = {job.id: job for job in chosen.of(here)}
    with shown.progress("waiting", len(jobs)) as bar:
        while waiting := [job for job in jobs.values() if not job.final]:
            bar.update(bar.task_ids[0], completed=len(jobs) - len(waiting))
            here.wait_for(waiting[0], STEP)
            jobs.update({job.id: job for job in here.again([*jobs.values()])})
    if json_wanted:
        shown.as_json(jobs.values())
    failed = [job for job in jobs.values() if shown.status(job) != "success"]
    for job in () if json_wanted else failed:
        shown.note(f"{shown.status_in_full(job)}: {shown.line(here, job)}")
    sys.exit(1 if failed else 0)


@click.command(cls=Command)
@json_option
@click.pass_obj
def hosts(session: Session, json_wanted: bool) -> None:
    """List the hosts that jobs can be sent to."""
    found = session.here.manager.hosts()
    if json_wanted:
        shown.as_json(found)
        return
    rows = [
        [
            f"{host['name']}{' (default)' if host['default'] else ''}",
            host["backend"],
            "ok" if host["health"]["ok"] else "down",
            ",".join(queue["name"] for queue in host["queues"]),
        ]
        for host in found
    ]
    shown.table(["host", "backend", "health", "queues"], rows)
