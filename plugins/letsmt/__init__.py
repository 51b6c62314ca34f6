"""The dialect of the LetsMT / OPUS repository: the parts of its web service that run jobs, answering XML.

    /ws/job       GET the queue, or the status of a path; PUT ?run=; POST PUT a description; DELETE by path or ?job_id=
    /ws/metadata  GET one path, or search; POST PUT DELETE
    /ws/storage   PUT POST (field payload), GET (?action=download), DELETE

A `uid` is one of the caller's accounts, and its storage is a folder of that account's on the host.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import flask
from marshmallow import fields
from marshmallow.validate import Regexp

from gateway import Door, hookimpl, option

from . import job_calls, metadata_calls, storage_calls
from .answers import shown
from .caller import Caller
from .jobs import Jobs
from .templates import templates


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """[dialects.letsmt]"""

    host: str | None = option(
        fields.String(), None, "host that has the storage and runs the jobs; default: the gateway's"
    )
    storage: str = option(
        fields.String(validate=Regexp(r"(~/|/).", error="must begin with / or ~/")),
        "~/letsmt",
        "folder on the host that is an account's storage; `{account}` in it stands for the account",
    )
    python: str = option(
        fields.String(validate=Regexp(r"/", error="must be an absolute path, perhaps with one argument")),
        "/usr/bin/env python3",
        "Python on the host, 3.10 or newer; align needs nltk in it",
    )
    sacremoses: str = option(fields.String(), "sacremoses", "command on the host that tokenizes")
    link_parser: str = option(fields.String(), "link-parser", "command on the host that parses")
    eflomal: str = option(fields.String(), "eflomal-align", "command on the host that aligns words")


@hookimpl
def register_options() -> Mapping[str, type]:
    return {"letsmt": Options}


@hookimpl
def register_templates(options: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    return templates(options["letsmt"])


@hookimpl
def register_dialects(service: Any, door: Door) -> Iterable[flask.Blueprint]:
    options = door.options("letsmt")
    caller = Caller(door, door.host(options.host), options.storage)
    jobs = Jobs(service, door)
    for name, calls in (("job", job_calls), ("metadata", metadata_calls), ("storage", storage_calls)):
        blueprint = door.blueprint(f"letsmt-{name}", "/ws", error=shown)
        calls.add(blueprint, caller, jobs)
        yield blueprint
