"""Under a real gunicorn, with the command that an operator uses: restarts, big headers, metrics, nothing lost."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.gateways import Server, World, error, free_port, until


@pytest.fixture
def own(world: World, tmp_path: Path):
    """A server of the test's own, to be killed."""
    with Server(world, tmp_path, host="slots = 4") as server:
        yield server


def test_kill_9_in_the_middle_of_ten_running_jobs(own: Server) -> None:
    """The issue's own words: all ten finished, with their exit codes."""
    jobs = [own.submit(f"#!/bin/sh\nsleep 2\necho {code}\nexit {code}\n") for code in range(10)]
    own.stop(signal.SIGKILL)
    own.start()
    for code, job in enumerate(jobs):
        ended = own.ended(job["job_id"])
        assert (ended["exit_code"], ended["status"]) == (code, "ERROR" if code else "FINISHED")
        assert own.call("GET", f"/api/jobs/{job['job_id']}/stdout").text == f"{code}\n"


def test_slots_and_order_hold_across_workers(own: Server) -> None:
    script = '#!/bin/sh\necho "start $(date +%s.%N)"\nsleep 0.5\necho "end $(date +%s.%N)"\n'
    jobs = [own.submit(script) for _ in range(12)]
    spans = []
    for job in jobs:
        own.ended(job["job_id"])
        lines = own.call("GET", f"/api/jobs/{job['job_id']}/stdout").text.splitlines()
        spans.append(tuple(float(line.split()[1]) for line in lines))
    for start, _ in spans:
        assert sum(begin <= start < end for begin, end in spans) <= 4
    starts = [start for start, _ in spans]
    # four start together in any order; a job of a later batch never starts before one of an earlier batch
    for early, late in zip(starts, starts[4:], strict=False):
        assert early < late


def test_graceful_restart(own: Server) -> None:
    """HUP: requests under way are answered, new workers take over."""
    assert own.process
    job = own.submit("#!/bin/sh\nsleep 1\nexit 7\n")
    before = _workers(own)
    os.kill(own.process.pid, signal.SIGHUP)
    answers = []
    end = time.monotonic() + 5
    while time.monotonic() < end:
        answers.append(own.call("GET", "/api/jobs?limit=1").status_code)
    assert set(answers) == {200}
    until(lambda: _workers(own) and not _workers(own) & before)
    assert own.ended(job["job_id"])["exit_code"] == 7


def test_a_new_master_takes_over_without_a_gap(own: Server) -> None:
    """USR2, then TERM to the old master: no request is refused, nor after it."""
    assert own.process
    job = own.submit("#!/bin/sh\nsleep 1\nexit 7\n")
    os.kill(own.process.pid, signal.SIGUSR2)
    new = until(lambda: _masters(own) - {own.process.pid}).pop()
    until(lambda: Path(f"/proc/{new}/task/{new}/children").read_text().split())
    os.kill(own.process.pid, signal.SIGTERM)
    statuses = [own.call("GET", "/api/jobs?limit=1").status_code for _ in range(50)]
    own.process.wait(30)
    statuses += [own.call("GET", "/api/jobs?limit=1").status_code for _ in range(50)]
    assert statuses == [200] * 100
    assert own.ended(job["job_id"])["exit_code"] == 7
    assert own.call("GET", "/metrics", user=None).status_code == 200
    os.kill(new, signal.SIGTERM)
    until(lambda: not Path(f"/proc/{new}").exists())


def _masters(server: Server) -> set[int]:
    """The process that the test started, and a master that it has forked with USR2."""
    assert server.process
    children = _workers(server)
    lines = {pid: Path(f"/proc/{pid}/task/{pid}/children").read_text().split() for pid in children}
    return {int(pid) for pid, grandchildren in lines.items() if grandchildren} | {server.process.pid}


def _workers(server: Server) -> set[str]:
    assert server.process
    return set(Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split())


def test_header_of_40_kib_reaches_us(server: Server) -> None:
    """gunicorn's default of 8190 would answer 431. Ours says in JSON what is wrong."""
    refused = server.call("GET", "/api/jobs", user=None, headers={"PROXY": "A" * 60_000})
    assert refused.status_code == 401
    assert "40960" in error(refused)["error_message"]


def test_a_body_that_is_too_large(server: Server) -> None:
    """The answer arrives although the body was not read."""
    body = b'{"script": "' + b"#" * (20 << 20) + b'"}'
    answer = server.call("POST", "/api/jobs", content=body)
    assert answer.status_code == 413
    assert error(answer)["code"] == "too_large"
    chunked = server.call("POST", "/api/jobs", content=(b"#" * 65536 for _ in range(320)))
    assert chunked.status_code == 413


def test_chunked_bodies(server: Server) -> None:
    body = json.dumps({"host": "localhost", "script": "#!/bin/sh\n"}).encode()
    answer = server.call("POST", "/api/jobs", content=(body[i : i + 7] for i in range(0, len(body), 7)))
    assert answer.status_code == 201


