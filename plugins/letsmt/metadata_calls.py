"""/ws/metadata: what is known of paths."""

import flask

from .answers import INVALID, MISSING, NAME, UNKNOWN_PATH, Entry, Fault, answer
from .caller import Caller
from .jobs import Jobs
from .search import PATH, Records, elements, found, matches
from .storage import Path, path_of


def add(blueprint: flask.Blueprint, caller: Caller, jobs: Jobs) -> None:
    @blueprint.get("/ws/metadata", defaults={"path": ""})
    @blueprint.get("/ws/metadata/<path:path>")
    def show(path: str) -> flask.Response:
        """One path, or a search over all of them, or below the path with type=recursive."""
        wanted, arguments = path_of(path), caller.arguments
        if not wanted.parts or arguments.get("type") == "recursive":
            arguments.pop("type", None)
            return search(wanted, arguments)
        for storage in caller.storages:
            record = storage.known(wanted)
            if record:
                entry = Entry({"path": str(wanted)}, elements(jobs.now({str(wanted): record})[str(wanted)]))
                return answer("Found matching path ID. Listing all of its properties", [entry])
        raise Fault(UNKNOWN_PATH, f"DB error: ID '{wanted}' not found")

    def search(below: Path, arguments: dict[str, str]) -> flask.Response:
        storages = caller.storages
        action = arguments.pop("action", "")
        records: Records = jobs.now({k: v for s in reversed(storages) for k, v in s.all_known(below).items()})
        paths = matches(records, arguments.items(), storages[0].matching)
        return answer(f"Found {len(paths)} matching entries", found(records, paths, action))

    def written(path: str) -> tuple[Path, dict[str, str]]:
        """The path and the values of a call that writes. Raises Fault."""
        wanted, values = path_of(path), caller.arguments
        if len(wanted.parts) < 2:
            raise Fault(MISSING, "Missing path: metadata is written of /metadata/<slot>/<branch>/...")
        for name in values:
            if not NAME.fullmatch(name) or name == PATH or name.lower().startswith("xml"):
                raise Fault(INVALID, f"Invalid key {name!r}: use letters, digits, '_', '-' and '.', a letter first")
        return wanted, values

    @blueprint.post("/ws/metadata/<path:path>")
    def overwrite(path: str) -> flask.Response:
        """Each key gets the value that is sent."""
        wanted, values = written(path)
        caller.storage.tell(wanted, {**values, "owner": caller.uid})
        return answer("Created/Overwrote meta data entry")

    @blueprint.put("/ws/metadata/<path:path>")
    def extend(path: str) -> flask.Response:
        """Each key gets the items that are sent beside those that it has."""
        wanted, values = written(path)
        storage = caller.storage
        record = storage.known(wanted) or {}
        merged = {name: ",".join(dict.fromkeys(items(record.get(name, "")) + items(v))) for name, v in values.items()}
        storage.tell(wanted, {**merged, "owner": caller.uid})
        return answer("Created/Extended meta data entry")

    @blueprint.delete("/ws/metadata/<path:path>")
    def delete(path: str) -> flask.Response:
        """The items that are sent; a key without a value, or with `*`, as a whole; without keys everything."""
        wanted, values = written(path)
        storage = caller.storage
        record = storage.known(wanted)
        if record is None:
            raise Fault(UNKNOWN_PATH, f"DB error: ID '{wanted}' not found")
        left: dict[str, str | None] = {}
        for name, value in values.items() if values else dict.fromkeys(record, "*").items():
            kept = [item for item in items(record.get(name, "")) if item != value]
            if name in record:
                left[name] = None if value in ("", "*") else ",".join(kept)
        storage.tell(wanted, left)
        return answer("Deleted meta data entry")


def items(text: str) -> list[str]:
    return [item for item in text.split(",") if item]
