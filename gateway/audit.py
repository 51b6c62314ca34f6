"""Who did what to which job, from where, with which result: one JSON line each, only ever appended.

Beside the log, since it is kept longer and read by others. No secrets: neither scripts nor headers nor environments.
"""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway.errors import JobgateError
from gateway.logs import request_id
from gateway.model import Job, Principal

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request came from: address, how the caller showed who it is, and the path that names the door."""

    remote: str = ""
    credential: str = ""
    path: str = ""


NOWHERE = Origin()
origin: ContextVar[Origin] = ContextVar("origin of the request", default=NOWHERE)


@dataclass(slots=True)
class Entry:
    """One act. Whoever does it fills in the job as soon as it is known."""

    action: str
    subject: str
    job: Job | None = None
    asked_for: str | None = None
    more: dict[str, Any] = field(default_factory=dict)

    def line(self, result: str) -> dict[str, Any]:
        job, where = self.job, origin.get()
        return {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "subject": self.subject,
            "action": self.action,
            "result": result,
            "job_id": job.job_id if job else self.asked_for,
            "uuid": job.uuid if job else None,
            "host": job.host if job else None,
            "account": job.account if job else None,
            "owner": job.owner if job else None,
            "remote": where.remote,
            "credential": where.credential,
            "path": where.path,
            "request_id": request_id.get(),
            **self.more,
        }


class Audit:
    """The trail of one gateway, in one file. Many processes append to it; a line is written whole or not at all."""

    def __init__(self, file: Path) -> None:
        self.file = file

    @contextmanager
    def entry(self, action: str, principal: Principal, asked_for: str | None = None, **more: Any) -> Iterator[Entry]:
        """Written when the block is left, with "ok" or the code of the error that left it."""
        entry = Entry(action, principal.subject, asked_for=asked_for, more=more)
        try:
            yield entry
        except JobgateError as problem:
            self._append(entry.line(problem.code))
            raise
        except BaseException:
            self._append(entry.line("internal_error"))
            raise
        self._append(entry.line("ok"))

    def gateway_did(self, action: str, job: Job, reason: str | None = None) -> None:
        """An act of the gateway's own, such as adopting a job."""
        self._append(Entry(action, "jobgate", job=job, more={"reason": reason}).line("ok"))

    def _append(self, line: dict[str, Any]) -> None:
        text = json.dumps(line, ensure_ascii=False) + "\n"
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            # Opened anew each time, so that it can be rotated; O_APPEND keeps the lines of many writers apart.
            descriptor = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.write(descriptor, text.encode("utf-8", "backslashreplace"))
            finally:
                os.close(descriptor)
        except OSError as problem:
            log.error("the audit trail cannot be written (%s): %s", problem, text.rstrip())


def read(file: Path, job: str | None = None, subject: str | None = None) -> Iterator[dict[str, Any]]:
    """The trail, oldest first; of one job (job_id or uuid), or of one subject. A job's lines are found by either id,
    also those from before the scheduler gave it one."""
    lines = list(_lines(file))
    uuids = {line["uuid"] for line in lines if job in (line["job_id"], line["uuid"])} - {None}
    for line in lines:
        if job is not None and line["job_id"] != job and line["uuid"] not in uuids:
            continue
        if subject is None or line["subject"] == subject:
            yield line


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8", errors="replace") as text:
        for raw in text:
            try:
                yield json.loads(raw)
            except ValueError:
                log.warning("%s has a line that is not JSON: %.80r", file, raw)
