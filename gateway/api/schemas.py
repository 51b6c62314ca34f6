"""What comes in and goes out, field by field. `job_json` makes the answer; JobSchema documents it, and a test holds the
two together (marshmallow's dump takes a second for 10,000 jobs)."""

import re
from datetime import datetime, timedelta
from typing import Any

from marshmallow import Schema, ValidationError, fields, post_load, pre_load, validate, validates, validates_schema

from gateway.errors import Unprocessable
from gateway.model import STATUS_OF, STATUSES, DependencyType, Job, JobState, Task
from gateway.options import one_of, parse_size
from gateway.store.repository import NEWEST, SORTS
from gateway.templates import TYPES, check_script, mistake

LARGEST = 2**31 - 1
TEMPLATE_NAME = re.compile(r"[^/\s](?:[^/\x00-\x1f]*[^/\s])?\Z")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
WALL_TIME = re.compile(r"(?:(\d{1,6})-)?(\d{1,6}):([0-5]?\d):([0-5]?\d)\Z")
TASK_ACTIONS = ("abort", "resubmit")
ACTION_WORDS = ("abort", "hold", "release", "suspend", "continue", "resubmit", "reset", "execute")
GOES_WITH = {"clean": ("resubmit", "reset"), "tasks": ("resubmit",)}


class Text(fields.String):
    """Text without NUL, which neither files, commands nor databases can hold."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> str:
        text: str = super()._deserialize(value, attr, data, **kwargs)
        if "\0" in text:
            raise ValidationError("must not contain a NUL character")
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                raise ValidationError("must be well-formed Unicode") from None
        return text


class Script(Text):
    """A script as it is to run."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        if not text.strip():
            raise ValidationError("is empty")
        return text


class Memory(fields.Field):
    """Memory per node: "4GiB", "512MiB" or an integer of MiB. Gives MiB, rounded up."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> int:
        return -(-parse_size(value) // (1 << 20))


class WallTime(fields.Field):
    """Seconds, or "[D-]HH:MM:SS". Gives seconds."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> int:
        if isinstance(value, str) and value.isascii() and (parts := WALL_TIME.match(value)):
            days, hours, minutes, seconds = (int(part or 0) for part in parts.groups())
            value = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= LARGEST:
            raise ValidationError("write a wall time in seconds or as [D-]HH:MM:SS")
        return value


def count(least: int = 1) -> fields.Integer:
    return fields.Integer(strict=True, allow_none=True, validate=validate.Range(least, LARGEST))


def absolute(path: str) -> None:
    if not path.startswith("/"):
        raise ValidationError("must be an absolute path")
    if len(path.encode()) > 4095 or any(len(part.encode()) > 255 for part in path.split("/")):
        raise ValidationError("is too long for a path")


def text(longest: int, about: str = "", **more: Any) -> Text:
    return Text(allow_none=True, validate=validate.Length(max=longest), metadata={"description": about}, **more)


class DependencySchema(Schema):
    """A job that another waits for."""

    job_id = Text(required=True, validate=validate.Length(1, 400), metadata={"description": "job_id or uuid"})
    type = fields.String(validate=one_of(*DependencyType), load_default=DependencyType.AFTEROK.value)


