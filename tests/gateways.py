"""Gateways to test: one in this process, one under a real gunicorn. Both have the local backend and real jobs."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import httpx
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from gateway.app import create_app
from gateway.config import load_config
from gateway.plugin_manager import Plugins
from gateway.testing.certificates import Authority
from tests.databases import Databases, Sqlite

ORGANISATION = "/C=PL/O=Jobgate Tests"
SUBJECTS = {user: f"{ORGANISATION}/CN={user.capitalize()}" for user in ("ann", "bob", "carol", "eve")}
MAPFILE = {"ann": "ann,ann2", "bob": "bob", "carol": "carol"}
FINAL = ("FINISHED", "ABORTED", "ERROR")
PATIENCE = 180.0  # seconds; for machines with much else to do, and most waits end soon
LONG_AGO = timedelta(hours=3)  # since when the users' certificates are valid: tests put the clock back


class World:
    """A certificate authority, a grid-mapfile, the PROXY header of each user, and where gateways get databases from."""

    def __init__(self, folder: Path, mapfile: Mapping[str, str] = MAPFILE, databases: Databases | None = None) -> None:
        self.databases = databases or Sqlite()
        self.certificates = folder / "certificates"
        self.grid_mapfile = folder / "grid-mapfile"
        since = datetime.now(UTC) - LONG_AGO
        authority = Authority.create(f"{ORGANISATION}/CN=CA", not_before=since)
        authority.install(self.certificates, signing_policy=f"{ORGANISATION}/*")
        self.proxies = {
            user: authority.issue(subject, not_before=since).proxy(not_before=since)
            for user, subject in SUBJECTS.items()
        }
        self.headers = {user: {"PROXY": proxy.header()} for user, proxy in self.proxies.items()}
        lines = [f'"{SUBJECTS[user]}" {accounts}\n' for user, accounts in mapfile.items()]
        self.grid_mapfile.write_text("".join(lines))

    def config(
        self, folder: Path, base_url: str, host: str = "", gateway: str = "", database: str | None = None
    ) -> Path:
        """A configuration file in `folder`; `host` and `gateway` are further lines of those sections. Without
        `database` it has one of its own."""
        file = folder / "gateway.toml"
        file.write_text(
            f"""
            [gateway]
            base_url = "{base_url}"
            database = "{database or self.databases.url(folder)}"
            state_dir = "state"
            {gateway}
            [auth]
            trusted_ca_dir = "{self.certificates}"
            grid_mapfile = "{self.grid_mapfile}"
            admins = ["{SUBJECTS["carol"]}"]
            [hosts.localhost]
            backend = "local"
            accounts = "gateway"
            aliases = ["zeus.cyfronet.pl"]
            poll_interval = 0.1
            {host}
            """
        )
        return file


class InProcess:
    """A gateway in this process, asked with Flask's test client; `tick()` runs when a test says so."""

    def __init__(
        self, world: World, folder: Path, *, plugins: Plugins | None = None, host: str = "", gateway: str = ""
    ) -> None:
        self.world = world
        self.folder = folder
        file = world.config(folder, "http://testserver", host, f"ticker = false\n{gateway}")
        self.app = create_app(load_config(file, plugins), plugins)
        self.services = self.app.extensions["jobgate"]
        self.client: FlaskClient = self.app.test_client()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for job in self.services.repository.live_jobs("localhost"):
            with contextlib.suppress(Exception):
                self.services.hosts.by_name[job.host].backend.control("abort", job.native_id, job.account)
        self.services.hosts.close()
        self.services.news.close()
        self.services.database.close()
        self.world.databases.drop(self.folder)

    def call(self, method: str, path: str, *, user: str | None = "ann", **more: Any) -> TestResponse:
        headers = {**(self.world.headers[user] if user else {}), **more.pop("headers", {})}
        return self.client.open(path, method=method, headers=headers, **more)

    def submit(self, script: str = "#!/bin/sh\n", *, user: str = "ann", **fields: Any) -> dict[str, Any]:
        body = {"host": "localhost", "script": script, **fields}
        answer = self.call("POST", "/api/jobs", user=user, json=body)
        assert answer.status_code == 201, answer.text
        return answer.get_json()

    def job(self, job_id: str, user: str = "ann") -> dict[str, Any]:
        answer = self.call("GET", f"/api/jobs/{job_id}", user=user)
        assert answer.status_code == 200, answer.text
        return answer.get_json()

    def tick(self) -> dict[str, str]:
        return self.services.ticker.sync.tick()

    def ended(self, job_id: str, user: str = "ann") -> dict[str, Any]:
        """The job when it has ended."""
        return until(lambda: self.tick() is not None and _if_ended(self.job(job_id, user)))

    def running(self, job_id: str, user: str = "ann") -> dict[str, Any]:
        return until(lambda: self.tick() is not None and _if(self.job(job_id, user), "RUNNING"))


