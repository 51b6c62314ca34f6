"""The grid-mapfile: which accounts a subject may use.

    # comment
    "/C=PL/O=X/CN=Ann" alice,alice2
    "/C=PL/O=X/CN=Jozef \\"J\\" Kowal" jozef

The first account is the default. Inside the quotes a backslash takes the next character literally, and `\\xC3` is a
byte. Subjects are compared exactly, with bytes outside printable ASCII in OpenSSL's spelling `\\xC3\\xB3`: UTF-8 in the
file means the same.
"""

import logging
import re
import threading
from collections.abc import Mapping
from pathlib import Path

from gateway.auth.certificates import escaped
from gateway.errors import ConfigError

log = logging.getLogger(__name__)

LINE = re.compile(rb'(?:"((?:[^"\\]|\\.)*)"|(/[^\s"]*))\s+(\S.*)')
ESCAPE = re.compile(rb"\\(?:x([0-9A-Fa-f]{2})|(.))")
ACCOUNT = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
SUPERUSERS = ("root", "toor")

Fingerprint = tuple[int, int, int]


class GridMap:
    """A grid-mapfile that is read again whenever it changed.

    Raises `ConfigError` with all mistakes where it cannot be read at first. A broken file that appears later is logged,
    and the accounts of before stay.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._seen: Fingerprint | None = fingerprint(path)
        self._accounts, problems = read(path)
        if problems:
            raise ConfigError(problems)

    def accounts(self, subject: str) -> tuple[str, ...]:
        """The accounts of a subject in slash form, the default first; empty where it has none."""
        seen = fingerprint(self.path)
        if seen != self._seen:
            with self._lock:
                self._read_again(seen)
        return self._accounts.get(subject, ())

    def _read_again(self, seen: Fingerprint | None) -> None:
        if seen == self._seen:
            return
        accounts, problems = read(self.path)
        for problem in problems:
            log.error("%s (the grid-mapfile of before stays in use)", problem)
        if not problems:
            self._accounts = accounts
        self._seen = seen


def problems(path: Path) -> list[str]:
    """Everything that is wrong with the file as it is now, as `file:line: what`."""
    return read(path)[1]


def read(path: Path) -> tuple[Mapping[str, tuple[str, ...]], list[str]]:
    try:
        return parse(path.read_bytes(), str(path))
    except OSError as error:
        return {}, [f"{path}: {error.strerror}"]


def parse(content: bytes, file: str) -> tuple[Mapping[str, tuple[str, ...]], list[str]]:
    """Accounts by subject, and the mistakes."""
    accounts: dict[str, tuple[str, ...]] = {}
    mistakes = []
    for number, line in enumerate(content.split(b"\n"), 1):
        text = line.strip()
        if not text or text.startswith(b"#"):
            continue
        try:
            subject, names = parse_line(text)
            if subject in accounts:
                raise ValueError(f"{subject} stands further up already, write its accounts as `a,b` in one line")
            accounts[subject] = names
        except ValueError as mistake:
            mistakes.append(f"{file}:{number}: {mistake}")
    return accounts, mistakes


def parse_line(text: bytes) -> tuple[str, tuple[str, ...]]:
    parts = LINE.fullmatch(text)
    if parts is None:
        raise ValueError('not `"subject" account,account` (is a quote open, or the account missing?)')
    subject = escaped(ESCAPE.sub(literal, parts[1]) if parts[2] is None else parts[2])
    if not re.match(r"/[^/=]+=", subject):
        raise ValueError(f"{subject!r} is no subject in slash form, like /C=PL/O=X/CN=Ann")
    names = tuple(name.strip() for name in parts[3].decode("utf-8", "replace").split(","))
    for name in names:
        if not ACCOUNT.fullmatch(name):
            raise ValueError(f"{name!r} is no account name")
        if name in SUPERUSERS:
            raise ValueError(f"nobody may be mapped to {name}")
    return subject, names


def literal(escape: re.Match[bytes]) -> bytes:
    return bytes.fromhex(escape[1].decode()) if escape[1] else escape[2]


def fingerprint(path: Path) -> Fingerprint | None:
    """None where there is no such file."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
