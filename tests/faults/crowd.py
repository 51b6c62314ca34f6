"""Clients as a portal's: each submits job after job, and repeats a request with its Idempotency-Key until it knows."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

import httpx

CLIENTS = 16
PAUSE = 0.25


@dataclass(frozen=True)
class Wish:
    """A job that somebody wants once. `name` is its name in the scheduler too, and of the file that its run writes."""

    name: str
    host: str
    body: Mapping[str, Any]


@dataclass(frozen=True)
class Job:
    """A job that was acknowledged."""

    name: str
    host: str
    native_id: str
    uuid: str


def wishes(run: str, host: str, count: int, folder: str, seconds: float = 0, **more: Any) -> list[Wish]:
    """Jobs that each append a line to a file of their own in `folder`, and end so many seconds later."""
    return [_wish(f"{run}-{number:04}", host, folder, seconds, more) for number in range(count)]


def _wish(name: str, host: str, folder: str, seconds: float, more: Mapping[str, Any]) -> Wish:
    script = f"#!/bin/sh\necho run >>{folder}/{name}\n" + (f"sleep {seconds}\n" if seconds else "")
    fields = {"host": host, "script": script, "name": name, "working_directory": folder, **more}
    return Wish(name, host, fields)


class Crowd:
    """Sixteen clients with one pile of wishes. Use as a context: it works meanwhile, and the end waits for it."""

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        wanted: Iterable[Wish],
        patience: float = 240,
        passing: Collection[str] = (),
    ):
        """`passing`: codes of errors that this fault makes and that pass with it."""
        self.passing = passing
        self.url = url
        self.headers = dict(headers)
        self.pile: SimpleQueue[Wish] = SimpleQueue()
        for wish in wanted:
            self.pile.put(wish)
        self.total = self.pile.qsize()
        self.end = time.monotonic() + patience
        self.jobs: list[Job] = []
        self.answers: Counter[str] = Counter()
        self.problems: list[str] = []
        self.asking = threading.Semaphore(CLIENTS)
        self.threads = [threading.Thread(target=self._work) for _ in range(CLIENTS)]

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Until all that were sent are answered, and no new ones meanwhile."""
        for _ in range(CLIENTS):
            self.asking.acquire()
        try:
            yield
        finally:
            self.asking.release(CLIENTS)

    def __enter__(self) -> "Crowd":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, failed: object, *_: object) -> None:
        if failed:
            self.end = 0.0
        for thread in self.threads:
            thread.join()
        if not failed:
            assert not self.problems, self.problems[:3]
            assert len(self.jobs) == self.total, self.answers

    @property
    def busy(self) -> bool:
        return any(thread.is_alive() for thread in self.threads)

    def wait_for(self, share: float) -> bool:
        """Until this share of the wishes is acknowledged; False where nobody is left to do so."""
        while len(self.jobs) < share * self.total:
            if not self.busy:
                return False
            time.sleep(0.02)
        return True

    def _work(self) -> None:
        try:
            with httpx.Client(base_url=self.url, timeout=90, headers=self.headers) as client:
                while True:
                    self.jobs.append(self._submit(client, self.pile.get_nowait()))
        except Empty:
            return
        except Exception as problem:
            self.problems.append(f"{type(problem).__name__}: {problem}")

    def _submit(self, client: httpx.Client, wish: Wish) -> Job:
        """Until it is known. Only a job that is known to have failed to be submitted is asked for with a new key."""
        key = 0
        while True:
            job = self._answer(
                lambda key=key: client.post(  # type: ignore[misc]
                    "/api/jobs", json=wish.body, headers={"Idempotency-Key": f"{wish.name}-{key}"}
                )
            )
            if job and job["state"] == "submit_failed":
                key += 1
            elif job and job["job_id"] != job["uuid"]:
                return Job(wish.name, wish.host, job["job_id"].removesuffix(f".{wish.host}"), job["uuid"])
            if time.monotonic() > self.end:
                raise TimeoutError(f"{wish.name} was never acknowledged: {dict(self.answers)}")
            time.sleep(PAUSE)

    def _answer(self, ask: Callable[[], httpx.Response]) -> dict[str, Any] | None:
        """The job; None where it has to be asked again. Every answer must be JSON, and every error say whether to."""
        try:
            with self.asking:
                answer = ask()
        except httpx.TransportError as problem:
            self.answers[type(problem).__name__] += 1
            return None
        said = answer.json()
        self.answers[f"{answer.status_code} {said.get('code', said.get('state'))}"] += 1
        if answer.status_code in (200, 201):
            return dict(said)
        # 409: the first with this key was refused just now
        again = said["retryable"] or answer.status_code == 409 or said["code"] in self.passing
        assert again, answer.text
        return None
