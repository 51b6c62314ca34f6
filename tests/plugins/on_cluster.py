"""Backends of the real cluster, reached as a site would: over ssh, with certificates that the gateway signs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from gateway.backend import Backend, HostContext
from gateway.transport.ssh import SshTransport
from gateway.transport.ssh_options import SshOptions
from tests.cluster.fixture import Cluster

B = TypeVar("B", bound=Backend)


@contextmanager
def running(
    kind: type[B], cluster: Cluster, folder: Path, options: object = None, *, operator: bool = True
) -> Iterator[B]:
    transport = SshTransport(
        SshOptions(
            hostname=cluster.hostname,
            port=cluster.ssh_port,
            known_hosts=cluster.known_hosts,
            host_key_alias=cluster.host_key_alias,
            user_ca_key=cluster.user_ca_key,
        )
    )
    who = cluster.operator if operator else None
    backend = kind(HostContext("hpc.example.org", options or kind.options_type(), transport, folder, operator=who))
    yield backend
    backend.close()
    transport.close()
