"""/api/jobs/bulk: many jobs in one request, each with an answer of its own."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

from flask import Response, jsonify, request
from marshmallow import ValidationError

from gateway.api import errors
from gateway.api.errors import ErrorSchema
from gateway.api.jobs import KEY_HEADER, full, idempotency_key, job_requests
from gateway.api.requests import ApiBlueprint, principal, read_body, read_json, refusal, secured, services
from gateway.api.schemas import JobRequestSchema
from gateway.errors import JobgateError, TooLarge, Unprocessable
from gateway.model import Job
from gateway.options import flatten
from gateway.request import JobRequest

blueprint = secured(ApiBlueprint("bulk", __name__, url_prefix="/api/jobs", description="Jobs"))
AT_ONCE = 8
LARGEST_BODY = 64 << 20
BODY = {
    "required": True,
    "content": {
        "application/json": {"schema": {"type": "array", "items": {"$ref": "#/components/schemas/JobRequest"}}}
    },
}
JOB_OR_ERROR = {"anyOf": [{"$ref": "#/components/schemas/Job"}, {"$ref": "#/components/schemas/ItemError"}]}


@blueprint.post("/bulk")
@blueprint.response(200, {"type": "array", "items": JOB_OR_ERROR})
@blueprint.alt_response(413, schema=ErrorSchema, description="more jobs than `[limits] bulk`")
@blueprint.doc(parameters=[KEY_HEADER], requestBody=BODY)
def submit_all() -> Response:
    """Submit many jobs: an answer per item, in order"""
    request.max_content_length = LARGEST_BODY
    items = _items(read_json(read_body(request)))
    key = idempotency_key()
    who, service = principal(), services().jobs

    def submit(number: int, item: Any) -> Job | JobgateError:
        try:
            return service.submit(who, _request(_checked(item), _key(key, number, item)))[0]
        except JobgateError as problem:
            return problem
        except Exception as fault:
            return errors.unforeseen(fault)

    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="bulk") as pool:
        waiting = [pool.submit(copy_context().run, submit, *pair) for pair in enumerate(items)]
    return jsonify([_answer(one.result()) for one in waiting])


def _request(body: dict[str, Any], key: tuple[str, str] | None) -> JobRequest:
    wanted, _ = job_requests(body, key)
    if len(wanted) != 1:
        words = "on a host without arrays, a run over files is a request of its own"
        raise Unprocessable(words, errors={"files": [words]})
    return wanted[0]


def _items(value: Any) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise Unprocessable("send a JSON array of jobs, with at least one")
    most = services().config.limits.bulk
    if len(value) > most:
        raise TooLarge(f"{len(value)} jobs are too many for one call; send at most {most}")
    return value


def _checked(item: Any) -> dict[str, Any]:
    try:
        checked: dict[str, Any] = JobRequestSchema().load(item)
        return checked
    except ValidationError as problem:
        raise refusal(flatten(problem.normalized_messages())) from None


def _key(key: tuple[str, str] | None, number: int, item: Any) -> tuple[str, str] | None:
    """Each item has a key of its own: a call that is repeated submits what is still missing."""
    if key is None:
        return None
    return f"{key[0]}#{number}", hashlib.sha256(json.dumps(item, sort_keys=True).encode()).hexdigest()


def _answer(result: Job | JobgateError) -> dict[str, Any]:
    if isinstance(result, Job):
        return next(full([result]))
    return errors.body(result) | {"status_code": result.status}
