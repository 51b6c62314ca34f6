"""jman typed in this process, which takes a tenth of the time of a process of its own."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.client.jman.cli import jman
from tests.client.terminal import SCRIPT
from tests.gateways import Server

VARIABLES = ("JOBGATE_URL", "JOBGATE_HOST", "JOBGATE_TOKEN", "X509_USER_PROXY", "XDG_CONFIG_HOME")


class Typed:
    """As `tests.client.terminal.Terminal`."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, *before: str, **environment: str) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.before = before
        (folder / "myscript.py").write_text(SCRIPT)
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        for name, value in {"HOME": str(folder), **environment}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(folder)

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, and what was printed to stdout and stderr."""
        done = CliRunner().invoke(jman, [*self.before, *arguments], prog_name="jman")
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.stdout, done.stderr

    def jman(self, *arguments: str, code: int = 0) -> str:
        """What it printed; it must end with that code."""
        ended, out, err = self.run(*arguments)
        assert ended == code, (arguments, ended, out, err)
        return out

    def submit(self, *arguments: str) -> str:
        """The new job's id."""
        return self.jman("submit", "--print-id", *arguments).strip()

    def json(self, *arguments: str, code: int = 0) -> list[dict[str, Any]]:
        at = arguments.index("submit") + 1 if "submit" in arguments else len(arguments)  # behind it are the job's words
        found: list[dict[str, Any]] = json.loads(self.jman(*arguments[:at], "--json", *arguments[at:], code=code))
        return found

    def refused(self, *arguments: str, code: int = 1) -> str:
        """The words of an error: one line, on stderr alone, below click's own on usage."""
        ended, out, err = self.run(*arguments)
        assert (ended, out) == (code, ""), (arguments, ended, out, err)
        lines = [line for line in err.splitlines() if line and not line.startswith(("Usage: ", "Try "))]
        assert len(lines) == 1, err
        return lines[0]

    @property
    def files(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()} - {"myscript.py", "proxy.pem"}


def at(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch, user: str = "ann") -> Typed:
    """At a gateway, with that user's proxy."""
    folder.mkdir(exist_ok=True)
    proxy = folder / "proxy.pem"
    proxy.write_bytes(server.world.proxies[user].pem())
    return Typed(folder, monkeypatch, JOBGATE_URL=server.url, X509_USER_PROXY=str(proxy))
