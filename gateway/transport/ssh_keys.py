"""Who is who over ssh: the host's key from known_hosts, and our key for an account."""

import base64
import io
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import paramiko  # type: ignore[import-untyped]
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.dsa import DSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import SSHCertificateBuilder, SSHCertificateType

CERTIFICATE_SECONDS = 300
CLOCK_SKEW = 60
KEY_ID_LENGTH = 512
RSA_ALGORITHMS = ("rsa-sha2-512", "rsa-sha2-256")


@dataclass(frozen=True, slots=True)
class HostKeys:
    """What a known_hosts file says about one name: keys as (type, blob)."""

    trusted: frozenset[tuple[str, bytes]]
    revoked: frozenset[tuple[str, bytes]]

    def accept(self, key: paramiko.PKey) -> bool:
        pair = (key.get_name(), key.asbytes())
        return pair in self.trusted and pair not in self.revoked

    def algorithms(self) -> list[str]:
        """Signature algorithms under which the host can prove one of the trusted keys."""
        kinds = sorted({kind for kind, _ in self.trusted})
        return [name for kind in kinds for name in (RSA_ALGORITHMS if kind == "ssh-rsa" else (kind,))]


def host_keys(known_hosts: Path, name: str) -> HostKeys:
    """Read anew for every connection, so that a rotated key needs no restart. Host CAs (@cert-authority) are not
    understood and vouch for nobody. Raises OSError."""
    found: dict[str, set[tuple[str, bytes]]] = {"": set(), "@revoked": set()}
    for line in known_hosts.read_text(errors="replace").splitlines():
        words = line.split()
        marker = words.pop(0) if words and words[0].startswith("@") else ""
        if len(words) >= 3 and marker in found and _matches(words[0].split(","), name):
            try:
                found[marker].add((words[1], base64.b64decode(words[2], validate=True)))
            except ValueError:
                continue
    return HostKeys(frozenset(found[""]), frozenset(found["@revoked"]))


def _matches(patterns: Sequence[str], name: str) -> bool:
    if any(pattern.startswith("!") and fnmatchcase(name, pattern[1:]) for pattern in patterns):
        return False
    return any(_is(pattern, name) for pattern in patterns)


def _is(pattern: str, name: str) -> bool:
    if pattern.startswith("|1|"):
        try:
            return bool(paramiko.HostKeys.hash_host(name, pattern) == pattern)
        except (ValueError, AssertionError, IndexError):
            return False
    # a bracket is part of "[host]:port" here and no character class
    return fnmatchcase(name, pattern.replace("[", "[[]"))


def signed_key(ca_key: Path, account: str, key_id: str) -> paramiko.PKey:
    """A fresh key with a user certificate of five minutes for exactly this account, which permits neither a terminal
    nor any forwarding. Raises OSError or ValueError where the CA's key cannot be read."""
    ca = serialization.load_ssh_private_key(ca_key.read_bytes(), password=None)
    if isinstance(ca, DSAPrivateKey):
        raise ValueError("a DSA key cannot sign certificates")
    private = Ed25519PrivateKey.generate()
    begin = int(time.time()) - CLOCK_SKEW
    certificate = (
        SSHCertificateBuilder()
        .public_key(private.public_key())
        .type(SSHCertificateType.USER)
        .serial(secrets.randbits(63))
        .key_id(printable(key_id).encode())
        .valid_principals([account.encode()])
        .valid_after(begin)
        .valid_before(begin + CERTIFICATE_SECONDS)
        .sign(ca)
    )
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    key = paramiko.Ed25519Key(file_obj=io.StringIO(pem.decode()))
    key.load_certificate(certificate.public_bytes().decode())
    return key


def printable(text: str) -> str:
    """One line of ASCII: what goes into other machines' logs must not be able to forge a line there."""
    return text[:KEY_ID_LENGTH].encode("unicode_escape").decode("ascii")
