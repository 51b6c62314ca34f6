"""A table of jobs as HTML for a portal's page (tethys-jobs-api, Jobs Table Gizmo).

Every value is escaped. The buttons carry `data-action` and `data-job`: what they do is for the page's own script, or
for the live component of the portal.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from markupsafe import Markup

from gateway.client.jobs import Job

ROW = Markup('<tr data-job="{job}" data-status="{status}">{cells}</tr>')
BUTTON = Markup('<button type="button" data-action="{action}" data-job="{job}">{label}</button>')


class JobsTable:
    """`column_fields` are attributes of a job, such as `id`, `description`, `run_time`, or a path into what is kept
    with it, `extended_properties.a.b`. `results_url` is where the results are shown: a URL with `{id}` in it, or one
    that the job's id is put behind. `str(table)`, or `{{ table }}` in a template of Jinja or Django, is the HTML."""

    def __init__(
        self,
        jobs: Iterable[Job],
        column_fields: Sequence[str],
        *,
        hover: bool = False,
        striped: bool = False,
        bordered: bool = False,
        condensed: bool = False,
        status_actions: bool = True,
        results_url: str | None = None,
    ) -> None:
        self.jobs = list(jobs)
        self.column_fields = tuple(column_fields)
        looks = {"hover": hover, "striped": striped, "bordered": bordered, "condensed": condensed}
        self.classes = " ".join(["table", *(f"table-{look}" for look, wanted in looks.items() if wanted)])
        self.status_actions = status_actions
        self.results_url = results_url

    def __html__(self) -> str:
        heads = [*map(_title, self.column_fields), "Status", *(["Actions"] if self.status_actions else [])]
        head = Markup("").join(Markup("<th>{}</th>").format(name) for name in heads)
        rows = Markup("\n").join(map(self._row, self.jobs))
        table = '<table class="{}" data-jobs-table>\n<thead><tr>{}</tr></thead>\n<tbody>\n{}\n</tbody>\n</table>'
        return str(Markup(table).format(self.classes, head, rows))

    __str__ = __html__

    def _row(self, job: Job) -> Markup:
        values = [*(field_of(job, name) for name in self.column_fields), job.display_status]
        cells = Markup("").join(Markup("<td>{}</td>").format(value) for value in values)
        if self.status_actions:
            buttons = Markup(" ").join(
                BUTTON.format(action=action, job=job.id, label=label) for action, label in actions(job)
            )
            cells += Markup("<td>{}</td>").format(Markup(" ").join(filter(None, [buttons, self._results(job)])))
        return ROW.format(job=job.id, status=job.display_status, cells=cells)

    def _results(self, job: Job) -> Markup:
        if not self.results_url or job.status != "FINISHED":
            return Markup("")
        number = str(job.id)
        url = (
            self.results_url.replace("{id}", number)
            if "{id}" in self.results_url
            else f"{self.results_url.rstrip('/')}/{number}"
        )
        return Markup('<a href="{}">Results</a>').format(url)


def actions(job: Job) -> list[tuple[str, str]]:
    """What can be done with a job as it is: the gateway's word and the button's."""
    pending, active = job.display_status == "Pending", not job.final and job.display_status != "Pending"
    possible = {
        ("execute", "Run"): pending,
        ("resubmit", "Resubmit"): job.final,
        ("abort", "Terminate"): active,
        ("delete", "Delete"): not active,
        ("logs", "Logs"): job.final or job.status == "RUNNING",
    }
    return [button for button, can in possible.items() if can]


def field_of(job: Job, path: str) -> Any:
    """An attribute of a job, or what lies at a path below one; empty where there is nothing."""
    first, *rest = path.split(".")
    value = getattr(job, first, None) if not first.startswith("_") else None
    if value is None:
        value = job.get_attribute(first)
    for name in rest:
        value = value.get(name) if isinstance(value, dict) else None
    return "" if value is None or callable(value) else value


def _title(path: str) -> str:
    return path.rpartition(".")[2].replace("_", " ").capitalize()
