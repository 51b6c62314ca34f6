"""What a gateway lets in, and what it refuses with which words: a table, and then what a table cannot say."""

import base64
import contextlib
import logging
import re
import subprocess
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.auth import proxy as proxy_module
from gateway.auth.certificates import SHORT_NAMES, slash_form
from gateway.auth.proxy import ProxyVerifier, VerifiedProxy
from gateway.auth.signing_policy import SigningPolicyError, may_sign, parse_signing_policy
from gateway.errors import Unauthenticated
from gateway.testing import certificates as make
from gateway.testing.certificates import Authority, Credential, certificate_pem, header, key_pem

from .world import ANN, ORGANISATION, World, key

CASES: list[object] = []
NOW = datetime.now(UTC).replace(microsecond=0)
HOUR = timedelta(hours=1)


def case(verdict: str, word: str) -> Callable[[Callable[[World], str]], Callable[[World], str]]:
    """A row of the table: the function makes a header, which meets this verdict, in words with this one."""

    def add(build: Callable[[World], str]) -> Callable[[World], str]:
        CASES.append(pytest.param(build, verdict, word, id=build.__name__))
        return build

    return add


# Good proxies. The word is the subject.


@case("good", ANN)
def as_grid_proxy_init_makes_it(world: World) -> str:
    return world.proxy().header()


@case("good", ANN)
def elliptic_curve_proxy(world: World) -> str:
    return world.proxy(key=key("ec")).header()


@case("good", ANN)
def elliptic_curves_all_the_way(world: World) -> str:
    authority = Authority.create(f"{ORGANISATION}/CN=EC", key=make.ec_key(ec.SECP384R1()))
    authority.install(world.directory)
    return authority.issue(ANN, key=key("ec ann")).proxy(key=key("ec")).header()


@case("good", ANN)
def key_in_pkcs8(world: World) -> str:
    return header(parts(world.proxy(), pkcs8=True))


@case("good", ANN)
def elliptic_curve_key_in_pkcs8(world: World) -> str:
    return header(parts(world.proxy(key=key("ec")), pkcs8=True))


@case("good", ANN)
def larger_key(world: World) -> str:
    return world.proxy(key=key("larger", 3072)).header()


@case("good", ANN)
def exponent_three(world: World) -> str:
    return world.proxy(key=make.rsa_key(2048, 3)).header()


@case("good", ANN)
def windows_line_ends(world: World) -> str:
    return header(world.proxy().pem().replace(b"\n", b"\r\n"))


@case("good", ANN)
def text_between_the_blocks(world: World) -> str:
    return header(
        b"Bag Attributes\n\n" + world.proxy().pem().replace(b"-----\n-----", b"-----\n\nsubject=/CN=X\n-----")
    )


@case("good", ANN)
def delegated_three_times(world: World) -> str:
    return world.proxy_of(world.proxy_of(world.proxy(key=key("ann")), key=key("other"))).header()


@case("good", ANN)
def path_length_kept(world: World) -> str:
    return world.proxy_of(world.proxy(path_length=1, key=key("other")), path_length=0).header()


@case("good", f"{ORGANISATION}/CN=Sub")
def intermediate_authority_sent(world: World) -> str:
    return world.proxy_of(below_intermediate(world)).header()


@case("good", f"{ORGANISATION}/CN=Sub")
def intermediate_authority_known(world: World) -> str:
    holder = below_intermediate(world, known=True)
    return header(parts(world.proxy_of(holder), chain=[holder.certificate]))


@case("good", ANN)
def root_sent_along(world: World) -> str:
    return header(world.proxy().pem() + certificate_pem(world.authority.certificate))


@case("good", ANN)
def with_a_current_crl(world: World) -> str:
    world.authority.install(world.directory, crl=world.authority.crl())
    world.options["require_crl"] = True
    return world.proxy().header()


@case("good", f"{ORGANISATION}/CN=Sub")
def only_the_intermediate_has_a_crl(world: World) -> str:
    return world.proxy_of(below_intermediate(world, crl=lambda authority, holder: authority.crl())).header()


@case("good", "/DC=org/DC=test/C=PL/O=Test/UID=ann/emailAddress=ann@example.org/1.2.3.4=x/CN=Ann")
def every_kind_of_attribute(world: World) -> str:
    subject = "/DC=org/DC=test/C=PL/O=Test/UID=ann/emailAddress=ann@example.org/1.2.3.4=x/CN=Ann"
    return world.proxy_of(world.issue(subject)).header()


@case("good", r"/C=PL/O=Test/CN=J\xC3\xB3zef")
def letters_beyond_ascii(world: World) -> str:
    return world.proxy_of(world.issue(f"{ORGANISATION}/CN=Józef")).header()


@case("good", ANN)
def serial_zero(world: World) -> str:
    certificate = make.sign(
        make.extended(world.ann.certificate.subject, "1"),
        key("proxy"),
        world.ann.certificate.subject,
        world.ann.key,
        [(x509.UnrecognizedExtension(x509.ObjectIdentifier(make.PROXY_CERT_INFO), FULL), True)],
        serial=1,
    )
    serial = (b"\xa0\x03\x02\x01\x02\x02\x01\x01", b"\xa0\x03\x02\x01\x02\x02\x01\x00")
    patched = make.resigned(certificate, world.ann.key, hashes.SHA256(), serial)
    return header(parts(Credential(patched, key("proxy"), (world.ann.certificate,))))


@case("good", ANN)
def weak_key_where_the_site_allows_it(world: World) -> str:
    world.options["allow_weak"] = True
    return world.proxy(key=key("weak", 1024)).header()


@case("good", ANN)
def weak_digest_where_the_site_allows_it(world: World) -> str:
    world.options["allow_weak"] = True
    return world.proxy(digest=hashes.SHA1()).header()


@case("good", ANN)
def root_signed_with_sha1(world: World) -> str:
    root = Authority.create(f"{ORGANISATION}/CN=CA", key=key("authority"), digest=hashes.SHA1())
    world.trust_again(root)
    return world.proxy().header()


