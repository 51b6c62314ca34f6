"""/api/jobs/bulk: an answer per item."""

from tests.gateways import InProcess, error

GOOD = {"host": "localhost", "script": "#!/bin/sh\n"}


def test_one_bad_item_spoils_no_other(gateway: InProcess) -> None:
    items = [
        GOOD | {"tag": "1"},
        {"host": "nowhere", "script": "true"},
        7,
        {"script": "true"},
        GOOD | {"account": "bob"},
        GOOD | {"tag": "6"},
    ]
    answer = gateway.call("POST", "/api/jobs/bulk", json=items)
    assert answer.status_code == 200
    answers = answer.get_json()
    assert [one.get("status_code") for one in answers] == [None, 422, 422, 422, 403, None]
    assert [answers[0]["tag"], answers[5]["tag"]] == ["1", "6"]
    assert answers[3]["errors"].keys() == {"host"}
    assert {one["status"] for one in answers} == {"QUEUED", "error"}
    for one in (answers[0], answers[5]):
        assert gateway.ended(one["job_id"])["status"] == "FINISHED"


def test_repeated_with_its_key_nothing_is_submitted_twice(gateway: InProcess) -> None:
    items = [GOOD | {"tag": str(n)} for n in range(20)]
    first, again = (
        gateway.call("POST", "/api/jobs/bulk", json=items, headers={"Idempotency-Key": "all"}).get_json() for _ in "12"
    )
    assert [job["uuid"] for job in first] == [job["uuid"] for job in again]
    assert len(gateway.call("GET", "/api/jobs").get_json()) == 20
    other = gateway.call(
        "POST", "/api/jobs/bulk", json=[GOOD, *items[1:]], headers={"Idempotency-Key": "all"}
    ).get_json()
    assert (other[0]["code"], other[1]["uuid"]) == ("key_reused", first[1]["uuid"])


def test_what_is_no_list_of_jobs(gateway: InProcess) -> None:
    for body in ([], {}, "x", GOOD):
        assert gateway.call("POST", "/api/jobs/bulk", json=body).status_code == 422
    for data in (b"", b"["):
        assert gateway.call("POST", "/api/jobs/bulk", data=data).status_code == 400
    too_many = gateway.call("POST", "/api/jobs/bulk", json=[GOOD] * 1001)
    assert too_many.status_code == 413
    assert "1000" in error(too_many)["error_message"]
    assert gateway.call("GET", "/api/jobs").get_json() == []