def test_metrics_are_right_under_several_workers(server: Server) -> None:
    def count() -> float:
        lines = server.call("GET", "/metrics", user=None).text.splitlines()
        wanted = 'jobgate_requests_total{endpoint="jobs.list_jobs",method="GET",status="200"}'
        return sum(float(line.split()[-1]) for line in lines if line.startswith(wanted))

    server.submit()
    before = count()
    for _ in range(40):
        # a connection of its own each time, so that both workers get some
        header = f"PROXY: {server.world.headers['ann']['PROXY']}"
        subprocess.run(["curl", "-sf", "-H", header, f"{server.url}/api/jobs"], check=True, capture_output=True)
    assert [count() for _ in range(5)] == [before + 40] * 5
    text = server.call("GET", "/metrics", user=None).text
    assert "jobgate_jobs{" in text
    assert "jobgate_host_failures{" in text


def test_log_lines_are_json_with_the_request_id_that_errors_repeat(server: Server) -> None:
    answer = server.call("GET", "/api/jobs/1.nowhere", headers={"X-Request-ID": "my-id.7"})
    assert error(answer)["request_id"] == answer.headers["X-Request-ID"] == "my-id.7"
    odd = server.call("GET", "/api/jobs/1.nowhere", headers={"X-Request-ID": "no spaces {allowed}"})
    assert len(error(odd)["request_id"]) == 32
    lines = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
    mine = [line for line in lines if line.get("request_id") == "my-id.7"]
    assert [(line["method"], line["path"], line["status"]) for line in mine] == [("GET", "/api/jobs/1.nowhere", 404)]
    others = [line for line in server.log.read_text().splitlines() if not line.startswith("{")]
    assert [line for line in others if not line.startswith("Jobgate serves")] == []


def test_the_environment_of_a_job_holds_nothing_of_the_gateways(server: Server) -> None:
    job = server.ended(server.submit("#!/bin/sh\nenv\n", environment={"MINE": "a=b c"})["job_id"])
    environment = server.call("GET", f"/api/jobs/{job['job_id']}/stdout").text
    names = {line.split("=")[0] for line in environment.splitlines()}
    assert "MINE=a=b c" in environment.splitlines()
    assert not {name for name in names if name.startswith(("HTTP_", "JOBGATE_CONFIG", "GUNICORN", "PROMETHEUS"))}
    assert "HTTP_PROXY" not in names
    assert server.world.headers["ann"]["PROXY"] not in environment


def test_a_large_log_is_streamed_in_constant_memory(server: Server) -> None:
    """A sparse file of 10 GiB behind a job's standard output: its ends and 1 GiB of its middle are fetched."""
    job = server.ended(server.submit("#!/bin/sh\ntruncate -s 10G job.o$JOB_ID\n")["job_id"])
    url = f"/api/jobs/{job['job_id']}/stdout"
    assert server.call("HEAD", url).headers["Content-Length"] == str(10 << 30)
    peak = _peak(server)
    got = 0
    gib = {"Range": f"bytes={4 << 30}-{(5 << 30) - 1}"}
    with server.http.stream("GET", url, headers=server.world.headers["ann"] | gib) as answer:
        assert answer.status_code == 206
        for chunk in answer.iter_raw():
            got += len(chunk)
    assert got == 1 << 30
    assert len(server.call("GET", url, headers={"Range": "bytes=-5"}).content) == 5
    assert _peak(server) - peak < 20 << 10


def _peak(server: Server) -> int:
    """The largest resident memory of any worker so far, in KiB."""
    statuses = [Path(f"/proc/{pid}/status").read_text() for pid in _workers(server)]
    return max(int(line.split()[1]) for text in statuses for line in text.splitlines() if line.startswith("VmHWM"))


def test_wsgi_under_any_server(world: World, tmp_path: Path) -> None:
    """`wsgi.py` with the site's settings for gunicorn, started by hand."""
    port = free_port()
    config = world.config(tmp_path, f"http://127.0.0.1:{port}")
    gunicorn = Path(sys.executable).parent / "gunicorn"
    command = [gunicorn, "-c", "conf/gunicorn.conf.py", "--bind", f"127.0.0.1:{port}", "wsgi:application"]
    with subprocess.Popen(
        command, env=os.environ | {"JOBGATE_CONFIG": str(config)}, stderr=subprocess.DEVNULL
    ) as server:
        try:
            url = f"http://127.0.0.1:{port}"
            until(lambda: subprocess.run(["curl", "-sf", f"{url}/ready"], check=False).returncode == 0)
            assert httpx.get(f"{url}/api/jobs", headers=world.headers["ann"]).json() == []
        finally:
            server.terminate()


def test_ready_and_health(server: Server) -> None:
    for path in ("/health", "/ready"):
        assert server.call("GET", path, user=None).json() == {"status": "ok"}
