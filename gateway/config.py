"""Every option of the configuration file, and how it is read. A backend brings the options of its own hosts.

`load_config` reports all mistakes of a file at once, each as `file: key: what is wrong`.
"""

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from marshmallow import ValidationError
from marshmallow import fields as kinds
from marshmallow.validate import Range, Regexp

from gateway.backend import NoOptions
from gateway.errors import ConfigError
from gateway.options import REQUIRED, FilePath, Secret, Size, folder, one_of, option, read
from gateway.plugin_manager import Plugins, load_plugins
from gateway.transport import TRANSPORTS

HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?\Z")
ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?\Z|https?://\[[0-9a-f:.]+\](:[0-9]{1,5})?\Z")
DEFAULT_FILE = "conf/gateway.toml"


class DatabaseUrl(Secret):
    """`sqlite:///path` (relative to the configuration file's folder) or `postgresql://...` (psycopg 3)."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> str:
        url = super()._deserialize(value, attr, data, **kwargs)
        if url.startswith("sqlite:///") and len(url) > len("sqlite:///"):
            return f"sqlite:///{(folder.get() / url.removeprefix('sqlite:///')).resolve()}"
        if url.startswith(("postgresql://", "postgresql+psycopg://")):
            return "postgresql+psycopg://" + url.split("://", 1)[1]
        raise ValidationError("must be sqlite:///<path> or postgresql://<user>@<server>/<database>")


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySection:
    """[gateway]"""

    base_url: str = option(
        kinds.Url(require_tld=False, schemes={"http", "https"}),
        "http://127.0.0.1:5000",
        "what clients see; stdout_path and stderr_path are built on it",
    )
    database: str = option(
        DatabaseUrl(), REQUIRED, "sqlite:///<path> or postgresql://...; may be file:/path or env:NAME"
    )
    state_dir: Path = option(FilePath(), REQUIRED, "where the gateway and its local jobs keep what they need")
    default_host: str | None = option(
        kinds.String(), None, "host for doors that name none; otherwise the only or the first one"
    )
    audit_log: Path | None = option(
        FilePath(), None, "where it is written who did what to which job; default: audit.log in state_dir"
    )
    ticker: bool = option(
        kinds.Boolean(truthy={True}, falsy={False}),
        True,
        "keep up with the schedulers in a thread of each server; false where cron calls `jobgate tick`",
    )
    log_level: str = option(
        kinds.String(validate=one_of("DEBUG", "INFO", "WARNING", "ERROR")),
        "INFO",
        "least level that is logged",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthSection:
    """[auth]"""

    trusted_ca_dir: Path = option(
        FilePath(),
        REQUIRED,
        "hashed directory of trusted CAs: <hash>.0, <hash>.r0 (CRL), <hash>.signing_policy",
    )
    grid_mapfile: Path = option(FilePath(), REQUIRED, "which accounts each certificate subject may use")
    require_crl: bool = option(
        kinds.Boolean(truthy={True}, falsy={False}),
        False,
        "refuse a CA without a CRL; a CRL that is there must be current and is always obeyed",
    )
    require_signing_policy: bool = option(
        kinds.Boolean(truthy={True}, falsy={False}), True, "refuse a CA without a signing_policy file"
    )
    allow_weak: bool = option(
        kinds.Boolean(truthy={True}, falsy={False}), False, "accept RSA below 2048 bits, SHA-1 and MD5"
    )
    admins: list[str] = option(
        kinds.List(kinds.String(validate=Regexp(r"/"))), [], "subject names that may see and steer every job"
    )
    token_lifetime: int = option(
        kinds.Integer(strict=True, validate=Range(60)),
        43200,
        "seconds that a bearer token lives at most; it never outlives the proxy that it was made with",
    )


class Origin(kinds.String):
    """A site as a browser names it: scheme, name, and a port that is not the scheme's own."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> str:
        text: str = super()._deserialize(value, attr, data, **kwargs)
        if not ORIGIN.match(text):
            raise ValidationError('write an origin as "https://portal.example.org", in small letters and with no path')
        return text


@dataclass(frozen=True, slots=True, kw_only=True)
class PortalSection:
    """[portal]"""

    session_lifetime: int = option(
        kinds.Integer(strict=True, validate=Range(60)),
        14400,
        "seconds after which one has to sign in again to the gateway's page; never beyond the proxy's end",
    )
    origins: list[str] = option(
        kinds.List(Origin()),
        [],
        'other sites whose pages may call this gateway from a browser, such as "https://portal.example.org" (CORS)',
    )


