"""/api/jobs/{id}/report: a job says that it is worth looking at, or somebody who may see it does."""

from flask import Response, jsonify, request
from marshmallow import Schema, fields

from gateway.api.requests import ApiBlueprint, identify, principal, services
from gateway.errors import Unauthenticated
from gateway.model import Job

blueprint = ApiBlueprint("reports", __name__, url_prefix="/api/jobs", description="Jobs")
REFUSED = "this is not the report token of a running job; it ends with its job"


class ReportSchema(Schema):
    """The gateway looks."""

    success = fields.Constant(True)


@blueprint.post("/<job_id>/report")
@blueprint.response(202, ReportSchema)
@blueprint.doc(security=[{"token": []}, {"proxy": []}])
def report(job_id: str) -> Response:
    """Have the gateway look at the job's host at once"""
    services().ticker.look(services().hosts.by_name.get(reported(job_id).host))
    response = jsonify({"success": True})
    response.status_code = 202
    return response


def reported(ident: str | int) -> Job:
    """The job, for who shows its report token or may see it anyway."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.startswith("jgr_") and "PROXY" not in request.headers:
        job = services().repository.job(ident, None)
        if job is None or not services().reports.vouches(token.strip(), job):
            raise Unauthenticated(REFUSED, code="token_invalid")
        return job
    identify()
    return services().jobs.get(principal(), ident)
