"""What was asked for: whether it can be had, the columns of the new job, and what its backend is to run."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway import workspaces
from gateway.backend import OPTIONAL_FIELDS
from gateway.config import Config
from gateway.errors import Forbidden, TooLarge, Unprocessable
from gateway.hosts import Host
from gateway.model import (
    DEFAULT_NAME,
    LARGEST_TASK,
    Job,
    JobSpec,
    JobState,
    Principal,
    Resources,
    TaskRange,
    TooManyTasks,
    task_range,
)
from gateway.notify import check_url
from gateway.workspaces import Contents

RESOURCE_FIELDS = ("nodes", "cores", "memory", "gpus", "wall_time")
KEPT_IN_COLUMNS = (
    "name",
    "tag",
    "queue",
    "account",
    "description",
    "extended_properties",
    "working_directory",
    "notify",
)


@dataclass(frozen=True, slots=True)
class JobRequest:
    """A request for a job, checked for its form. `fields` are the optional ones that were given (API names; memory in
    MiB, wall_time in seconds), `key` is the idempotency key with a hash of the body. A `draft` is kept and
    not submitted. `contents` goes into a workspace of the job's own."""

    host: str
    script: str
    fields: Mapping[str, Any]
    key: tuple[str, str] | None = None
    draft: bool = False
    resubmitted_from: str | None = None
    contents: Contents | None = None
    template: str | None = None
    generated: bool = False  # the script is not the user's own, and larger than it


def check(config: Config, host: Host, script: str, fields: Mapping[str, Any]) -> None:
    """Whether the host can honour it, within the limits. Raises Unprocessable, TooLarge."""
    check_script(script, config.limits.script)
    check_fields(host, fields)
    check_notify(config, fields)
    asked_range(fields, config.limits.tasks)


def check_notify(config: Config, fields: Mapping[str, Any]) -> None:
    """Whether that address may be told. Raises Unprocessable."""
    if fields.get("notify"):
        check_url(fields["notify"], config.notify.allow)


def check_script(script: str, limit: int) -> None:
    """Raises TooLarge for more than `limit` bytes."""
    if len(script.encode()) > limit:
        words = f"is larger than {limit} bytes; put what is large into a file on the host"
        raise TooLarge(f"script {words}", errors={"script": [words]})


def check_fields(host: Host, fields: Mapping[str, Any]) -> None:
    able = host.backend.capabilities.fields
    asked = {name for name in fields if name in OPTIONAL_FIELDS and fields[name] not in (None, False, 0)}
    refused = sorted(asked - able)
    if refused:
        words = f"cannot be honoured by {host.name} ({host.config.section.backend})"
        raise Unprocessable(f"{', '.join(refused)} {words}", errors={name: [words] for name in refused})


def asked_range(fields: Mapping[str, Any], most: int = LARGEST_TASK) -> TaskRange | None:
    """The tasks that a request for an array asks for. Raises Unprocessable, and TooLarge for more than `most`."""
    try:
        return task_range(fields["array"], most) if fields.get("array") is not None else None
    except TooManyTasks as problem:
        raise TooLarge(f"array {problem}", errors={"array": [str(problem)]}) from None
    except ValueError as problem:
        raise Unprocessable(f"array {problem}", errors={"array": [str(problem)]}) from None


def account_of(principal: Principal, asked: str | None) -> str:
    """The account that the caller acts as: the one asked for, else the default. Raises Forbidden."""
    account = asked or principal.accounts[0]
    if account not in principal.accounts:
        known = ", ".join(principal.accounts)
        raise Forbidden(f"your certificate may not use the account {account!r}; it may use: {known}")
    return account


def columns(principal: Principal, host: Host, request: JobRequest) -> dict[str, Any]:
    """The new job's columns, but for its workspace. Raises Forbidden for an account that is not the caller's."""
    given = request.fields
    array = asked_range(given)
    row = {
        "uuid": str(uuid.uuid4()),
        "owner": principal.subject,
        "account": account_of(principal, given.get("account")),
        "host": host.name,
        "state": JobState.DRAFT if request.draft else JobState.SUBMITTING,
        "array": str(array) if array else None,
        "resubmitted_from": request.resubmitted_from,
        "template": request.template,
        "name": given.get("name") or DEFAULT_NAME,
        "extended_properties": given.get("extended_properties") or {},
        "request": {name: value for name, value in given.items() if name not in KEPT_IN_COLUMNS},
    }
    return row | {name: given.get(name) for name in ("tag", "description", "queue", "working_directory", "notify")}


def asked_for(job: Job) -> dict[str, Any]:
    """The fields of the request that the job came from."""
    kept = {name: getattr(job, name) for name in KEPT_IN_COLUMNS}
    return {name: value for name, value in {**kept, **job.request}.items() if value not in (None, {}, False)}


def job_spec(job: Job, script: str, environment: Mapping[str, str]) -> JobSpec:
    """What the backend is to run, from what was committed: so that the tick can hand over what a crash cut off.
    `environment` is what every job finds there, unless it brings its own."""
    asked = job.request
    return JobSpec(
        uuid=job.mark,
        account=job.account,
        script=script,
        name=job.name,
        working_directory=job.working_directory,
        queue=job.queue,
        resources=Resources(**{name: asked.get(name) for name in RESOURCE_FIELDS}),
        environment={**environment, **(asked.get("environment") or {}), **workspaces.environment(job)},
        hold=bool(asked.get("hold")),
        priority=asked.get("priority") or 0,
        stdout=asked.get("stdout"),
        stderr=asked.get("stderr"),
        array=task_range(job.array) if job.array else None,
    )
