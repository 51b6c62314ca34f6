"""Events and waiting: what happened is told at once, in order, and to nobody else."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from sqlalchemy import event as sql_event
from sqlalchemy import insert, text

from gateway.listening import News
from gateway.model import JobState
from gateway.store import Database, EventLog, Repository, now
from gateway.store.tables import events
from tests.databases import Databases
from tests.gateways import InProcess, Server, World, error, until
from tests.store.test_database import row


@pytest.fixture(scope="module")
def server(world: World, tmp_path_factory: pytest.TempPathFactory):
    with Server(world, tmp_path_factory.mktemp("news")) as server:
        yield server


@contextmanager
def listening(server: Server, user: str = "ann", **headers: str) -> Iterator[list[dict]]:
    """What comes over the stream, as it comes."""
    told: list[dict] = []
    with httpx.stream("GET", f"{server.url}/api/events", headers={**server.world.headers[user], **headers}) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        lines = answer.iter_lines()
        assert next(lines) == ": listening"

        def read() -> None:
            fields: dict[str, str] = {}
            try:
                for line in lines:
                    if line:
                        name, _, value = line.partition(": ")
                        fields[name] = value
                    elif fields.get("event") == "job":
                        told.append({"id": int(fields["id"]), **json.loads(fields["data"])})
                        fields = {}
            except httpx.HTTPError:
                return  # the test has heard enough

        threading.Thread(target=read, daemon=True).start()
        yield told


def of(told: list[dict], job: dict) -> list[str]:
    return [event["state"] for event in told if event["uuid"] == job["uuid"]]


def test_the_stream(server: Server) -> None:
    with listening(server) as told:
        job = server.submit("#!/bin/sh\n")
        until(lambda: "finished" in of(told, job))
    first = next(event for event in told if event["uuid"] == job["uuid"])
    assert first.keys() == {"id", "job_id", "uuid", "status", "state", "before", "at"}
    assert (first["state"], first["before"], first["status"]) == ("submitting", None, "QUEUED")
    assert told[-1]["job_id"] == job["job_id"]
    history = server.call("GET", f"/api/jobs/{job['job_id']}/events").json()
    assert [event["id"] for event in history] == [event["id"] for event in told if event["uuid"] == job["uuid"]]


def test_what_was_missed_comes_first(server: Server) -> None:
    with listening(server) as told:
        job = server.submit("#!/bin/sh\n")
        until(lambda: "finished" in of(told, job))
    ids = [event["id"] for event in told]
    for seen in (0, ids[0], ids[-1]):
        with listening(server, **{"Last-Event-ID": str(seen)}) as again:
            other = server.submit("#!/bin/sh\n")
            until(lambda other=other, again=again: "finished" in of(again, other))
        assert [event["id"] for event in again if event["id"] <= ids[-1] and event["uuid"] == job["uuid"]] == [
            number for number in ids if number > seen
        ]
        assert [event["id"] for event in again] == sorted({event["id"] for event in again})


def test_nobody_elses(server: Server) -> None:
    with listening(server, "bob") as told:
        server.ended(server.submit("#!/bin/sh\n")["job_id"])
        mine = server.submit("#!/bin/sh\n", user="bob")
        until(lambda: "finished" in of(told, mine))
    assert {event["uuid"] for event in told} == {mine["uuid"]}
    assert server.call("GET", "/api/events?owner=*", user="bob").status_code == 403
    assert server.call("GET", "/api/events", user=None).status_code == 401


def test_wrong_event_ids(server: Server) -> None:
    for wrong in ("x", "-1", "1.5", "9" * 40):
        answer = server.call("GET", "/api/events", headers={"Last-Event-ID": wrong})
        assert answer.status_code == 422
        assert "Last-Event-ID" in error(answer)["errors"]


def test_wait_answers_when_the_state_changes(server: Server) -> None:
    job = server.submit("#!/bin/sh\nexec sleep 1\n")
    states = []
    while not states or states[-1] not in ("finished", "failed"):
        began = time.monotonic()
        states.append(server.call("GET", f"/api/jobs/{job['job_id']}?wait=50").json()["state"])
        assert time.monotonic() - began < 40, "it answered because its time was over"
    assert states[-1] == "finished"
    assert len(states) <= 4


def test_wait_with_what_was_seen(server: Server) -> None:
    job = server.submit("#!/bin/sh\nexec sleep 300\n")
    path = f"/api/jobs/{job['job_id']}"
    old = server.call("GET", path).headers["ETag"]
    until(lambda: server.call("GET", path).json()["state"] == "running")
    changed = server.call("GET", f"{path}?wait=50", headers={"If-None-Match": old})
    assert (changed.status_code, changed.json()["state"]) == (200, "running")
    same = server.call("GET", f"{path}?wait=0.2", headers={"If-None-Match": changed.headers["ETag"]})
    assert (same.status_code, same.content) == (304, b"")


def test_wait_is_over_in_time(server: Server) -> None:
    job = server.submit("#!/bin/sh\nexec sleep 300\n")
    until(lambda: server.call("GET", f"/api/jobs/{job['job_id']}").json()["state"] == "running")
    answer = server.call("GET", f"/api/jobs/{job['job_id']}?wait=0.5")
    assert (answer.status_code, answer.json()["state"]) == (200, "running")
    for wrong in ("-1", "x", "nan", "1e9"):
        assert server.call("GET", f"/api/jobs/{job['job_id']}?wait={wrong}").status_code == 422
    assert server.call("GET", "/api/jobs/nothing.localhost?wait=30").status_code == 404


def test_a_hundred_who_wait_cost_one_query(gateway: InProcess) -> None:
    """Counted at the database's driver: what is asked while a hundred wait is what the one watcher asks."""
    job = gateway.submit("#!/bin/sh\nexec sleep 300\n")
    gateway.running(job["job_id"])
    answers: list[int] = []

    def wait() -> None:
        client = gateway.app.test_client()
        path = f"/api/jobs/{job['job_id']}?wait=300"
        answers.append(client.get(path, headers=gateway.world.headers["ann"]).status_code)

    gateway.services.waiting.most = 100
    waiting = [threading.Thread(target=wait) for _ in range(100)]
    for thread in waiting:
        thread.start()
    until(lambda: len(gateway.services.news.listeners) == 100)
    with pytest.raises(AssertionError, match="too_many_requests"):
        gateway.job(f"{job['job_id']}?wait=1")
    asked: list[str] = []
    engine = gateway.services.database.engine
    sql_event.listen(engine, "before_cursor_execute", lambda *a: asked.append(a[2]))
    time.sleep(2)
    assert 1 <= len(asked) <= 8, asked
    gateway.call("PUT", f"/api/jobs/{job['job_id']}", json={"action": "abort"})
    gateway.ended(job["job_id"])
    for thread in waiting:
        thread.join(30)
    assert answers == [200] * 100


