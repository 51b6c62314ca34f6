"""Schedulers that answer garbage, half an answer, nothing, words that nobody knows, or have forgotten a job."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.fixture import Cluster
from tests.faults.crowd import Job
from tests.faults.site import BACKENDS, LOCAL, LONG, Site, jobs_in_all, site
from tests.gateways import until

ASKED = ("squeue", "qstat", "condor_q")
EMPTY = "<?xml version='1.0'?><job_info><queue_info></queue_info><job_info></job_info></job_info>"
# Each fault as what a program does instead; "$real" is the program itself.
BROKEN = {
    "garbage": "printf '\\000\\377<<|{ not the truth\\n'",
    "half": 'said=$("$real" "$@"); printf %s "${said%?????}"',
    "failing": "echo 'slurm_load_jobs error: Something unheard of' >&2; exit 1",
}
if LONG:
    BROKEN["silent"] = "exec sleep 90"
LIE_SECONDS = 60 if LONG else 5
STRANGE = {
    "squeue": '"$real" "$@" | sed \'s/RUNNING/LEVITATING/\'',
    "qstat": '"$real" "$@" | sed \'s#<state>[a-z]*r</state>#<state>Y</state>#\'',
    "condor_q": '"$real" "$@" | sed \'s/"JobStatus": 2/"JobStatus": 42/\'',
}
FORGETFUL = {"squeue": ":", "sacct": ":", "qstat": f'echo "{EMPTY}"', "condor_q": ":"}


@contextmanager
def instead(cluster: Cluster, programs: dict[str, str]) -> Iterator[None]:
    """These programs do something else, for everybody on the cluster."""
    files = {cluster.root / "usr/local/bin" / name: body for name, body in programs.items()}
    try:
        for file, body in files.items():
            fresh = file.with_suffix(".new")
            fresh.write_text(f"#!/bin/sh\nreal=/usr/bin/{file.name}\n{body}\n")
            fresh.chmod(0o755)
            fresh.replace(file)
        yield
    finally:
        for file in files:
            file.unlink(missing_ok=True)


def healthy(here: Site, host: str) -> bool:
    return bool(here.server.call("GET", f"/api/hosts/{host}").json()["health"]["ok"])


def told(here: Site, job: dict[str, Any]) -> dict[str, Any]:
    now: dict[str, Any] = here.server.call("GET", f"/api/jobs/{job['job_id']}").json()
    return now


@pytest.fixture
def running(cluster_alone: Cluster, tmp_path: Path) -> Iterator[tuple[Site, list[dict[str, Any]]]]:
    """A job that runs on each host until somebody touches `go`."""
    with site(tmp_path, cluster_alone) as here:
        jobs = []
        for wish in here.wishes(list(BACKENDS), 1):
            script = f"{wish.body['script']}while [ ! -e {here.inner}/go ]; do sleep 0.2; done\n"
            jobs.append(here.server.submit(script, **{k: v for k, v in wish.body.items() if k != "script"}))
        until(lambda: all(told(here, job)["status"] == "RUNNING" for job in jobs), "they do not run")
        yield here, jobs
        (here.outer / "go").touch()  # also for what a test that failed has left


def facts(here: Site, jobs: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    names = ("status", "state", "native_state", "exit_code", "start_time")
    return [tuple(told(here, job)[name] for name in names) for job in jobs]


def still(here: Site, jobs: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Their facts, when all that belongs to a job that runs is known."""

    def known() -> list[tuple[Any, ...]] | None:
        found = facts(here, jobs)
        return found if all(fact[1] == "running" and fact[-1] for fact in found) else None

    found: list[tuple[Any, ...]] = until(known)
    return found


def test_nonsense(
    request: pytest.FixtureRequest, running: tuple[Site, list[dict[str, Any]]], cluster_alone: Cluster
) -> None:
    here, jobs = running
    before = still(here, jobs)
    for name, body in BROKEN.items():
        with instead(cluster_alone, dict.fromkeys(ASKED, body)):
            for host in BACKENDS:
                until(lambda host=host: not healthy(here, host), f"{host} is healthy in spite of {name}")
            assert facts(here, jobs) == before, name
            begin = time.monotonic()
            here.server.ended(here.server.submit(host=LOCAL)["job_id"])
            assert time.monotonic() - begin < 30  # nobody else is held up
        for host in BACKENDS:
            until(lambda host=host: healthy(here, host), f"{host} does not recover from {name}")
    with instead(cluster_alone, STRANGE):
        for job in jobs:
            until(lambda job=job: told(here, job)["state"] == "unknown", f"{job['host']}: the word is not unknown")
        words = [told(here, job) for job in jobs]
        assert {job["status"] for job in words} == {"RUNNING"}
        assert not {job["native_state"] for job in words} & {fact[2] for fact in before}
    until(lambda: facts(here, jobs) == before, "still unknown")
    with instead(cluster_alone, FORGETFUL):
        for job in jobs:
            until(lambda job=job: told(here, job)["stale"], f"{job['host']}: not stale")
        assert facts(here, jobs) == before
        assert all(healthy(here, host) for host in BACKENDS)
    for job in jobs:
        until(lambda job=job: not told(here, job)["stale"], f"{job['host']}: still stale")
    (here.outer / "go").touch()
    ended = [here.server.ended(job["job_id"]) for job in jobs]
    assert {(job["status"], job["exit_code"]) for job in ended} == {("FINISHED", 0)}
    (here.outer / "go").unlink()
    known = [Job(job["name"], job["host"], job["job_id"].removesuffix(f".{job['host']}"), job["uuid"]) for job in jobs]
    here.report(request, "scheduler lies about jobs", known)


def test_submits_meanwhile(
    request: pytest.FixtureRequest, cluster_alone: Cluster, others_again: Callable[[], None], tmp_path: Path
) -> None:
    """One fault after the other, each for a minute, while sixteen clients submit."""
    with site(tmp_path, cluster_alone) as here:
        with here.crowd(here.wishes(list(BACKENDS), jobs_in_all(40))) as crowd:
            for number, body in enumerate(BROKEN.values(), 1):
                crowd.wait_for(0.8 * number / len(BROKEN))
                with instead(cluster_alone, dict.fromkeys(ASKED, body)):
                    time.sleep(LIE_SECONDS)  # how long it lasts is the fault itself
            others_again()
        here.settled()
        here.report(request, "scheduler lies", crowd.jobs)
