"""What a site may add to Jobgate without a new backend: one of each of the other hooks.

Machines that have no certificate send a key in the header `X-Site-Key`. The file that SITE_KEYS names has a line for
each: SHA-256 of the key in hex, subject name, account, with blanks between them. `jobgate new-key` makes one.
"""

import hashlib
import logging
import os
import secrets
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import flask

from gateway import Door, Job, JobState, Principal, Unauthenticated, hookimpl

log = logging.getLogger(__name__)


@hookimpl
def job_changed(job: Job, before: JobState | None) -> None:
    """A listener: says in the log how long an ended job ran."""
    if job.state.final and job.start_time and job.end_time:
        log.info("job %s of %s ran for %s", job.job_id, job.account, job.end_time - job.start_time)


def by_key(headers: Mapping[str, str]) -> Principal | None:
    key = headers.get("x-site-key")
    if key is None:
        return None
    for line in Path(os.environ["SITE_KEYS"]).read_text().splitlines():
        known, subject, account = line.split()
        if secrets.compare_digest(known, hashlib.sha256(key.encode()).hexdigest()):
            return Principal(subject, (account,), datetime.now(UTC) + timedelta(hours=1))
    raise Unauthenticated("this X-Site-Key is not known here; ask the operator for one", code="site_key_unknown")


@hookimpl
def register_authenticators() -> Iterable[Any]:
    return [by_key]


def line(words: str) -> flask.Response:
    return flask.Response(f"{words}\n", content_type="text/plain; charset=utf-8")


@hookimpl
def register_dialects(service: Any, door: Door) -> Iterable[flask.Blueprint]:
    """A dialect: `GET /status/<job id>` answers one word, for shell scripts, or one line with what is wrong."""
    blueprint = door.blueprint("status", "/status", error=lambda error: line(error.message))

    @blueprint.get("/status/<job_id>")
    def status(job_id: str) -> flask.Response:
        return line(service.get(door.principal, job_id).state.status)

    return [blueprint]


@hookimpl
def register_commands(cli: click.Group) -> None:
    @cli.command("new-key")
    @click.argument("subject")
    @click.argument("account")
    def new_key(subject: str, account: str) -> None:
        """Make a key for a machine; prints the key, and the line for SITE_KEYS."""
        key = secrets.token_urlsafe(32)
        click.echo(f"{key}\n{hashlib.sha256(key.encode()).hexdigest()} {subject} {account}")
