"""A multipart `POST /api/jobs`: a bundle, its inputs, and the job's fields. It is never in memory as a whole."""

import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO, Any, cast

from flask import Response, current_app, g, request
from marshmallow import ValidationError, fields, pre_load, validate
from werkzeug.datastructures import FileStorage
from werkzeug.formparser import FormDataParser

from gateway.api.jobs import answer, blueprint, idempotency_key
from gateway.api.requests import principal, read_json, refusal, services
from gateway.api.schemas import SubmitSchema, Text
from gateway.bundles import Bundle, check_input_names, start_script
from gateway.errors import BadRequest, HostDown, TooLarge
from gateway.model import Job
from gateway.options import flatten
from gateway.request import JobRequest

BESIDE_FILES = 1 << 20  # bytes of the body that are neither in a file nor in the part `job`
MOST_PARTS = 1000
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


class Spool:
    """A part of the body on its way to the disk, in a file without a name: it is gone when it is closed or the process
    ends, however that happens."""

    def __init__(self, parts: "Parts") -> None:
        self.parts = parts
        self.digest = hashlib.sha256()
        self.file = parts.open()

    def write(self, data: bytes) -> int:
        self.parts.count(len(data))
        self.digest.update(data)
        with _room():
            return self.file.write(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        with _room():
            return self.file.seek(offset, whence)  # flushes


class Parts:
    """The files of one request."""

    def __init__(self, stack: ExitStack) -> None:
        self.stack = stack
        self.limit = services().config.limits.upload
        self.received = 0

    def open(self) -> IO[bytes]:
        folder = services().config.gateway.state_dir / "uploads"
        with _room():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return self.stack.enter_context(tempfile.TemporaryFile(dir=folder))

    def count(self, size: int) -> None:
        self.received += size
        if self.received > self.limit:
            raise TooLarge(f"the bundle and its inputs are larger than {self.limit} bytes")


@contextmanager
def _room() -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise HostDown(f"the gateway has no room for the bundle: {problem.strerror}", code="no_room") from problem


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
    with ExitStack() as stack:
        job, new = _submit(_received(stack))
    return answer(job, 201 if new else 200)


def _submit(upload: Upload) -> tuple[Job, bool]:
    given = upload.job
    host, draft = given.pop("host"), given.pop("draft", False)
    script = start_script(given.get("arguments", ()))
    wanted = JobRequest(host, script, given, idempotency_key(), draft=draft, contents=upload.bundle)
    return services().jobs.submit(principal(), wanted)


def _received(stack: ExitStack) -> Upload:
    """Read the body to its end. Raises BadRequest, TooLarge, Unprocessable, which say what to do."""
    form, files = _parse(Parts(stack))
    bundles, inputs = files.pop("bundle", []), files.pop("inputs", [])
    for file in files.pop("job", []):  # curl -F job=@job.json
        form.setdefault("job", []).append(_text(file))
    wrong = {name: [f"is not a part that is known here; {HOW}"] for name in {*form, *files} - {"job"}}
    for name, found in (("job", form.get("job", [])), ("bundle", bundles)):
        if len(found) != 1:
            wrong[name] = [f"must be sent once; {HOW}"]
    if wrong:
        raise refusal(wrong)
    job = _checked(form["job"][0])
    names = [file.filename or "" for file in inputs]
    check_input_names(names)
    g.body = json.dumps([form["job"][0], *map(_digest, (*bundles, *inputs))]).encode()  # what a key stands for
    limits = services().config.limits
    by_name = {name: _spool(file).file for name, file in zip(names, inputs, strict=True)}
    return Upload(job, Bundle(_spool(bundles[0]).file, by_name, limits.unpacked, limits.unpacked_files))


def _parse(parts: Parts) -> tuple[dict[str, list[str]], dict[str, list[FileStorage]]]:
    """The values and the files of the form, by name."""
    longest_job = current_app.config["MAX_CONTENT_LENGTH"]
    request.max_content_length = parts.limit + longest_job + BESIDE_FILES
    parser = FormDataParser(
        stream_factory=cast(Any, lambda **_: Spool(parts)),
        max_form_memory_size=longest_job,
        max_content_length=request.max_content_length,
        max_form_parts=MOST_PARTS,
        silent=False,
    )
    try:
        _, form, files = parser.parse(
            request.stream, request.mimetype, request.content_length, dict(request.mimetype_params)
        )
    except ValueError as problem:
        raise BadRequest(f"the form cannot be read ({problem}); {HOW}") from None
    return dict(form.lists()), dict(files.lists())


def _checked(job: str) -> dict[str, Any]:
    try:
        checked: dict[str, Any] = BundleRequestSchema().load(read_json(job.encode("utf-8", "surrogateescape")))
        return checked
    except ValidationError as problem:
        raise refusal(flatten(problem.normalized_messages())) from None


def _spool(file: FileStorage) -> Spool:
    return cast(Spool, file.stream)


def _text(file: FileStorage) -> str:
    longest = current_app.config["MAX_CONTENT_LENGTH"]
    data = _spool(file).file.read(longest + 1)
    if len(data) > longest:
        raise TooLarge(f"the part `job` is larger than {longest} bytes")
    return data.decode("utf-8", "surrogateescape")


def _digest(file: FileStorage) -> tuple[str, str, str]:
    return file.name or "", file.filename or "", _spool(file).digest.hexdigest()
