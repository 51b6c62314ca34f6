"""/api/process: a short command on a host's login side."""

from typing import Any

from flask import Response, jsonify
from marshmallow import Schema, ValidationError, fields, validate, validates

from gateway.api.errors import ErrorSchema
from gateway.api.requests import ApiBlueprint, principal, secured, services
from gateway.api.schemas import Text, absolute, text

blueprint = secured(ApiBlueprint("processes", __name__, url_prefix="/api/process", description="Short commands"))
LONGEST = 100_000


class ProcessRequestSchema(Schema):
    """A command to run."""

    host = Text(required=True, validate=validate.Length(max=255), metadata={"description": "name or alias of a host"})
    command = Text(required=True, metadata={"description": "a command line for /bin/sh"})
    working_directory = Text(
        allow_none=True, validate=absolute, metadata={"description": "default: the account's home"}
    )
    account = text(64, "one of the accounts that your certificate may use; default: the first")

    @validates("command")
    def _runnable(self, command: str, **_: Any) -> None:
        if not command.strip():
            raise ValidationError("is empty")
        if len(command.encode()) > LONGEST:
            raise ValidationError(f"is longer than {LONGEST} bytes; submit a job with a script")


class ProcessSchema(Schema):
    """A command that has ended. An output of more than a MiB is cut, and its last line says so."""

    status = fields.Constant("OK")
    exit_code = fields.Integer(required=True)
    standard_output = fields.String(required=True)
    error_output = fields.String(required=True)
    error_message = fields.String(required=True, allow_none=True, metadata={"description": "null"})


@blueprint.post("")
@blueprint.arguments(ProcessRequestSchema)
@blueprint.response(200, ProcessSchema)
@blueprint.alt_response(403, schema=ErrorSchema, description="this host runs no short commands")
@blueprint.alt_response(408, schema=ErrorSchema, description="it took too long; with what it had printed")
def run(body: dict[str, Any]) -> Response:
    """Run a short command on a host's login side"""
    result = services().processes.run(
        principal(), body["host"], body["command"], body.get("working_directory"), body.get("account")
    )
    return jsonify(
        status="OK",
        exit_code=result.exit_code,
        standard_output=result.stdout,
        error_output=result.stderr,
        error_message=None,
    )
