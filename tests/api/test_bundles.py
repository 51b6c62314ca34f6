"""Bundles over HTTP: a form with files becomes a workspace on the host and a job in it."""

import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway import workspaces
from gateway.errors import HostDown
from tests.gateways import InProcess, World, error, until
from tests.test_bundles import member, tar

PROGRAM = b"""#!/bin/sh
cat "$JOBGATE_INPUT/a.txt" "$JOBGATE_INPUT/b.tar.gz" > "$JOBGATE_OUTPUT/result"
mkdir "$JOBGATE_OUTPUT/sub"; echo deep > "$JOBGATE_OUTPUT/sub/file"; ln -s /etc/hostname "$JOBGATE_OUTPUT/link"
touch "$JOBGATE_SCRATCH/there"
printf '%s|' "$@"
cat data
[ "$PWD" = "$JOBGATE_JOB/bundle" ] && echo here
"""
ARGUMENTS = ["one two", "$(touch mark)", "it's\n#$ -N y"]


PLAIN = tar(member("data", b"DATA\n"), run=PROGRAM)  # made once: the time of its making is in it


def form(archive: io.BytesIO | None = None, inputs: dict[str, bytes] | None = None, **job: Any) -> dict[str, Any]:
    archive = archive or PLAIN
    files = [(io.BytesIO(data), name) for name, data in (inputs or {"a.txt": b"A", "b.tar.gz": b"B"}).items()]
    job = {"host": "localhost", **job}
    return {"job": json.dumps(job), "bundle": (io.BytesIO(archive.getvalue()), "b.tar.gz"), "inputs": files}


def post(gateway: InProcess, data: dict[str, Any], **more: Any):
    return gateway.call("POST", "/api/jobs", data=data, content_type="multipart/form-data", **more)


def submitted(gateway: InProcess, **job: Any) -> dict[str, Any]:
    answer = post(gateway, form(**job))
    assert answer.status_code == 201, answer.text
    return answer.get_json()


def get(gateway: InProcess, job: dict[str, Any], path: str):
    return gateway.call("GET", f"/api/jobs/{job['job_id']}/{path}")


def left_over(gateway: InProcess) -> list[str]:
    root = gateway.folder / "state" / "home" / "ann" / ".jobgate"
    return sorted(path.name for path in root.iterdir()) if root.exists() else []


def spooled(gateway: InProcess) -> list[Path]:
    folder = gateway.folder / "state" / "uploads"
    return list(folder.iterdir()) if folder.exists() else []


def test_a_bundle_runs(gateway: InProcess) -> None:
    job = gateway.ended(submitted(gateway, arguments=ARGUMENTS, name="b", tag="t")["job_id"])
    assert (job["status"], job["exit_code"], job["tag"]) == ("FINISHED", 0, "t"), get(gateway, job, "stderr").text
    assert get(gateway, job, "stdout").text == "one two|$(touch mark)|it's\n#$ -N y|DATA\nhere\n"
    assert job["working_directory"].endswith(f"/.jobgate/{job['uuid']}/bundle")
    assert Path(job["working_directory"]).parent.stat().st_mode & 0o777 == 0o700
    listed = {one["path"]: one["size"] for one in get(gateway, job, "files/").get_json()}
    assert listed == {"result": 2, "sub/file": 5}
    assert get(gateway, job, "files/result").data == b"AB"
    assert get(gateway, job, "files/../bundle/data").status_code in (403, 404)
    assert spooled(gateway) == []


def test_an_array_of_a_bundle(gateway: InProcess) -> None:
    script = b'#!/bin/sh\necho "$1" > "$JOBGATE_OUTPUT/$JOBGATE_TASK_ID"\n'
    job = post(gateway, form(tar(run=script), array="1-5:2", arguments=["x"])).get_json()
    assert gateway.ended(job["job_id"])["status"] == "FINISHED"
    assert [one["path"] for one in get(gateway, job, "files/").get_json()] == ["1", "3", "5"]


