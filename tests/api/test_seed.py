"""The PLGrid job submitter's document, call by call: paths, codes, keys and formats are what it prints."""

import re
from http import HTTPStatus

from tests.gateways import InProcess, error

SUBMIT_KEYS = {"job_id", "stdout_path", "stderr_path", "status", "tag"}
RUNTIME_KEYS = {"nodes", "cores", "start_time", "end_time", "wall_time", "queue_time"}
ERROR_KEYS = {"status", "exit_code", "standard_output", "error_output", "error_message", "tag"}
SCRIPT = "#!/bin/bash\n#SBATCH -A grantid\necho hello\nexit 0"


def test_submit(gateway: InProcess) -> None:
    answer = gateway.call("POST", "/api/jobs", json={"host": "zeus.cyfronet.pl", "script": SCRIPT})
    assert answer.status_code == HTTPStatus.CREATED
    job = answer.get_json()
    assert job.keys() >= SUBMIT_KEYS
    assert job["status"] == "QUEUED"
    assert job["tag"] is None
    assert re.fullmatch(r"\d+\.localhost", job["job_id"])  # ids carry the canonical name, never an alias
    assert job["stdout_path"].endswith(f"/api/jobs/{job['job_id']}/stdout")


def test_submit_with_the_form_type_of_curl(gateway: InProcess) -> None:
    """curl's --data sends application/x-www-form-urlencoded unless told otherwise."""
    body = '{"host": "localhost", "script": "#!/bin/sh\\n"}'
    for kind in ("application/x-www-form-urlencoded", "text/plain", None):
        assert gateway.call("POST", "/api/jobs", data=body, content_type=kind).status_code == HTTPStatus.CREATED


def test_submit_with_all_four_fields(gateway: InProcess) -> None:
    folder = gateway.folder / "people" / "testjob"
    job = gateway.submit(SCRIPT, working_directory=str(folder), tag="alpha")
    assert job["tag"] == "alpha"
    assert gateway.ended(job["job_id"])["status"] == "FINISHED"
    assert (folder / f"job.o{job['job_id'].split('.')[0]}").read_text() == "hello\n"


def test_submit_refused(gateway: InProcess) -> None:
    answer = gateway.call("POST", "/api/jobs", json={"host": "unknown.example", "script": SCRIPT})
    assert answer.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert error(answer).keys() >= ERROR_KEYS
    assert "localhost" in error(answer)["error_message"]


def test_list(gateway: InProcess) -> None:
    first = gateway.submit(SCRIPT, tag="a")
    second = gateway.submit(SCRIPT)
    gateway.ended(first["job_id"])
    jobs = gateway.call("GET", "/api/jobs").get_json()
    assert [job["job_id"] for job in jobs] == [second["job_id"], first["job_id"]]
    finished = jobs[1]
    assert finished.keys() >= SUBMIT_KEYS | RUNTIME_KEYS
    assert [job["job_id"] for job in gateway.call("GET", "/api/jobs?tag=a").get_json()] == [first["job_id"]]
    assert len(gateway.call("GET", "/api/jobs?tag=").get_json()) == 2
    assert gateway.call("GET", "/api/jobs?tag=nothing").get_json() == []


def test_runtime_attributes_are_strings_in_the_documents_formats(gateway: InProcess) -> None:
    job = gateway.ended(gateway.submit("#!/bin/sh\nsleep 1\n")["job_id"])
    assert job["nodes"] == "1"
    assert job["cores"] == "1"
    for field in ("start_time", "end_time"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", job[field])
    assert job["wall_time"] in ("00:00:01", "00:00:02")
    assert re.fullmatch(r"\d\d:\d\d:\d\d", job["queue_time"])


def test_show(gateway: InProcess) -> None:
    job = gateway.submit(SCRIPT)
    shown = gateway.job(job["job_id"])
    assert shown["job_id"] == job["job_id"]
    assert gateway.job(job["uuid"])["job_id"] == job["job_id"]
    assert gateway.job(job["job_id"].replace("localhost", "zeus.cyfronet.pl"))["job_id"] == job["job_id"]


def test_unknown_job(gateway: InProcess) -> None:
    unknown = "1234.batch.grid.cyf-kr.edu.pl"
    for method, body in (("GET", None), ("DELETE", None), ("PUT", {"action": "abort"})):
        answer = gateway.call(method, f"/api/jobs/{unknown}", json=body)
        assert answer.status_code == HTTPStatus.NOT_FOUND
        assert {key: error(answer)[key] for key in ERROR_KEYS} == {
            "status": "error",
            "exit_code": 0,
            "standard_output": "",
            "error_output": "",
            "error_message": f"Job with {unknown} not found",
            "tag": None,
        }


def test_delete(gateway: InProcess) -> None:
    job = gateway.submit("#!/bin/sh\nsleep 60\n")
    answer = gateway.call("DELETE", f"/api/jobs/{job['job_id']}")
    assert (answer.status_code, answer.data) == (HTTPStatus.NO_CONTENT, b"")
    assert gateway.call("GET", f"/api/jobs/{job['job_id']}").status_code == HTTPStatus.NOT_FOUND


def test_abort(gateway: InProcess) -> None:
    job = gateway.submit("#!/bin/sh\nsleep 60\n")
    for action in ("abort", "ABORT"):
        answer = gateway.call("PUT", f"/api/jobs/{job['job_id']}", json={"action": action})
        assert (answer.status_code, answer.data) == (HTTPStatus.NO_CONTENT, b"")
    ended = gateway.ended(job["job_id"])
    assert (ended["status"], ended["state"]) == ("ABORTED", "cancelled")
    again = gateway.call("PUT", f"/api/jobs/{job['job_id']}", json={"action": "abort"})
    assert again.status_code == HTTPStatus.CONFLICT
    assert error(again)["code"] == "conflict"


def test_files_of_the_answer_can_be_fetched(gateway: InProcess) -> None:
    job = gateway.ended(gateway.submit("#!/bin/sh\necho out; echo err >&2; exit 3\n")["job_id"])
    assert (job["status"], job["state"], job["exit_code"]) == ("ERROR", "failed", 3)
    out = gateway.call("GET", job["stdout_path"].removeprefix("http://testserver"))
    err = gateway.call("GET", job["stderr_path"].removeprefix("http://testserver"))
    assert (out.data, err.data) == (b"out\n", b"err\n")
