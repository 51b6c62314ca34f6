"""`jman resubmit`, `stop`, `delete`: what changes jobs that there are."""

from collections.abc import Iterable, Sequence
from functools import partial

import click

from gateway.client import Job
from gateway.client.jman import shown
from gateway.client.jman.commandline import Command, JobIds, Several
from gateway.client.jman.here import Here
from gateway.client.jman.session import Chosen, Session, json_option, selection
from gateway.errors import Conflict, NotFound
from gateway.model import JobState

STOP_PATIENCE = 120.0  # seconds until a job that was stopped has ended


@click.command(cls=Command)
@partial(selection, status=("--status",))
@click.option("--clean/--keep-logs", "-c/-k", default=False, help="Remove the old logs.  [default: keep them]")
@click.option("-s", "--also-success", is_flag=True, help="Those too that ended well.")
@click.option("-a", "--running-jobs", is_flag=True, help="Those too that have not ended; they are stopped.")
@json_option
@click.pass_obj
def resubmit(
    session: Session, chosen: Chosen, clean: bool, also_success: bool, running_jobs: bool, json_wanted: bool
) -> None:
    """Submit jobs once more: those that failed, exactly as they were; a script as it is now."""
    here = session.here
    jobs = [job for job in chosen.of(here) if job.state != JobState.DRAFT]
    if running_jobs:
        jobs = _stopped(jobs)
    again = [job for job in jobs if job.final and (also_success or shown.status(job) != "success")]
    if not again:
        shown.note("nothing to resubmit: no job has failed (--also-success takes those that ended well)")
    for job in again:
        _again(here, job, clean, quiet=json_wanted)
    if json_wanted:
        shown.as_json(again)


def _again(here: Here, job: Job, clean: bool, quiet: bool) -> None:
    before, logs = here.id_of(job), _logs(job)
    job.reset(clean=clean)
    here.refresh_script(job)
    if not here.local:
        job.execute()
    if quiet:
        return
    shown.say(f"Re-submitted job {shown.line(here, job)}")
    for log in logs if clean else ():
        shown.say(f"  removed `{log}'")
    if before != here.id_of(job):
        shown.say(f"  deleted job {before} from database")


@click.command(cls=Command)
@selection
@json_option
@click.pass_obj
def stop(session: Session, chosen: Chosen, json_wanted: bool) -> None:
    """Stop jobs, and keep their logs."""
    jobs = [job for job in chosen.of(session.here) if not job.final and job.state != JobState.DRAFT]
    if not jobs:
        shown.note("nothing to stop")
    for job in reversed(jobs):  # what waits for others first, so that it does not begin just now
        _stop(job)
        if not json_wanted:
            shown.say(f"Stopped {shown.line(session.here, job)}")
    if json_wanted:
        shown.as_json(jobs)


@click.command(cls=Command)
@selection
@click.option("-a", "--array-ids", cls=Several, type=JobIds(), help="Only stop these tasks of arrays.")
@click.option("-r", "--keep-logs", is_flag=True, help="Leave the logs.")
@click.option("-R", "--keep-log-dir", is_flag=True, help="Leave the folder of the logs, also when it is empty.")
@click.option("--dependents", is_flag=True, help="Those too that wait for one of them.")
@json_option
@click.pass_obj
def delete(
    session: Session,
    chosen: Chosen,
    array_ids: Sequence[Sequence[str]],
    keep_logs: bool,
    keep_log_dir: bool,
    dependents: bool,
    json_wanted: bool,
) -> None:
    """Delete jobs and their logs; those that run are stopped first."""
    here = session.here
    jobs = chosen.of(here)
    if array_ids:
        for job in jobs:
            job.stop_tasks([int(number) for several in array_ids for number in several])
        return
    if dependents:
        jobs = _with_dependents(jobs, here.jobs())
    told = [job.as_json for job in jobs]
    uuids = [str(job.uuid) for job in jobs]
    _stopped(jobs)
    for job in reversed(jobs):  # what waits for others goes first, so that nothing begins meanwhile
        _delete(here, job, keep_logs, quiet=json_wanted)
    here.forget(uuids, set() if keep_logs or keep_log_dir else _folders(told))
    if json_wanted:
        shown.as_json(told)


def _delete(here: Here, job: Job, keep_logs: bool, quiet: bool) -> None:
    logs = [] if keep_logs else _logs(job)
    about, number = shown.line(here, job), here.id_of(job)
    try:
        job.delete(clean=not keep_logs)
    except NotFound:
        shown.note(f"job {number} was gone already")
    if quiet:
        return
    shown.say(f"Cleaning-up logs for job {about}")
    for log in logs:
        shown.say(f"  removed `{log}'")
    shown.say(f"  deleted job {number} from database")


def _logs(job: Job) -> list[str]:
    """The logs as they are shown; those of an array's tasks in one line."""
    found = dict.fromkeys(path for _, path in shown.logs_of(job) if path)
    tasks = f"[{job.as_json.get('array')}]"
    return [shown.short_path(job, path).replace("{task_id}", tasks) for path in found]


def _folders(told: Iterable[dict[str, object]]) -> set[str]:
    logs = [about.get(f"{stream}_file") for about in told for stream in ("stdout", "stderr")]
    return {str(log).rpartition("/")[0] for log in logs if log}


def _with_dependents(jobs: Sequence[Job], everything: Sequence[Job]) -> list[Job]:
    found = {job.uuid: job for job in jobs}
    names = {name for job in jobs for name in (job.uuid, job.job_id)}
    for job in everything:  # in the order of their making, so whoever waits comes behind
        if any(each["job_id"] in names for each in job.as_json["dependencies"]):
            found[job.uuid] = job
            names |= {job.uuid, job.job_id}
    return list(found.values())


def _stop(job: Job) -> None:
    """One that ends meanwhile is as well."""
    try:
        job.stop()
    except Conflict:
        job.update_status()
        if not job.final:
            raise


def _stopped(jobs: Sequence[Job]) -> list[Job]:
    """All of them, once none runs any more."""
    live = [job for job in jobs if not job.final and job.state != JobState.DRAFT]
    for job in reversed(live):
        _stop(job)
    with shown.progress("stopping", len(live)) as bar:
        for job in live:
            try:
                job.wait(STOP_PATIENCE)
            except TimeoutError as problem:
                raise click.ClickException(f"{problem}; try again later") from None
            bar.advance(bar.task_ids[0])
    return list(jobs)
