"""Who sent this proxy: everything between the PROXY header and a name that can be looked up in the grid-mapfile."""

import hashlib
import itertools
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_private_key

from gateway.auth.certificates import (
    check_extensions,
    check_key,
    check_policy,
    check_strength,
    check_validity,
    is_legacy_proxy,
    is_proxy,
    slash_form,
    unambiguous,
)
from gateway.auth.proxy_file import MAKE_ONE, read_proxy
from gateway.auth.trust import Trust, TrustDirectory
from gateway.errors import Unauthenticated

log = logging.getLogger(__name__)

REMEMBERED_FOR = 60.0  # seconds
REMEMBERED_AT_MOST = 4096


@dataclass(frozen=True, slots=True)
class VerifiedProxy:
    """Who holds a good proxy: the end-entity certificate's subject in slash form, and until when the chain is valid."""

    subject: str
    expires_at: datetime


class ProxyVerifier:
    """Verifies proxies (RFC 3820) against a hashed directory of trusted authorities.

    A CRL that is there must be current and is always obeyed, `require_crl` refuses authorities without one; a
    signing_policy likewise. `allow_weak` lets RSA keys from 1024 bits and SHA-1 pass. One verifier serves any number
    of threads and remembers good proxies by the SHA-256 of the header, for at most a minute, never past their end,
    and only as long as the trust directory stays as it is (see `TrustDirectory` for when a change is seen).
    """

    def __init__(
        self,
        trusted_ca_dir: Path,
        *,
        require_crl: bool = False,
        require_signing_policy: bool = True,
        allow_weak: bool = False,
    ) -> None:
        self.trust = TrustDirectory(trusted_ca_dir)
        self.require_crl = require_crl
        self.require_signing_policy = require_signing_policy
        self.allow_weak = allow_weak
        self._remembered = Remembered()

    def verify(self, header: str) -> VerifiedProxy:
        """The holder of the proxy in the header, or `Unauthenticated` with the code of the check that refused it.

        The exception holds nothing of the header, its traceback no frame that saw the key.
        """
        trust = self.trust.current()
        digest = hashlib.sha256(header.encode("utf-8", "surrogatepass")).digest()
        known = self._remembered.get(digest, trust)
        if known is not None:
            return known
        refusal: Unauthenticated
        try:
            verified = self._verify(header, trust)
        except Unauthenticated as error:
            refusal = error.with_traceback(None)
        except Exception as error:
            log.warning("a proxy met an unforeseen %s", type(error).__name__)
            refusal = Unauthenticated(f"the proxy cannot be understood: {MAKE_ONE}", code="proxy_invalid")
        else:
            self._remembered.put(digest, trust, verified)
            return verified
        del header
        raise refusal

    def problems(self) -> list[str]:
        """What is wrong with the trust directory, for `jobgate check`."""
        return list(self.trust.current().problems())

    def _verify(self, header: str, trust: Trust) -> VerifiedProxy:
        """Cheap checks first; the private key is used last, when its owner is known."""
        sent = read_proxy(header)
        chain = sent.certificates
        depth = check_kinds(chain)
        now = datetime.now(UTC)
        for position, certificate in enumerate(chain):
            check_validity(certificate, what(position, depth), now)
        for position, certificate in enumerate(chain[: depth + 1]):
            check_strength(certificate, what(position, depth), allow_weak=self.allow_weak)
        for certificate in chain[depth + 1 :]:
            check_key(certificate, what(depth + 1, depth), allow_weak=self.allow_weak)
        check_links(chain)

        verified = trust.verified_chain(chain)
        whole = [certificate.to_cryptography() for certificate in verified]
        if whole[: depth + 1] != list(chain[: depth + 1]):
            raise unrelated()
        for certificate in whole[depth + 1 :]:
            anchor = certificate is whole[-1]
            check_strength(certificate, what(depth + 1, depth), allow_weak=self.allow_weak, anchor=anchor)
        check_names(whole[depth:-1])
        trust.check_revocation(verified[depth:], required=self.require_crl)
        trust.check_signing_policies(verified[depth:], required=self.require_signing_policy)
        check_possession(sent.key, chain[0])
        return VerifiedProxy(slash_form(chain[depth].subject), min(each.not_valid_after_utc for each in whole))


