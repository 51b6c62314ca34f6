"""The audit trail: who did what to which job, from where, with which result."""

import json
import threading
from pathlib import Path

from gateway.audit import Audit, read
from gateway.model import Principal
from gateway.store import now
from tests.gateways import SUBJECTS, InProcess
from tests.test_cli import run


def trail(gateway: InProcess, **wanted: str) -> list[tuple]:
    lines = read(gateway.app.extensions["jobgate"].config.audit_log, **wanted)
    return [(line["subject"], line["action"], line["result"]) for line in lines]


def test_what_is_done_to_a_job(gateway: InProcess) -> None:
    job = gateway.submit("#!/bin/sh\n# SECRET\nsleep 60\n", environment={"A": "SECRET"})
    url = f"/api/jobs/{job['job_id']}"
    gateway.call("PATCH", url, json={"tag": "x"})
    gateway.call("PUT", url, user="bob", json={"action": "abort"})
    gateway.call("PUT", url, user="carol", json={"action": "abort"})
    gateway.ended(job["job_id"])
    gateway.call("PUT", url, json={"action": "abort"})
    gateway.call("DELETE", url)
    ann, bob, carol = SUBJECTS["ann"], SUBJECTS["bob"], SUBJECTS["carol"]
    expected = [
        (ann, "submit", "ok"),
        (ann, "edit", "ok"),
        (bob, "abort", "job_not_found"),
        (carol, "abort", "ok"),
        (ann, "abort", "conflict"),
        (ann, "delete", "ok"),
    ]
    assert trail(gateway, job=job["job_id"]) == expected
    assert trail(gateway, job=job["uuid"]) == [act for act in expected if act[0] != bob]
    assert trail(gateway, subject=bob) == [(bob, "abort", "job_not_found")]
    text = (gateway.folder / "state" / "audit.log").read_text()
    assert "SECRET" not in text
    first = json.loads(text.splitlines()[0])
    assert (first["account"], first["remote"], first["credential"]) == ("ann", "127.0.0.1", "proxy")
    assert first["path"] == "/api/jobs"
    assert len(first["request_id"]) == 32
    assert (gateway.folder / "state" / "audit.log").stat().st_mode & 0o777 == 0o600


def test_what_was_refused(gateway: InProcess) -> None:
    gateway.call("POST", "/api/jobs", json={"host": "nowhere", "script": "x"})
    gateway.call("POST", "/api/jobs", json={"host": "localhost", "script": "#!/bin/sh\r\n"})
    assert [act[1:] for act in trail(gateway)] == [("submit", "unknown_host"), ("submit", "refused_by_scheduler")]


def test_many_writers_keep_their_lines_apart(tmp_path: Path) -> None:
    audit = Audit(tmp_path / "audit.log")
    principal = Principal("/CN=Ann", ("ann",), now())

    def write(number: int) -> None:
        for _ in range(50):
            with audit.entry("act", principal, more="x" * 3000 + str(number)):
                pass

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(read(tmp_path / "audit.log"))) == 400


def test_a_trail_that_cannot_be_written_stops_nobody(gateway: InProcess, caplog) -> None:
    (gateway.folder / "state" / "audit.log").mkdir(parents=True)
    job = gateway.submit()
    assert "the audit trail cannot be written" in caplog.text
    assert job["uuid"] in caplog.text


def test_the_command(gateway: InProcess) -> None:
    job = gateway.submit()
    config = gateway.folder / "gateway.toml"
    done = run("audit", "--config", config, "--job", job["job_id"])
    assert json.loads(done.stdout)["action"] == "submit"
    nothing = run("audit", "--config", config, "--job", "99.localhost")
    assert (nothing.returncode, nothing.stdout) == (0, "")
    assert "nothing" in nothing.stderr


def test_the_command_without_a_trail(gateway: InProcess) -> None:
    done = run("audit", "--config", gateway.folder / "gateway.toml")
    assert done.returncode == 1
    assert "cannot be read" in done.stderr
    assert "Traceback" not in done.stderr
