"""The gateway in this process, for one user and one folder: its database is a file there, its only host this machine.

Jobs are kept as drafts until somebody executes them. What the gateway and its scheduler need beside the database lies
in a hidden folder next to it.
"""

import fcntl
import getpass
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
from alembic.util import CommandError
from sqlalchemy import event

from gateway import Principal, hookimpl
from gateway.api import Services
from gateway.app import create_app
from gateway.client.connection import Connection
from gateway.client.errors import BadSettings
from gateway.client.settings import Settings
from gateway.config import load_config
from gateway.plugin_manager import load_plugins
from gateway.reports import Reports

URL = "http://jman.local"
HOST = "localhost"
NEVER = datetime.max.replace(tzinfo=UTC)
CONFIG = """
[gateway]
base_url = "{url}"
database = {database}
state_dir = "."
ticker = false
log_level = "ERROR"
[auth]
trusted_ca_dir = "."
grid_mapfile = "grid-mapfile"
[hosts.{host}]
backend = "local"
accounts = "gateway"
poll_interval = 0.1
slots = {slots}
"""
OF_A_JOB = re.compile(r"JOB_ID\Z|SGE_TASK_ID\Z|JOBGATE_")  # what a job that runs jman has in its own environment


class LocalGateway:
    """Made on first use, by whoever asks with its `connection`. `slots`: how many jobs run at once."""

    def __init__(self, file: Path, slots: int | None = None) -> None:
        self.file = file.absolute()
        if "?" in str(self.file) or "#" in str(self.file):
            raise BadSettings(f"{self.file}: SQLite takes no '?' or '#' in a path here; use another folder")
        self.folder = self.file.with_name(f".{self.file.name}.d")
        self.slots = slots
        self.connection = Connection(lambda: Settings(URL, self.folder), transport=_Transport(self), headers=lambda: {})

    @property
    def output(self) -> Path:
        """Where the output of jobs goes that have no folder for logs."""
        return self.folder / "output"

    @cached_property
    def services(self) -> Services:
        return self._made[1]

    @cached_property
    def _made(self) -> tuple[Any, Services]:
        try:
            self.folder.mkdir(mode=0o700, exist_ok=True)
            self.output.mkdir(exist_ok=True)
            (self.folder / "grid-mapfile").touch()
        except OSError as problem:
            raise BadSettings(f"{self.folder} cannot be made: {problem.strerror}") from None
        plugins = load_plugins(("the only user", OnlyUser()))
        try:
            app = create_app(load_config(self._config(), plugins), plugins)
        except CommandError:
            words = "was made by a newer version of Jobgate; it is left as it is"
            raise BadSettings(f"{self.file.name} {words}") from None
        services: Services = app.extensions["jobgate"]
        services.jobs.submission.reports = CallersEnvironment(URL, lambda: "")
        if self.slots:  # a power cut ends the jobs as well; it may take back their last moments, never spoil the file
            event.listen(services.database.engine, "connect", _without_fsync)
            services.database.close()
        return app, services

    @property
    def app(self) -> Any:
        return self._made[0]

    def _config(self) -> Path:
        """The configuration, as a file; written whole, since others may read it just now."""
        file = self.folder / "gateway.toml"
        slots = self.slots or self._slots_of_before()
        draft = self.folder / f"gateway.toml.{os.getpid()}"
        draft.write_text(CONFIG.format(url=URL, database=json.dumps(f"sqlite:///{self.file}"), host=HOST, slots=slots))
        return draft.replace(file)

    def tick(self) -> None:
        """Learn how the jobs are, and start what can start."""
        self.services.ticker.sync.refresh(self.services.hosts.by_name[HOST])

    @contextmanager
    def executing(self) -> Iterator[None]:
        """Only one process at a time. Raises BadSettings where another does."""
        assert self.slots
        self.folder.mkdir(mode=0o700, exist_ok=True)
        with (self.folder / "executing").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BadSettings(
                    f"the jobs of {self.file.name} are being executed already; wait, or stop that"
                ) from None
            file.truncate(0)
            file.write(str(self.slots))
            file.flush()
            yield

    def is_executing(self) -> bool:
        """Whether some process does."""
        with suppress(OSError), (self.folder / "executing").open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def _slots_of_before(self) -> int:
        """What whoever executes, or did last, has set: jobs of several cores are measured by it."""
        with suppress(OSError, ValueError):
            return int((self.folder / "executing").read_text())
        return 1

    def close(self) -> None:
        if "_made" in self.__dict__:
            self.services.hosts.close()
            self.services.news.close()
            self.services.database.close()

    def remove(self) -> None:
        """Close it, and remove all of it."""
        self.close()
        self.connection.close()
        for end in ("", "-wal", "-shm", "-turn"):
            self.file.with_name(f"{self.file.name}{end}").unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def _without_fsync(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA synchronous = NORMAL")


class _Transport(httpx.BaseTransport):
    """To the application in this process."""

    def __init__(self, gateway: LocalGateway) -> None:
        self._gateway = gateway

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.WSGITransport(app=self._gateway.app).handle_request(request)


class OnlyUser:
    """Whoever runs this process."""

    @hookimpl
    def register_authenticators(self) -> Iterable[Any]:
        user = getpass.getuser()
        principal = Principal(f"/O=jman/CN={user}", (user,), NEVER, admin=True)
        return [lambda _headers: principal]


class CallersEnvironment(Reports):
    """A job finds the environment of whoever executes it; there is no gateway that it could report to."""

    def environment(self, uuid: str) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if _plain(name + value) and not OF_A_JOB.match(name)}


def _plain(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
