"""What must happen without a request: ask each host about its live jobs, and settle submissions that were cut off.

`Sync.tick()` does what is due and returns. Any number of processes may call it at any time: a lease per host in the
database lets one of them ask, so a host gets one query per interval however many gateways there are.
"""

import logging
import os
import random
import socket
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.dependencies import prospect
from gateway.errors import JobgateError
from gateway.hosts import Host, Hosts
from gateway.model import Job, JobReport, JobState, LiveJob, Task
from gateway.news import array_news, news
from gateway.notify import Notifier
from gateway.store import HostHistory, HostStore, Repository
from gateway.submission import Submission, found, held_back
from gateway.transport.deadline import not_after

log = logging.getLogger(__name__)

LEASE_SECONDS = 15.0  # whoever dies with a lease holds a host up for so long; a slow query renews it
LONGEST_BACK_OFF = 300.0
HURRY_SECONDS = 1.0  # between two looks, however many jobs report
SECOND_LOOK = 2.0  # seconds after a job has reported: most do so just before they end
NOTIFY_SECONDS = 1.0
INFO_SECONDS = 60.0  # how old queues and nodes in /api/hosts may be
STOP_SECONDS = 10.0
GRACE_SECONDS = 10.0  # beyond the submit timeout: before that, whoever submits may still be at it
YOUNG_SECONDS = 2.0  # a submit of that age is nothing to look after
SECOND_LOOK_SECONDS = 15.0  # a job that has just ended may be in neither queue nor accounting (Grid Engine 8.1.9)
ABSENT = "not found"  # native_state of a submit that the scheduler was asked about once and did not know


