"""A site moves from SQLite to the other database, and loses nothing."""

from pathlib import Path

import pytest
from sqlalchemy import insert

from gateway.errors import Conflict
from gateway.model import JobState
from gateway.store import Database, HostStore, JobFilter, Repository, TokenStore, now, tables
from gateway.store.copy import copy
from tests.databases import Databases
from tests.gateways import World
from tests.store.test_database import row
from tests.test_cli import run


@pytest.fixture
def old(tmp_path: Path):
    """A SQLite database with something of everything; its newest job was deleted."""
    database = Database(f"sqlite:///{tmp_path}/old.db")
    database.migrate()
    repository = Repository(database)
    properties = {"ü": [1, None, {"x": "\U0001d504"}]}
    for n in range(1500):
        more = {"tag": "a'b\\", "extended_properties": properties, "start_time": now()} if n == 7 else {}
        repository.add_job(row(**more), f"#!/bin/sh\necho {n}\n", (f"key {n}", "hash"))
    first = repository.page(JobFilter(owner=None, sort="number", limit=1)).jobs[0]
    repository.change_job(first, state=JobState.QUEUED, native_id="1")
    repository.delete_job(repository.page(JobFilter(owner=None, limit=1)).jobs[0])
    TokenStore(database).add("id", "0" * 64, "/CN=Ann", now())
    HostStore(database).take_lease("h", "one", at=100.0, seconds=15)
    with database.writing() as connection:
        for table, values in OTHERS.items():
            connection.execute(insert(table), values)
    yield database
    database.close()


OTHERS = {
    tables.tasks: {"number": 7, "task_id": 3, "state": "failed"},
    tables.dependencies: {"number": 7, "uuid": "another", "type": "afterok"},
    tables.outbox: {
        "id": "delivery",
        "number": 7,
        "url": "http://portal.example.org/",
        "body": "{}",
        "created": 1.0,
        "next_try": 2.0,
        "tries": 0,
        "lease_until": 0.0,
    },
    tables.templates: {
        "owner": "/CN=Ann",
        "name": "tokenize",
        "shared": False,
        "body": {"script": "true"},
        "created_at": now(),
        "updated_at": now(),
    },
    tables.settings: {"name": "report key", "value": "0"},
    tables.host_history: {
        "host": "h",
        "at": now(),
        "queued": 1,
        "running": 2,
        "finished": 3,
        "aborted": 4,
        "failed": 5,
        "event": 6,
    },
}


@pytest.fixture
def new(databases: Databases, tmp_path: Path):
    database = Database(databases.empty(tmp_path / "new"))
    yield database
    database.close()
    databases.drop(tmp_path / "new")


def everything(database: Database):
    repository = Repository(database)
    jobs = repository.page(JobFilter(owner=None)).jobs
    details = [(repository.script(job.number), repository.events(job.number)) for job in jobs[-10:]]
    return jobs, details, HostStore(database).all(), repository.key("/CN=Ann", "key 3").uuid


def test_nothing_is_lost(old: Database, new: Database) -> None:
    assert copy(old, new) == {table.name: 1 for table in OTHERS} | {
        "hosts": 1,
        "idempotency_keys": 1499,
        "jobs": 1499,
        "tokens": 1,
        "events": 1500,
        "scripts": 1499,
    }
    assert everything(new) == everything(old)
    added = Repository(new).add_job(row(), "x")
    assert added.number == 1501  # 1500 was given before
    assert Repository(new).events(added.number)[0].id > 1500


def test_what_is_there_stays(old: Database, new: Database) -> None:
    new.migrate()
    mine = Repository(new).add_job(row(), "x")
    with pytest.raises(Conflict, match="not empty"):
        copy(old, new)
    assert Repository(new).page(JobFilter(owner=None)).jobs == [mine]


def test_the_command(world: World, old: Database, new: Database, tmp_path: Path) -> None:
    files = []
    for name, url in (("a", old.url), ("b", new.url)):
        (tmp_path / name).mkdir()
        files.append(world.config(tmp_path / name, "http://127.0.0.1:1", database=url))
    done = run("copy-database", "--config", files[0], "--to", files[1])
    assert (done.returncode, done.stderr) == (0, "")
    assert ["jobs", "1499"] in [line.split() for line in done.stdout.splitlines()]
    again = run("copy-database", "--config", files[0], "--to", files[1])
    assert again.returncode == 1
    assert "not empty" in again.stderr
