"""Logs and files of jobs over HTTP: ranges, tails, and no way out of the job's own folder."""

import os
from pathlib import Path

import pytest

from tests.gateways import InProcess, error

LINES = "".join(f"line {number}\n" for number in range(1, 1001))
SCRIPT = "#!/bin/sh\nseq -f 'line %g' 1 1000\n"


@pytest.fixture
def job(gateway: InProcess) -> dict:
    folder = gateway.folder / "jobs" / "here"
    return gateway.ended(gateway.submit(SCRIPT, working_directory=str(folder))["job_id"])


def get(gateway: InProcess, job: dict, path: str, **headers: str):
    return gateway.call("GET", f"/api/jobs/{job['job_id']}/{path}", headers=headers)


def test_stdout(gateway: InProcess, job: dict) -> None:
    answer = get(gateway, job, "stdout")
    assert answer.text == LINES
    assert answer.headers["Content-Length"] == str(len(LINES))
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.content_type == "text/plain; charset=utf-8"
    head = gateway.call("HEAD", f"/api/jobs/{job['job_id']}/stdout")
    assert (head.status_code, head.data, head.headers["Content-Length"]) == (200, b"", str(len(LINES)))


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("bytes=0-3", LINES[:4]),
        ("bytes=5-", LINES[5:]),
        ("bytes=-7", LINES[-7:]),
        ("bytes=-999999", LINES),
        ("bytes=10-999999", LINES[10:]),
    ],
)
def test_range(gateway: InProcess, job: dict, asked: str, expected: str) -> None:
    answer = get(gateway, job, "stdout", Range=asked)
    assert (answer.status_code, answer.text) == (206, expected)
    assert answer.headers["Content-Range"].endswith(f"/{len(LINES)}")


def test_range_beyond_the_end(gateway: InProcess, job: dict) -> None:
    answer = get(gateway, job, "stdout", Range="bytes=999999-")
    assert answer.status_code == 416
    assert str(len(LINES)) in error(answer)["error_message"]
    assert error(answer)["code"] == "requested_range_not_satisfiable"
    assert answer.headers["Content-Range"] == f"bytes */{len(LINES)}"


@pytest.mark.parametrize("asked", ["lines=1-2", "bytes=x", "bytes=0-1,4-5"])
def test_ranges_that_are_ignored(gateway: InProcess, job: dict, asked: str) -> None:
    assert get(gateway, job, "stdout", Range=asked).text == LINES


@pytest.mark.parametrize("lines", [0, 1, 2, 999, 1000, 1001])
def test_tail(gateway: InProcess, job: dict, lines: int) -> None:
    expected = "".join(LINES.splitlines(keepends=True)[-lines:]) if lines else ""
    assert get(gateway, job, f"stdout?tail={lines}").text == expected


def test_tail_over_many_blocks_and_without_a_last_newline(gateway: InProcess) -> None:
    script = "#!/bin/sh\nseq 1 200000; printf end\n"
    job = gateway.ended(gateway.submit(script)["job_id"])
    assert get(gateway, job, "stdout?tail=3").text == "199999\n200000\nend"
    assert get(gateway, job, "stdout?tail=150000").text.startswith("50002\n")


def test_tail_that_is_none(gateway: InProcess, job: dict) -> None:
    for tail in ("x", "-1", "1.5"):
        answer = get(gateway, job, f"stdout?tail={tail}")
        assert answer.status_code == 422
        assert "tail" in error(answer)["errors"]


def test_script_as_it_was_sent(gateway: InProcess, job: dict) -> None:
    assert get(gateway, job, "script").text == SCRIPT


def test_output_of_a_job_that_has_not_started(gateway: InProcess) -> None:
    job = gateway.submit(hold=True)
    answer = get(gateway, job, "stdout")
    assert answer.status_code == 404
    assert error(answer)["error_message"]


def test_files(gateway: InProcess, job: dict) -> None:
    folder = Path(job["working_directory"])
    (folder / "sub").mkdir()
    (folder / "sub" / "ünï côde;$(x).txt").write_text("found")
    (folder / "page.html").write_text("<script>alert(1)</script>")
    listed = {one["path"]: one["size"] for one in get(gateway, job, "files/").get_json()}
    assert listed == {"job.e1": 0, "job.o1": len(LINES), "page.html": 25, "sub/ünï côde;$(x).txt": 5}
    assert get(gateway, job, "files/sub/ünï côde;$(x).txt").text == "found"
    page = get(gateway, job, "files/page.html")
    assert page.headers["Content-Disposition"] == "attachment"
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert page.headers["Content-Security-Policy"] == "sandbox"
    assert get(gateway, job, "files/job.o1", Range="bytes=0-3").status_code == 206


ESCAPES = [
    "../secret",
    "../../jobs/secret",
    "..%2fsecret",
    "%2e%2e/secret",
    "%2e%2e%2fsecret",
    "sub/../../secret",
    "/etc/hostname",
    "%2fetc%2fhostname",
    "..%5csecret",
    "....//secret",
    "%252e%252e%252fsecret",
    "file-link",
    "folder-link/secret",
    "absolute-link",
    "%00",
    "job.o1%00",
    "pipe",
    "socket",
    "sub",
    "",
    "missing",
    "a" * 300,
]


@pytest.mark.parametrize("path", ESCAPES)
def test_no_way_out(gateway: InProcess, job: dict, path: str) -> None:
    folder = Path(job["working_directory"])
    (folder.parent / "secret").write_text("SECRET")
    (folder / "sub").mkdir()
    (folder / "file-link").symlink_to("../secret")
    (folder / "folder-link").symlink_to("..")
    (folder / "absolute-link").symlink_to("/etc/hostname")
    os.mkfifo(folder / "pipe")
    answer = get(gateway, job, f"files/{path}")
    assert b"SECRET" not in answer.data
    assert path == "" or answer.status_code in (403, 404), answer.text
    listed = {one["path"] for one in get(gateway, job, "files/").get_json()}
    assert listed == {"job.e1", "job.o1"}


def test_a_log_that_became_a_link_to_elsewhere(gateway: InProcess, job: dict) -> None:
    folder = Path(job["working_directory"])
    (folder.parent / "secret").write_text("SECRET")
    (folder / "job.o1").unlink()
    (folder / "job.o1").symlink_to("../secret")
    answer = get(gateway, job, "stdout")
    assert answer.status_code in (403, 404)
    assert b"SECRET" not in answer.data


def test_links_inside_the_folder_are_fine(gateway: InProcess, job: dict) -> None:
    (Path(job["working_directory"]) / "latest").symlink_to("job.o1")
    assert get(gateway, job, "files/latest").text == LINES
