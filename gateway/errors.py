"""Every way in which Jobgate says no.

    JobgateError
    ├── BadRequest            400  the body cannot be read
    ├── Unauthenticated       401  no proxy, or a bad one; says what to do
    ├── Forbidden             403  a good proxy that may not do this
    ├── NotFound              404
    ├── HostTimeout           408  the host answered too late; carries what it had printed
    ├── Conflict              409  the job is not in a state for that
    ├── TooLarge              413
    ├── Unprocessable         422  readable, but wrong; names the fields
    │   ├── UnknownHost
    │   └── RefusedByScheduler     the scheduler's own words and exit code
    ├── TooManyRequests       429
    ├── InvalidSchedulerAnswer 502  output that cannot be understood; never read as "nothing"
    ├── HostDown              503
    └── OutcomeUnknown        504  a submit whose result is not known yet; a blind retry would submit twice

A class carries its HTTP status, a stable `code` for programs and whether trying again can help. The message is for the
user. Diagnostics for the operator go into the exception's notes and the log, never into the answer.
"""

from collections.abc import Mapping, Sequence
from typing import Any

FieldErrors = Mapping[str, Sequence[str]]


class JobgateError(Exception):
    """Base of the tree.

    `exit_code`, `standard_output`, `error_output` are those of the command that ran on the host: -1 where it did not
    come to its end, 0 where none was run. `headers` are added to the HTTP answer; `uuid` names the job where there
    is one all the same; `request_id`, in a client, the request that was refused.
    """

    status = 500
    code = "internal_error"
    retryable = False
    exit_code = 0
    request_id = ""

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        errors: FieldErrors | None = None,
        exit_code: int | None = None,
        standard_output: str = "",
        error_output: str = "",
        headers: Mapping[str, str] | None = None,
        uuid: str | None = None,
    ) -> None:
        super().__init__(message)
        self.uuid = uuid
        self.message = message
        self.errors = {field: list(words) for field, words in (errors or {}).items()}
        self.standard_output = standard_output
        self.error_output = error_output
        self.headers = dict(headers or {})
        if code is not None:
            self.code = code
        if exit_code is not None:
            self.exit_code = exit_code


class BadRequest(JobgateError):
    status = 400
    code = "unreadable"


class Unauthenticated(JobgateError):
    """A proxy or token that is missing or bad. `code` tells which check refused it."""

    status = 401
    code = "unauthenticated"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message, code=code, headers={"WWW-Authenticate": 'Proxy-Certificate, Bearer realm="jobgate"'})


class Forbidden(JobgateError):
    status = 403
    code = "forbidden"


class NotFound(JobgateError):
    status = 404
    code = "not_found"


class HostTimeout(JobgateError):
    status = 408
    code = "timeout"
    retryable = True
    exit_code = -1


class Conflict(JobgateError):
    status = 409
    code = "conflict"


class TooLarge(JobgateError):
    status = 413
    code = "too_large"


class Unprocessable(JobgateError):
    status = 422
    code = "invalid"


class UnknownHost(Unprocessable):
    code = "unknown_host"


class RefusedByScheduler(Unprocessable):
    code = "refused_by_scheduler"


class TooManyRequests(JobgateError):
    status = 429
    code = "too_many_requests"
    retryable = True


class InvalidSchedulerAnswer(JobgateError):
    status = 502
    code = "invalid_scheduler_answer"
    retryable = True
    exit_code = -1


class HostDown(JobgateError):
    """The host cannot be reached or its scheduler does not answer. Nothing was started."""

    status = 503
    code = "host_down"
    retryable = True
    exit_code = -1

    def __init__(self, message: str, *, retry_after: int = 10, **more: Any) -> None:
        super().__init__(message, headers={"Retry-After": str(retry_after)}, **more)


class OutcomeUnknown(JobgateError):
    status = 504
    code = "outcome_unknown"
    retryable = True
    exit_code = -1


class ConfigError(Exception):
    """Mistakes in a configuration file, all of them: `problems` is a list of `file: key: what is wrong`."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)