class Server:
    """A gateway under gunicorn, started with the command that an operator uses."""

    def __init__(
        self,
        world: World,
        folder: Path,
        *,
        workers: int = 2,
        host: str = "",
        gateway: str = "",
        database: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.world = world
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.config = world.config(folder, self.url, host, gateway, database=database)
        self.workers = workers
        self.environment = {**os.environ, **(environment or {})}
        self.process: subprocess.Popen[bytes] | None = None
        self.http = httpx.Client(base_url=self.url, timeout=60)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        for user in MAPFILE:
            with contextlib.suppress(httpx.HTTPError):
                for job in self.call("GET", "/api/jobs?status=QUEUED&status=RUNNING&host=localhost", user=user).json():
                    self.call("DELETE", f"/api/jobs/{job['job_id']}", user=user)
        self.stop(signal.SIGTERM)
        self.world.databases.drop(self.folder)

    @property
    def log(self) -> Path:
        return self.folder / "gateway.log"

    def start(self) -> None:
        command = [str(Path(sys.executable).parent / "jobgate"), "serve", "--config", str(self.config)]
        command += ["--bind", f"127.0.0.1:{self.port}", "--workers", str(self.workers)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, env=self.environment
            )
        until(self._ready, f"the gateway did not come up; see {self.log}")

    def _ready(self) -> bool:
        assert self.process
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.http.get("/ready").status_code == 200
        except httpx.TransportError:
            return False

    def stop(self, how: signal.Signals) -> None:
        """End the whole process group: gunicorn and its workers, and nothing else."""
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, how)
            self.process.wait(90)

    def call(self, method: str, path: str, *, user: str | None = "ann", **more: Any) -> httpx.Response:
        headers = {**(self.world.headers[user] if user else {}), **more.pop("headers", {})}
        return self.http.request(method, path, headers=headers, **more)

    def submit(self, script: str = "#!/bin/sh\n", *, user: str = "ann", **fields: Any) -> dict[str, Any]:
        body = {"host": "localhost", "script": script, **fields}
        answer = self.call("POST", "/api/jobs", user=user, json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def ended(self, job_id: str, user: str = "ann") -> dict[str, Any]:
        return until(lambda: _if_ended(self.call("GET", f"/api/jobs/{job_id}", user=user).json()))


def until(check: Callable[[], Any], words: str = "it did not happen in time", seconds: float = PATIENCE) -> Any:
    """The first true value of `check`, asked again and again; fails after so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := check():
            return value
        time.sleep(0.05)
    raise AssertionError(words)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _if_ended(job: dict[str, Any]) -> dict[str, Any] | None:
    return job if job["status"] in FINAL else None


def _if(job: dict[str, Any], status: str) -> dict[str, Any] | None:
    return job if job["status"] == status else None


def error(answer: TestResponse | httpx.Response) -> dict[str, Any]:
    """The answer's body, which must have the seed's error shape and the native API's additions."""
    body: dict[str, Any] = json.loads(answer.text)
    assert body["status"] == "error"
    for field in ("standard_output", "error_output", "error_message", "code", "request_id"):
        assert isinstance(body[field], str), field
    assert isinstance(body["exit_code"], int)
    assert isinstance(body["retryable"], bool)
    assert isinstance(body["errors"], dict)
    assert body["tag"] is None
    assert body["error_message"]
    return body
