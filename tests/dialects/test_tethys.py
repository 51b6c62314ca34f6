"""The Tethys Jobs API: the callback as its document has it, and what a jobs table asks for."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from tests.gateways import InProcess, Server, World, until

TEMPLATE = {"name": "example", "script": "#!/bin/sh\necho {{ who }}\n", "parameters": {"who": {"default": "nobody"}}}


@pytest.fixture(scope="module")
def table(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    """A gateway with the template `example` of ann's."""
    with InProcess(world, tmp_path_factory.mktemp("tethys")) as gateway:
        assert gateway.call("POST", "/api/templates", json=TEMPLATE).status_code == 201
        yield gateway


def create(table: InProcess, **more: object) -> dict:
    body = {"name": "job_name", "user": "ann", "template_name": "example", "description": "my first job", **more}
    answer = table.call("POST", "/tethys/jobs/", json=body)
    assert answer.status_code == 201, answer.text
    return answer.get_json()


def method(table: InProcess, job: dict, name: str, status: int = 200) -> dict:
    answer = table.call("POST", f"/tethys/jobs/{job['id']}/{name}/")
    assert answer.status_code == status, answer.text
    assert answer.get_json()["success"] is (status == 200)
    return answer.get_json()


def test_the_documents_callback(server: Server) -> None:
    """`http://<host>/update-job-status/<job_id>/` answers `{"success": true}`, with GET and with POST."""
    job = server.submit()
    for name in (job["number"], job["job_id"], job["uuid"]):
        for verb in ("GET", "POST"):
            answer = server.call(verb, f"/update-job-status/{name}/")
            assert (answer.status_code, answer.json()) == (200, {"success": True})
    answer = server.call("GET", f"/update-job-status/{job['number']}/?delay=30")
    assert (answer.status_code, answer.json()) == (200, {"success": "scheduled"})


def test_the_gateway_looks_at_once_and_only_looks(table: InProcess) -> None:
    """Nobody else looks: this gateway has no ticker."""
    sleeping, short = table.submit("#!/bin/sh\nsleep 600\n"), table.submit("#!/bin/sh\necho done\n")
    until(lambda: table.call("GET", f"/api/jobs/{short['job_id']}/stdout").data == b"done\n")
    assert table.job(short["job_id"])["status"] == "QUEUED"
    for job in (sleeping, short):
        told = {"status": "Complete", "state": "finished", "exit_code": 0}
        answer = table.call("POST", f"/update-job-status/{job['number']}/?status=Complete", json=told)
        assert answer.get_json() == {"success": True}
    until(lambda: table.job(short["job_id"])["status"] == "FINISHED", seconds=60)
    assert table.job(sleeping["job_id"])["status"] == "RUNNING"


def test_a_jobs_own_report_token_opens_its_callback(server: Server) -> None:
    job = server.submit("#!/bin/sh\nprintf %s $JOBGATE_REPORT_TOKEN\nsleep 600\n")
    path = f"/api/jobs/{job['job_id']}/stdout"
    token = until(lambda: (answer := server.call("GET", path)).status_code == 200 and answer.text)
    bearer = {"Authorization": f"Bearer {token}"}
    answer = server.call("POST", f"/update-job-status/{job['number']}/", user=None, headers=bearer)
    assert answer.json() == {"success": True}
    other = server.submit("#!/bin/sh\nsleep 600\n")
    answer = server.call("POST", f"/update-job-status/{other['number']}/", user=None, headers=bearer)
    assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid")


def test_the_life_of_a_job(table: InProcess) -> None:
    job = create(table, parameters={"who": "ann"}, extended_properties={"a": {"b": 7}})
    assert (job["status"], job["user"], job["description"]) == ("Pending", "ann", "my first job")
    assert job["actions"] == {name: name in ("run", "delete") for name in job["actions"]}
    assert "logs before it runs" in table.call("GET", f"/tethys/jobs/{job['id']}/logs/").get_json()["error"]
    method(table, job, "resubmit", 409)
    assert method(table, job, "execute")["status"] in ("Submitted", "Running", "Complete")
    method(table, job, "execute", 409)
    table.ended(job["job_id"])
    ended = table.call("GET", f"/tethys/jobs/{job['id']}/").get_json()
    assert (ended["status"], ended["actions"]["logs"]) == ("Complete", True)
    assert table.call("GET", f"/tethys/jobs/{job['id']}/logs/").get_json() == {"stdout": "ann\n", "stderr": ""}
    results = method(table, job, "process_results")
    assert results["status"] == "Results-Ready"
    assert table.call("GET", results["results"].removeprefix("http://testserver")).status_code == 200
    again = method(table, job, "resubmit")
    assert again["id"] > job["id"]
    method(table, job, "stop", 409)
    assert method(table, job, "delete") == {"success": True}
    assert table.call("GET", f"/tethys/jobs/{job['id']}/").get_json() is None


def test_pause_and_resume(table: InProcess) -> None:
    job = create(table, parameters={"who": "$(sleep 600)"})
    script = {"script": "#!/bin/sh\nsleep 600\n"}
    assert table.call("PATCH", f"/api/jobs/{job['job_id']}", json=script).status_code == 200
    method(table, job, "execute")
    table.running(job["job_id"])
    method(table, job, "pause")
    table.tick()
    paused = until(lambda: table.tick() is not None and method(table, job, "update_status")["status"] == "Paused")
    assert paused
    method(table, job, "delete", 409)
    method(table, job, "resume")
    method(table, job, "stop")
    assert table.ended(job["job_id"])["status"] == "ABORTED"
    assert table.call("GET", f"/tethys/jobs/{job['id']}/").get_json()["status"] == "Aborted"


