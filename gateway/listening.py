"""Tells those who wait what has happened to jobs. One thread per process reads the table of events, however many wait,
and only while somebody does.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gateway.store.events import EventLog, JobEvent

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5  # between two looks for what other processes wrote; what this one wrote is told at once
LINGER_SECONDS = 30.0  # that the thread goes on when nobody listens any more
MOST_WAITING = 10_000  # events that a slow listener may lag behind


class Listener:
    """Somebody who waits for events that `wanted` lets through. `start` is the number after which they come."""

    def __init__(self, wanted: Callable[[JobEvent], bool]) -> None:
        self.wanted = wanted
        self.start = 0
        self.closed = False
        self.events: queue.SimpleQueue[JobEvent | None] = queue.SimpleQueue()

    def tell(self, event: JobEvent) -> None:
        if self.events.qsize() >= MOST_WAITING:
            self.close()
        elif self.wanted(event):
            self.events.put(event)

    def close(self) -> None:
        self.closed = True
        self.events.put(None)

    def next(self, seconds: float) -> JobEvent | None:
        """The next event; None when none came in time, or the listener was `closed`."""
        try:
            return self.events.get(timeout=max(0.0, seconds))
        except queue.Empty:
            return None


class News:
    """The events of all jobs, for any number of listeners of this process. Numbers are told in ascending order."""

    def __init__(self, log: EventLog) -> None:
        self.log = log
        self.alive: Callable[[], bool] = lambda: True  # false when the process is told to go
        self.lock = threading.Lock()
        self.poke = threading.Event()
        self.listeners: list[Listener] = []
        self.thread: threading.Thread | None = None
        self.floor = 0
        self.gap: tuple[int, float, int] | None = None  # a missing number, since when, and the next transaction then

    def happened(self) -> None:
        """This process wrote an event: look now."""
        self.poke.set()

    @contextmanager
    def listening(self, wanted: Callable[[JobEvent], bool]) -> Iterator[Listener]:
        """A listener who is told from now on."""
        listener = Listener(wanted)
        with self.lock:
            if self.thread is None or not self.thread.is_alive():
                self.floor, self.gap = self.log.newest(), None
                self.thread = threading.Thread(target=self._watch, name="news", daemon=True)
                self.thread.start()
            listener.start = self.floor
            self.listeners.append(listener)
        try:
            yield listener
        finally:
            with self.lock:
                self.listeners.remove(listener)

    def close(self) -> None:
        """Nobody is told anything any more."""
        self.alive = lambda: False
        self.poke.set()
        if thread := self.thread:
            thread.join()

    def _watch(self) -> None:
        wanted_at = time.monotonic()
        while self.alive():
            self.poke.wait(LOOK_SECONDS)
            self.poke.clear()
            try:
                self._look()
            except Exception:  # the database is away: this thread must be there when it is back
                log.exception("looking for events failed")
            with self.lock:
                if self.listeners:
                    wanted_at = time.monotonic()
                elif time.monotonic() - wanted_at > LINGER_SECONDS:
                    self.thread = None
                    return
        with self.lock:
            self.thread = None
            for listener in self.listeners:
                listener.close()

    def _look(self) -> None:
        while found := self.log.after(self.floor):
            for event in found:
                if event.id > self.floor + 1 and not self._settled(self.floor + 1):
                    return
                with self.lock:
                    self.floor, self.gap = event.id, None
                    for listener in self.listeners:
                        listener.tell(event)

    def _settled(self, missing: int) -> bool:
        """Whether a number that is missing will stay so: its writer was undone, or its job deleted. Whoever may have
        taken it was at work when it was first missed, so it is settled when they have all ended."""
        in_flight = self.log.in_flight()
        if in_flight is None:
            return True
        oldest, upcoming = in_flight
        if self.gap is None or self.gap[0] != missing:
            self.gap = (missing, time.monotonic(), upcoming)
        # A moment more, since a number is taken just before its transaction counts as begun.
        return oldest >= self.gap[2] and time.monotonic() - self.gap[1] > LOOK_SECONDS / 2
