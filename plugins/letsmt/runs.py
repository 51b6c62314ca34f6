"""Submitting jobs: `run=` on a file or a subtree, and job description files."""

from collections.abc import Mapping
from typing import Any

from gateway import JobgateError

from . import descriptions
from .answers import INVALID, NOT_IMPLEMENTED, Fault
from .jobs import PROPERTY, Jobs, name_of
from .storage import Path, Storage, path_of
from .templates import PATTERNS

ARCHIVES = (".tar.gz", ".tgz", ".tar.bz2", ".tar", ".zip")
IMPORTS = {"import": "waiting in import queue", "reimport": "waiting in re-import queue"}
OVER_FOLDERS = ("align",)  # which find their files themselves, since they need several at once
OF_THE_JOB = ("queue", "walltime")


def run(jobs: Jobs, storage: Storage, name: str, path: Path, arguments: Mapping[str, str]) -> str:
    """Submit the template of that name for a file, or once for each file of a subtree, and keep its description. Gives
    what is answered. `arguments` are parameters of the template, `queue`, and `walltime` in minutes."""
    if len(path.parts) < 3:
        raise Fault(INVALID, f"Invalid path {path}: what is run is run below /job/<slot>/<branch>/")
    kind = storage.kind(path)
    if kind is None:
        raise storage.missing(path)
    description = description_of(path, name)
    text = descriptions.written(str(path), name, arguments)
    fields: dict[str, Any] = {
        "template": name,
        "parameters": {key: value for key, value in arguments.items() if key not in OF_THE_JOB},
        "environment": {"LETSMT_STORAGE": storage.root, "LETSMT_PATH": str(path), "LETSMT_UID": storage.account},
        **descriptions.read(text, "of this run").fields(),
    }
    if kind == "folder" and name not in OVER_FOLDERS:
        fields["files"] = {"path": storage.where(path), "pattern": PATTERNS.get(name, "*")}
    storage.put(description, text)
    known = {"owner": storage.account, "gid": storage.account}
    if name in IMPORTS:
        known |= {"status": IMPORTS[name], **nothing_imported(path)}
    return submit(jobs, storage, fields, description, path, known)


def submit_description(jobs: Jobs, storage: Storage, path: Path) -> str:
    """Submit the job description that lies there. Raises Fault."""
    found = descriptions.read(storage.read(path, descriptions.LARGEST), str(path))
    if found.run and found.of:
        return run(jobs, storage, found.run, path_of(found.of), found.arguments)
    record = storage.record(path)
    fields = {
        "script": descriptions.script(found.commands),
        "environment": {"LETSMT_STORAGE": storage.root, "LETSMT_RECORD": record, "LETSMT_UID": storage.account},
        **found.fields(),
    }
    return submit(jobs, storage, fields, path, None, {"owner": storage.account, "gid": storage.account})


def submit(
    jobs: Jobs,
    storage: Storage,
    fields: Mapping[str, Any],
    description: Path,
    path: Path | None,
    known: Mapping[str, str],
) -> str:
    """Submit a job about a description, and perhaps a resource. What is known of both names the job."""
    about = {"job": str(description)} | ({"file": str(path)} if path else {})
    paths = [description, *([path] if path else [])]
    for one in paths:  # before the job itself may write there
        storage.tell(one, known)
    where = {"host": storage.host.name, "account": storage.account, "extended_properties": {PROPERTY: about}}
    try:
        submitted = jobs.door.submit({**fields, **where})
    except JobgateError as problem:
        for one in paths:
            storage.tell(one, {"status": "not submitted", "job_status": f"not submitted: {problem.message}"})
        if problem.code == "unknown_template":
            raise Fault(NOT_IMPLEMENTED, f"Not implemented: run={fields['template']}; {problem.message}") from None
        raise
    job = submitted[0]
    logs = {"job_log_out": job.stdout_file, "job_log_err": job.stderr_file}
    for one in paths:
        storage.tell(one, {"job_id": name_of(job), **{name: log for name, log in logs.items() if log}})
    return ",".join(f"submitted job with ID '{name_of(one)}'" for one in submitted)


def description_of(path: Path, name: str) -> Path:
    """Where the description of a run on that path is kept."""
    if name in IMPORTS:
        return path.beside("jobs", "import", f"{path.inner}.xml")
    return path.beside("jobs", "run", f"{path.inner}.{name}.xml")


def nothing_imported(path: Path) -> dict[str, str]:
    """What is known of an archive before its import has begun."""
    ending = next((ending for ending in ARCHIVES if path.inner.endswith(ending)), "")
    lists = ("import_success", "import_failed", "import_empty")
    homedir = {"import_homedir": path.inner.removesuffix(ending)} if ending else {}
    return {**homedir, **dict.fromkeys(lists, ""), **{f"{name}_count": "0" for name in lists}}
