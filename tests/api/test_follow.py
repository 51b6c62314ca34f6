"""Logs that are followed while the job runs."""

import socket
import threading
from pathlib import Path

import httpx
import pytest

from gateway.errors import HostDown
from gateway.following import Watch
from tests.gateways import InProcess, Server, World, error, until

STEPS = "#!/bin/sh\necho one\nwhile [ ! -e go ]; do sleep 0.05; done\necho two\nprintf three\n"


def started(server: Server, folder: Path, script: str = STEPS, **more: object) -> str:
    folder.mkdir()
    return server.submit(script, working_directory=str(folder), **more)["job_id"]


def followed(server: Server, path: str, user: str = "ann"):
    return server.http.stream("GET", path, headers=server.world.headers[user])


def test_it_comes_as_it_is_written(server: Server, tmp_path: Path) -> None:
    job_id = started(server, tmp_path / "work")
    with followed(server, f"/api/jobs/{job_id}/stdout?follow=1") as answer:
        assert answer.status_code == 200
        pieces = answer.iter_raw()
        assert next(pieces) == b"one\n"
        (tmp_path / "work" / "go").touch()
        assert b"".join(pieces) == b"two\nthree"
    assert server.call("GET", f"/api/jobs/{job_id}").json()["status"] == "FINISHED"
    again = server.call("GET", f"/api/jobs/{job_id}/stdout?follow=1")
    assert (again.text, again.headers["Content-Length"]) == ("one\ntwo\nthree", "13")


def test_a_task(server: Server, tmp_path: Path) -> None:
    """It ends with the task, though another of the array goes on."""
    script = f"#!/bin/sh\n[ $JOBGATE_TASK_ID = 2 ] && exec sleep 600\n{STEPS}"
    job_id = started(server, tmp_path / "work", script, array="1-2")
    with followed(server, f"/api/jobs/{job_id}/tasks/1/stdout?follow=1") as answer:
        assert answer.status_code == 200
        pieces = answer.iter_raw()
        assert next(pieces) == b"one\n"
        (tmp_path / "work" / "go").touch()
        assert b"".join(pieces) == b"two\nthree"
    assert server.call("GET", f"/api/jobs/{job_id}/tasks/1").json()["status"] == "FINISHED"
    assert server.call("GET", f"/api/jobs/{job_id}").json()["status"] == "RUNNING"
    assert server.call("GET", f"/api/jobs/{job_id}/tasks/1/stdout?follow=1").headers["Content-Length"] == "13"
    assert server.call("DELETE", f"/api/jobs/{job_id}").status_code == 204


def test_before_there_is_a_file(server: Server, tmp_path: Path) -> None:
    """Also of a stream to which nothing is ever written."""
    job_id = started(server, tmp_path / "work", hold=True)
    found: dict[str, str] = {}

    def read(stream: str) -> None:
        found[stream] = server.call("GET", f"/api/jobs/{job_id}/{stream}?follow=1").text

    threads = [threading.Thread(target=read, args=(stream,)) for stream in ("stdout", "stderr")]
    for thread in threads:
        thread.start()
    (tmp_path / "work" / "go").touch()
    server.call("PUT", f"/api/jobs/{job_id}", json={"action": "release"})
    for thread in threads:
        thread.join(60)
    assert found == {"stdout": "one\ntwo\nthree", "stderr": ""}


def test_with_a_tail(server: Server, tmp_path: Path) -> None:
    job_id = started(server, tmp_path / "work", STEPS.replace("echo one", "seq 1 9"))
    until(lambda: server.call("GET", f"/api/jobs/{job_id}/stdout").text.endswith("9\n"))
    with followed(server, f"/api/jobs/{job_id}/stdout?follow=1&tail=2") as answer:
        pieces = answer.iter_raw()
        assert next(pieces) == b"8\n9\n"
        (tmp_path / "work" / "go").touch()
        assert b"".join(pieces) == b"two\nthree"


def test_a_job_that_is_deleted(server: Server, tmp_path: Path) -> None:
    job_id = started(server, tmp_path / "work")
    with followed(server, f"/api/jobs/{job_id}/stdout?follow=1") as answer:
        pieces = answer.iter_raw()
        assert next(pieces) == b"one\n"
        server.call("DELETE", f"/api/jobs/{job_id}")
        assert b"".join(pieces) == b""