class JobFields(Schema):
    """What can be said of a job."""

    host = Text(required=True, validate=validate.Length(max=255), metadata={"description": "name or alias of a host"})
    script = Script(required=True, metadata={"description": "runs as given, its first line honoured"})
    working_directory = Text(
        allow_none=True, validate=absolute, metadata={"description": "default: the account's home; made if absent"}
    )
    tag = text(1000, "any word to list jobs by")
    name = text(255, "names the job and its logs")
    account = text(64, "one of the accounts that your certificate may use; default: the first")
    queue = text(255, "queue or partition")
    nodes = count()
    cores = count()
    memory = Memory(allow_none=True, metadata={"description": 'per node: "4GiB", "512MiB" or an integer of MiB'})
    gpus = count(0)
    wall_time = WallTime(allow_none=True, metadata={"description": "seconds or [D-]HH:MM:SS"})
    environment = fields.Dict(keys=Text(), values=Text(), allow_none=True)
    hold = fields.Boolean(truthy={True}, falsy={False}, allow_none=True)
    priority = fields.Integer(strict=True, allow_none=True, validate=validate.Range(-LARGEST, LARGEST))
    stdout = text(4095, "file for the standard output; with a slash at its end a folder, made if absent")
    stderr = text(4095, "file for the error output; as stdout")
    array = text(100_000, 'tasks: "1-10", "1-100:5", "3,7,9-12", with "%4" behind it for four at once')
    dependencies = fields.List(
        fields.Nested(DependencySchema),
        allow_none=True,
        validate=validate.Length(max=1000),
        metadata={"description": "jobs of yours that must have ended, or begun, before this one starts"},
    )
    description = text(10_000)
    extended_properties = fields.Dict(keys=Text(), allow_none=True, metadata={"description": "any JSON object"})

    notify = fields.Url(
        allow_none=True,
        schemes={"http", "https"},
        require_tld=False,
        validate=validate.Length(max=2000),
        metadata={"description": "gets a POST when the job is final"},
    )

    @validates("extended_properties")
    def _storable(self, value: Any, **_: Any) -> None:
        """PostgreSQL cannot search JSON that has a NUL in it."""
        if isinstance(value, str) and "\0" in value:
            raise ValidationError("must not contain a NUL character")
        for inner in [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ():
            self._storable(inner)

    @validates("environment")
    def _names(self, environment: dict[str, str] | None, **_: Any) -> None:
        for name in environment or ():
            if not VARIABLE.match(name):
                raise ValidationError(f"{name!r} is not a name of an environment variable")

    @validates("name")
    def _not_empty(self, name: str | None, **_: Any) -> None:
        if name is not None and not name.strip():
            raise ValidationError("is empty")


class FilesSchema(Schema):
    """The files of a subtree that a template runs over, once for each."""

    path = Text(required=True, validate=validate.Length(1, 4095))
    pattern = Text(validate=validate.Length(1, 1000), metadata={"description": "such as *.xml"})


class Files(fields.Field):
    """A path, or an object of path and pattern."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        given: dict[str, Any] = FilesSchema().load({"path": value} if isinstance(value, str) else value)
        return given


class SubmitSchema(JobFields):
    """A job to submit, in whichever form. A field that is null counts as not given."""

    draft = fields.Boolean(
        truthy={True}, falsy={False}, allow_none=True, metadata={"description": "keep it, submit it on `execute`"}
    )

    @post_load
    def _given(self, values: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {name: value for name, value in values.items() if value is not None}


class JobRequestSchema(SubmitSchema):
    """A job to submit. A field that is null counts as not given. A `template` has `host` and `script` of its own."""

    host = Text(allow_none=True, validate=validate.Length(max=255), metadata={"description": "name or alias of a host"})
    script = Script(allow_none=True, metadata={"description": "runs as given, its first line honoured"})
    template = text(255, "name of a template")
    parameters = fields.Dict(keys=Text(), allow_none=True, metadata={"description": "values for the template"})
    files = Files(allow_none=True, metadata={"description": "run the template once per file of this subtree"})

    @validates_schema
    def _script_or_template(self, values: dict[str, Any], **_: Any) -> None:
        """Which of them must be there."""
        given = {name for name, value in values.items() if value is not None}
        if "template" in given:
            wrong = {"script": ["is the template's"]} if "script" in given else {}
        else:
            wrong = {name: ["Missing data for required field."] for name in ("host", "script") if name not in given}
            wrong |= {name: ["goes with a template only"] for name in ("parameters", "files") if name in given}
        if wrong:
            raise ValidationError(wrong)


class ParameterSchema(Schema):
    """A parameter of a template."""

    type = fields.String(validate=one_of(*TYPES), load_default="string")
    default = fields.Raw(allow_none=True)
    required = fields.Boolean(truthy={True}, falsy={False})
    choices = fields.List(fields.Raw(), validate=validate.Length(min=1))
    description = text(1000)

    @validates_schema
    def _consistent(self, about: dict[str, Any], **_: Any) -> None:
        plain = {"type": about.get("type", "string")}
        for choice in about.get("choices", ()):
            if words := mistake(plain, choice):
                raise ValidationError({"choices": [words]})
        if about.get("default") is not None and (words := mistake(about, about["default"])):
            raise ValidationError({"default": [words]})


class TemplateSchema(JobFields):
    """A job template: a script with `{{ parameters }}`, and any field of a job."""

    name = Text(required=True, validate=[validate.Length(1, 255), validate.Regexp(TEMPLATE_NAME)])
    host = Text(allow_none=True, validate=validate.Length(max=255), metadata={"description": "default: the gateway's"})
    parameters = fields.Dict(
        keys=Text(validate=validate.Regexp(VARIABLE, error="must be like a variable's name")),
        values=fields.Nested(ParameterSchema),
        allow_none=True,
    )
    files = Files(allow_none=True, metadata={"description": "run once per file of this subtree"})
    shared = fields.Boolean(
        truthy={True}, falsy={False}, metadata={"description": "for everybody; administrators only"}
    )
    owner = fields.String(dump_only=True, allow_none=True, metadata={"description": "null: a plugin brings it"})

    @pre_load
    def _as_shown(self, data: Any, **_: Any) -> Any:
        """What GET showed can be sent back."""
        return {name: value for name, value in data.items() if name != "owner"} if isinstance(data, dict) else data

    @validates_schema
    def _script_fits(self, values: dict[str, Any], **_: Any) -> None:
        try:
            check_script(values.get("script", ""), values.get("parameters") or {})
        except Unprocessable as problem:
            raise ValidationError(problem.errors) from None

    @post_load
    def _given(self, values: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {name: value for name, value in values.items() if value is not None}


class NamedInUrlSchema(TemplateSchema):
    """A template whose name stands in the URL; one in the body counts for nothing."""

    name = Text()


class JobPatchSchema(JobFields):
    """What is to be changed of a job: tag, description, extended_properties; of a draft anything. null takes a value
    away."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "partial": True})

    @post_load
    def _properties(self, values: dict[str, Any], **_: Any) -> dict[str, Any]:
        if values.get("extended_properties", ...) is None:
            values["extended_properties"] = {}
        return values


class ActionSchema(Schema):
    """What is to happen to a job; any case."""

    action = fields.String(required=True, metadata={"enum": list(ACTION_WORDS)})
    clean = fields.Boolean(
        truthy={True}, falsy={False}, metadata={"description": "with resubmit and reset: remove the old logs"}
    )

    tasks = Text(
        validate=validate.Length(max=100_000),
        metadata={"description": 'with resubmit of an array: "failed", or such as "3,7"; default: all'},
    )

    @post_load
    def _known(self, values: dict[str, Any], **_: Any) -> dict[str, Any]:
        word = values["action"].lower()
        if word not in ACTION_WORDS:
            raise ValidationError({"action": [f"Must be one of: {', '.join(ACTION_WORDS)}."]})
        if alien := [name for name in GOES_WITH if name in values and word not in GOES_WITH[name]]:
            raise ValidationError({name: [f"goes with {' and '.join(GOES_WITH[name])} only"] for name in alien})
        return values | {"action": word}


class QuerySchema(Schema):
    """A query string. What is unknown is passed over, and an empty value counts as not given."""

    @pre_load
    def _drop_empty(self, data: Any, **_: Any) -> dict[str, Any]:
        return {name: data[name] for name in data if name in self.fields and data[name] != ""}


class WaitSchema(QuerySchema):
    """How long to wait for a change."""

    wait = fields.Float(
        validate=validate.Range(0, 300),
        metadata={"description": "answer when the state changes, or after so many seconds"},
    )


class DeleteSchema(QuerySchema):
    """How to forget a job."""

    clean = fields.Boolean(metadata={"description": "remove its logs as well; the job must have ended"})


class TaskActionSchema(Schema):
    """What is to happen to a task; any case."""

    action = fields.String(required=True, metadata={"enum": list(TASK_ACTIONS)})

    @post_load
    def _known(self, values: dict[str, Any], **_: Any) -> dict[str, Any]:
        word = values["action"].lower()
        if word not in TASK_ACTIONS:
            raise ValidationError({"action": [f"Must be one of: {', '.join(TASK_ACTIONS)}."]})
        return {"action": word}


class ListQuerySchema(Schema):
    """Which to list, by state. An empty value counts as not given."""

    status = fields.List(fields.String(), metadata={"description": f"any of {', '.join(STATUSES)}"})
    state = fields.List(fields.String())

    @pre_load
    def _drop_empty(self, data: Any, **_: Any) -> dict[str, Any]:
        given = {name: data.getlist(name) if name in LISTS else data[name] for name in data if name in self.fields}
        return {name: value for name, value in given.items() if value not in ("", [""])}

    @post_load
    def _states(self, values: dict[str, Any], **_: Any) -> dict[str, Any]:
        wanted = {state.value for state in JobState}
        if "status" in values:
            wanted &= {state.value for state in _statuses(values.pop("status"))}
        if "state" in values:
            wanted &= _states(values.pop("state"))
        narrowed = len(wanted) < len(JobState)
        return values | {"states": sorted(wanted) or ["none"] if narrowed else ()}


PAGE_OF_TASKS = 100


class TaskQuerySchema(ListQuerySchema):
    """Which tasks of an array to list."""

    limit = fields.Integer(validate=validate.Range(1, NEWEST), load_default=PAGE_OF_TASKS)
    cursor = fields.Integer(
        validate=validate.Range(0, LARGEST), load_default=0, metadata={"description": "from the Link header"}
    )


class JobQuerySchema(ListQuerySchema):
    """Which jobs to list."""

    tag = Text()
    host = Text()
    name = Text()
    queue = Text()
    owner = Text(metadata={"description": "administrators only: a subject, or * for everybody"})
    job_id = fields.List(Text(), metadata={"description": "repeatable"})
    number = fields.List(fields.Integer(validate=validate.Range(0, 2**63 - 1)), metadata={"description": "repeatable"})
    since = fields.AwareDateTime(format="iso", metadata={"description": "created at or after (RFC 3339)"})
    until = fields.AwareDateTime(format="iso", metadata={"description": "created before (RFC 3339)"})
    q = Text(metadata={"description": "a piece of the name, description or tag"})
    sort = fields.String(validate=one_of(*SORTS, *(f"-{name}" for name in SORTS)), load_default="-number")
    limit = fields.Integer(validate=validate.Range(1, NEWEST), load_default=NEWEST)
    cursor = Text(metadata={"description": "from the Link header"})
    format = fields.String(validate=one_of("short", "full"), load_default="full")


LISTS = ("status", "state", "job_id", "number")


def _statuses(words: list[str]) -> list[JobState]:
    asked = {word.upper() for word in words}
    if asked - set(STATUSES):
        raise ValidationError({"status": [f"Must be one of: {', '.join(STATUSES)}."]})
    return [state for state, status in STATUS_OF.items() if status in asked]


def _states(words: list[str]) -> set[str]:
    asked = {word.lower() for word in words}
    known = {state.value for state in JobState}
    if asked - known:
        raise ValidationError({"state": [f"Must be one of: {', '.join(sorted(known))}."]})
    return asked


class JobSchema(Schema):
    """A job. The last six are there as soon as they are known, and for ever."""

    job_id = fields.String(required=True, metadata={"description": "<the scheduler's id>.<host>"})
    stdout_path = fields.String(required=True, metadata={"description": "URL of the standard output"})
    stderr_path = fields.String(required=True, metadata={"description": "URL of the error output"})
    status = fields.String(required=True, metadata={"enum": list(STATUSES)})
    tag = fields.String(required=True, allow_none=True)
    uuid = fields.String(required=True)
    number = fields.Integer(required=True)
    host = fields.String(required=True)
    name = fields.String(required=True)
    owner = fields.String(required=True)
    account = fields.String(required=True)
    queue = fields.String(required=True, allow_none=True)
    state = fields.String(required=True, metadata={"enum": [state.value for state in JobState]})
    native_state = fields.String(required=True, allow_none=True)
    exit_code = fields.Integer(required=True, allow_none=True)
    signal = fields.Integer(required=True, allow_none=True)
    reason = fields.String(required=True, allow_none=True)
    stale = fields.Boolean(required=True)
    as_of = fields.String(required=True, allow_none=True, metadata={"format": "date-time"})
    created_at = fields.String(required=True, metadata={"format": "date-time"})
    updated_at = fields.String(required=True, metadata={"format": "date-time"})
    submitted_at = fields.String(required=True, allow_none=True, metadata={"format": "date-time"})
    working_directory = fields.String(required=True, allow_none=True)
    description = fields.String(required=True, allow_none=True)
    extended_properties = fields.Dict(required=True)
    array = fields.String(required=True, allow_none=True, metadata={"example": "1-100:5%4"})
    tasks = fields.Dict(
        keys=fields.String(),
        values=fields.Integer(),
        required=True,
        allow_none=True,
        metadata={"description": "of an array: how many in all (`total`), and in each state"},
    )
    dependencies = fields.List(fields.Nested(DependencySchema), required=True)
    template = fields.String(required=True, allow_none=True)
    notify = fields.String(required=True, allow_none=True)
    resubmitted_from = fields.String(
        required=True, allow_none=True, metadata={"description": "job_id of the job that this one repeats"}
    )
    warnings = fields.List(fields.String(), required=True)
    stdout_file = fields.String(
        required=True, allow_none=True, metadata={"description": "on the host; {task_id}: the number of a task"}
    )
    stderr_file = fields.String(required=True, allow_none=True)
    nodes = fields.String(metadata={"example": "1"})
    cores = fields.String(metadata={"example": "12"})
    start_time = fields.String(metadata={"example": "2015-01-07 15:00:11"})
    end_time = fields.String(metadata={"example": "2015-01-07 15:01:11"})
    wall_time = fields.String(metadata={"example": "00:01:00"})
    queue_time = fields.String(metadata={"example": "00:10:00"})


class SubmittedSchema(JobSchema):
    """A job that was just submitted."""

    count = fields.Integer(metadata={"description": "of a run over files: how many"})


class ShortJobSchema(Schema):
    """A job with `format=short`."""

    job_id = fields.String(required=True)
    status = fields.String(required=True)
    tag = fields.String(required=True, allow_none=True)
    host = fields.String(required=True)


def short_json(job: Job) -> dict[str, Any]:
    return {"job_id": job.job_id, "status": job.state.status, "tag": job.tag, "host": job.host}


def job_json(job: Job, base_url: str, asked_at: datetime | None, at: datetime) -> dict[str, Any]:
    """A job as JobSchema. `asked_at` is when its host last answered (a live job is as fresh as that), `at` is now."""
    url = f"{base_url}/api/jobs/{job.job_id}"
    as_of = job.as_of
    if asked_at and as_of and asked_at > as_of and not job.stale and not job.state.final:
        as_of = asked_at
    return {
        "job_id": job.job_id,
        "stdout_path": f"{url}/stdout",
        "stderr_path": f"{url}/stderr",
        "status": job.state.status,
        "tag": job.tag,
        "uuid": job.uuid,
        "number": job.number,
        "host": job.host,
        "name": job.name,
        "owner": job.owner,
        "account": job.account,
        "queue": job.queue,
        "state": job.state.value,
        "native_state": job.native_state,
        "exit_code": job.exit_code,
        "signal": job.signal,
        "reason": job.reason,
        "stale": job.stale,
        "as_of": rfc3339(as_of),
        "created_at": rfc3339(job.created_at),
        "updated_at": rfc3339(job.updated_at),
        "submitted_at": rfc3339(job.submitted_at),
        "working_directory": job.working_directory,
        "description": job.description,
        "extended_properties": job.extended_properties,
        "array": job.array,
        "tasks": task_counts(job),
        "dependencies": job.request.get("dependencies") or [],
        "template": job.template,
        "notify": job.notify,
        "resubmitted_from": job.resubmitted_from,
        "warnings": job.warnings,
        "stdout_file": job.stdout_file,
        "stderr_file": job.stderr_file,
        **runtime_attributes(job, at),
    }


def task_counts(job: Job) -> dict[str, int] | None:
    """How many tasks an array has, and how many are in each state; a portal's progress bar."""
    return {"total": sum(job.task_counts.values()), **job.task_counts} if job.array else None


class TaskSchema(Schema):
    """A task of an array."""

    task_id = fields.Integer(required=True)
    job_id = fields.String(required=True, metadata={"description": "of the array"})
    stdout_path = fields.String(required=True, metadata={"description": "URL of the standard output"})
    stderr_path = fields.String(required=True, metadata={"description": "URL of the error output"})
    status = fields.String(required=True, metadata={"enum": list(STATUSES)})
    state = fields.String(required=True, metadata={"enum": [state.value for state in JobState]})
    native_state = fields.String(required=True, allow_none=True)
    exit_code = fields.Integer(required=True, allow_none=True)
    signal = fields.Integer(required=True, allow_none=True)
    reason = fields.String(required=True, allow_none=True)
    start_time = fields.String(required=True, allow_none=True, metadata={"example": "2015-01-07 15:00:11"})
    end_time = fields.String(required=True, allow_none=True, metadata={"example": "2015-01-07 15:01:11"})


def task_json(job: Job, task: Task, base_url: str) -> dict[str, Any]:
    """A task as TaskSchema."""
    url = f"{base_url}/api/jobs/{job.job_id}/tasks/{task.task_id}"
    return {
        "task_id": task.task_id,
        "job_id": job.job_id,
        "stdout_path": f"{url}/stdout",
        "stderr_path": f"{url}/stderr",
        "status": task.state.status,
        "state": task.state.value,
        "native_state": task.native_state,
        "exit_code": task.exit_code,
        "signal": task.signal,
        "reason": task.reason,
        "start_time": task.start_time.isoformat(" ", "seconds")[:19] if task.start_time else None,
        "end_time": task.end_time.isoformat(" ", "seconds")[:19] if task.end_time else None,
    }


def runtime_attributes(job: Job, at: datetime) -> dict[str, str]:
    """The seed's six strings, those that are known. Times are UTC."""
    known: dict[str, str] = {}
    if job.nodes is not None:
        known["nodes"] = str(job.nodes)
    if job.cores is not None:
        known["cores"] = str(job.cores)
    if job.start_time:
        known["start_time"] = job.start_time.isoformat(" ", "seconds")[:19]
        known["wall_time"] = duration((job.end_time or at) - job.start_time)
        known["queue_time"] = duration(job.start_time - (job.submitted_at or job.created_at))
    if job.end_time:
        known["end_time"] = job.end_time.isoformat(" ", "seconds")[:19]
    return known


def duration(span: timedelta) -> str:
    """HH:MM:SS, with days in front as `D-` where there are any (as squeue writes it); never negative."""
    seconds = max(0, round(span.total_seconds()))
    days, seconds = divmod(seconds, 86400)
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{days}-{clock}" if days else clock


def rfc3339(at: datetime | None) -> str | None:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z") if at else None


class EventSchema(Schema):
    """Something that happened to a job: a change of its state, or the delivery of a notification (`reason` tells)."""

    id = fields.Integer(required=True)
    kind = fields.String(required=True, metadata={"enum": ["job", "notification"]})
    at = fields.String(required=True, metadata={"format": "date-time"})
    state = fields.String(required=True)
    status = fields.String(required=True)
    before = fields.String(required=True, allow_none=True)
    reason = fields.String(required=True, allow_none=True)


class FileSchema(Schema):
    """A file below the job's folder; `size` in bytes."""

    path = fields.String(required=True)
    size = fields.Integer(required=True)
    mtime = fields.String(required=True, metadata={"format": "date-time"})


class StreamQuerySchema(QuerySchema):
    """Which part of a log."""

    tail = fields.Integer(validate=validate.Range(0, 1_000_000), metadata={"description": "the last so many lines"})
    follow = fields.Boolean(metadata={"description": "go on until the job, or that task of it, ends"})


class TokenRequestSchema(Schema):
    """A wish for a token; the body may be empty."""

    lifetime = fields.Integer(
        strict=True,
        validate=validate.Range(60, LARGEST),
        metadata={"description": "seconds; never beyond the proxy's end"},
    )


class TokenSchema(Schema):
    """A bearer token. It is shown this once."""

    token = fields.String(required=True)
    id = fields.String(required=True)
    expires_at = fields.String(required=True, metadata={"format": "date-time"})


class TokenQuerySchema(Schema):
    """Which token to revoke."""

    id = Text(metadata={"description": "default: the token that was sent; with a proxy, all of yours"})
