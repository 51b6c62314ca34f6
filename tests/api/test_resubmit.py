"""The same request once more."""

from pathlib import Path

from tests.gateways import InProcess, error


def test_resubmit(gateway: InProcess) -> None:
    job = gateway.submit("#!/bin/sh\necho $WORD\n", environment={"WORD": "again"}, tag="t", description="d", name="n")
    assert job["resubmitted_from"] is None
    gateway.ended(job["job_id"])
    answer = gateway.call("PUT", f"/api/jobs/{job['job_id']}", json={"action": "RESUBMIT"})
    assert answer.status_code == 201
    new = answer.get_json()
    assert new["resubmitted_from"] == job["job_id"]
    assert [new[name] for name in ("tag", "description", "name")] == ["t", "d", "n"]
    gateway.ended(new["job_id"])
    for each in (job, new):
        assert gateway.call("GET", f"/api/jobs/{each['job_id']}/stdout").text == "again\n"


def test_clean_removes_the_old_logs(gateway: InProcess) -> None:
    folder = gateway.folder / "work"
    job = gateway.submit("#!/bin/sh\necho out\n", working_directory=str(folder))
    gateway.ended(job["job_id"])
    assert len(list(folder.iterdir())) == 2
    clean = {"action": "resubmit", "clean": True}
    new = gateway.call("PUT", f"/api/jobs/{job['job_id']}", json=clean).get_json()
    gateway.ended(new["job_id"])
    number = new["job_id"].split(".")[0]
    assert sorted(file.name for file in folder.iterdir()) == [f"job.e{number}", f"job.o{number}"]
    assert gateway.call("GET", f"/api/jobs/{job['job_id']}/stdout").status_code == 404


def test_clean_spares_a_log_that_the_new_job_writes(gateway: InProcess) -> None:
    folder = gateway.folder / "work"
    job = gateway.submit("#!/bin/sh\necho out\n", working_directory=str(folder), stdout="log")
    gateway.ended(job["job_id"])
    new = gateway.call("PUT", f"/api/jobs/{job['job_id']}", json={"action": "resubmit", "clean": True}).get_json()
    gateway.ended(new["job_id"])
    assert Path(folder / "log").read_text().endswith("out\n")


def test_a_job_that_still_writes_is_not_cleaned(gateway: InProcess) -> None:
    job = gateway.submit("#!/bin/sh\nexec sleep 300\n")
    refused = gateway.call("PUT", f"/api/jobs/{job['job_id']}", json={"action": "resubmit", "clean": True})
    assert refused.status_code == 409
    assert "abort" in error(refused)["error_message"]
    assert len(gateway.call("GET", "/api/jobs").get_json()) == 1
    wrong = gateway.call("PUT", f"/api/jobs/{job['job_id']}", json={"action": "abort", "clean": True})
    assert wrong.status_code == 422


def test_what_was_asked_for_can_be_sent_again(gateway: InProcess) -> None:
    asked = {
        "name": "again",
        "tag": "t",
        "cores": 2,
        "wall_time": 60,
        "environment": {"A": "b"},
        "array": "1-3%2",
        "extended_properties": {"a": [1]},
    }
    job = gateway.submit("#!/bin/sh\necho $A\n", **asked)
    request = gateway.call("GET", f"/api/jobs/{job['job_id']}/request").get_json()
    assert request.items() >= {"host": "localhost", "script": "#!/bin/sh\necho $A\n", **asked}.items()
    again = gateway.call("POST", "/api/jobs", json=request)
    assert again.status_code == 201, again.text
    assert again.get_json()["array"] == "1-3%2"
