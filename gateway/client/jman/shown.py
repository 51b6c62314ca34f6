"""What jman prints: the lines and columns of gridtk-jman, that fit the terminal, and colours only there."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)

from gateway.client import Job
from gateway.client.jman.here import Here, properties
from gateway.model import JobState

WORDS = {
    JobState.DRAFT: "submitted",
    JobState.SUBMITTING: "submitted",
    JobState.QUEUED: "queued",
    JobState.HELD: "waiting",
    JobState.FINISHED: "success",
}
COLOURS = {"success": "green", "failure": "red", "executing": "cyan"}
UNITS = (("d", "day", 86400), ("h", "hour", 3600), ("m", "minute", 60), ("s", "second", 1))
STATUSES = ("submitted", "queued", "waiting", "executing", "success", "failure")

console = Console(stderr=True, highlight=False)


def status(job: Job) -> str:
    """The word of gridtk-jman for a job's state."""
    state = job.state or JobState.DRAFT
    return WORDS.get(state, "failure" if state.final else "executing")


def status_in_full(job: Job) -> str:
    """With the exit code of one that failed, or what else became of it."""
    word = status(job)
    if word != "failure":
        return word
    return f"{word} ({job.exit_code})" if job.state == JobState.FAILED else f"{word} ({job.state})"


def seconds_old(job: Job) -> int:
    """Since it was submitted, the last time."""
    at = job.as_json.get("submitted_at") or job.as_json.get("created_at")
    return max(0, int((datetime.now(UTC) - datetime.fromisoformat(at)).total_seconds())) if at else 0


def age(seconds: int) -> str:
    """`2m`."""
    return next((f"{seconds // size}{short}" for short, _, size in UNITS if seconds >= size), "0s")


def ago(seconds: int) -> str:
    """`34 minutes ago`."""
    for _, word, size in UNITS:
        if seconds >= size:
            count = seconds // size
            return f"{count} {word}{'s' if count > 1 else ''} ago"
    return "0 seconds ago"


def arguments(job: Job) -> list[str]:
    """The command that the job was submitted with; another's by its name."""
    said = properties(job).get("arguments")
    return [str(word) for word in said] if isinstance(said, list) and said else [job.name]


def queue(job: Job) -> str:
    return str(job.as_json.get("queue") or job.as_json.get("host"))


def line(here: Here, job: Job) -> str:
    """`6151645 @all.q (0 seconds ago) -S /usr/bin/python myscript.py --help`."""
    words = " ".join(arguments(job))
    return f"{here.id_of(job)} @{queue(job)} ({ago(seconds_old(job))}) {words}"


def say(text: str) -> None:
    """To the terminal, without what could steer it."""
    click.echo("".join(c if c.isprintable() or c in "\n\t" else "?" for c in text))


def note(text: str) -> None:
    """Feedback, which is no result: on stderr."""
    click.echo(text, err=True)


def as_json(values: Iterable[Any]) -> None:
    click.echo(json.dumps([value.as_json if isinstance(value, Job) else value for value in values], indent=2))


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], colour: int | None = None) -> None:
    """Columns as wide as they must be; on a terminal the last is cut where that ends. `colour`: the column of statuses,
    which have one."""
    widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(len(heads))]
    if sys.stdout.isatty():
        widths[-1] = min(widths[-1], max(10, console.width - sum(widths[:-1]) - 2 * len(widths)))
    for row in (heads, ["=" * width for width in widths], *rows):
        cells = [_fitted(cell, width) for cell, width in zip(row, widths, strict=True)]
        if colour is not None and row in rows:
            word = row[colour].split()[0]
            cells[colour] = click.style(cells[colour], fg=COLOURS.get(word))
        click.echo(f"  {'  '.join(cells).rstrip()}")


def _fitted(text: str, width: int) -> str:
    plain = "".join(c if c.isprintable() else "?" for c in text)
    return plain.ljust(width) if len(plain) <= width else f"{plain[: width - 1]}…"


def progress(what: str, total: int, *, shown: bool = True) -> Progress:
    """A bar on stderr, where that is a terminal."""
    bar = Progress(
        *(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()),
        console=console,
        transient=True,
        redirect_stdout=False,  # what jobs write goes where it belongs, see `execute.Terminal`
        redirect_stderr=False,
        disable=not shown or not console.is_terminal,
    )
    bar.add_task(what, total=total)
    return bar


@contextmanager
def transfer(what: str, size: int) -> Iterator[Callable[[int], None]]:
    """A bar for so many bytes; gives what is to be called with those that were sent."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=size)
        yield lambda count: bar.advance(task, count)


def folder_of(job: Job, stream: str) -> str:
    """The folder of a log, relative to where the job worked."""
    return short_path(job, str(job.as_json.get(f"{stream}_file") or "")).rpartition("/")[0]


def logs_of(job: Job) -> list[tuple[str, str | None]]:
    """Its streams with the files on the host."""
    return [(stream, job.as_json.get(f"{stream}_file")) for stream in ("stdout", "stderr")]


def short_path(job: Job, path: str) -> str:
    """Relative to where the job worked."""
    folder = str(job.as_json.get("working_directory") or "")
    return path.removeprefix(f"{folder.rstrip('/')}/") if folder else path
