"""The figures of each case, and the table of them at the end of a run."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pytest

from tests.faults.crowd import Job
from tests.faults.schedulers import Seen

PROPERTY = "faults"


@dataclass(frozen=True)
class Figures:
    """`acknowledged`: jobs whose client was told that they are submitted; `present`: jobs of this case that the
    scheduler itself shows; `lost`: acknowledged and not there; `doubled`: there, or run, more than once."""

    case: str
    host: str
    acknowledged: int
    present: int
    lost: int
    doubled: int

    @classmethod
    def of(
        cls,
        case: str,
        host: str,
        acknowledged: Iterable[Job],
        seen: Collection[Seen],
        runs: Mapping[str, int],
    ) -> "Figures":
        jobs = list(acknowledged)
        there = {(job.name, job.native_id, job.uuid) for job in seen}
        lost = [job for job in jobs if (job.name, job.native_id, job.uuid) not in there]
        by_name: dict[str, set[str]] = {}
        by_uuid: dict[str, set[str]] = {}
        for job in seen:
            by_name.setdefault(job.name, set()).add(job.native_id)
            by_uuid.setdefault(job.uuid, set()).add(job.native_id)
        twice = {name for name, ids in by_name.items() if len(ids) > 1 or runs.get(name, 0) > 1}
        twice |= {job.name for job in seen if len(by_uuid[job.uuid]) > 1}
        return cls(case, host, len(jobs), len({job.native_id for job in seen}), len(lost), len(twice))


def table(rows: Iterable[Mapping[str, Any]]) -> str:
    """All figures in columns."""
    names = ("case", "host", "acknowledged", "in the scheduler", "lost", "doubled")
    cells = [names, *(tuple(str(value) for value in row.values()) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(names))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)


def show(terminal: pytest.TerminalReporter) -> None:
    """For pytest_terminal_summary; reports come from all workers of a run."""
    rows = [
        value
        for reports in terminal.stats.values()
        for report in reports
        if getattr(report, "when", None) == "call"
        for name, value in report.user_properties
        if name == PROPERTY
    ]
    if rows:
        terminal.section("faults")
        terminal.write_line(table(sorted(rows, key=lambda row: (row["case"], row["host"]))))


def record(request: pytest.FixtureRequest, figures: Figures) -> None:
    """Into the table; fails where a job was lost or doubled."""
    request.node.user_properties.append((PROPERTY, asdict(figures)))
    print(", ".join(f"{name} {value}" for name, value in asdict(figures).items()))
