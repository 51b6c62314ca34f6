"""Migrations make the tables that the code uses, and many writers get along."""

import threading
import uuid
from datetime import UTC
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from gateway.errors import HostDown
from gateway.model import Job, JobState
from gateway.store import Database, HostStore, JobFilter, KeyTaken, Repository
from gateway.store.tables import metadata
from tests.databases import Databases

KEYS = {"jobs": "number", "events": "id"}


@pytest.fixture
def database(databases: Databases, tmp_path: Path):
    database = Database(databases.url(tmp_path / "deep/er"))
    database.migrate()
    yield database
    database.close()
    databases.drop(tmp_path / "deep/er")


def row(**more):
    base = {"uuid": str(uuid.uuid4()), "owner": "/CN=Ann", "account": "ann", "host": "h", "name": "job"}
    return {**base, "state": JobState.SUBMITTING, "extended_properties": {}, "request": {}, **more}


@pytest.mark.filterwarnings("ignore:.*expression-based index")  # SQLAlchemy cannot read them from SQLite
def test_migrations_make_the_tables_of_the_code(database: Database) -> None:
    with database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    assert database.revision() == database.newest_revision()
    database.migrate()


def test_two_gateways_may_migrate_at_once(databases: Databases, tmp_path: Path) -> None:
    url = databases.empty(tmp_path)
    gateways = [Database(url) for _ in range(4)]
    threads = [threading.Thread(target=gateway.migrate) for gateway in gateways]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {gateway.revision() for gateway in gateways} == {gateways[0].newest_revision()}
    for gateway in gateways:
        gateway.close()
    databases.drop(tmp_path)


@pytest.mark.only_on("sqlite", "PostgreSQL is durable by itself")
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


@pytest.mark.parametrize("sort", ["name", "-name", "tag", "-state"])
def test_pages_neither_skip_nor_repeat_and_sort_alike_everywhere(database: Database, sort: str) -> None:
    repository = Repository(database)
    for name in ["b", "a", "B", "A", "ä", "Z", "_", "a b", "ab", "a", "\U0001d504"]:
        repository.add_job(row(name=name, tag=None if name == "b" else name.lower()), "x")
    found, cursor = [], None
    while page := repository.page(JobFilter(owner=None, sort=sort, limit=2, cursor=cursor)):
        found += page.jobs
        if (cursor := page.next_cursor) is None:
            break
    key = sort.removeprefix("-")
    by_bytes = sorted(found, key=lambda job: (getattr(job, key) or "", job.number), reverse=sort.startswith("-"))
    assert len(found) == 11
    assert [job.number for job in found] == [job.number for job in by_bytes]


def test_a_tag_of_4000_bytes(database: Database) -> None:
    """PostgreSQL takes 2,704 bytes into an index."""
    repository = Repository(database)
    tags = ["".join(chr(0x10000 + 7919 * n % 60000) for n in range(start, start + 1000)) for start in (0, 5000)]
    for tag in [*tags, tags[0][:999]]:
        repository.add_job(row(tag=tag), "x")
    assert [job.tag for job in repository.page(JobFilter(owner=None, tag=tags[0])).jobs] == tags[:1]


def test_numbers_beyond_32_bits(database: Database) -> None:
    with database.writing() as connection:
        for table in ("jobs", "events"):
            change = {
                "sqlite": f"INSERT INTO sqlite_sequence VALUES ('{table}', {1 << 33})",
                "postgresql": f"SELECT setval(pg_get_serial_sequence('{table}', '{KEYS[table]}'), {1 << 33})",
            }[connection.dialect.name]
            connection.exec_driver_sql(change)
    repository = Repository(database)
    job = repository.add_job(row(), "x")
    assert job.number == (1 << 33) + 1
    assert [event.id for event in repository.events(job.number)] == [(1 << 33) + 1]
    assert repository.change_job(job, state=JobState.QUEUED).state == JobState.QUEUED


def test_times_are_utc_whatever_the_servers_zone(database: Database) -> None:
    job = Repository(database).add_job(row(), "x")
    assert job.created_at.tzinfo is UTC


def test_a_search_takes_percent_and_backslash_as_they_are(database: Database) -> None:
    repository = Repository(database)
    for name in ("100%", "100", r"a\b", "a_b", "axb"):
        repository.add_job(row(name=name), "x")
    for q, names in (("0%", ["100%"]), (r"A\B", [r"a\b"]), ("A_B", ["a_b"])):
        assert [job.name for job in repository.page(JobFilter(owner=None, q=q)).jobs] == names


def test_many_writers_of_the_same_jobs_in_any_order(database: Database) -> None:
    repository = Repository(database)
    jobs = [repository.add_job(row(state=JobState.QUEUED), "x") for _ in range(200)]
    faults: list[BaseException] = []

    def write(some: list[Job]) -> None:
        try:
            for n in range(5):
                repository.change_jobs([(job, {"native_state": str(n)}) for job in some])
        except BaseException as fault:
            faults.append(fault)

    orders = [jobs, jobs[::-1], jobs[100:] + jobs[:100], jobs[::2] + jobs[1::2]]
    threads = [threading.Thread(target=write, args=(order,)) for order in orders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


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