@case("good", ANN)
def no_signing_policy_where_none_is_required(world: World) -> str:
    world.trust_again(signing_policy=None)
    world.options["require_signing_policy"] = False
    return world.proxy().header()


@case("good", ANN)
def only_the_new_hash(world: World) -> str:
    world.trust_again(old_hash=False)
    return world.proxy().header()


# The envelope.


@case("proxy_encoding", "empty")
def nothing(world: World) -> str:
    return ""


@case("proxy_encoding", "base64 -w0")
def pem_as_it_is(world: World) -> str:
    return world.proxy().pem().decode().replace("\n", " ")


@case("proxy_encoding", "line breaks")
def wrapped_base64(world: World) -> str:
    return base64.encodebytes(world.proxy().pem()).decode()


@case("proxy_encoding", "blanks")
def blank_at_the_end(world: World) -> str:
    return world.proxy().header() + " "


@case("proxy_encoding", "url-safe")
def url_safe_base64(world: World) -> str:
    return base64.urlsafe_b64encode(b"\xff\xff\xfe" * 8 + world.proxy().pem()).decode()


@case("proxy_encoding", "twice")
def two_headers_joined(world: World) -> str:
    return world.proxy().header() + "," + world.proxy().header()


@case("proxy_encoding", "cut")
def cut_base64(world: World) -> str:
    return world.proxy().header().rstrip("=")[: 4 * 700 - 1]


@case("proxy_encoding", "not base64")
def not_even_ascii(world: World) -> str:
    return "pröxy\x00"


@case("proxy_too_large", "40960")
def larger_than_40_kib(world: World) -> str:
    return "A" * (40 * 1024 + 4)


@case("proxy_pem", "no PEM")
def no_pem(world: World) -> str:
    return header(b"hello")


@case("proxy_pem", "cut short")
def cut_pem(world: World) -> str:
    return header(world.proxy().pem()[:-40])


@case("proxy_pem", "cut short")
def end_without_begin(world: World) -> str:
    return header(b"-----END CERTIFICATE-----\n" + world.proxy().pem())


@case("proxy_certificate", "cannot be read")
def certificate_is_junk(world: World) -> str:
    junk = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    return header(world.proxy().pem() + junk)


@case("proxy_certificate", "cannot be read")
def certificate_is_not_even_base64(world: World) -> str:
    junk = b"-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n"
    return header(world.proxy().pem() + junk)


@case("proxy_certificate", "cannot be read")
def extension_twice(world: World) -> str:
    twice = world.proxy(info_oid="1.3.6.1.5.5.7.1.15", extensions=[(info(FULL), True)])
    old, new = make.oid("1.3.6.1.5.5.7.1.15"), make.oid(make.PROXY_CERT_INFO)
    patched = make.resigned(twice.certificate, world.ann.key, hashes.SHA256(), (old, new))
    return header(parts(Credential(patched, key("proxy"), twice.chain)))


@case("proxy_order", "grid-proxy-init")
def key_first(world: World) -> str:
    proxy = world.proxy()
    return header(key_pem(proxy.key) + certificate_pem(proxy.certificate) + certificate_pem(world.ann.certificate))


@case("proxy_order", "grid-proxy-init")
def key_last(world: World) -> str:
    proxy = world.proxy()
    return header(certificate_pem(proxy.certificate) + certificate_pem(world.ann.certificate) + key_pem(proxy.key))


@case("proxy_order", "X509 CRL")
def something_else_in_it(world: World) -> str:
    return header(world.proxy().pem() + world.authority.crl())


@case("proxy_no_key", "whole proxy file")
def no_key(world: World) -> str:
    return header(certificate_pem(world.proxy().certificate) + certificate_pem(world.ann.certificate))


@case("proxy_two_keys", "2 private keys")
def two_keys(world: World) -> str:
    return header(world.proxy().pem() + key_pem(world.ann.key))


@case("proxy_key_encrypted", "encrypted")
def encrypted_pkcs8(world: World) -> str:
    return header(world.proxy().pem().replace(key_pem(key("proxy")), locked(PrivateFormat.PKCS8)))


@case("proxy_key_encrypted", "encrypted")
def encrypted_pkcs1(world: World) -> str:
    return header(world.proxy().pem().replace(key_pem(key("proxy")), locked(PrivateFormat.TraditionalOpenSSL)))


@case("proxy_key", "cannot be read")
def key_is_junk(world: World) -> str:
    return with_key(world, b"\x30\x03\x02\x01\x00")


@case("proxy_key", "cannot be read")
def key_is_empty(world: World) -> str:
    return with_key(world, b"")


@case("proxy_weak_key", "8192")
def key_is_a_sea_of_zeros(world: World) -> str:
    return with_key(world, bytes(7000))


@case("proxy_chain_too_long", "more than 10")
def eleven_certificates(world: World) -> str:
    return header(world.proxy().pem() + certificate_pem(world.authority.certificate) * 9)


# What kind of certificate it is.


@case("proxy_not_a_proxy", "certificate and not a proxy")
def end_entity_certificate(world: World) -> str:
    return world.ann.header()


@case("proxy_not_a_proxy", "certificate and not a proxy")
def authority_certificate(world: World) -> str:
    return world.authority.header()


@case("proxy_legacy", "grid-proxy-init -rfc")
def legacy_proxy(world: World) -> str:
    return world.ann.legacy_proxy(key=key("proxy")).header()


@case("proxy_legacy", "grid-proxy-init -rfc")
def legacy_limited_proxy(world: World) -> str:
    return world.ann.legacy_proxy(key=key("proxy"), limited=True).header()


@case("proxy_legacy", "grid-proxy-init -rfc")
def proxy_of_a_legacy_proxy(world: World) -> str:
    return world.proxy_of(world.ann.legacy_proxy(key=key("other"))).header()


@case("proxy_legacy", "grid-proxy-init -rfc")
def draft_proxy(world: World) -> str:
    return world.proxy(info_oid=make.DRAFT_PROXY_CERT_INFO).header()


