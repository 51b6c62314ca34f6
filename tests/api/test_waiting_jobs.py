"""Jobs that the gateway holds back: what can be asked, what can be done with them, and what they come to."""

from typing import Any

import pytest

from tests.gateways import InProcess, error, until

SLEEPS = "#!/bin/sh\nsleep 600\n"


def waiting(gateway: InProcess, upstream: dict[str, Any], kind: str = "afterok", **more: Any) -> dict[str, Any]:
    needs = [{"job_id": upstream["job_id"], "type": kind}]
    job = gateway.submit("#!/bin/sh\necho ran\n", dependencies=needs, **more)
    assert (job["state"], job["status"], job["job_id"]) == ("held", "QUEUED", job["uuid"])
    assert job["reason"] == f"waits for {upstream['job_id']} ({kind})"
    assert job["dependencies"] == needs
    return job


def steer(gateway: InProcess, job: dict[str, Any], action: str) -> int:
    return gateway.call("PUT", f"/api/jobs/{job['uuid']}", json={"action": action}).status_code


@pytest.mark.parametrize(
    ("kind", "code", "state"),
    [
        ("afterok", 0, "finished"),
        ("afterok", 1, "cancelled"),
        ("afternotok", 0, "cancelled"),
        ("afternotok", 1, "finished"),
        ("afterany", 0, "finished"),
        ("afterany", 1, "finished"),
        ("after", 1, "finished"),
    ],
)
def test_each_type(gateway: InProcess, kind: str, code: int, state: str) -> None:
    upstream = gateway.submit(f"#!/bin/sh\nexit {code}\n", hold=True)
    job = waiting(gateway, upstream, kind)
    gateway.tick()
    assert gateway.job(job["uuid"])["state"] == "held"
    assert steer(gateway, upstream, "release") == 204
    assert gateway.ended(job["uuid"])["state"] == state


@pytest.mark.parametrize(("kind", "state"), [("afterok", "finished"), ("afternotok", "cancelled")])
def test_the_other_has_ended_already(gateway: InProcess, kind: str, state: str) -> None:
    upstream = gateway.ended(gateway.submit()["job_id"])
    job = gateway.submit(dependencies=[{"job_id": upstream["uuid"], "type": kind}])
    assert gateway.ended(job["uuid"])["state"] == state


def test_a_chain_ends_with_its_first(gateway: InProcess) -> None:
    first = gateway.submit(SLEEPS)
    second = waiting(gateway, first)
    third = waiting(gateway, second, array="1-2")
    assert steer(gateway, first, "abort") == 204
    gateway.ended(first["job_id"])
    gateway.tick()
    for job, upstream in ((second, first), (third, second)):
        now = gateway.job(job["uuid"])
        assert now["state"] == "cancelled"
        assert now["reason"] == f"it can never start: it waits for {upstream['job_id']} (afterok), which is cancelled"


def test_it_is_aborted(gateway: InProcess) -> None:
    job = waiting(gateway, gateway.submit(SLEEPS))
    assert steer(gateway, job, "suspend") == 409
    assert steer(gateway, job, "abort") == 204
    assert gateway.job(job["uuid"])["state"] == "cancelled"
    assert steer(gateway, job, "abort") == 409


def test_it_is_held_and_released(gateway: InProcess) -> None:
    """What the user holds goes on waiting when the other job has ended."""
    upstream = gateway.submit(hold=True)
    job = waiting(gateway, upstream)
    assert steer(gateway, job, "release") == 409  # nobody holds it: it waits
    assert steer(gateway, job, "hold") == 204
    assert steer(gateway, upstream, "release") == 204
    gateway.ended(upstream["job_id"])
    until(lambda: gateway.tick() is not None and gateway.job(job["uuid"])["job_id"] != job["uuid"])
    assert gateway.job(job["uuid"])["state"] == "held"
    assert steer(gateway, job, "release") == 204
    assert gateway.ended(job["uuid"])["state"] == "finished"


