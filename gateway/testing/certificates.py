"""Certificate authorities, certificates and proxies of every kind, good and bad, for tests and for the demo.

authority = Authority.create("/C=PL/O=Test/CN=CA")
authority.install(directory)
ann = authority.issue("/C=PL/O=Test/CN=Ann")
client.get("/api/jobs", headers={"PROXY": ann.proxy().header()})
"""

import base64
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from OpenSSL import crypto

PROXY_CERT_INFO = "1.3.6.1.5.5.7.1.14"
DRAFT_PROXY_CERT_INFO = "1.3.6.1.4.1.3536.1.222"
INHERIT_ALL = "1.3.6.1.5.5.7.21.1"
INDEPENDENT = "1.3.6.1.5.5.7.21.2"
LIMITED = "1.3.6.1.4.1.3536.1.1.1.9"

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
Extension = tuple[x509.ExtensionType, bool]

# The digest in the OID 1.2.840.113549.1.1.x of a signature algorithm.
RSA_WITH: dict[type, bytes] = {
    hashes.MD5: bytes.fromhex("2a864886f70d010104"),
    hashes.SHA1: bytes.fromhex("2a864886f70d010105"),
    hashes.SHA256: bytes.fromhex("2a864886f70d01010b"),
}
DAY = timedelta(days=1)
KEY_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)
ATTRIBUTES = {
    "C": NameOID.COUNTRY_NAME,
    "ST": NameOID.STATE_OR_PROVINCE_NAME,
    "L": NameOID.LOCALITY_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "CN": NameOID.COMMON_NAME,
    "DC": NameOID.DOMAIN_COMPONENT,
    "UID": NameOID.USER_ID,
    "emailAddress": NameOID.EMAIL_ADDRESS,
}


def rsa_key(bits: int = 2048, exponent: int = 65537) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(exponent, bits)


def ec_key(curve: ec.EllipticCurve | None = None) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(curve or ec.SECP256R1())


def name(slash_form: str) -> x509.Name:
    """`/C=PL/O=X/CN=Ann` as a name; an attribute may be written as an OID in digits."""
    pairs = (part.split("=", 1) for part in slash_form[1:].split("/"))
    return x509.Name(
        x509.NameAttribute(ATTRIBUTES.get(key) or x509.ObjectIdentifier(key), value) for key, value in pairs
    )


@dataclass(frozen=True)
class Credential:
    """A certificate with its key, and the certificates above it, nearest first, without the root."""

    certificate: x509.Certificate
    key: Key = field(repr=False)
    chain: tuple[x509.Certificate, ...] = ()

    def proxy(
        self,
        *,
        policy: str | None = INHERIT_ALL,
        policy_text: bytes | None = None,
        path_length: int | None = None,
        critical: bool = True,
        key: Key | None = None,
        common_name: str | None = None,
        subject: x509.Name | None = None,
        extensions: Sequence[Extension] = (),
        info: bytes | None = None,
        info_oid: str = PROXY_CERT_INFO,
        **more: object,
    ) -> "Credential":
        """A proxy (RFC 3820) signed with this key. `info` replaces the DER of the whole ProxyCertInfo.

        `more` goes to `sign`: serial, not_before, not_after, digest, key_usage.
        """
        serial = str(int.from_bytes(os.urandom(4)))
        above = self.certificate.subject
        value = proxy_cert_info(policy or INHERIT_ALL, path_length, policy_text) if info is None else info
        about = (x509.UnrecognizedExtension(x509.ObjectIdentifier(info_oid), value), critical)
        return self._below(
            subject or extended(above, common_name or serial), key or rsa_key(), (about, *extensions), **more
        )

    def legacy_proxy(self, *, limited: bool = False, key: Key | None = None, **more: object) -> "Credential":
        """A Globus GT2 proxy: nothing but a name that ends in CN=proxy."""
        subject = extended(self.certificate.subject, "limited proxy" if limited else "proxy")
        return self._below(subject, key or rsa_key(), (), **more)

    def _below(self, subject: x509.Name, key: Key, extensions: Sequence[Extension], **more: object) -> "Credential":
        more.setdefault("not_after", datetime.now(UTC) + timedelta(hours=12))
        usage = (key_usage("digital_signature", "key_encipherment"), True)
        certificate = sign(subject, key, self.certificate.subject, self.key, (usage, *extensions), **more)  # type: ignore[arg-type]
        return Credential(certificate, key, (self.certificate, *self.chain))

    def with_key(self, key: Key) -> "Credential":
        return replace(self, key=key)

    def pem(self) -> bytes:
        """The proxy file: certificate, key, chain."""
        above = b"".join(map(certificate_pem, self.chain))
        return certificate_pem(self.certificate) + key_pem(self.key) + above

    def header(self) -> str:
        return header(self.pem())