@case("proxy_incomplete", "missing")
def end_entity_not_sent(world: World) -> str:
    return header(parts(world.proxy(), chain=[]))


@case("proxy_limited", "without -limited")
def limited_proxy(world: World) -> str:
    return world.proxy(policy=make.LIMITED).header()


@case("proxy_limited", "without -limited")
def full_proxy_of_a_limited_one(world: World) -> str:
    return world.proxy_of(world.proxy(policy=make.LIMITED, key=key("other"))).header()


@case("proxy_independent", "none of your rights")
def independent_proxy(world: World) -> str:
    return world.proxy(policy=make.INDEPENDENT).header()


@case("proxy_policy", "policy of its own")
def restricted_proxy(world: World) -> str:
    return world.proxy(policy="1.2.3.4", policy_text=b"only on Sundays").header()


@case("proxy_policy", "policy of its own")
def inherit_all_with_a_text(world: World) -> str:
    return world.proxy(policy_text=b"but").header()


@case("proxy_policy", "policy of its own")
def inherit_all_behind_another_policy(world: World) -> str:
    policy = make.tlv(0x30, make.oid(make.INHERIT_ALL))
    return world.proxy(info=make.tlv(0x30, make.tlv(0x30, make.oid("1.2.3.4")) + policy)).header()


@case("proxy_policy", "policy of its own")
def unreadable_policy(world: World) -> str:
    return world.proxy(info=b"\x30\x84\xff\xff\xff\xff").header()


@case("proxy_not_critical", "not critical")
def policy_is_not_critical(world: World) -> str:
    return world.proxy(critical=False).header()


# Time, strength, numbers.


@case("proxy_expired", f"the proxy expired at {NOW - HOUR:%Y-%m-%d %H:%M:%S} UTC")
def expired_proxy(world: World) -> str:
    return world.proxy(not_before=NOW - 2 * HOUR, not_after=NOW - HOUR).header()


@case("proxy_expired", f"your certificate expired at {NOW - HOUR:%Y-%m-%d %H:%M:%S} UTC")
def expired_end_entity(world: World) -> str:
    return world.proxy_of(world.issue(not_before=NOW - 2 * HOUR, not_after=NOW - HOUR)).header()


@case("proxy_expired", "the proxy 1 above yours expired")
def expired_in_the_middle(world: World) -> str:
    middle = world.proxy(key=key("other"), not_before=NOW - 2 * HOUR, not_after=NOW - HOUR)
    return world.proxy_of(middle).header()


@case("proxy_expired", "/C=PL/O=Test/CN=CA")
def expired_authority(world: World) -> str:
    old = Authority.create(
        f"{ORGANISATION}/CN=CA", key=key("authority"), not_before=NOW - 2 * HOUR, not_after=NOW - HOUR
    )
    world.trust_again(old)
    return world.proxy().header()


@case("proxy_not_yet_valid", "clock")
def proxy_from_tomorrow(world: World) -> str:
    return world.proxy(not_before=NOW + 24 * HOUR, not_after=NOW + 48 * HOUR).header()


@case("proxy_weak_key", "1024 bits")
def weak_proxy_key(world: World) -> str:
    return world.proxy(key=key("weak", 1024)).header()


@case("proxy_weak_key", "your certificate has 1024 bits")
def weak_end_entity_key(world: World) -> str:
    return world.proxy_of(world.issue(key=key("weak", 1024))).header()


@case("proxy_weak_key", "authority has 1024 bits")
def weak_authority_key(world: World) -> str:
    weak = Authority.create(f"{ORGANISATION}/CN=Weak", key=key("weak", 1024))
    weak.install(world.directory)
    return world.proxy_of(weak.issue(ANN, key=key("ann"))).header()


@case("proxy_weak_key", "exponent")
def enormous_exponent(world: World) -> str:
    return world.proxy(key=OnlyPublic(2**80 + 1)).with_key(key("proxy")).header()


@case("proxy_weak_key", "authority")
def enormous_exponent_of_an_authority(world: World) -> str:
    first = world.authority.intermediate(f"{ORGANISATION}/CN=First", key=OnlyPublic(2**80 + 1))
    return world.proxy_of(first.with_key(key("other")).issue(ANN, key=key("ann"))).header()


@case("proxy_weak_key", "P-256")
def small_curve(world: World) -> str:
    return world.proxy(key=make.ec_key(ec.SECP224R1())).header()


@case("proxy_key_type", "neither RSA nor")
def other_kind_of_key(world: World) -> str:
    return world.proxy(key=ed25519.Ed25519PrivateKey.generate()).with_key(key("proxy")).header()


@case("proxy_weak_digest", "SHA-1")
def sha1_proxy(world: World) -> str:
    return world.proxy(digest=hashes.SHA1()).header()


@case("proxy_weak_digest", "your certificate")
def sha1_end_entity(world: World) -> str:
    return world.proxy_of(world.issue(digest=hashes.SHA1())).header()


@case("proxy_weak_digest", "authority")
def sha1_intermediate_that_is_not_sent(world: World) -> str:
    holder = below_intermediate(world, known=True, digest=hashes.SHA1())
    return header(parts(world.proxy_of(holder), chain=[holder.certificate]))


@case("proxy_serial", "20 bytes")
def negative_serial(world: World) -> str:
    proxy = world.proxy(serial=0x41)
    serial = (b"\xa0\x03\x02\x01\x02\x02\x01\x41", b"\xa0\x03\x02\x01\x02\x02\x01\xf1")
    patched = make.resigned(proxy.certificate, world.ann.key, hashes.SHA256(), serial)
    return header(parts(Credential(patched, proxy.key, proxy.chain)))


# The chain.


@case("proxy_untrusted", "trusted")
def unknown_authority(world: World) -> str:
    stranger = Authority.create("/C=XX/CN=Stranger", key=key("other"))
    return world.proxy_of(stranger.issue(ANN, key=key("ann"))).header()


