"""The job manager at a real gateway."""

import io
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from gateway.client import JOB_TYPES as TYPES
from gateway.client import (
    BasicJobTemplate,
    CondorJobTemplate,
    Conflict,
    Job,
    JobManager,
    JobTemplate,
    Scheduler,
    UnknownHost,
    Unprocessable,
)
from tests.gateways import Server

HELLO = "#!/bin/sh\necho hello $1 $WORD; echo oops >&2\n"
FOR_EVER = "#!/bin/sh\nsleep 600\n"


def test_submit_wait_and_read(manager: JobManager) -> None:
    job = manager.submit(HELLO, name="greeting", environment={"WORD": "world"})
    assert job.wait(120) is job
    assert (job.status, job.state, job.exit_code, job.final) == ("FINISHED", "finished", 0, True)
    assert job.get_logs() == {"stdout": "hello world\n", "stderr": "oops\n"}
    assert b"".join(job.follow("stderr")) == b"oops\n"
    assert job.run_time == "00:00:00"
    assert job.display_status == "Complete"


def test_a_job_is_found_by_each_of_its_names(manager: JobManager, server: Server) -> None:
    job = manager.submit(HELLO)
    for name in (job.id, str(job.id), job.job_id, job.uuid):
        found = manager.get_job(job_id=name)  # type: ignore[arg-type]
        assert found, name
        assert found.uuid == job.uuid
    assert manager.get_job(job_id="no.such") is None
    assert manager.get_job(10**9) is None
    with JobManager(server.url, token="jgt_x") as other:
        other.connection._headers = lambda: server.world.headers["bob"]
        assert other.get_job(job.id or 0) is None
        assert other.get_job(str(job.uuid)) is None


def test_a_job_of_a_template_is_changed_saved_and_executed(manager: JobManager) -> None:
    manager.templates["example"] = BasicJobTemplate("example", {"script": HELLO, "environment": {"WORD": "x"}})
    user = SimpleNamespace(username="dora")
    job = manager.create_job(name="job_name", user=user, template_name="example", description="my first job")
    assert (job.id, job.status, job.display_status) == (None, None, "Pending")
    job.set_attribute("environment", {"WORD": "y"})
    job.extended_properties["paper"] = {"number": 7}
    job.save()
    assert (job.state, job.name, job.description, job.user) == ("draft", "job_name", "my first job", "dora")
    again = manager.get_job(job.id or 0, user=user)
    assert again
    again.set_attribute("environment", {"WORD": "z"})
    again.execute()
    assert again.wait(120).get_logs()["stdout"] == "hello z\n"
    assert again.extended_properties["paper"] == {"number": 7}
    assert manager.get_job(job.id or 0, user="nobody") is None


def test_what_was_submitted_keeps_its_notes_alone(manager: JobManager) -> None:
    job = manager.submit(HELLO).wait(120)
    job.extended_properties["seen"] = True
    job.set_attribute("description", "old")
    job.save()
    job.update_status()
    assert (job.description, job.extended_properties) == ("old", {"seen": True})
    job.set_attribute("script", FOR_EVER)
    with pytest.raises(Conflict):
        job.save()


def test_templates_that_there_are_not(manager: JobManager) -> None:
    with pytest.raises(KeyError, match="A job template with name x was not defined"):
        manager.create_job("name", None, "x")
    manager.templates["plain"] = JobTemplate("plain", TYPES["BASIC"], {"script": HELLO})
    with pytest.raises(TypeError, match="a BASIC job has no 'colour'"):
        manager.create_job("name", None, "plain", colour="red")
    with pytest.raises(AttributeError, match="has no 'colour'"):
        manager.create_job("name", None, "plain").set_attribute("colour", "red")


def test_a_template_of_the_gateway(manager: JobManager) -> None:
    declared = {"who": {"required": True}}
    body = {"name": "greet", "script": "#!/bin/sh\necho hello {{ who }}\n", "parameters": declared}
    manager.connection.call("POST", "/api/templates", json=body)
    job = manager.create_job("g", "dora", "greet", who="$HOME `id`", tag="of-template")
    job.execute()
    assert job.wait(120).get_logs()["stdout"] == "hello $HOME `id`\n"
    assert [each.uuid for each in manager.list_jobs(filters={"tag": "of-template"})] == [job.uuid]
    with pytest.raises(Unprocessable, match="who"):
        manager.create_job("g", "dora", "greet").execute()


