"""What is measured: submit, get one, a page and the whole of a list of 10,000 jobs, at 1 and 16 clients; the
verification of a proxy, cold and warm; the memory of the workers. The gateway runs under gunicorn as `jobgate serve`
starts it, on this machine, and every request carries the proxy."""

import argparse
import json
import os
import platform
import re
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from sqlalchemy import insert, update

from gateway.auth.proxy import ProxyVerifier
from gateway.config import load_config
from gateway.model import JobState
from gateway.store import Database
from gateway.store.tables import events, jobs, scripts, tasks
from gateway.testing.certificates import Authority, header
from tests.bench import cluster
from tests.bench.clients import Load, Request, load
from tests.gateways import SUBJECTS, Server, World, until

POLL_INTERVAL = 0.5  # as in conf/gateway.toml
WORKERS = 2
FIRST_NATIVE_ID = 1_000_000
TASKS = 10_000
TASK_COUNTS = {"finished": TASKS - TASKS // 100, "failed": TASKS // 100}
ARRAY = f"/api/jobs/{FIRST_NATIVE_ID + 1}.localhost"
SCRIPT = "#!/bin/sh\nexit 0\n"
AIMS = {
    "get one": ("requests per second, 16 clients", lambda found: found.per_second(16), 500, True),
    "list, page of 100": ("p50 in ms, 1 client", lambda found: found.p50(1), 20, False),
    "tasks of 10,000, page of 100": ("p50 in ms, 1 client", lambda found: found.p50(1), 50, False),
    "proxy, cold": ("ms", lambda found: found.value, 3, False),
    "proxy, warm": ("ms", lambda found: found.value, 0.1, False),
    "submit over ssh, through the gateway": ("per second, 16 clients", lambda found: found.per_second(16), 100, True),
    "one submit over ssh": ("ms more than sbatch takes", lambda found: found.value, 12, False),
    "poll of 10,000 pending, all new": ("ms from asking to stored", lambda found: found.p50(1), 500, False),
    "poll of 10,000 pending, nothing new": ("ms from asking to stored", lambda found: found.p50(1), 500, False),
    "poll of an array of 10,000, all new": ("ms from asking to stored", lambda found: found.p50(1), 500, False),
    "poll of an array of 10,000, nothing new": ("ms from asking to stored", lambda found: found.p50(1), 500, False),
    "worker": ("MiB at most", lambda found: found.value, 120, False),
}


@dataclass
class Measured:
    """The figures of one line of the table: of a load, or `value` alone."""

    name: str
    loads: dict[int, Load] = field(default_factory=dict)
    memory: float | None = None
    value: float | None = None
    unit: str = ""

    def per_second(self, clients: int) -> float:
        return self.loads.get(clients, next(iter(self.loads.values()))).per_second

    def p50(self, clients: int) -> float:
        return self.loads.get(clients, next(iter(self.loads.values()))).percentile(50)

    def as_json(self) -> dict[str, Any]:
        if self.value is not None:
            return {"name": self.name, "value": self.value, "unit": self.unit}
        by_clients = {
            clients: {
                "requests": len(one.latencies),
                "per_second": round(one.per_second, 1),
                "p50_ms": round(one.percentile(50), 3),
                "p99_ms": round(one.percentile(99), 3),
                "answer_bytes": one.answer_bytes,
            }
            for clients, one in self.loads.items()
        }
        return {"name": self.name, "clients": by_clients, "worker_peak_mib": self.memory}


def main() -> None:
    options = _options()
    console = Console(highlight=False, width=100)
    before = os.getloadavg()
    with tempfile.TemporaryDirectory(prefix="jobgate-bench-") as folder:
        found = [*_proxies(options), *_http(options, Path(folder), console)]
    found += _cluster(options, console)
    aims = list(_aims(found))
    _print(console, found, aims)
    report = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "load_average": {"before": before, "after": os.getloadavg()},
        "workers": WORKERS,
        "jobs_in_the_table": options.jobs,
        "client_processes": options.clients,
        "seconds_each": options.seconds,
        "results": [one.as_json() for one in found],
        "aims": aims,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=1) + "\n")
    console.print(f"load average before {before[0]:.1f}, after {os.getloadavg()[0]:.1f}; written to {options.output}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000, help="jobs in the table")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each measurement")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16], help="clients at the same time")
    parser.add_argument("--output", type=Path, default=Path("var/bench.json"))
    parser.add_argument("--quick", action="store_true", help="little of everything: does it work?")
    options = parser.parse_args()
    if options.quick:
        options.jobs, options.seconds, options.clients = 200, 0.2, [1, 2]
    return options


# --- over HTTP --------------------------------------------------------------------------------------------------------


