"""/api/jobs/{id}/tasks: the tasks of an array."""

import json
from typing import Any

from flask import Response, jsonify

from gateway.api.errors import ErrorSchema
from gateway.api.files import PLAIN, send_log
from gateway.api.jobs import answer
from gateway.api.requests import ApiBlueprint, next_page, principal, secured, services
from gateway.api.schemas import (
    JobSchema,
    StreamQuerySchema,
    TaskActionSchema,
    TaskQuerySchema,
    TaskSchema,
    task_json,
)
from gateway.store import TaskFilter

blueprint = secured(ApiBlueprint("tasks", __name__, url_prefix="/api/jobs", description="Tasks of arrays"))


@blueprint.get("/<job_id>/tasks")
@blueprint.arguments(TaskQuerySchema, location="query")
@blueprint.response(200, TaskSchema(many=True))
@blueprint.alt_response(409, schema=ErrorSchema, description="the job is no array")
def list_tasks(query: dict[str, Any], job_id: str) -> Response:
    """The tasks of an array, by their numbers"""
    limit = query["limit"]
    wanted = TaskFilter(query["states"], query["cursor"], limit + 1)
    job, found, total = services().tasks.page(principal(), job_id, wanted)
    base_url = services().config.gateway.base_url
    shown = ",".join(json.dumps(task_json(job, task, base_url)) for task in found[:limit])
    response = Response(f"[{shown}]", mimetype="application/json")
    response.headers["X-Total-Count"] = str(total)
    if len(found) > limit:
        response.headers["Link"] = next_page(found[limit - 1].task_id)
    return response


@blueprint.get("/<job_id>/tasks/<task_id>")
@blueprint.response(200, TaskSchema)
def show(job_id: str, task_id: str) -> Response:
    """Show a task"""
    job, task = services().tasks.get(principal(), job_id, task_id)
    return jsonify(task_json(job, task, services().config.gateway.base_url))


@blueprint.put("/<job_id>/tasks/<task_id>")
@blueprint.arguments(TaskActionSchema)
@blueprint.response(204)
@blueprint.alt_response(201, schema=JobSchema, description="the new job, after resubmit")
def control(body: dict[str, Any], job_id: str, task_id: str) -> Response:
    """Abort a task, or run it again as a new job"""
    if body["action"] == "resubmit":
        return answer(services().tasks.resubmit(principal(), job_id, task_id), 201)
    services().tasks.abort(principal(), job_id, task_id)
    return Response(status=204)


@blueprint.get("/<job_id>/tasks/<task_id>/<any(stdout, stderr):stream>")
@blueprint.arguments(StreamQuerySchema, location="query")
@blueprint.response(200, PLAIN["schema"], content_type="text/plain")
@blueprint.alt_response(206, schema=PLAIN["schema"], content_type="text/plain", description="the range asked for")
@blueprint.alt_response(416, schema=ErrorSchema, description="the file ends before that range")
def log(query: dict[str, Any], job_id: str, task_id: str, stream: str) -> Response:
    """The task's standard output or error output, as bytes"""
    job, task = services().tasks.get(principal(), job_id, task_id)
    return send_log(job, task.task_id, stream, query, ended=task.state.final)
