"""<jobgate-jobs> on the gateway's own page, with real jobs of the local backend."""

import re

from playwright.sync_api import Page, expect

from tests.gateways import Server
from tests.portal.conftest import SignIn, give_proxy

MARKUP = "<script>alert(1)</script><img src=x onerror=alert(2)>"


def row(page: Page, name: str) -> object:
    return page.get_by_role("row").filter(has=page.get_by_role("cell", name=name, exact=True))


def test_a_job_runs_to_its_end_without_a_reload(server: Server, signed_in: SignIn) -> None:
    page = signed_in(server)
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    go = server.folder / "go"
    server.submit(f"#!/bin/sh\nuntil [ -e {go} ]; do sleep 0.1; done\n", name="watched")
    expect(row(page, "watched").get_by_text("running")).to_be_visible()
    go.touch()
    expect(row(page, "watched").get_by_text("finished")).to_be_visible()
    expect(row(page, "watched").get_by_role("button", name="Resubmit")).to_be_visible()
    expect(row(page, "watched").get_by_role("button", name="Abort")).to_have_count(0)


def test_without_a_stream_it_asks(server: Server, signed_in: SignIn) -> None:
    page = signed_in(server)
    page.route("**/api/events*", lambda route: route.abort())
    page.reload()
    expect(page.get_by_text("Every 5 s")).to_be_visible()
    server.submit(name="polled")
    expect(row(page, "polled").get_by_text("finished")).to_be_visible()


