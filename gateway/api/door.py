"""What a dialect works with: `register_dialects` is given one Door. A dialect has its own paths, words and shapes, and
goes through the same services as the native API.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import IO, Any, cast

import flask
from flask import Response, g, request
from marshmallow import ValidationError

from gateway.api import Services, bundles
from gateway.api.files import send, send_log, send_output
from gateway.api.forms import Form, received
from gateway.api.jobs import idempotency_key, job_requests
from gateway.api.reports import reported
from gateway.api.requests import identify, principal, read_body, read_json, refusal
from gateway.api.schemas import JobRequestSchema
from gateway.bundles import Bundle
from gateway.errors import ConfigError, JobgateError, UnknownHost
from gateway.hosts import Host
from gateway.model import Job, Principal
from gateway.options import flatten
from gateway.request import account_of
from gateway.store import JobFilter
from gateway.transport import RemoteFile


class Door:
    """The way into the gateway for one application's dialects. Every method is about the request that is just being
    answered, but for `blueprint`, `options` and `host`."""

    def __init__(self, services: Services) -> None:
        self._services = services

    # -- when the application is made ---------------------------------------------------------------------------------

    def blueprint(
        self, name: str, *mounts: str, error: Callable[[JobgateError], Response], secured: bool = True
    ) -> flask.Blueprint:
        """A blueprint for calls below `mounts` (such as "/ws"). Whatever goes wrong there, also at a path or with a
        method that does not exist, is answered with what `error` makes of it, and the error's own status. With
        `secured` nothing of a request is looked at before its caller is known."""
        for mount in mounts:
            self._services.shapes[mount] = error
        blueprint = flask.Blueprint(name, __name__)
        if secured:
            blueprint.before_request(identify)
        return blueprint

    def options(self, name: str) -> Any:
        """The table `[dialects.<name>]` of the configuration, as the class that `register_options` gives for it."""
        return self._services.config.dialects[name]

    def host(self, name: str | None) -> Host:
        """A host by name or alias, the gateway's default for None. Raises ConfigError."""
        try:
            return self._services.hosts.named(name) if name else self._services.hosts.default
        except UnknownHost as problem:
            raise ConfigError([problem.message]) from None

    @property
    def base_url(self) -> str:
        """What clients see, without a final slash."""
        return self._services.config.gateway.base_url.rstrip("/")

    # -- who asks, and what -------------------------------------------------------------------------------------------

    @property
    def principal(self) -> Principal:
        """Who asks."""
        return principal()

    def account(self, name: str | None = None) -> str:
        """The account of that name, by default the caller's first. Raises Forbidden where it is not the caller's."""
        return account_of(principal(), name)

    def json(self) -> dict[str, Any]:
        """The body, an object in JSON; {} where there is none. Raises BadRequest and Unprocessable."""
        value = read_json(read_body(request)) if request.content_length or request.is_json else {}
        if not isinstance(value, dict):
            raise refusal({"body": ["must be a JSON object"]})
        return value

    # -- jobs ---------------------------------------------------------------------------------------------------------

    def submit(self, fields: Mapping[str, Any]) -> list[Job]:
        """Submit what the JSON of `POST /api/jobs` asks for, perhaps by a template; without `host` on the gateway's
        default host. It is one job, but for a template over files on a host without arrays. Raises as
        `JobService.submit`, and Unprocessable for fields that are wrong."""
        wanted = {"host": self._services.hosts.default.name, **fields} if "template" not in fields else fields
        try:
            checked = JobRequestSchema().load(wanted)
        except ValidationError as problem:
            raise refusal(flatten(problem.normalized_messages())) from None
        g.body = json.dumps(fields, sort_keys=True).encode()  # what an Idempotency-Key stands for
        requests, _ = job_requests(checked, idempotency_key())
        return [self._services.jobs.submit(principal(), one)[0] for one in requests]

    def form(self, how: str) -> AbstractContextManager[Form]:
        """The body, a form, whether multipart or urlencoded: a Form, whose files are there until the block ends. `how`
        is what somebody is told whose form cannot be read. Raises BadRequest and TooLarge."""
        return received(how)

    def submit_bundle(
        self, fields: Mapping[str, Any], bundle: IO[bytes], inputs: Mapping[str, IO[bytes]], prologue: str = ""
    ) -> Job:
        """Submit a bundle with files beside it. `fields` are those of the part `job` of a multipart `POST /api/jobs`;
        `prologue` are lines of shell before the bundle's run.sh. Raises as `submit`; Unprocessable with the code
        `no_entry_point` where there is no run.sh in it."""
        limits = self._services.config.limits
        checked = bundles.checked({"host": self._services.hosts.default.name, **fields})
        g.body = json.dumps([fields, *map(_digest, (bundle, *inputs.values()))], sort_keys=True).encode()
        packed = Bundle(bundle, inputs, limits.unpacked, limits.unpacked_files)
        return bundles.submit_bundle(checked, packed, prologue)[0]

    def log(self, ident: str, stream: str) -> Response:
        """A job's `stdout` or `stderr` as far as it goes, streamed. Raises NotFound while there is none."""
        job = self._services.jobs.with_one_log(principal(), ident, stream)
        return send_log(job, 0, stream, {}, ended=True)

    def output(self, ident: str) -> Response:
        """A job's output folder as tar.gz, packed while it is sent. Raises NotFound while there is none."""
        return send_output(ident)

    def send(self, file: RemoteFile) -> Response:
        """An open file of a host, streamed; the answer closes it."""
        return send(file, "application/octet-stream")

    def jobs(self, everybodys: bool = False, **wanted: Any) -> Sequence[Job]:
        """The caller's jobs, the newest first; `wanted` are fields of `JobFilter`. Only an administrator may ask for
        everybody's. Raises Forbidden."""
        owner = None if everybodys else principal().subject
        return self._services.jobs.find(principal(), JobFilter(owner=owner, **wanted)).jobs

    def numbered(self, numbers: Iterable[int]) -> dict[int, Job]:
        """Those of the caller's jobs that have one of these numbers, by number; an administrator's are everybody's."""
        found = self._services.repository.jobs_by_number([*numbers])
        return {n: job for n, job in found.items() if principal().admin or job.owner == principal().subject}

    def look(self, ident: str | int, after: float = 0.0) -> Job:
        """Have the gateway look at this job's host, in so many seconds: for who may see the job, or shows the report
        token that it found in its environment. Raises Unauthenticated, Forbidden, NotFound."""
        job = reported(ident)
        self._services.ticker.look(self._services.hosts.by_name.get(job.host), after)
        return job


def _digest(file: IO[bytes]) -> str:
    file.seek(0)
    found = hashlib.file_digest(cast(Any, file), "sha256").hexdigest()
    file.seek(0)
    return found