@case("proxy_untrusted", "root is not trusted")
def unknown_authority_with_its_root(world: World) -> str:
    stranger = Authority.create("/C=XX/CN=Stranger", key=key("other"))
    proxy = world.proxy_of(stranger.issue(ANN, key=key("ann")))
    return header(proxy.pem() + certificate_pem(stranger.certificate))


@case("proxy_signature", "altered")
def false_authority_of_the_same_name(world: World) -> str:
    twin = Authority.create(f"{ORGANISATION}/CN=CA", key=key("other"))
    return world.proxy_of(twin.issue(ANN, key=key("ann"))).header()


@case("proxy_untrusted", "root is not trusted")
def self_signed_end_entity(world: World) -> str:
    own = Authority.create(ANN, key=key("ann"))
    return world.proxy_of(own).header()


@case("proxy_signature", "altered")
def proxy_signed_with_another_key(world: World) -> str:
    return world.proxy_of(world.ann.with_key(key("other"))).header()


@case("proxy_signature", "altered")
def altered_signature(world: World) -> str:
    encoded = bytearray(world.proxy().certificate.public_bytes(Encoding.DER))
    encoded[-9] ^= 1
    altered = x509.load_der_x509_certificate(bytes(encoded))
    return header(parts(Credential(altered, key("proxy"), (world.ann.certificate,))))


@case("proxy_unrelated", "follow one another")
def unrelated_certificate_behind(world: World) -> str:
    return header(world.proxy().pem() + certificate_pem(world.issue(f"{ORGANISATION}/CN=Bob").certificate))


@case("proxy_unrelated", "follow one another")
def chain_in_the_wrong_order(world: World) -> str:
    proxy = world.proxy_of(below_intermediate(world))
    return header(parts(proxy, chain=list(reversed(proxy.chain))))


@case("proxy_unrelated", "follow one another")
def proxies_in_the_wrong_order(world: World) -> str:
    middle = world.proxy(key=key("other"))
    proxy = world.proxy_of(middle)
    swapped = [proxy.certificate, world.ann.certificate]
    return header(parts(Credential(middle.certificate, middle.key), chain=swapped))


@case("proxy_name", "plus one CN")
def name_is_not_the_issuers(world: World) -> str:
    return world.proxy(subject=make.name(f"{ORGANISATION}/CN=Bob/CN=1")).header()


@case("proxy_name", "plus one CN")
def name_has_two_more_parts(world: World) -> str:
    return world.proxy(subject=make.name(f"{ANN}/CN=1/CN=2")).header()


@case("proxy_name", "plus one CN")
def name_ends_in_another_attribute(world: World) -> str:
    return world.proxy(subject=make.name(f"{ANN}/OU=1")).header()


@case("proxy_path_length", "delegate less deeply")
def delegated_more_often_than_allowed(world: World) -> str:
    return world.proxy_of(world.proxy(path_length=0, key=key("other"))).header()


@case("proxy_path_length", "delegate less deeply")
def delegated_more_often_than_a_proxy_above_allows(world: World) -> str:
    first = world.proxy(path_length=1, key=key("other"))
    return world.proxy_of(world.proxy_of(first, key=key("ann"))).header()


@case("proxy_path_length", "deeper than it may")
def authority_below_one_that_may_not_have_any(world: World) -> str:
    first = world.authority.intermediate(f"{ORGANISATION}/CN=First", key=key("other"), path_length=0)
    second = first.intermediate(f"{ORGANISATION}/CN=Second", key=key("authority"))
    for authority in (first, second):
        authority.install(world.directory)
    return world.proxy_of(second.issue(ANN, key=key("ann"))).header()


@case("proxy_extension", "neither an authority")
def proxy_that_is_an_authority(world: World) -> str:
    return world.proxy(extensions=[(x509.BasicConstraints(ca=True, path_length=None), True)]).header()


@case("proxy_extension", "neither an authority")
def proxy_with_an_alternative_name(world: World) -> str:
    return world.proxy(extensions=[(x509.SubjectAlternativeName([x509.DNSName("a.example.org")]), False)]).header()


@case("proxy_chain", "refused")
def end_entity_signs_an_end_entity(world: World) -> str:
    forged = Authority(world.ann.certificate, world.ann.key).issue(f"{ORGANISATION}/CN=Bob", key=key("other"))
    return world.proxy_of(Credential(forged.certificate, forged.key, (world.ann.certificate,))).header()


@case("proxy_chain", "refused")
def proxy_signs_an_end_entity(world: World) -> str:
    middle = world.proxy(key=key("other"))
    forged = Authority(middle.certificate, middle.key).issue(f"{ORGANISATION}/CN=Bob", key=key("ann"))
    chain = (middle.certificate, world.ann.certificate)
    return world.proxy_of(Credential(forged.certificate, forged.key, chain)).header()


@case("proxy_chain", "refused")
def proxy_of_an_authority(world: World) -> str:
    return world.proxy_of(world.authority.intermediate(f"{ORGANISATION}/CN=First", key=key("other"))).header()


@case("proxy_chain", "refused")
def end_entity_that_may_not_sign(world: World) -> str:
    holder = world.issue(extensions=[(make.key_usage("key_encipherment"), True)])
    return world.proxy_of(holder).header()


@case("proxy_chain", "refused")
def unknown_critical_extension(world: World) -> str:
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    return world.proxy(extensions=[(unknown, True)]).header()


# Revocation.


@case("proxy_revoked", "revoked")
def revoked_end_entity(world: World) -> str:
    world.authority.install(world.directory, crl=world.authority.crl(world.ann))
    return world.proxy().header()


@case("proxy_revoked", "revoked")
def revoked_end_entity_behind_two_proxies(world: World) -> str:
    world.authority.install(world.directory, crl=world.authority.crl(world.ann))
    return world.proxy_of(world.proxy(key=key("other"))).header()


@case("proxy_revoked", "CN=Ann")
def revoked_by_an_intermediate_authority(world: World) -> str:
    holder = below_intermediate(world, ANN, crl=lambda authority, holder: authority.crl(holder))
    return world.proxy_of(holder).header()


