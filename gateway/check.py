"""What `jobgate check` looks at."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from gateway.auth.gridmap import GridMap
from gateway.auth.proxy import ProxyVerifier
from gateway.config import Config
from gateway.errors import ConfigError, JobgateError
from gateway.hosts import Host, Hosts
from gateway.plugin_manager import Plugins
from gateway.store import Database


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to tell the administrator; `level` is "ok", "warning" or "problem"."""

    level: str
    where: str
    words: str

    @property
    def colour(self) -> str:
        return {"ok": "green", "warning": "yellow", "problem": "red"}[self.level]


def findings(config: Config, plugins: Plugins) -> Iterator[Finding]:
    """Look at everything that a configuration names."""
    yield Finding("ok", str(config.file), f"{len(config.hosts)} host(s), no mistakes")
    for broken in plugins.broken:
        yield Finding("problem", f"plugin {broken.name}", broken.reason)
    yield from _state_dir(config.gateway.state_dir)
    yield from _database(config)
    yield from _auth(config)
    hosts = Hosts(config, plugins)
    with ThreadPoolExecutor(max_workers=16) as pool:
        for found in pool.map(_host, hosts):
            yield from found
    hosts.close()


def _state_dir(folder: Path) -> Iterator[Finding]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        yield Finding("problem", "gateway.state_dir", f"cannot be made: {problem}")
        return
    good = os.access(folder, os.W_OK | os.X_OK)
    yield Finding("ok" if good else "problem", "gateway.state_dir", f"{folder} is {'' if good else 'not '}writable")


def _database(config: Config) -> Iterator[Finding]:
    database = Database(config.gateway.database)
    try:
        revision, newest = database.revision(), database.newest_revision()
    except JobgateError as problem:
        yield Finding("problem", "gateway.database", problem.message)
    else:
        same = "up to date" if revision == newest else "not migrated yet; `jobgate migrate` or `jobgate serve` does it"
        yield Finding("ok" if revision == newest else "warning", "gateway.database", same)
    finally:
        database.close()


def _auth(config: Config) -> Iterator[Finding]:
    auth = config.auth
    verifier = ProxyVerifier(
        auth.trusted_ca_dir, require_crl=auth.require_crl, require_signing_policy=auth.require_signing_policy
    )
    problems = verifier.problems()
    yield from (Finding("problem", "auth.trusted_ca_dir", words) for words in problems)
    if not problems:
        yield Finding("ok", "auth.trusted_ca_dir", str(auth.trusted_ca_dir))
    try:
        GridMap(auth.grid_mapfile)
    except ConfigError as error:
        yield from (Finding("problem", "auth.grid_mapfile", words) for words in error.problems)
    else:
        yield Finding("ok", "auth.grid_mapfile", str(auth.grid_mapfile))
    if auth.allow_weak:
        yield Finding("warning", "auth.allow_weak", "weak keys and digests are accepted")


def _host(host: Host) -> list[Finding]:
    where = f"host {host.name}"
    try:
        warnings = host.backend.check()
        if host.backend.capabilities.needs_operator and not host.config.section.operator:
            words = "no operator is set: it is asked once per account with jobs, and cannot be tried from here"
            return [Finding("warning", where, words), *(Finding("warning", where, told) for told in warnings)]
        version = host.backend.cluster().version
    except JobgateError as problem:
        return [Finding("problem", where, f"{problem.message} {problem.error_output}".strip())]
    except Exception as problem:  # a plugin's bug
        return [Finding("problem", where, f"{type(problem).__name__}: {problem}")]
    return [Finding("ok", where, version), *(Finding("warning", where, words) for words in warnings)]
