"""What gateways under test keep their tables in: SQLite files, or databases on a real PostgreSQL server.

`postgresql_proc` of pytest-postgresql runs its server as the caller, which PostgreSQL refuses to root, so the server is
started here, as `postgres` then; the databases are made by pytest-postgresql's janitor.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from pytest_postgresql.janitor import DatabaseJanitor

from gateway.store import Database

REQUIRED = "JOBGATE_REQUIRE_ALL"
PORT = 5432  # only part of the name of a socket here
TEMPLATE = "migrated"
# Nothing of a test survives a power cut. The rest is what a site may have and SQLite has not: another sorting order
# (initdb's ICU locale), another time zone.
INITDB = (
    "--username=jobgate --auth=trust --no-sync --encoding=UTF8 --locale=C.UTF-8 --locale-provider=icu --icu-locale=en"
)
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "listen_addresses": "",
    "max_connections": "200",
    "shared_buffers": "32MB",
    "timezone": "America/St_Johns",
}


class Sqlite:
    """A file per gateway."""

    name = "sqlite"

    def url(self, folder: Path) -> str:
        """Of the database of the gateway whose configuration is in `folder`."""
        return f"sqlite:///{folder}/jobgate.db"

    def empty(self, folder: Path) -> str:
        """Of a database without tables."""
        return self.url(folder)

    def drop(self, folder: Path) -> None:
        """Nothing: the file goes with its folder."""


class Postgresql:
    """A server on a Unix socket, and a migrated database per gateway."""

    name = "postgresql"

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self.programs = programs
        self.user = "postgres" if os.geteuid() == 0 else None
        self.process: subprocess.Popen[bytes] | None = None
        self.names: dict[Path, str] = {}

    def create(self) -> None:
        if self.user:
            shutil.chown(self.folder, self.user, self.user)
        initdb = [str(self.programs / "initdb"), "--pgdata", str(self.folder / "data"), *INITDB.split()]
        subprocess.run(initdb, check=True, capture_output=True, user=self.user, cwd=self.folder)
        self.start()
        self._janitor(TEMPLATE).init()
        database = Database(self._url(TEMPLATE))
        database.migrate()
        database.close()

    def start(self) -> None:
        command = [str(self.programs / "postgres"), "-D", str(self.folder / "data"), "-k", str(self.folder)]
        command += [word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")]
        # Its end is bound to ours, so that a test run that is killed leaves no server behind.
        command = ["setpriv", "--pdeathsig", "QUIT", *self._as_user(), *command]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
        end = time.monotonic() + 60
        while not self._answers():
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < end, "PostgreSQL did not come up"
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: its fast shutdown, which ends every session; SIGQUIT: as a crash."""
        if self.process:
            self.process.send_signal(how)
            self.process.wait(60)
            self.process = None

    def url(self, folder: Path, template: str | None = TEMPLATE) -> str:
        if folder not in self.names:
            self.names[folder] = f"gateway_{uuid.uuid4().hex}"
            self._janitor(self.names[folder], template).init()
        return self._url(self.names[folder])

    def empty(self, folder: Path) -> str:
        """Of a database without tables."""
        return self.url(folder, None)

    def drop(self, folder: Path) -> None:
        if name := self.names.pop(folder, None):
            self._janitor(name).drop()

    def dsn(self, name: str) -> str:
        return f"postgresql://jobgate@/{name}?host={self.folder}&port={PORT}"

    def _url(self, name: str) -> str:
        return self.dsn(name).replace("://", "+psycopg://")

    def _janitor(self, name: str, template: str | None = None) -> DatabaseJanitor:
        return DatabaseJanitor(user="jobgate", host=str(self.folder), port=PORT, dbname=name, template_dbname=template)

    def _as_user(self) -> list[str]:
        return ["--reuid", self.user, "--regid", self.user, "--clear-groups"] if self.user else []

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.dsn("postgres")).close()
        except psycopg.OperationalError:
            return False
        return True


Databases = Sqlite | Postgresql


@contextmanager
def databases_of(kind: str) -> Iterator[Databases]:
    """What `--database=` names, for as long as the block takes."""
    if kind == Sqlite.name:
        yield Sqlite()
        return
    programs = _programs()
    if programs is None:
        words = "PostgreSQL's server is not installed (Debian: apt-get install postgresql)"
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(words)
        pytest.skip(words)
    with tempfile.TemporaryDirectory(prefix="jobgate-postgresql-") as folder:
        server = Postgresql(Path(folder), programs)
        try:
            server.create()
            yield server
        finally:
            server.stop(signal.SIGQUIT)


def _programs() -> Path | None:
    """The newest of Debian's folders, else where PATH finds it."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: float(path.parts[-3]))
    found = debian[-1] if debian else shutil.which("postgres")
    return Path(found).parent if found else None
