"""The dialect of the MODAClouds batch engine (its README, and the batch engine's source of 2014).

POST   /jobs                              submit: a form with job-bundle and more, see FIELDS
GET    /jobs                              list
GET    /jobs/<id>                         information
GET    PUT /jobs/<id>/<action>            remove hold continue release suspend
DELETE /jobs/<id>                         remove
GET    /jobs/<id>/artifacts/<artifact>    output stdout stderr _userlog
GET    /api/spec.html                     leads to Swagger UI
"""

import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import flask
from marshmallow import fields

from gateway import BadRequest, Door, Job, JobgateError, NotFound, Unprocessable, hookimpl, is_archive, option

from .words import information, listed, user_log

HOW = "send job-name, job-bundle, job-input, job-arguments and job-notification, as multipart/form-data or urlencoded"
# What the forms of this dialect call the fields of the native API.
FIELDS = {"name": "job-name", "bundle": "job-bundle", "arguments": "job-arguments", "notify": "job-notification"}
ACTIONS = {"remove": "abort", "hold": "hold", "continue": "continue", "release": "release", "suspend": "suspend"}
INPUT = "input"
NO_ENTRY_POINT = "#!/bin/sh\necho 'Invalid bundle! Missing entrypoint' >&2\nexit 1\n"
ENVIRONMENT = """export MODACLOUDS_BATCH_OUTPUT="$JOBGATE_OUTPUT"
export MODACLOUDS_BATCH_SCRATCH_DIRECTORY="$JOBGATE_SCRATCH"
"""
INPUT_ENVIRONMENT = f'export MODACLOUDS_BATCH_INPUT="$JOBGATE_INPUT/{INPUT}"\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """[dialects.modaclouds]"""

    host: str | None = option(fields.String(), None, "host that jobs of /jobs run on; default: the gateway's")


@hookimpl
def register_options() -> Mapping[str, type]:
    return {"modaclouds": Options}


@hookimpl
def register_dialects(service: Any, door: Door) -> Iterable[flask.Blueprint]:
    return [jobs(service, door), swagger(door)]


def swagger(door: Door) -> flask.Blueprint:
    blueprint = door.blueprint("modaclouds-swagger", error=shown, secured=False)
    blueprint.add_url_rule("/api/spec.html", view_func=lambda: flask.redirect("/api/docs"), endpoint="spec")
    return blueprint


def jobs(service: Any, door: Door) -> flask.Blueprint:
    blueprint = door.blueprint("modaclouds", "/jobs", error=shown)
    host = door.host(door.options("modaclouds").host).name

    @blueprint.post("/jobs")
    def submit() -> flask.Response:
        with door.form(HOW) as form:
            bundle = form.file("job-bundle")
            if bundle is None:
                raise BadRequest(f"there is no job-bundle; {HOW}")
            asked = {"host": host, **wanted(form.text)}
            given = form.file("job-input")
            job = submit_bundle(asked, bundle, {INPUT: given} if given else {})
        return flask.jsonify({"job_id": job.uuid, "backend_id": information(job)["cluster_id"]})

    def submit_bundle(asked: dict[str, Any], bundle: Any, inputs: dict[str, Any]) -> Job:
        """One that cannot begin is a job that fails, as the document has it."""
        try:
            if is_archive(bundle):
                return door.submit_bundle(asked, bundle, inputs, ENVIRONMENT + (INPUT_ENVIRONMENT if inputs else ""))
        except Unprocessable as problem:
            if problem.code != "no_entry_point":
                raise
        del asked["arguments"]
        return door.submit({**asked, "script": NO_ENTRY_POINT})[0]

    @blueprint.get("/jobs")
    def list_jobs() -> flask.Response:
        return flask.jsonify([listed(job) for job in door.jobs()])

    @blueprint.get("/jobs/<job_id>")
    def show(job_id: str) -> flask.Response:
        job = found(job_id)
        return flask.jsonify(information(job, service.history(door.principal, job.uuid)))

    @blueprint.route("/jobs/<job_id>/<action>", methods=["GET", "PUT"])
    def control(job_id: str, action: str) -> flask.Response:
        job = found(job_id)
        if action not in ACTIONS:
            raise BadRequest(f"Action {action} is not known; known are: {', '.join(ACTIONS)}")
        if not (action == "remove" and job.state.final):  # it has left the queue already
            service.control(door.principal, job.uuid, ACTIONS[action])
        return flask.jsonify({"result": [job_id, action]})

    @blueprint.delete("/jobs/<job_id>")
    def remove(job_id: str) -> flask.Response:
        return control(job_id, "remove")

    @blueprint.get("/jobs/<job_id>/artifacts/<artifact>")
    def artifact(job_id: str, artifact: str) -> flask.Response:
        job = found(job_id)
        if artifact == "output":
            return door.output(job.uuid)
        if artifact in ("stdout", "stderr"):
            return door.log(job.uuid, artifact)
        if artifact == "_userlog":
            text = user_log(job, service.history(door.principal, job.uuid))
            return flask.Response(text, content_type="text/plain; charset=utf-8")
        raise NotFound(f"Artifact {artifact} doesn't exist; there are: output, stdout, stderr, _userlog")

    def found(job_id: str) -> Job:
        try:
            job: Job = service.get(door.principal, job_id)
        except NotFound as problem:
            raise NotFound(f"Job {job_id} doesn't exist", code=problem.code) from None
        return job

    return blueprint


def shown(error: JobgateError) -> flask.Response:
    """A mistake in the dialect's shape."""
    errors = {FIELDS.get(name, name): words for name, words in error.errors.items()}
    more = {"uuid": error.uuid} if error.uuid else {}
    return flask.jsonify({"message": error.message, "code": error.code, "errors": errors, **more})


def wanted(text: Callable[[str], str | None]) -> dict[str, Any]:
    """The form's values as fields of a job."""
    given = {"name": text("job-name"), "notify": text("job-notification")}
    try:
        arguments = shlex.split(text("job-arguments") or "")
    except ValueError as problem:
        words = f"job-arguments cannot be read as a shell reads them: {problem}"
        raise Unprocessable(words, errors={"arguments": [words]}) from None
    return {"arguments": arguments, **{name: value for name, value in given.items() if value}}