class Networks(kinds.List):
    """A list of networks as "10.0.0.0/8" or "fd00::/8"; an address alone stands for itself."""

    def __init__(self) -> None:
        super().__init__(kinds.String())

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> list[Any]:
        try:
            return [ip_network(str(text)) for text in super()._deserialize(value, attr, data, **kwargs)]
        except ValueError as problem:
            raise ValidationError(f'write networks as "10.0.0.0/8": {problem}') from None


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifySection:
    """[notify]"""

    secret: str | None = option(
        Secret(), None, "key of the signature in X-Jobgate-Signature; default: see `jobgate notify-secret`"
    )
    allow: list[Any] = option(
        Networks(), [], "networks that notifications may go to although they are loopback, private or link-local"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsSection:
    """[limits] Sizes as "1MiB" or an integer of MiB; over a limit is 413."""

    script: int = option(Size(), 1 << 20, "size of a script")
    tasks: int = option(kinds.Integer(strict=True, validate=Range(1)), 10_000, "tasks of an array")
    waiting: int = option(
        kinds.Integer(strict=True, validate=Range(1)),
        96,
        "requests of one process that wait at a time, for events, a job's change or the end of a log; below gunicorn's "
        "`threads`",
    )
    upload: int = option(Size(), 2 << 30, "size of a bundle and its inputs, as they are sent")
    unpacked: int = option(Size(), 8 << 30, "size of a bundle when it is unpacked")
    unpacked_files: int = option(
        kinds.Integer(strict=True, validate=Range(1)), 50_000, "files, folders and links in a bundle"
    )
    bulk: int = option(kinds.Integer(strict=True, validate=Range(1)), 1000, "jobs in one call of /api/jobs/bulk")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSection:
    """[hosts.<name>] What every host has; the backend adds its own options."""

    backend: str = option(kinds.String(), REQUIRED, "a registered backend, see `jobgate plugins`")
    transport: str = option(kinds.String(validate=one_of(*TRANSPORTS)), "local", "how commands reach the host")
    accounts: str = option(
        kinds.String(validate=one_of("mapped", "gateway")),
        "mapped",
        "mapped: run as the account of the grid-mapfile (the local transport needs root for it); gateway: everybody's "
        "jobs run as the gateway's own user and accounts are labels",
    )
    poll_interval: float = option(
        kinds.Float(validate=Range(0.1)), 5.0, "seconds; at most one queue query per interval"
    )
    lost_after: int = option(
        kinds.Integer(strict=True, validate=Range(1)),
        3600,
        "seconds after which a job that neither queue nor accounting knows is called lost",
    )
    submit_timeout: float = option(
        kinds.Float(validate=Range(1)),
        30.0,
        "seconds that a submit may take before its outcome counts as unknown",
    )
    operator: str | None = option(
        kinds.String(), None, "account that asks about everybody's jobs; without it one query per account"
    )
    workspace: str = option(
        kinds.String(validate=Regexp(r"(~/|/).", error="must begin with / or ~/")),
        "~/.jobgate",
        "folder on the host in which each bundle gets one of its own; `{account}` in it stands for the account",
    )
    process: bool = option(
        kinds.Boolean(truthy={True}, falsy={False}), True, "whether POST /api/process may run short commands here"
    )
    process_timeout: float = option(
        kinds.Float(validate=Range(0.1, 110)), 10.0, "seconds that a short command may take"
    )
    app_workspace: str | None = option(
        kinds.String(validate=Regexp(r"(~/|/).", error="must begin with / or ~/")),
        None,
        "folder on the host that $(APP_WORKSPACE) in a template stands for; default: ~/.jobgate/app",
    )
    aliases: list[str] = option(
        kinds.List(kinds.String(validate=Regexp(HOST_NAME))), [], "other names that a client may send as host"
    )


@dataclass(frozen=True, slots=True)
class HostConfig:
    """One [hosts.<name>] table: the common part, the backend's options, the transport's options (None: local).

    `broken` is the reason why the backend's plugin did not load; such a host is down, the others are not."""

    name: str
    section: HostSection
    options: Any
    transport_options: Any = None
    broken: str | None = None


@dataclass(frozen=True, slots=True)
class Config:
    """A configuration file that has been read and found good."""

    file: Path
    gateway: GatewaySection
    auth: AuthSection
    limits: LimitsSection
    notify: NotifySection
    portal: PortalSection
    hosts: Mapping[str, HostConfig]
    dialects: Mapping[str, Any]

    @property
    def audit_log(self) -> Path:
        return self.gateway.audit_log or self.gateway.state_dir / "audit.log"

    @property
    def session_cookie(self) -> str:
        """The name of the page's cookie. Browsers take `__Host-` from nobody but the site itself, and only over TLS."""
        return "__Host-jobgate" if self.gateway.base_url.startswith("https:") else "jobgate"

    @property
    def default_host(self) -> str:
        return self.gateway.default_host or next(iter(self.hosts))


def find_config() -> Path:
    """`JOBGATE_CONFIG`, else conf/gateway.toml."""
    return Path(os.environ.get("JOBGATE_CONFIG") or DEFAULT_FILE)


def load_config(path: str | Path | None = None, plugins: Plugins | None = None) -> Config:
    """Read a configuration file. Raises ConfigError with all its mistakes."""
    file = Path(path or find_config())
    return _Reader(file, plugins or load_plugins()).config(_parse(file))


def _parse(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text())
    except FileNotFoundError:
        words = "there is no such file; name one with --config or JOBGATE_CONFIG"
        raise ConfigError([f"{file}: {words}"]) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise ConfigError([f"{file}: cannot be read: {problem}"]) from None


class _Reader:
    """Reads one file and gathers its mistakes."""

    def __init__(self, file: Path, plugins: Plugins) -> None:
        self.file = file
        self.plugins = plugins
        self.problems: list[str] = []

    def config(self, tables: dict[str, Any]) -> Config:
        token = folder.set(self.file.resolve().parent)
        try:
            for key in tables.keys() - {"gateway", "auth", "limits", "notify", "portal", "hosts", "dialects"}:
                self.problem(key, "there is no such section")
            gateway = self.section(GatewaySection, _overridden(tables.get("gateway", {})), "gateway")
            auth = self.section(AuthSection, tables.get("auth", {}), "auth")
            limits = self.section(LimitsSection, tables.get("limits", {}), "limits")
            notify = self.section(NotifySection, tables.get("notify", {}), "notify")
            portal = self.section(PortalSection, tables.get("portal", {}), "portal")
            hosts = self.hosts(tables.get("hosts", {}))
            self.default_host(tables.get("gateway"), hosts)
            dialects = self.dialects(tables.get("dialects", {}), hosts)
        finally:
            folder.reset(token)
        if self.problems:
            raise ConfigError(sorted(self.problems))
        return Config(self.file, gateway, auth, limits, notify, portal, hosts, dialects)

    def hosts(self, tables: Any) -> dict[str, HostConfig]:
        if not isinstance(tables, dict) or not tables:
            self.problem("hosts", 'name at least one host, e.g. [hosts.localhost] with backend = "local"')
            return {}
        hosts = {name: self.host(name, table) for name, table in tables.items()}
        self.unique_names(tables)
        return hosts

    def dialects(self, tables: Any, hosts: Mapping[str, Any]) -> dict[str, Any]:
        """The tables that plugins have of their own, by name; each has its defaults where it is not given."""
        if not isinstance(tables, dict):
            self.problem("dialects", "must be a table")
            return {}
        known = self.plugins.options
        for name in tables.keys() - known.keys() - {plugin.name for plugin in self.plugins.broken}:
            self.problem(f"dialects.{_key(name)}", f"there is no such dialect; known: {', '.join(sorted(known))}")
        read = {name: self.section(kind, tables.get(name, {}), f"dialects.{name}") for name, kind in known.items()}
        for name, options in read.items():
            if (host := getattr(options, "host", None)) and host not in hosts:
                self.problem(f"dialects.{name}.host", f"there is no [hosts.{_key(host)}]")
        return read

    def default_host(self, gateway: Any, hosts: Mapping[str, Any]) -> None:
        name = gateway.get("default_host") if isinstance(gateway, dict) else None
        if isinstance(name, str) and name not in hosts:
            self.problem("gateway.default_host", f"there is no [hosts.{_key(name)}]")

    def host(self, name: str, table: Any) -> Any:
        where = f"hosts.{_key(name)}"
        if not HOST_NAME.match(name):
            self.problem(where, "a host is named with letters, digits, '.', '_' and '-'")
        if not isinstance(table, dict):
            return self.problem(where, "must be a table")
        common = {declared.name for declared in fields(HostSection)} | set(TRANSPORTS)
        section = self.section(HostSection, {k: v for k, v in table.items() if k in common - set(TRANSPORTS)}, where)
        own = {key: value for key, value in table.items() if key not in common}
        broken, options = self.backend_options(table.get("backend"), table.get("transport", "local"), own, where)
        transport_options = self.transport_options(table, where)
        return section and HostConfig(name, section, options, transport_options, broken)

    def backend_options(
        self, backend: Any, transport: Any, table: dict[str, Any], where: str
    ) -> tuple[str | None, Any]:
        """Why the backend's plugin did not load, and the options of its own."""
        if not isinstance(backend, str):
            return None, None  # the common part says that it is missing
        known = self.plugins.backends
        if backend in known:
            if known[backend].local_only and transport != "local":
                self.problem(f"{where}.transport", f'"{backend}" runs jobs on this machine; leave the transport out')
            return None, self.section(known[backend].options_type, table, where)
        broken = next((plugin.reason for plugin in self.plugins.broken if plugin.name == backend), None)
        if broken is None:
            self.problem(f"{where}.backend", f"there is no backend {backend!r}; known: {', '.join(sorted(known))}")
        return broken, NoOptions()

    def transport_options(self, table: dict[str, Any], where: str) -> Any:
        transport = table.get("transport", "local")
        for other in TRANSPORTS.keys() - {transport}:
            if other in table:
                self.problem(f"{where}.{other}", f'is given, but the transport is "{transport}"')
        options_type = TRANSPORTS.get(transport) if isinstance(transport, str) else None
        return options_type and self.section(options_type(), table.get(transport, {}), f"{where}.{transport}")

    def unique_names(self, tables: Mapping[str, Any]) -> None:
        taken = set(tables)
        for name, table in tables.items():
            aliases = table.get("aliases") if isinstance(table, dict) else None
            for alias in aliases if isinstance(aliases, list) else ():
                if alias in taken:
                    self.problem(f"hosts.{_key(name)}.aliases", f"{alias!r} is another host's name already")
                taken.add(alias)

    def section(self, kind: type, table: Any, where: str) -> Any:
        if not isinstance(table, dict):
            return self.problem(where, "must be a table")
        values, mistakes = read(kind, table)
        for key, words in mistakes.items():
            self.problem(f"{where}.{key}", " ".join(_plain(word) for word in words))
        return values

    def problem(self, key: str, words: str) -> None:
        self.problems.append(f"{self.file}: {key}: {words}")


def _overridden(table: Any) -> Any:
    """JOBGATE_BASE_URL wins over the file: `jobgate serve --port` sets it."""
    url = os.environ.get("JOBGATE_BASE_URL")
    return {**table, "base_url": url} if url and isinstance(table, dict) else table


def _plain(words: str) -> str:
    """marshmallow's two commonest sentences in an administrator's words."""
    return {
        "Unknown field.": "there is no such option",
        "Missing data for required field.": "is missing",
    }.get(words, words)


def _key(name: str) -> str:
    return f'"{name}"' if "." in name else name


def reference(plugins: Plugins) -> Iterable[tuple[str, list[tuple[str, str, str]]]]:
    """For docs/configuration.md: each section with (option, default, help)."""
    yield "[gateway]", _rows(GatewaySection)
    yield "[auth]", _rows(AuthSection)
    yield "[limits]", _rows(LimitsSection)
    yield "[notify]", _rows(NotifySection)
    yield "[portal]", _rows(PortalSection)
    yield "[hosts.<name>]", _rows(HostSection)
    for name, section in sorted(plugins.options.items()):
        yield f"[dialects.{name}]", _rows(section)
    for name, load in TRANSPORTS.items():
        if load:
            yield f"[hosts.<name>.{name}]", _rows(load())
    for name, backend in sorted(plugins.backends.items()):
        if fields(backend.options_type):
            yield f'[hosts.<name>] with backend = "{name}"', _rows(backend.options_type)


def _rows(section: type) -> list[tuple[str, str, str]]:
    return [(f.name, _default_words(f), f.metadata["help"]) for f in fields(section)]


def _default_words(declared: Any) -> str:
    if declared.default is not REQUIRED:
        return "" if declared.default is None else str(declared.default)
    return "required" if declared.default_factory is REQUIRED else str(declared.default_factory())