def test_list_jobs(table: InProcess) -> None:
    """Sorted and filtered by any column, however deep."""
    made = [create(table, name=name, extended_properties={"a": {"b": name}}) for name in ("y", "z", "x")]
    ids = {job["id"] for job in made}

    def listed(query: str, **more: str) -> list[dict]:
        answer = table.call("GET", f"/tethys/jobs/?{query}", **more)
        assert answer.status_code == 200, answer.text
        return [job for job in answer.get_json() if job["id"] in ids]

    assert [job["name"] for job in listed("order_by=extended_properties.a.b")] == ["x", "y", "z"]
    assert [job["name"] for job in listed("order_by=-name")] == ["z", "y", "x"]
    assert [job["id"] for job in listed("user=ann")] == sorted(ids)
    assert [job["id"] for job in listed("extended_properties.a.b=z&status=Pending")] == [made[1]["id"]]
    assert listed("columns=extended_properties.a.b,nothing&name=x")[0]["extended_properties.a.b"] == "x"
    assert listed("user=ann2") == []
    assert listed("", user="bob") == []


def test_an_array_whose_tasks_differ(table: InProcess) -> None:
    job = table.submit("#!/bin/sh\nexit $((JOBGATE_TASK_ID % 2))\n", array="1-2")
    table.ended(job["job_id"])
    assert table.call("GET", f"/tethys/jobs/{job['number']}/").get_json()["status"] == "Various-Complete"


@pytest.mark.parametrize(
    ("verb", "path", "body", "status", "words"),
    [
        ("POST", "/tethys/jobs/", {"name": "n", "template_name": "X"}, 422, "A job template with name X was not defin"),
        ("POST", "/tethys/jobs/", {"name": "n"}, 422, "template_name"),
        ("POST", "/tethys/jobs/", {"template_name": "example", "user": "bob"}, 403, "may not use the account 'bob'"),
        ("POST", "/tethys/jobs/", {"template_name": "example", "name": []}, 422, "name"),
        ("POST", "/tethys/jobs/", [], 422, "JSON object"),
        ("GET", "/tethys/jobs/?user=bob", None, 403, "may not use the account 'bob'"),
        ("GET", "/tethys/jobs/999999/logs/", None, 404, "Job with 999999 not found"),
        ("POST", "/tethys/jobs/99999999999999999999999/stop/", None, 404, "not found"),
        ("POST", "/tethys/jobs/\u0661/stop/", None, 404, "not found"),
        ("GET", "/update-job-status/a%00b/", None, 404, "not found"),
        ("GET", "/update-job-status/%ff/", None, 404, "not found"),
        ("GET", "/update-job-status/1/?delay=301", None, 422, "delay"),
        ("GET", "/update-job-status/1/?delay=-1", None, 422, "delay"),
        ("DELETE", "/update-job-status/1/", None, 405, "DELETE"),
        ("BREW", "/tethys/jobs/", None, 405, "BREW"),
        ("GET", "/tethys/nothing/there", None, 404, "nothing at"),
        ("GET", "/tethys", None, 404, "nothing at"),
    ],
)
def test_mistakes_in_its_own_shape(
    table: InProcess, verb: str, path: str, body: object, status: int, words: str
) -> None:
    answer = table.call(verb, path, **({} if body is None else {"json": body}))
    assert answer.status_code == status, answer.text
    said = answer.get_json()
    assert said["success"] is False
    assert words in said["error"]


def test_any_value_can_be_sorted_by(table: InProcess) -> None:
    values = [None, 10**400, -1.5, True, "text", [1], {"b": None}]
    made = {create(table, extended_properties={"any": value})["id"] for value in values}
    listed = table.call("GET", "/tethys/jobs/?order_by=-extended_properties.any")
    assert listed.status_code == 200
    found = [job["extended_properties"]["any"] for job in listed.get_json() if job["id"] in made]
    assert found[-4:] == [10**400, True, -1.5, None]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    verb=some.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH"]),
    mount=some.sampled_from(["/update-job-status/", "/tethys/jobs/", "/tethys/"]),
    path=some.text(max_size=20),
    query=some.dictionaries(some.sampled_from(["user", "order_by", "delay", "columns"]) | some.text(), some.text()),
    body=some.binary(max_size=50) | some.just(b'{"template_name": "example", "name": 7, "user": [], "array": "9-1"}'),
)
def test_every_answer_is_json(
    table: InProcess, verb: str, mount: str, path: str, query: dict[str, str], body: bytes
) -> None:
    answer = table.call(verb, mount + path.replace("?", "").replace("#", ""), query_string=query, data=body)
    assert answer.status_code < 500, answer.text
    assert answer.get_json(force=True) is None or answer.status_code < 400 or answer.get_json()["success"] is False


def test_who_asks(table: InProcess) -> None:
    job = create(table)
    for path in (f"/update-job-status/{job['id']}/", f"/tethys/jobs/{job['id']}/logs/"):
        answer = table.call("GET", path, user=None)
        assert (answer.status_code, answer.get_json()["code"]) == (401, "proxy_missing")
        assert answer.headers["WWW-Authenticate"]
        assert table.call("GET", path, user="bob").status_code == 404
    assert table.call("GET", f"/tethys/jobs/{job['id']}/", user="bob").get_json() is None
