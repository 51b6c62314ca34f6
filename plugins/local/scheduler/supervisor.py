"""A supervisor: claims a job, runs it to its end, writes that down, claims the next; ends when none can start.

It is the subreaper of its job: whatever the job starts, in sessions of its own or not, stays below it, so it sees the
whole tree, and the job has ended when it has no child left. Killing the supervisor with -9 is noticed by the next one
who looks (`spool.recover`).
"""

import ctypes
import os
import signal
import sqlite3
import sys
import time
from contextlib import suppress

from . import job as jobs
from . import launch, processes, spool
from .spool import Spool, SpoolError

PR_SET_CHILD_SUBREAPER = 36
GRACE = 10.0
KILL_PATIENCE = 60.0
LOOK_AGAIN = 2.0
LINGER, LINGER_PAUSE = 10, 0.02
WAKE = {signal.SIGCHLD, signal.SIGUSR1}
IGNORED = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


def main(folder: str) -> None:
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.chdir("/")
    signal.pthread_sigmask(signal.SIG_BLOCK, WAKE)
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    try:
        _work(Spool(folder))
    except SpoolError as problem:
        sys.exit(f"{time.strftime('%F %T')} supervisor {os.getpid()}: {problem}")


def _work(queue: Spool) -> None:
    with queue.transaction() as connection:
        number = spool.register(connection, os.getpid())
    while True:
        spool.recover(queue)
        job = spool.claim(queue, number)
        if job is None:
            return
        with suppress(SpoolError):  # the next who calls may start more; this job is not to suffer
            spool.dispatch(queue, lambda: launch.orphan(queue.folder))
        if not _run(queue, job):
            return  # something of the job would not go; it must not count as the next one's
        _linger(queue)


def _linger(queue: Spool) -> None:
    """Jobs often come one behind the other, and to start another supervisor costs more than a short job."""
    for _ in range(LINGER):
        if spool.can_start(queue):
            return
        time.sleep(LINGER_PAUSE)


def _run(queue: Spool, job: sqlite3.Row) -> bool:
    """Run one job to its end; false where something of it could not be ended."""
    try:
        started = _start(queue, job)
    except jobs.CannotStart as problem:
        _record(queue, job["id"], "failed", reason=str(problem))
        return True
    _subreaper(True)
    try:
        spool.set_process(queue, job["id"], started.pid)
        started.go()
    except SpoolError:
        started.close_gate()
        raise
    run = Run(queue, job, started.pid)
    gone = run.wait()
    _subreaper(False)
    jobs.remove_script(job["id"], queue.folder)
    _record(queue, job["id"], *run.outcome(started.failure()))
    return gone


def _start(queue: Spool, job: sqlite3.Row) -> jobs.Started:
    """A full disk passes, and is not the job's fault."""
    pause = 0.1
    while True:
        try:
            return jobs.start(job, queue.folder)
        except jobs.NoRoom as problem:
            _note(f"job {job['id']} not started yet: {problem}")
            time.sleep(pause)
            pause = min(pause * 2, 10.0)


def _record(
    queue: Spool,
    job: int,
    state: str,
    exit_code: int | None = None,
    number: int | None = None,
    reason: str | None = None,
) -> None:
    """Until it is written: an end that is lost is an exit code that is lost (a full disk passes)."""
    pause = 0.1
    while True:
        try:
            return spool.end(queue, job, state, exit_code=exit_code, number=number, reason=reason)
        except SpoolError as problem:
            _note(f"job {job} ended ({state}), not written yet: {problem}")
            if not os.path.isdir(queue.folder):  # noqa: PTH112
                raise
            time.sleep(pause)
            pause = min(pause * 2, 10.0)


def _note(words: str) -> None:
    with suppress(OSError):  # the log lies on the same disk, which may be full
        sys.stderr.write(f"{time.strftime('%F %T')} {words}\n")


