"""`jman --local execute`: run what was collected, some at a time, minding what waits for what.

Jobs are handed to the local scheduler a few ahead of what runs, so that a supervisor goes from one to the next; the
rest stays collected, whatever becomes of this process.
"""

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.progress import Progress

from gateway.client import Job
from gateway.client.jman import shown
from gateway.client.jman.commandline import Command, JobIds, Several
from gateway.client.jman.session import Session, json_option, say_error
from gateway.errors import Conflict, JobgateError
from gateway.model import JobState

if TYPE_CHECKING:
    from gateway.client.jman.local import LocalHere

AHEAD = 4  # jobs handed over for each that may run
LOOK_AGAIN = 0.05
STREAM = re.compile(r"\.([oe])\d+(?:\.\d+)?$")
INTERRUPTED = 130


@click.command(cls=Command)
@click.option("-p", "--parallel", type=click.IntRange(1), default=1, show_default=True, help="Jobs at a time.")
@click.option("-j", "--job-ids", "ids", cls=Several, type=JobIds(), help="Only these.")
@click.option("-s", "--sleep-time", type=click.FloatRange(0), default=1.0, help="With --stay: seconds between looks.")
@click.option(
    "-x/ ",
    "--die-when-finished/--stay",
    "die",
    default=True,
    help="End when all have run, or wait for more.  [default: end]",
)
@click.option("-l", "--no-log-files", is_flag=True, help="Output to the terminal, also of jobs with a folder for logs.")
@click.option("-n", "--nice", type=click.IntRange(0, 19), default=0, help="Be so nice to others.")
@json_option
@click.pass_obj
def execute(
    session: Session,
    parallel: int,
    ids: Sequence[Sequence[str]],
    sleep_time: float,
    die: bool,
    no_log_files: bool,
    nice: int,
    json_wanted: bool,
) -> None:
    """With --local: run the jobs that were collected. Exit code 1 if one fails."""
    if not session.local:
        raise click.UsageError("a gateway's jobs run by themselves; execute is for: jman --local execute")
    from gateway.client.jman.local import LocalHere

    here = LocalHere(session.database, parallel)
    session.opened.append(here)
    if not session.database.exists():
        shown.note("nothing is collected here; `jman --local submit` does that")
        return
    os.nice(nice)
    wanted = [name for several in ids for name in several]
    with here.gateway.executing(), _interruptible() as interrupted:
        run = Execution(here, parallel, wanted, no_log_files, interrupted)
        try:
            run.all()
            while not die:
                run.pause(sleep_time)
                run.all()
        except KeyboardInterrupt:
            run.stop()
            sys.exit(INTERRUPTED)
        finally:
            run.end()
    done = run.done()
    if json_wanted:
        shown.as_json(done)
    sys.exit(_summary(here, done, quiet=json_wanted))


def _summary(here: "LocalHere", done: Sequence[Job], *, quiet: bool) -> int:
    failed = [job for job in done if shown.status(job) != "success"]
    for job in () if quiet else failed:
        shown.note(f"{shown.status_in_full(job)}: {shown.line(here, job)}")
    return 1 if failed else 0


