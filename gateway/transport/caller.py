"""On whose behalf a transport works just now: the subject name and the request id, as the audit trail shall have them.

Whoever starts the work sets it; a user certificate's key id and the transports' log lines carry it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

caller: ContextVar[str] = ContextVar("on whose behalf", default="jobgate")


@contextmanager
def on_behalf_of(subject: str, request_id: str) -> Iterator[None]:
    token = caller.set(f"{subject} request={request_id}")
    try:
        yield
    finally:
        caller.reset(token)
