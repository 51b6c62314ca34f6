"""The trusted CA directory: `<hash>.0` certificates, `<hash>.r0` CRLs, `<hash>.signing_policy`.

OpenSSL reads it through its own lookup by hash, so what stands here is what OpenSSL leaves open: noticing that the
directory changed, "a CRL that is there is obeyed", and signing policies.
"""

import hashlib
import itertools
import logging
import os
import re
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from OpenSSL import crypto

from gateway.auth.certificates import slash_form, utc
from gateway.auth.proxy_file import MAKE_ONE, unreadable_certificate
from gateway.auth.signing_policy import SigningPolicy, SigningPolicyError, may_sign, parse_signing_policy
from gateway.errors import Unauthenticated

log = logging.getLogger(__name__)

RESCAN = 1.0  # seconds between looks at every file; the directory itself is looked at on every request
TRUST_FILE = re.compile(r"[0-9a-f]{8}\.(r?[0-9]+|signing_policy)")
Fingerprint = frozenset[tuple[str, int, int, int, int]]

ASK_SITE = "tell the administrator of this gateway"
# OpenSSL's X509_V_ERR_* numbers, each with a code and what to do. The numbers are part of its ABI.
VERIFY_ERRORS = {
    2: ("proxy_untrusted", "no trusted authority signed it: use a certificate that this site accepts"),
    3: ("proxy_crl_missing", f"its authority's revocation list is missing or unreadable: {ASK_SITE}"),
    7: ("proxy_signature", f"a signature does not fit, the file was altered or mixed: {MAKE_ONE}"),
    8: ("proxy_crl", f"its authority's revocation list is not signed by the authority: {ASK_SITE}"),
    9: ("proxy_not_yet_valid", "it is not valid yet: check the clocks, or wait"),
    10: ("proxy_expired", f"it has expired: {ASK_SITE}"),
    11: ("proxy_crl", f"its authority's revocation list is not valid yet: {ASK_SITE}"),
    12: ("proxy_crl_expired", f"its authority's revocation list has expired: {ASK_SITE}"),
    18: ("proxy_untrusted", "it is signed by itself: use a certificate that this site accepts"),
    19: ("proxy_untrusted", "its root is not trusted here: use a certificate that this site accepts"),
    20: ("proxy_untrusted", "no trusted authority signed it: use a certificate that this site accepts"),
    23: ("proxy_revoked", "its authority revoked it: ask your certificate authority for a new one"),
    25: ("proxy_path_length", f"an authority signed deeper than it may: {ASK_SITE}"),
    33: ("proxy_crl", f"its authority's revocation list cannot be checked: {ASK_SITE}"),
    35: ("proxy_crl", f"its authority may not sign revocation lists: {ASK_SITE}"),
    36: ("proxy_crl", f"its authority's revocation list has an unknown critical part: {ASK_SITE}"),
    38: ("proxy_path_length", "it was delegated more often than its path length allows: delegate less deeply"),
}
CHAIN_ERROR = ("proxy_chain", MAKE_ONE)
NAME_ERROR = ("proxy_name", f"its name is not its issuer's plus one CN (RFC 3820): {MAKE_ONE}")
NAME_WORDS = "proxy subject name violation"  # its number moved between OpenSSL releases


