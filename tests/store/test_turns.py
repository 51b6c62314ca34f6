"""Writers of a SQLite database take turns, and whoever dies or stands still keeps nobody waiting for ever."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.errors import HostDown
from gateway.store.turns import Turns

HOLD = """
import sys, time
from pathlib import Path
from gateway.store.turns import Turns
with Turns(Path(sys.argv[1]), 10).take():
    print("mine", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path: Path):
    """Another process that has the turn."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "jobgate.db")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "mine\n"
        yield process
        process.kill()


def test_a_holder_that_is_killed_gives_it_back(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    holder.send_signal(signal.SIGKILL)
    with Turns(tmp_path / "jobgate.db", 5).take():
        pass


def test_a_holder_that_stands_still(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    turns = Turns(tmp_path / "jobgate.db", 0.2)
    for _ in range(2):
        with pytest.raises(HostDown, match="turn"), turns.take():
            pass


def test_a_fault_ends_the_turn(tmp_path: Path) -> None:
    turns = Turns(tmp_path / "jobgate.db", 0.2)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), turns.take():
            raise ZeroDivisionError


def test_a_file_that_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(HostDown, match="nowhere"), Turns(tmp_path / "nowhere" / "jobgate.db", 1).take():
        pass


def test_a_file_of_somebody_else(tmp_path: Path) -> None:
    """As after a `jobgate tick` by root."""
    turns = Turns(tmp_path / "jobgate.db", 1)
    with turns.take():
        assert turns.file.stat().st_mode & 0o444 == 0o444
    turns.file.chmod(0o444)
    with turns.take():
        pass
