"""When a job that waits for others may start. Pure: what to do about it is the service's and the tick's."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from gateway.model import Dependency, DependencyType, JobState


@dataclass(frozen=True, slots=True)
class Upstream:
    """A job that another waits for. `state` is None where it was deleted."""

    type: DependencyType
    uuid: str
    job_id: str | None = None
    host: str | None = None
    native_id: str | None = None
    state: JobState | None = None
    start_time: datetime | None = None

    def __str__(self) -> str:
        return f"{self.job_id or self.uuid} ({self.type})"


class Verdict(Enum):
    """On one dependency."""

    MET = "met"
    OPEN = "open"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Prospect:
    """What is to become of a job that depends on others: `never` says why it can never start, `waits` what the gateway
    holds it back for, `native` what the scheduler itself is to wait for."""

    never: str | None = None
    waits: str | None = None
    native: tuple[Dependency, ...] = ()


def verdict(upstream: Upstream) -> Verdict:
    """A job that was deleted counts as cancelled. Of one that is lost nobody knows how it ended."""
    state = upstream.state or JobState.CANCELLED
    if upstream.type == DependencyType.AFTER and (upstream.start_time or state.status == "RUNNING"):
        return Verdict.MET
    if not state.final:
        return Verdict.OPEN
    if upstream.type in (DependencyType.AFTER, DependencyType.AFTERANY):
        return Verdict.MET
    well = upstream.type == DependencyType.AFTEROK
    return Verdict.MET if state != JobState.LOST and (state == JobState.FINISHED) == well else Verdict.NEVER


def prospect(upstreams: Sequence[Upstream], host: str, native: Collection[DependencyType]) -> Prospect:
    """Of a job on this host, whose scheduler knows the types `native`."""
    verdicts = [(upstream, verdict(upstream)) for upstream in upstreams]
    for upstream, said in verdicts:
        if said is Verdict.NEVER:
            how = f"is {upstream.state.replace('_', ' ')}" if upstream.state else "was deleted"
            return Prospect(never=f"it can never start: it waits for {upstream}, which {how}")
    still = [upstream for upstream, said in verdicts if said is Verdict.OPEN]
    here = [upstream for upstream in still if upstream.host == host and upstream.native_id and upstream.type in native]
    if len(here) < len(still):
        return Prospect(waits=f"waits for {', '.join(map(str, still))}")
    return Prospect(native=tuple(Dependency(upstream.native_id or "", upstream.type) for upstream in here))
