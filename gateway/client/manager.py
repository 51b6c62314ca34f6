"""The job manager: makes jobs, finds them again, knows templates and hosts."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from gateway.client import settings as settings_of
from gateway.client.connection import Connection
from gateway.client.errors import of_body
from gateway.client.jobs import USER, Attachments, Job
from gateway.client.templates import JOB_FIELDS, JobTemplate, Scheduler, Workspaces, expanded
from gateway.errors import JobgateError, NotFound, Unprocessable

ORDERS = {"id": "number", "creation_time": "created_at", "modified_time": "updated_at"}  # a portal's words
PAGE = "1000"
Progress = Callable[[int], None]


class JobManager:
    """Jobs of one gateway, as one user of it.

    `url`, `proxy` (a file) and `token` are looked for where `gateway.client.settings` says, when they are first needed;
    nothing is read or asked before. `templates` are an application's own; those of the gateway are known as well.
    `workspace` is the folder for what `$(APP_WORKSPACE)` and `$(USER_WORKSPACE)` stand for. `patience`: seconds for
    which what is retryable is tried again.
    """

    def __init__(
        self,
        url: str | None = None,
        proxy: str | Path | None = None,
        token: str | None = None,
        *,
        templates: Iterable[JobTemplate] = (),
        workspace: str | Path | None = None,
        patience: float = 30.0,
        connection: Connection | None = None,
    ) -> None:
        self.connection = connection or Connection(lambda: settings_of.find(url, proxy, token), patience=patience)
        self.templates = {template.name: template for template in templates}
        self.workspaces = Workspaces(workspace)
        self._default_host: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back connections."""
        self.connection.close()

    # -- making jobs --------------------------------------------------------------------------------------------------

    def create_job(self, name: str, user: object, template_name: str, **parameters: Any) -> Job:
        """A new job from a template, not saved yet. `user` is for whom: a name or an object with `username`.

        `parameters` are the template's, and fields of a job. Raises KeyError where there is no such template, and
        TypeError for a parameter that neither knows.
        """
        template = self.templates.get(template_name)
        who = username(user)
        if template is None:
            fields = self._of_gateway(template_name, parameters)
            kind: type[Job] = Job
        else:
            kind = template.type
            fields = expanded({**template.parameters, **parameters}, self.workspaces.of(who))
        job = kind(self, {"name": name})
        properties = {**(fields.pop("extended_properties", None) or {}), **({USER: who} if who else {})}
        for field, value in {**fields, **({"extended_properties": properties} if properties else {})}.items():
            try:
                job.set_attribute(field, value)
            except AttributeError as problem:
                raise TypeError(f"template {template_name!r}: {problem}") from None
        return job

    def _of_gateway(self, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
        try:
            declared = self.connection.json("GET", f"/api/templates/{name}").get("parameters") or {}
        except NotFound:
            raise KeyError(f"A job template with name {name} was not defined") from None
        parameters = {**{key: given[key] for key in given if key in declared}, **given.get("parameters", {})}
        fields = {key: given[key] for key in given if key not in declared and key != "parameters"}
        return {**fields, "template": name, "parameters": parameters}

    def submit(self, script: str, host: str | None = None, **fields: Any) -> Job:
        """Submit a script; `fields` as docs/api.md has them. Raises JobgateError."""
        job = Job(self, {"host": host, "script": script})
        for field, value in fields.items():
            job.set_attribute(field, value)
        job.execute()
        return job

    def submit_bundle(
        self,
        bundle: str | Path,
        inputs: Sequence[str | Path] = (),
        *,
        progress: Progress | None = None,
        **fields: Any,
    ) -> Job:
        """Submit an archive with a program `run.sh`, and files for it. `progress` is called with the number of bytes
        that were sent since the last call."""
        attached = Attachments(_named(bundle), tuple(map(_named, inputs)))
        return self.job_of(self.post_job(fields, attached, progress))

    def submit_all(self, requests: Sequence[Mapping[str, Any]]) -> list[Job | JobgateError]:
        """Submit many at once: for each request its job, or what was wrong with it."""
        bodies = [self._with_host(request) for request in requests]
        answers = self.connection.json("POST", "/api/jobs/bulk", once=True, json=bodies) if bodies else []
        return [
            of_body(answer, answer["status_code"], answer["error_message"])
            if answer["status"] == "error"
            else Job(self, known=answer)
            for answer in answers
        ]

    def post_job(
        self, body: Mapping[str, Any], attached: Attachments | None = None, progress: Progress | None = None
    ) -> httpx.Response:
        """The gateway's answer to a request for a job."""
        request = self._with_host(body)
        if attached is None:
            return self.connection.call("POST", "/api/jobs", once=True, json=request)
        with ExitStack() as stack:
            parts: list[tuple[str, Any]] = [("job", (None, json.dumps(request)))]
            for field, (name, content) in (
                ("bundle", attached.bundle),
                *(("inputs", one) for one in attached.inputs),
            ):
                file = stack.enter_context(_Upload(content, progress)) if isinstance(content, Path) else content
                parts.append((field, (name, file)))
            return self.connection.call("POST", "/api/jobs", once=True, files=parts)

    def _with_host(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """What names no host, and no template that would, goes to the default one."""
        if body.get("host") or body.get("template"):
            return dict(body)
        return {**body, "host": self.default_host}

    # -- finding them again -------------------------------------------------------------------------------------------

    def list_jobs(
        self, user: object = None, order_by: str | None = None, filters: Mapping[str, Any] | None = None
    ) -> list[Job]:
        """One's own jobs, the newest first; those that were made for a `user`. `order_by` is a field, with "-" in front
        for the other direction; `filters` are those of `GET /api/jobs`."""
        wanted: dict[str, Any] = dict(filters or {})
        if user is not None:
            wanted[f"extended_properties.{USER}"] = username(user)
        if order_by:
            field = order_by.removeprefix("-")
            wanted["sort"] = f"{'-' if order_by.startswith('-') else ''}{ORDERS.get(field, field)}"
        return [Job(self, known=each) for each in self.pages("/api/jobs", wanted)]

    def get_job(self, job_id: int | str, user: object = None) -> Job | None:
        """The job with this number, job_id or uuid; None where it is missing, not one's own, or not that user's."""
        if isinstance(job_id, int) or job_id.isdecimal():
            found = self.list_jobs(user, filters={"number": str(job_id)})
            return found[0] if found else None
        try:
            job = self.job_of(self.connection.call("GET", f"/api/jobs/{_part(job_id)}"))
        except NotFound:
            return None
        return job if user is None or job.user == username(user) else None

    def job_of(self, answer: httpx.Response) -> Job:
        """The job that an answer shows."""
        job = Job(self)
        job._learn(answer)
        return job

    def pages(self, path: str, params: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Everything in a list that the gateway gives in pages."""
        answer = self.connection.call("GET", path, params={"limit": PAGE, **params})
        while True:
            yield from answer.json()
            if "next" not in answer.links:
                return
            following = urlsplit(answer.links["next"]["url"])
            answer = self.connection.call("GET", f"{following.path}?{following.query}")

    def check_attribute(self, job: Job, name: str) -> None:
        """Raises AttributeError for a field that no such job has."""
        if name not in JOB_FIELDS and name not in job.own_attributes:
            raise AttributeError(f"a {job.type} job has no {name!r}; see docs/api.md for its fields")

    # -- places -------------------------------------------------------------------------------------------------------

    def hosts(self) -> list[dict[str, Any]]:
        """Where jobs can be sent, as `GET /api/hosts` shows it."""
        hosts: list[dict[str, Any]] = self.connection.json("GET", "/api/hosts")
        return hosts

    def list_schedulers(self) -> list[Scheduler]:
        """The same as a portal knows them."""
        return [Scheduler(host["name"], host["backend"]) for host in self.hosts()]

    @property
    def default_host(self) -> str:
        """For jobs that name none: JOBGATE_HOST, else the configuration's, else the gateway's."""
        if self._default_host is None:
            self._default_host = self.connection.settings.host or next(
                host["name"] for host in self.hosts() if host["default"]
            )
        return self._default_host

    @default_host.setter
    def default_host(self, name: str | None) -> None:
        self._default_host = name

    def get_job_status_callback_url(self, request: object = None, job_id: int | str | None = None) -> str:
        """A URL that has the gateway look at the job at once, and answers `{"success": true}`. `request` is not needed:
        it is the gateway that answers there."""
        if job_id is None:
            raise TypeError("say whose URL with job_id")
        return f"{self.connection.settings.url}/update-job-status/{_part(str(job_id))}/"


def list_schedulers() -> list[Scheduler]:
    """The hosts of the gateway that the settings name."""
    with JobManager() as manager:
        return manager.list_schedulers()


def username(user: object) -> str | None:
    """A portal's user as a text; None for nobody."""
    if user is None or isinstance(user, str):
        return user or None
    return str(getattr(user, "username", user))


class _Upload:
    """A file that says how much of it was read. httpx reads it again from its start when it sends again."""

    def __init__(self, path: Path, progress: Progress | None) -> None:
        try:
            self._file = path.open("rb")
        except OSError as problem:
            raise Unprocessable(f"{path} cannot be read: {problem.strerror}") from None
        self._progress = progress or (lambda _: None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._progress(len(data))
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def fileno(self) -> int:
        return self._file.fileno()


def _named(path: str | Path) -> tuple[str, Path]:
    return Path(path).name, Path(path)


def _part(text: str) -> str:
    """As one part of a URL's path."""
    from urllib.parse import quote

    return quote(text, safe="")