class Remembered:
    """Verdicts by digest of the header, oldest first. They are dropped together when the trust directory changed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._trust: Trust | None = None
        self._entries: OrderedDict[bytes, tuple[float, VerifiedProxy]] = OrderedDict()

    def get(self, digest: bytes, trust: Trust) -> VerifiedProxy | None:
        with self._lock:
            until, verified = self._entries.get(digest, (0.0, None)) if trust is self._trust else (0.0, None)
        if verified is None or time.monotonic() >= until or datetime.now(UTC) > verified.expires_at:
            return None
        return verified

    def put(self, digest: bytes, trust: Trust, verified: VerifiedProxy) -> None:
        with self._lock:
            if trust is not self._trust:
                self._entries.clear()
                self._trust = trust
            self._entries[digest] = (time.monotonic() + REMEMBERED_FOR, verified)
            self._entries.move_to_end(digest)
            if len(self._entries) > REMEMBERED_AT_MOST:
                self._entries.popitem(last=False)


def what(position: int, depth: int) -> str:
    """The certificate at that place of the chain, in words; `depth` is the end entity's place."""
    if position < depth:
        return "the proxy" if position == 0 else f"the proxy {position} above yours"
    return "your certificate" if position == depth else "the certificate of your authority"


def check_kinds(chain: Sequence[x509.Certificate]) -> int:
    """Proxies first, each with all rights, then the end entity. Answers the end entity's place."""
    depth = next((place for place, certificate in enumerate(chain) if not is_proxy(certificate)), len(chain))
    if depth < len(chain) and is_legacy_proxy(chain[depth]):
        raise Unauthenticated(f"this is a legacy Globus proxy: {MAKE_ONE}", code="proxy_legacy")
    if depth == 0:
        raise Unauthenticated(
            f"this is a certificate and not a proxy, its key should never leave your machine: {MAKE_ONE}",
            code="proxy_not_a_proxy",
        )
    for proxy in chain[:depth]:
        check_policy(proxy)
        check_extensions(proxy)
    if depth == len(chain):
        raise Unauthenticated(
            f"your own certificate is missing behind the proxy: send the whole proxy file, or {MAKE_ONE}",
            code="proxy_incomplete",
        )
    return depth


def check_links(chain: Sequence[x509.Certificate]) -> None:
    if any(lower.issuer != upper.subject for lower, upper in itertools.pairwise(chain)):
        raise unrelated()


def unrelated() -> Unauthenticated:
    return Unauthenticated(
        "the certificates in the proxy file do not follow one another, each signed by the next: "
        f"leave out what does not belong there, or {MAKE_ONE}",
        code="proxy_unrelated",
    )


def check_names(certificates: Sequence[x509.Certificate]) -> None:
    for certificate in certificates:
        if not unambiguous(certificate.subject):
            raise Unauthenticated(
                f"the name {slash_form(certificate.subject)} cannot be told from another one in slash form (a slash, a "
                "backslash or a control character in it, or two values in one part): ask for a certificate "
                "with a plain name",
                code="proxy_subject",
            )


def check_possession(key: bytes, leaf: x509.Certificate) -> None:
    """The sender has the leaf's private key: what it signs now verifies under the leaf's public key."""
    private = load_key(key)
    if private is None:
        raise Unauthenticated(f"the key of the proxy cannot be read: {MAKE_ONE}", code="proxy_key")
    if not signs_for(private, leaf.public_key()):
        raise Unauthenticated(
            f"the private key is not the one of the proxy certificate: send them as they were made, or {MAKE_ONE}",
            code="proxy_possession",
        )


def load_key(key: bytes) -> object:
    """Without OpenSSL's validation, which takes 30 ms for 2048 bits; `consistent` does what is needed of it."""
    try:
        return load_der_private_key(key, None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None


def signs_for(private: object, public: object) -> bool:
    nonce = os.urandom(32)
    try:
        match private, public:
            case rsa.RSAPrivateKey(), rsa.RSAPublicKey() if consistent(private, public):
                scheme = padding.PKCS1v15()
                public.verify(private.sign(nonce, scheme, hashes.SHA256()), nonce, scheme, hashes.SHA256())
            case ec.EllipticCurvePrivateKey(), ec.EllipticCurvePublicKey() if private.curve.name == public.curve.name:
                algorithm = ec.ECDSA(hashes.SHA256())
                public.verify(private.sign(nonce, algorithm), nonce, algorithm)
            case _:
                return False
    except (InvalidSignature, ValueError):
        return False
    return True


def consistent(private: rsa.RSAPrivateKey, public: rsa.RSAPublicKey) -> bool:
    """RFC 8017 section 3.2 but for primality. OpenSSL computes with these numbers, so none may be of any other size."""
    numbers = private.private_numbers()
    p, q, n, e = numbers.p, numbers.q, public.public_numbers().n, public.public_numbers().e
    return (
        numbers.public_numbers == public.public_numbers()
        and 1 < p < n
        and p * q == n
        and 0 < numbers.d < n
        and numbers.dmp1 == numbers.d % (p - 1)
        and numbers.dmq1 == numbers.d % (q - 1)
        and e * numbers.dmp1 % (p - 1) == 1
        and e * numbers.dmq1 % (q - 1) == 1
        and 0 < numbers.iqmp < p
        and numbers.iqmp * q % p == 1
    )
