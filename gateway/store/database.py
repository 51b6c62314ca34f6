"""The engine, and the two ways to use it: `reading()` and `writing()`."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Table, create_engine, event, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import OperationalError

from gateway.errors import HostDown

BUSY_SECONDS = 30
CONNECTIONS = 6  # per process; SQLite keeps 2 MB of pages for each
MIGRATION_LOCK = 7_235_861  # any number; PostgreSQL's advisory lock while one gateway migrates


class Database:
    """One database, SQLite or PostgreSQL. Connections are pooled per process and opened on first use."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.sqlite = url.startswith("sqlite")
        # SQLite's waiters sleep longer and longer while others overtake them; threads of a process can queue up fairly.
        self._turn: AbstractContextManager[object] = threading.Lock() if self.sqlite else nullcontext()
        more: dict[str, Any] = {"connect_args": {"timeout": BUSY_SECONDS}} if self.sqlite else {"pool_pre_ping": True}
        self.engine = create_engine(url, pool_size=CONNECTIONS, max_overflow=CONNECTIONS, **more)
        if self.sqlite:
            event.listen(self.engine, "connect", _tune_sqlite)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that only reads."""
        with _faults_named(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction, committed at the end of the block. On SQLite it takes the write lock at once: a lock that is
        asked for after reading fails with SQLITE_BUSY without waiting (SQLite 3, "deferred" transactions). Leaving the
        block with an exception rolls back."""
        with _faults_named(), self._turn, self.engine.connect() as connection:
            if self.sqlite:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection
            connection.commit()

    def migrate(self) -> None:
        """Bring the schema up to date. Two gateways may do so at once: one waits for the other."""
        if self.sqlite:
            folder = Path(self.engine.url.database or "").parent
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as problem:
                raise HostDown(f"the folder of the gateway's database cannot be made: {problem}") from None
        if self.revision() == self.newest_revision():
            return
        with self.writing() as connection:
            if not self.sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
            config = _alembic()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def revision(self) -> str | None:
        """The revision that the database is at; None for an empty one."""
        with self.reading() as connection:
            return MigrationContext.configure(connection).get_current_revision()

    def newest_revision(self) -> str | None:
        return ScriptDirectory.from_config(_alembic()).get_current_head()

    def close(self) -> None:
        self.engine.dispose()


def now() -> datetime:
    return datetime.now(UTC)


def insert_unless_there(connection: Connection, table: Table, row: Mapping[str, Any]) -> bool:
    """Insert a row; False where one with that key is there already."""
    dialect: Any = {"sqlite": sqlite, "postgresql": postgresql}[connection.dialect.name]
    return connection.execute(dialect.insert(table).values(**row).on_conflict_do_nothing()).rowcount == 1


@contextmanager
def _faults_named() -> Iterator[None]:
    """A database that is full, locked or gone is a passing state of the gateway, not a fault of its code."""
    try:
        yield
    except OperationalError as problem:
        raise HostDown(f"the gateway's database does not answer: {problem.orig}") from problem


def _tune_sqlite(connection: Any, _record: Any) -> None:
    # The driver must not open transactions of its own: `writing` says BEGIN IMMEDIATE.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _alembic() -> AlembicConfig:
    config = AlembicConfig()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config
