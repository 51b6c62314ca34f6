"""The native HTTP API: one blueprint per resource. `register` puts them all into an application."""

from dataclasses import dataclass

from flask import Flask

from gateway.api import bulk, docs, errors, files, hosts, jobs, operations, requests, tokens
from gateway.auth import Authentication
from gateway.config import Config
from gateway.hosts import Hosts
from gateway.plugin_manager import Plugins
from gateway.service import JobService
from gateway.store import Database, HostStore, Repository
from gateway.sync import Ticker


@dataclass(frozen=True)
class Services:
    """Everything that a view may call; `app.extensions["jobgate"]`."""

    config: Config
    plugins: Plugins
    database: Database
    repository: Repository
    host_store: HostStore
    hosts: Hosts
    jobs: JobService
    authentication: Authentication
    ticker: Ticker


def register(app: Flask, services: Services) -> None:
    """Put the API into the application."""
    app.extensions["jobgate"] = services
    app.config.update(docs.settings(services.config))
    requests.register(app)
    operations.register(app)
    api = docs.DescribedApi(app)
    for blueprint in (jobs.blueprint, bulk.blueprint, files.blueprint, hosts.blueprint, tokens.blueprint):
        api.register_blueprint(blueprint)
    app.register_blueprint(operations.blueprint)
    app.register_blueprint(docs.blueprint)
    errors.register(app)
