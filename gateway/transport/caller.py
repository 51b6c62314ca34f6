"""On whose behalf a transport works just now: the subject name and the request id, as the audit trail shall have them.

Whoever starts the work sets it; a user certificate's key id and the transports' log lines carry it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token

caller: ContextVar[str] = ContextVar("on whose behalf", default="jobgate")


def speak_for(subject: str, request_id: str) -> Token[str]:
    """From now on in this thread, until the next request that it serves."""
    return caller.set(f"{subject} request={request_id}")


@contextmanager
def on_behalf_of(subject: str, request_id: str) -> Iterator[None]:
    token = speak_for(subject, request_id)
    try:
        yield
    finally:
        caller.reset(token)
