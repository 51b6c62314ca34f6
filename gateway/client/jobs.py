"""A job in Python: asked for, saved or executed, watched, steered, read."""

import copy
import io
import tarfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self
from urllib.parse import quote

import httpx

from gateway.errors import Conflict, NotFound, Unprocessable
from gateway.model import JobState

if TYPE_CHECKING:
    from gateway.client.manager import JobManager

LONGEST_WAIT = 60.0  # seconds that one request waits; proxies between cut silent connections
USER = "portal_user"  # where extended_properties keep for whom a portal made the job
NOTES = frozenset({"tag", "description", "extended_properties", "notify"})

# The words of portals (tethys-jobs-api) for the states of a job.
PORTAL_WORDS: Mapping[JobState, str] = {
    **dict.fromkeys(JobState, "Error"),
    JobState.DRAFT: "Pending",
    JobState.SUBMITTING: "Submitted",
    JobState.QUEUED: "Submitted",
    JobState.HELD: "Submitted",
    JobState.RUNNING: "Running",
    JobState.SUSPENDED: "Paused",
    JobState.COMPLETING: "Running",
    JobState.UNKNOWN: "Running",
    JobState.FINISHED: "Complete",
    JobState.CANCELLED: "Aborted",
}


@dataclass(frozen=True, slots=True)
class Attachments:
    """What a job takes with it: a bundle (an archive with `run.sh`) and inputs, by name."""

    bundle: tuple[str, bytes | Path]
    inputs: tuple[tuple[str, bytes | Path], ...] = ()


