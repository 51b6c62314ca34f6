"""A site, an authority and Ann. Keys are made once (they take a tenth of a second each), the rest for each test."""

import functools
from dataclasses import dataclass, field
from pathlib import Path

from gateway.auth.proxy import ProxyVerifier
from gateway.errors import Unauthenticated
from gateway.testing.certificates import Authority, Credential, Key, ec_key, rsa_key

ORGANISATION = "/C=PL/O=Test"
ANN = f"{ORGANISATION}/CN=Ann"


@functools.cache
def key(label: str, bits: int = 2048) -> Key:
    return ec_key() if label.startswith("ec") else rsa_key(bits)


@dataclass
class World:
    """A site that trusts one authority, and Ann, who has a certificate of it."""

    directory: Path
    authority: Authority
    ann: Credential
    options: dict[str, bool] = field(default_factory=dict)

    def proxy(self, **changes: object) -> Credential:
        return self.proxy_of(self.ann, **changes)

    def proxy_of(self, holder: Credential, **changes: object) -> Credential:
        return holder.proxy(**{"key": key("proxy")} | changes)

    def issue(self, subject: object = ANN, **changes: object) -> Credential:
        return self.authority.issue(subject, **{"key": key("ann")} | changes)

    def clear(self) -> None:
        for file in self.directory.iterdir():
            file.unlink()

    def trust_again(self, authority: Authority | None = None, **changes: object) -> None:
        """Throws the trust directory away and installs the authority differently."""
        self.clear()
        (authority or self.authority).install(self.directory, **changes)

    def verifier(self) -> ProxyVerifier:
        return ProxyVerifier(self.directory, **self.options)

    def verdict(self, header: str) -> tuple[str, str]:
        """("good", subject) or (code, message)."""
        try:
            return "good", self.verifier().verify(header).subject
        except Unauthenticated as refusal:
            return refusal.code, refusal.message
