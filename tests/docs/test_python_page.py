"""The examples of docs/python.md run, in their order, and print what stands below them."""

import subprocess
import sys
from pathlib import Path

from tests.docs.pages import BASE_URL, ROOT, blocks, demo_server
from tests.docs.test_examples import compare

PAGE = ROOT / "docs" / "python.md"
END = "-- the end of an example --"


def test_the_examples_run(tmp_path: Path) -> None:
    shown = [block for block in blocks(PAGE) if block.language in ("python", "text")]
    code = f"\nprint({END!r}, flush=True)\n".join(block.text for block in shown if block.language == "python")
    with demo_server(tmp_path) as server:
        proxy = tmp_path / "var" / "demo" / "proxy.pem"
        here = {
            "HOME": str(tmp_path),
            "JOBGATE_URL": server.url,
            "X509_USER_PROXY": str(proxy),
            "PATH": "/usr/bin:/bin",
        }
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env=here,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    printed = done.stdout.split(f"{END}\n")
    answers = [block for block in shown if block.language == "text"]
    assert len(printed) == len(answers) == len(shown) / 2
    for answer, output in zip(answers, printed, strict=True):
        compare(PAGE, answer, output.replace(server.url, BASE_URL))
