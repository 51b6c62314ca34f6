"""A second user gets for the first one's job exactly what an unknown id gets, on every URL."""

import re

import pytest

from tests.gateways import SUBJECTS, InProcess, error

CALLS = [
    ("GET", ""),
    ("PUT", ""),
    ("PATCH", ""),
    ("DELETE", ""),
    ("GET", "/stdout"),
    ("GET", "/stderr?tail=1"),
    ("GET", "/script"),
    ("GET", "/request"),
    ("GET", "/events"),
    ("GET", "/tasks"),
    ("GET", "/tasks/1"),
    ("PUT", "/tasks/1"),
    ("GET", "/tasks/1/stdout"),
    ("GET", "/files/"),
    ("GET", "/files/job.o1"),
    ("GET", "/output"),
    ("POST", "/report"),
]
BODIES = {"PUT": {"action": "abort"}, "PATCH": {"tag": "mine"}}


def test_every_url_of_a_job_is_in_the_table_above(gateway: InProcess) -> None:
    every = {rule.rule for rule in gateway.app.url_map.iter_rules() if "<job_id>" in rule.rule}
    rules = {rule for rule in every if rule.startswith("/api/")}  # those of dialects: tests/dialects
    covered = {f"/api/jobs/<job_id>{path.split('?')[0]}" for _, path in CALLS}
    values = {r"<any\(.*?\):stream>": "stdout", "<path:path>": "job.o1", "<task_id>": "1"}
    plain = rules
    for variable, value in values.items():
        plain = {re.sub(variable, value, rule) for rule in plain}
    assert plain <= covered


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_like_an_unknown_id(gateway: InProcess, method: str, path: str) -> None:
    job = gateway.ended(gateway.submit("#!/bin/sh\necho secret\n")["job_id"])
    unknown = {"job_id": "999.localhost", "uuid": "00000000-0000-4000-8000-000000000000"}
    for kind in ("job_id", "uuid"):
        answers = [
            gateway.call(method, f"/api/jobs/{ids[kind]}{path}", user="bob", json=BODIES.get(method))
            for ids in (job, unknown)
        ]
        assert [answer.status_code for answer in answers] == [404, 404]
        theirs, none = (error(answer) for answer in answers)
        assert theirs | {"request_id": ""} == none | {
            "request_id": "",
            "error_message": none["error_message"].replace(unknown[kind], job[kind]),
        }
        headers = [{**answer.headers, "X-Request-ID": "", "Content-Length": ""} for answer in answers]
        assert headers[0] == headers[1]
    assert gateway.job(job["job_id"])["tag"] is None


def test_lists_show_own_jobs_alone(gateway: InProcess) -> None:
    job = gateway.submit(tag="shared")
    for query in ("", "?tag=shared", f"?job_id={job['job_id']}", f"?job_id={job['uuid']}", "?q=job"):
        answer = gateway.call("GET", f"/api/jobs{query}", user="bob")
        assert (answer.get_json(), answer.headers["X-Total-Count"]) == ([], "0")
    assert gateway.call("GET", "/api/jobs?owner=*", user="bob").status_code == 403


def test_an_administrator_sees_and_steers_every_job(gateway: InProcess) -> None:
    job = gateway.submit("#!/bin/sh\nsleep 60\n")
    assert gateway.call("GET", "/api/jobs", user="carol").get_json() == []
    everybody = gateway.call("GET", "/api/jobs?owner=*", user="carol").get_json()
    assert [(one["job_id"], one["owner"]) for one in everybody] == [(job["job_id"], SUBJECTS["ann"])]
    abort = gateway.call("PUT", f"/api/jobs/{job['job_id']}", user="carol", json={"action": "abort"})
    assert abort.status_code == 204
    assert gateway.ended(job["job_id"])["status"] == "ABORTED"


def test_the_same_idempotency_key_of_two_users_is_two_keys(gateway: InProcess) -> None:
    body = {"host": "localhost", "script": "#!/bin/sh\n"}
    answers = [
        gateway.call("POST", "/api/jobs", user=user, json=body, headers={"Idempotency-Key": "one"})
        for user in ("ann", "bob")
    ]
    assert [answer.status_code for answer in answers] == [201, 201]


def test_only_accounts_of_the_grid_mapfile(gateway: InProcess) -> None:
    assert gateway.submit(account="ann2")["account"] == "ann2"
    answer = gateway.call("POST", "/api/jobs", json={"host": "localhost", "script": "x", "account": "bob"})
    assert answer.status_code == 403
    assert "ann, ann2" in error(answer)["error_message"]
