"""The jobs of this folder without a gateway: collected in `submitted.sql3`, by the numbers that they have there."""

import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from gateway.client import Job, JobManager
from gateway.client.jman.here import OURS, Here, check, tables
from gateway.client.local import HOST, LocalGateway
from gateway.model import JobState


class LocalHere(Here):
    """As `Here`. Jobs are drafts until `jman --local execute` runs them."""

    local = True

    def __init__(self, file: Path, slots: int | None = None) -> None:
        check(file)
        self.gateway = LocalGateway(file, slots)
        super().__init__(JobManager(connection=self.gateway.connection), file)
        self.manager.default_host = HOST

    def close(self) -> None:
        super().close()
        self.gateway.close()

    def jobs(self) -> list[Job]:
        if not self.file.exists():
            return []
        found = self.everything()
        if any(job.state != JobState.DRAFT and not job.final for job in found) and not self.gateway.is_executing():
            self.gateway.tick()  # whoever executed them was killed
            found = self.everything()
        return found

    def is_empty(self) -> bool:
        return False

    def id_of(self, job: Job) -> str:
        return str(job.id)

    def submit(self, request: dict[str, Any]) -> Job:
        """Collect a job. Its logs, and the job itself, know it by its number, which stays."""
        job = self.manager.job_of(self.manager.post_job({**request, "draft": True}))
        name = re.sub(r"[^\w.+-]", "_", job.name)
        for stream in ("stdout", "stderr"):
            folder = Path(request.get(stream) or self.gateway.output)
            (Path(request["working_directory"]) / folder).mkdir(parents=True, exist_ok=True)
            job.set_attribute(stream, str(folder / f"{name}.{stream[3]}{job.id}"))
        job.set_attribute("environment", {**request.get("environment", {}), "JOB_ID": str(job.id)})
        job.save()
        return job

    def remember(self, job: Job) -> None:
        """It is in the database."""

    def forget(self, uuids: Sequence[str], folders: Collection[str] = ()) -> None:
        """The database goes with the last job, and empty folders of logs do."""
        for folder in {*folders} - {str(Path.cwd())}:
            with suppress(OSError):
                Path(folder).rmdir()
        if self.file.exists() and not self.everything():
            with self.gateway.services.database.reading() as connection:
                alone = OURS not in tables(connection.connection.driver_connection)  # type: ignore[arg-type]
            if alone:
                self.gateway.remove()

    def live(self) -> list[Job]:
        """Those that were handed over and have not ended."""
        states = [state.value for state in JobState if state != JobState.DRAFT and not state.final]
        return self.manager.list_jobs(filters={"state": states})

    def check_io_big(self) -> None:
        raise click.UsageError("--io-big is a resource of Grid Engine; this machine has none")

    def wait_for(self, job: Job, seconds: float) -> None:
        if not self.gateway.is_executing():
            raise click.ClickException("nobody executes these jobs; run them with `jman --local execute`")
        job.wait_for_change(seconds)

    def refresh_script(self, job: Job) -> None:
        """It runs the file itself."""
