"""What is wrong with a request is said in the seed's error shape, with the field named, and nothing is lost."""

import json
from typing import Any

import pytest

from tests.gateways import InProcess, error

GOOD: dict[str, Any] = {"host": "localhost", "script": "#!/bin/sh\n"}

UNREADABLE = {
    "nothing": b"",
    "not json": b"host=localhost",
    "cut short": b'{"host": "localhost"',
    "not utf-8": b'{"host": "\xff"}',
    "NaN": b'{"host": NaN}',
    "a number out of range": b'{"extended_properties": {"x": 1e999}}',
    "a lone surrogate": b'{"host": "\\ud800"}',
    "nested too deep": b'{"extended_properties": ' + b'{"a":' * 100 + b"1" + b"}" * 101,
    "nested far too deep": b"[" * 100_000,
    "a number of 5000 digits": b'{"nodes": ' + b"9" * 5000 + b"}",
}

WRONG: list[tuple[str, Any]] = [
    ("host", {"script": "x"}),
    ("script", {"host": "localhost"}),
    ("host", GOOD | {"host": 5}),
    ("host", GOOD | {"host": None}),
    ("host", GOOD | {"host": "nowhere.example"}),
    ("script", GOOD | {"script": ["a"]}),
    ("script", GOOD | {"script": ""}),
    ("script", GOOD | {"script": " \n"}),
    ("script", GOOD | {"script": "a\0b"}),
    ("working_directory", GOOD | {"working_directory": "relative/folder"}),
    ("working_directory", GOOD | {"working_directory": "/" + "a" * 5000}),
    ("working_directory", GOOD | {"working_directory": "/a\0b"}),
    ("tag", GOOD | {"tag": 7}),
    ("tag", GOOD | {"tag": "a\0b"}),
    ("colour", GOOD | {"colour": "red"}),
    ("name", GOOD | {"name": ""}),
    ("nodes", GOOD | {"nodes": 0}),
    ("nodes", GOOD | {"nodes": "2"}),
    ("nodes", GOOD | {"nodes": 2**40}),
    ("cores", GOOD | {"cores": 1.5}),
    ("cores", GOOD | {"cores": True}),
    ("memory", GOOD | {"memory": "4 parsecs"}),
    ("memory", GOOD | {"memory": -1}),
    ("wall_time", GOOD | {"wall_time": "tomorrow"}),
    ("wall_time", GOOD | {"wall_time": 0}),
    ("environment", GOOD | {"environment": {"A=B": "c"}}),
    ("environment", GOOD | {"environment": {"": "c"}}),
    ("environment", GOOD | {"environment": "PATH=/"}),
    ("hold", GOOD | {"hold": "yes"}),
    ("extended_properties", GOOD | {"extended_properties": [1]}),
    ("memory", GOOD | {"memory": "1GiB"}),  # the local backend cannot limit memory
    ("queue", GOOD | {"queue": "batch"}),  # and has no queues
    ("body", []),
    ("body", "text"),
    ("body", None),
]


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_unreadable(gateway: InProcess, body: bytes) -> None:
    answer = gateway.call("POST", "/api/jobs", data=body)
    assert answer.status_code == 400
    assert error(answer)["code"] == "unreadable"


@pytest.mark.parametrize(("field", "body"), WRONG)
def test_wrong(gateway: InProcess, field: str, body: Any) -> None:
    answer = gateway.call("POST", "/api/jobs", data=json.dumps(body))
    assert answer.status_code == 422
    assert field in " ".join(error(answer)["errors"])
    assert gateway.call("GET", "/api/jobs").get_json() == []


def test_unknown_host_lists_the_known_ones(gateway: InProcess) -> None:
    said = error(gateway.call("POST", "/api/jobs", json=GOOD | {"host": "nowhere"}))
    assert said["code"] == "unknown_host"
    assert "localhost" in said["error_message"]


def test_too_large(gateway: InProcess) -> None:
    script = gateway.call("POST", "/api/jobs", json=GOOD | {"script": "#" * (1 << 20) + "#"})
    assert script.status_code == 413
    assert error(script)["errors"].keys() == {"script"}
    body = gateway.call("POST", "/api/jobs", data=b" " * (20 << 20))
    assert body.status_code == 413
    assert error(body)["code"] == "too_large"


def test_a_script_of_just_the_limit_runs(gateway: InProcess) -> None:
    head = "#!/bin/sh\necho large\nexit 0\n"
    job = gateway.ended(gateway.submit(head + "#" * ((1 << 20) - len(head)))["job_id"])
    assert job["status"] == "FINISHED"


@pytest.mark.parametrize("body", [{"action": "explode"}, {"action": ""}, {"action": 3}, {}, {"act": "abort"}])
def test_unknown_action_is_422_alike_for_every_job(gateway: InProcess, body: Any) -> None:
    job = gateway.submit("#!/bin/sh\nsleep 60\n")
    answers = [gateway.call("PUT", f"/api/jobs/{name}", json=body) for name in (job["job_id"], "77.nowhere")]
    assert [answer.status_code for answer in answers] == [422, 422]
    assert error(answers[0])["error_message"] == error(answers[1])["error_message"]


def test_an_action_that_makes_no_sense_now(gateway: InProcess) -> None:
    job = gateway.ended(gateway.submit()["job_id"])
    for action in ("abort", "hold", "release", "suspend", "continue", "execute"):
        assert gateway.call("PUT", f"/api/jobs/{job['job_id']}", json={"action": action}).status_code == 409


def test_unknown_urls_and_methods(gateway: InProcess) -> None:
    for path in ("/nothing", "/api/nothing", "/api//jobs", "/api/jobs/1.localhost/nothing"):
        for user in ("ann", None):
            assert error(gateway.call("GET", path, user=user))["code"] == "not_found"
    for method, path in (("PUT", "/api/jobs"), ("POST", "/api/jobs/1.localhost"), ("DELETE", "/health")):
        answer = gateway.call(method, path)
        assert answer.status_code == 405
        assert error(answer)["code"] == "method_not_allowed"
        assert answer.headers["Allow"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=x", "limit"),
        ("limit=99999999999999999999", "limit"),
        ("status=DONE", "status"),
        ("state=flying", "state"),
        ("sort=shoe_size", "sort"),
        ("format=xml", "format"),
        ("since=yesterday", "since"),
        ("since=2026-01-01", "since"),
        ("cursor=abc", "cursor"),
        ("cursor=WyJ4IiwgMV0", "cursor"),
        ("tag=%00", "tag"),
    ],
)
def test_queries(gateway: InProcess, query: str, field: str) -> None:
    answer = gateway.call("GET", f"/api/jobs?{query}")
    assert answer.status_code == 422
    assert field in error(answer)["errors"]


@pytest.mark.parametrize("ident", ["%00", "%ff%fe", "a" * 5000, "..", "1.localhost%20", "'; drop table jobs; --"])
def test_ids_that_are_none(gateway: InProcess, ident: str) -> None:
    assert gateway.call("GET", f"/api/jobs/{ident}").status_code == 404


def test_patch(gateway: InProcess) -> None:
    job = gateway.submit(tag="a", description="b")
    url = f"/api/jobs/{job['job_id']}"
    changed = gateway.call("PATCH", url, json={"tag": None, "extended_properties": {"a": {"b": [1, None]}}})
    assert changed.status_code == 200
    assert (changed.get_json()["tag"], changed.get_json()["description"]) == (None, "b")
    assert changed.get_json()["extended_properties"] == {"a": {"b": [1, None]}}
    for body in ({}, {"state": "finished"}, {"tag": 1}):
        assert gateway.call("PATCH", url, json=body).status_code == 422