def test_somebody_elses(server: Server, tmp_path: Path) -> None:
    job_id = started(server, tmp_path / "work")
    answer = server.call("GET", f"/api/jobs/{job_id}/stdout?follow=1", user="bob")
    assert (answer.status_code, error(answer)["code"]) == (404, "job_not_found")


def test_too_many_followers(world: World, tmp_path: Path) -> None:
    """They leave room for others; one that goes away, though its log is silent, makes room."""
    with Server(world, tmp_path, workers=1, host="[limits]\nwaiting = 2\n") as server:
        job_id = started(server, tmp_path / "work")
        path = f"/api/jobs/{job_id}/stdout?follow=1"
        first, second = (connected(server, path) for _ in range(2))
        assert first
        assert second
        answer = server.call("GET", path)
        assert (answer.status_code, error(answer)["code"]) == (429, "too_many_requests")
        assert int(answer.headers["Retry-After"]) > 0
        assert server.call("GET", f"/api/jobs/{job_id}").status_code == 200
        first.close()
        until(lambda: connected(server, path)).close()
        second.close()


def connected(server: Server, path: str) -> socket.socket | None:
    """A client that follows and has read the first line; None where the gateway does not let it."""
    connection = socket.create_connection(("127.0.0.1", server.port), 30)
    proxy = server.world.headers["ann"]["PROXY"]
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nPROXY: {proxy}\r\n\r\n".encode())
    answer = b""
    while b"one\n" not in answer:
        answer += connection.recv(65536)
        if not answer.startswith(b"HTTP/1.1 200"):
            connection.close()
            return None
    return connection


def test_a_hundred_followers_ask_the_database_once(gateway: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    job = gateway.services.repository.job(gateway.submit(hold=True)["uuid"], None)
    watch = Watch(gateway.services.repository)
    asked: list[list[int]] = []
    real = gateway.services.repository.jobs_by_number
    monkeypatch.setattr(gateway.services.repository, "jobs_by_number", lambda ids: asked.append(ids) or real(ids))
    monkeypatch.setattr("gateway.following.LOOK_SECONDS", 1000.0)
    contexts = [watch.following(job) for _ in range(100)]
    looks = [context.__enter__() for context in contexts]
    assert [look().job.state for look in looks] == ["held"] * 100
    assert asked == []
    watch.looked_at -= 2000
    assert [look().job.state for look in looks] == ["held"] * 100
    assert asked == [[job.number]]
    for context in contexts:
        context.__exit__(None, None, None)
    assert not watch.followed


def test_a_host_that_is_away_for_a_while(gateway: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it had given stays given, and nothing is given twice."""
    job = gateway.submit("#!/bin/sh\nseq 1 3; sleep 1; seq 4 6\n")
    gateway.running(job["job_id"])
    service = gateway.services.jobs
    real, tries = service.open_log, iter(range(100))

    def flaky(*arguments: object) -> object:
        if next(tries) % 2:
            raise HostDown("away")
        file = real(*arguments)
        read, calls = file.read, iter(range(2))

        class Breaking:
            size, mtime, close = file.size, file.mtime, file.close

            def read(self, offset: int, length: int) -> bytes:
                if next(calls, None) is None:
                    raise HostDown("away")
                return read(offset, min(length, 2))

        return Breaking()

    monkeypatch.setattr(service, "open_log", flaky)
    monkeypatch.setattr("gateway.following.FILE_SECONDS", 0.05)
    ticking = threading.Thread(target=gateway.ended, args=(job["job_id"],))
    ticking.start()
    answer = gateway.call("GET", f"/api/jobs/{job['job_id']}/stdout?follow=1")
    ticking.join()
    assert answer.text == "1\n2\n3\n4\n5\n6\n"


def test_follow_is_a_yes_or_a_no(server: Server, tmp_path: Path) -> None:
    job_id = started(server, tmp_path / "work")
    (tmp_path / "work" / "go").touch()
    server.ended(job_id)
    assert server.call("GET", f"/api/jobs/{job_id}/stdout?follow=0").status_code == 200
    answer: httpx.Response = server.call("GET", f"/api/jobs/{job_id}/stdout?follow=perhaps")
    assert (answer.status_code, "follow" in error(answer)["errors"]) == (422, True)
