"""What one certificate says: its name in slash form, its proxy policy, how strong it is."""

import re
from collections.abc import Iterator
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtensionOID, NameOID

from gateway.auth.proxy_file import MAKE_ONE
from gateway.errors import Unauthenticated

PROXY_CERT_INFO = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.14")
DRAFT_PROXY_CERT_INFO = x509.ObjectIdentifier("1.3.6.1.4.1.3536.1.222")

ALTERNATIVE_NAMES = {ExtensionOID.SUBJECT_ALTERNATIVE_NAME, ExtensionOID.ISSUER_ALTERNATIVE_NAME}

# Policy languages as DER contents of their OIDs.
INHERIT_ALL = bytes.fromhex("2b06010505071501")  # 1.3.6.1.5.5.7.21.1
INDEPENDENT = bytes.fromhex("2b06010505071502")  # 1.3.6.1.5.5.7.21.2
LIMITED = bytes.fromhex("2b060104019b5001010109")  # 1.3.6.1.4.1.3536.1.1.1.9

# OpenSSL's short names, as X509_NAME_oneline writes them. An OID without one is written in digits.
SHORT_NAMES = {
    "2.5.4.3": "CN",
    "2.5.4.4": "SN",
    "2.5.4.5": "serialNumber",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "street",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "2.5.4.12": "title",
    "2.5.4.13": "description",
    "2.5.4.15": "businessCategory",
    "2.5.4.16": "postalAddress",
    "2.5.4.17": "postalCode",
    "2.5.4.18": "postOfficeBox",
    "2.5.4.20": "telephoneNumber",
    "2.5.4.41": "name",
    "2.5.4.42": "GN",
    "2.5.4.43": "initials",
    "2.5.4.44": "generationQualifier",
    "2.5.4.46": "dnQualifier",
    "2.5.4.65": "pseudonym",
    "2.5.4.72": "role",
    "2.5.4.97": "organizationIdentifier",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.3": "mail",
    "0.9.2342.19200300.100.1.25": "DC",
    "1.2.840.113549.1.9.1": "emailAddress",
    "1.2.840.113549.1.9.2": "unstructuredName",
    "1.2.840.113549.1.9.8": "unstructuredAddress",
    "1.3.6.1.4.1.311.60.2.1.1": "jurisdictionL",
    "1.3.6.1.4.1.311.60.2.1.2": "jurisdictionST",
    "1.3.6.1.4.1.311.60.2.1.3": "jurisdictionC",
}
# A backslash too: behind it the escapes of `escaped` would mean two things.
AMBIGUOUS = re.compile(r"[/\\\x00-\x1f\x7f]")

SMALLEST_RSA = 2048
SMALLEST_WEAK_RSA = 1024
LARGEST_RSA = 8192
SMALLEST_EC = 256


def slash_form(name: x509.Name) -> str:
    """`/C=PL/O=X/CN=Ann`, as OpenSSL and Globus write it, whatever it holds."""
    return "".join(
        f"/{SHORT_NAMES.get(part.oid.dotted_string, part.oid.dotted_string)}={escaped(text_of(part))}" for part in name
    )


def unambiguous(name: x509.Name) -> bool:
    """True where no other name has the same slash form."""
    return all(len(rdn) == 1 for rdn in name.rdns) and not any(
        isinstance(part.value, bytes) or AMBIGUOUS.search(part.value) for part in name
    )


def text_of(part: x509.NameAttribute[str | bytes]) -> bytes:
    return part.value if isinstance(part.value, bytes) else part.value.encode("utf-8", "surrogateescape")


def escaped(value: bytes) -> str:
    """Bytes outside printable ASCII as `\\xC3`, upper case, as X509_NAME_oneline does."""
    return "".join(chr(byte) if 0x20 <= byte <= 0x7E else f"\\x{byte:02X}" for byte in value)


def is_proxy(certificate: x509.Certificate) -> bool:
    return extension(certificate, PROXY_CERT_INFO) is not None


def is_legacy_proxy(certificate: x509.Certificate) -> bool:
    """A Globus proxy from before RFC 3820: GT2 (told by its name alone) or GT3 (the draft's extension)."""
    if extension(certificate, DRAFT_PROXY_CERT_INFO) is not None:
        return True
    rdns = certificate.subject.rdns
    names = [part.value for part in rdns[-1] if part.oid == NameOID.COMMON_NAME] if rdns else []
    return names in (["proxy"], ["limited proxy"]) and rdns[:-1] == certificate.issuer.rdns


