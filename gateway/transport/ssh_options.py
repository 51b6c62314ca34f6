"""The options of a host that is reached over ssh: the table [hosts.<name>.ssh]. Imports no paramiko."""

from dataclasses import dataclass
from pathlib import Path

from marshmallow import ValidationError, fields
from marshmallow.validate import Length, Range

from gateway.options import REQUIRED, FilePath, option


@dataclass(frozen=True, slots=True, kw_only=True)
class SshOptions:
    """[hosts.<name>.ssh] Exactly one of `user_ca_key` and `identity_file` is given."""

    hostname: str = option(fields.String(validate=Length(1)), REQUIRED, "name or address of the login node")
    port: int = option(fields.Integer(strict=True, validate=Range(1, 65535)), 22, "its sshd's port")
    known_hosts: Path = option(FilePath(), REQUIRED, "file with the host's key; host keys are always checked")
    host_key_alias: str | None = option(fields.String(), None, "name of the host in known_hosts, if not its own")
    user_ca_key: Path | None = option(
        FilePath(), None, "key with which the gateway signs a certificate of five minutes for the mapped account"
    )
    identity_file: Path | None = option(FilePath(), None, "or a service key that every mapped account accepts")
    max_channels: int = option(
        fields.Integer(strict=True, validate=Range(1)),
        6,
        "commands at a time on one connection; stay below sshd's MaxSessions (10)",
    )
    max_connections: int = option(
        fields.Integer(strict=True, validate=Range(1)), 4, "connections per account; beyond that requests wait"
    )
    connect_timeout: float = option(fields.Float(validate=Range(0.1)), 10.0, "seconds for connecting and logging in")
    wait_timeout: float = option(fields.Float(validate=Range(0.1)), 30.0, "seconds that a request waits for its turn")
    idle_timeout: float = option(fields.Float(validate=Range(0.1)), 60.0, "seconds after which an idle connection ends")
    keepalive: float = option(
        fields.Float(validate=Range(0.1)),
        15.0,
        "seconds between questions whether the host is alive, and to answer one",
    )

    def __post_init__(self) -> None:
        if (self.user_ca_key is None) == (self.identity_file is None):
            raise ValidationError({"user_ca_key": ["give either user_ca_key or identity_file"]})

    @property
    def display_name(self) -> str:
        """What people call the host."""
        return self.host_key_alias or self.hostname

    @property
    def known_name(self) -> str:
        """The name under which known_hosts has it, by OpenSSH's rules."""
        if self.host_key_alias:
            return self.host_key_alias
        return self.hostname if self.port == 22 else f"[{self.hostname}]:{self.port}"
