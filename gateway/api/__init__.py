"""The native HTTP API: one blueprint per resource. `register` puts them all into an application."""

from dataclasses import dataclass, field

from flask import Flask

from gateway.api import (
    browsers,
    bulk,
    bundles,
    docs,
    errors,
    events,
    files,
    hosts,
    operations,
    processes,
    reports,
    requests,
    session,
    tasks,
    templates,
    tokens,
)
from gateway.auth import Authentication
from gateway.config import Config
from gateway.following import Watch
from gateway.hosts import Hosts
from gateway.listening import News
from gateway.plugin_manager import Plugins
from gateway.processes import Processes
from gateway.reports import Reports
from gateway.service import JobService
from gateway.store import Database, EventLog, HostHistory, HostStore, Repository
from gateway.sync import Ticker
from gateway.tasks import TaskService
from gateway.templates import Templates
from gateway.waiting import Places


@dataclass(frozen=True)
class Services:
    """Everything that a view may call; `app.extensions["jobgate"]`."""

    config: Config
    plugins: Plugins
    database: Database
    repository: Repository
    host_store: HostStore
    history: HostHistory
    hosts: Hosts
    jobs: JobService
    processes: Processes
    tasks: TaskService
    authentication: Authentication
    ticker: Ticker
    event_log: EventLog
    news: News
    watch: Watch
    waiting: Places
    reports: Reports
    templates: Templates
    shapes: dict[str, errors.Shape] = field(default_factory=dict)  # of errors, by the mount of a dialect


def register(app: Flask, services: Services) -> None:
    """Put the API into the application."""
    app.extensions["jobgate"] = services
    app.config.update(docs.settings(services.config))
    requests.register(app)
    browsers.register(app, services.config.portal.origins)
    operations.register(app)
    api = docs.DescribedApi(app)
    # bundles has the blueprint of jobs, with a door of its own in it
    for part in (bundles, tasks, bulk, events, files, hosts, processes, reports, session, templates, tokens):
        api.register_blueprint(part.blueprint)
    app.register_blueprint(operations.blueprint)
    app.register_blueprint(docs.blueprint)
    errors.register(app)