def test_a_condor_job_brings_its_files_and_takes_its_results(manager: JobManager, tmp_path: Path) -> None:
    app, own = (Path(folder) for folder in manager.workspaces.of("dora").values())
    app.mkdir(parents=True)
    own.mkdir(parents=True)
    (app / "my_script.py").write_text(
        "#!/usr/bin/env python3\nimport sys\n"
        "open('example_output1', 'w').write(open('input_1').read() + open(sys.argv[1]).read())\n"
    )
    (app / "input_1").write_text("one\n")
    (own / "input_2").write_text("two\n")
    manager.templates["example"] = CondorJobTemplate(
        name="example",
        parameters={
            "executable": "my_script.py",
            "condorpy_template_name": "vanilla_transfer_files",
            "attributes": {
                "transfer_input_files": ("../input_1", "../input_2"),
                "transfer_output_files": ("example_output1",),
            },
            "scheduler": manager.list_schedulers()[0],
            "remote_input_files": (
                "$(APP_WORKSPACE)/my_script.py",
                "$(APP_WORKSPACE)/input_1",
                "$(USER_WORKSPACE)/input_2",
            ),
        },
    )
    job = manager.create_job("job_name", "dora", "example")
    job.set_attribute("arguments", "input_2")
    job.execute()
    assert job.wait(120).status == "FINISHED", job.get_logs()
    assert dict(job.results) == {"example_output1": b"one\ntwo\n"}
    assert len(job.results) == 1
    assert [path.read_text() for path in job.results.download(tmp_path / "got")] == ["one\ntwo\n"]
    with pytest.raises(KeyError):
        job.results["nothing"]


def test_a_condor_job_that_cannot_be_honoured(manager: JobManager) -> None:
    manager.templates["bad"] = CondorJobTemplate("bad", {"executable": "true"})
    job = manager.create_job("x", None, "bad", attributes={"universe": "java"})
    with pytest.raises(Unprocessable, match="attributes cannot be honoured: universe"):
        job.execute()
    missing = manager.create_job("x", None, "bad", remote_input_files=["/nowhere/x"])
    with pytest.raises(Unprocessable, match="/nowhere/x cannot be read"):
        missing.execute()
    job = manager.create_job("x", None, "bad", num_jobs=3)
    job.set_attribute("request_cpus", 2)
    job.set_attribute("scheduler", Scheduler("localhost"))
    assert {name: job.request()[name] for name in ("array", "cores", "host")} == {
        "array": "1-3",
        "cores": 2,
        "host": "localhost",
    }


def test_lists_in_order_and_by_what_is_kept(manager: JobManager) -> None:
    requests = [{"script": HELLO, "name": name, "draft": True, "tag": "listed"} for name in ("b", "c", "a")]
    made = manager.submit_all(requests)
    assert all(isinstance(job, Job) for job in made)
    assert [job.name for job in manager.list_jobs(order_by="name", filters={"tag": "listed"})] == ["a", "b", "c"]
    newest_first = sorted((job.id for job in made), reverse=True)  # type: ignore[union-attr,type-var]
    assert [job.id for job in manager.list_jobs(order_by="-id", filters={"tag": "listed"})] == newest_first
    first = made[0]
    assert isinstance(first, Job)
    first.extended_properties["a"] = {"b": "yes"}
    first.save()
    found = manager.list_jobs(filters={"extended_properties.a.b": "yes"})
    assert [job.uuid for job in found] == [first.uuid]
    for job in made:
        assert isinstance(job, Job)
        job.delete()
    assert manager.list_jobs(filters={"tag": "listed"}) == []


def test_many_at_once_of_which_one_is_wrong(manager: JobManager) -> None:
    good, bad = manager.submit_all([{"script": HELLO}, {"script": HELLO, "host": "nowhere"}])
    assert isinstance(good, Job)
    assert isinstance(bad, UnknownHost)
    assert manager.submit_all([]) == []


