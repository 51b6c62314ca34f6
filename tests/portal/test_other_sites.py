"""<jobgate-jobs> on other sites' pages: the examples in docs/portal.md, and its attributes."""

import importlib.util
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest
from flask import Flask
from playwright.sync_api import Page, expect
from werkzeug.serving import make_server

from tests.docs.pages import ROOT, blocks
from tests.gateways import Server, World, free_port
from tests.portal.test_jobs_table import row

EXAMPLES = ROOT / "docs" / "examples"
DOCUMENT = ROOT / "docs" / "portal.md"
MODULE = ROOT / "gateway" / "portal" / "static" / "jobgate-jobs.js"


class Site:
    """Where the other site is, and the gateway that knows it."""

    def __init__(self, server: Server, port: int) -> None:
        self.server = server
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    @contextmanager
    def serving(self, application: object) -> Iterator[None]:
        site = make_server("127.0.0.1", self.port, application, threaded=True)  # type: ignore[arg-type]
        thread = threading.Thread(target=site.serve_forever)
        thread.start()
        try:
            yield
        finally:
            site.shutdown()
            thread.join()
            site.server_close()


@pytest.fixture(scope="module")
def site(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    port = free_port()
    with Server(
        world, tmp_path_factory.mktemp("server"), host=f'[portal]\norigins = ["http://127.0.0.1:{port}"]'
    ) as server:
        yield Site(server, port)


@pytest.fixture
def example(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Loads an example, with the gateway and users' proxies in its environment."""
    for user, proxy in site.server.world.proxies.items():
        (tmp_path / f"{user}.pem").write_bytes(proxy.pem())
    monkeypatch.setenv("JOBGATE_URL", site.server.url)
    monkeypatch.setenv("PORTAL_PROXIES", str(tmp_path))

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load


def show_live_table(page: Page, site: Site, name: str, cookies: dict[str, str]) -> None:
    """Nobody reloads; the job is steered from the portal's page."""
    page.context.add_cookies([{"name": key, "value": value, "url": site.url} for key, value in cookies.items()])
    page.goto(site.url)
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    site.server.submit("#!/bin/sh\nsleep 600\n", name=name)
    expect(row(page, name).get_by_text("running")).to_be_visible()
    row(page, name).get_by_role("button", name="Abort").click()
    page.get_by_role("dialog").get_by_role("button", name="Abort").click()
    expect(row(page, name).get_by_text("cancelled")).to_be_visible()


def test_flask(site: Site, example: Callable[[str], ModuleType], open_page: Callable[..., Page]) -> None:
    app = example("portal_flask").app
    cookie = app.session_interface.get_signing_serializer(app).dumps({"user": "ann"})
    with site.serving(app):
        show_live_table(open_page(), site, "from flask", {"session": cookie})


def test_django(
    site: Site,
    example: Callable[[str], ModuleType],
    open_page: Callable[..., Page],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import django
    from django.conf import settings
    from django.core.management import call_command
    from django.core.wsgi import get_wsgi_application

    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")  # playwright has an event loop in this thread
    settings.configure(
        ROOT_URLCONF="portal_django",
        SECRET_KEY="of this test",
        ALLOWED_HOSTS=["127.0.0.1", "testserver"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": tmp_path / "django.db"}},
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"],
        MIDDLEWARE=[
            "django.middleware.security.SecurityMiddleware",
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
    )
    django.setup()
    call_command("migrate", verbosity=0)
    from django.contrib.auth.models import User
    from django.test import Client

    client = Client()
    client.force_login(User.objects.create_user("ann"))
    example("portal_django")
    with site.serving(get_wsgi_application()):
        show_live_table(open_page(), site, "from django", {"sessionid": client.cookies["sessionid"].value})


@contextmanager
def portal(site: Site, html: str) -> Iterator[dict[str, int]]:
    """A site with this page and tokens of ann's; how often it was asked for one."""
    app = Flask("portal")
    asked = {"tokens": 0}

    @app.get("/")
    def page() -> str:
        return f"<!doctype html><title>Portal</title>{html.replace('https://jobs.example.org', site.server.url)}"

    @app.post("/jobgate-token")
    def token() -> dict:
        asked["tokens"] += 1
        return site.server.call("POST", "/api/tokens", json={"lifetime": 600}).json()

    with site.serving(app):
        yield asked


def two_lines() -> str:
    found = next(block.text for block in blocks(DOCUMENT) if block.language == "html")
    assert found.count("\n") == 2
    return found


def test_two_lines_of_html(site: Site, open_page: Callable[..., Page]) -> None:
    """And a token that has ended is replaced by another."""
    with portal(site, two_lines()) as asked:
        page = open_page()
        page.goto(site.url)
        expect(page.get_by_text("Live", exact=True)).to_be_visible()
        site.server.submit(name="two lines")
        expect(row(page, "two lines").get_by_text("finished")).to_be_visible()
        assert asked["tokens"] == 1
        site.server.call("DELETE", "/api/tokens")
        row(page, "two lines").get_by_role("button", name="Logs").click()
        expect(page.get_by_text("There is no output.")).to_be_visible()
        assert asked["tokens"] == 2
        page.get_by_role("button", name="Close").click()
        with page.expect_download() as download:
            row(page, "two lines").get_by_role("button", name="Results").click()
        assert download.value.suggested_filename.endswith(".tar.gz")


def test_its_attributes(site: Site, open_page: Callable[..., Page]) -> None:
    properties = {"corpus": {"name": "<b>opus</b>"}}
    done = site.server.submit(name="shown", tag="attributes", extended_properties=properties)
    site.server.ended(done["job_id"])
    site.server.submit(name="of another tag")
    custom = (
        '[{"label": "Plot", "url": "/plot/{job_id}?of={extended_properties.corpus.name}", "status": ["FINISHED"]},'
        ' {"label": "Archive", "name": "archive"}, {"label": "Bad", "url": "javascript:alert(1)//{uuid}"}]'
    )
    attributes = (
        'tag="attributes" columns="id:Number,name,extended_properties.corpus.name:The_corpus,run_time" striped '
        f'bordered condensed hover actions="logs results" results-url="/results/{{uuid}}" job-url="/jobs/{{uuid}}" '
        f"custom-actions='{custom}'"
    )
    with portal(site, two_lines().replace("<jobgate-jobs", f"<jobgate-jobs {attributes}")):
        page = open_page()
        page.goto(site.url)
        expect(page.get_by_role("row")).to_have_count(2)
        for heading in ("Number", "Name", "The corpus", "Run time", "Actions"):
            expect(page.get_by_role("columnheader", name=heading)).to_be_visible()
        expect(page.get_by_role("cell", name="<b>opus</b>", exact=True)).to_be_visible()
        expect(page.get_by_role("link", name="Results")).to_have_attribute("href", f"/results/{done['uuid']}")
        plot = f"/plot/{done['job_id']}?of=%3Cb%3Eopus%3C%2Fb%3E"
        expect(page.get_by_role("link", name="Plot")).to_have_attribute("href", plot)
        expect(page.get_by_role("link", name="Bad")).to_have_count(0)
        expect(page.get_by_role("button", name="Resubmit")).to_have_count(0)
        told = "addEventListener('jobgate-action', ({detail}) => (document.title = detail.action + detail.job.name))"
        page.evaluate(told)
        page.get_by_role("button", name="Archive").click()
        expect(page).to_have_title("archiveshown")
        page.evaluate("document.querySelector('jobgate-jobs').setAttribute('tag', 'of nobody')")
        expect(page.get_by_text("There are no jobs here.")).to_be_visible()


def test_a_site_that_was_not_named(site: Site, open_page: Callable[..., Page]) -> None:
    other = Site(site.server, free_port())
    with portal(other, two_lines()):
        page = open_page()
        page.goto(other.url)
        page.wait_for_load_state("networkidle")
        assert page.evaluate("customElements.get('jobgate-jobs') === undefined")


def test_every_attribute_is_documented() -> None:
    source, document = MODULE.read_text(), DOCUMENT.read_text()
    observed = re.search(r"observedAttributes = \[(.*?)\];", source, re.DOTALL)
    assert observed
    names = {*re.findall(r'"([a-z-]+)"', observed[1]), *re.findall(r":host\(\[([a-z]+)\]\)", source)} - {"hidden"}
    assert len(names) > 15
    assert not {name for name in names if f"`{name}`" not in document}
    properties = set(re.findall(r"var\((--jobgate-[a-z-]+)", source))
    assert not {name for name in properties if f"{name}`" not in document and f"{name}:" not in document}
