"""A multipart `POST /api/jobs`: a bundle, its inputs, and the job's fields. It is never in memory as a whole."""

import json
from dataclasses import dataclass
from typing import Any, cast

from flask import Response, g, request
from marshmallow import ValidationError, fields, pre_load, validate

from gateway.api.forms import Form, content, digest, received, text_of
from gateway.api.jobs import answer, blueprint, idempotency_key
from gateway.api.requests import principal, read_json, refusal, services
from gateway.api.schemas import SubmitSchema, Text
from gateway.bundles import Bundle, check_input_names, start_script
from gateway.model import Job
from gateway.options import flatten
from gateway.request import JobRequest

HOW = "send the parts `job` (JSON), `bundle` (a file) and, as often as needed, `inputs` (files)"


class BundleRequestSchema(SubmitSchema):
    """The part `job`."""

    class Meta:
        exclude = ("script", "working_directory")

    arguments = fields.List(
        Text(validate=validate.Length(max=100_000)), allow_none=True, validate=validate.Length(max=1000)
    )

    @pre_load
    def _of_its_own(self, data: Any, **_: Any) -> Any:
        own = {"script": "is the bundle's run.sh", "working_directory": "is the bundle's own folder"}
        given = data if isinstance(data, dict) else {}
        wrong = {name: [f"{words}; leave it out"] for name, words in own.items() if name in given}
        if wrong:
            raise ValidationError(wrong)
        return data


@dataclass(frozen=True)
class Upload:
    """A body that has been received."""

    job: dict[str, Any]
    bundle: Bundle


@blueprint.before_request
def bundle() -> Response | None:
    """What is sent as a form with files goes another way than JSON."""
    if request.endpoint != "jobs.submit" or request.mimetype != "multipart/form-data":
        return None
    with received(HOW) as form:
        job, new = _submit(_checked_upload(form))
    return answer(job, 201 if new else 200)


def _submit(upload: Upload) -> tuple[Job, bool]:
    return submit_bundle(upload.job, upload.bundle)


def submit_bundle(given: dict[str, Any], bundle: Bundle, prologue: str = "") -> tuple[Job, bool]:
    """Submit what BundleRequestSchema made of a part `job`. `prologue` are lines of shell before the bundle's run.sh
    begins. Raises as `JobService.submit`."""
    host, draft = given.pop("host"), given.pop("draft", False)
    script = start_script(given.get("arguments", ()), prologue)
    wanted = JobRequest(host, script, given, idempotency_key(), draft=draft, contents=bundle)
    return services().jobs.submit(principal(), wanted)


def _checked_upload(form: Form) -> Upload:
    """Raises BadRequest, TooLarge, Unprocessable, which say what to do."""
    values, files = form.values, form.files
    bundles, inputs = files.pop("bundle", []), files.pop("inputs", [])
    for file in files.pop("job", []):  # curl -F job=@job.json
        values.setdefault("job", []).append(text_of(file))
    wrong = {name: [f"is not a part that is known here; {HOW}"] for name in {*values, *files} - {"job"}}
    for name, found in (("job", values.get("job", [])), ("bundle", bundles)):
        if len(found) != 1:
            wrong[name] = [f"must be sent once; {HOW}"]
    if wrong:
        raise refusal(wrong)
    job = checked(read_json(values["job"][0].encode("utf-8", "surrogateescape")))
    names = [file.filename or "" for file in inputs]
    check_input_names(names)
    g.body = json.dumps([values["job"][0], *map(digest, (*bundles, *inputs))]).encode()  # what a key stands for
    limits = services().config.limits
    by_name = {name: content(file) for name, file in zip(names, inputs, strict=True)}
    return Upload(job, Bundle(content(bundles[0]), by_name, limits.unpacked, limits.unpacked_files))


def checked(job: Any) -> dict[str, Any]:
    """The part `job`. Raises Unprocessable."""
    try:
        return cast(dict[str, Any], BundleRequestSchema().load(job))
    except ValidationError as problem:
        raise refusal(flatten(problem.normalized_messages())) from None
