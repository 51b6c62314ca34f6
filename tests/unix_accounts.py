"""Two real accounts of this machine, for what runs as a mapped account. Made once under a lock, and left: another test
process may be using them."""

import fcntl
import os
import pwd
import subprocess
from pathlib import Path

import pytest

NAMES = ("jgtest1", "jgtest2")


def missing(words: str) -> None:
    """Skip; with JOBGATE_REQUIRE_ALL=1 fail."""
    if os.environ.get("JOBGATE_REQUIRE_ALL") == "1":
        pytest.fail(words)
    pytest.skip(words)


def two_accounts() -> tuple[str, str]:
    """Their names. Skips the test where it does not run as root."""
    if os.geteuid() != 0:
        missing("mapped accounts need root: run the tests as root")
    with Path("/tmp/jobgate-test-accounts.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in NAMES:
            _make(name)
    return NAMES


def _make(name: str) -> None:
    try:
        pwd.getpwnam(name)
    except KeyError:
        subprocess.run(["useradd", "-r", "-m", "-s", "/bin/sh", name], check=True)
    Path(pwd.getpwnam(name).pw_dir).chmod(0o700)
