"""A private key must not come out again: not in an exception, not in what the exception drags along, not in the log."""

import base64
import logging
import pickle
import traceback
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.auth.proxy_file import read_proxy
from gateway.errors import Unauthenticated
from gateway.testing.certificates import header, key_pem

from .test_proxy import CASES
from .world import World, key

HOSTILE = [case for case in CASES if case.values[1] != "good"]
FORMS = (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL)


def secrets() -> Iterator[str]:
    """Pieces of the keys as they could be quoted: lines of PEM, hexadecimal, Python's own forms."""
    for label in ("proxy", "ann", "other", "ec"):
        for form in FORMS:
            encoded = key(label).private_bytes(Encoding.DER, form, NoEncryption())
            middle = encoded[len(encoded) // 2 :][:24]
            yield from (middle.hex(), repr(middle)[2:-1], repr(list(middle))[1:-1])
            pem = key(label).private_bytes(Encoding.PEM, form, NoEncryption()).decode().splitlines()
            yield pem[len(pem) // 2][:40]
        if label != "ec":
            numbers = key(label).private_numbers()
            yield from (str(numbers.p)[:40], f"{numbers.p:x}"[:40], str(numbers.d)[:40], f"{numbers.d:x}"[:40])


def assert_clean(text: str, *more: str) -> None:
    assert not [secret for secret in (*secrets(), *more) if secret in text]


def everything_of(error: BaseException) -> str:
    """What a log or an answer could take from an exception, with what it was raised from."""
    told = [str(error), repr(error), repr(error.args), repr(vars(error)), *getattr(error, "__notes__", [])]
    told += traceback.format_exception(error)
    return "\n".join(told)


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@pytest.mark.parametrize(("build", "verdict", "word"), HOSTILE)
def test_a_refusal_holds_no_key(
    world: World, caplog: pytest.LogCaptureFixture, build: object, verdict: str, word: str
) -> None:
    sent = build(world)  # type: ignore[operator]
    pieces = [sent[place : place + 40] for place in range(200, len(sent) - 40, 400)]
    with caplog.at_level(logging.DEBUG), pytest.raises(Unauthenticated) as refused:
        world.verifier().verify(sent)
    error = refused.value
    assert_clean(everything_of(error) + caplog.text + repr([vars(record) for record in caplog.records]), *pieces)
    assert error.__cause__ is None
    assert error.__context__ is None


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@pytest.mark.parametrize(("build", "verdict", "word"), HOSTILE)
def test_no_frame_of_the_gateway_keeps_the_key(world: World, build: object, verdict: str, word: str) -> None:
    """Error reporters send the local variables of every frame."""
    sent = build(world)  # type: ignore[operator]
    verifier = world.verifier()
    with pytest.raises(Unauthenticated) as refused:
        verifier.verify(sent)
    for frame, _ in traceback.walk_tb(refused.value.__traceback__):
        if frame.f_code.co_filename != __file__:
            assert frame.f_code.co_name == "verify"
            assert not any(isinstance(value, str | bytes) and len(value) > 64 for value in frame.f_locals.values())
            assert_clean(repr(frame.f_locals))


def test_a_key_behind_a_lost_dash_is_not_taken_for_a_label(world: World) -> None:
    pem = world.proxy().pem().replace(b"BEGIN RSA PRIVATE KEY-----", b"BEGIN RSA PRIVATE KEY---")
    code, words = world.verdict(header(pem))
    assert code in ("proxy_no_key", "proxy_pem")
    assert_clean(words)


def test_a_proxy_file_does_not_print_its_key(world: World) -> None:
    assert_clean(repr(read_proxy(world.proxy().header())))
    assert_clean(repr(world.proxy()))


def test_what_is_remembered_holds_no_key(world: World) -> None:
    verifier, sent = world.verifier(), world.proxy().header()
    verifier.verify(sent)
    remembered = pickle.dumps(list(verifier._remembered._entries.items()))
    assert key_pem(key("proxy"))[100:140] not in remembered
    assert base64.b64decode(sent)[2000:2040] not in remembered
    assert sent[2000:2040].encode() not in remembered
