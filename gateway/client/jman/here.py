"""Which jobs a command means: those that were submitted from this folder, or those that are named."""

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from gateway.client import Job, JobManager
from gateway.client.errors import BadSettings
from gateway.client.jman.asked import sent_again

AT_A_TIME = 60  # jobs in one URL, whose length servers limit (gunicorn: 4,094 bytes)
OURS = "jman_jobs"
TABLE = f"CREATE TABLE IF NOT EXISTS {OURS} (gateway TEXT, uuid TEXT, PRIMARY KEY (gateway, uuid))"


class Record:
    """What was submitted to gateways from this folder, in a file there: `submitted.sql3`. What else is in the file is
    left alone: with `--local` it is a database of jobs."""

    def __init__(self, file: Path, gateway: str) -> None:
        self.file = file
        self.gateway = gateway

    def uuids(self) -> list[str]:
        if not self.file.exists():
            return []
        with self._open() as connection:
            rows = connection.execute(f"SELECT uuid FROM {OURS} WHERE gateway = ? ORDER BY rowid", (self.gateway,))
            return [uuid for (uuid,) in rows]

    def add(self, uuid: str) -> None:
        with self._open() as connection:
            connection.execute(f"INSERT OR IGNORE INTO {OURS} VALUES (?, ?)", (self.gateway, uuid))

    def remove(self, uuids: Sequence[str]) -> None:
        """Forget jobs. The file goes with the last."""
        if not self.file.exists():
            return
        with self._open() as connection:
            rows = [(self.gateway, uuid) for uuid in uuids]
            connection.executemany(f"DELETE FROM {OURS} WHERE gateway = ? AND uuid = ?", rows)
            left = connection.execute(f"SELECT 1 FROM {OURS} LIMIT 1").fetchone()
            alone = tables(connection) == {OURS}
        if left is None and alone:
            self.file.unlink()

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        check(self.file)
        connection = sqlite3.connect(self.file, timeout=30)
        try:
            with connection:
                connection.execute(TABLE)
                yield connection
        except sqlite3.Error as problem:
            raise BadSettings(f"{self.file} cannot be used: {problem}") from None
        finally:
            connection.close()


def check(file: Path) -> None:
    """Raises BadSettings for a file that is no database of ours, and leaves it as it is."""
    if not file.exists():
        return
    hint = "it is left as it is; move it away, or name another with --database"
    try:
        connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True)
        try:
            found = tables(connection)
            sound = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        finally:
            connection.close()
    except (sqlite3.Error, OSError) as problem:
        raise BadSettings(f"{file} is no database of jman, or a broken one ({problem}); {hint}") from None
    if sound != "ok":
        raise BadSettings(f"{file} is broken ({sound.splitlines()[-1]}); {hint}")
    if found and not found & {OURS, "alembic_version"}:
        raise BadSettings(f"{file} is a database of some other program; {hint}")


def tables(connection: sqlite3.Connection) -> set[str]:
    rows = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    return {name for (name,) in rows}


def properties(job: Job) -> dict[str, Any]:
    """What jman has kept with a job of its own."""
    kept = job.as_json.get("extended_properties", {}).get("jman")
    return kept if isinstance(kept, dict) else {}


class Here:
    """The jobs of this folder at a gateway, by the ids that its user knows: the scheduler's numbers."""

    local = False

    def __init__(self, manager: JobManager, file: Path, host: str | None = None) -> None:
        self.manager = manager
        self.host = host
        self.file = file
        if host:
            manager.default_host = host

    @property
    def record(self) -> Record:
        return Record(self.file, self.manager.connection.settings.url)

    def close(self) -> None:
        self.manager.close()

    def jobs(self) -> list[Job]:
        """Those that were submitted from here, the oldest first."""
        found = self.again([Job(self.manager, known={"uuid": uuid}) for uuid in self.record.uuids()])
        return [job for job in found if self.host in (None, job.as_json["host"])]

    def everything(self) -> list[Job]:
        """All of the user's, the oldest first."""
        return self.manager.list_jobs(order_by="number", filters=self._on_host())

    def is_empty(self) -> bool:
        """Whether nothing was submitted from here."""
        return not self.record.uuids()

    def submit(self, request: dict[str, Any]) -> Job:
        return self.manager.job_of(self.manager.post_job(request))

    def remember(self, job: Job) -> None:
        """It was submitted from here."""
        self.record.add(str(job.uuid))

    def forget(self, uuids: Sequence[str], folders: Collection[str] = ()) -> None:
        """They were deleted; `folders` had their logs."""
        self.record.remove(uuids)

    def again(self, jobs: Sequence[Job]) -> list[Job]:
        """The same jobs as they are now, those that there still are."""
        uuids = [str(job.uuid) for job in jobs]
        found: list[Job] = []
        for start in range(0, len(uuids), AT_A_TIME):
            some = uuids[start : start + AT_A_TIME]
            found += self.manager.list_jobs(order_by="number", filters={"job_id": some})
        return found

    def wait_for(self, job: Job, seconds: float) -> None:
        """Until the job's state changes, at most for so long."""
        job.wait_for_change(seconds)

    def check_io_big(self) -> None:
        """Raises click.UsageError where the host is not under Grid Engine."""
        name = self.manager.default_host
        backend = next((host["backend"] for host in self.manager.hosts() if host["name"] == name), None)
        if backend != "gridengine":
            raise click.UsageError(f"--io-big is a resource of Grid Engine; {name} is under {backend}")

    def refresh_script(self, job: Job) -> None:
        """Of a draft whose script was sent along: the file as it is now, where it is still here."""
        script = sent_again(properties(job))
        if script is not None:
            job.set_attribute("script", script)
            job.save()

    def id_of(self, job: Job) -> str:
        """The scheduler's number; before it has given one, the beginning of the uuid."""
        if job.job_id in (None, job.uuid):
            return str(job.uuid)[:8]
        return str(job.job_id).split(".")[0]

    def names(self, jobs: Sequence[Job]) -> dict[str, str]:
        """What these jobs are called here, by all their names."""
        return {str(name): self.id_of(job) for job in jobs for name in (job.uuid, job.job_id)}

    def named(self, ids: Sequence[str]) -> list[Job]:
        """The jobs with these ids. Raises click.ClickException for one that there is not."""
        found: dict[int, Job] = {}
        here = self.jobs()
        there: list[Job] | None = None
        for name in ids:
            matching = self._matching(name, here)
            if not matching:
                there = self.everything() if there is None else there
                matching = self._matching(name, there)
            if not matching:
                raise click.ClickException(f"there is no job {name}; `jman list` shows those of this folder")
            for job in matching:
                found[job.id or 0] = job
        return [found[number] for number in sorted(found)]

    def _matching(self, name: str, jobs: Sequence[Job]) -> list[Job]:
        """One job; of several with a scheduler's number, which schedulers use again, the newest."""
        matching = [job for job in jobs if self._is(job, name)]
        if len({job.as_json["host"] for job in matching}) > 1:
            known = ", ".join(str(job.job_id) for job in matching)
            raise click.UsageError(f"{name} is ambiguous: {known}; name one in full, or the host with --host")
        return matching[-1:]

    def _is(self, job: Job, name: str) -> bool:
        if name in (job.job_id, job.uuid, self.id_of(job)):
            return True
        return len(name) >= 8 and not name.isdigit() and str(job.uuid).startswith(name)

    def _on_host(self) -> dict[str, str]:
        return {"host": self.host} if self.host else {}
