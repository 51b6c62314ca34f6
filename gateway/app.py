"""The application: everything is made here and handed to what needs it."""

from flask import Flask

from gateway import api, portal
from gateway.api.door import Door
from gateway.audit import Audit
from gateway.auth import Authentication
from gateway.config import Config, load_config
from gateway.events import Announcer
from gateway.following import Watch
from gateway.hosts import Hosts
from gateway.listening import News
from gateway.logs import configure_logging
from gateway.notify import Notifier
from gateway.plugin_manager import Plugins, load_plugins
from gateway.processes import Processes
from gateway.reports import Reports
from gateway.service import JobService
from gateway.store import Database, EventLog, HostHistory, HostStore, Outbox, Repository, SettingsStore, TokenStore
from gateway.store.templates import TemplateStore
from gateway.submission import Submission
from gateway.sync import Sync, Ticker
from gateway.tasks import TaskService
from gateway.templates import Templates
from gateway.waiting import Places

LARGEST_ESCAPE = 6  # bytes that JSON may take for one byte of a script: \u0001
BODY_BESIDE_SCRIPT = 1 << 20


def from_environment() -> Flask:
    """The application of the file that JOBGATE_CONFIG names."""
    plugins = load_plugins()
    return create_app(load_config(plugins=plugins), plugins)


def create_app(config: Config, plugins: Plugins | None = None) -> Flask:
    """A WSGI application for one configuration. Brings the database's schema up to date, as soon as the database
    answers; starts nothing."""
    plugins = plugins or load_plugins()
    configure_logging(config.gateway.log_level)

    database = Database(config.gateway.database)
    database.migrate_when_there()
    repository, host_store, token_store = Repository(database), HostStore(database), TokenStore(database)

    event_log = EventLog(database)
    news = News(event_log)
    hosts = Hosts(config, plugins)
    audit = Audit(config.audit_log)
    settings = SettingsStore(database)
    reports = Reports(config.gateway.base_url, lambda: settings.secret("report"))
    submission = Submission(hosts, repository, Announcer(plugins, news), audit, reports)
    service = JobService(config, repository, hosts, submission, audit)
    notifier = Notifier(
        Outbox(database), lambda: config.notify.secret or settings.secret("notify"), config.notify.allow
    )
    processes = Processes(hosts, audit)
    history = HostHistory(database)
    ticker = Ticker(Sync(hosts, repository, host_store, submission, notifier, history))
    authenticators = [one for several in plugins.hook.register_authenticators() for one in several]
    authentication = Authentication(config.auth, token_store, authenticators, config.session_cookie)

    app = Flask("gateway", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_ESCAPE * config.limits.script + BODY_BESIDE_SCRIPT
    # A redirect to a tidier URL would be an answer in HTML; with or without a final slash is the same thing here.
    app.url_map.merge_slashes = app.url_map.strict_slashes = False
    app.json.sort_keys = False  # type: ignore[attr-defined]
    services = api.Services(
        config=config,
        plugins=plugins,
        database=database,
        repository=repository,
        host_store=host_store,
        history=history,
        hosts=hosts,
        jobs=service,
        processes=processes,
        tasks=TaskService(service),
        authentication=authentication,
        ticker=ticker,
        event_log=event_log,
        news=news,
        watch=Watch(repository),
        waiting=Places(config.limits.waiting),
        reports=reports,
        templates=Templates(TemplateStore(database), service, api.templates.brought(plugins, config.dialects)),
    )
    api.register(app, services)
    app.register_blueprint(portal.blueprint)
    for blueprints in plugins.hook.register_dialects(service=service, door=Door(services)):
        for blueprint in blueprints:
            app.register_blueprint(blueprint)
    return app