class Job:
    """A job. New ones come from `JobManager.create_job`, and exist in the gateway once they are saved or executed.

    `set_attribute` takes the fields of a job as the API names them (docs/api.md), and a template's parameters.
    """

    type: ClassVar[str] = "BASIC"
    own_attributes: ClassVar[frozenset[str]] = frozenset()  # beyond the API's

    def __init__(
        self,
        manager: "JobManager",
        attributes: Mapping[str, Any] | None = None,
        known: Mapping[str, Any] | None = None,
    ) -> None:
        """`attributes` are not saved yet; `known` is the job as the gateway has shown it."""
        self._manager = manager
        self._attributes: dict[str, Any] = dict(attributes or {})
        self._known: dict[str, Any] = dict(known or {})
        self._etag: str | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.job_id or 'unsaved'} {self.state or 'new'}>"

    # -- what it is ---------------------------------------------------------------------------------------------------

    @property
    def id(self) -> int | None:
        """The gateway's own number; None before it is saved."""
        return self._known.get("number")

    @property
    def job_id(self) -> str | None:
        """`<the scheduler's id>.<host>`; the uuid until the scheduler has answered."""
        return self._known.get("job_id")

    @property
    def uuid(self) -> str | None:
        return self._known.get("uuid")

    @property
    def name(self) -> str:
        return str(self.get_attribute("name") or "job")

    @property
    def description(self) -> str | None:
        return self.get_attribute("description")

    @property
    def user(self) -> str | None:
        """For whom a portal made it."""
        return self.extended_properties.get(USER)

    @property
    def extended_properties(self) -> dict[str, Any]:
        """Any JSON object, kept with the job. Changes are sent by `save`."""
        if "extended_properties" not in self._attributes:
            self._attributes["extended_properties"] = copy.deepcopy(self._known.get("extended_properties") or {})
        properties: dict[str, Any] = self._attributes["extended_properties"]
        return properties

    @property
    def status(self) -> str | None:
        """QUEUED, RUNNING, FINISHED, ABORTED or ERROR, as last heard; None before it is saved."""
        return self._known.get("status")

    @property
    def state(self) -> JobState | None:
        """The same in full."""
        return JobState(self._known["state"]) if self._known else None

    @property
    def display_status(self) -> str:
        """The same in a portal's words: Pending, Submitted, Running, Various, Paused, Complete, Error, Aborted."""
        counts = {PORTAL_WORDS[JobState(word)] for word in self._known.get("tasks") or {} if word != "total"}
        if len(counts) > 1:
            return "Various"
        return PORTAL_WORDS[self.state or JobState.DRAFT]

    @property
    def final(self) -> bool:
        """Whether it has ended."""
        return bool(self.state and self.state.final)

    @property
    def exit_code(self) -> int | None:
        return self._known.get("exit_code")

    @property
    def run_time(self) -> str:
        """`[D-]HH:MM:SS`, so far; empty where it has not begun."""
        return str(self._known.get("wall_time") or "")

    @property
    def created_at(self) -> datetime | None:
        at = self._known.get("created_at")
        return datetime.fromisoformat(at) if at else None

    @property
    def as_json(self) -> dict[str, Any]:
        """All that the gateway last said of it, as docs/api.md has it."""
        return copy.deepcopy(self._known)

    # -- before it runs -----------------------------------------------------------------------------------------------

    def get_attribute(self, name: str) -> Any:
        """What was set, else what the gateway has."""
        return self._attributes[name] if name in self._attributes else self._known.get(name)

    def set_attribute(self, name: str, value: Any) -> None:
        """Change a field; `save` or `execute` sends it. Raises AttributeError for a field that no job has."""
        self._manager.check_attribute(self, name)
        self._attributes[name] = value

    def save(self) -> None:
        """Keep it in the gateway without running it. Of a job that was submitted only tag, description,
        extended_properties and notify can be changed."""
        if self._known:
            if changes := self._changes():
                self._learn(self._manager.connection.call("PATCH", self._path(), json=changes))
        else:
            self._create(draft=True)
        self._attributes.clear()

    def execute(self) -> None:
        """Submit it, and save it by that. Raises RefusedByScheduler, HostDown, Unprocessable..."""
        if not self._known:
            self._create(draft=False)
            self._attributes.clear()
            return
        self.save()
        was_draft = self.state == JobState.DRAFT
        try:
            self._learn(self._put("execute", once=True))
        except Conflict:
            # An answer may have been lost on its way, and the request sent again.
            self.update_status()
            if not was_draft or self.state == JobState.DRAFT:
                raise

    def _changes(self) -> dict[str, Any]:
        return {name: value for name, value in self._attributes.items() if value != self._known.get(name)}

    def _create(self, *, draft: bool) -> None:
        body = {**self.request(), **({"draft": True} if draft else {})}
        attached = self.attachments()
        self._learn(self._manager.post_job(body, attached) if attached else self._manager.post_job(body))

    def request(self) -> dict[str, Any]:
        """The body of the request for it."""
        return {name: value for name, value in self._attributes.items() if value not in (None, {})}

    def attachments(self) -> Attachments | None:
        """The files that go with it."""
        return None

    # -- steering -----------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """End it. Raises Conflict where it has ended."""
        self._steer("abort")

    def hold(self) -> None:
        """Keep it from starting."""
        self._steer("hold")

    def release(self) -> None:
        self._steer("release")

    def suspend(self) -> None:
        """Stand still, and keep everything."""
        self._steer("suspend")

    def pause(self) -> None:
        self.suspend()

    def resume(self) -> None:
        self._steer("continue")

    def resubmit(self, *, clean: bool = False, tasks: str | None = None) -> "Job":
        """The same once more, as a new job. `clean` removes the old one's logs; `tasks` of an array: "failed", or such
        as "3,7"."""
        more = {**({"clean": True} if clean else {}), **({"tasks": tasks} if tasks else {})}
        return self._manager.job_of(self._put("resubmit", once=True, **more))

    def reset(self, *, clean: bool = False) -> None:
        """Once it has ended, make it a draft again: the same job, under its `id`. `clean` removes its logs."""
        self._learn(self._put("reset", **({"clean": True} if clean else {})))

    def stop_tasks(self, tasks: Iterable[int]) -> None:
        """End these tasks of an array."""
        for task in tasks:
            self._manager.connection.call("PUT", f"{self._path()}/tasks/{task}", json={"action": "abort"})

    def delete(self, *, clean: bool = False) -> None:
        """Stop it if need be, and forget it. `clean` removes its logs, for which it must have ended."""
        self._manager.connection.call("DELETE", self._path(), params={"clean": "1"} if clean else {})
        self._known = {}

    def _steer(self, action: str) -> None:
        self._put(action)
        self.update_status()

    def _put(self, action: str, *, once: bool = False, **more: Any) -> httpx.Response:
        return self._manager.connection.call("PUT", self._path(), once=once, json={"action": action, **more})

    # -- watching -----------------------------------------------------------------------------------------------------

    def update_status(self) -> str | None:
        """Ask the gateway how it is; the new `status`."""
        self._ask()
        return self.status

    def wait(self, timeout: float | None = None) -> Self:
        """Until it has ended: the gateway answers when something changes. Raises TimeoutError after so many seconds."""
        end = None if timeout is None else time.monotonic() + timeout
        while not self.final:
            left = LONGEST_WAIT if end is None else end - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"{self.job_id} is still {self.state} after {timeout:g} seconds")
            self._ask(wait=min(left, LONGEST_WAIT))
        return self

    def wait_for_change(self, seconds: float) -> None:
        """Until its state is another, at most for so long."""
        self._ask(wait=min(seconds, LONGEST_WAIT))

    def _ask(self, **params: float) -> None:
        headers = {"If-None-Match": self._etag} if self._etag else {}
        answer = self._manager.connection.call("GET", self._path(), params=params, headers=headers)
        if answer.status_code != 304:
            self._learn(answer)

    def _learn(self, answer: httpx.Response) -> None:
        self._known = answer.json()
        self._etag = answer.headers.get("ETag")

    # -- reading ------------------------------------------------------------------------------------------------------

    def get_logs(self, task: int | None = None, tail: int | None = None) -> dict[str, str]:
        """What it has written to `stdout` and `stderr`, the last `tail` lines of each. Of an array that of one task, or
        of all: `1/stdout`, `1/stderr`, `2/stdout`..."""
        if task is None and self._known.get("array"):
            logs = {each: self.get_logs(each, tail) for each in self.tasks()}
            return {f"{each}/{stream}": text for each, both in logs.items() for stream, text in both.items()}
        return {stream: self.log(stream, task, tail) for stream in ("stdout", "stderr")}

    def log(self, stream: str, task: int | None = None, tail: int | None = None) -> str:
        """One of them; empty where there is none yet."""
        try:
            return self.log_bytes(stream, task, tail).decode("utf-8", "replace")
        except NotFound:
            return ""

    def log_bytes(self, stream: str, task: int | None = None, tail: int | None = None) -> bytes:
        """One of them as it was written. Raises NotFound where there is none yet."""
        return self._manager.connection.call("GET", self._log_path(stream, task), params=_tail(tail)).content

    def follow(self, stream: str = "stdout", tail: int | None = None, task: int | None = None) -> Iterator[bytes]:
        """A log as it grows, until the job has ended, or that task of an array."""
        params = {"follow": "1", **_tail(tail)}
        with self._manager.connection.stream(self._log_path(stream, task), params=params) as answer:
            yield from answer.iter_bytes()

    def tasks(self, status: str | None = None) -> dict[int, dict[str, Any]]:
        """The tasks of an array by number, those of that status."""
        params = {"status": status} if status else {}
        return {task["task_id"]: task for task in self._manager.pages(f"{self._path()}/tasks", params)}

    @property
    def results(self) -> "Results":
        """The files that it has written."""
        return Results(self)

    def _log_path(self, stream: str, task: int | None) -> str:
        return f"{self._path()}/{stream}" if task is None else f"{self._path()}/tasks/{task}/{stream}"

    def _path(self) -> str:
        if not self._known:
            raise Conflict("the job is not saved yet; save or execute it first")
        return f"/api/jobs/{quote(str(self.uuid))}"

    @property
    def manager(self) -> "JobManager":
        return self._manager


class Results(Mapping[str, bytes]):
    """The files below a job's output folder, or its working directory where it has none, read as they are asked for."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def __iter__(self) -> Iterator[str]:
        return (file["path"] for file in self._connection.json("GET", f"{self._job._path()}/files/"))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __getitem__(self, path: str) -> bytes:
        try:
            return self._connection.call("GET", f"{self._job._path()}/files/{quote(path)}").content
        except NotFound:
            raise KeyError(path) from None

    def download(self, folder: str | Path) -> list[Path]:
        """All of them into this folder, which is made; their paths there."""
        packed = self._connection.call("GET", f"{self._job._path()}/output").content
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            archive.extractall(folder, filter="data")
            return [Path(folder, member.name) for member in archive.getmembers() if member.isfile()]

    @property
    def _connection(self) -> Any:
        return self._job.manager.connection


def _tail(lines: int | None) -> dict[str, str]:
    return {} if lines is None else {"tail": str(lines)}


def refuse(words: str, field: str) -> Unprocessable:
    """A request that cannot be honoured, before it is sent."""
    return Unprocessable(f"{field} {words}", errors={field: [words]})
