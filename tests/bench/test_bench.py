"""`make bench` works, and writes what it prints."""

import json
import subprocess
import sys
from pathlib import Path


def test_quick(tmp_path: Path) -> None:
    output = tmp_path / "bench.json"
    command = [sys.executable, "tests/bench/run.py", "--quick", "--output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(output.read_text())
    names = ["proxy, cold", "proxy, warm", "get one", "list, page of 100", "submit, held", "submit, and it runs"]
    names += ["tasks of 10,000, page of 100", "tasks of 10,000, failed ones"]
    assert [result["name"] for result in report["results"]] == [*names, "whole list", "worker"]
    for result in report["results"][2:-1]:
        assert set(result["clients"]) == {"1", "2"}
        assert all(figures["requests"] > 0 and figures["p50_ms"] > 0 for figures in result["clients"].values())
        assert result["name"] in done.stdout
    assert len(report["aims"]) == 6
