"""A job's own page."""

import tarfile
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.gateways import Server
from tests.portal.conftest import SignIn

MARKUP = "<script>alert(1)</script><img src=x onerror=alert(2)>"


def open_job(page: Page, server: Server, job: dict) -> None:
    page.goto(f"{server.url}/#/jobs/{job['job_id']}")
    expect(page.get_by_role("heading", name=job["name"], exact=True)).to_be_visible()


def test_from_its_start_to_its_end(server: Server, signed_in: SignIn) -> None:
    """Watched without a reload: timeline, log, files and what can be done."""
    go = server.folder / "page-go"
    script = f"#!/bin/sh\necho one\nuntil [ -e {go} ]; do sleep 0.1; done\necho two\necho 42 > answer\n"
    folder = str(server.folder / "work")
    job = server.submit(script, name="story", cores=1, wall_time=3600, working_directory=folder, tag="tagged")
    page = signed_in(server)
    open_job(page, server, job)
    expect(page.get_by_role("log")).to_have_text("one\n", use_inner_text=False)
    expect(page.locator(".timeline")).to_contain_text("running")
    expect(page.get_by_text("01:00:00 asked for")).to_be_visible()
    expect(page.get_by_label("Script")).to_contain_text("echo 42 > answer")
    go.touch()
    expect(page.get_by_role("log")).to_have_text("one\ntwo\n", use_inner_text=False)
    expect(page.locator(".standing")).to_contain_text("finished")
    expect(page.get_by_role("button", name="Abort")).to_have_count(0)
    with page.expect_download() as download:
        page.get_by_role("link", name="answer", exact=True).click()
    assert Path(download.value.path()).read_text() == "42\n"
    with page.expect_download() as download:
        page.get_by_role("button", name="Download output").click()
    with tarfile.open(download.value.path()) as archive:
        assert "./answer" in archive.getnames()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download", exact=True).click()
    assert Path(download.value.path()).read_text() == "one\ntwo\n"


def test_abort_and_resubmit_with_changes(server: Server, signed_in: SignIn) -> None:
    job = server.submit("#!/bin/sh\nsleep 600\n", name="change me", wall_time=90, environment={"A": "b=c"})
    page = signed_in(server)
    open_job(page, server, job)
    page.get_by_role("button", name="Abort").click()
    page.get_by_role("dialog").get_by_role("button", name="Abort").click()
    expect(page.locator(".standing")).to_contain_text("cancelled")
    page.get_by_role("link", name="Resubmit with changes").click()
    expect(page.get_by_label("Name", exact=True)).to_have_value("change me")
    expect(page.get_by_label("Wall time")).to_have_value("90")
    expect(page.get_by_label("Environment")).to_have_value("A=b=c")
    page.get_by_label("Name", exact=True).fill("changed")
    page.get_by_role("textbox", name="Script", exact=True).fill('#!/bin/sh\necho "A is $A"\n')
    page.get_by_role("button", name="Submit", exact=True).click()
    expect(page.get_by_role("heading", name="changed")).to_be_visible()
    expect(page.get_by_role("log")).to_have_text("A is b=c\n", use_inner_text=False)
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
    expect(page.get_by_role("cell", name="changed", exact=True)).to_have_count(0)


def test_the_tasks_of_an_array(server: Server, signed_in: SignIn) -> None:
    script = "#!/bin/sh\necho task $JOBGATE_TASK_ID\n[ $JOBGATE_TASK_ID != 2 ]\n"
    job = server.submit(script, name="row", array="1-3")
    page = signed_in(server)
    open_job(page, server, job)
    expect(page.get_by_role("row", name="2 failed")).to_be_visible()
    expect(page.get_by_role("row", name="3 finished")).to_be_visible()
    expect(page.locator(".standing")).to_contain_text("1 of 3 tasks failed")
    page.get_by_role("button", name="Resubmit those that failed").click()
    expect(page.get_by_role("definition").filter(has_text=job["job_id"])).to_be_visible()  # resubmitted from


def test_another_users_job_cannot_be_opened(server: Server, signed_in: SignIn) -> None:
    job = server.submit("#!/bin/sh\necho secret\n", name="private")
    server.ended(job["job_id"])
    page = signed_in(server, "bob")
    for ident in (job["job_id"], job["uuid"]):
        page.goto(f"{server.url}/#/jobs/{ident}")
        expect(page.get_by_role("alert")).to_have_text(f"Job with {ident} not found")
    expect(page.get_by_text("private")).to_have_count(0)
    assert page.evaluate(f"fetch('/api/jobs/{job['job_id']}/stdout').then((answer) => answer.status)") == 404
    admin = signed_in(server, "carol")
    open_job(admin, server, job)
    expect(admin.get_by_role("log")).to_have_text("secret\n", use_inner_text=False)


def test_what_a_job_brings_stays_text(server: Server, signed_in: SignIn) -> None:
    name = "<img src=x onerror=alert(3)>"
    script = f"#!/bin/sh\n# {MARKUP}\necho '{MARKUP}'\ntouch '{name}'\n"
    folder = str(server.folder / "markup")
    more = {"tag": MARKUP, "description": MARKUP, "extended_properties": {MARKUP: MARKUP}, "environment": {"A": MARKUP}}
    job = server.submit(script, name=MARKUP, working_directory=folder, stdout="out", **more)
    server.ended(job["job_id"])
    page = signed_in(server)
    open_job(page, server, job)
    expect(page.get_by_role("log")).to_have_text(f"{MARKUP}\n", use_inner_text=False)
    expect(page.get_by_role("link", name=name)).to_be_visible()
    expect(page.get_by_label("Script")).to_contain_text(MARKUP)
    expect(page.locator("img[onerror], main script")).to_have_count(0)
    page.get_by_role("link", name="Resubmit with changes").click()
    expect(page.get_by_label("Tag")).to_have_value(MARKUP)


def test_a_phone(server: Server, signed_in: SignIn) -> None:
    job = server.submit(f"#!/bin/sh\necho {'x' * 500}\n", name="y" * 200, tag="z" * 200)
    server.ended(job["job_id"])
    page = signed_in(server, width=390)
    open_job(page, server, job)
    expect(page.get_by_role("log")).to_contain_text("x" * 500)
    expect(page.get_by_role("heading", name="Files")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