class Sync:
    """Keeps the table of jobs true. Safe to call from many threads and processes."""

    def __init__(
        self,
        hosts: Hosts,
        repository: Repository,
        host_store: HostStore,
        submission: Submission,
        notifier: Notifier,
        history: HostHistory,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.hosts = hosts
        self.repository = repository
        self.host_store = host_store
        self.submission = submission
        self.notifier = notifier
        self.history = history
        self.clock = clock
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"

    def tick(self) -> dict[str, str]:
        """Ask every host that is due, all at the same time, and deliver notifications. Gives a word for each host that
        was asked: "ok", or what was wrong."""
        everything = list(self.hosts)
        with ThreadPoolExecutor(max_workers=len(everything), thread_name_prefix="tick") as pool:
            results = [*pool.map(self.refresh, everything)]
        while self.notifier.deliver():
            pass
        return {host.name: words for host, words in zip(everything, results, strict=True) if words}

    def hurry(self, host: Host) -> float:
        """Have a host asked earlier than it is due, at most once a second. Gives the seconds until it may be."""
        asked_at = self.host_store.get(host.name).last_success
        earliest = asked_at.timestamp() + HURRY_SECONDS if asked_at else 0.0
        at = max(self.clock(), earliest)
        self.host_store.hurry(host.name, at)
        return at - self.clock()

    def refresh(self, host: Host) -> str | None:
        """Ask one host if it is due and nobody else is asking. None where it was not asked."""
        at = self.clock()
        # A holder of its own for each call: two threads of a process are two askers.
        holder = f"{self.holder}:{threading.get_ident()}"
        if not self.host_store.take_lease(host.name, holder, at, LEASE_SECONDS, _horizon(host)):
            return None
        failures = self.host_store.get(host.name).failures
        try:
            with self._kept(host.name, holder):
                learnt = self._ask(host, holder)
        except JobgateError as problem:
            self._failed(host, holder, at, failures, problem.message)
            return problem.message
        except Exception as problem:  # a plugin's bug must not end the polling
            log.exception("asking %s failed", host.name)
            self._failed(host, holder, at, failures, f"{type(problem).__name__}: {problem}")
            return str(problem)
        next_poll = at + host.config.section.poll_interval
        self.host_store.end_lease(host.name, holder, next_poll=next_poll, failures=0, **learnt)
        return "ok"

    @contextmanager
    def _kept(self, name: str, holder: str) -> Iterator[None]:
        """Renews the lease for as long as the block takes."""
        done = threading.Event()

        def renew() -> None:
            while not done.wait(LEASE_SECONDS / 3):
                with suppress(JobgateError):
                    self.host_store.renew_lease(name, holder, self.clock() + LEASE_SECONDS)

        threading.Thread(target=renew, name=f"lease-{name}", daemon=True).start()
        try:
            yield
        finally:
            done.set()

    def _failed(self, host: Host, holder: str, at: float, failures: int, words: str) -> None:
        wait = back_off(host.config.section.poll_interval, failures)
        log.warning("host %s: %s; next try in %.0f s", host.name, words, wait)
        told = {"last_error": words, "last_error_at": _time(self.clock())}
        self.host_store.end_lease(host.name, holder, next_poll=at + wait, failures=failures + 1, **told)

    def _ask(self, host: Host, holder: str) -> dict[str, Any]:
        record = self.host_store.get(host.name)
        asked_at = _time(self.clock())
        self._settle_all(host, holder)
        known = self.repository.live_jobs(host.name)
        tasks = self.repository.live_tasks(host.name) if any(job.array for job in known) else {}
        reports = self._reports(host, known, tasks)
        ages = (asked_at, record.last_success, timedelta(seconds=host.config.section.lost_after))
        changes, task_changes = [], {}
        for job in known:
            report, changed = reports.get(job.native_id), None
            if job.array:
                values, changed = array_news(job, tasks.get(job.number, {}).values(), report, *ages)
            else:
                values = news(job, report, *ages)
            if changed:
                task_changes[job.number] = changed
            if values or changed:
                changes.append((job, values))
        for moved, before in self.repository.change_jobs(changes, task_changes):
            self.submission.changed(moved, before)
        self._settle_waiting(host, holder)
        self.history.record(host.name, asked_at)
        return {"last_success": asked_at, **self._info(host, record.info_at, known)}

    @staticmethod
    def _reports(host: Host, jobs: list[LiveJob], tasks: Mapping[int, Mapping[int, Task]]) -> dict[str, JobReport]:
        """One query for all, where somebody may ask about everybody's jobs; else one per account with live jobs."""
        by_account: dict[str | None, dict[str, Collection[int]]] = defaultdict(dict)
        for job in jobs:
            by_account[None if asks_for_all(host) else job.account][job.native_id] = tasks.get(job.number, {}).keys()
        reports: dict[str, JobReport] = {}
        for account, asked in by_account.items():
            reports.update(host.backend.query(asked, account))
        return reports

    def _info(self, host: Host, info_at: datetime | None, jobs: list[LiveJob]) -> dict[str, Any]:
        """Queues and nodes, where it is time; asked as somebody with jobs there where the host has no operator."""
        at = _time(self.clock())
        account = None if asks_for_all(host) else next((job.account for job in jobs), None)
        nobody = account is None and not asks_for_all(host)
        if nobody or (info_at and abs((at - info_at).total_seconds()) < INFO_SECONDS):
            return {}
        return {"info": asdict(host.backend.cluster(account)), "info_at": at}

    def _settle_waiting(self, host: Host, holder: str) -> None:
        """Jobs that depend on others: cancel what can never start, until that makes no other one hopeless, and hand
        over what the gateway held back and need not any more."""
        waiting = self.repository.waiting_jobs(host.name)
        while [pair for pair in waiting if self.submission.cancel_if_hopeless(*pair)]:
            waiting = self.repository.waiting_jobs(host.name)
        for job, upstreams in waiting:
            if held_back(job) and not prospect(upstreams, host.name, ()).waits:
                start = {"state": JobState.SUBMITTING, "reason": None, "as_of": _time(self.clock())}
                for submitting, before in self.repository.change_jobs([(job, start)]):
                    self.submission.changed(submitting, before)
                    self._hand_over_again(host, holder, submitting)

    def _settle_all(self, host: Host, holder: str) -> None:
        """Submissions that were cut off. How long one has been so is counted from when it was first noticed, in
        `as_of`: the time of its making may be that of a clock that has been put right since."""
        at = _time(self.clock())
        young = timedelta(seconds=YOUNG_SECONDS)
        jobs = [job for job in self.repository.unsettled_jobs(host.name) if not at - young < job.created_at <= at]
        new = [job for job in jobs if job.as_of is None or job.as_of > at]
        self.repository.change_jobs((job, {"as_of": at}) for job in new)
        for job in jobs:
            if job.as_of and job.as_of <= at - _patience(host, job):
                self._settle(host, holder, job)

    def _settle(self, host: Host, holder: str, job: Job) -> None:
        """The scheduler knows whether it got there; that it did not, it has to say twice. What it does not know is
        handed over again only if its client was never answered; otherwise the client was told to ask, and is told now.
        """
        report = host.backend.find(job.mark, job.account)
        if report:
            adopted = self.submission.adopt(job, found(report, job))
            self.submission.audit.gateway_did("adopt", adopted)
        elif job.native_state != ABSENT:
            self.repository.change_job(job, native_state=ABSENT, as_of=_time(self.clock()))
        elif job.stale:  # set when the client was answered that the outcome is not known
            self._submit_failed(job, "the scheduler never received it")
        else:
            self._hand_over_again(host, holder, job)

    def _hand_over_again(self, host: Host, holder: str, job: Job) -> None:
        """Written down first, so that whoever looks next waits as for a first attempt; and never by a process that was
        stopped for so long that another has taken its place."""
        with not_after(time.monotonic() + host.config.section.submit_timeout):
            job = self.repository.change_job(job, native_state=None, as_of=_time(self.clock()))
            held = self.host_store.renew_lease(host.name, holder, self.clock() + LEASE_SECONDS)
            if not held or job.state != JobState.SUBMITTING:
                return
            prepared = self.submission.prepare(host, job, self.repository.script(job.number))
            if isinstance(prepared, Job):
                return
            try:
                submitted = host.backend.submit(prepared)
            except JobgateError as problem:
                if problem.retryable:
                    raise
                if "dependencies" in problem.errors:
                    self.submission.wait(job, problem.message)
                    return
                self._submit_failed(job, problem.message)
                return
        self.submission.audit.gateway_did("hand over again", self.submission.adopt(job, submitted))

    def _submit_failed(self, job: Job, words: str) -> None:
        failed = self.repository.change_job(job, state=JobState.SUBMIT_FAILED, reason=words, stale=False)
        self.submission.audit.gateway_did("give up", failed, words)
        self.submission.changed(failed, job.state)


def _patience(host: Host, job: Job) -> timedelta:
    """How long to leave a submission alone before the scheduler is asked about it."""
    seen = job.native_state == ABSENT
    return timedelta(seconds=SECOND_LOOK_SECONDS if seen else host.config.section.submit_timeout + GRACE_SECONDS)


def _horizon(host: Host) -> float:
    """No time that a right clock wrote is so many seconds ahead: twice the longest wait between two polls."""
    return 2 * max(LONGEST_BACK_OFF, host.config.section.poll_interval)


def asks_for_all(host: Host) -> bool:
    """Whether one query tells about everybody's jobs."""
    return host.config.section.operator is not None or not host.backend.capabilities.needs_operator


def back_off(interval: float, failures: int) -> float:
    """Seconds until a failing host is asked again: doubling, at most five minutes, with jitter, so that many gateways
    that lost the same host do not come back in step."""
    longest = min(interval * 2 ** min(failures + 1, 20), max(LONGEST_BACK_OFF, interval))
    return longest * random.uniform(0.5, 1.0)


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


class Ticker:
    """Threads that call `refresh`, one per host, so that a slow host holds up no other, and one that delivers
    notifications. A server process has one Ticker; the threads start with the process's first request or call, never
    before a fork."""

    def __init__(self, sync: Sync) -> None:
        self.sync = sync
        self.pid = 0
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.threads: list[threading.Thread] = []
        self.planned: set[tuple[str, int]] = set()

    def start(self) -> None:
        """Start the threads of this process; nothing when they run already."""
        if self.pid == os.getpid():
            return
        with self.lock:
            if self.pid != os.getpid():
                self.pid = os.getpid()
                self.threads = [
                    threading.Thread(target=self._run, args=(host,), name=f"tick-{host.name}", daemon=True)
                    for host in self.sync.hosts
                ]
                self.threads.append(threading.Thread(target=self._deliver, name="notify", daemon=True))
                for thread in self.threads:
                    thread.start()

    def stop(self) -> None:
        """Let the threads end what they are at, so that no lease stays behind."""
        self.stopping.set()
        end = time.monotonic() + STOP_SECONDS
        for thread in self.threads:
            thread.join(max(0.0, end - time.monotonic()))

    def look(self, host: Host | None, after: float = 0.0) -> None:
        """Ask a host in so many seconds, and again when a job that has just reported should have ended. None: a host of
        the past. However often it is called, there is one look in a second."""
        if host:
            for seconds in (after, after + SECOND_LOOK):
                self._plan(host, seconds)

    def _plan(self, host: Host, seconds: float) -> None:
        due = (host.name, round(time.monotonic() + seconds))
        with self.lock:
            if due in self.planned:
                return
            self.planned.add(due)
        timer = threading.Timer(seconds, self._look, (host, due))
        timer.daemon = True
        timer.start()

    def _look(self, host: Host, due: tuple[str, int]) -> None:
        with self.lock:
            self.planned.discard(due)
        try:
            self.stopping.wait(self.sync.hurry(host))
            self.sync.refresh(host)
        except Exception:
            log.exception("looking at %s failed", host.name)

    def _deliver(self) -> None:
        while not self.stopping.is_set():
            try:
                tried = self.sync.notifier.deliver()
            except Exception:  # the database is away: this thread must be there when it is back
                log.exception("delivering notifications failed")
                tried = 0
            if not tried:
                self.stopping.wait(NOTIFY_SECONDS)

    def _run(self, host: Host) -> None:
        while not self.stopping.is_set():
            try:
                self.sync.refresh(host)
            except Exception:  # the database is away: this thread must be there when it is back
                log.exception("tick of %s failed", host.name)
            self.stopping.wait(host.config.section.poll_interval)