@dataclass(frozen=True)
class Authority(Credential):
    """A certificate authority. `chain` is empty for a root."""

    @classmethod
    def create(cls, subject: str, *, key: Key | None = None, **more: object) -> "Authority":
        """A self-signed root."""
        key, own = key or rsa_key(), name(subject)
        return cls(sign(own, key, own, key, authority_extensions(key), **more), key)  # type: ignore[arg-type]

    def intermediate(
        self, subject: str, *, key: Key | None = None, path_length: int | None = None, **more: object
    ) -> "Authority":
        key = key or rsa_key()
        extensions = authority_extensions(key, path_length)
        certificate = sign(name(subject), key, self.certificate.subject, self.key, extensions, **more)  # type: ignore[arg-type]
        return Authority(certificate, key, self._for_chain())

    def issue(
        self,
        subject: str | x509.Name,
        *,
        key: Key | None = None,
        extensions: Sequence[Extension] | None = None,
        **more: object,
    ) -> Credential:
        """An end-entity certificate."""
        key = key or rsa_key()
        if extensions is None:
            usage = key_usage("digital_signature", "key_encipherment")
            extensions = ((x509.BasicConstraints(ca=False, path_length=None), True), (usage, True))
        own = name(subject) if isinstance(subject, str) else subject
        certificate = sign(own, key, self.certificate.subject, self.key, extensions, **more)  # type: ignore[arg-type]
        return Credential(certificate, key, self._for_chain())

    def crl(
        self,
        *revoked: Credential,
        last_update: datetime | None = None,
        next_update: datetime | None = None,
        key: Key | None = None,
    ) -> bytes:
        """A PEM revocation list with these certificates on it."""
        now = datetime.now(UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(last_update or now - timedelta(minutes=1))
            .next_update(next_update or now + 30 * DAY)
        )
        for each in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(each.certificate.serial_number)
            builder = builder.add_revoked_certificate(entry.revocation_date(now - timedelta(minutes=1)).build())
        return builder.sign(key or self.key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def install(
        self,
        directory: Path,
        *,
        crl: bytes | None = None,
        signing_policy: str | None = "/*",
        old_hash: bool = True,
    ) -> None:
        """Into a hashed trust directory. `signing_policy` is the subject pattern, None for no such file."""
        directory.mkdir(parents=True, exist_ok=True)
        for prefix in self.hashes()[: 2 if old_hash else 1]:
            put(directory / f"{prefix}.0", certificate_pem(self.certificate))
            if crl is not None:
                put(directory / f"{prefix}.r0", crl)
            if signing_policy is not None:
                text = policy_file(slash(self.certificate.subject), signing_policy)
                put(directory / f"{prefix}.signing_policy", text.encode())

    def hashes(self) -> tuple[str, str]:
        """The authority's file name in a trust directory, as OpenSSL since 1.0 and as before makes it."""
        der = self.certificate.subject.public_bytes()
        old = int.from_bytes(hashlib.md5(der, usedforsecurity=False).digest()[:4], "little")
        return f"{crypto.X509.from_cryptography(self.certificate).subject_name_hash():08x}", f"{old:08x}"

    def _for_chain(self) -> tuple[x509.Certificate, ...]:
        root = self.certificate.subject == self.certificate.issuer
        return () if root else (self.certificate, *self.chain)


def sign(
    subject: x509.Name,
    key: Key,
    issuer: x509.Name,
    issuer_key: CertificateIssuerPrivateKeyTypes,
    extensions: Sequence[Extension],
    *,
    serial: int | None = None,
    not_before: datetime | None = None,
    not_after: datetime | None = None,
    digest: hashes.HashAlgorithm | None = None,
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number() if serial is None else serial)
        .not_valid_before(not_before or now - timedelta(minutes=5))
        .not_valid_after(not_after or now + 365 * DAY)
    )
    for value, critical in extensions:
        builder = builder.add_extension(value, critical)
    certificate = builder.sign(issuer_key, hashes.SHA256())
    return certificate if digest is None else resigned(certificate, issuer_key, digest)  # type: ignore[arg-type]


def resigned(
    certificate: x509.Certificate,
    issuer_key: rsa.RSAPrivateKey,
    digest: hashes.HashAlgorithm,
    *altered: tuple[bytes, bytes],
) -> x509.Certificate:
    """The certificate with bytes altered and signed again, for what cryptography will not make (50 refuses SHA-1)."""
    content, encoded = certificate.tbs_certificate_bytes, certificate.public_bytes(Encoding.DER)
    head, tail = encoded[: encoded.index(content)], encoded[encoded.index(content) + len(content) :]
    for old, new in ((RSA_WITH[hashes.SHA256], RSA_WITH[type(digest)]), *altered):
        if len(old) != len(new) or old not in content:
            raise ValueError("only bytes that are there can be altered, and by as many")
        content, tail = content.replace(old, new), tail.replace(old, new)
    signature = issuer_key.sign(content, padding.PKCS1v15(), digest)
    return x509.load_der_x509_certificate(head + content + tail[: -len(signature)] + signature)


def extended(above: x509.Name, common_name: str) -> x509.Name:
    return x509.Name([*above.rdns, *name(f"/CN={common_name}").rdns])


