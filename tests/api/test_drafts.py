"""Drafts: kept, changed, and submitted when they are executed."""

import threading

from tests.gateways import InProcess, error


def draft(gateway: InProcess, script: str = "#!/bin/sh\necho one\n", **fields):
    job = gateway.submit(script, draft=True, **fields)
    assert (job["state"], job["status"], job["job_id"]) == ("draft", "QUEUED", job["uuid"])
    return job


def test_nothing_is_submitted_before_execute(gateway: InProcess) -> None:
    job = draft(gateway, tag="d")
    gateway.tick()
    assert gateway.job(job["uuid"])["state"] == "draft"
    answer = gateway.call("PUT", f"/api/jobs/{job['uuid']}", json={"action": "execute"})
    assert answer.status_code == 201
    submitted = answer.get_json()
    assert submitted["uuid"] == job["uuid"]
    assert submitted["job_id"].endswith(".localhost")
    assert gateway.ended(job["uuid"])["status"] == "FINISHED"
    assert [event["state"] for event in gateway.call("GET", f"/api/jobs/{job['uuid']}/events").get_json()][:3] == [
        "draft",
        "submitting",
        "queued",
    ]


def test_every_field_of_a_draft_can_be_changed(gateway: InProcess) -> None:
    job = draft(gateway, environment={"WORD": "one"}, description="d")
    path = f"/api/jobs/{job['uuid']}"
    change = {
        "script": "#!/bin/sh\necho $WORD\n",
        "environment": {"WORD": "two"},
        "name": "renamed",
        "description": None,
    }
    changed = gateway.call("PATCH", path, json=change).get_json()
    assert (changed["name"], changed["description"], changed["uuid"]) == ("renamed", None, job["uuid"])
    gateway.call("PUT", path, json={"action": "execute"})
    gateway.ended(job["uuid"])
    assert gateway.call("GET", f"{path}/stdout").text == "two\n"
    refused = gateway.call("PATCH", path, json={"script": "true"})
    assert refused.status_code == 409
    assert "draft" in error(refused)["error_message"]


def test_a_draft_is_checked_like_a_job(gateway: InProcess) -> None:
    wrong = gateway.call("POST", "/api/jobs", json={"host": "nowhere", "script": "true", "draft": True})
    assert wrong.status_code == 422
    path = f"/api/jobs/{draft(gateway)['uuid']}"
    for change in ({"host": "nowhere"}, {"script": ""}, {"gpus": 1}, {"environment": {"1": "x"}}):
        assert gateway.call("PATCH", path, json=change).status_code == 422, change
    assert gateway.call("PATCH", path, json={"account": "bob"}).status_code == 403


def test_a_refused_draft_stays_one(gateway: InProcess) -> None:
    job = draft(gateway, working_directory="/proc/nowhere")
    path = f"/api/jobs/{job['uuid']}"
    assert gateway.call("PUT", path, json={"action": "execute"}).status_code == 422
    after = gateway.job(job["uuid"])
    assert (after["state"], bool(after["reason"])) == ("draft", True)
    gateway.call("PATCH", path, json={"working_directory": str(gateway.folder / "good")})
    assert gateway.call("PUT", path, json={"action": "execute"}).status_code == 201
    assert gateway.ended(job["uuid"])["status"] == "FINISHED"


def test_executed_once_however_many_ask(gateway: InProcess) -> None:
    job = draft(gateway)
    codes: list[int] = []

    def execute() -> None:
        codes.append(
            gateway.app.test_client()
            .put(f"/api/jobs/{job['uuid']}", json={"action": "execute"}, headers=gateway.world.headers["ann"])
            .status_code
        )

    threads = [threading.Thread(target=execute) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [201] + [409] * 7
    assert len(gateway.call("GET", "/api/jobs").get_json()) == 1


def test_what_a_draft_is_not_for(gateway: InProcess) -> None:
    path = f"/api/jobs/{draft(gateway)['uuid']}"
    for action in ("abort", "hold", "release"):
        refused = gateway.call("PUT", path, json={"action": action})
        assert refused.status_code == 409
        assert "draft" in error(refused)["error_message"]
    job = gateway.submit()
    refused = gateway.call("PUT", f"/api/jobs/{job['job_id']}", json={"action": "execute"})
    assert refused.status_code == 409
    assert gateway.call("DELETE", path).status_code == 204
    assert gateway.call("GET", path).status_code == 404