class Trust:
    """The directory as it stood at one moment. Safe to share among threads."""

    def __init__(self, directory: Path, files: Fingerprint) -> None:
        self.directory = directory
        self.files = files
        self.names = frozenset(name for name, *_ in files)
        self.hashes_with_crl = frozenset(name[:8] for name in self.names if name[9] == "r")
        flags = crypto.X509StoreFlags
        self.store = self._store(flags.ALLOW_PROXY_CERTS)
        # Without CRL_CHECK_ALL, so that each certificate can be asked about on its own: a missing CRL of one authority
        # must not switch off those of the others.
        self.crl_store = self._store(flags.ALLOW_PROXY_CERTS | flags.CRL_CHECK)
        self._policies: dict[str, SigningPolicy] = {}

    def _store(self, flags: int) -> crypto.X509Store:
        store = crypto.X509Store()
        store.load_locations(None, os.fspath(self.directory))
        store.set_flags(flags)
        return store

    def verified_chain(self, sent: Sequence[x509.Certificate]) -> list[crypto.X509]:
        """RFC 5280 section 6 with RFC 3820 section 4: names, signatures, path lengths, key usage, validity."""
        problem: Unauthenticated
        try:
            leaf, *untrusted = [crypto.X509.from_cryptography(each) for each in sent]
            return crypto.X509StoreContext(self.store, leaf, untrusted).get_verified_chain()
        except crypto.X509StoreContextError as error:
            problem = refusal(error)
        except crypto.Error:  # OpenSSL reads some DER more strictly than cryptography
            problem = unreadable_certificate()
        raise problem

    def check_revocation(self, chain: Sequence[crypto.X509], *, required: bool) -> None:
        """Every certificate from the end entity to the root, against the CRL of its issuer where there is one."""
        problem: Unauthenticated | None = None
        for position, certificate in enumerate(chain):
            issuer = chain[min(position + 1, len(chain) - 1)]
            if not (required or self.has_crl(issuer)):
                continue
            try:
                crypto.X509StoreContext(self.crl_store, certificate, chain[position + 1 :]).verify_certificate()
            except crypto.X509StoreContextError as error:
                problem = refusal(error)
                break
        if problem is not None:
            raise problem

    def check_signing_policies(self, chain: Sequence[crypto.X509], *, required: bool) -> None:
        """Every name from the end entity upwards must be one that its issuer may sign."""
        for certificate, issuer in itertools.pairwise(chain):
            subject = slash_form(certificate.to_cryptography().subject)
            authority = slash_form(issuer.to_cryptography().subject)
            policy = self.signing_policy(issuer)
            if policy is None and required:
                raise Unauthenticated(
                    f"{authority} has no signing_policy file here: {ASK_SITE}", code="proxy_no_signing_policy"
                )
            if policy is not None and not may_sign(policy, authority, subject):
                raise Unauthenticated(
                    f"{authority} may not sign for {subject}, says its signing_policy: "
                    "use a certificate of the right authority",
                    code="proxy_signing_policy",
                )

    def has_crl(self, issuer: crypto.X509) -> bool:
        return not self.hashes_with_crl.isdisjoint(hashes_of(issuer))

    def signing_policy(self, issuer: crypto.X509) -> SigningPolicy | None:
        """None where there is no file. A file that cannot be understood allows nothing."""
        for name in (f"{value}.signing_policy" for value in hashes_of(issuer)):
            if name in self.names:
                if name not in self._policies:
                    self._policies[name] = read_signing_policy(self.directory / name)
                return self._policies[name]
        return None

    def problems(self) -> Iterator[str]:
        """What an administrator should know: unreadable files, expired authorities and CRLs, missing policies."""
        now = datetime.now(UTC)
        authorities = [name for name in sorted(self.names) if name[9:].isdigit()]
        if not authorities:
            yield f"{self.directory}: no CA certificate (<hash>.0), so nobody is trusted"
        for name in authorities:
            try:
                authority = x509.load_pem_x509_certificate((self.directory / name).read_bytes())
                loaded = crypto.X509.from_cryptography(authority)
            except (OSError, ValueError, crypto.Error):
                yield f"{self.directory / name}: no readable PEM certificate"
                continue
            if now > authority.not_valid_after_utc:
                yield f"{self.directory / name}: expired at {utc(authority.not_valid_after_utc)}"
            if name[:8] == hashes_of(loaded)[0] and self.signing_policy(loaded) is None:
                yield f"{self.directory / name}: no {name[:8]}.signing_policy for {slash_form(authority.subject)}"
        for name in sorted(name for name in self.names if name[9] == "r"):
            yield from crl_problems(self.directory / name, now)


class TrustDirectory:
    """Gives out the current `Trust`.

    A file that was replaced by renaming, as fetch-crl does, or added, or removed, counts on the very next request: the
    directory's own modification time tells. A file overwritten in place counts within a second.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._trust: Trust | None = None
        self._touched: tuple[int, int] | None = None
        self._looked_at = 0.0

    def current(self) -> Trust:
        touched = self._touch()
        trust = self._trust
        if trust is not None and touched == self._touched and time.monotonic() - self._looked_at < RESCAN:
            return trust
        with self._lock:
            return self._look(touched)

    def _look(self, touched: tuple[int, int] | None) -> Trust:
        looked_at = time.monotonic()
        files = self._scan()
        if self._trust is None or files != self._trust.files:
            self._trust = Trust(self.path, files)
        self._touched, self._looked_at = touched, looked_at
        return self._trust

    def _touch(self) -> tuple[int, int] | None:
        try:
            stat = self.path.stat()
        except OSError:
            return None
        return stat.st_ino, stat.st_mtime_ns

    def _scan(self) -> Fingerprint:
        try:
            with os.scandir(self.path) as entries:
                return frozenset(fingerprint(entry) for entry in entries if TRUST_FILE.fullmatch(entry.name))
        except OSError as error:
            log.error("trusted_ca_dir %s: %s, so nobody is trusted", self.path, error.strerror)
            return frozenset()


def fingerprint(entry: os.DirEntry[str]) -> tuple[str, int, int, int, int]:
    try:
        stat = entry.stat()
    except OSError:  # a link to nothing, or just removed
        return entry.name, 0, 0, 0, 0
    return entry.name, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def hashes_of(certificate: crypto.X509) -> tuple[str, str]:
    """The file names of an authority: OpenSSL's hash since 1.0, and the one of before, which Globus sites keep too."""
    der = certificate.to_cryptography().subject.public_bytes()
    old = int.from_bytes(hashlib.md5(der, usedforsecurity=False).digest()[:4], "little")
    return f"{certificate.subject_name_hash():08x}", f"{old:08x}"


def read_signing_policy(path: Path) -> SigningPolicy:
    try:
        return parse_signing_policy(path.read_bytes())
    except (OSError, SigningPolicyError) as error:
        log.error("%s: %s; its authority may sign nothing", path, error)
        return {}


def crl_problems(path: Path, now: datetime) -> Iterator[str]:
    try:
        ends = x509.load_pem_x509_crl(path.read_bytes()).next_update_utc
    except (OSError, ValueError):
        yield f"{path}: no readable PEM revocation list, so its authority's certificates are refused"
        return
    if ends is not None and now > ends:
        yield f"{path}: expired at {utc(ends)}, so its authority's certificates are refused"


def refusal(error: crypto.X509StoreContextError) -> Unauthenticated:
    number, _, words = error.errors
    code, advice = VERIFY_ERRORS.get(number, NAME_ERROR if NAME_WORDS in words else CHAIN_ERROR)
    who = slash_form(error.certificate.to_cryptography().subject)
    if (code, advice) == CHAIN_ERROR:
        advice = f"{words}: {advice}"
    return Unauthenticated(f"{who} is refused, {advice}", code=code)