def test_a_long_list_comes_in_pages(manager: JobManager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.client.manager.PAGE", "2")
    made = manager.submit_all([{"script": HELLO, "draft": True, "tag": "paged"} for _ in range(5)])
    assert len(manager.list_jobs(filters={"tag": "paged"})) == 5
    assert len({job.uuid for job in made}) == 5  # type: ignore[union-attr]


def test_steering(manager: JobManager) -> None:
    job = manager.submit(FOR_EVER, hold=True)
    assert job.state == "held"
    job.release()
    while job.status == "QUEUED":
        job.wait_for_change(5)
    job.suspend()
    while job.state != "suspended":
        job.wait_for_change(5)
    assert job.display_status == "Paused"
    job.resume()
    with pytest.raises(TimeoutError, match="is still"):
        job.wait(0.2)
    job.stop()
    assert job.wait(120).status == "ABORTED"
    with pytest.raises(Conflict):
        job.stop()


def test_once_more_as_another_job_and_as_the_same(manager: JobManager) -> None:
    job = manager.submit("#!/bin/sh\nexit 3\n").wait(120)
    other = job.resubmit()
    assert other.id != job.id
    assert other.as_json["resubmitted_from"] == job.job_id
    number, uuid, before = job.id, job.uuid, job.job_id
    job.reset(clean=True)
    assert (job.state, job.exit_code) == ("draft", None)
    job.set_attribute("script", HELLO)
    job.execute()
    assert job.wait(120).status == "FINISHED"
    assert (job.id, job.uuid) == (number, uuid)
    assert job.job_id != before
    history = manager.connection.json("GET", f"/api/jobs/{uuid}/events")
    assert [event["state"] for event in history if event["state"] in ("failed", "draft", "finished")] == [
        "failed",
        "draft",
        "finished",
    ]


def test_an_array(manager: JobManager) -> None:
    job = manager.submit("#!/bin/sh\necho $JOBGATE_TASK_ID; exit $((JOBGATE_TASK_ID - 1))\n", array="1-2").wait(120)
    assert job.get_logs() == {"1/stdout": "1\n", "1/stderr": "", "2/stdout": "2\n", "2/stderr": ""}
    assert [*job.tasks("ERROR")] == [2]
    assert job.display_status == "Various"
    failed = job.resubmit(tasks="failed")
    assert failed.as_json["array"] == "2"


def test_a_bundle_and_how_much_of_it_is_sent(manager: JobManager, tmp_path: Path) -> None:
    program = b'#!/bin/sh\ncat "$JOBGATE_INPUT/words"; echo $1\n'
    bundle = tmp_path / "bundle.tar.gz"
    with tarfile.open(bundle, "w:gz") as archive:
        member = tarfile.TarInfo("run.sh")
        member.size, member.mode = len(program), 0o755
        archive.addfile(member, io.BytesIO(program))
    (tmp_path / "words").write_text("to be\n")
    sent: list[int] = []
    job = manager.submit_bundle(bundle, [tmp_path / "words"], progress=sent.append, arguments=["or not"])
    assert job.wait(120).get_logs()["stdout"] == "to be\nor not\n"
    assert sum(sent) == bundle.stat().st_size + len("to be\n")
    with pytest.raises(Unprocessable, match="nothing cannot be read"):
        manager.submit_bundle(tmp_path / "nothing")


def test_a_job_that_is_not_saved_cannot_be_steered(manager: JobManager) -> None:
    manager.templates["plain"] = BasicJobTemplate("plain", {"script": HELLO})
    with pytest.raises(Conflict, match="not saved yet"):
        manager.create_job("x", None, "plain").stop()


def test_places(manager: JobManager) -> None:
    assert [host["name"] for host in manager.hosts()] == ["localhost"]
    assert manager.list_schedulers() == [Scheduler("localhost", "local")]
    assert manager.default_host == "localhost"


def test_the_callback_url_has_the_gateway_look(manager: JobManager) -> None:
    job = manager.submit(HELLO)
    url = manager.get_job_status_callback_url(object(), job.id)
    assert url == f"{manager.connection.settings.url}/update-job-status/{job.id}/"
    assert manager.connection.json("GET", url) == {"success": True}