def test_abort_asks_first_and_resubmit_makes_another(server: Server, signed_in: SignIn) -> None:
    page = signed_in(server)
    server.submit("#!/bin/sh\nsleep 600\n", name="long", tag="abort")
    expect(row(page, "long").get_by_text("running")).to_be_visible()
    abort = row(page, "long").get_by_role("button", name="Abort")
    abort.press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text("is lost")
    expect(page.get_by_role("button", name="Keep it")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(abort).to_be_focused()
    abort.press("Enter")
    page.get_by_role("dialog").get_by_role("button", name="Abort").click()
    expect(row(page, "long").get_by_text("cancelled")).to_be_visible()
    row(page, "long").get_by_role("button", name="Resubmit").click()
    expect(page).to_have_url(re.compile("#/jobs/"))
    page.get_by_role("link", name="Jobs", exact=True).click()
    expect(row(page, "long")).to_have_count(2)


def test_hold_release_and_delete(server: Server, signed_in: SignIn) -> None:
    page = signed_in(server)
    server.submit(name="kept", hold=True)
    row(page, "kept").get_by_role("button", name="Release").click()
    expect(row(page, "kept").get_by_text("finished")).to_be_visible()
    row(page, "kept").get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(row(page, "kept")).to_have_count(0)


def test_a_log_is_followed(server: Server, signed_in: SignIn) -> None:
    page = signed_in(server)
    go = server.folder / "more"
    server.submit(f"#!/bin/sh\necho one; until [ -e {go} ]; do sleep 0.1; done; echo two\n", name="writer")
    row(page, "writer").get_by_role("button", name="Logs").click()
    log = page.get_by_role("dialog").get_by_role("log")
    expect(log).to_have_text("one\n", use_inner_text=False)
    go.touch()
    expect(log).to_have_text("one\ntwo\n", use_inner_text=False)
    page.get_by_label("Which output").select_option("stderr")
    expect(page.get_by_text("There is no output.")).to_be_visible()
    page.get_by_role("button", name="Close").click()
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_an_array_shows_how_far_it_is(server: Server, signed_in: SignIn) -> None:
    script = "#!/bin/sh\necho task $JOBGATE_TASK_ID\n[ $JOBGATE_TASK_ID != 2 ]\n"
    job = server.submit(script, name="many", array="1-4")
    server.ended(job["job_id"])
    page = signed_in(server)
    expect(row(page, "many").get_by_role("progressbar")).to_have_attribute("aria-valuetext", "4 of 4 done, 1 failed")
    row(page, "many").get_by_role("button", name="Logs").click()
    expect(page.get_by_role("log")).to_have_text("task 1\n", use_inner_text=False)
    page.get_by_label("Task", exact=True).fill("3")
    page.get_by_label("Task", exact=True).press("Enter")
    expect(page.get_by_role("log")).to_have_text("task 3\n", use_inner_text=False)


def test_pages_sorting_and_search(server: Server, signed_in: SignIn) -> None:
    jobs = [{"host": "localhost", "script": "#!/bin/sh\n", "name": f"p{n:03}", "draft": True} for n in range(60)]
    assert server.call("POST", "/api/jobs/bulk", user="bob", json=jobs).status_code == 200
    page = signed_in(server, "bob")
    expect(page.get_by_text("1 to 25 of 60", exact=True)).to_be_visible()
    page.get_by_role("button", name="Name").click()
    expect(page.get_by_role("cell", name="p000", exact=True)).to_be_visible()
    expect(page.get_by_role("columnheader", name="Name")).to_have_attribute("aria-sort", "ascending")
    page.get_by_role("button", name="Next").click()
    page.get_by_role("button", name="Next").click()
    expect(page.get_by_text("51 to 60 of 60", exact=True)).to_be_visible()
    expect(page.get_by_role("cell", name="p059", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Next")).to_be_disabled()
    page.get_by_role("button", name="Previous").click()
    expect(page.get_by_text("26 to 50 of 60", exact=True)).to_be_visible()
    page.get_by_role("searchbox").fill("p01")
    expect(page.get_by_text("1 to 10 of 10", exact=True)).to_be_visible()
    page.get_by_label("Status", exact=True).select_option("RUNNING")
    expect(page.get_by_text("There are no jobs here.")).to_be_visible()


def test_what_a_job_brings_stays_text(server: Server, signed_in: SignIn) -> None:
    """A dialog, an error or a broken policy would fail the test (`open_page`)."""
    page = signed_in(server)
    server.submit(f"#!/bin/sh\necho '{MARKUP}'\n", name=MARKUP, tag=MARKUP, stdout="marked", description=MARKUP)
    expect(row(page, MARKUP).first.get_by_text("finished")).to_be_visible()
    row(page, MARKUP).first.get_by_role("button", name="Logs").click()
    expect(page.get_by_role("log")).to_have_text(f"{MARKUP}\n", use_inner_text=False)
    expect(page.locator("img[onerror]")).to_have_count(0)


def test_signing_out(server: Server, signed_in: SignIn) -> None:
    page = signed_in(server)
    cookie = next(cookie for cookie in page.context.cookies() if cookie["name"] == "jobgate")
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert page.evaluate("document.cookie") == ""
    token = {"Authorization": f"Bearer {cookie['value']}"}
    assert server.call("GET", "/api/jobs", user=None, headers=token).status_code == 200
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_text("You are signed out.")).to_be_visible()
    assert page.context.cookies() == []
    assert server.call("GET", "/api/jobs", user=None, headers=token).status_code == 401


def test_a_session_that_ends_asks_to_sign_in_again(server: Server, signed_in: SignIn) -> None:
    page = signed_in(server)
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    server.call("DELETE", "/api/tokens")
    server.submit(name="seen by nobody")
    expect(page.get_by_text("Your session has ended")).to_be_visible()


def test_a_bad_proxy_is_told_why(server: Server, open_page, tmp_path) -> None:
    page = open_page()
    page.goto(server.url)
    file = tmp_path / "certificate.pem"
    file.write_text("no proxy")
    page.get_by_label("Your proxy file").set_input_files(file)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert").filter(has_text="PEM")).to_be_visible()
    give_proxy(page, server, tmp_path, "eve")
    expect(page.get_by_role("alert").filter(has_text="grid-mapfile")).to_be_visible()
    give_proxy(page, server, tmp_path, "bob")
    expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
    assert re.search(r"PRIVATE KEY", page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")) is None


def test_the_way_past_the_navigation(server: Server, signed_in: SignIn) -> None:
    page = signed_in(server)
    page.get_by_role("link", name="Skip to the content").press("Enter")
    expect(page.get_by_role("main")).to_be_focused()
    expect(page.get_by_role("heading", name="Jobs")).to_be_visible()


def test_a_phone(server: Server, signed_in: SignIn) -> None:
    job = server.submit(name="x" * 200, tag="y" * 200)
    page = signed_in(server, width=390)
    expect(page.get_by_role("link", name=job["job_id"])).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
