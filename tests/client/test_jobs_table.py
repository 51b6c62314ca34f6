"""The jobs table of a portal's page."""

from html.parser import HTMLParser
from typing import Any

import pytest

from gateway.client import Job, JobManager, JobsTable

EVIL = "<script>alert('x')</script>\" onmouseover=\"y"
FIELDS = ("id", "name", "description", "run_time", "extended_properties.a.b")


def job(state: str = "finished", status: str = "FINISHED", **more: Any) -> Job:
    known = {"number": 27, "uuid": "u", "state": state, "status": status, "name": "n", **more}
    return Job(JobManager(), known=known)


class Seen(HTMLParser):
    """Tags with their attributes, and all text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data.strip())

    def buttons(self) -> list[str | None]:
        return [attributes["data-action"] for tag, attributes in self.tags if tag == "button"]


def test_the_columns_of_the_seed() -> None:
    one = job(description="my first job", wall_time="00:01:00", extended_properties={"a": {"b": 7}})
    table = JobsTable(jobs=[one], column_fields=FIELDS, hover=True, striped=False, results_url="my_first_app:results")
    seen = Seen(str(table))
    assert seen.tags[0] == ("table", {"class": "table table-hover", "data-jobs-table": None})
    text = [each for each in seen.text if each]
    assert text[:7] == ["Id", "Name", "Description", "Run time", "B", "Status", "Actions"]
    assert text[7:13] == ["27", "n", "my first job", "00:01:00", "7", "Complete"]
    assert ("a", {"href": "my_first_app:results/27"}) in seen.tags
    assert table.__html__() == str(table)


def test_nothing_that_a_user_wrote_becomes_html() -> None:
    one = job(name=EVIL, description=EVIL, extended_properties={"a": {"b": EVIL}})
    table = JobsTable([one], FIELDS, results_url=f"/results/{{id}}?{EVIL}")
    seen = Seen(str(table))
    assert "script" not in [tag for tag, _ in seen.tags]
    assert not [tag for tag, attributes in seen.tags if "onmouseover" in attributes]
    assert seen.text.count(EVIL) == 3


@pytest.mark.parametrize(
    ("state", "status", "expected"),
    [
        ("draft", "QUEUED", ["execute", "delete"]),
        ("queued", "QUEUED", ["abort"]),
        ("running", "RUNNING", ["abort", "logs"]),
        ("suspended", "RUNNING", ["abort", "logs"]),
        ("finished", "FINISHED", ["resubmit", "delete", "logs"]),
        ("failed", "ERROR", ["resubmit", "delete", "logs"]),
        ("cancelled", "ABORTED", ["resubmit", "delete", "logs"]),
    ],
)
def test_what_can_be_done_with_a_job(state: str, status: str, expected: list[str]) -> None:
    assert Seen(str(JobsTable([job(state, status)], ("id",)))).buttons() == expected


def test_results_are_there_when_it_ended_well() -> None:
    for state, status, there in (("failed", "ERROR", False), ("finished", "FINISHED", True)):
        table = JobsTable([job(state, status)], ("id",), results_url="/r/{id}")
        assert (("a", {"href": "/r/27"}) in Seen(str(table)).tags) is there


def test_nothing_private_can_be_a_column() -> None:
    assert "_manager" not in str(JobsTable([job()], ("id",)))
    assert Seen(str(JobsTable([job()], ("_manager", "save", "nothing.at.all")))).text.count("27") == 0
