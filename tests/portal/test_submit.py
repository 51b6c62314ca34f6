"""The form that submits, and the page of hosts."""

import tarfile
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.gateways import Server
from tests.portal.conftest import SignIn


def open_form(page: Page, server: Server) -> None:
    page.get_by_role("link", name="Submit", exact=True).click()
    expect(page.get_by_label("Script", exact=True)).to_have_count(2)  # the kind, and the editor


def editor(page: Page) -> object:
    return page.get_by_role("textbox", name="Script", exact=True)


def send(page: Page) -> None:
    page.get_by_role("button", name="Submit", exact=True).click()


def test_a_script(server: Server, signed_in: SignIn) -> None:
    page = signed_in(server)
    open_form(page, server)
    editor(page).fill('#!/bin/sh\necho "$WORD of task $JOBGATE_TASK_ID"\n')
    page.get_by_label("Name", exact=True).fill("by form")
    page.get_by_label("Array").fill("5-6")
    page.get_by_text("More", exact=True).click()
    page.get_by_label("Environment").fill("WORD=hello\n")
    page.get_by_label("Extended properties").fill('{"a": {"b": 1}}')
    send(page)
    expect(page.get_by_role("heading", name="by form")).to_be_visible()
    expect(page.get_by_role("row", name="6 finished")).to_be_visible()
    expect(page.get_by_role("log")).to_have_text("hello of task 5\n", use_inner_text=False)
    expect(page.get_by_text('{"a":{"b":1}}')).to_be_visible()


def test_only_what_the_host_honours_is_offered(server: Server, signed_in: SignIn) -> None:
    """The local backend has neither queues nor GPUs (/api/hosts)."""
    page = signed_in(server)
    open_form(page, server)
    expect(page.get_by_label("Cores")).to_be_visible()
    for label in ("Queue", "GPUs per node", "Memory per node"):
        expect(page.get_by_label(label)).to_be_hidden()


def test_mistakes_stand_beside_their_fields(server: Server, signed_in: SignIn) -> None:
    page = signed_in(server)
    open_form(page, server)
    page.get_by_label("Array").fill("9-1")
    page.get_by_label("Wall time").fill("soon")
    send(page)
    expect(page.get_by_label("Wall time")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Wall time")).to_be_focused()
    expect(page.get_by_text("write a wall time in seconds")).to_be_visible()
    page.get_by_label("Wall time").fill("60")
    page.get_by_text("More", exact=True).click()
    page.get_by_label("Environment").fill("nonsense")
    send(page)
    expect(page.get_by_label("Environment")).to_be_focused()
    page.get_by_label("Environment").fill("")
    send(page)
    expect(page.get_by_text("a range goes upwards")).to_be_visible()
    page.get_by_label("Array").fill("")
    send(page)
    expect(page.locator(".timeline")).to_be_visible()


def test_dependencies_and_drafts(server: Server, signed_in: SignIn) -> None:
    first = server.submit(hold=True, name="goes first")
    page = signed_in(server)
    open_form(page, server)
    page.get_by_label("Name", exact=True).fill("goes second")
    page.get_by_role("button", name="Wait for another job").click()
    page.get_by_label("Job to wait for").fill(first["job_id"])
    page.get_by_label("When it may start").select_option("afterany")
    send(page)
    expect(page.locator(".standing")).to_contain_text("waits for")
    server.call("PUT", f"/api/jobs/{first['job_id']}", json={"action": "release"})
    expect(page.locator(".standing")).to_contain_text("finished")

    open_form(page, server)
    page.get_by_text("More", exact=True).click()
    page.get_by_label("Keep it as a draft").check()
    send(page)
    page.get_by_role("button", name="Run").click()
    expect(page.locator(".standing")).to_contain_text("finished")


def test_a_bundle(server: Server, signed_in: SignIn, tmp_path: Path) -> None:
    program, words = tmp_path / "run.sh", tmp_path / "words.txt"
    program.write_text('#!/bin/sh\nwc -w < "$JOBGATE_INPUT/$1" > "$JOBGATE_OUTPUT/count"\n')
    program.chmod(0o755)
    words.write_text("to be or not to be\n")
    with tarfile.open(tmp_path / "bundle.tar.gz", "w:gz") as archive:
        archive.add(program, "run.sh")
    page = signed_in(server)
    open_form(page, server)
    page.get_by_label("Bundle", exact=True).first.check()
    send(page)
    expect(page.get_by_text("is missing")).to_be_visible()
    page.locator("#field-bundle").set_input_files(tmp_path / "bundle.tar.gz")
    page.get_by_label("Inputs").set_input_files(words)
    page.get_by_label("Arguments").fill("words.txt\n")
    page.get_by_label("Name", exact=True).fill("bundled")
    send(page)
    expect(page.get_by_role("heading", name="bundled")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="count", exact=True).click()
    assert Path(download.value.path()).read_text().strip() == "6"
    page.get_by_role("link", name="Resubmit with changes").click()
    expect(page.get_by_role("radio", name="Bundle")).to_be_checked()  # which has to be chosen once more
    expect(page.get_by_label("Arguments")).to_have_value("words.txt")


def test_a_template_with_typed_parameters(server: Server, signed_in: SignIn) -> None:
    template = {
        "name": "greet",
        "host": "localhost",
        "description": "Greets somebody.",
        "script": '#!/bin/sh\necho "{{ whom }} {{ times }} {{ loud }} {{ style }}"\n',
        "parameters": {
            "whom": {"type": "string", "required": True, "description": "whom to greet"},
            "times": {"type": "integer", "default": 3},
            "loud": {"type": "boolean"},
            "style": {"choices": ["kind", "short"], "default": "kind"},
        },
    }
    assert server.call("POST", "/api/templates", json=template).status_code == 201
    page = signed_in(server)
    open_form(page, server)
    page.get_by_role("radio", name="Template").check()
    page.get_by_role("combobox", name="Template").select_option("greet")
    expect(page.get_by_text("Greets somebody.")).to_be_visible()
    send(page)
    expect(page.get_by_text("is required", exact=True)).to_be_visible()
    page.get_by_label("whom (required)").fill("$(id) `id`")
    page.get_by_label("loud").select_option("true")
    send(page)
    expect(page.get_by_role("log")).to_have_text("$(id) `id` 3 true kind\n", use_inner_text=False)


def test_hosts(server: Server, signed_in: SignIn) -> None:
    held = server.submit(hold=True, name="waits")
    page = signed_in(server)
    page.get_by_role("link", name="Hosts").click()
    card = page.get_by_role("region", name="localhost")
    expect(card.get_by_text("well", exact=True)).to_be_visible()
    expect(card.get_by_role("img", name="Nodes")).to_be_visible()
    expect(card.get_by_role("img", name="Jobs")).to_have_attribute("aria-label", "Jobs: 1 queued")
    expect(card.locator("figure svg path")).to_have_count(2)
    card.get_by_label("How far back").select_option("1 week")
    card.get_by_text("In numbers").click()
    expect(card.get_by_role("columnheader", name="finished")).to_be_visible()
    server.call("DELETE", f"/api/jobs/{held['job_id']}")


def test_phones(server: Server, signed_in: SignIn) -> None:
    page = signed_in(server, width=390)
    open_form(page, server)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_role("link", name="Hosts").click()
    expect(page.get_by_role("region", name="localhost")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