def _http(options: argparse.Namespace, folder: Path, console: Console) -> Iterator[Measured]:
    server = Server(World(folder), folder, workers=WORKERS)
    text = server.config.read_text()
    server.config.write_text(re.sub(r"poll_interval = [\d.]+", f"poll_interval = {POLL_INTERVAL}", text))
    fill(server.config, options.jobs)
    console.print(
        f"{platform.python_implementation()} {platform.python_version()}, {os.cpu_count()} CPUs, "
        f"gunicorn with {WORKERS} workers, {options.jobs:,} jobs in the table; each client is a process on this machine"
    )
    server.start()
    try:
        workers = Workers(server)
        peak = workers.peak()
        for name, request in requests(server):
            measured = Measured(name)
            workers.forget_peak()
            for clients in options.clients:
                load(server.port, request, clients, min(0.5, options.seconds))
                measured.loads[clients] = load(server.port, request, clients, options.seconds)
                console.print(f"  {name}, {clients} clients: {measured.loads[clients].per_second:,.0f} per second")
            measured.memory = workers.peak()
            if name != "whole list":
                peak = max(peak, measured.memory)
            if name.startswith("submit"):
                settle(server)
            yield measured
    finally:
        server.stop(signal.SIGTERM)
    yield Measured("worker", value=peak, unit="MiB at most, whole lists left aside")


def requests(server: Server) -> list[tuple[str, Request]]:
    proxy = server.world.headers["ann"]
    body = {"host": "localhost", "script": SCRIPT}

    def submit(**more: Any) -> Request:
        return Request("POST", "/api/jobs", proxy, json.dumps({**body, **more}).encode(), 201)

    return [
        ("get one", Request("GET", f"/api/jobs/{FIRST_NATIVE_ID + 1}.localhost", proxy)),
        ("list, page of 100", Request("GET", "/api/jobs?limit=100", proxy)),
        ("submit, held", submit(hold=True)),
        ("submit, and it runs", submit()),
        ("tasks of 10,000, page of 100", Request("GET", f"{ARRAY}/tasks?limit=100&cursor=5000", proxy)),
        ("tasks of 10,000, failed ones", Request("GET", f"{ARRAY}/tasks?status=ERROR", proxy)),
        ("whole list", Request("GET", "/api/jobs", proxy)),
    ]


def fill(config: Path, count: int) -> None:
    """So many finished jobs of Ann's, each with its script and history."""
    database = Database(load_config(config).gateway.database)
    database.migrate()
    numbers = range(1, count + 1)
    with database.writing() as connection:
        connection.execute(insert(jobs), [_job(number) for number in numbers])
        connection.execute(insert(scripts), [{"number": number, "script": SCRIPT} for number in numbers])
        connection.execute(insert(events), [event for number in numbers for event in _events(number)])
        connection.execute(update(jobs).where(jobs.c.number == 1).values(array=f"1-{TASKS}", task_counts=TASK_COUNTS))
        connection.execute(insert(tasks), [_task(number) for number in range(1, TASKS + 1)])
    database.close()


def _task(number: int) -> dict[str, Any]:
    state = JobState.FAILED if number % 100 == 0 else JobState.FINISHED
    begin = _begin(number)
    return {
        "number": 1,
        "task_id": number,
        "state": state,
        "start_time": begin,
        "end_time": begin + timedelta(minutes=7),
    }


def _job(number: int) -> dict[str, Any]:
    begin, native_id = _begin(number), str(FIRST_NATIVE_ID + number)
    return {
        "number": number,
        "uuid": str(uuid.uuid4()),
        "job_id": f"{native_id}.localhost",
        "native_id": native_id,
        "owner": SUBJECTS["ann"],
        "account": "ann",
        "host": "localhost",
        "name": "simulation",
        "tag": f"group-{number % 20}",
        "state": JobState.FINISHED,
        "native_state": "finished",
        "exit_code": 0,
        "stale": False,
        "as_of": begin + timedelta(minutes=7),
        "created_at": begin,
        "updated_at": begin + timedelta(minutes=7),
        "submitted_at": begin,
        "start_time": begin + timedelta(minutes=1),
        "end_time": begin + timedelta(minutes=7),
        "nodes": 1,
        "cores": 1,
        "working_directory": "/home/ann/runs",
        "stdout_file": f"/home/ann/runs/simulation.o{native_id}",
        "stderr_file": f"/home/ann/runs/simulation.e{native_id}",
        "extended_properties": {},
        "request": {},
        "warnings": [],
    }


def _events(number: int) -> list[dict[str, Any]]:
    states = ["submitting", "queued", "running", "finished"]
    return [
        {"number": number, "at": _begin(number), "state": state, "before": before}
        for before, state in zip([None, *states[:-1]], states, strict=True)
    ]


def _begin(number: int) -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number)