@case("proxy_revoked", "CN=First")
def revoked_intermediate_authority(world: World) -> str:
    holder = below_intermediate(world)
    first = Credential(holder.chain[0], key("other"))
    world.authority.install(world.directory, crl=world.authority.crl(first))
    return world.proxy_of(holder).header()


@case("proxy_crl_expired", "expired")
def expired_crl(world: World) -> str:
    crl = world.authority.crl(last_update=NOW - 2 * HOUR, next_update=NOW - HOUR)
    world.authority.install(world.directory, crl=crl)
    return world.proxy().header()


@case("proxy_crl", "not valid yet")
def crl_from_tomorrow(world: World) -> str:
    crl = world.authority.crl(last_update=NOW + 24 * HOUR, next_update=NOW + 48 * HOUR)
    world.authority.install(world.directory, crl=crl)
    return world.proxy().header()


@case("proxy_crl", "not signed by")
def forged_crl(world: World) -> str:
    world.authority.install(world.directory, crl=world.authority.crl(key=key("other")))
    return world.proxy().header()


@case("proxy_crl_missing", "revocation list is missing")
def unreadable_crl(world: World) -> str:
    world.authority.install(world.directory, crl=b"not a list")
    return world.proxy().header()


@case("proxy_crl_missing", "revocation list is missing")
def crl_under_the_old_hash_alone(world: World) -> str:
    world.authority.install(world.directory, crl=world.authority.crl())
    (world.directory / f"{world.authority.hashes()[0]}.r0").unlink()
    return world.proxy().header()


@case("proxy_crl_missing", "revocation list is missing")
def required_crl_is_missing(world: World) -> str:
    world.options["require_crl"] = True
    return world.proxy().header()


@case("proxy_crl_missing", "CN=First")
def required_crl_of_the_root_is_missing(world: World) -> str:
    world.options["require_crl"] = True
    return world.proxy_of(below_intermediate(world, crl=lambda authority, holder: authority.crl())).header()


# Signing policies.


@case("proxy_no_signing_policy", "no signing_policy")
def no_signing_policy(world: World) -> str:
    world.trust_again(signing_policy=None)
    return world.proxy().header()


@case("proxy_signing_policy", "may not sign for /C=PL/O=Test/CN=Ann")
def signing_policy_for_another_name(world: World) -> str:
    world.trust_again(signing_policy="/C=DE/*")
    return world.proxy().header()


@case("proxy_signing_policy", "may not sign")
def signing_policy_counts_where_none_is_required(world: World) -> str:
    world.trust_again(signing_policy="/C=DE/*")
    world.options["require_signing_policy"] = False
    return world.proxy().header()


@case("proxy_signing_policy", "may not sign")
def broken_signing_policy(world: World) -> str:
    for prefix in world.authority.hashes():
        (world.directory / f"{prefix}.signing_policy").write_text("access_id_CA X509 '/C=PL")
    return world.proxy().header()


@case("proxy_signing_policy", "may not sign for /C=PL/O=Test/CN=First")
def signing_policy_against_the_intermediate(world: World) -> str:
    holder = below_intermediate(world)
    world.authority.install(world.directory, signing_policy="/C=PL/O=Test/CN=Ann")
    return world.proxy_of(holder).header()


@case("proxy_no_signing_policy", "CN=First has no")
def intermediate_without_signing_policy(world: World) -> str:
    first = world.authority.intermediate(f"{ORGANISATION}/CN=First", key=key("other"))
    return world.proxy_of(first.issue(ANN, key=key("ann"))).header()


# Names that mean two things.


@case("proxy_subject", "plain name")
def slash_in_a_value(world: World) -> str:
    return world.proxy_of(world.issue(x509.Name([*make.name(ORGANISATION), common_name("x/CN=Ann")]))).header()


@case("proxy_subject", "plain name")
def backslash_in_a_value(world: World) -> str:
    return world.proxy_of(world.issue(x509.Name([*make.name(ORGANISATION), common_name(r"J\xC3\xB3zef")]))).header()


@case("proxy_subject", "plain name")
def nul_in_a_value(world: World) -> str:
    return world.proxy_of(world.issue(x509.Name([*make.name(ORGANISATION), common_name("Ann\0x")]))).header()


@case("proxy_subject", "plain name")
def line_break_in_a_value(world: World) -> str:
    return world.proxy_of(world.issue(x509.Name([*make.name(ORGANISATION), common_name("Ann\nx")]))).header()


@case("proxy_subject", "plain name")
def two_values_in_one_part(world: World) -> str:
    both = x509.RelativeDistinguishedName([common_name("Ann"), *make.name("/OU=X")])
    return world.proxy_of(world.issue(x509.Name([*make.name(ORGANISATION).rdns, both]))).header()


# Possession.


@case("proxy_possession", "not the one")
def key_of_somebody_else(world: World) -> str:
    return world.proxy().with_key(key("other")).header()


@case("proxy_possession", "not the one")
def key_of_the_end_entity(world: World) -> str:
    return world.proxy().with_key(key("ann")).header()


@case("proxy_possession", "not the one")
def elliptic_curve_key_for_an_rsa_certificate(world: World) -> str:
    return world.proxy().with_key(key("ec")).header()


@case("proxy_possession", "not the one")
def elliptic_curve_key_of_somebody_else(world: World) -> str:
    return world.proxy(key=key("ec")).with_key(key("ec other")).header()


@case("proxy_possession", "not the one")
def other_kind_of_private_key(world: World) -> str:
    return with_key(world, pkcs8(ed25519.Ed25519PrivateKey.generate()))


@case("proxy_possession", "not the one")
def dsa_private_key(world: World) -> str:
    return with_key(world, pkcs8(dsa.generate_private_key(1024)))


@case("proxy_possession", "not the one")
def forged_key_with_the_right_modulus(world: World) -> str:
    return with_key(world, forged(d=12345, p=3, q=5, dp=1, dq=1, qinv=1))


@case("proxy_possession", "not the one")
def forged_key_with_trivial_factors(world: World) -> str:
    return with_key(world, forged(d=1, p=1, q=modulus(), dp=0, dq=1, qinv=1))


