"""What stands in our documents: their blocks of code, and a gateway to run them against, as `make run` starts it."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.testing.certificates import header, make_demo
from tests.databases import Sqlite
from tests.gateways import Server
from tests.unix_accounts import missing

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
BASE_URL = "http://127.0.0.1:5000"
ANYTHING = "..."


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the line of the page that it begins in."""

    language: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    found = re.finditer(r"^```(\w+)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [Block(match[1], match[2], page.read_text()[: match.start()].count("\n") + 2) for match in found]


class Demo:
    """What `make run` prepares: the demo certificates, in a folder of their own. Stands in for a `World`."""

    def __init__(self, folder: Path) -> None:
        self.databases = Sqlite()
        make_demo(folder / "var" / "demo", "ann")
        proxies = {"ann": "proxy.pem", "bob": "proxy-bob.pem", "carol": "proxy.pem"}
        self.headers = {
            user: {"PROXY": header((folder / "var/demo" / file).read_bytes())} for user, file in proxies.items()
        }

    def config(
        self, folder: Path, base_url: str, host: str = "", gateway: str = "", database: str | None = None
    ) -> Path:
        """As `World.config`, but for the configuration that we ship, with its own database."""
        file = folder / "conf" / "gateway.toml"
        file.parent.mkdir()
        shutil.copy(ROOT / "conf" / "gateway.toml", file)
        file.write_text(file.read_text().replace(BASE_URL, base_url) + host)
        return file


def demo_server(folder: Path, host: str = "") -> Server:
    """A gateway with the configuration that we ship. `host` is further lines of the host's section."""
    if not shutil.which("curl"):
        missing("the documents' examples need curl")
    return Server(Demo(folder), folder, host=host)  # type: ignore[arg-type]


def run_in_one_shell(scripts: list[str], server: Server) -> list[str]:
    """What each script printed. They share a shell, so that variables carry over; the first that fails is the last."""
    results = server.folder / "results"
    results.mkdir()
    lines = ["set -o pipefail"]
    for number, script in enumerate(scripts):
        out = results / str(number)
        lines.append(f"{{\n{script.replace(BASE_URL, server.url)}\n}} > {out} 2> {out}.err || exit 9")
    here = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", "\n".join(lines)], cwd=server.folder, timeout=300, check=False, env=here)
    printed = [path.read_text() for number in range(len(scripts)) if (path := results / str(number)).exists()]
    if done.returncode:
        errors = (results / f"{len(printed) - 1}.err").read_text()
        raise AssertionError(f"{scripts[len(printed) - 1]}\nfailed, having printed:\n{printed[-1]}{errors}")
    return printed


def like(shown: Any, real: Any) -> bool:
    """Whether an answer is what a document shows. "..." stands for anything, and for all that is not shown."""
    if shown == ANYTHING:
        return True
    if isinstance(shown, dict) and isinstance(real, dict):
        known = {key: value for key, value in shown.items() if key != ANYTHING}
        complete = ANYTHING in shown or known.keys() == real.keys()
        return complete and known.keys() <= real.keys() and all(like(known[key], real[key]) for key in known)
    if isinstance(shown, list) and isinstance(real, list):
        known_items = shown[:-1] if shown[-1:] == [ANYTHING] else shown
        complete = len(known_items) == len(real) or (shown != known_items and len(known_items) <= len(real))
        return complete and all(map(like, known_items, real))
    return bool(shown == real)
