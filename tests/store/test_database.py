"""Migrations make the tables that the code uses, and many writers get along."""

import threading
import uuid
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from gateway.errors import HostDown
from gateway.model import JobState
from gateway.store import Database, HostStore, JobFilter, KeyTaken, Repository
from gateway.store.tables import metadata


@pytest.fixture
def database(tmp_path: Path):
    database = Database(f"sqlite:///{tmp_path}/deep/er/jobgate.db")
    database.migrate()
    yield database
    database.close()


def row(**more):
    base = {"uuid": str(uuid.uuid4()), "owner": "/CN=Ann", "account": "ann", "host": "h", "name": "job"}
    return {**base, "state": JobState.SUBMITTING, "extended_properties": {}, "request": {}, **more}


def test_migrations_make_the_tables_of_the_code(database: Database) -> None:
    with database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    assert database.revision() == database.newest_revision()
    database.migrate()


def test_two_gateways_may_migrate_at_once(tmp_path: Path) -> None:
    databases = [Database(f"sqlite:///{tmp_path}/jobgate.db") for _ in range(4)]
    threads = [threading.Thread(target=database.migrate) for database in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {database.revision() for database in databases} == {databases[0].newest_revision()}


def test_wal_and_durable(database: Database) -> None:
    with database.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL: a commit survives a power cut
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


def test_a_database_that_cannot_be_opened_is_a_host_that_is_down() -> None:
    with pytest.raises(HostDown, match="database"), Database("sqlite:////proc/no/such.db").reading():
        pass


def test_what_fails_in_a_transaction_is_undone(database: Database) -> None:
    repository = Repository(database)
    repository.add_job(row(), "x", ("key", "hash"))
    with pytest.raises(KeyTaken):
        repository.add_job(row(), "x", ("key", "hash"))
    assert repository.page(JobFilter(owner=None)).total == 1
    repository.add_job(row(), "x")


def test_two_at_the_same_moment_with_one_key_are_one_job(database: Database) -> None:
    repository = Repository(database)
    taken: list[KeyTaken] = []

    def add() -> None:
        try:
            repository.add_job(row(), "x", ("key", "hash"))
        except KeyTaken as problem:
            taken.append(problem)

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    jobs = repository.page(JobFilter(owner=None)).jobs
    assert len(jobs) == 1
    assert [problem.uuid for problem in taken] == [jobs[0].uuid] * 7


def test_numbers_are_never_given_twice(database: Database) -> None:
    repository = Repository(database)
    job = repository.add_job(row(), "x")
    repository.delete_job(job)
    assert repository.add_job(row(), "x").number == job.number + 1


def test_a_change_by_somebody_else_meanwhile_wins(database: Database) -> None:
    repository = Repository(database)
    job = repository.add_job(row(), "x")
    repository.change_job(job, state=JobState.QUEUED, native_id="1")
    assert repository.change_job(job, state=JobState.SUBMIT_FAILED).state == JobState.QUEUED


def test_one_lease_among_many(database: Database) -> None:
    store = HostStore(database)
    got: list[str] = []

    def ask(name: str) -> None:
        if store.take_lease("h", name, at=100.0, seconds=60):
            got.append(name)

    threads = [threading.Thread(target=ask, args=(f"gateway{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1
    assert not store.take_lease("h", "late", at=159.0, seconds=60)
    assert store.take_lease("h", "heir", at=160.0, seconds=60)  # the holder died: its lease has run out
    store.end_lease("h", got[0], next_poll=0.0, failures=9)  # and comes back too late to say anything
    assert store.get("h").failures == 0
    store.end_lease("h", "heir", next_poll=165.0, failures=0)
    assert not store.take_lease("h", "next", at=164.0, seconds=60)
    assert store.take_lease("h", "next", at=165.0, seconds=60)
