"""/ws/storage: the files of an account's storage."""

import flask

from .answers import INVALID, MISSING, Entry, Fault, answer
from .caller import Caller
from .jobs import Jobs
from .runs import run
from .storage import Upload, path_of

HOW = "send the file as multipart/form-data, in the field `payload`"


def add(blueprint: flask.Blueprint, caller: Caller, jobs: Jobs) -> None:
    @blueprint.get("/ws/storage", defaults={"path": ""})
    @blueprint.get("/ws/storage/<path:path>")
    def show(path: str) -> flask.Response:
        """A list of what is there; with action=download the file itself."""
        wanted, storage = path_of(path), caller.storage
        if caller.arguments.get("action") == "download":
            response = jobs.door.send(storage.open(wanted))
            response.headers["Content-Disposition"] = "attachment"
            return response
        if not wanted.parts and storage.kind(wanted) is None:
            return answer(entries=[], of="/")
        found = [file_entry(*one, storage.account) for one in storage.entries(wanted)]
        return answer(entries=found, of=f"/{wanted}")

    @blueprint.route("/ws/storage/<path:path>", methods=["PUT", "POST"])
    def upload(path: str) -> flask.Response:
        """A file, or without one a folder; with action=import its import is submitted at once."""
        wanted, storage, arguments = path_of(path), caller.storage, caller.arguments
        action = arguments.pop("action", "")
        if action not in ("", "import"):
            raise Fault(INVALID, f"Invalid action {action!r}: an upload may have action=import")
        with jobs.door.form(HOW) as form:
            payload = form.file("payload")
            if payload is None and (len(wanted.parts) > 2 or form.files or form.values):
                raise Fault(MISSING, f"Missing payload; {HOW}")
            if payload is None:
                storage.make(wanted)
            elif len(wanted.parts) < 3:
                raise Fault(INVALID, f"Invalid path {wanted}: files are below /storage/<slot>/<branch>/")
            else:
                storage.put(wanted, Upload(payload))
        gid = arguments.pop("gid", "") or storage.account
        storage.tell(wanted, {"owner": storage.account, "gid": gid, "status": "updated"})
        told = f"update ok /{wanted}"
        if action == "import":
            told += f",{run(jobs, storage, 'import', wanted, arguments)}"
        return answer(told)

    @blueprint.delete("/ws/storage/<path:path>")
    def remove(path: str) -> flask.Response:
        """A file, or a folder with all that is in it, and what is known of it."""
        wanted = path_of(path)
        if not wanted.parts:
            raise Fault(MISSING, "Missing path")
        caller.storage.remove(wanted)
        return answer(f"deleted /{wanted}")


def file_entry(kind: str, name: str, size: int, account: str) -> Entry:
    commit = {"@revision": "HEAD", "author": account, "date": "unknown"}
    about = {"name": name, "commit": commit, "group": account, "owner": account}
    return Entry({"kind": kind}, about | ({"size": str(size)} if kind == "file" else {}))