def key_usage(*usages: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{usage: usage in usages for usage in KEY_USAGES})


def authority_extensions(key: Key, path_length: int | None = None) -> tuple[Extension, ...]:
    return (
        (x509.BasicConstraints(ca=True, path_length=path_length), True),
        (key_usage("key_cert_sign", "crl_sign"), True),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
    )


def proxy_cert_info(policy: str, path_length: int | None = None, policy_text: bytes | None = None) -> bytes:
    """RFC 3820 section 3.8 in DER."""
    text = b"" if policy_text is None else tlv(0x04, policy_text)
    length = b"" if path_length is None else tlv(0x02, path_length.to_bytes(path_length.bit_length() // 8 + 1))
    return tlv(0x30, length + tlv(0x30, oid(policy) + text))


def oid(dotted: str) -> bytes:
    first, second, *rest = map(int, dotted.split("."))
    content = bytearray()
    for number in (first * 40 + second, *rest):
        groups = [number & 0x7F]
        while number := number >> 7:
            groups.append(number & 0x7F | 0x80)
        content += bytes(reversed(groups))
    return tlv(0x06, bytes(content))


def tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    octets = size.to_bytes((size.bit_length() + 7) // 8)
    length = bytes([size]) if size < 0x80 else bytes([0x80 | len(octets)]) + octets
    return bytes([tag]) + length + content


def certificate_pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def key_pem(key: Key, *, pkcs8: bool = False) -> bytes:
    """PKCS#1 (or RFC 5915 for elliptic curves), as grid-proxy-init writes it, or PKCS#8."""
    form = PrivateFormat.PKCS8 if pkcs8 else PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(Encoding.PEM, form, NoEncryption())


def header(pem: bytes) -> str:
    """The value of PROXY for a proxy file."""
    return base64.b64encode(pem).decode()


def slash(subject: x509.Name) -> str:
    names = {value: key for key, value in ATTRIBUTES.items()}
    return "".join(f"/{names.get(part.oid, part.oid.dotted_string)}={part.value!s}" for part in subject)


def policy_file(authority: str, pattern: str) -> str:
    return (
        f"access_id_CA   X509    '{authority}'\n"
        "pos_rights     globus  CA:sign\n"
        f"cond_subjects  globus  '\"{pattern}\"'\n"
    )


def put(path: Path, content: bytes, mode: int = 0o644) -> None:
    """A file that is there whole or not at all, and readable by nobody else from the first moment."""
    fresh = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
    fresh.replace(path)


DEMO_ORGANISATION = "/C=PL/O=Jobgate Demo"
DEMO_VALIDITY = 7 * DAY
DEMO_RENEWED = 1 * DAY  # before the end


def make_demo(directory: Path, user: str) -> None:
    """A newcomer's credentials: `certificates/`, `grid-mapfile`, `proxy.pem` for the user, `proxy-bob.pem` for Bob.

    Proxies are valid for a week, and so is everything above them: the keys of the authority and of the certificates
    are never written. As long as both proxies have a day left and belong to the authority in `certificates/`, nothing
    is touched; else all of it is made anew. Lines that somebody added to the grid-mapfile stay.
    """
    files = {user: directory / "proxy.pem"} | ({"bob": directory / "proxy-bob.pem"} if user != "bob" else {})
    if not all(still_good(path, demo_subject(account), directory) for account, path in files.items()):
        end = datetime.now(UTC) + DEMO_VALIDITY
        authority = Authority.create(f"{DEMO_ORGANISATION}/CN=Jobgate Demo CA", not_after=end)
        authority.install(directory / "certificates", signing_policy=f"{DEMO_ORGANISATION}/*")
        for account, path in files.items():
            holder = authority.issue(demo_subject(account), not_after=end)
            put(path, holder.proxy(not_after=end).pem(), 0o600)
    map_accounts(directory / "grid-mapfile", list(files))


def demo_subject(account: str) -> str:
    return f"{DEMO_ORGANISATION}/CN={account.capitalize()}"


def still_good(path: Path, subject: str, directory: Path) -> bool:
    try:
        proxy, holder, *_ = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError):
        return False
    return (
        proxy.not_valid_after_utc - datetime.now(UTC) > DEMO_RENEWED
        and slash(holder.subject) == subject
        and any(signed_by(holder, file) for file in (directory / "certificates").glob("*.0"))
    )


def signed_by(holder: x509.Certificate, file: Path) -> bool:
    try:
        holder.verify_directly_issued_by(x509.load_pem_x509_certificate(file.read_bytes()))
    except Exception:  # any file may lie in that folder
        return False
    return True


def map_accounts(path: Path, accounts: Sequence[str]) -> None:
    text = path.read_text() if path.exists() else ""
    wanted = [f'"{demo_subject(account)}"' for account in accounts]
    missing = [
        f"{subject} {account}\n" for subject, account in zip(wanted, accounts, strict=True) if subject not in text
    ]
    if missing:
        put(path, ((text if text.endswith("\n") or not text else f"{text}\n") + "".join(missing)).encode())
