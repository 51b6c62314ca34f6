"""A job that has ended becomes a draft again, under its number; and the logs and lists that go with that."""

from pathlib import Path

from tests.gateways import InProcess, error

FAILS = "#!/bin/sh\necho tried; exit 3\n"


def test_the_same_job_runs_again(gateway: InProcess) -> None:
    job = gateway.submit(FAILS, name="again")
    first = gateway.ended(job["uuid"])
    answer = gateway.call("PUT", f"/api/jobs/{job['uuid']}", json={"action": "reset"})
    assert answer.status_code == 201
    draft = answer.get_json()
    assert (draft["state"], draft["job_id"], draft["number"]) == ("draft", job["uuid"], job["number"])
    for forgotten in ("exit_code", "native_state", "submitted_at", "stdout_file", "as_of"):
        assert draft[forgotten] is None
    assert not {"start_time", "end_time", "nodes", "cores"} & draft.keys()
    gateway.call("PATCH", f"/api/jobs/{job['uuid']}", json={"script": "#!/bin/sh\necho done\n"})
    assert gateway.call("PUT", f"/api/jobs/{job['uuid']}", json={"action": "execute"}).status_code == 201
    second = gateway.ended(job["uuid"])
    assert (second["state"], second["number"], second["uuid"]) == ("finished", job["number"], job["uuid"])
    assert second["job_id"] != first["job_id"]
    assert gateway.call("GET", f"/api/jobs/{first['job_id']}").status_code == 404


def test_a_run_that_was_cut_off_is_not_taken_for_an_earlier_one(gateway: InProcess) -> None:
    """The scheduler still knows the first run; each has a mark of its own there."""
    job = gateway.submit(FAILS)
    gateway.ended(job["uuid"])
    backend = gateway.services.hosts.by_name["localhost"].backend
    gateway.call("PUT", f"/api/jobs/{job['uuid']}", json={"action": "reset"})
    again = gateway.services.repository.job(job["uuid"], None)
    assert backend.find(job["uuid"], "ann")
    assert again.mark != job["uuid"]
    assert backend.find(again.mark, "ann") is None
    gateway.call("PUT", f"/api/jobs/{job['uuid']}", json={"action": "execute"})
    found = backend.find(again.mark, "ann")
    assert f"{found.native_id}.localhost" == gateway.job(job["uuid"])["job_id"]
    gateway.ended(job["uuid"])


def test_what_waits_goes_on_waiting(gateway: InProcess) -> None:
    first = gateway.submit(FAILS)
    gateway.ended(first["uuid"])
    gateway.call("PUT", f"/api/jobs/{first['uuid']}", json={"action": "reset"})
    second = gateway.submit(dependencies=[{"job_id": first["uuid"], "type": "afternotok"}])
    assert second["state"] == "held"
    gateway.call("PUT", f"/api/jobs/{first['uuid']}", json={"action": "execute"})
    assert gateway.ended(first["uuid"])["state"] == "failed"
    assert gateway.ended(second["uuid"])["state"] == "finished"


def test_an_array_begins_anew(gateway: InProcess) -> None:
    job = gateway.submit(FAILS, array="1-2")
    gateway.ended(job["uuid"])
    draft = gateway.call("PUT", f"/api/jobs/{job['uuid']}", json={"action": "reset"}).get_json()
    assert draft["tasks"] == {"total": 0}
    gateway.call("PUT", f"/api/jobs/{job['uuid']}", json={"action": "execute"})
    assert gateway.ended(job["uuid"])["tasks"] == {"total": 2, "failed": 2}


def test_who_may_and_when(gateway: InProcess) -> None:
    job = gateway.submit("#!/bin/sh\nsleep 600\n")
    reset = {"action": "reset"}
    assert error(gateway.call("PUT", f"/api/jobs/{job['uuid']}", json=reset))["code"] == "conflict"
    assert gateway.call("PUT", f"/api/jobs/{job['uuid']}", json=reset, user="bob").status_code == 404
    gateway.call("PUT", f"/api/jobs/{job['uuid']}", json={"action": "abort"})
    gateway.ended(job["uuid"])
    for _ in range(2):  # a draft stays one
        assert gateway.call("PUT", f"/api/jobs/{job['uuid']}", json=reset).get_json()["state"] == "draft"
    answer = gateway.call("PUT", f"/api/jobs/{job['uuid']}", json={"action": "reset", "tasks": "1"})
    assert error(answer)["errors"] == {"tasks": ["goes with resubmit only"]}


def test_logs_go_where_that_is_asked_for(gateway: InProcess, tmp_path: Path) -> None:
    logs = tmp_path / "work" / "logs"
    for way in ("reset", "delete"):
        job = gateway.submit(FAILS, name=way, working_directory=str(tmp_path / "work"), stdout="logs/", stderr="logs/")
        path = f"/api/jobs/{job['uuid']}"
        number = job["job_id"].split(".")[0]
        assert job["stdout_file"] == str(logs / f"{way}.o{number}")
        if way == "delete":
            assert error(gateway.call("DELETE", f"{path}?clean=1"))["code"] == "conflict"
        gateway.ended(job["uuid"])
        assert {file.name for file in logs.iterdir()} == {f"{way}.o{number}", f"{way}.e{number}"}
        if way == "reset":
            assert gateway.call("PUT", path, json={"action": "reset", "clean": True}).status_code == 201
        else:
            assert gateway.call("DELETE", f"{path}?clean=1").status_code == 204
        assert list(logs.iterdir()) == []


def test_a_resubmission_is_done_once_for_each_key(gateway: InProcess) -> None:
    jobs = [gateway.submit(FAILS) for _ in range(2)]
    call = {"json": {"action": "resubmit"}, "headers": {"Idempotency-Key": "k"}}
    one, again = (gateway.call("PUT", f"/api/jobs/{jobs[0]['uuid']}", **call).get_json() for _ in range(2))
    assert one["uuid"] == again["uuid"]
    other = gateway.call("PUT", f"/api/jobs/{jobs[1]['uuid']}", **call)
    assert error(other)["code"] == "key_reused"


def test_a_list_by_numbers(gateway: InProcess) -> None:
    jobs = [gateway.submit(draft=True) for _ in range(3)]
    wanted = [jobs[0]["number"], jobs[2]["number"]]
    listed = gateway.call("GET", f"/api/jobs?number={wanted[0]}&number={wanted[1]}").get_json()
    assert [job["number"] for job in listed] == wanted[::-1]
    assert gateway.call("GET", f"/api/jobs?number={wanted[0]}", user="bob").get_json() == []
    assert error(gateway.call("GET", "/api/jobs?number=x"))["code"] == "invalid"
