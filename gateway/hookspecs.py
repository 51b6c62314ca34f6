"""Every hook that Jobgate calls. A plugin implements those it needs, marked with `gateway.hookimpl`, and names its
module as an entry point in the group `jobgate`. The built-in plugins have no other door.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import click
import flask
import pluggy

from gateway.backend import Backend
from gateway.model import Job, JobState, Principal

if TYPE_CHECKING:
    from gateway.api.door import Door

hookspec = pluggy.HookspecMarker("jobgate")
hookimpl = pluggy.HookimplMarker("jobgate")

Authenticator: TypeAlias = Callable[[Mapping[str, str]], Principal | None]


@hookspec
def register_backends() -> Iterable[type[Backend]]:  # type: ignore[empty-body]
    """Called once at start-up. Returns the backend classes that the plugin brings; each one's `name` is the word that
    a host's `backend = "..."` names. A name that is taken already is a start-up error."""


@hookspec
def register_options() -> Mapping[str, type]:  # type: ignore[empty-body]
    """Called once when a configuration is read. Returns the tables of its own that the plugin has there: beside each
    name N a dataclass of `gateway.option` fields, which the table `[dialects.N]` is read into. An option `host` names
    one of the configuration's hosts."""


@hookspec
def register_dialects(service: Any, door: "Door") -> Iterable[flask.Blueprint]:  # type: ignore[empty-body]
    """Called once per application, after the native API is in place. Returns Flask blueprints that speak another
    system's paths and words; `service` is the application's `gateway.service.JobService`, `door` what else a dialect
    needs of the gateway."""


@hookspec
def register_templates(options: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:  # type: ignore[empty-body]
    """Called once per application; `options` are the tables `[dialects.*]` of its configuration, by name. Returns job
    templates that everybody may use, each as the JSON of `POST /api/templates` has it. A template that the API would
    refuse is a start-up error. A user's own, and one that an administrator shares, count before one of the same name
    from here."""


@hookspec
def register_authenticators() -> Iterable[Authenticator]:  # type: ignore[empty-body]
    """Called once per application. Returns callables that are given the request's headers (names in lower case) where
    neither `PROXY` nor `Authorization: Bearer` is present. Each answers a Principal, None when the request is not its
    business, or raises `gateway.Unauthenticated`. They may not rely on their order."""


@hookspec
def job_changed(job: Job, before: JobState | None) -> None:
    """Called after a change of a job's state was committed, by the process that committed it; `before` is None for a
    new job. Not on the way of a request's answer: what it raises is logged and changes nothing."""


@hookspec
def register_commands(cli: click.Group) -> None:
    """Called once when the command `jobgate` starts. Adds sub-commands to it."""
