"""What a PostgreSQL server does to a gateway: it restarts, is away, waits, only reads, or has the wrong encoding."""

import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import psycopg
import pytest
from werkzeug.test import TestResponse

from gateway.errors import HostDown
from gateway.store import Database, HostStore
from tests.databases import Postgresql
from tests.gateways import InProcess, Server, World, error, until
from tests.test_cli import run

pytestmark = pytest.mark.only_on("postgresql", "about its server")


@pytest.fixture
def server(databases: Postgresql) -> Iterator[Postgresql]:
    """The server, which a test may stop."""
    yield databases
    if databases.process is None:
        databases.start()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["restart", "crash"])
def test_a_restart_in_the_middle(gateway: InProcess, server: Postgresql, how: signal.Signals) -> None:
    """503 that says when to come back, then all as before; never 500. A submit that was cut off may be a 504."""
    answers: list[TestResponse] = []
    done = threading.Event()

    def keep_asking(method: str, path: str, **more: object) -> None:
        while not done.is_set():
            answers.append(gateway.call(method, path, **more))
            time.sleep(0.01)

    body = {"host": "localhost", "script": "#!/bin/sh\n", "hold": True}
    calls = [("GET", "/api/jobs", {}), ("GET", "/ready", {}), ("POST", "/api/jobs", {"json": body})]
    threads = [threading.Thread(target=keep_asking, args=call[:2], kwargs=call[2]) for call in calls]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    server.stop(how)
    time.sleep(0.5)
    server.start()
    time.sleep(0.5)
    done.set()
    for thread in threads:
        thread.join()
    refused = [answer for answer in answers if answer.status_code not in (200, 201)]
    assert {answer.status_code for answer in refused} | {504} == {503, 504}
    for answer in refused:
        assert error(answer)["retryable"]
        assert "socket" not in answer.text  # the driver names the server
        assert answer.status_code == 504 or answer.headers["Retry-After"]
    for method, path, more in calls:
        assert gateway.call(method, path, **more).status_code in (200, 201)
    acknowledged = {answer.get_json()["uuid"] for answer in answers if answer.status_code == 201}
    assert acknowledged <= {job["uuid"] for job in gateway.call("GET", "/api/jobs").get_json()}


def test_no_server_at_the_start(world: World, server: Postgresql, tmp_path: Path) -> None:
    config = world.config(tmp_path, "http://127.0.0.1:1")
    server.stop()
    for command in ("migrate", "tick", "check"):
        done = run(command, "--config", config)
        assert done.returncode == 1
        assert "database" in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
    server.start()
    assert run("migrate", "--config", config).returncode == 0


def test_a_gateway_that_starts_before_its_database(world: World, server: Postgresql, tmp_path: Path) -> None:
    """Without tables as well. It answers 503 until the server is there, and makes them then."""
    server.empty(tmp_path)
    server.stop()
    gateway = Server(world, tmp_path)
    with ExitStack() as ends, ThreadPoolExecutor(1) as pool:
        ends.push(gateway.__exit__)
        started = pool.submit(gateway.start)
        try:
            for path in ("/ready", "/api/jobs"):
                answer = until(lambda path=path: _answer(gateway, path), "it does not come up without its database")
                assert (answer.status_code, error(answer)["retryable"]) == (503, True)
                assert answer.headers["Retry-After"]
            assert gateway.call("GET", "/health").status_code == 200
        finally:
            server.start()
        started.result()
        assert gateway.ended(gateway.submit()["job_id"])["status"] == "FINISHED"
    assert "until the gateway's database can be used" in gateway.log.read_text()


def _answer(gateway: Server, path: str) -> httpx.Response | None:
    try:
        return gateway.call("GET", path)
    except httpx.TransportError:
        return None


def test_a_gateway_that_stands_still_in_a_transaction_holds_nobody_up_for_ever(
    server: Postgresql, tmp_path: Path
) -> None:
    url = server.url(tmp_path)
    still, other = Database(url), Database(f"{url}&options=-c%20lock_timeout%3D200ms")
    HostStore(still).take_lease("h", "still", at=100.0, seconds=15)
    with still.writing() as connection:
        connection.exec_driver_sql("UPDATE hosts SET failures = 1")
        with pytest.raises(HostDown) as fault:
            HostStore(other).take_lease("h", "other", at=200.0, seconds=15)
    assert "lock timeout" in fault.value.__notes__[0]
    assert HostStore(other).take_lease("h", "other", at=200.0, seconds=15)
    still.close()
    other.close()


def test_the_patience_that_a_gateway_has(server: Postgresql, tmp_path: Path) -> None:
    database = Database(server.url(tmp_path))
    with database.reading() as connection:
        for name, value in (("lock_timeout", "30s"), ("idle_in_transaction_session_timeout", "1min")):
            assert connection.exec_driver_sql(f"SHOW {name}").scalar() == value
    database.close()


def test_a_standby_only_reads(server: Postgresql, tmp_path: Path) -> None:
    database = Database(f"{server.url(tmp_path)}&options=-c%20default_transaction_read_only%3Don")
    assert database.revision()
    with pytest.raises(HostDown) as fault:
        HostStore(database).take_lease("h", "one", at=100.0, seconds=15)
    assert "read-only" in fault.value.__notes__[0]
    database.close()


def test_all_connections_in_use(server: Postgresql, tmp_path: Path) -> None:
    database = Database(server.url(tmp_path))
    database.engine.pool._timeout = 0.1
    held = [database.engine.connect() for _ in range(12)]
    with pytest.raises(HostDown, match="in use"), database.reading():
        pass
    for connection in held:
        connection.close()
    database.close()


def test_an_encoding_that_cannot_hold_every_name(server: Postgresql) -> None:
    with psycopg.connect(server.dsn("postgres"), autocommit=True) as connection:
        how = "ENCODING 'SQL_ASCII' LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0"
        connection.execute(f"CREATE DATABASE ascii {how}")
        database = Database(server.dsn("ascii").replace("://", "+psycopg://"))
        with pytest.raises(HostDown, match="UTF8"):
            database.migrate()
        database.close()
        connection.execute("DROP DATABASE ascii")
