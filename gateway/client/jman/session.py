"""What all commands have in common: where the jobs are, which of them are meant, and how an error looks."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import click

from gateway.client import Job, JobManager
from gateway.client.errors import BadSettings
from gateway.client.jman import shown
from gateway.client.jman.commandline import Group, JobIds, Several
from gateway.client.jman.here import Here
from gateway.errors import JobgateError

PATIENCE = 5.0  # seconds for which a gateway that does not answer is tried


@dataclass
class Session:
    """What the options before the command say."""

    local: bool
    database: Path
    host: str | None
    url: str | None
    opened: list[Here] = field(default_factory=list)

    @property
    def here(self) -> Here:
        """The jobs of this folder; opened on first use."""
        if not self.opened:
            self.opened.append(self._open())
        return self.opened[0]

    def _open(self) -> Here:
        if self.local:
            from gateway.client.jman.local import LocalHere  # the whole gateway, which takes a second to import

            return LocalHere(self.database)
        return Here(JobManager(self.url, patience=PATIENCE), self.database, self.host)

    def close(self) -> None:
        for here in self.opened:
            here.close()


class Commands(Group):
    """All of jman. An error of ours is one line on stderr, with the exit code 2 where it is one of usage, else 1."""

    aliases = {
        "submit": ("sub",),
        "list": ("ls",),
        "report": ("rep", "r", "explain", "why"),
        "resubmit": ("reset", "requeue", "re"),
        "delete": ("del", "rm", "remove"),
        "execute": ("run-scheduler", "sched", "x"),
    }

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except JobgateError as problem:
            fail(problem)
        finally:
            if isinstance(ctx.obj, Session):
                ctx.obj.close()


def fail(problem: JobgateError) -> NoReturn:
    say_error(problem)
    sys.exit(2 if isinstance(problem, BadSettings) else 1)


def say_error(problem: JobgateError) -> None:
    trace = f" (request {problem.request_id})" if problem.request_id and problem.status >= 500 else ""
    click.secho(f"jman: {' '.join(problem.message.split())}{trace}", err=True, fg="red")


json_option = click.option("--json", "json_wanted", is_flag=True, help="Print JSON.")


def selection(command: Callable[..., Any], status: tuple[str, ...] = ("-s", "--status")) -> Callable[..., Any]:
    """The options that say which jobs are meant; the command gets a `Chosen`."""

    def with_chosen(*args: Any, ids: Any, names: Any, states: Any, **more: Any) -> Any:
        return command(*args, chosen=Chosen([each for some in ids for each in some], names, states), **more)

    with_chosen.__name__, with_chosen.__doc__ = command.__name__, command.__doc__
    with_chosen.__click_params__ = getattr(command, "__click_params__", [])  # type: ignore[attr-defined]
    word = click.Choice(shown.STATUSES)
    for option in (
        click.option(*status, "states", cls=Several, like="words", type=word, help="Those in these states."),
        click.option("-n", "--names", cls=Several, like="words", help="Those with these names."),
        click.option("-j", "--job-ids", "ids", cls=Several, type=JobIds(), help="7, 1-4, 10+2, 761.hpc, a uuid."),
    ):
        with_chosen = option(with_chosen)
    return with_chosen


@dataclass(frozen=True)
class Chosen:
    """Which jobs are meant."""

    ids: Sequence[str] = ()
    names: Sequence[str] = ()
    status: Sequence[str] = ()

    def of(self, here: Here, everything: bool = False) -> list[Job]:
        """Those that are named, else those of this folder, or with `everything` all of the user's. Tells where there
        are none."""
        jobs = here.named(self.ids) if self.ids else here.everything() if everything else here.jobs()
        found = [job for job in jobs if self._wanted(job)]
        if jobs and not found:
            shown.note("nothing matches")
        elif not jobs:
            shown.note("no jobs were submitted from this folder")
        return found

    def _wanted(self, job: Job) -> bool:
        return (not self.names or job.name in self.names) and (not self.status or shown.status(job) in self.status)
