"""What a plugin author imports, and nothing else. See docs/plugins.md."""

from gateway.backend import (
    Backend,
    Capabilities,
    ClusterInfo,
    CommandBackend,
    HostContext,
    Queue,
    in_folder,
    split_folder,
)
from gateway.directives import Directive, contradictions, directive_lines
from gateway.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    HostDown,
    HostTimeout,
    InvalidSchedulerAnswer,
    JobgateError,
    NotFound,
    OutcomeUnknown,
    RefusedByScheduler,
    TooLarge,
    Unauthenticated,
    Unprocessable,
)
from gateway.hookspecs import hookimpl
from gateway.model import DEFAULT_NAME, Job, JobReport, JobSpec, JobState, Principal, Resources, Submitted
from gateway.options import REQUIRED, option
from gateway.transport import Command, CommandResult

__all__ = [
    "DEFAULT_NAME",
    "REQUIRED",
    "Backend",
    "BadRequest",
    "Capabilities",
    "ClusterInfo",
    "Command",
    "CommandBackend",
    "CommandResult",
    "Conflict",
    "Directive",
    "Forbidden",
    "HostContext",
    "HostDown",
    "HostTimeout",
    "InvalidSchedulerAnswer",
    "Job",
    "JobReport",
    "JobSpec",
    "JobState",
    "JobgateError",
    "NotFound",
    "OutcomeUnknown",
    "Principal",
    "Queue",
    "RefusedByScheduler",
    "Resources",
    "Submitted",
    "TooLarge",
    "Unauthenticated",
    "Unprocessable",
    "contradictions",
    "directive_lines",
    "hookimpl",
    "in_folder",
    "option",
    "split_folder",
]
