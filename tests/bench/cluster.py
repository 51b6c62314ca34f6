"""What is measured on the real cluster, in the same run: submitting through the gateway over ssh, against sbatch on the
cluster itself and against slurmrestd; getting, listing and polling with 1,000 and 10,000 jobs pending."""

import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from sqlalchemy import insert, update

from gateway.app import create_app
from gateway.config import load_config
from gateway.model import JobState
from gateway.store import now
from gateway.store.tables import hosts, jobs, tasks
from tests.bench.clients import Load, Request, load
from tests.cluster.fixture import Cluster, attach
from tests.gateways import SUBJECTS, Server, World
from tests.test_clusters import host_section

HOST = "slurm.example.org"
NAME = "jobgate-bench"
SCRIPT = "#!/bin/sh\nexit 0\n"
PENDING = (1_000, 10_000)
REST = "/slurm/v0.0.41/job/submit"

# Runs inside the cluster, as the user: so many clients, each calling sbatch again and again.
SBATCH = """
import json, subprocess, sys, threading, time
clients, seconds, latencies = int(sys.argv[1]), float(sys.argv[2]), []
command = ["sbatch", "--parsable", "--partition=closed", "--job-name=jobgate-bench", "--output=/dev/null"]
def run():
    while time.monotonic() < end:
        begin = time.monotonic()
        subprocess.run(command, input=b"#!/bin/sh\\n", stdout=subprocess.DEVNULL, check=True)
        latencies.append(time.monotonic() - begin)
begin = time.monotonic()
end = begin + seconds
threads = [threading.Thread(target=run) for _ in range(clients)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(json.dumps([latencies, time.monotonic() - begin]))
"""
FILL = (
    'seq "$1" | xargs -P 8 -n 50 sh -c \''
    'for j do printf "#!/bin/sh\\n" | sbatch --parsable --hold -p closed -J jobgate-bench -o /dev/null; done\' sh'
)


def running() -> Cluster | None:
    """The test cluster, if it is up."""
    try:
        return attach()
    except Exception:
        return None


def measure(cluster: Cluster, clients: list[int], seconds: float, console: Console) -> Iterator[tuple[str, dict]]:
    """Pairs of a name and, by number of clients, a Load; polls come as ("poll, ...", {1: Load})."""
    with tempfile.TemporaryDirectory(prefix="jobgate-bench-") as name:
        folder = Path(name)
        world = World(folder, {"ann": "alice", "bob": "bob", "carol": "carol"})
        try:
            with Server(world, folder, host=host_section("slurm", HOST, cluster)) as server:
                yield from _submits(server, cluster, clients, seconds, console)
            for count in PENDING:
                yield from _pending(folder, server, cluster, count, seconds, console)
            yield from _array(server, cluster)
        finally:
            cluster.enter("root", ["scancel", f"--name={NAME}"], timeout=300)


def _submits(
    server: Server, cluster: Cluster, clients: list[int], seconds: float, console: Console
) -> Iterator[tuple[str, dict]]:
    body = {"host": HOST, "script": SCRIPT, "queue": "closed", "name": NAME, "working_directory": "/tmp"}
    ours = Request("POST", "/api/jobs", server.world.headers["ann"], json.dumps(body).encode(), 201)
    token = cluster.rest_token("alice")
    headers = {"X-SLURM-USER-NAME": "alice", "X-SLURM-USER-TOKEN": token, "Content-Type": "application/json"}
    job = {"partition": "closed", "name": NAME, "current_working_directory": "/tmp", "environment": ["PATH=/bin"]}
    rest = Request("POST", REST, headers, json.dumps({"script": SCRIPT, "job": job}).encode())
    ways = {
        "submit over ssh, through the gateway": lambda n: load(server.port, ours, n, seconds),
        "submit, sbatch on the cluster": lambda n: _sbatch(cluster, n, seconds),
        "submit, slurmrestd": lambda n: load(cluster.rest_port, rest, n, seconds),
    }
    for name, run in ways.items():
        loads = {}
        for count in clients:
            loads[count] = run(count)
            console.print(f"  {name}, {count} clients: {loads[count].per_second:,.0f} per second")
        yield name, loads