def test_a_server_that_is_told_to_go_does_not_wait_for_listeners(world: World, tmp_path) -> None:
    import signal

    with Server(world, tmp_path, workers=1) as server, listening(server):
        began = time.monotonic()
        server.stop(signal.SIGTERM)
        assert time.monotonic() - began < 20  # gunicorn's graceful_timeout is 30


def test_numbers_that_appear_out_of_order(databases: Databases, tmp_path) -> None:
    """PostgreSQL gives numbers before transactions commit: the later one may be seen first."""
    database = Database(databases.url(tmp_path))
    database.migrate()
    news = News(EventLog(database))
    try:
        number = Repository(database).add_job(row(), "true").number
        heard = []
        with news.listening(lambda _: True) as listener:
            if database.sqlite:
                write(database, number)
                write(database, number)
            else:
                _one_commits_after_the_other(database, number)
            for _ in range(2):
                found = listener.next(30)
                assert found
                heard.append(found.id)
        assert heard == sorted(heard)
    finally:
        news.close()
        database.close()
        databases.drop(tmp_path)


def _one_commits_after_the_other(database: Database, number: int) -> None:
    with database.writing() as slow:
        slow.execute(insert(events).values(**_event(number)))
        slow.execute(text("SELECT 1"))
        write(database, number)
        time.sleep(1.5)  # longer than it takes to call a gap settled, if nobody is at work on it


def _undone(database: Database, number: int) -> None:
    with database.writing() as connection:
        connection.execute(insert(events).values(**_event(number)))
        raise RuntimeError


def write(database: Database, number: int) -> None:
    with database.writing() as connection:
        connection.execute(insert(events).values(**_event(number)))


def _event(number: int) -> dict:
    return {"number": number, "at": now(), "state": JobState.QUEUED, "before": None, "reason": None}


def test_a_number_that_never_appears_holds_nobody_up(databases: Databases, tmp_path) -> None:
    database = Database(databases.url(tmp_path))
    database.migrate()
    news = News(EventLog(database))
    try:
        repository = Repository(database)
        number = repository.add_job(row(), "true").number
        with news.listening(lambda event: event.number == number) as listener:
            with pytest.raises(RuntimeError):
                _undone(database, number)
            repository.delete_job(repository.add_job(row(uuid="2" * 36), "true"))
            write(database, number)
            assert listener.next(30)
    finally:
        news.close()
        database.close()
        databases.drop(tmp_path)
