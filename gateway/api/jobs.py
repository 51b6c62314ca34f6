"""/api/jobs: submit, list, show, change, steer, delete."""

import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from typing import Any

from flask import Response, g, jsonify, request

from gateway.api.errors import ErrorSchema
from gateway.api.requests import ApiBlueprint, next_page, principal, secured, services
from gateway.api.schemas import (
    ActionSchema,
    DeleteSchema,
    EventSchema,
    JobPatchSchema,
    JobQuerySchema,
    JobRequestSchema,
    JobSchema,
    SubmittedSchema,
    WaitSchema,
    job_json,
    rfc3339,
    short_json,
)
from gateway.api.templates import loaded
from gateway.errors import Unprocessable
from gateway.model import Job
from gateway.request import JobRequest
from gateway.store import Event, JobFilter, Page, now

blueprint = secured(ApiBlueprint("jobs", __name__, url_prefix="/api/jobs", description="Jobs"))
KEY_HEADER = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "the same key gives the same job, for a day",
    "schema": {"type": "string", "maxLength": 255},
}


BUNDLE = {  # such a body is read by gateway/api/bundles.py
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["job", "bundle"],
                "properties": {
                    "job": {"type": "string", "description": "JSON: the fields of a job without `script`, `arguments`"},
                    "bundle": {"type": "string", "format": "binary", "description": ".tar.gz or .zip with run.sh"},
                    "inputs": {"type": "array", "items": {"type": "string", "format": "binary"}},
                },
            }
        }
    }
}
LIST = {
    "type": "array",
    "items": {"anyOf": [{"$ref": "#/components/schemas/Job"}, {"$ref": "#/components/schemas/ShortJob"}]},
}


@blueprint.post("")
@blueprint.arguments(JobRequestSchema)
@blueprint.response(201, SubmittedSchema)
@blueprint.alt_response(200, schema=SubmittedSchema, description="the job that this Idempotency-Key stands for already")
@blueprint.alt_response(504, schema=ErrorSchema, description="not known yet whether it was submitted; see Location")
@blueprint.doc(parameters=[KEY_HEADER], requestBody=BUNDLE)
def submit(body: dict[str, Any]) -> Response:
    """Submit a job"""
    wanted, files = job_requests(body, idempotency_key())
    submitted = [services().jobs.submit(principal(), one) for one in wanted]
    status = 201 if any(new for _, new in submitted) else 200
    if len(wanted) == 1:
        return answer(submitted[0][0], status, files)
    response = jsonify({"count": files, "jobs": [*full([job for job, _ in submitted])]})
    response.status_code = status
    return response


@blueprint.get("")
@blueprint.arguments(JobQuerySchema, location="query")
@blueprint.response(200, LIST)
@blueprint.alt_response(304, description="nothing has changed since that ETag")
def list_jobs(query: dict[str, Any]) -> Response:
    """List jobs, the newest first"""
    short = query.pop("format") == "short"
    owner = query.pop("owner", principal().subject)
    wanted = JobFilter(owner=None if owner == "*" else owner, properties=_properties(), **_plural(query))
    page = services().jobs.find(principal(), wanted)
    version = _version(page, short)
    response = Response(mimetype="application/json")
    response.set_etag(version, weak=True)
    response.headers["X-Total-Count"] = str(page.total)
    if page.next_cursor:
        response.headers["Link"] = next_page(page.next_cursor)
    if request.if_none_match.contains_weak(version):
        response.status_code = 304
    else:
        shown = map(short_json, page.jobs) if short else full(page.jobs)
        response.set_data(f"[{','.join(map(json.dumps, shown))}]")
    return response


@blueprint.get("/<job_id>")
@blueprint.arguments(WaitSchema, location="query")
@blueprint.response(200, JobSchema)
@blueprint.alt_response(304, description="nothing has changed since that ETag")
@blueprint.alt_response(429, schema=ErrorSchema, description="too many requests are waiting already")
def show(query: dict[str, Any], job_id: str) -> Response:
    """Show a job; with `wait`, when its state changes"""
    seconds = query.get("wait", 0)
    if not seconds:
        return _with_version(services().jobs.get(principal(), job_id))
    with services().waiting.take():
        return _with_version(_changed(job_id, seconds))


def _changed(job_id: str, seconds: float) -> Job:
    """The job when its state is no longer what it is now, or not what the client has seen; or after so many seconds."""
    end = time.monotonic() + seconds
    number = services().jobs.get(principal(), job_id).number
    with services().news.listening(lambda event: event.number == number) as listener:
        job = services().jobs.get(principal(), job_id)
        seen = request.if_none_match
        while not (job.state.final or listener.closed or (seen and not seen.contains_weak(_job_version(job)))):
            event = listener.next(end - time.monotonic())
            if event is None:
                return job
            if event.kind == "job":
                return services().jobs.get(principal(), job_id)
        return job


def _with_version(job: Job) -> Response:
    version = _job_version(job)
    response = answer(job)
    response.set_etag(version, weak=True)
    if request.if_none_match.contains_weak(version):
        response.status_code = 304
        response.set_data(b"")
    return response


