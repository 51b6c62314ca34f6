"""What is sent, what is sent again, and what comes back as an exception. The gateway is made of answers here."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway import errors
from gateway.api.errors import body
from gateway.client import ClientError, Job, JobManager, Unreachable
from gateway.client.connection import Connection
from gateway.client.errors import CLASSES, of_body
from gateway.client.settings import Settings

JOB = {"job_id": "1.x", "uuid": "11111111-1111-1111-1111-111111111111", "state": "queued", "status": "QUEUED"}
Answer = Callable[[httpx.Request], httpx.Response]


def manager(
    *answers: httpx.Response | httpx.HTTPError, patience: float = 30.0
) -> tuple[JobManager, list[httpx.Request]]:
    """At a gateway that gives these answers in turn, and what it was asked."""
    asked: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        answer = answers[len(asked) - 1]
        if isinstance(answer, httpx.HTTPError):
            raise answer
        return answer

    connection = Connection(
        lambda: Settings("https://g", Path("/none"), host="x"),
        transport=httpx.MockTransport(handle),
        headers=lambda: {"PROXY": "proxy"},
        patience=patience,
    )
    return JobManager(connection=connection), asked


def refusal(problem: errors.JobgateError) -> httpx.Response:
    return httpx.Response(problem.status, json=BODY | body_of(problem), headers=problem.headers)


BODY: dict[str, Any] = {"status": "error", "tag": None, "request_id": "r1"}


def body_of(problem: errors.JobgateError) -> dict[str, Any]:
    names = ("exit_code", "standard_output", "error_output", "code", "retryable", "errors")
    return {name: getattr(problem, name) for name in names} | {"error_message": problem.message}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    pauses: list[float] = []
    monkeypatch.setattr("gateway.client.connection.time.sleep", pauses.append)
    return pauses


def example(kind: type[errors.JobgateError]) -> errors.JobgateError:
    return kind("its words")


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_of_the_gateway_comes_back_as_itself(kind: type[errors.JobgateError]) -> None:
    problem = example(kind)
    problem.errors = {"host": ["is wrong"]}
    problem.error_output = "its output"
    one, _ = manager(*[refusal(problem)] * 9, patience=0.0)
    with pytest.raises(kind) as raised:
        one.hosts()
    back = raised.value
    assert type(back) is kind
    assert (back.status, back.code, back.retryable) == (kind.status, kind.code, kind.retryable)
    assert (str(back), back.errors, back.error_output) == ("its words", problem.errors, "its output")
    assert back.request_id == "r1"


def test_the_gateways_own_shape_is_what_is_read() -> None:
    import flask

    with flask.Flask("x").app_context():
        shown = body(errors.UnknownHost("no such host", errors={"host": ["x"]}))
    back = of_body(shown, 422, shown["error_message"])
    assert (type(back), back.errors) == (errors.UnknownHost, {"host": ["x"]})


def test_an_answer_of_something_between() -> None:
    one, _ = manager(httpx.Response(403, text="<html>proxy says no</html>"))
    with pytest.raises(errors.Forbidden, match="g answered 403"):
        one.hosts()


def test_a_redirect_is_not_followed_with_a_key_in_hand() -> None:
    one, asked = manager(httpx.Response(302, headers={"Location": "https://elsewhere"}))
    with pytest.raises(errors.JobgateError, match="302"):
        one.hosts()
    assert len(asked) == 1


def test_a_submit_is_sent_again_with_the_same_key(no_pauses: list[float]) -> None:
    one, asked = manager(
        refusal(errors.HostDown("down", retry_after=2)),
        httpx.ReadTimeout("too slow"),
        refusal(errors.OutcomeUnknown("who knows")),
        httpx.Response(200, json=JOB),
    )
    job = one.submit("#!/bin/sh\n")
    assert job.job_id == "1.x"
    assert len({request.headers["Idempotency-Key"] for request in asked}) == 1
    assert len({request.content for request in asked}) == 1
    assert no_pauses[0] == 2.0  # as the gateway asked for
    again, asked_again = manager(httpx.Response(201, json=JOB))
    again.submit("#!/bin/sh\n")
    assert asked_again[0].headers["Idempotency-Key"] != asked[0].headers["Idempotency-Key"]


@pytest.mark.parametrize("problem", [errors.Unprocessable("no"), errors.Conflict("no"), errors.JobgateError("a fault")])
def test_what_is_not_retryable_is_sent_once(problem: errors.JobgateError) -> None:
    one, asked = manager(refusal(problem))
    with pytest.raises(type(problem)):
        one.submit("#!/bin/sh\n")
    assert len(asked) == 1


def test_an_abort_is_not_repeated_where_it_may_have_arrived() -> None:
    for answer in (refusal(errors.HostTimeout("slow")), httpx.ReadError("cut")):
        one, asked = manager(answer)
        with pytest.raises(errors.JobgateError):
            Job(one, known=JOB).stop()
        assert len(asked) == 1


def test_an_abort_is_repeated_where_nothing_was_done() -> None:
    down = refusal(errors.HostDown("down"))
    one, asked = manager(down, httpx.ConnectError("refused"), httpx.Response(204), httpx.Response(200, json=JOB))
    Job(one, known=JOB).stop()
    assert [request.method for request in asked] == ["PUT"] * 3 + ["GET"]


def test_an_execute_whose_answer_was_lost_has_been_done() -> None:
    draft = JOB | {"state": "draft"}
    one, _ = manager(httpx.ReadError("cut"), refusal(errors.Conflict("it is queued")), httpx.Response(200, json=JOB))
    job = Job(one, known=draft)
    job.execute()
    assert job.state == "queued"
    two, _ = manager(refusal(errors.Conflict("it is finished")), httpx.Response(200, json=JOB))
    with pytest.raises(errors.Conflict):
        Job(two, known=JOB).execute()


def test_no_gateway_answers(no_pauses: list[float]) -> None:
    one, asked = manager(*[httpx.ConnectError("refused")] * 50, patience=0.5)
    with pytest.raises(Unreachable, match=r"https://g cannot be reached .*; is JOBGATE_URL right") as raised:
        one.hosts()
    assert raised.value.retryable
    assert isinstance(raised.value, ClientError)
    assert len(asked) > 1


def test_who_asks_goes_with_every_request() -> None:
    one, asked = manager(httpx.Response(200, json=[]))
    one.hosts()
    assert asked[0].headers["PROXY"] == "proxy"
    assert json.loads(asked[0].content or b"null") is None
