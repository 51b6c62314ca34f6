"""The whole way on the real cluster: HTTP, ssh as the mapped account, Slurm, Grid Engine, HTCondor, and back."""

import io
import json
import subprocess
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.cluster.fixture import Cluster, _turn_on_the_cluster, cluster, cluster_alone
from tests.gateways import Server, World, error, until
from tests.test_bundles import member, tar

__all__ = ["_turn_on_the_cluster", "cluster", "cluster_alone"]

HOSTS = {
    "slurm": "slurm.example.org",
    "gridengine": "ge.example.org",
    "htcondor": "condor.example.org",
}
GRANT = {"slurm": "#SBATCH -A physics\\n", "gridengine": "", "htcondor": ""}


def host_section(backend: str, name: str, cluster: Cluster, *, operator: bool = True, more: str = "") -> str:
    """The configuration of one host of the real cluster, as docs/clusters.md has it."""
    return f"""
        [hosts."{name}"]
        backend = "{backend}"
        transport = "ssh"
        poll_interval = 1
        {'operator = "jobgate"' if operator else ""}
        {more}
          [hosts."{name}".ssh]
          hostname = "127.0.0.1"
          port = {cluster.ssh_port}
          known_hosts = "{cluster.known_hosts}"
          host_key_alias = "{cluster.host_key_alias}"
          user_ca_key = "{cluster.user_ca_key}"
        """


