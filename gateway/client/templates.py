"""Job templates of an application's own, in the words of tethys-jobs-api: what is the same for all jobs of a kind."""

import io
import shlex
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

from gateway.client.jobs import Attachments, Job, refuse
from gateway.workspace_variables import expand

JOB_FIELDS = frozenset(
    {
        *("host", "script", "working_directory", "tag", "name", "account", "queue", "nodes", "cores", "memory", "gpus"),
        *("wall_time", "environment", "hold", "priority", "stdout", "stderr", "array", "dependencies", "description"),
        *("extended_properties", "notify", "template", "parameters", "files", "arguments"),
    }
)


@dataclass(frozen=True, slots=True)
class Scheduler:
    """A host of the gateway."""

    name: str
    backend: str = ""


class CondorJob(Job):
    """A program with its files, as portals describe it for HTCondor; it runs on any host.

    `executable` is one of `remote_input_files`, which are sent along, or a program on the host. `attributes` are
    HTCondor's: `transfer_input_files` names files that are sent already, `transfer_output_files` what `results` gives,
    and requests for cores, memory, priority and environment are passed on; any other is refused. `num_jobs` makes
    an array.
    """

    type = "CONDOR"
    own_attributes = frozenset(
        {
            "executable",
            "condorpy_template_name",
            "attributes",
            "remote_input_files",
            "num_jobs",
            "scheduler",
            "workspace",
        }
    )
    passed_on: ClassVar[Mapping[str, str]] = {
        "request_cpus": "cores",
        "request_memory": "memory",
        "priority": "priority",
    }

    def set_attribute(self, name: str, value: Any) -> None:
        """Attributes of HTCondor may be set one by one."""
        if name in self.passed_on or name.startswith("transfer_"):
            attributes = {**(self.get_attribute("attributes") or {}), name: value}
            super().set_attribute("attributes", attributes)
        else:
            super().set_attribute(name, value)

    def request(self) -> dict[str, Any]:
        fields = {name: value for name, value in super().request().items() if name not in self.own_attributes}
        attributes = dict(self.get_attribute("attributes") or {})
        for ours in ("transfer_input_files", "transfer_output_files", "should_transfer_files"):
            attributes.pop(ours, None)
        arguments = attributes.pop("arguments", None)
        for theirs, name in self.passed_on.items():
            if theirs in attributes:
                fields.setdefault(name, attributes.pop(theirs))
        if attributes:
            raise refuse(f"cannot be honoured: {', '.join(sorted(attributes))}", "attributes")
        arguments = fields.pop("arguments", arguments)
        if arguments is not None:
            fields["arguments"] = shlex.split(arguments) if isinstance(arguments, str) else [*map(str, arguments)]
        if (scheduler := self.get_attribute("scheduler")) is not None:
            fields["host"] = scheduler.name if isinstance(scheduler, Scheduler) else str(scheduler)
        if (count := int(self.get_attribute("num_jobs") or 1)) > 1:
            fields["array"] = f"1-{count}"
        return fields

    def attachments(self) -> Attachments:
        """The program and its files, and a `run.sh` that starts the one and keeps what it makes."""
        executable = self.get_attribute("executable")
        if not executable:
            raise refuse("must be given", "executable")
        workspace = Path(self.get_attribute("workspace") or self._manager.workspaces.of(self.user)["USER_WORKSPACE"])
        files = {Path(name).name: workspace / name for name in self.get_attribute("remote_input_files") or ()}
        if Path(executable).name not in files and (workspace / executable).is_file():
            files[Path(executable).name] = workspace / executable
        program = f"./{Path(executable).name}" if Path(executable).name in files else str(executable)
        outputs = (self.get_attribute("attributes") or {}).get("transfer_output_files") or ()
        return Attachments(("bundle.tar.gz", _packed(files, _starter(program, _list(outputs)))))


JobType: TypeAlias = type[Job]
JOB_TYPES: dict[str, JobType] = {"BASIC": Job, "CONDOR": CondorJob}


@dataclass(frozen=True, slots=True)
class JobTemplate:
    """A name, a kind of JOB_TYPES, and what all its jobs have in common."""

    name: str
    type: JobType = Job
    parameters: Mapping[str, Any] = field(default_factory=dict)


def BasicJobTemplate(name: str, parameters: Mapping[str, Any] | None = None) -> JobTemplate:
    """A template whose parameters are the fields of a job (docs/api.md)."""
    return JobTemplate(name, JOB_TYPES["BASIC"], parameters or {})


def CondorJobTemplate(name: str, parameters: Mapping[str, Any] | None = None) -> JobTemplate:
    """A template for a `CondorJob`."""
    return JobTemplate(name, JOB_TYPES["CONDOR"], parameters or {})


class Workspaces:
    """The folders of an application and of each of its users, on this machine."""

    def __init__(self, folder: str | Path | None) -> None:
        self.folder = Path(folder) if folder else Path.home() / ".jobgate" / "workspaces"

    def of(self, user: str | None) -> dict[str, str]:
        """What the variables stand for; absolute."""
        root = self.folder.absolute()
        name = (user or "nobody").replace("/", "_").lstrip(".") or "nobody"
        return {"APP_WORKSPACE": str(root / "app"), "USER_WORKSPACE": str(root / "users" / name)}


def expanded(parameters: Mapping[str, Any], folders: Mapping[str, str]) -> dict[str, Any]:
    """The parameters with `$(APP_WORKSPACE)` and `$(USER_WORKSPACE)` filled in, however deep."""
    values: dict[str, Any] = expand(dict(parameters), folders)
    return values


def _list(value: Any) -> list[str]:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else [str(part) for part in value]


def _starter(program: str, outputs: list[str]) -> str:
    lines = ["#!/bin/sh", f'{shlex.quote(program)} "$@"', "code=$?"]
    lines += [f'cp -R -- {shlex.quote(name)} "$JOBGATE_OUTPUT"/ || code=1' for name in outputs]
    return "\n".join([*lines, "exit $code", ""])


def _packed(files: Mapping[str, Path], starter: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, path in files.items():
            try:
                archive.add(path, name, filter=_executable)
            except OSError as problem:
                raise refuse(f"{path} cannot be read: {problem.strerror}", "remote_input_files") from None
        about = tarfile.TarInfo("run.sh")
        about.size, about.mode = len(starter.encode()), 0o755
        archive.addfile(about, io.BytesIO(starter.encode()))
    return packed.getvalue()


def _executable(about: tarfile.TarInfo) -> tarfile.TarInfo:
    about.mode |= 0o700
    return about