def test_it_is_deleted(gateway: InProcess) -> None:
    upstream = gateway.submit(hold=True)
    job = waiting(gateway, upstream)
    assert gateway.call("DELETE", f"/api/jobs/{job['uuid']}").status_code == 204
    assert steer(gateway, upstream, "release") == 204
    gateway.ended(upstream["job_id"])
    gateway.tick()
    assert gateway.call("GET", f"/api/jobs/{job['uuid']}").status_code == 404


@pytest.mark.parametrize(("kind", "state"), [("afterok", "cancelled"), ("afterany", "finished")])
def test_the_other_is_deleted(gateway: InProcess, kind: str, state: str) -> None:
    """Which stops it: it counts as cancelled."""
    upstream = gateway.submit(SLEEPS)
    job = waiting(gateway, upstream, kind)
    assert gateway.call("DELETE", f"/api/jobs/{upstream['job_id']}").status_code == 204
    assert gateway.ended(job["uuid"])["state"] == state


def test_the_request_is_repeated_when_the_other_is_gone(gateway: InProcess) -> None:
    """A client that never read its answer asks again with its key, and gets its job."""
    upstream = gateway.submit(SLEEPS)
    needs = [{"job_id": upstream["job_id"], "type": "afterany"}]
    request = {"host": "localhost", "script": "#!/bin/sh\n", "dependencies": needs}
    first = gateway.call("POST", "/api/jobs", json=request, headers={"Idempotency-Key": "mine"})
    assert gateway.call("DELETE", f"/api/jobs/{upstream['job_id']}").status_code == 204
    again = gateway.call("POST", "/api/jobs", json=request, headers={"Idempotency-Key": "mine"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.get_json()["uuid"] == first.get_json()["uuid"]


def test_the_other_is_deleted_after_its_end(gateway: InProcess) -> None:
    """Before the tick has looked: what it came to counts."""
    upstream = gateway.submit(hold=True)
    never = waiting(gateway, upstream, "afternotok")
    well = waiting(gateway, upstream)
    assert steer(gateway, upstream, "release") == 204
    host = gateway.services.hosts.by_name["localhost"]
    until(lambda: host.backend.query({upstream["job_id"].split(".")[0]: ()}, None).popitem()[1].state.final)
    gateway.services.ticker.sync._settle_waiting = lambda *_: None  # it ends just before the jobs are looked at
    gateway.ended(upstream["job_id"])
    del gateway.services.ticker.sync._settle_waiting
    assert gateway.call("DELETE", f"/api/jobs/{upstream['job_id']}").status_code == 204
    assert gateway.ended(never["uuid"])["state"] == "cancelled"
    assert gateway.ended(well["uuid"])["state"] == "finished"


def test_a_draft_is_waited_for(gateway: InProcess) -> None:
    draft = gateway.submit(draft=True)
    job = waiting(gateway, draft)
    gateway.tick()
    assert gateway.job(job["uuid"])["state"] == "held"
    assert steer(gateway, draft, "execute") == 201
    assert gateway.ended(job["uuid"])["state"] == "finished"


@pytest.mark.parametrize(
    "needs",
    [
        [{"job_id": "999.localhost"}],
        [{"job_id": ""}],
        [{"type": "afterok"}],
        [{"job_id": "1.localhost", "type": "sometime"}],
        ["1.localhost"],
        {"job_id": "1.localhost"},
        "1.localhost",
        [None],
    ],
)
def test_what_cannot_be_waited_for(gateway: InProcess, needs: Any) -> None:
    answer = gateway.call(
        "POST", "/api/jobs", json={"host": "localhost", "script": "#!/bin/sh\n", "dependencies": needs}
    )
    assert answer.status_code == 422
    assert any(field.startswith("dependencies") for field in error(answer)["errors"])


def test_another_users_job_looks_like_none(gateway: InProcess) -> None:
    theirs = gateway.submit(user="bob")
    needs = [{"job_id": theirs["job_id"]}]
    answer = gateway.call("POST", "/api/jobs", json={"host": "localhost", "script": "x", "dependencies": needs})
    assert answer.status_code == 422
    assert error(answer)["errors"] == {"dependencies": [f"Job with {theirs['job_id']} not found"]}