@pytest.fixture(scope="module")
def site(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A gateway in front of all three schedulers: ann is alice there, bob is bob."""
    folder = tmp_path_factory.mktemp("site")
    world = World(folder, {"ann": "alice", "bob": "bob,alice2", "carol": "carol"})
    hosts = [host_section(backend, name, cluster) for backend, name in HOSTS.items()]
    hosts.append(host_section("slurm", "nobody.example.org", cluster, operator=False))
    with Server(world, folder, host="\n".join(hosts)) as server:
        yield server


def curl(server: Server, *arguments: str, user: str = "ann") -> tuple[int, str]:
    """curl as the seed's sample calls have it: `-k`, two headers, the URL last."""
    header = f"PROXY:{server.world.headers[user]['PROXY']}"
    command = ["curl", "-sk", "-w", "\n%{http_code}", "--header", header, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    body, _, code = done.stdout.rpartition("\n")
    return int(code), body


@pytest.mark.parametrize("backend", HOSTS)
def test_the_seeds_calls(site: Server, backend: str) -> None:
    url = f"{site.url}/api/jobs"
    script = rf"#!/bin/bash\n{GRANT[backend]}echo hello\nexit 0"
    body = f'{{"host":"{HOSTS[backend]}", "script":"{script}"}}'
    json_type = ("--header", "Content-Type:application/json")

    code, answer = curl(site, "-X", "POST", "--data", body, *json_type, url)
    assert code == 201, answer
    job = json.loads(answer)
    assert job["status"] in ("QUEUED", "RUNNING")
    assert job["job_id"].endswith(f".{HOSTS[backend]}")
    one = f"{url}/{job['job_id']}"

    for call in (("-X", "GET", one), ("-X", "DELETE", one), ("-X", "PUT", "--data", '{"action":"abort"}', one)):
        code, answer = curl(site, *call, user="bob")
        assert (code, json.loads(answer)["error_message"]) == (404, f"Job with {job['job_id']} not found")
    assert json.loads(curl(site, "-X", "GET", url, user="bob")[1]) == []

    ended = until(lambda: _ended(site, one), "the job did not end", 120)
    assert (ended["status"], ended["exit_code"]) == ("FINISHED", 0), ended
    for field in ("nodes", "cores", "start_time", "end_time", "wall_time", "queue_time"):
        assert isinstance(ended[field], str), ended
    listed = json.loads(curl(site, "-X", "GET", url)[1])
    assert job["job_id"] in [other["job_id"] for other in listed]
    assert curl(site, ended["stdout_path"]) == (200, "hello\n")
    assert curl(site, ended["stdout_path"], user="bob")[0] == 404

    code, answer = curl(site, "-X", "POST", "--data", body.replace("echo hello", "sleep 600"), *json_type, url)
    sleeping = f"{url}/{json.loads(answer)['job_id']}"
    code, answer = curl(site, "-X", "PUT", "--data", '{"action":"abort"}', *json_type, sleeping)
    assert (code, answer) == (204, "")
    assert until(lambda: _ended(site, sleeping), "the job was not aborted", 60)["status"] == "ABORTED"
    assert curl(site, "-X", "DELETE", one) == (204, "")
    assert curl(site, "-X", "GET", one)[0] == 404


@pytest.mark.parametrize("backend", HOSTS)
def test_a_job_that_never_started_is_aborted(site: Server, backend: str) -> None:
    """Grid Engine keeps no record of it."""
    job = site.submit(host=HOSTS[backend], hold=True)
    path = f"/api/jobs/{job['job_id']}"
    assert site.call("PUT", path, json={"action": "abort"}).status_code == 204
    assert site.ended(job["job_id"])["status"] == "ABORTED"
    assert site.call("PUT", path, json={"action": "abort"}).status_code == 409
    assert site.call("DELETE", path).status_code == 204


def _ended(site: Server, url: str) -> dict | None:
    job = json.loads(curl(site, "-X", "GET", url)[1])
    return job if job["status"] in ("FINISHED", "ERROR", "ABORTED") else None


@pytest.mark.parametrize("backend", HOSTS)
def test_500_jobs_of_16_clients(site: Server, cluster: Cluster, backend: str) -> None:
    """500 times 201, and 500 jobs in the scheduler."""
    tag = f"crowd-{backend}"
    body = {
        "host": HOSTS[backend],
        "script": "#!/bin/sh\n",
        "hold": True,
        "tag": tag,
        "working_directory": "/tmp/crowd",
    }
    site.call("POST", "/api/jobs", json={**body, "hold": False, "tag": "warm"})

    def submit(_: int) -> tuple[int, str]:
        answer = site.call("POST", "/api/jobs", json=body)
        return answer.status_code, answer.text

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(submit, range(500)))
    assert [text for code, text in answers if code != 201] == []
    uuids = {json.loads(text)["uuid"] for _, text in answers}
    assert len(uuids) == len({json.loads(text)["job_id"] for _, text in answers}) == 500
    try:
        assert uuids <= _uuids_in(cluster, backend)
        assert len(site.call("GET", f"/api/jobs?tag={tag}&format=short").json()) == 500
    finally:
        _remove(
            cluster, backend, [json.loads(text)["job_id"].removesuffix(f".{HOSTS[backend]}") for _, text in answers]
        )


def _uuids_in(cluster: Cluster, backend: str) -> set[str]:
    """What the scheduler itself says."""
    ask = {
        "slurm": ["squeue", "-h", "-o", "%k"],
        "gridengine": ["sh", "-c", "qstat -j '*' | grep ^account:"],
        "htcondor": ["condor_q", "-af", "JobgateId"],
    }
    text = cluster.enter("alice", ask[backend])
    return {word for word in text.replace("<", " ").replace(">", " ").split() if word.count("-") == 4}


def _remove(cluster: Cluster, backend: str, ids: list[str]) -> None:
    tool = {"slurm": "scancel", "gridengine": "qdel", "htcondor": "condor_rm"}[backend]
    separator = {"slurm": " ", "gridengine": ",", "htcondor": " "}[backend]
    subprocess.run(
        [Path("tests/cluster/cluster"), "enter", "-u", "alice", tool, *separator.join(ids).split()],
        check=True,
        capture_output=True,
    )


@pytest.mark.parametrize("backend", HOSTS)
def test_a_host_tells_of_itself(site: Server, backend: str) -> None:
    def known() -> dict | None:
        host = site.call("GET", f"/api/hosts/{HOSTS[backend]}").json()
        return host if host["as_of"] else None

    host = until(known, "nobody asked the host", 60)
    assert host["backend"] == backend
    assert host["version"]
    assert host["health"]["ok"]
    assert host["health"]["last_success"]
    assert sum(host["nodes"].values()) >= 1
    assert "abort" in host["capabilities"]["actions"]
    if backend != "htcondor":
        queue = next(queue for queue in host["queues"] if queue["name"].startswith("short"))
        assert queue["wall_time"] == 600


@pytest.mark.parametrize(
    ("backend", "field"), [("slurm", "queue"), ("gridengine", "queue"), ("slurm", "memory"), ("htcondor", "script")]
)
def test_the_scheduler_refuses(site: Server, backend: str, field: str) -> None:
    wrong = {"queue": "nosuchqueue", "memory": "900TiB", "script": "neither script nor description"}[field]
    body = {"host": HOSTS[backend], "script": "#!/bin/sh\n", field: wrong}
    answer = site.call("POST", "/api/jobs", json=body)
    said = error(answer)
    assert (answer.status_code, said["code"]) == (422, "refused_by_scheduler")
    assert said["error_message"]
    if field != "script":
        assert said["error_output"]
        assert said["exit_code"] not in (0, -1)


def test_nothing_contradicts_silently(site: Server) -> None:
    script = "#!/bin/sh\n#SBATCH --time=00:05:00\n#SBATCH -p short\nsleep 1\n"
    job = site.submit(script, host=HOSTS["slurm"], wall_time="01:00:00", queue="batch")
    assert len(job["warnings"]) == 2
    assert any("--time=00:05:00" in words for words in job["warnings"])
    assert until(lambda: _ended(site, f"{site.url}/api/jobs/{job['job_id']}"))["queue"] == "batch"


def test_an_account_that_the_host_does_not_have(site: Server) -> None:
    answer = site.call("POST", "/api/jobs", user="carol", json={"host": HOSTS["slurm"], "script": "#!/bin/sh\n"})
    assert answer.status_code == 403
    assert "carol" in error(answer)["error_message"]


def test_without_an_operator_each_account_is_asked_for(site: Server) -> None:
    for user in ("ann", "bob"):
        job = site.submit("#!/bin/sh\nexit 3\n", host="nobody.example.org", user=user)
        ended = until(
            lambda job=job, user=user: (
                (now := site.call("GET", f"/api/jobs/{job['job_id']}", user=user).json())["status"] == "ERROR" and now
            ),
            seconds=90,
        )
        assert ended["exit_code"] == 3


def test_sshds_log_tells_who_it_was(site: Server, cluster: Cluster) -> None:
    """The certificate's key id has the subject and the request that opened the connection."""
    assert "/C=PL/O=Jobgate Tests/CN=Ann request=" in cluster.sshd_log()


def test_check(site: Server) -> None:
    done = subprocess.run(
        [".venv/bin/jobgate", "check", "--config", str(site.config)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "slurm-wlm" in done.stdout


def test_check_says_what_is_wrong_with_a_host(cluster: Cluster, tmp_path: Path) -> None:
    wrong = host_section("slurm", "far.example.org", cluster).replace(f"port = {cluster.ssh_port}", "port = 1")
    stranger = host_section("slurm", "stranger.example.org", cluster)
    stranger = stranger.replace(f'host_key_alias = "{cluster.host_key_alias}"', 'host_key_alias = "other"')
    config = World(tmp_path).config(tmp_path, "http://x", wrong + stranger)
    done = subprocess.run(
        [".venv/bin/jobgate", "check", "--config", str(config)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "host far.example.org" in done.stdout
    assert "known_hosts" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("backend", HOSTS)
def test_a_short_command(site: Server, cluster: Cluster, backend: str) -> None:
    def run(command: str, user: str = "ann", **more: str) -> httpx.Response:
        return site.call("POST", "/api/process", json={"host": HOSTS[backend], "command": command, **more}, user=user)

    answer = run("id -un; pwd; echo err >&2; exit 3", working_directory="/tmp")
    assert answer.json() == {
        "status": "OK",
        "exit_code": 3,
        "standard_output": "alice\n/tmp\n",
        "error_output": "err\n",
        "error_message": None,
    }
    assert run("id -un", user="bob").json()["standard_output"] == "bob\n"
    mark = f"600.{time.time_ns()}"
    answer = run(f"echo part; trap '' TERM; (trap '' TERM; exec sleep {mark}) & wait")
    assert (answer.status_code, error(answer)["standard_output"]) == (408, "part\n")
    until(lambda: mark not in cluster.enter("root", ["ps", "-eo", "args"]))


BUNDLE = b"""#!/bin/sh
cat "$JOBGATE_INPUT/in.txt" > "$JOBGATE_OUTPUT/result"
printf '%s|' "$@"
[ "$(pwd -P)" = "$(cd "$JOBGATE_JOB/bundle" && pwd -P)" ] && touch "$JOBGATE_SCRATCH/there" && cat data
"""


@pytest.mark.parametrize("backend", HOSTS)
def test_a_bundle_with_inputs(site: Server, cluster: Cluster, backend: str) -> None:
    job = {"host": HOSTS[backend], "arguments": ["one two", "it's\n#$ -N y\n#SBATCH -p x"], "environment": {"A": "b c"}}
    files = {"bundle": ("b.tar.gz", tar(member("data", b"DATA\n"), run=BUNDLE).getvalue()), "inputs": ("in.txt", b"IN")}
    answer = site.call("POST", "/api/jobs", data={"job": json.dumps(job)}, files=files)
    assert answer.status_code == 201, answer.text
    one = f"{site.url}/api/jobs/{answer.json()['job_id']}"
    ended = until(lambda: _ended(site, one), "the job did not end", 120)
    assert (ended["status"], ended["exit_code"]) == ("FINISHED", 0), site.call("GET", f"{one}/stderr").text
    assert site.call("GET", f"{one}/stdout").text == "one two|it's\n#$ -N y\n#SBATCH -p x|DATA\n"
    assert [file["path"] for file in site.call("GET", f"{one}/files/").json()] == ["result"]
    with tarfile.open(fileobj=io.BytesIO(site.call("GET", f"{one}/output").content)) as output:
        assert output.getnames() == [".", "./result"]
        result = output.extractfile("./result")
        assert result
        assert result.read() == b"IN"
    again = site.call("PUT", one, json={"action": "resubmit"})
    assert again.status_code == 201, again.text
    new = f"{site.url}/api/jobs/{again.json()['job_id']}"
    assert until(lambda: _ended(site, new), "the job did not end", 120)["status"] == "FINISHED"
    assert site.call("GET", f"{new}/files/result").content == b"IN"
    for url, workspace in ((one, ended["working_directory"]), (new, again.json()["working_directory"])):
        assert cluster.enter("alice", ["stat", "-c", "%U %a", f"{workspace}/.."]) == "alice 700\n"
        assert site.call("DELETE", url).status_code == 204
        until(lambda path=workspace: not (cluster.root / path[1:]).parent.exists())


@pytest.mark.parametrize("backend", HOSTS)
def test_a_log_is_followed(site: Server, backend: str) -> None:
    """From before the job runs until all of it is there."""
    job = site.submit("#!/bin/sh\nfor n in 1 2 3 4; do echo $n; sleep 1; done\nseq 5 2000\n", host=HOSTS[backend])
    answer = site.call("GET", f"/api/jobs/{job['job_id']}/stdout?follow=1", timeout=180)
    assert answer.text.split() == [str(number) for number in range(1, 2001)]
    assert site.call("GET", f"/api/jobs/{job['job_id']}").json()["status"] == "FINISHED"