@case("proxy_possession", "not the one")
def forged_key_with_numbers_far_too_large(world: World) -> str:
    large = 2**6000 + 1
    return with_key(world, forged(d=large, p=large, q=large, dp=large, dq=large, qinv=large))


@case("proxy_possession", "not the one")
def right_factors_but_a_wrong_coefficient(world: World) -> str:
    numbers = key("proxy").private_numbers()
    rest = {"d": numbers.d, "dp": numbers.dmp1, "dq": numbers.dmq1}
    return with_key(world, forged(p=numbers.p, q=numbers.q, qinv=numbers.iqmp - 1, **rest))


@case("proxy_possession", "not the one")
def right_factors_but_another_exponent(world: World) -> str:
    numbers = key("proxy").private_numbers()
    rest = {"dp": numbers.dmp1, "dq": numbers.dmq1, "qinv": numbers.iqmp}
    return with_key(world, forged(p=numbers.p, q=numbers.q, d=numbers.d - 2, **rest))


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@pytest.mark.parametrize(("build", "verdict", "word"), CASES)
def test_table(world: World, build: Callable[[World], str], verdict: str, word: str) -> None:
    sent = build(world)
    code, words = world.verdict(sent)
    assert (code, word in words) == (verdict, True), words


def test_every_code_is_in_the_table() -> None:
    sources = "".join(path.read_text() for path in Path(proxy_module.__file__).parent.glob("*.py"))
    written = set(re.findall(r'"(proxy_[a-z_0-9]+)"', sources)) - {"proxy_missing"}
    covered = {case.values[1] for case in CASES}
    assert written - covered == {"proxy_invalid"}


def test_expiry_is_the_earliest_of_the_chain(world: World) -> None:
    soon = NOW + HOUR
    holder = world.issue(not_after=soon)
    assert world.verifier().verify(world.proxy_of(holder).header()).expires_at == soon


