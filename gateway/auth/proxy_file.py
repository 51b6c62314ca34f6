"""The PROXY header taken apart: base64, PEM blocks, certificates, key. Nothing here is trusted yet."""

import base64
import binascii
import re
from dataclasses import dataclass, field

from cryptography import x509

from gateway.errors import Unauthenticated

MAX_HEADER = 40 * 1024
MAX_CERTIFICATES = 10
MAX_KEY = 6 * 1024  # bytes of DER; PKCS#8 with 8192 bits of RSA has 4.7 KiB

MAKE_ONE = "make one with `grid-proxy-init -rfc`"
SEND_IT = "send the output of `base64 -w0` of the proxy file"

BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
KEY_LABELS = ("RSA PRIVATE KEY", "PRIVATE KEY", "EC PRIVATE KEY")
# The only labels that are repeated in a message: any other may be part of a key, behind a dash that got lost.
LABELS = ("CERTIFICATE", "ENCRYPTED PRIVATE KEY", "X509 CRL", "EC PARAMETERS", "PUBLIC KEY", *KEY_LABELS)
UNKNOWN_LABEL = "something unknown"


@dataclass(frozen=True, slots=True)
class ProxyFile:
    """A proxy file as it was sent: certificates, the leaf first, and the DER of the one key."""

    certificates: tuple[x509.Certificate, ...]
    key: bytes = field(repr=False)


def read_proxy(header: str) -> ProxyFile:
    """Certificates and key out of the header, or `Unauthenticated` with the word for what is wrong with it."""
    blocks = pem_blocks(decode(header))
    check_order([label for label, _ in blocks])
    key = der(blocks[1][1])
    if key is None:
        raise Unauthenticated(f"the key of the proxy cannot be read: {MAKE_ONE}", code="proxy_key")
    if len(key) > MAX_KEY:
        raise Unauthenticated("the key of the proxy is longer than 8192 bits of RSA", code="proxy_weak_key")
    return ProxyFile(tuple(certificate(body) for label, body in blocks if label == "CERTIFICATE"), key)


def decode(header: str) -> bytes:
    """RFC 4648 section 4, in one line and with its padding."""
    if len(header) > MAX_HEADER:
        raise Unauthenticated(
            f"the PROXY header has {len(header)} bytes, more than {MAX_HEADER}: {MAKE_ONE}",
            code="proxy_too_large",
        )
    if not BASE64.fullmatch(header):
        raise Unauthenticated(f"{what_is_no_base64(header)}: {SEND_IT}", code="proxy_encoding")
    try:
        return base64.b64decode(header, validate=True)
    except binascii.Error:
        pass
    raise Unauthenticated(f"the base64 of the PROXY header is cut or padded wrongly: {SEND_IT}", code="proxy_encoding")


def what_is_no_base64(header: str) -> str:
    if not header:
        return "the PROXY header is empty"
    if "BEGIN" in header:
        return "the PROXY header holds the proxy file as it is, not in base64"
    if "," in header:
        return "the PROXY header was sent twice"
    if re.search(r"\s", header):
        return "the base64 of the PROXY header has blanks or line breaks in it"
    if re.fullmatch(r"[\w=-]+", header, re.ASCII):
        return "the PROXY header is in the url-safe alphabet (- and _), not in standard base64"
    return "the PROXY header is not base64"


def pem_blocks(text: bytes) -> list[tuple[str, bytes]]:
    """Label and body of every block. Text around the blocks is ignored, as RFC 7468 section 2 allows."""
    before, *parts = text.split(b"-----BEGIN ")
    if not parts:
        raise Unauthenticated(f"the PROXY header holds no PEM: {SEND_IT}", code="proxy_pem")
    if len(parts) > MAX_CERTIFICATES + 1:
        raise Unauthenticated(
            f"the proxy file has more than {MAX_CERTIFICATES} certificates: delegate less deeply",
            code="proxy_chain_too_long",
        )
    blocks = []
    for part in parts:
        label, _, rest = part.partition(b"-----")
        body, end, after = rest.partition(b"-----END " + label + b"-----")
        if not end or b"-----END " in before + after:
            raise Unauthenticated(f"the PEM of the proxy file is cut short: {SEND_IT}", code="proxy_pem")
        blocks.append((next((known for known in LABELS if known.encode() == label), UNKNOWN_LABEL), body))
    return blocks


def check_order(labels: list[str]) -> None:
    keys = [label for label in labels if "PRIVATE KEY" in label]
    if "ENCRYPTED PRIVATE KEY" in keys:
        raise encrypted_key()
    if not keys:
        raise Unauthenticated(
            f"there is no private key in what was sent: send the whole proxy file, or {MAKE_ONE}",
            code="proxy_no_key",
        )
    if len(keys) > 1:
        raise Unauthenticated(f"the proxy file has {len(keys)} private keys: send one proxy", code="proxy_two_keys")
    leaf, key, *chain = [*labels, "", ""][: max(len(labels), 2)]
    if leaf != "CERTIFICATE" or key not in KEY_LABELS or set(chain) - {"CERTIFICATE"}:
        raise Unauthenticated(
            "a proxy file is the proxy certificate, its key, then the chain, and nothing else; "
            f"this one has {', '.join(labels)}: {MAKE_ONE}",
            code="proxy_order",
        )


def encrypted_key() -> Unauthenticated:
    return Unauthenticated(
        f"the key is encrypted, so this is no proxy file but a certificate with its key: {MAKE_ONE}",
        code="proxy_key_encrypted",
    )


def der(body: bytes) -> bytes | None:
    """What a PEM block encodes; None where it encodes nothing."""
    if b"Proc-Type" in body:
        raise encrypted_key()
    try:
        return base64.b64decode(b"".join(body.split()), validate=True) or None
    except binascii.Error:
        return None


def certificate(body: bytes) -> x509.Certificate:
    encoded = der(body)
    parsed = None if encoded is None else parse(encoded)
    if parsed is None:
        raise unreadable_certificate()
    return parsed


def unreadable_certificate() -> Unauthenticated:
    return Unauthenticated(f"a certificate in the proxy file cannot be read: {MAKE_ONE}", code="proxy_certificate")


def parse(encoded: bytes) -> x509.Certificate | None:
    """A certificate, with everything tried that cryptography parses only when asked; None where any of it fails.

    It fails with more kinds of exceptions than are documented (cryptography 50).
    """
    try:
        parsed = x509.load_der_x509_certificate(encoded)
        for part in ("subject", "issuer", "serial_number", "extensions", "not_valid_before_utc", "not_valid_after_utc"):
            getattr(parsed, part)
    except Exception:
        return None
    return parsed
