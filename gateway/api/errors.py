"""From the error tree to an HTTP answer. The one place."""

import logging
from collections.abc import Callable
from typing import Any

from flask import Flask, Response, current_app, g, jsonify, request
from marshmallow import Schema, fields
from werkzeug.exceptions import HTTPException

from gateway.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    JobgateError,
    NotFound,
    TooLarge,
    Unauthenticated,
    Unprocessable,
)

log = logging.getLogger(__name__)

CLASSES: dict[int, type[JobgateError]] = {
    known.status: known for known in (BadRequest, Forbidden, NotFound, Conflict, TooLarge, Unprocessable)
}
CLASSES[401] = Unauthenticated
KEPT_HEADERS = ("Content-Range", "Retry-After")


class ErrorSchema(Schema):
    """The answer to every mistake."""

    status = fields.Constant("error", metadata={"description": "always `error`"})
    exit_code = fields.Integer(
        required=True,
        metadata={"description": "of the command on the host; -1: it did not come to its end, 0: none was run"},
    )
    standard_output = fields.String(required=True)
    error_output = fields.String(required=True)
    error_message = fields.String(required=True, metadata={"description": "what is wrong and what to do"})
    tag = fields.String(required=True, allow_none=True)
    code = fields.String(required=True, metadata={"description": "stable word for programs"})
    retryable = fields.Boolean(required=True, metadata={"description": "whether the same request may succeed later"})
    errors = fields.Dict(keys=fields.String(), values=fields.List(fields.String()), required=True)
    request_id = fields.String(required=True)
    uuid = fields.String(metadata={"description": "the job, where its submission is not settled yet"})


class ItemErrorSchema(ErrorSchema):
    """The same for one item of several."""

    status_code = fields.Integer(required=True, metadata={"description": "what the item alone would have answered"})


def body(error: JobgateError) -> dict[str, Any]:
    """The error as JSON (ErrorSchema)."""
    answer = {
        "status": "error",
        "exit_code": error.exit_code,
        "standard_output": error.standard_output,
        "error_output": error.error_output,
        "error_message": error.message,
        "tag": None,
        "code": error.code,
        "retryable": error.retryable,
        "errors": error.errors,
        "request_id": g.get("request_id", ""),
    }
    return answer | ({"uuid": error.uuid} if error.uuid else {})


Shape = Callable[[JobgateError], Response]


def register(app: Flask) -> None:
    """Errors of our own, of the framework, and those that nobody foresaw."""
    app.register_error_handler(JobgateError, _answer)
    app.register_error_handler(HTTPException, lambda error: _answer(_of_framework(error)))
    app.register_error_handler(Exception, _unforeseen)


def _answer(error: JobgateError) -> Response:
    if error.status >= 500:
        log.warning("%s: %s", error.code, error.message)
    response = _shape(request.path)(error)
    response.status_code = error.status
    response.headers.update(error.headers)
    return response


def _shape(path: str) -> Shape:
    """What an error looks like there: below the mount of a dialect as that one has it."""
    shapes: dict[str, Shape] = current_app.extensions["jobgate"].shapes
    for mount, shape in shapes.items():
        if path == mount or path.startswith(f"{mount}/"):
            return shape
    return _native


def _native(error: JobgateError) -> Response:
    return jsonify(body(error))


def _of_framework(error: HTTPException) -> JobgateError:
    status = error.code or 500
    if status == 404:
        return NotFound(f"there is nothing at {request.path}; see /api/docs")
    if status == 405:
        allowed = ", ".join(sorted(getattr(error, "valid_methods", None) or ()))
        ours = JobgateError(f"{request.method} is not possible here; possible: {allowed}", code="method_not_allowed")
        ours.headers["Allow"] = allowed
    elif status == 413:
        ours = TooLarge("the body is larger than this gateway accepts")
    else:
        code = None if status in CLASSES else error.name.lower().replace(" ", "_")
        ours = CLASSES.get(status, JobgateError)(error.description or error.name, code=code)
        ours.headers.update({name: value for name, value in error.get_headers() if name in KEPT_HEADERS})
    ours.status = status
    return ours


def _unforeseen(error: Exception) -> Response:
    return _answer(unforeseen(error))


def unforeseen(error: Exception) -> JobgateError:
    """What a client is told of a fault of our own; the log has the rest."""
    log.error("a fault of the gateway's own", exc_info=error)
    return JobgateError("the gateway failed; its operator finds the cause in the log under this request_id")
