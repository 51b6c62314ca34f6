"""Debian's Chromium, driven by playwright, and users who sign in with it."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.gateways import PATIENCE, Server
from tests.unix_accounts import missing

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage"
)
expect.set_options(timeout=PATIENCE * 1000)

SignIn = Callable[..., Page]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if not shutil.which(CHROMIUM):
        missing("the tests of the page need chromium (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split(), headless=True)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """A page of a browser that nobody has used before. What the page's script fails in, or its Content-Security-Policy
    forbids, fails the test."""
    faults: list[str] = []
    with ExitStack() as contexts:

        def make(width: int = 1280, **more: object) -> Page:
            context = browser.new_context(viewport={"width": width, "height": 900}, accept_downloads=True, **more)  # type: ignore[arg-type]
            contexts.callback(context.close)
            context.set_default_timeout(PATIENCE * 1000)
            page = context.new_page()
            page.on("pageerror", lambda error: faults.append(f"{error.message}\n{error.stack}"))
            page.on(
                "console",
                lambda line: faults.append(line.text) if "Content Security Policy" in line.text else None,
            )
            page.on("dialog", lambda dialog: (faults.append(f"dialog: {dialog.message}"), dialog.dismiss()))
            return page

        yield make
    assert not faults


@pytest.fixture
def signed_in(open_page: Callable[..., Page], tmp_path: Path) -> SignIn:
    """`signed_in(server, "ann")`: the page as that user has it after signing in with a proxy file."""

    def sign_in(server: Server, user: str = "ann", **more: object) -> Page:
        page = open_page(**more)
        page.goto(server.url)
        give_proxy(page, server, tmp_path, user)
        expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
        return page

    return sign_in


def give_proxy(page: Page, server: Server, folder: Path, user: str = "ann") -> None:
    file = folder / f"proxy-{user}.pem"
    file.write_bytes(server.world.proxies[user].pem())
    page.get_by_label("Your proxy file").set_input_files(file)
    page.get_by_role("button", name="Sign in").click()