def test_missing_directory_trusts_nobody(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.directory = world.directory / "absent"
    assert world.verdict(world.proxy().header())[0] == "proxy_untrusted"
    assert "absent" in caplog.text


# What is remembered.


def test_a_good_proxy_is_remembered_for_a_minute(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    verifier, sent = world.verifier(), world.proxy().header()
    calls = counted(monkeypatch)
    clock = [1000.0]
    monkeypatch.setattr(proxy_module.time, "monotonic", lambda: clock[0])
    assert [verifier.verify(sent).subject for _ in range(3)] == [ANN] * 3
    assert len(calls) == 1
    clock[0] += 61
    verifier.verify(sent)
    assert len(calls) == 2


def test_a_bad_proxy_is_not_remembered(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    verifier, sent = world.verifier(), world.ann.header()
    calls = counted(monkeypatch)
    for _ in range(2):
        with pytest.raises(Unauthenticated):
            verifier.verify(sent)
    assert len(calls) == 2


def test_nothing_is_remembered_past_its_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    verifier = world.verifier()
    sent = world.proxy(not_after=datetime.now(UTC) + timedelta(seconds=30)).header()
    verifier.verify(sent)
    monkeypatch.setattr(proxy_module, "datetime", Later)
    with pytest.raises(Unauthenticated, match="expired"):
        verifier.verify(sent)


def test_a_crl_replaced_by_renaming_counts_at_once(world: World) -> None:
    world.authority.install(world.directory, crl=world.authority.crl())
    verifier, sent = world.verifier(), world.proxy().header()
    verifier.verify(sent)
    world.authority.install(world.directory, crl=world.authority.crl(world.ann))
    with pytest.raises(Unauthenticated, match="revoked"):
        verifier.verify(sent)


def test_a_crl_that_was_added_counts_at_once(world: World) -> None:
    verifier, sent = world.verifier(), world.proxy().header()
    verifier.verify(sent)
    world.authority.install(world.directory, crl=world.authority.crl(world.ann))
    with pytest.raises(Unauthenticated, match="revoked"):
        verifier.verify(sent)


def test_a_crl_overwritten_in_place_counts_within_a_second(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.authority.install(world.directory, crl=world.authority.crl())
    verifier, sent = world.verifier(), world.proxy().header()
    verifier.verify(sent)
    for prefix in world.authority.hashes():
        (world.directory / f"{prefix}.r0").write_bytes(world.authority.crl(world.ann))
    later = proxy_module.time.monotonic() + 1.001
    monkeypatch.setattr(proxy_module.time, "monotonic", lambda: later)
    with pytest.raises(Unauthenticated, match="revoked"):
        verifier.verify(sent)


def test_an_authority_that_was_removed_counts_at_once(world: World) -> None:
    verifier, sent = world.verifier(), world.proxy().header()
    verifier.verify(sent)
    world.clear()
    with pytest.raises(Unauthenticated, match="trusted"):
        verifier.verify(sent)


def test_the_memory_is_bounded_and_holds_no_header(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_module, "REMEMBERED_AT_MOST", 3)
    verifier = world.verifier()
    headers = [header(world.proxy().pem() + b"#" * count) for count in range(5)]
    for sent in headers:
        verifier.verify(sent)
    entries = verifier._remembered._entries
    assert len(entries) == 3
    assert all(len(digest) == 32 for digest in entries)


def test_many_threads_share_a_verifier(world: World) -> None:
    verifier, good, bad = world.verifier(), world.proxy().header(), world.ann.header()
    verdicts: list[str] = []

    def ask() -> None:
        for sent in [good, bad] * 20:
            try:
                verdicts.append(verifier.verify(sent).subject)
            except Unauthenticated as refusal:
                verdicts.append(refusal.code)
            world.authority.install(world.directory)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(set(verdicts)) == [ANN, "proxy_not_a_proxy"]
    assert verdicts.count(ANN) == 80


# What an administrator is told.


def test_problems_of_a_good_directory(world: World) -> None:
    world.authority.install(world.directory, crl=world.authority.crl())
    assert world.verifier().problems() == []


def test_problems_are_told_all_at_once(world: World) -> None:
    crl = world.authority.crl(last_update=NOW - 2 * HOUR, next_update=NOW - HOUR)
    world.trust_again(signing_policy=None, crl=crl, old_hash=False)
    (world.directory / "00000000.0").write_text("junk")
    told = "\n".join(world.verifier().problems())
    for word in ("00000000.0: no readable", "signing_policy for /C=PL/O=Test/CN=CA", ".r0: expired at"):
        assert word in told


def test_problems_of_an_empty_directory(tmp_path: Path) -> None:
    assert "nobody is trusted" in ProxyVerifier(tmp_path).problems()[0]


# Names and policies by themselves.


@pytest.mark.parametrize(
    "subject",
    [
        ANN,
        "/DC=org/DC=x/CN=Ann/emailAddress=ann@example.org",
        "/C=PL/O=Zażółć/CN=Ann",
        *(f"/{oid}=value/CN=x" for oid in SHORT_NAMES if not oid.startswith(("2.5.4.6", "1.3.6.1.4.1.311"))),
        *(f"/{oid}=PL/CN=x" for oid in ("2.5.4.6", "1.3.6.1.4.1.311.60.2.1.3")),
        "/2.999.1=value/CN=x",
    ],
)
def test_names_are_written_as_openssl_writes_them(world: World, subject: str) -> None:
    certificate = world.issue(subject).certificate
    command = ["openssl", "x509", "-noout", "-subject", "-nameopt", "compat"]
    printed = subprocess.run(command, input=certificate_pem(certificate), capture_output=True, check=True).stdout
    assert slash_form(certificate.subject) == printed.decode().strip().removeprefix("subject=").strip()


CONDITIONS = "access_id_CA X509 '/C=XX/CN=CA'\npos_rights globus CA:sign\ncond_subjects globus "


@pytest.mark.parametrize(
    ("text", "subject", "expected"),
    [
        (CONDITIONS + """'"/C=XX/*" "/C=YY/*"'""", "/C=YY/CN=a", True),
        (CONDITIONS + """'"/C=XX/*" "/C=YY/*"'""", "/C=ZZ/CN=a", False),
        (CONDITIONS + """'/C=XX/*'""", "/C=XX/CN=a", True),
        (CONDITIONS + '''"/C=XX/*"''', "/C=XX/CN=a", True),
        (CONDITIONS + "/C=XX/*   # all of them", "/C=XX/CN=a", True),
        (CONDITIONS + "'\"/C=XX/CN=a\"'", "/C=XX/CN=ab", False),
        (CONDITIONS + "'\"/C=XX/*/CN=a\"'", "/C=XX/O=Org/CN=a", True),
        (CONDITIONS + "'\"/C=XX/*/CN=a\"'", "/C=XX/O=Org/CN=b", False),
        (CONDITIONS + "'\"/C=XX/*\"'", "/c=xx/CN=a", False),
        (CONDITIONS + "'\"/C=X[XY]/CN=?\"'", "/C=XX/CN=a", False),
        (CONDITIONS + "'\"/CN=a/Email=*\"'", "/CN=a/emailAddress=a@example.org", True),
        ("# comment\n\n\t" + CONDITIONS.replace("X509", "x509").upper().replace("'/C=XX/CN=CA'", '"/C=XX/CN=CA"')
         + "'*'\r\n", "/C=XX/CN=a", True),
        (CONDITIONS.replace("/C=XX/CN=CA", "/C=XX/CN=Other") + "'*'", "/C=XX/CN=a", False),
        (CONDITIONS.replace("CA:sign", "other") + "'*'", "/C=XX/CN=a", False),
        ("access_id_CA X509 '/C=YY/CN=CA'\n" + CONDITIONS + "'*'", "/C=XX/CN=a", True),
        ("", "/C=XX/CN=a", False),
    ],
)  # fmt: skip
def test_signing_policies(text: str, subject: str, expected: bool) -> None:
    assert may_sign(parse_signing_policy(text.encode()), "/C=XX/CN=CA", subject) is expected


@pytest.mark.parametrize(
    "text",
    [
        CONDITIONS + '\'"/C=XX/*"',
        CONDITIONS,
        CONDITIONS.replace("pos_rights", "neg_rights") + "'*'",
        "cond_subjects globus '*'",
        "access_id_CA X509",
        "pos_rights globus CA:sign",
        "hello",
    ],
)
def test_broken_signing_policies(text: str) -> None:
    with pytest.raises(SigningPolicyError, match="line"):
        parse_signing_policy(text.encode())


@given(st.binary())
def test_no_signing_policy_surprises(text: bytes) -> None:
    with contextlib.suppress(SigningPolicyError):
        parse_signing_policy(text)


# Garbage.

PIECES = [b"-----BEGIN ", b"-----END ", b"CERTIFICATE", b"-----", b"\n", b"PRIVATE KEY", b"AAAA", b"RSA "]
GARBAGE = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def refused(world: World) -> Callable[[str], None]:
    """Checks that a header is refused properly, or is Ann's after all."""
    verifier = world.verifier()

    def check(sent: str) -> None:
        outcome = outcome_of(verifier, sent)
        if isinstance(outcome, Unauthenticated):
            assert outcome.code.startswith("proxy_")
            assert outcome.code != "proxy_invalid"
            assert outcome.__context__ is None
        else:
            assert outcome.subject == ANN

    return check


def outcome_of(verifier: ProxyVerifier, sent: str) -> VerifiedProxy | Unauthenticated:
    try:
        return verifier.verify(sent)
    except Unauthenticated as refusal:
        return refusal


@GARBAGE
@given(st.text() | st.text(alphabet="ABCabc+/=01 \n-_,"))
def test_any_text_is_refused(refused: Callable[[str], None], text: str) -> None:
    refused(text)


@GARBAGE
@given(st.binary(max_size=500) | st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join))
def test_any_bytes_are_refused(refused: Callable[[str], None], content: bytes) -> None:
    refused(header(content))


@GARBAGE
@given(
    st.integers(0, 2), st.integers(0, 1_000_000), st.integers(0, 255), st.sampled_from(["set", "cut", "drop", "add"])
)
@example(0, 0, 0, "cut")
def test_altered_der_is_refused(
    refused: Callable[[str], None], world: World, block: int, place: int, value: int, change: str
) -> None:
    proxy = world.proxy()
    encoded = [
        bytearray(proxy.certificate.public_bytes(Encoding.DER)),
        bytearray(proxy.key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())),
        bytearray(world.ann.certificate.public_bytes(Encoding.DER)),
    ]
    place %= len(encoded[block])
    match change:
        case "set":
            encoded[block][place] = value
        case "cut":
            del encoded[block][place:]
        case "drop":
            del encoded[block][place]
        case "add":
            encoded[block].insert(place, value)
    labels = ["CERTIFICATE", "RSA PRIVATE KEY", "CERTIFICATE"]
    refused(header(b"".join(map(armoured, labels, encoded))))


@GARBAGE
@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=3))
def test_altered_pem_is_refused(refused: Callable[[str], None], world: World, place: int, junk: bytes) -> None:
    pem = world.proxy().pem()
    place %= len(pem)
    refused(header(pem[:place] + junk + pem[place + len(junk) :]))


