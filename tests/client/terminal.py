"""A folder in which `jman` is run as a process, as at a terminal."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.gateways import Server

BIN = Path(sys.executable).parent
JMAN = BIN / "jman"
PATH = f"{BIN}:/usr/local/bin:/usr/bin:/bin"
SCRIPT = """\
import os, sys
print("arguments", sys.argv[1:], "task", os.environ.get("SGE_TASK_ID"))
if "fail" in sys.argv:
    raise SystemExit("Traceback of a kind")
"""


class Terminal:
    """What is typed runs in `folder`; `environment` is all that it finds there."""

    def __init__(self, folder: Path, *before: str, **environment: str) -> None:
        self.folder = folder
        self.before = before
        self.environment = {"HOME": str(folder), "PATH": PATH, "LANG": "C.UTF-8", **environment}
        (folder / "myscript.py").write_text(SCRIPT)

    def start(self, *arguments: str, **more: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(JMAN), *self.before, *arguments],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **more,
        )

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, and what was printed to stdout and stderr. Never a traceback."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=180)
        assert "Traceback (most recent call last)" not in err, err
        return process.returncode, out, err

    def jman(self, *arguments: str, code: int = 0) -> str:
        """What it printed; it must end with that code."""
        ended, out, err = self.run(*arguments)
        assert ended == code, (arguments, ended, out, err)
        return out

    def json(self, *arguments: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.jman(*arguments, "--json"))
        return found

    def refused(self, *arguments: str, code: int = 1) -> str:
        """The words of an error: one line, on stderr alone (click puts the usage above its own)."""
        ended, out, err = self.run(*arguments)
        assert (ended, out) == (code, ""), (arguments, ended, out, err)
        lines = [line for line in err.splitlines() if not line.startswith(("Usage: ", "Try "))]
        assert len([line for line in lines if line]) == 1, err
        return err

    @property
    def files(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()} - {"myscript.py"}


def at(server: Server, folder: Path, user: str = "ann", **environment: str) -> Terminal:
    """At a gateway, with that user's proxy where grid tools look for it."""
    folder.mkdir(exist_ok=True)
    proxy = folder.with_name(f"{folder.name}-{user}.pem")
    proxy.touch(mode=0o600)
    proxy.write_bytes(server.world.proxies[user].pem())
    return Terminal(folder, JOBGATE_URL=server.url, X509_USER_PROXY=str(proxy), **environment)


def local(folder: Path, **environment: str) -> Terminal:
    """Without a gateway."""
    folder.mkdir(exist_ok=True)
    return Terminal(folder, "--local", **environment)
