"""Search in extended_properties, alike on every database."""

import pytest

from tests.gateways import InProcess

PROPERTIES = {
    "corpus": {"name": "Żółw", "files": 7, "ratio": 0.5, "done": True, "note": None, "with'quote": "a'b", "list": [1]},
    "a.b": "dotted",
    'say"so': "x",
    "word": "true",
}


@pytest.fixture
def found(gateway: InProcess):
    job = gateway.submit(extended_properties=PROPERTIES)
    gateway.submit(extended_properties={"corpus": "text", "word": 1})
    gateway.submit()

    def ask(**query: str) -> bool:
        jobs = gateway.call("GET", "/api/jobs", query_string={f"extended_properties.{k}": v for k, v in query.items()})
        assert jobs.status_code == 200, jobs.text
        assert {one["uuid"] for one in jobs.get_json()} <= {job["uuid"]}
        return bool(jobs.get_json())

    return ask


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("corpus.name", "Żółw"),
        ("corpus.files", "7"),
        ("corpus.ratio", "0.5"),
        ("corpus.done", "true"),
        ("corpus.with'quote", "a'b"),
        ("word", "true"),
    ],
)
def test_found(found, path: str, value: str) -> None:
    assert found(**{path: value})
    assert not found(**{path: value + "x"})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("corpus.name.deeper", "Żółw"),
        ("corpus", "x"),
        ("corpus.note", "null"),
        ("corpus.nothing", "x"),
        ("corpus.done", "1"),
        ('say"so.x', "x"),
        ("a.b", "nothing"),
        ("", "x"),
        ("..", "x"),
        ("$", "%"),
    ],
)
def test_not_found(found, path: str, value: str) -> None:
    assert not found(**{path: value})


def test_all_of_several(found) -> None:
    assert found(**{"corpus.files": "7", "corpus.name": "Żółw"})
    assert not found(**{"corpus.files": "7", "corpus.name": "other"})


def test_nul(gateway: InProcess) -> None:
    refused = gateway.call(
        "POST", "/api/jobs", json={"host": "localhost", "script": "true", "extended_properties": {"a": ["\0"]}}
    )
    assert refused.status_code == 422
    assert gateway.call("GET", "/api/jobs?extended_properties.a=%00").status_code == 422
