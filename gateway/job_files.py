"""The files of jobs on their hosts: logs, and what is below the output folder. Read as the job's account."""

from collections.abc import Iterable

from gateway.errors import NotFound
from gateway.hosts import Host
from gateway.model import Job, task_range
from gateway.transport import Command, RemoteFile


def open_log(host: Host, job: Job, stream: str, task: int = 0) -> RemoteFile:
    """The `stdout` or `stderr` of a job, or of that task of an array, opened as the job's account."""
    path = job.stdout_file if stream == "stdout" else job.stderr_file
    if path is None:
        raise NotFound(f"the job has no {stream} yet; it is {job.state}", code="no_output_yet")
    path = task_log(path, task) if job.array else path
    # A log that the user placed elsewhere is fenced in by its own folder.
    home = job.working_directory or ""
    within = home if home and path.startswith(f"{home.rstrip('/')}/") else path.rpartition("/")[0] or "/"
    return host.transport.open_file(path, job.account, within)


def remove_logs(host: Host, job: Job, tasks: Iterable[int] | None, sparing: Job | None = None) -> None:
    """Those of all tasks of an array where no `tasks` are named. A log that the new job writes to as well is its own
    now."""
    spared = (sparing.stdout_file, sparing.stderr_file) if sparing else ()
    patterns = sorted({log for log in (job.stdout_file, job.stderr_file) if log and log not in spared})
    numbers = tasks or (task_range(job.array).ids if job.array else (0,))
    logs = [task_log(pattern, number) for pattern in patterns for number in numbers]
    if logs:
        files = "".join(f"{log}\0" for log in logs).encode("utf-8", "surrogateescape")
        command = Command(("xargs", "-0", "rm", "-f", "--"), stdin=files, repeatable=True)
        host.transport.run(command, job.account)


def root(job: Job) -> str:
    """The job's output folder, or its working directory where it has none."""
    if job.working_directory is None:
        raise NotFound(f"the job has no files yet; it is {job.state}", code="no_output_yet")
    return job.output_directory or job.working_directory


def task_log(pattern: str, task: int) -> str:
    """The log of a task of an array, see `Submitted`."""
    return pattern.replace("{task_id}", str(task))