def settle(server: Server) -> None:
    """Wait until nothing is queued or runs; what is held is deleted with the folder."""
    live = "/api/jobs?state=queued&state=running&state=completing&limit=1"
    until(lambda: server.call("GET", live).json() == [], "the jobs did not come to their end", 300)


class Workers:
    """The worker processes of a gateway."""

    def __init__(self, server: Server) -> None:
        assert server.process
        master = server.process.pid
        children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
        self.folders = [Path("/proc") / pid for pid in children]

    def forget_peak(self) -> None:
        for folder in self.folders:
            (folder / "clear_refs").write_text("5")  # proc(5): resets VmHWM to what is in use now

    def peak(self) -> float:
        """MiB of the largest worker, since the last `forget_peak`."""
        texts = [(folder / "status").read_text() for folder in self.folders]
        return round(max(int(re.search(r"VmHWM:\s+(\d+) kB", text)[1]) for text in texts) / 1024, 1)  # type: ignore[index]


# --- on the real cluster ----------------------------------------------------------------------------------------------


def _cluster(options: argparse.Namespace, console: Console) -> Iterator[Measured]:
    there = None if options.quick else cluster.running()
    if there is None:
        console.print("the test cluster does not run, so it is left out (make cluster-up)")
        return
    for name, loads in cluster.measure(there, options.clients, options.seconds, console):
        yield Measured(name, loads)


def over_sbatch(through: Measured, sbatch: Measured) -> float:
    """What one submit takes more than sbatch itself, in ms."""
    return through.p50(1) - sbatch.p50(1)


# --- the verification of a proxy --------------------------------------------------------------------------------------


def _proxies(options: argparse.Namespace) -> Iterator[Measured]:
    """In this process, through the class that the gateway uses, with a CRL and a signing policy to obey."""
    authority = Authority.create("/C=PL/O=Bench/CN=CA")
    pem = authority.issue("/C=PL/O=Bench/CN=Ann").proxy().pem()
    count = 20 if options.quick else 500
    with tempfile.TemporaryDirectory(prefix="jobgate-bench-") as folder:
        authority.install(Path(folder), crl=authority.crl(), signing_policy="/C=PL/O=Bench/*")
        verifier = ProxyVerifier(Path(folder), require_crl=True)
        verifier.verify(header(pem))
        # Each with another number of empty lines at its end: to the gateway, headers that it has never seen.
        unseen = iter([header(pem + b"\n" * number) for number in range(1, count + 1)])
        yield Measured("proxy, cold", value=_median(lambda: verifier.verify(next(unseen)), count), unit="ms")
        known = header(pem)
        yield Measured("proxy, warm", value=_median(lambda: verifier.verify(known), count), unit="ms")


def _median(call: Callable[[], object], count: int) -> float:
    """Milliseconds of CPU and waiting that one call takes."""
    taken = []
    for _ in range(count):
        begin = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begin)
    return round(1000 * sorted(taken)[count // 2], 4)


# --- what is said of it -----------------------------------------------------------------------------------------------


def _aims(found: list[Measured]) -> Iterator[dict[str, Any]]:
    by_name = {one.name: one for one in found}
    through, sbatch = (
        by_name.get(name) for name in ("submit over ssh, through the gateway", "submit, sbatch on the cluster")
    )
    if through and sbatch and {1, 16} <= through.loads.keys():
        by_name["one submit over ssh"] = Measured("", value=over_sbatch(through, sbatch))
    for name, (words, figure, aim, at_least) in AIMS.items():
        if name not in by_name:
            continue
        value = round(figure(by_name[name]), 3)
        met = value >= aim if at_least else value < aim
        yield {"name": name, "of": words, "aim": f"{'>=' if at_least else '<'} {aim}", "measured": value, "met": met}


def _print(console: Console, found: list[Measured], aims: list[dict[str, Any]]) -> None:
    table = Table("request", "clients", "per second", "p50 ms", "p99 ms", "bytes", "worker's peak MiB")
    for column in table.columns[1:]:
        column.justify = "right"
    for one in found:
        for clients, measured in one.loads.items():
            figures = (measured.per_second, measured.percentile(50), measured.percentile(99))
            cells = [f"{figures[0]:,.0f}", f"{figures[1]:.1f}", f"{figures[2]:.1f}", f"{measured.answer_bytes:,}"]
            table.add_row(one.name, str(clients), *cells, f"{one.memory:.0f}" if one.memory else "")
    console.print(table)
    for one in found:
        if one.value is not None:
            console.print(f"{one.name}: {one.value:g} {one.unit}")
    for aim in aims:
        word = "met" if aim["met"] else "[red]missed[/red]"
        console.print(f"aim {word}: {aim['name']}, {aim['of']} {aim['aim']}: {aim['measured']:g}")
    sys.stdout.flush()
