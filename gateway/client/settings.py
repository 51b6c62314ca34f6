"""Which gateway, and who asks: from arguments, the environment, and ~/.config/jobgate.toml, in that order.

url = "https://gateway.example.org"
host = "hpc.example.org"             # for jobs that name none
proxy = "/tmp/x509up_u1000"
token = "file:/home/ann/.jobgate-token"
ca = "/etc/ssl/certs/gateway-ca.pem"  # who signed the gateway's certificate, where the system does not know it
allow_http = true                     # send credentials without TLS to another machine
"""

import base64
import os
import tomllib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gateway.client.errors import BadProxy, BadSettings, NoGateway, NoProxy, ProxyExpired

RENEW = "renew it with `grid-proxy-init` (or `voms-proxy-init`)"
KINDS = {"url": str, "host": str, "proxy": str, "token": str, "ca": str, "allow_http": bool}


@dataclass(frozen=True, slots=True)
class Settings:
    """Where to ask, and as whom. `token` counts before `proxy`, as it was asked for."""

    url: str
    proxy: Path
    token: str | None = None
    host: str | None = None
    ca: str | None = None


def find(url: str | None = None, proxy: str | Path | None = None, token: str | None = None) -> Settings:
    """What was given, else JOBGATE_URL, JOBGATE_TOKEN, JOBGATE_HOST, X509_USER_PROXY, else the configuration file, else
    /tmp/x509up_u<uid>. Raises BadSettings, NoGateway."""
    file = config_file()
    config = read(file)
    url = url or os.environ.get("JOBGATE_URL") or config.get("url")
    if not url:
        raise NoGateway(f'which gateway? Set JOBGATE_URL, or write `url = "https://..."` into {file}')
    if proxy is None:  # a proxy that was asked for by name is not outdone by a token from somewhere else
        token = token or os.environ.get("JOBGATE_TOKEN") or _secret(config.get("token"))
    return replace(
        Settings(_checked(url, bool(config.get("allow_http"))), proxy_file(proxy or config.get("proxy"))),
        token=token,
        host=os.environ.get("JOBGATE_HOST") or config.get("host"),
        ca=config.get("ca"),
    )


def config_file() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "jobgate.toml"


def read(file: Path) -> dict[str, Any]:
    """The configuration file; empty where there is none. Raises BadSettings."""
    try:
        config = tomllib.loads(file.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as problem:
        raise BadSettings(f"{file} cannot be read: {problem}") from None
    for key, value in config.items():
        if key not in KINDS:
            raise BadSettings(f"{file}: there is no setting {key!r}; there are: {', '.join(KINDS)}")
        if not isinstance(value, KINDS[key]):
            raise BadSettings(f"{file}: {key} must be a {'text' if KINDS[key] is str else 'boolean'}")
    return config


def proxy_file(named: str | Path | None) -> Path:
    """Where grid users keep their proxy."""
    return Path(named or os.environ.get("X509_USER_PROXY") or f"/tmp/x509up_u{os.getuid()}")  # noqa: S108


def _secret(text: str | None) -> str | None:
    if text is None or not text.startswith("file:"):
        return text
    try:
        return Path(text.removeprefix("file:")).expanduser().read_text().strip()
    except (OSError, ValueError) as problem:
        raise BadSettings(f"the token cannot be read: {problem}") from None


def _checked(url: str, allow_http: bool) -> str:
    """A proxy holds its key, and a token is as good: neither is sent in the clear over a network."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname
    except ValueError:
        good = False
    if not good:
        raise BadSettings(f"{url!r} is no gateway's address; write https://<host>[:<port>]")
    if parts.scheme == "http" and not allow_http and not _loopback(parts.hostname or ""):
        words = "would send your private key in the clear; use https://, or set `allow_http = true` in"
        raise BadSettings(f"{url} {words} {config_file()}")
    return url.rstrip("/")


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


class Credential:
    """The headers that say who asks, made from the proxy file as it is now: it may be renewed meanwhile."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._seen: tuple[int, int] | None = None
        self._header = ""
        self._ends = datetime.max.replace(tzinfo=UTC)

    def headers(self) -> dict[str, str]:
        """Raises NoProxy, BadProxy, ProxyExpired."""
        if self.settings.token:
            return {"Authorization": f"Bearer {self.settings.token}"}
        file = self.settings.proxy
        try:
            seen = (file.stat().st_mtime_ns, file.stat().st_size)
            if seen != self._seen:
                self._read(file.read_bytes())
                self._seen = seen
        except OSError as problem:
            words = "make one with `grid-proxy-init`, or say where it is with X509_USER_PROXY"
            raise NoProxy(f"there is no proxy certificate: {file}: {problem.strerror}; {words}") from None
        if self._ends <= datetime.now(UTC):
            raise ProxyExpired(f"the proxy {file} expired at {self._ends:%F %T} UTC; {RENEW}")
        return {"PROXY": self._header}

    def _read(self, content: bytes) -> None:
        from cryptography import x509  # takes a while to import; with a token there is no need

        try:
            certificates = x509.load_pem_x509_certificates(content)
        except ValueError:
            raise BadProxy(f"{self.settings.proxy} is no proxy certificate; make one with `grid-proxy-init`") from None
        self._ends = min(certificate.not_valid_after_utc for certificate in certificates)
        self._header = base64.b64encode(content).decode()