def test_two_with_one_key_at_once(gateway: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have their bundle on the host when the key is taken."""
    key = {"Idempotency-Key": "twice"}
    first = post(gateway, form(hold=True), headers=key).get_json()
    monkeypatch.setattr(gateway.services.jobs, "_known", lambda *_: None)
    second = post(gateway, form(hold=True), headers=key)
    assert (second.status_code, second.get_json()["uuid"]) == (200, first["uuid"])
    until(lambda: left_over(gateway) == [first["uuid"]])


def test_its_output(gateway: InProcess) -> None:
    job = gateway.ended(submitted(gateway)["job_id"])
    answer = get(gateway, job, "output")
    assert answer.content_type == "application/gzip"
    assert f"{job['job_id']}.tar.gz" in answer.headers["Content-Disposition"]
    with tarfile.open(fileobj=io.BytesIO(answer.data)) as archive:
        names = {info.name: info for info in archive}
        assert set(names) == {".", "./result", "./sub", "./sub/file", "./link"}
        assert names["./link"].issym()
        content = archive.extractfile("./result")
        assert content
        assert content.read() == b"AB"


def test_the_output_of_a_job_without_a_workspace(gateway: InProcess) -> None:
    folder = gateway.folder / "work"
    job = gateway.ended(gateway.submit("#!/bin/sh\necho hello\n", working_directory=str(folder))["job_id"])
    with tarfile.open(fileobj=io.BytesIO(get(gateway, job, "output").data)) as archive:
        assert archive.getnames() == [".", "./job.o1", "./job.e1"] or "./job.o1" in archive.getnames()
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    answer = get(gateway, job, "output")
    assert (answer.status_code, error(answer)["code"]) == (404, "no_output_yet")


def test_an_output_folder_that_became_a_link(gateway: InProcess) -> None:
    script = b'#!/bin/sh\nrmdir "$JOBGATE_OUTPUT"; ln -s /etc "$JOBGATE_OUTPUT"\n'
    job = gateway.ended(post(gateway, form(tar(run=script))).get_json()["job_id"])
    answer = get(gateway, job, "output")
    assert (answer.status_code, error(answer)["code"]) == (403, "forbidden")


def test_the_script_is_what_starts_it(gateway: InProcess) -> None:
    job = submitted(gateway, arguments=["x"], hold=True)
    assert job["state"] == "held"
    assert get(gateway, job, "script").text.endswith("exec ./run.sh x\n")


def test_delete_takes_the_workspace_away(gateway: InProcess) -> None:
    script = b"#!/bin/sh\nmkdir -p $JOBGATE_SCRATCH/a/b; chmod 0 $JOBGATE_SCRATCH/a; ln -s / $JOBGATE_SCRATCH/root\n"
    other = submitted(gateway, hold=True)
    job = gateway.ended(post(gateway, form(tar(run=script))).get_json()["job_id"])
    assert left_over(gateway) == sorted([job["uuid"], other["uuid"]])
    assert gateway.call("DELETE", f"/api/jobs/{job['job_id']}").status_code == 204
    until(lambda: left_over(gateway) == [other["uuid"]])


def test_a_refused_job_leaves_nothing(gateway: InProcess) -> None:
    answer = post(gateway, form(cores=99))
    assert (answer.status_code, error(answer)["code"]) == (422, "refused_by_scheduler")
    until(lambda: left_over(gateway) == [])
    assert gateway.call("GET", "/api/jobs").get_json() == []


def test_a_host_that_cannot_keep_it(world: World, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with InProcess(world, tmp_path, host=f'workspace = "{tmp_path}/file/here"') as gateway:
        answer = post(gateway, form())
        assert (answer.status_code, error(answer)["code"]) == (422, "workspace_failed")
        assert error(answer)["error_output"]


def test_a_workspace_elsewhere(world: World, tmp_path: Path) -> None:
    with InProcess(world, tmp_path, host=f'workspace = "{tmp_path}/scratch/{{account}}"') as gateway:
        job = gateway.ended(submitted(gateway)["job_id"])
        assert job["working_directory"] == f"{tmp_path}/scratch/ann/{job['uuid']}/bundle"
        assert job["status"] == "FINISHED"


def test_the_same_key_is_the_same_job(gateway: InProcess) -> None:
    """Whatever the boundary; not with another bundle, input or field."""
    key = {"Idempotency-Key": "once"}
    first = post(gateway, form(hold=True), headers=key)
    again = post(gateway, form(hold=True), headers=key)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.get_json()["uuid"] == again.get_json()["uuid"]
    assert left_over(gateway) == [first.get_json()["uuid"]]
    for other in (form(hold=True, tag="x"), form(tar(), hold=True), form(inputs={"a.txt": b"C"}, hold=True)):
        answer = post(gateway, other, headers=key)
        assert (answer.status_code, error(answer)["code"]) == (422, "key_reused")


def test_a_draft_of_a_bundle(gateway: InProcess) -> None:
    draft = submitted(gateway, draft=True)
    assert draft["state"] == "draft"
    url = f"/api/jobs/{draft['uuid']}"
    for field in ({"working_directory": "/tmp"}, {"script": "#!/bin/sh\n"}, {"account": "ann2"}, {"host": "localhost"}):
        assert gateway.call("PATCH", url, json=field).status_code == 422
    assert gateway.call("PATCH", url, json={"name": "other", "environment": {"A": "b"}}).status_code == 200
    assert gateway.call("PUT", url, json={"action": "execute"}).status_code == 201
    assert gateway.ended(draft["uuid"])["status"] == "FINISHED"


def test_resubmitted(gateway: InProcess) -> None:
    old = gateway.ended(submitted(gateway, arguments=["again"])["job_id"])
    answer = gateway.call("PUT", f"/api/jobs/{old['job_id']}", json={"action": "resubmit"})
    assert answer.status_code == 201, answer.text
    new = gateway.ended(answer.get_json()["job_id"])
    assert new["working_directory"].endswith(f"/.jobgate/{new['uuid']}/bundle")
    assert get(gateway, new, "stdout").text == "again|DATA\nhere\n"
    assert get(gateway, new, "files/result").data == b"AB"
    gateway.call("DELETE", f"/api/jobs/{old['job_id']}")
    until(lambda: left_over(gateway) == [new["uuid"]])
    assert get(gateway, new, "files/result").data == b"AB"
    Path(new["working_directory"]).rename(gateway.folder / "moved")
    answer = gateway.call("PUT", f"/api/jobs/{new['job_id']}", json={"action": "resubmit"})
    assert (answer.status_code, error(answer)["code"]) == (409, "conflict")


def test_a_crash_before_the_job_is_written_down(gateway: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left is a folder, which `.part` marks or not, and no job."""
    monkeypatch.setattr(gateway.services.repository, "add_job", _die)
    with pytest.raises(KeyboardInterrupt):
        post(gateway, form())
    assert len(left_over(gateway)) == 1
    monkeypatch.undo()
    assert gateway.call("GET", "/api/jobs").get_json() == []


def test_a_crash_after_it_is_handed_over_again(gateway: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = gateway.services.hosts.by_name["localhost"].backend
    monkeypatch.setattr(backend, "submit", _die)
    with pytest.raises(KeyboardInterrupt):
        post(gateway, form())
    monkeypatch.undo()
    (job,) = gateway.call("GET", "/api/jobs").get_json()
    assert job["state"] == "submitting"
    gateway.services.ticker.sync.clock = _later()
    ended = until(
        lambda: gateway.tick() is not None and (now := gateway.job(job["uuid"]))["status"] != "QUEUED" and now
    )
    assert gateway.ended(ended["uuid"])["status"] == "FINISHED"
    assert get(gateway, ended, "files/result").data == b"AB"


def _die(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def _later():
    """A clock in which minutes pass between two looks."""
    import time

    ahead = iter(range(0, 10_000_000, 60))
    return lambda: time.time() + next(ahead)


def test_what_a_crash_left_is_removed_a_day_later(gateway: InProcess) -> None:
    old, young = (gateway.folder / "state/home/ann/.jobgate" / f"{n}-x.part" for n in (1, 2))
    for folder in (old, young):
        folder.mkdir(parents=True)
    os.utime(old, (0, 0))
    job = submitted(gateway, hold=True)
    assert left_over(gateway) == sorted(["2-x.part", job["uuid"]])


def test_a_transfer_that_breaks_off(gateway: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Iterator[bytes]:
        yield b""
        raise HostDown("the disk broke")

    monkeypatch.setattr(workspaces.Bundle, "check", lambda _: None)
    monkeypatch.setattr(workspaces.Bundle, "__iter__", broken)
    assert post(gateway, form()).status_code == 503
    until(lambda: left_over(gateway) == [])


SMALL = """
[limits]
upload = "100KiB"
unpacked = "200KiB"
unpacked_files = 10
"""


@pytest.fixture
def tight(world: World, tmp_path: Path) -> Iterator[InProcess]:
    with InProcess(world, tmp_path, host=SMALL) as gateway:
        yield gateway


def test_limits(tight: InProcess) -> None:
    noise = os.urandom(150_000)
    for archive, words in (
        (tar(member("noise", noise)), "larger than 102400 bytes"),
        (tar(member("zeros", bytes(300_000))), "larger than 204800 bytes"),
        (tar(*[member(f"f{n}") for n in range(10)]), "more than 10 files"),
    ):
        answer = post(tight, form(archive))
        assert (answer.status_code, error(answer)["code"]) == (413, "too_large")
        assert words in error(answer)["error_message"]
    answer = post(tight, form(inputs={"noise": noise}))
    assert answer.status_code == 413
    assert left_over(tight) == spooled(tight) == []


def test_a_bad_bundle_says_why(gateway: InProcess) -> None:
    answer = post(gateway, form(tar(run=None)))
    assert answer.status_code == 422
    assert "run.sh" in error(answer)["errors"]["bundle"][0]
    assert left_over(gateway) == []


GOOD = {"host": "localhost"}
WRONG: dict[str, tuple[dict[str, Any], int, str]] = {
    "no job": ({"bundle": (tar(), "b")}, 422, "job"),
    "no bundle": ({"job": json.dumps(GOOD)}, 422, "bundle"),
    "bundle that is text": ({"job": json.dumps(GOOD), "bundle": "x"}, 422, "bundle"),
    "two bundles": ({"job": json.dumps(GOOD), "bundle": [(tar(), "b"), (tar(), "c")]}, 422, "bundle"),
    "inputs that are text": ({"job": json.dumps(GOOD), "bundle": (tar(), "b"), "inputs": "x"}, 422, "inputs"),
    "another part": ({"job": json.dumps(GOOD), "bundle": (tar(), "b"), "colour": "x"}, 422, "colour"),
    "not JSON": ({"job": "{", "bundle": (tar(), "b")}, 400, ""),
    "a list": ({"job": "[]", "bundle": (tar(), "b")}, 422, "body"),
    "a script": ({"job": json.dumps({**GOOD, "script": "#!/bin/sh\n"}), "bundle": (tar(), "b")}, 422, "script"),
    "a folder": (
        {"job": json.dumps({**GOOD, "working_directory": "/tmp"}), "bundle": (tar(), "b")},
        422,
        "working_directory",
    ),
    "arguments": ({"job": json.dumps({**GOOD, "arguments": "x"}), "bundle": (tar(), "b")}, 422, "arguments"),
    "NUL": ({"job": json.dumps({**GOOD, "arguments": ["a\0"]}), "bundle": (tar(), "b")}, 422, "arguments.0"),
    "another host": ({"job": json.dumps({"host": "nowhere"}), "bundle": (tar(), "b")}, 422, "host"),
    "input's name": ({"job": json.dumps(GOOD), "bundle": (tar(), "b"), "inputs": (tar(), "../x")}, 422, "inputs"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_forms(gateway: InProcess, case: str) -> None:
    data, status, field = WRONG[case]
    fresh = {k: [_again(one) for one in v] if isinstance(v, list) else _again(v) for k, v in data.items()}
    answer = post(gateway, fresh)
    assert answer.status_code == status, answer.text
    assert not field or field in error(answer)["errors"]


def _again(value: Any) -> Any:
    return (io.BytesIO(value[0].getvalue()), value[1]) if isinstance(value, tuple) else value


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=b", b""),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data; name=job\r\n\r\n{}"),
        ("multipart/form-data; boundary=b", b"no boundary at all"),
        ('multipart/form-data; boundary="\xc3\xbc"', b"--b--"),
    ],
)
def test_unreadable_forms(gateway: InProcess, content_type: str, body: bytes) -> None:
    answer = gateway.call("POST", "/api/jobs", data=body, content_type=content_type)
    assert answer.status_code in (400, 422)
    assert "bundle" in error(answer)["error_message"]


def test_the_job_as_a_file(gateway: InProcess) -> None:
    data = form(hold=True)
    data["job"] = (io.BytesIO(data["job"].encode()), "job.json")
    assert post(gateway, data).status_code == 201


def test_without_a_proxy_nothing_is_read(gateway: InProcess) -> None:
    assert post(gateway, form(), user=None).status_code == 401


def test_another_users_output(gateway: InProcess) -> None:
    job = gateway.ended(submitted(gateway)["job_id"])
    assert gateway.call("GET", f"/api/jobs/{job['job_id']}/output", user="bob").status_code == 404
