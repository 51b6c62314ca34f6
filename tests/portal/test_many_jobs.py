"""A hundred thousand jobs: the page shows some at a time, and stays live."""

from playwright.sync_api import expect
from sqlalchemy import String, cast, insert, literal, select, true

from gateway.config import load_config
from gateway.store import Database
from gateway.store.tables import jobs
from tests.gateways import Server
from tests.portal.conftest import SignIn
from tests.portal.test_jobs_table import row

MANY = 100_000


def fill(server: Server) -> None:
    """Many jobs like the one that there is, made by the database itself."""
    count = select(literal(1).label("k")).cte("n", recursive=True)
    count = count.union_all(select(count.c.k + 1).where(count.c.k < MANY - 1))
    number = cast(count.c.k + 1_000_001, String)
    different = {
        "uuid": literal("00000000-0000-4000-8000-00000") + number,
        "job_id": number + ".localhost",
        "native_id": number,
        "name": literal("n") + number,
    }
    names = [column.name for column in jobs.c if column.name != "number"]
    rows = select(*(different.get(name, jobs.c[name]) for name in names)).join(count, true())
    database = Database(load_config(server.config).gateway.database)
    with database.writing() as connection:
        connection.execute(insert(jobs).from_select(names, rows.order_by(count.c.k)))
    database.close()


def test_a_hundred_thousand_jobs(server: Server, signed_in: SignIn) -> None:
    server.ended(server.submit(name="n1000001")["job_id"])
    fill(server)
    page = signed_in(server)
    expect(page.get_by_text("1 to 25 of 100,000", exact=True)).to_be_visible()
    expect(page.get_by_role("cell", name=f"n{MANY + 1_000_000}", exact=True)).to_be_visible()
    page.get_by_role("button", name="Next").click()
    expect(page.get_by_text("26 to 50 of 100,000", exact=True)).to_be_visible()
    page.get_by_role("button", name="Job ▼").click()
    expect(page.get_by_role("cell", name="n1000001", exact=True)).to_be_visible()
    page.get_by_role("button", name="Name", exact=True).click()
    page.get_by_role("button", name="Name ▲").click()
    expect(page.get_by_role("cell", name=f"n{MANY + 1_000_000}", exact=True)).to_be_visible()
    page.get_by_role("searchbox").fill("n109999")
    expect(page.get_by_text("1 to 10 of 10", exact=True)).to_be_visible()
    page.get_by_role("searchbox").fill("")
    server.submit("#!/bin/sh\nsleep 1\n", name="z")
    expect(row(page, "z").get_by_text("finished")).to_be_visible()
    expect(page.get_by_text("1 to 25 of 100,001", exact=True)).to_be_visible()