@contextmanager
def _interruptible() -> Iterator[Callable[[], None]]:
    """Ctrl-C, and what else asks a process to end, raises KeyboardInterrupt where what is given is called: never in the
    middle of something, such as a query whose lease would stay. A second one raises it anywhere."""
    came: list[int] = []

    def note(number: int, _frame: object) -> None:
        came.append(number)
        if len(came) > 1:
            raise KeyboardInterrupt

    def look() -> None:
        if came:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield look
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Execution:
    """One run over what is collected."""

    def __init__(
        self,
        here: "LocalHere",
        parallel: int,
        ids: Sequence[str],
        no_log_files: bool,
        interrupted: Callable[[], None],
    ) -> None:
        """`interrupted` is called wherever the run may be, and raises KeyboardInterrupt where it is to."""
        self.here = here
        self.interrupted = interrupted
        self.most = AHEAD * parallel
        self.ids = set(ids)
        self.no_log_files = no_log_files
        self.handed: dict[str, Job] = {}
        here.gateway.output.mkdir(exist_ok=True)
        self.bar = shown.progress("running", 0)
        self.terminal = Terminal(here.gateway.output, self.bar)
        self.bar.start()
        if ids:
            here.named(ids)  # one that there is not is said so

    def all(self) -> None:
        """Everything that is collected now and can run. Jobs that wait for others come behind them: they were made
        later."""
        drafts = [job for job in self.here.everything() if job.state == JobState.DRAFT]
        waiting = {str(job.uuid): job for job in drafts if not self.ids or str(job.id) in self.ids}
        others = _names(job for job in drafts if str(job.uuid) not in waiting)
        self.bar.update(self.bar.task_ids[0], total=len(self.handed) + len(waiting))
        live: dict[str, Job] = {}
        while waiting or live:
            self._hand_over(waiting, live, others)
            if not live:
                break
            self.pause(LOOK_AGAIN)
            live = self._look()
            self.bar.update(self.bar.task_ids[0], completed=len(self.handed) - len(live))
        for job in waiting.values():
            shown.note(f"not run, since it waits for jobs that were not to be executed: {shown.line(self.here, job)}")

    def _hand_over(self, waiting: dict[str, Job], live: dict[str, Job], others: set[str]) -> None:
        blocked = others | _names(waiting.values()) | _names(live.values())
        ready = (job for job in waiting.values() if not _needs(job) & blocked)
        for job in [*islice(ready, max(0, self.most - len(live)))]:
            self.interrupted()
            del waiting[str(job.uuid)]
            if self._start(job):
                live[str(job.uuid)] = job

    def _start(self, job: Job) -> bool:
        if self.no_log_files:
            for stream in ("stdout", "stderr"):
                log = Path(job.as_json[f"{stream}_file"] or f"{job.name}.{stream[3]}{job.id}").name
                job.set_attribute(stream, str(self.here.gateway.output / log))
        try:
            job.execute()
        except Conflict:
            return False  # somebody has just deleted it
        except JobgateError as problem:
            say_error(problem)
            return False
        self.handed[str(job.uuid)] = job
        return True

    def pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        self.interrupted()
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, LOOK_AGAIN))
            self.interrupted()

    def _look(self) -> dict[str, Job]:
        self.here.gateway.tick()
        self.terminal.copy()
        return {str(job.uuid): job for job in self.here.live()}

    def stop(self) -> None:
        """End what runs, and take back what has not begun."""
        shown.note("stopping the jobs that run; the rest stays collected")
        live = self._look().values()
        for job in sorted(live, key=lambda job: job.status != "QUEUED"):  # first what would begin when others end
            try:
                job.stop()
            except Conflict:
                continue  # it has just ended
        while self._look():
            time.sleep(LOOK_AGAIN)
        for job in self.here.again(list(self.handed.values())):
            if job.state == JobState.CANCELLED and "start_time" not in job.as_json:
                job.reset()

    def end(self) -> None:
        self.terminal.copy()
        self.bar.stop()

    def done(self) -> list[Job]:
        """The jobs that were run, as they are now."""
        return self.here.again(list(self.handed.values()))


def _names(jobs: Iterable[Job]) -> set[str]:
    return {str(name) for job in jobs for name in (job.uuid, job.job_id)}


def _needs(job: Job) -> set[str]:
    return {each["job_id"] for each in job.get_attribute("dependencies")}


class Terminal:
    """Copies to the terminal what jobs write into the files of a folder, as it comes. The bar makes room for it."""

    def __init__(self, folder: Path, bar: Progress) -> None:
        self.folder = folder
        self.bar = bar
        self.seen: dict[str, int] = {}
        self._grown()  # what earlier runs have written is known

    def copy(self) -> None:
        grown = self._grown()
        if grown:
            self.bar.stop()
            for path, start in grown:
                self._print(path, start)
            sys.stdout.flush()
            self.bar.start()

    def _grown(self) -> list[tuple[Path, int]]:
        """The files that are longer than they were, and how long they were."""
        found = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                size, before = entry.stat().st_size, self.seen.get(entry.name, 0)
                if size > before:
                    found.append((Path(entry.path), before))
                self.seen[entry.name] = size
        return found

    @staticmethod
    def _print(path: Path, start: int) -> None:
        stream = STREAM.search(path.name)
        out = sys.stderr.buffer if stream and stream[1] == "e" else sys.stdout.buffer
        with path.open("rb") as file:
            file.seek(start)
            while piece := file.read(1 << 16):
                out.write(piece)
        out.flush()