def extension(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> x509.Extension[x509.ExtensionType] | None:
    return next((each for each in certificate.extensions if each.oid == oid), None)


def check_policy(certificate: x509.Certificate) -> None:
    """RFC 3820 section 3.8: the extension is critical, and the language must be inherit-all, which has all rights."""
    info = extension(certificate, PROXY_CERT_INFO)
    if info is None or not isinstance(info.value, x509.UnrecognizedExtension):
        raise Unauthenticated(f"the proxy policy cannot be read: {MAKE_ONE}", code="proxy_policy")
    if not info.critical:
        raise Unauthenticated(
            f"the proxyCertInfo of this proxy is not critical, as RFC 3820 demands: {MAKE_ONE}",
            code="proxy_not_critical",
        )
    language, more = policy_language(info.value.value)
    if language == LIMITED:
        raise Unauthenticated(f"a limited proxy may not start jobs: {MAKE_ONE}, without -limited", code="proxy_limited")
    if language == INDEPENDENT:
        raise Unauthenticated(
            f"an independent proxy carries none of your rights: {MAKE_ONE}, without -independent",
            code="proxy_independent",
        )
    if language != INHERIT_ALL or more:
        raise Unauthenticated(
            f"this proxy has a policy of its own, only full (inherit-all) proxies are accepted: {MAKE_ONE}",
            code="proxy_policy",
        )


def check_extensions(certificate: x509.Certificate) -> None:
    """RFC 3820 sections 3.7 and 3.9. OpenSSL refuses these too (4.0: "unable to get issuer"), but not in such words."""
    names = {each.oid for each in certificate.extensions} & ALTERNATIVE_NAMES
    constraints = extension(certificate, ExtensionOID.BASIC_CONSTRAINTS)
    if names or (constraints and isinstance(constraints.value, x509.BasicConstraints) and constraints.value.ca):
        raise Unauthenticated(
            f"a proxy must be neither an authority nor have alternative names: {MAKE_ONE}", code="proxy_extension"
        )


def policy_language(info: bytes) -> tuple[bytes, bool]:
    """The policy language of a ProxyCertInfo, and whether anything stands behind it.

    ProxyCertInfo ::= SEQUENCE { pathLength INTEGER OPTIONAL, SEQUENCE { language OID, policy OCTET STRING OPTIONAL } }
    """
    parts = list(elements(info))
    fields = list(elements(parts[0][1])) if [tag for tag, _ in parts] == [0x30] else []
    if [tag for tag, _ in fields] in ([0x30], [0x02, 0x30]):
        policy = list(elements(fields[-1][1]))
        if policy and policy[0][0] == 0x06:
            return policy[0][1], len(policy) > 1
    return b"", True


def elements(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each DER element in a row; tag -1 where it cannot be read."""
    while der:
        length, start = der[1] if len(der) > 1 else 0x80, 2
        if length > 0x80:
            start += length & 0x7F
            length = int.from_bytes(der[2:start])
        if length == 0x80 or len(der) < start + length:
            yield -1, b""
            return
        yield der[0], der[start : start + length]
        der = der[start + length :]


def check_validity(certificate: x509.Certificate, what: str, now: datetime) -> None:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now > end:
        raise Unauthenticated(f"{what} expired at {utc(end)}: {renew(certificate)}", code="proxy_expired")
    if now < start:
        raise Unauthenticated(
            f"{what} is valid from {utc(start)} on, and it is {utc(now)} here: "
            "check the clock of the machine that made it, or wait",
            code="proxy_not_yet_valid",
        )


def renew(certificate: x509.Certificate) -> str:
    if is_proxy(certificate):
        return "make a new one with `grid-proxy-init -rfc -bits 2048`"
    return "ask your certificate authority for a new certificate"


def utc(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def check_strength(certificate: x509.Certificate, what: str, *, allow_weak: bool = False, anchor: bool = False) -> None:
    """Key, digest and serial number. Nobody relies on the signature of a trust `anchor` under itself."""
    check_key(certificate, what, allow_weak=allow_weak)
    if not (allow_weak or anchor) and digest_is_weak(certificate):
        raise Unauthenticated(
            f"{what} is signed with a weak digest (SHA-1 or older): {renew(certificate)}, signed with SHA-256",
            code="proxy_weak_digest",
        )
    serial = certificate.serial_number
    if serial < 0 or serial.bit_length() > 160:
        raise Unauthenticated(
            f"the serial number of {what} is negative or longer than 20 bytes (RFC 5280): {renew(certificate)}",
            code="proxy_serial",
        )


def digest_is_weak(certificate: x509.Certificate) -> bool:
    try:
        return isinstance(certificate.signature_hash_algorithm, hashes.MD5 | hashes.SHA1 | None)
    except UnsupportedAlgorithm:
        return True


def check_key(certificate: x509.Certificate, what: str, *, allow_weak: bool = False) -> None:
    """Also what keeps OpenSSL from computing with numbers of a stranger's choice."""
    key, smallest = public_key(certificate), SMALLEST_WEAK_RSA if allow_weak else SMALLEST_RSA
    if isinstance(key, rsa.RSAPublicKey):
        exponent = key.public_numbers().e
        if not (smallest <= key.key_size <= LARGEST_RSA and 3 <= exponent < 2**64 and exponent % 2):
            raise Unauthenticated(
                f"the key of {what} has {key.key_size} bits, RSA keys need {smallest} to {LARGEST_RSA} bits "
                f"and a small odd exponent: {renew(certificate)}",
                code="proxy_weak_key",
            )
    elif isinstance(key, ec.EllipticCurvePublicKey):
        if key.key_size < SMALLEST_EC:
            raise Unauthenticated(
                f"the key of {what} is on the curve {key.curve.name}, take P-256 or larger: {renew(certificate)}",
                code="proxy_weak_key",
            )
    else:
        raise Unauthenticated(
            f"the key of {what} is neither RSA nor on a named elliptic curve: {renew(certificate)}",
            code="proxy_key_type",
        )


def public_key(certificate: x509.Certificate) -> object:
    try:
        return certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None
