"""The MODAClouds batch engine's document, call by call: paths, words and keys are what it prints."""

import io
import json
import re
import tarfile
import zipfile
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from tests.cluster.fixture import _turn_on_the_cluster, cluster
from tests.dialects.documents import paste
from tests.gateways import InProcess, Server, World, until
from tests.test_bundles import member, tar
from tests.test_clusters import host_section
from tests.test_notify import receiving, telling

__all__ = ["_turn_on_the_cluster", "cluster", "telling"]

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
DATE = re.compile(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d -0000")
KEYS = {
    "backend_job_status": str,
    "cluster_id": int,
    "exit_by_signal": bool,
    "exit_status": int,
    "global_job_id": str,
    "id": str,
    "image_size": type(None),
    "job_completion_date": str,
    "job_current_start_date": str,
    "job_priority": int,
    "job_run_count": int,
    "job_start_date": str,
    "job_status": str,
    "job_universe": str,
    "local_user_cpu": str,
    "previous_job_status": str,
    "proc_id": int,
}
PROGRAM = b"""#!/bin/sh
[ "$(pwd -P)" = "$(cd "$JOBGATE_JOB/bundle" && pwd -P)" ] && [ -d "$MODACLOUDS_BATCH_SCRATCH_DIRECTORY" ] || exit 1
printf '%s|' "$@"; cat data
cp "$MODACLOUDS_BATCH_INPUT" "$MODACLOUDS_BATCH_OUTPUT/copy"
echo beside >&2
exit 3
"""
SLEEP = b"#!/bin/sh\nsleep 600\n"
SUBMIT = "curl -v --data-urlencode 'job-bundle@setup.py' -X POST http://localhost:5000/jobs"
LIST = "curl http://localhost:5000/jobs"
SHOW = "curl http://localhost:5000/jobs/7db1718a-3480-4200-aac5-fdf772c4a149"
CONTROL = "curl http://localhost:5000/jobs/<uuid:job_id>/<string:action>"
ARTIFACT = "curl http://localhost:5000/jobs/<uuid:job_id>/artifacts/<string:artifact>"


def ask(server: Server, line: str, job: str = "", word: str = "", user: str = "ann") -> tuple[int, Any]:
    for shown in ("<uuid:job_id>", "7db1718a-3480-4200-aac5-fdf772c4a149"):
        line = line.replace(shown, job)
    line = re.sub(r"<string:\w+>", word, line)
    status, body = paste(server, line.replace("http://localhost:5000", server.url), user)
    return status, json.loads(body) if body.startswith(("{", "[")) else body


def post(server: Server | InProcess, bundle: bytes, user: str = "ann", **values: str | bytes) -> httpx.Response:
    names = {f"job-{name}": value for name, value in values.items()}
    files = {name: ("f", value) for name, value in names.items() if isinstance(value, bytes)}
    data = {name: value for name, value in names.items() if isinstance(value, str)}
    return server.call("POST", "/jobs", user=user, files={"job-bundle": ("b.tar.gz", bundle), **files}, data=data)


def submit(server: Server, bundle: bytes, user: str = "ann", **values: str | bytes) -> dict[str, Any]:
    answer = post(server, bundle, user, **values)
    assert answer.status_code == 200, answer.text
    assert answer.json().keys() == {"job_id", "backend_id"}
    assert UUID.fullmatch(answer.json()["job_id"])
    return answer.json()


def bundle(program: bytes) -> bytes:
    return tar(member("data", b"DATA\n"), run=program).getvalue()


def in_status(server: Server, job_id: str, status: str, seconds: float = 120) -> dict[str, Any]:
    def there() -> dict[str, Any] | None:
        code, shown = ask(server, SHOW, job_id)
        assert code == 200
        return shown if shown["job_status"] == status else None

    return until(there, f"the job did not become {status}", seconds)


@pytest.fixture(scope="module", params=["local", "htcondor"])
def engine(request: pytest.FixtureRequest, world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A gateway whose jobs go to the local backend, and one whose dialect has HTCondor of the real cluster for them."""
    folder = tmp_path_factory.mktemp("engine")
    if request.param == "local":
        with Server(world, folder, host="slots = 1\n") as server:
            yield server
        return
    condor = host_section("htcondor", "condor.example.org", request.getfixturevalue("cluster"))
    there = World(folder, {"ann": "alice", "bob": "bob", "carol": "carol"}, world.databases)
    with Server(there, folder, host=f'{condor}\n[dialects.modaclouds]\nhost = "condor.example.org"\n') as server:
        yield server


def host_of(engine: Server) -> str:
    return "condor.example.org" if "condor.example.org" in engine.config.read_text() else "localhost"


def test_the_documents_submission(engine: Server) -> None:
    """Its example sends a file that is no bundle at all."""
    (engine.folder / "setup.py").write_bytes(b"from setuptools import setup\nsetup(name='\xff')\n")
    status, job = ask(engine, SUBMIT)
    assert (status, job.keys()) == (200, {"job_id", "backend_id"})
    assert UUID.fullmatch(job["job_id"])
    assert isinstance(job["backend_id"], int)
    assert in_status(engine, job["job_id"], "completed")["exit_status"] == 1
    assert ask(engine, ARTIFACT, job["job_id"], "stderr") == (200, "Invalid bundle! Missing entrypoint\n")
    listed = ask(engine, LIST)[1]
    assert {"id": job["job_id"], "job_status": "completed"} in listed


def test_a_bundle_from_its_submission_to_its_artifacts(engine: Server) -> None:
    given = {"name": "my job", "input": b"INPUT", "arguments": "one 'two three' $(four)"}
    job = submit(engine, bundle(PROGRAM), **given)
    done = in_status(engine, job["job_id"], "completed")
    assert {name: type(value) for name, value in done.items()} == KEYS
    assert (done["id"], done["cluster_id"], done["exit_status"]) == (job["job_id"], job["backend_id"], 3)
    assert (done["exit_by_signal"], done["job_universe"], done["job_run_count"]) == (False, "vanilla", 1)
    assert done["previous_job_status"] in ("idle", "running")
    assert re.fullmatch(rf"{host_of(engine)}#{job['backend_id']}(\.0)?#\d+", done["global_job_id"])
    for name in ("job_start_date", "job_current_start_date", "job_completion_date"):
        assert DATE.fullmatch(done[name])
    assert ask(engine, ARTIFACT, job["job_id"], "stdout") == (200, "one|two three|$(four)|DATA\n")
    assert ask(engine, ARTIFACT, job["job_id"], "stderr") == (200, "beside\n")
    output = engine.call("GET", f"/jobs/{job['job_id']}/artifacts/output").content
    with tarfile.open(fileobj=io.BytesIO(output), mode="r:gz") as archive:
        copy = archive.extractfile("./copy")
        assert copy
        assert copy.read() == b"INPUT"
    log = ask(engine, ARTIFACT, job["job_id"], "_userlog")[1]
    assert re.match(r"000 \(\d{3,}\.000\.000\) \d{4}-\d\d-\d\d \d\d:\d\d:\d\d Job submitted\.\n\.\.\.\n", log)
    assert "Job terminated." in log
    native = engine.call("GET", f"/api/jobs/{job['job_id']}").json()
    assert (native["name"], native["host"]) == ("my job", host_of(engine))
    assert engine.call("GET", f"/tethys/jobs/{job['job_id']}/").json()["status"] == "Error"


def test_control(engine: Server) -> None:
    """Every action of the document, with GET as documented and with PUT as the engine had it."""
    job = submit(engine, bundle(SLEEP))["job_id"]
    in_status(engine, job, "running")

    def act(action: str, seen: str, put: bool = False) -> None:
        line = CONTROL.replace("curl", "curl -X PUT") if put else CONTROL
        assert ask(engine, line, job, action) == (200, {"result": [job, action]})
        url = f"/api/jobs/{job}"
        until(lambda: engine.call("GET", url).json()["state"] == seen, f"the job did not become {seen}", 120)

    act("suspend", "suspended")
    act("continue", "running", put=True)
    act("remove", "cancelled")
    assert in_status(engine, job, "removed")["backend_job_status"]
    assert ask(engine, CONTROL, job, "remove")[0] == 200
    status, said = ask(engine, CONTROL, job, "hold")
    assert (status, "cancelled already" in said["message"]) == (409, True)


def test_hold_and_release(engine: Server) -> None:
    """Of a job that cannot begin: on HTCondor it is too large, here another has the only slot."""
    first = submit(engine, bundle(SLEEP))["job_id"]
    large = {"cores": 1000} if host_of(engine) != "localhost" else {}
    waiting = engine.submit("#!/bin/sh\n", host=host_of(engine), **large)["uuid"]
    in_status(engine, waiting, "idle")
    for put in ("", "-X PUT "):
        for action, seen in (("hold", "held"), ("release", "idle")):
            line = CONTROL.replace("curl ", f"curl {put}")
            assert ask(engine, line, waiting, action) == (200, {"result": [waiting, action]})
            in_status(engine, waiting, seen)
    for job in (waiting, first):
        assert engine.call("DELETE", f"/jobs/{job}").json() == {"result": [job, "remove"]}
        in_status(engine, job, "removed")


def test_what_is_not_there(engine: Server) -> None:
    job = submit(engine, bundle(b"#!/bin/sh\n"))["job_id"]
    assert ask(engine, CONTROL, job, "explode") == (
        400,
        {
            "message": "Action explode is not known; known are: remove, hold, continue, release, suspend",
            "code": "unreadable",
            "errors": {},
        },
    )
    assert ask(engine, ARTIFACT, job, "wishes")[0] == 404
    unknown = "7db1718a-3480-4200-aac5-fdf772c4a149"
    for name, user in ((unknown, "ann"), (job, "bob"), ("1234", "ann")):
        for line in (SHOW, CONTROL, ARTIFACT, SHOW.replace("curl", "curl -X DELETE")):
            word = "hold" if line == CONTROL else "stdout"
            status, said = ask(engine, line, name, word, user=user)
            assert (status, said["message"]) == (404, f"Job {name} doesn't exist")
    assert job not in [one["id"] for one in ask(engine, LIST, user="bob")[1]]


@pytest.fixture(scope="module")
def gateway(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with InProcess(world, tmp_path_factory.mktemp("modaclouds")) as gateway:
        yield gateway


def test_the_swagger_ui(gateway: InProcess) -> None:
    answer = gateway.call("GET", "/api/spec.html", user=None)
    assert (answer.status_code, answer.headers["Location"]) == (302, "/api/docs")
    assert "swagger" in gateway.call("GET", "/api/docs", user=None).text.lower()


def refused(gateway: InProcess, data: dict[str, Any] | bytes, kind: str = "multipart/form-data") -> tuple[int, dict]:
    answer = gateway.call("POST", "/jobs", data=data, content_type=kind)
    said = answer.get_json()
    assert said.keys() >= {"message", "code", "errors"}
    assert answer.status_code < 500
    return answer.status_code, said


def zip_of(name: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, "x")
    return file.getvalue()


@pytest.mark.parametrize(
    ("archive", "words"),
    [
        (bundle(SLEEP)[:80], "cannot be read to its end"),
        (b"\x1f\x8b" + b"junk" * 20, "cannot be read to its end"),
        (b"PK\x03\x04junk", "cannot be read to its end"),
        (zip_of("../out"), "leads out of it"),
        (tar(member("/etc/passwd", b"x")).getvalue(), "absolute name"),
        (tar(member("link", kind=tarfile.SYMTYPE, target="../../..")).getvalue(), "points out of it"),
        (b"\xfd7zXZ\x00\x00", "compressed with xz"),
    ],
    ids=["cut", "gzip", "zip", "dots", "absolute", "link", "xz"],
)
def test_a_bad_archive(gateway: InProcess, archive: bytes, words: str) -> None:
    status, said = refused(gateway, {"job-bundle": (io.BytesIO(archive), "b.tar.gz")})
    assert (status, words in said["errors"]["job-bundle"][0]) == (422, True), said
    assert gateway.call("GET", "/jobs").get_json() == []


@pytest.mark.parametrize(
    ("more", "status", "name"),
    [
        ({"job-name": "x" * 256}, 422, "job-name"),
        ({"job-name": "a\0b"}, 422, "job-name"),
        ({"job-arguments": "an 'open quote"}, 422, "job-arguments"),
        ({"job-notification": "http://127.0.0.1/"}, 422, "job-notification"),
        ({"job-notification": "ftp://example.org/"}, 422, "job-notification"),
    ],
)
def test_bad_values(gateway: InProcess, more: dict[str, str], status: int, name: str) -> None:
    found, said = refused(gateway, {"job-bundle": (io.BytesIO(bundle(SLEEP)), "b.tar.gz"), **more})
    assert (found, list(said["errors"])) == (status, [name]), said


def test_a_form_that_cannot_be_read(gateway: InProcess) -> None:
    assert refused(gateway, {"job-name": "x"})[0] == 400
    assert refused(gateway, b"", "application/json")[0] == 400
    assert refused(gateway, b"--x\r\nnothing", "multipart/form-data; boundary=x")[0] == 400
    assert refused(gateway, b"&".join([b"a=b"] * 2000), "application/x-www-form-urlencoded")[0] == 400
    assert refused(gateway, b"job-bundle=" + b"x" * (9 << 20), "application/x-www-form-urlencoded")[0] == 413


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    verb=some.sampled_from(["GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "HEAD", "BREW"]),
    path=some.text(max_size=30),
    kind=some.sampled_from(["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain"]),
    body=some.binary(max_size=200),
)
def test_no_request_is_a_fault_of_ours(gateway: InProcess, verb: str, path: str, kind: str, body: bytes) -> None:
    answer = gateway.call(verb, "/jobs/" + path.replace("?", ""), data=body, content_type=kind)
    assert answer.status_code < 500
    if answer.status_code >= 400 and verb != "HEAD":
        assert answer.get_json()["message"]


def test_a_notification_has_its_words(telling: InProcess) -> None:
    with receiving() as receiver:
        data = {
            "job-bundle": (io.BytesIO(bundle(b"#!/bin/sh\nexit 3\n")), "b.tar.gz"),
            "job-notification": receiver.url,
        }
        answer = telling.call("POST", "/jobs", data=data, content_type="multipart/form-data")
        job = answer.get_json()["job_id"]
        telling.ended(job)
        until(lambda: telling.tick() is not None and receiver.received)
    told = json.loads(receiver.received[0][1])
    assert (told["job-uuid"], told["retcode"]) == (job, 3)
