"""What a plugin author imports, and nothing else. See docs/plugins.md."""

from gateway.backend import (
    Backend,
    Capabilities,
    ClusterInfo,
    CommandBackend,
    HostContext,
    Queue,
)
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
from gateway.model import Job, JobReport, JobSpec, JobState, Principal, Resources, Submitted
from gateway.options import option
from gateway.transport import Command, CommandResult

__all__ = [
    "Backend",
    "BadRequest",
    "Capabilities",
    "ClusterInfo",
    "Command",
    "CommandBackend",
    "CommandResult",
    "Conflict",
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
    "hookimpl",
    "option",
]