def _sbatch(cluster: Cluster, clients: int, seconds: float) -> Load:
    printed = cluster.enter("alice", ["python3", "-c", SBATCH, str(clients), str(seconds)], timeout=seconds + 60)
    latencies, taken = json.loads(printed)
    return Load(latencies, taken, 0)


def _pending(
    folder: Path, server: Server, cluster: Cluster, count: int, seconds: float, console: Console
) -> Iterator[tuple[str, dict]]:
    """So many jobs that wait in Slurm and stand in the table: a poll of them all, then getting and listing."""
    cluster.enter("root", ["scancel", f"--name={NAME}"], timeout=300)
    ids = cluster.enter("alice", ["sh", "-c", FILL, "sh", str(count)], timeout=600).split()
    server.config.write_text(server.config.read_text().replace("ticker = false", ""))
    app = create_app(load_config(server.config))
    services = app.extensions["jobgate"]
    with services.database.writing() as connection:
        connection.execute(jobs.delete())
        connection.execute(insert(jobs), [_row(native_id) for native_id in ids])
    yield f"poll of {count:,} pending, all new", {1: _poll(services)}
    yield f"poll of {count:,} pending, nothing new", {1: _poll(services)}
    services.hosts.close()
    services.database.close()
    server.start()
    try:
        one = Request("GET", f"/api/jobs/{ids[0]}.{HOST}", server.world.headers["ann"])
        page = Request("GET", "/api/jobs?limit=100", server.world.headers["ann"])
        for name, request in (("get one", one), ("list, page of 100", page)):
            yield f"{name}, {count:,} pending", {n: load(server.port, request, n, seconds) for n in (1, 16)}
            console.print(f"  {name}, {count:,} pending: measured")
    finally:
        server.__exit__()


def _array(server: Server, cluster: Cluster) -> Iterator[tuple[str, dict]]:
    """One array of 10,000 tasks that wait in Slurm; in the table they have not been heard of yet."""
    cluster.enter("root", ["scancel", f"--name={NAME}"], timeout=300)
    fill = 'printf "#!/bin/sh\\n" | sbatch --parsable -a 1-10000 --hold -p closed -J "$1" -o /dev/null'
    native_id = cluster.enter("alice", ["sh", "-c", fill, "sh", NAME]).strip()
    app = create_app(load_config(server.config))
    services = app.extensions["jobgate"]
    with services.database.writing() as connection:
        connection.execute(jobs.delete())
        number = connection.execute(insert(jobs).returning(jobs.c.number), _row(native_id) | ARRAY).scalar_one()
        waiting = {"number": number, "state": JobState.QUEUED}
        connection.execute(insert(tasks), [{**waiting, "task_id": task} for task in range(1, 10_001)])
    yield "poll of an array of 10,000, all new", {1: _poll(services)}
    yield "poll of an array of 10,000, nothing new", {1: _poll(services)}
    services.hosts.close()
    services.database.close()


ARRAY = {"array": "1-10000", "task_counts": {"queued": 10_000}}


def _poll(services: Any) -> Load:
    """From asking the scheduler to having stored what it said."""
    host = services.hosts.by_name[HOST]
    with services.database.writing() as connection:
        connection.execute(update(hosts).values(next_poll=0.0))  # due again
    begin = time.perf_counter()
    words = services.ticker.sync.refresh(host)
    taken = time.perf_counter() - begin
    if words != "ok":
        raise RuntimeError(f"the poll failed: {words}")
    return Load([taken], taken, 0)


def _row(native_id: str) -> dict[str, Any]:
    at = now()
    return {
        "uuid": f"00000000-0000-4000-8000-{int(native_id):012}",
        "job_id": f"{native_id}.{HOST}",
        "native_id": native_id,
        "owner": SUBJECTS["ann"],
        "account": "alice",
        "host": HOST,
        "name": NAME,
        "state": JobState.QUEUED,
        "stale": False,
        "as_of": at,
        "created_at": at,
        "updated_at": at,
        "submitted_at": at,
        "working_directory": "/tmp",
        "extended_properties": {},
        "request": {},
        "warnings": [],
    }
