"""The dialect of Tethys portals: the job status callback of the Jobs API, and in JSON what its jobs table asks for.

    GET POST /update-job-status/<id>/[?delay=]    have the gateway look at the job
    GET      /tethys/jobs/[?user=&order_by=&...]  list_jobs: the rows of a jobs table
    POST     /tethys/jobs/                        create_job
    GET      /tethys/jobs/<id>/                   get_job: null where there is none
    GET      /tethys/jobs/<id>/logs/              get_logs
    POST     /tethys/jobs/<id>/<method>/          one of METHODS

An `<id>` is the gateway's number of a job, or one of its other ids.
"""

from collections.abc import Iterable
from typing import Any

import flask

from gateway import Conflict, Door, JobgateError, NotFound, Unprocessable, hookimpl

from .rows import comparable, field, row

LONGEST_DELAY = 300  # seconds
MOST_OF_A_LOG = 1 << 20  # bytes
# Method of a job → the action of the table's row that must be open to it.
METHODS = {
    "execute": "run",
    "stop": "terminate",
    "pause": "terminate",
    "resume": "terminate",
    "resubmit": "resubmit",
    "delete": "delete",
    "update_status": None,
    "process_results": "results",
}


@hookimpl
def register_dialects(service: Any, door: Door) -> Iterable[flask.Blueprint]:
    return [callback(door), jobs_table(service, door)]


def callback(door: Door) -> flask.Blueprint:
    """The URL that a job calls, or whoever may see it. It tells the gateway nothing but that it should look."""
    blueprint = door.blueprint("tethys-callback", "/update-job-status", error=shown, secured=False)

    @blueprint.route("/update-job-status/<job_id>/", methods=["GET", "POST"])
    def update_job_status(job_id: str) -> flask.Response:
        delay = flask.request.args.get("delay", "")
        door.look(ident(job_id), after=seconds(delay))
        return flask.jsonify({"success": "scheduled" if delay else True})

    return blueprint


def jobs_table(service: Any, door: Door) -> flask.Blueprint:
    """What a portal's jobs table needs. A job that is not the caller's is one that is not there."""
    blueprint = door.blueprint("tethys", "/tethys", error=shown)

    @blueprint.get("/tethys/jobs/")
    def list_jobs() -> flask.Response:
        filters = flask.request.args.to_dict()
        user, order, columns = (filters.pop(name, "") for name in ("user", "order_by", "columns"))
        account = door.account(user) if user else None
        rows = [row(job) for job in door.jobs() if account in (None, job.account)]
        rows = [one for one in rows if all(str(field(one, name)) == value for name, value in filters.items())]
        rows.sort(key=lambda one: comparable(field(one, order.removeprefix("-") or "id")), reverse=order[:1] == "-")
        shown_too = [name for name in columns.split(",") if name]
        return flask.jsonify([one | {name: field(one, name) for name in shown_too} for one in rows])

    @blueprint.post("/tethys/jobs/")
    def create_job() -> flask.Response:
        asked = request_of(door.json())
        try:
            created = [row(job) for job in door.submit(asked)]
        except Unprocessable as problem:
            if problem.code == "unknown_template":
                problem.message = f"A job template with name {asked['template']} was not defined"
            raise
        response = flask.jsonify(created[0] if len(created) == 1 else created)
        response.status_code = 201
        return response

    @blueprint.get("/tethys/jobs/<job_id>/")
    def get_job(job_id: str) -> flask.Response:
        try:
            return flask.jsonify(row(service.get(door.principal, ident(job_id))))
        except NotFound:
            return flask.jsonify(None)

    @blueprint.get("/tethys/jobs/<job_id>/logs/")
    def get_logs(job_id: str) -> flask.Response:
        job = service.get(door.principal, ident(job_id))
        if not row(job)["actions"]["logs"]:
            raise Conflict(f"the job is {row(job)['status']}; there are no logs before it runs")
        return flask.jsonify({stream: end_of_log(stream, job) for stream in ("stdout", "stderr")})

    def end_of_log(stream: str, job: Any) -> str:
        with service.open_log(service.with_one_log(door.principal, job.uuid, stream), stream) as file:
            return str(file.read(max(0, file.size - MOST_OF_A_LOG), MOST_OF_A_LOG), "utf-8", "replace")

    @blueprint.post("/tethys/jobs/<job_id>/<method>/")
    def call(job_id: str, method: str) -> flask.Response:
        job = service.get(door.principal, ident(job_id))
        now = row(job)
        if method not in METHODS:
            raise NotFound(f"a job has no method {method}; it has: {', '.join(METHODS)}")
        if METHODS[method] and not now["actions"][METHODS[method]]:
            raise Conflict(f"the job is {now['status']}; it cannot {method} now")
        if method == "delete":
            service.delete(door.principal, job.uuid)
            return flask.jsonify({"success": True})
        if method == "update_status":
            door.look(job.uuid)
        elif method != "process_results":
            job = service.control(door.principal, job.uuid, word_for(method, job)) or job
        answer = row(service.get(door.principal, job.uuid))
        if method == "process_results":
            answer |= {"status": "Results-Ready", "results": f"{door.base_url}/api/jobs/{job.job_id}/output"}
        return flask.jsonify({"success": True, **answer})

    return blueprint


def shown(error: JobgateError) -> flask.Response:
    """A mistake in the dialect's shape."""
    return flask.jsonify({"success": False, "error": error.message, "code": error.code, "errors": error.errors})


def ident(text: str) -> str | int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else text


def seconds(delay: str) -> float:
    if delay and not (delay.isascii() and delay.isdigit() and len(delay) < 5 and int(delay) <= LONGEST_DELAY):
        raise Unprocessable(f"delay must be a number of seconds, at most {LONGEST_DELAY}")
    return float(delay or 0)


def request_of(asked: dict[str, Any]) -> dict[str, Any]:
    """What create_job(name, user, template_name, **more) asks for, in the words of `POST /api/jobs`: a job that waits
    for its `execute`. `parameters` are the template's."""
    words = {"template_name": "template", "user": "account", "workspace": "working_directory"}
    if not asked.get("template_name"):
        raise Unprocessable("create_job needs a template_name; GET /api/templates lists those that you can use")
    return {words.get(name, name): value for name, value in asked.items()} | {"draft": True}


def word_for(method: str, job: Any) -> str:
    """The gateway's action for a method of a Tethys job."""
    waiting = job.state.status == "QUEUED"
    return {
        "stop": "abort",
        "pause": "hold" if waiting else "suspend",
        "resume": "release" if waiting else "continue",
    }.get(method, method)
