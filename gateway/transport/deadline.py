"""By when a command must have begun and ended, whatever its own timeout says.

A submit that takes effect after everybody has given it up would be a second one. So who submits says how long that may
take, and the transport looks once more just before it sends: a process that was stopped meanwhile sends nothing.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from gateway.errors import HostDown

_end: ContextVar[float | None] = ContextVar("when it is too late", default=None)


@contextmanager
def not_after(end: float) -> Iterator[None]:
    """Nothing is begun in this block after `end`, in seconds of `time.monotonic()`."""
    token = _end.set(end)
    try:
        yield
    finally:
        _end.reset(token)


def seconds_left(timeout: float) -> float:
    """What is left of a command's timeout. Raises HostDown where it is too late to begin."""
    end = _end.get()
    if end is None:
        return timeout
    left = end - time.monotonic()
    if left <= 0:
        raise HostDown("the host could not be asked in time; nothing was started")
    return min(timeout, left)
