"""/api/events: what happens to one's jobs, as server-sent events; and waiting for one job."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain

from flask import Response, request

from gateway.api.errors import ErrorSchema
from gateway.api.requests import ApiBlueprint, principal, secured, services
from gateway.api.schemas import rfc3339
from gateway.errors import Forbidden, Unprocessable
from gateway.listening import Listener
from gateway.model import Principal
from gateway.store import EventLog, JobEvent, now

blueprint = secured(ApiBlueprint("events", __name__, url_prefix="/api", description="Events"))
AWAKE_SECONDS = 15  # between two comments, so that no proxy on the way takes the connection for dead
STREAM_SECONDS = 600  # then the client comes back with Last-Event-ID, and shows again who it is
LAST_EVENT_ID = {
    "name": "Last-Event-ID",
    "in": "header",
    "description": "go on after this event",
    "schema": {"type": "string"},
}
OWNER = {
    "name": "owner",
    "in": "query",
    "description": "administrators only: a subject, or * for everybody",
    "schema": {"type": "string"},
}


@blueprint.get("/events")
@blueprint.response(200, {"type": "string"}, content_type="text/event-stream")
@blueprint.alt_response(429, schema=ErrorSchema, description="too many are waiting already")
@blueprint.doc(parameters=[LAST_EVENT_ID, OWNER])
def stream() -> Response:
    """Events of your jobs, as they happen (text/event-stream)"""
    owner, after, until = _owner(principal()), _last_event_id(), _end(principal())
    with ExitStack() as stack:
        stack.enter_context(services().waiting.take())
        listener = stack.enter_context(services().news.listening(lambda event: _for(owner, event)))
        body = chain(_missed(services().event_log, owner, after, listener.start), _live(listener, until))
        response = Response(body, content_type="text/event-stream")
        response.call_on_close(stack.pop_all().close)
    response.headers["X-Accel-Buffering"] = "no"  # nginx would hold events back
    response.headers["Cache-Control"] = "no-store"
    return response


def _for(owner: str | None, event: JobEvent) -> bool:
    return event.kind == "job" and owner in (None, event.owner)


def _owner(who: Principal) -> str | None:
    owner = request.args.get("owner") or who.subject
    if owner != who.subject and not who.admin:
        raise Forbidden("only an administrator may listen to other users' jobs")
    return None if owner == "*" else owner


def _last_event_id() -> int | None:
    text = request.headers.get("Last-Event-ID") or request.args.get("last_event_id") or ""
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        words = "is not the id of an event; leave it out to begin with what happens now"
        raise Unprocessable(f"Last-Event-ID {words}", errors={"Last-Event-ID": [words]})
    return int(text)


def _end(who: Principal) -> float:
    """When the stream ends, on the monotonic clock: never later than the proxy or token."""
    return time.monotonic() + min(STREAM_SECONDS, (who.expires_at - now()).total_seconds())


def _missed(log: EventLog, owner: str | None, after: int | None, start: int) -> Iterator[bytes]:
    """What happened after `after` and up to where the listener starts."""
    yield b": listening\n\n"
    last = start if after is None else min(after, start)
    while missed := [event for event in log.after(last, owner) if event.id <= start]:
        yield from (_message(event) for event in missed if event.kind == "job")
        last = missed[-1].id


def _live(listener: Listener, end: float) -> Iterator[bytes]:
    while not listener.closed and time.monotonic() < end:
        event = listener.next(min(AWAKE_SECONDS, end - time.monotonic()))
        yield _message(event) if event else b": still here\n\n"


def _message(event: JobEvent) -> bytes:
    data = {
        "job_id": event.job_id,
        "uuid": event.uuid,
        "status": event.state.status,
        "state": event.state,
        "before": event.before,
        "at": rfc3339(event.at),
    }
    return f"id: {event.id}\nevent: job\ndata: {json.dumps(data)}\n\n".encode()
