"""The engine, and the two ways to use it: `reading()` and `writing()`."""

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Table, create_engine, event, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from gateway.errors import HostDown
from gateway.store.turns import Turns

log = logging.getLogger(__name__)

BUSY_SECONDS = 30  # that a writer waits for others
CONNECTIONS = 6  # per process, and as many again under load; SQLite keeps 2 MB of pages for each
MIGRATION_PATIENCE = 5  # that a request waits for its own process's migration
MIGRATION_LOCK = 7_235_861  # any number; PostgreSQL's advisory lock while one gateway migrates
# For libpq, unless the URL says otherwise. Most bound what it would wait for without an end: a server that is gone
# without a word, a gateway that stands still in the middle of a transaction.
PARAMETERS = {
    "client_encoding": "utf8",
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
    "options": f"-c lock_timeout={BUSY_SECONDS}s -c idle_in_transaction_session_timeout={2 * BUSY_SECONDS}s",
}


class Database:
    """One database, SQLite or PostgreSQL. Connections are pooled per process and opened on first use."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.sqlite = url.startswith("sqlite")
        self._turns = Turns(Path(make_url(url).database or ""), BUSY_SECONDS) if self.sqlite else None
        # A pooled connection is tried before it is used: PostgreSQL may have been restarted since.
        self.engine = create_engine(
            url,
            pool_size=CONNECTIONS,
            max_overflow=CONNECTIONS,
            pool_pre_ping=not self.sqlite,
            connect_args={"timeout": BUSY_SECONDS} if self.sqlite else {**PARAMETERS, **make_url(url).query},
        )
        if self.sqlite:
            event.listen(self.engine, "connect", _tune_sqlite)
        self._behind = self._migrating = False
        self._catching_up = threading.RLock()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that only reads."""
        self._catch_up()
        with _faults_named(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction, committed at the end of the block. On SQLite it takes the write lock at once: a lock that is
        asked for after reading fails with SQLITE_BUSY without waiting (SQLite 3, "deferred" transactions). Leaving the
        block with an exception rolls back."""
        self._catch_up()
        turn = self._turns.take() if self._turns else nullcontext()
        with _faults_named(), turn, self.engine.connect() as connection:
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
                _prepare_postgresql(connection)
            config = _alembic()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def migrate_when_there(self) -> None:
        """As `migrate`; where the database does not answer, whoever uses it first when it does brings it up to date,
        and until then every use raises HostDown."""
        try:
            self.migrate()
        except HostDown as problem:
            words = "; ".join((problem.message, *getattr(problem, "__notes__", ())))
            log.error("requests are answered with 503 until the gateway's database can be used: %s", words)
            self._behind = True

    def _catch_up(self) -> None:
        if not self._behind:
            return
        if not self._catching_up.acquire(timeout=MIGRATION_PATIENCE):
            raise HostDown("the gateway's database is being brought up to date")
        try:
            if self._behind and not self._migrating:  # `migrate` itself comes through here
                self._migrate_late()
        finally:
            self._catching_up.release()

    def _migrate_late(self) -> None:
        self._migrating = True
        try:
            self.migrate()
        finally:
            self._migrating = False
        self._behind = False
        log.info("the gateway's database is there and up to date")

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
    query = dialect.insert(table).values(**row).on_conflict_do_nothing()
    # Not `rowcount`: -1 for an insert on PostgreSQL, where SQLAlchemy 2.1 adds a RETURNING of its own.
    return connection.execute(query.returning(*table.primary_key)).first() is not None


@contextmanager
def _faults_named() -> Iterator[None]:
    """A database that is full, locked or gone is a passing state of the gateway, not a fault of its code. The driver's
    own words may name servers and users: they are for the log and for `jobgate check`, not for clients."""
    try:
        yield
    except (OperationalError, InternalError, InterfaceError) as problem:  # InternalError: a standby, which only reads
        log.warning("the database does not answer: %s", problem.orig)
        down = HostDown("the gateway's database does not answer")
        down.add_note(str(problem.orig))
        raise down from problem
    except PoolTimeout as problem:
        raise HostDown("the gateway's database is too slow: all connections to it are in use") from problem


def _tune_sqlite(connection: Any, _record: Any) -> None:
    # The driver must not open transactions of its own: `writing` says BEGIN IMMEDIATE.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _prepare_postgresql(connection: Connection) -> None:
    encoding = connection.execute(text("SHOW server_encoding")).scalar_one()
    if encoding != "UTF8":
        raise HostDown(f"the gateway's database has the encoding {encoding}; make one with ENCODING 'UTF8'")
    connection.execute(text("SET LOCAL lock_timeout = 0"))  # a long migration of another gateway is worth waiting for
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})


def _alembic() -> AlembicConfig:
    config = AlembicConfig()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config
