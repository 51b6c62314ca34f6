"""The command `jobgate`, for those who run a gateway."""

import json
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from gateway.auth.gridmap import GridMap
from gateway.config import Config, find_config, load_config
from gateway.errors import ConfigError, JobgateError
from gateway.plugin_manager import Plugins, load_plugins

HELLO = r'{"host": "%s", "script": "#!/bin/sh\necho hello from job $JOB_ID\n"}'


def with_config(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option --config, which the command gets as a path."""
    return click.option(
        "--config",
        "config_file",
        type=click.Path(path_type=Path),
        default=find_config,
        show_default="JOBGATE_CONFIG, else conf/gateway.toml",
        help="The configuration file.",
    )(command)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="jobgate")
def cli() -> None:
    """Jobgate: one authenticated HTTP front door for every batch system."""


@cli.command()
@with_config
@click.option("--bind", help="Address to listen on.  [default: 127.0.0.1:5000, or as the gunicorn settings say]")
@click.option("--port", type=click.IntRange(1, 65535), help="Port on 127.0.0.1; also changes base_url.")
@click.option("--workers", type=click.IntRange(1), help="Worker processes.  [default: 2]")
def serve(config_file: Path, bind: str | None, port: int | None, workers: int | None) -> None:
    """Serve the API with gunicorn."""
    if port:
        bind = f"127.0.0.1:{port}"
        os.environ["JOBGATE_BASE_URL"] = f"http://{bind}"
    os.environ.setdefault("MALLOC_ARENA_MAX", "2")  # else glibc keeps an arena per thread: a third more memory
    os.environ["JOBGATE_CONFIG"] = str(config_file.absolute())
    config, _ = _load(config_file)
    with _plain_errors():
        GridMap(config.auth.grid_mapfile)  # here a mistake is a line, in a worker it would be a traceback
    os.environ["JOBGATE_HINT"] = _hint(config)
    # Not `-m gunicorn`: on USR2 that runs again with gunicorn's folder first on the path, whose http/ hides Python's.
    command = [sys.executable, str(Path(sys.executable).parent / "gunicorn"), "-c", _gunicorn_settings(config_file)]
    command += ["--bind", bind] if bind else []
    command += ["--workers", str(workers)] if workers else []
    os.execv(sys.executable, [*command, "gateway.app:from_environment()"])


@cli.command()
@with_config
def check(config_file: Path) -> None:
    """Check the configuration, certificates, grid-mapfile and every host. Exit code 1 if anything is wrong."""
    from gateway.check import findings

    config, plugins = _load(config_file)
    found = list(findings(config, plugins))
    for finding in found:
        click.secho(f"{finding.level:8} {finding.where}: {finding.words}", fg=finding.colour)
    problems = sum(finding.level == "problem" for finding in found)
    click.echo(f"{problems} problem{'' if problems == 1 else 's'}")
    sys.exit(1 if problems else 0)


@cli.command("plugins")
def list_plugins() -> None:
    """List what is loaded, from where, and what failed to load and why. Exit code 1 if anything failed."""
    plugins = load_plugins()
    for plugin in plugins.loaded:
        click.echo(f"{plugin.name:14} {plugin.source}")
        click.echo(f"{'':14} {', '.join(plugin.hooks) or 'no hooks'}")
    for broken in plugins.broken:
        click.secho(f"{broken.name:14} {broken.source}", fg="red")
        click.secho(f"{'':14} failed: {broken.reason}", fg="red")
    click.echo(f"backends: {', '.join(sorted(plugins.backends)) or 'none'}")
    sys.exit(1 if plugins.broken else 0)


@cli.command()
@with_config
def migrate(config_file: Path) -> None:
    """Bring the database's schema up to date. `serve` does so by itself."""
    from gateway.store import Database

    config, _ = _load(config_file)
    database = Database(config.gateway.database)
    with _plain_errors():
        database.migrate()
        click.echo(f"the database is at revision {database.revision()}")


@cli.command("copy-database")
@with_config
@click.option(
    "--to",
    "new_file",
    type=click.Path(path_type=Path),
    required=True,
    help="The configuration file that names the new database, which must be empty.",
)
def copy_database(config_file: Path, new_file: Path) -> None:
    """Copy all jobs from the database of one configuration to that of another. Stop the gateways first."""
    from gateway.store import Database
    from gateway.store.copy import copy

    old, new = (_load(file)[0].gateway.database for file in (config_file, new_file))
    with _plain_errors():
        for table, count in copy(Database(old), Database(new)).items():
            click.echo(f"{table:16} {count:8}")


@cli.command()
@with_config
def tick(config_file: Path) -> None:
    """Ask every host that is due about its jobs, once: for cron, where `ticker = false`."""
    from gateway.app import create_app

    config, plugins = _load(config_file)
    with _plain_errors():
        app = create_app(config, plugins)
        results = app.extensions["jobgate"].ticker.sync.tick()
    for host, words in results.items():
        click.echo(f"{host}: {words}")
    if not results:
        click.echo("no host was due")
    sys.exit(0 if all(words == "ok" for words in results.values()) else 1)


@cli.command()
@with_config
@click.option("--job", help="Only this job: its job_id or uuid.")
@click.option("--subject", help="Only what this certificate subject did.")
def audit(config_file: Path, job: str | None, subject: str | None) -> None:
    """Show who did what to which job, from where, with which result: one JSON line each."""
    from gateway.audit import read

    config, _ = _load(config_file)
    try:
        lines = list(read(config.audit_log, job, subject))
    except OSError as problem:
        raise click.ClickException(f"the audit trail cannot be read: {problem}") from None
    for line in lines:
        click.echo(json.dumps(line, ensure_ascii=False))
    if not lines:
        click.echo("nothing of that kind was done", err=True)


@cli.command("notify-secret")
@with_config
def notify_secret(config_file: Path) -> None:
    """Print the key that notifications are signed with, for those who check X-Jobgate-Signature."""
    from gateway.store import Database, SettingsStore

    config, _ = _load(config_file)
    with _plain_errors():
        database = Database(config.gateway.database)
        database.migrate()
        click.echo(config.notify.secret or SettingsStore(database).secret("notify"))


@cli.command()
@click.option(
    "--directory", type=click.Path(path_type=Path, file_okay=False), default=Path("var/demo"), show_default=True
)
def demo(directory: Path) -> None:
    """Make a certificate authority, two users' proxies and a grid-mapfile to try Jobgate with. Never for real use."""
    from gateway.testing.certificates import make_demo

    make_demo(directory, "ann")
    click.echo(f"demo certificates are in {directory}: proxy.pem (ann), proxy-bob.pem (bob)")


def main() -> None:
    """Entry point: plugins add their commands first."""
    load_plugins().hook.register_commands(cli=cli)
    cli()


def _load(file: Path) -> tuple[Config, Plugins]:
    plugins = load_plugins()
    try:
        return load_config(file, plugins), plugins
    except ConfigError as error:
        for problem in error.problems:
            click.secho(problem, fg="red", err=True)
        sys.exit(2)


class _plain_errors:
    """An error of ours is one line for the operator, not a traceback."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if isinstance(error, ConfigError | JobgateError):
            click.secho(str(error), fg="red", err=True)
            sys.exit(2 if isinstance(error, ConfigError) else 1)


def _gunicorn_settings(config_file: Path) -> str:
    """A gunicorn.conf.py beside the configuration file, else the built-in one."""
    own = config_file.absolute().parent / "gunicorn.conf.py"
    return str(own) if own.exists() else "python:gateway.gunicorn"


def _hint(config: Config) -> str:
    """What a newcomer can paste, where there is a demo proxy to paste it with."""
    url, proxy = config.gateway.base_url, config.auth.grid_mapfile.parent / "proxy.pem"
    lines = [f"Jobgate serves on {url}, its API is described at {url}/api/docs"]
    if proxy.exists():
        near = proxy.relative_to(Path.cwd()) if proxy.is_relative_to(Path.cwd()) else proxy
        header = f'-H "PROXY: $(base64 -w0 {shlex.quote(str(near))})"'
        first = 'import json, sys; print(json.load(sys.stdin)[0]["stdout_path"])'
        lines += [
            f"Open {url} in a browser and sign in with the file {near}, or submit a job from here:",
            f"  curl {header} --data '{HELLO % config.default_host}' {url}/api/jobs",
            "Fetch the output of the newest one:",
            f"  curl {header} \"$(curl -s {header} '{url}/api/jobs?limit=1' | python3 -c '{first}')\"",
        ]
    return "\n".join(lines)
