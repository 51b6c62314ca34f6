"""From a configuration section to a host that jobs can be sent to: backend, transport, and its names."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from gateway.backend import Backend, HostContext
from gateway.config import Config, HostConfig
from gateway.errors import HostDown, NotFound, UnknownHost
from gateway.model import Job
from gateway.plugin_manager import Plugins
from gateway.transport import Transport
from gateway.transport.local import LocalTransport


@dataclass(frozen=True, slots=True)
class Host:
    """A host as the service sees it. `config.section` holds what every host has."""

    name: str
    config: HostConfig
    backend: Backend
    transport: Transport

    @property
    def aliases(self) -> list[str]:
        return self.config.section.aliases


class Hosts:
    """All hosts of a configuration, by name or alias."""

    def __init__(self, config: Config, plugins: Plugins) -> None:
        self.by_name = {name: _host(config, host, plugins) for name, host in config.hosts.items()}
        self.by_any_name = {alias: host for host in self for alias in (host.name, *host.aliases)}
        self.default = self.by_name[config.default_host]

    def __iter__(self) -> Iterator[Host]:
        return iter(self.by_name.values())

    def named(self, name: str) -> Host:
        """The host with this name or alias. Raises UnknownHost, which lists those there are."""
        if name in self.by_any_name:
            return self.by_any_name[name]
        words = f"is not a host of this gateway; it has: {', '.join(self.by_name)}"
        raise UnknownHost(f"{name!r} {words}", errors={"host": [words]})

    def named_in_url(self, name: str) -> Host:
        """As `named`, where the name is the resource itself. Raises NotFound."""
        try:
            return self.named(name)
        except UnknownHost as problem:
            raise NotFound(problem.message, code=problem.code) from None

    def of(self, job: Job) -> Host:
        """The job's host. Raises HostDown where the configuration has it no more."""
        if job.host not in self.by_name:
            raise HostDown(f"{job.host} is no longer a host of this gateway", retry_after=3600)
        return self.by_name[job.host]

    def close(self) -> None:
        for host in self:
            host.backend.close()
            host.transport.close()


def _host(config: Config, host: HostConfig, plugins: Plugins) -> Host:
    transport = _transport(config, host)
    context = HostContext(
        name=host.name,
        options=host.options,
        transport=transport,
        state_dir=config.gateway.state_dir / "hosts" / host.name,
        operator=host.section.operator,
        shared_account=host.section.accounts == "gateway",
    )
    backend = BrokenBackend(context, host.broken) if host.broken else plugins.backends[host.section.backend](context)
    return Host(host.name, host, backend, transport)


def _transport(config: Config, host: HostConfig) -> Transport:
    if host.section.transport == "ssh":
        from gateway.transport.ssh import SshTransport  # paramiko takes a while to import; most gateways have no need

        return SshTransport(host.transport_options)
    homes: Path = config.gateway.state_dir / "home"
    return LocalTransport(shared_account=host.section.accounts == "gateway", homes=homes)


class BrokenBackend(Backend):
    """Stands in where a backend's plugin did not load: this host is down, the others are not."""

    name: ClassVar[str] = "broken"

    def __init__(self, host: HostContext, reason: str) -> None:
        super().__init__(host)
        self.reason = reason

    def _down(self, *_: Any) -> NoReturn:
        raise HostDown(f"the plugin for {self.host.name} did not load: {self.reason}", retry_after=60)

    submit: Any = _down
    query: Any = _down
    find: Any = _down
    control: Any = _down
    cluster: Any = _down