def _job_version(job: Job) -> str:
    return f"{job.number}-{job.updated_at.timestamp()}"


@blueprint.patch("/<job_id>")
@blueprint.arguments(JobPatchSchema)
@blueprint.response(200, JobSchema)
def edit(body: dict[str, Any], job_id: str) -> Response:
    """Change a job's tag, description or extended_properties; of a draft any field"""
    if not body:
        raise Unprocessable("nothing to change; send tag, description or extended_properties")
    return answer(services().jobs.edit(principal(), job_id, body))


@blueprint.put("/<job_id>")
@blueprint.arguments(ActionSchema)
@blueprint.response(204)
@blueprint.alt_response(
    201, schema=JobSchema, description="the new job, after resubmit; the job, after reset and execute"
)
@blueprint.doc(parameters=[KEY_HEADER])
def control(body: dict[str, Any], job_id: str) -> Response:
    """Abort, hold, release, suspend, continue, resubmit or reset a job, or execute a draft"""
    key = idempotency_key()
    key = key and (key[0], hashlib.sha256(f"{job_id} {key[1]}".encode()).hexdigest())
    new = services().jobs.control(principal(), job_id, **body, key=key)
    return answer(new, 201) if new else Response(status=204)


@blueprint.delete("/<job_id>")
@blueprint.arguments(DeleteSchema, location="query")
@blueprint.response(204)
def delete(query: dict[str, Any], job_id: str) -> Response:
    """Stop a job if need be, and forget it"""
    services().jobs.delete(principal(), job_id, clean=query.get("clean", False))
    return Response(status=204)


@blueprint.get("/<job_id>/events")
@blueprint.response(200, EventSchema(many=True))
def history(job_id: str) -> Response:
    """What happened to a job, oldest first"""
    return jsonify([_event(event) for event in services().jobs.history(principal(), job_id)])


def job_requests(body: dict[str, Any], key: tuple[str, str] | None) -> tuple[list[JobRequest], int | None]:
    """What JobRequestSchema made of a body, as the service takes it, and how many files a template runs over. It is one
    request, but for a run over files on a host without arrays."""
    fields = {name: value for name, value in body.items() if name not in ("host", "script", "draft", "template")}
    asked = JobRequest(body.get("host", ""), body.get("script", ""), fields, key, draft=body.get("draft", False))
    if "template" not in body:
        return [asked], None
    template = services().templates.get_wanted(principal(), body["template"])
    return services().templates.requests(principal(), template, loaded(template), asked)


def answer(job: Job, status: int = 200, files: int | None = None) -> Response:
    """The job, with its URL where it is new; `files` is how many it runs over."""
    response = jsonify(next(full([job])) | ({} if files is None else {"count": files}))
    response.status_code = status
    if status == 201:
        response.headers["Location"] = f"{services().config.gateway.base_url}/api/jobs/{job.job_id}"
    return response


def full(jobs: Iterable[Job]) -> Iterator[dict[str, Any]]:
    base_url, at = services().config.gateway.base_url, now()
    hosts = services().host_store.recently()
    for job in jobs:
        yield job_json(job, base_url, hosts[job.host].last_success if job.host in hosts else None, at)


def idempotency_key() -> tuple[str, str] | None:
    """The Idempotency-Key of the request with a hash of its body."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not key.isascii() or not key.isprintable() or not 0 < len(key) <= 255:
        words = "must be 1 to 255 printable ASCII characters"
        raise Unprocessable(f"Idempotency-Key {words}", errors={"Idempotency-Key": [words]})
    return key, hashlib.sha256(g.body).hexdigest()


PROPERTY = "extended_properties."


def _properties() -> list[tuple[list[str], str]]:
    """`?extended_properties.a.b=x`: what is at a, b must be x."""
    asked = [
        (name.removeprefix(PROPERTY), value)
        for name, value in request.args.items(multi=True)
        if name.startswith(PROPERTY)
    ]
    if any("\0" in name + value for name, value in asked):
        raise Unprocessable("a search must not contain a NUL character", errors={PROPERTY[:-1]: ["contains a NUL"]})
    return [(name.split("."), value) for name, value in asked if value]


def _plural(query: dict[str, Any]) -> dict[str, Any]:
    plural = {"job_id": "job_ids", "number": "numbers"}
    return {plural.get(name, name): value for name, value in query.items()}


def _version(page: Page, short: bool) -> str:
    """Changes when anything of the page does but the clock."""
    seen = hashlib.sha256(f"{short} {page.total} {page.next_cursor}".encode())
    for job in page.jobs:
        seen.update(f"{job.number} {job.updated_at.timestamp()}".encode())
    return seen.hexdigest()[:32]


def _event(event: Event) -> dict[str, Any]:
    return {
        "id": event.id,
        "kind": event.kind,
        "at": rfc3339(event.at),
        "state": event.state,
        "status": event.state.status,
        "before": event.before,
        "reason": event.reason,
    }
