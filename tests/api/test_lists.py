"""GET /api/jobs: filters, order, pages, ETag; and Idempotency-Key."""

from urllib.parse import urlsplit

import pytest

from tests.gateways import InProcess


@pytest.fixture
def jobs(gateway: InProcess) -> list[dict]:
    """Seven held jobs, j0 to j6, with tags a and b by turns."""
    return [gateway.submit(name=f"j{n}", tag="ab"[n % 2], hold=True, description=f"100%_{n}") for n in range(7)]


def names(gateway: InProcess, query: str) -> list[str]:
    answer = gateway.call("GET", f"/api/jobs?{query}")
    assert answer.status_code == 200, answer.text
    return [job["name"] for job in answer.get_json()]


def test_filters(gateway: InProcess, jobs: list[dict]) -> None:
    assert names(gateway, "tag=b") == ["j5", "j3", "j1"]
    assert names(gateway, "name=j3") == ["j3"]
    assert names(gateway, f"job_id={jobs[1]['job_id']}&job_id={jobs[4]['uuid']}") == ["j4", "j1"]
    assert names(gateway, "status=queued&state=held") == ["j6", "j5", "j4", "j3", "j2", "j1", "j0"]
    assert names(gateway, "status=FINISHED&state=held") == []
    assert names(gateway, "host=zeus.cyfronet.pl&limit=1") == ["j6"]
    assert names(gateway, "q=%25_3") == ["j3"]
    assert names(gateway, f"since={jobs[5]['created_at']}") == ["j6", "j5"]
    assert names(gateway, f"until={jobs[1]['created_at']}") == ["j0"]


@pytest.mark.parametrize("sort", ["number", "-number", "name", "-name", "tag", "-tag", "created_at", "-queue", "host"])
def test_pages(gateway: InProcess, jobs: list[dict], sort: str) -> None:
    """Following the Link headers gives every job once, in order, whatever the order is."""
    everything = names(gateway, f"sort={sort}")
    assert len(set(everything)) == 7
    paged, url = [], f"/api/jobs?sort={sort}&limit=3"
    while url:
        answer = gateway.call("GET", url)
        assert answer.headers["X-Total-Count"] == "7"
        paged += [job["name"] for job in answer.get_json()]
        link = answer.headers.get("Link")
        url = link and "{0.path}?{0.query}".format(urlsplit(link.split(">")[0].lstrip("<")))
    assert paged == everything


def test_short(gateway: InProcess, jobs: list[dict]) -> None:
    assert gateway.call("GET", "/api/jobs?format=short&limit=1").get_json() == [
        {"job_id": jobs[6]["job_id"], "status": "QUEUED", "tag": "a", "host": "localhost"}
    ]


def test_etag(gateway: InProcess, jobs: list[dict]) -> None:
    etag = gateway.call("GET", "/api/jobs").headers["ETag"]
    same = gateway.call("GET", "/api/jobs", headers={"If-None-Match": etag})
    assert (same.status_code, same.data) == (304, b"")
    gateway.call("PATCH", f"/api/jobs/{jobs[0]['job_id']}", json={"tag": "c"})
    changed = gateway.call("GET", "/api/jobs", headers={"If-None-Match": etag})
    assert changed.status_code == 200
    assert changed.headers["ETag"] != etag


def test_history(gateway: InProcess, jobs: list[dict]) -> None:
    gateway.call("PUT", f"/api/jobs/{jobs[0]['job_id']}", json={"action": "release"})
    gateway.ended(jobs[0]["job_id"])
    history = gateway.call("GET", f"/api/jobs/{jobs[0]['job_id']}/events").get_json()
    moves = [(event["before"], event["state"]) for event in history]
    assert moves[:2] == [(None, "submitting"), ("submitting", "held")]
    assert moves[-1][1] == "finished"


def test_idempotency_key(gateway: InProcess) -> None:
    def post(script: str, key: str):
        body = {"host": "localhost", "script": script}
        return gateway.call("POST", "/api/jobs", json=body, headers={"Idempotency-Key": key})

    first, again, other = post("#!/bin/sh\n", "k1"), post("#!/bin/sh\n", "k1"), post("#!/bin/bash\n", "k1")
    assert (first.status_code, again.status_code, other.status_code) == (201, 200, 422)
    assert again.get_json()["uuid"] == first.get_json()["uuid"]
    assert len(gateway.call("GET", "/api/jobs").get_json()) == 1
    for bad in ("", "k" * 256, "schlüssel"):
        assert post("#!/bin/sh\n", bad).status_code == 422


def test_a_refused_request_frees_its_key(gateway: InProcess) -> None:
    headers = {"Idempotency-Key": "k"}
    crlf = {"host": "localhost", "script": "#!/bin/sh\r\n"}
    refused = gateway.call("POST", "/api/jobs", json=crlf, headers=headers)
    assert refused.status_code == 422
    assert "sed" in refused.get_json()["error_message"]
    assert gateway.call("GET", "/api/jobs").get_json() == []
    mended = {"host": "localhost", "script": "#!/bin/sh\n"}
    assert gateway.call("POST", "/api/jobs", json=mended, headers=headers).status_code == 201


def test_resubmit(gateway: InProcess) -> None:
    job = gateway.submit("#!/bin/sh\nexit 4\n", name="again", tag="t", environment={"A": "b"})
    gateway.ended(job["job_id"])
    answer = gateway.call("PUT", f"/api/jobs/{job['job_id']}", json={"action": "resubmit"})
    assert answer.status_code == 201
    new = gateway.ended(answer.get_json()["job_id"])
    assert (new["name"], new["tag"], new["exit_code"]) == ("again", "t", 4)
    assert new["uuid"] != job["uuid"]
