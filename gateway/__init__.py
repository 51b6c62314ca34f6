"""What a plugin author imports, and nothing else. See docs/plugins.md."""

from typing import TYPE_CHECKING, Any

from gateway.backend import (
    Backend,
    Capabilities,
    ClusterInfo,
    CommandBackend,
    HostContext,
    Queue,
    in_folder,
    is_folder,
    split_folder,
    with_log_folders,
)
from gateway.bundles import is_archive
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
from gateway.model import (
    DEFAULT_NAME,
    Dependency,
    DependencyType,
    Job,
    JobReport,
    JobSpec,
    JobState,
    Principal,
    Resources,
    Submitted,
    TaskRange,
    TaskReport,
    compact,
    task_range,
)
from gateway.options import REQUIRED, option
from gateway.task_script import task_script
from gateway.transport import Command, CommandResult

if TYPE_CHECKING:
    from gateway.api.door import Door

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
    "Dependency",
    "DependencyType",
    "Directive",
    "Door",
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
    "TaskRange",
    "TaskReport",
    "TooLarge",
    "Unauthenticated",
    "Unprocessable",
    "compact",
    "contradictions",
    "directive_lines",
    "hookimpl",
    "in_folder",
    "is_archive",
    "is_folder",
    "option",
    "split_folder",
    "task_range",
    "task_script",
    "with_log_folders",
]


def __getattr__(name: str) -> Any:
    """Door is imported when it is asked for: it brings the whole API along, which clients and backends do without."""
    if name == "Door":
        from gateway.api.door import Door

        return Door
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