def _subreaper(on: bool) -> None:
    """Only while a job runs: what a supervisor starts for others must not come back to it."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0)


class Run:
    """One job while it runs."""

    def __init__(self, queue: Spool, job: sqlite3.Row, pid: int) -> None:
        self.queue = queue
        self.number = job["id"]
        self.wall_time = job["wall_time"]
        self.pid = pid
        self.status: int | None = None  # of the script, as waitpid gave it
        self.verdict: str | None = None  # cancelled or timed_out, where it is not for the script to say
        self.deadline = time.monotonic() + self.wall_time if self.wall_time else None
        self.kill_at: float | None = None  # set once the tree is being ended
        self.give_up_at: float | None = None
        self.suspended_at: float | None = None
        self.look_at = 0.0

    def wait(self) -> bool:
        """Until nothing of the job is left; false where something would not go."""
        while self._reap():
            now = time.monotonic()
            if now >= self.look_at:
                self._look(now)
            if self.deadline and not self.suspended_at and now >= self.deadline:
                self._end("timed_out")
            if self.status is not None:
                self._end(None)  # the script has ended and left something behind
            if self.give_up_at and now >= self.give_up_at:
                return False
            if self.kill_at and now >= self.kill_at:
                processes.send(processes.descendants(os.getpid()), signal.SIGKILL)
                self.kill_at = now + 0.02
            woken = signal.sigtimedwait(WAKE, self._pause())
            if woken and woken.si_signo == signal.SIGUSR1:
                self.look_at = 0.0
        return True

    def outcome(self, failure: str | None) -> tuple[str, int | None, int | None, str | None]:
        """State, exit code, signal and reason."""
        code = None if self.status is None else os.waitstatus_to_exitcode(self.status)
        if failure is not None:
            return self.verdict or "failed", None if code == jobs.CANNOT_START else code, None, failure
        number = -code if code is not None and code < 0 else None
        exit_code = 128 + number if number else code
        if self.verdict == "timed_out":
            return self.verdict, exit_code, number, f"it ran longer than the {self.wall_time} seconds it asked for"
        if self.verdict or code == 0:
            return self.verdict or "finished", exit_code, number, None
        return "failed", exit_code, number, _signal_words(number)

    def _reap(self) -> bool:
        """Take in what has ended; false when no child is left. As subreaper this process has a child as long as
        anything of the job lives."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.pid:
                self.status = status

    def _look(self, now: float) -> None:
        """See whether anybody wishes something."""
        self.look_at = now + LOOK_AGAIN
        with suppress(SpoolError):
            wish = spool.take_wish(self.queue, self.number)
            if wish == "abort":
                self._end("cancelled")
            elif self.kill_at is None and wish == "suspend" and not self.suspended_at:
                self._suspend()
            elif self.kill_at is None and wish == "continue" and self.suspended_at:
                self._continue()

    def _end(self, verdict: str | None) -> None:
        """TERM now, KILL after the grace."""
        if self.kill_at is not None:
            return
        if self.status is None:
            self.verdict = verdict
        self.kill_at = time.monotonic() + GRACE
        self.give_up_at = self.kill_at + KILL_PATIENCE
        tree = processes.descendants(os.getpid())
        processes.send(tree, signal.SIGTERM)
        processes.send(tree, signal.SIGCONT)  # a stopped process takes no TERM
        with suppress(SpoolError):
            spool.set_state(self.queue, self.number, "completing")

    def _suspend(self) -> None:
        stopped: set[int] = set()
        while more := set(processes.descendants(os.getpid())) - stopped:  # one may fork while others are stopped
            processes.send(more, signal.SIGSTOP)
            stopped |= more
        self.suspended_at = time.monotonic()
        spool.set_state(self.queue, self.number, "suspended")

    def _continue(self) -> None:
        processes.send(processes.descendants(os.getpid()), signal.SIGCONT)
        if self.deadline and self.suspended_at:
            self.deadline += time.monotonic() - self.suspended_at
        self.suspended_at = None
        spool.set_state(self.queue, self.number, "running")

    def _pause(self) -> float:
        """Seconds until something is due."""
        due = [self.look_at, self.kill_at, None if self.suspended_at else self.deadline]
        return max(0.0, min(at for at in due if at is not None) - time.monotonic())


def _signal_words(number: int | None) -> str | None:
    if number is None:
        return None
    with suppress(ValueError):
        return f"killed by {signal.Signals(number).name}"
    return f"killed by signal {number}"
