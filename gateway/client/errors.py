"""What the SDK raises: the gateway's own tree of errors (`gateway.errors`), as its answers name them, and below it what
goes wrong before there is an answer.

    JobgateError
    └── ClientError
        ├── BadSettings      a configuration file or a value that cannot be used
        │   └── NoGateway    nobody said which gateway
        ├── BadProxy         the proxy file cannot be used
        │   ├── NoProxy
        │   └── ProxyExpired
        └── Unreachable      no gateway answers there; `sent` is false where the request never left
"""

from typing import Any, ClassVar

import httpx

from gateway import errors
from gateway.errors import JobgateError


class ClientError(JobgateError):
    """Nothing was asked of the gateway, or it did not answer."""

    status = 0
    code: ClassVar[str] = "client"  # type: ignore[misc]


class BadSettings(ClientError):
    """A configuration file or a value that cannot be used."""


class NoGateway(BadSettings):
    """Nobody said which gateway."""


class BadProxy(ClientError):
    """The proxy file cannot be used."""


class NoProxy(BadProxy):
    """There is no proxy file."""


class ProxyExpired(BadProxy):
    """The proxy is no longer valid."""


class Unreachable(ClientError):
    """No gateway answers. `sent` is false where the request cannot have arrived."""

    retryable = True

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


CLASSES = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, JobgateError)]
BY_CODE = {kind.code: kind for kind in CLASSES}
BY_STATUS = {kind.status: kind for kind in reversed(CLASSES)}  # of one status the class that stands first in the tree


def of_answer(answer: httpx.Response) -> JobgateError:
    """The exception that the gateway turned into this answer, or one like it where something else has answered."""
    try:
        body = answer.json()
        message = str(body["error_message"])
    except (ValueError, KeyError, TypeError):
        body, message = {}, f"{answer.url.host} answered {answer.status_code} {answer.reason_phrase}"
    problem = of_body(body, answer.status_code, message)
    problem.headers = {name.title(): value for name, value in answer.headers.items()}
    return problem


def of_body(body: dict[str, Any], status: int, message: str) -> JobgateError:
    """The exception of an error in the gateway's shape."""
    code = str(body.get("code", ""))
    kind = BY_CODE.get(code) or BY_STATUS.get(status, JobgateError)
    problem = kind(message, code=code or None)
    problem.status = status
    problem.retryable = bool(body.get("retryable", status in (502, 503, 504)))
    problem.errors = {field: list(words) for field, words in (body.get("errors") or {}).items()}
    problem.exit_code = int(body.get("exit_code", 0))
    problem.standard_output = str(body.get("standard_output", ""))
    problem.error_output = str(body.get("error_output", ""))
    problem.uuid = body.get("uuid")
    problem.request_id = str(body.get("request_id", ""))
    return problem