@GARBAGE
@given(st.binary(max_size=60))
def test_any_proxy_cert_info_is_refused(refused: Callable[[str], None], world: World, info: bytes) -> None:
    refused(world.proxy(info=info).header())


def test_good_proxies_pass_after_bad_ones(world: World) -> None:
    """OpenSSL keeps its errors in a queue of the thread; none may fall onto the next caller."""
    verifier, good = world.verifier(), world.proxy().header()
    for build in (
        altered_signature,
        key_is_junk,
        forged_crl,
        false_authority_of_the_same_name,
        name_has_two_more_parts,
    ):
        with pytest.raises(Unauthenticated):
            verifier.verify(build(world))
    world.trust_again()
    assert verifier.verify(good).subject == ANN


def test_the_unforeseen_is_refused_too(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A parser's bug lets nobody in, and what it says goes nowhere, since it may quote what it read."""

    def fail(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(proxy_module, "check_possession", fail)
    with caplog.at_level(logging.DEBUG):
        assert world.verdict(world.proxy().header())[0] == "proxy_invalid"
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text


def test_forged_keys_are_well_formed(world: World) -> None:
    numbers = key("proxy").private_numbers()
    rest = {"dp": numbers.dmp1, "dq": numbers.dmq1, "qinv": numbers.iqmp}
    assert world.verdict(with_key(world, forged(p=numbers.p, q=numbers.q, d=numbers.d, **rest))) == ("good", ANN)


# How the cases are made.

FULL = make.proxy_cert_info(make.INHERIT_ALL)


class OnlyPublic:
    """Something with the public key of the proxy, but for another exponent."""

    def __init__(self, exponent: int) -> None:
        self.exponent = exponent

    def public_key(self) -> rsa.RSAPublicKey:
        return rsa.RSAPublicNumbers(self.exponent, modulus()).public_key()


class Later(datetime):
    """A clock that is a minute ahead."""

    @classmethod
    def now(cls, tz: object = None) -> datetime:
        return datetime.now(UTC) + timedelta(minutes=1)


def below_intermediate(
    world: World,
    subject: str = f"{ORGANISATION}/CN=Sub",
    *,
    known: bool = False,
    crl: Callable[[Authority, Credential], bytes] | None = None,
    digest: hashes.HashAlgorithm | None = None,
) -> Credential:
    """Somebody with a certificate of an intermediate authority, which has a signing policy here, and where asked for a
    certificate (`known`) and a CRL."""
    first = world.authority.intermediate(f"{ORGANISATION}/CN=First", key=key("other"), digest=digest)
    holder = first.issue(subject, key=key("ann"))
    first.install(world.directory, crl=crl(first, holder) if crl else None)
    if not known:
        for prefix in first.hashes():
            (world.directory / f"{prefix}.0").unlink()
    return holder


def parts(proxy: Credential, *, chain: list[x509.Certificate] | None = None, pkcs8: bool = False) -> bytes:
    above = proxy.chain if chain is None else chain
    key = key_pem(proxy.key, pkcs8=pkcs8)
    return certificate_pem(proxy.certificate) + key + b"".join(map(certificate_pem, above))


def armoured(label: str, der: bytes) -> bytes:
    body = base64.encodebytes(bytes(der))
    return b"-----BEGIN %s-----\n%s-----END %s-----\n" % (label.encode(), body, label.encode())


def with_key(world: World, der: bytes) -> str:
    return header(world.proxy().pem().replace(key_pem(key("proxy")), armoured("PRIVATE KEY", der)))


def locked(form: PrivateFormat) -> bytes:
    return key("proxy").private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"secret"))


def pkcs8(private: object) -> bytes:
    return private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())  # type: ignore[attr-defined]


def modulus() -> int:
    return key("proxy").public_key().public_numbers().n


def forged(*, d: int, p: int, q: int, dp: int, dq: int, qinv: int) -> bytes:
    """An RSA private key (RFC 8017, A.1.2) with the modulus of the proxy's certificate."""
    numbers = [0, modulus(), 65537, d, p, q, dp, dq, qinv]
    return make.tlv(0x30, b"".join(make.tlv(2, number.to_bytes(number.bit_length() // 8 + 1)) for number in numbers))


def info(der: bytes) -> x509.UnrecognizedExtension:
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(make.PROXY_CERT_INFO), der)


def common_name(value: str) -> x509.NameAttribute[str]:
    return x509.NameAttribute(x509.NameOID.COMMON_NAME, value)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    calls: list[str] = []
    real = ProxyVerifier._verify

    def count(self: ProxyVerifier, sent: str, trust: object) -> object:
        calls.append(sent)
        return real(self, sent, trust)  # type: ignore[arg-type]

    monkeypatch.setattr(ProxyVerifier, "_verify", count)
    return calls
