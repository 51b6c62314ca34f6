"""One job, whichever door it came through: every other sees it and steers it."""

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.cluster.fixture import Cluster, _turn_on_the_cluster, cluster
from tests.dialects.letsmt_site import call, done, metadata, upload
from tests.gateways import Server, World, until
from tests.test_bundles import tar
from tests.test_clusters import host_section

__all__ = ["_turn_on_the_cluster", "cluster"]

SLEEP = tar(run=b"#!/bin/sh\nsleep 600\n").getvalue()
JOB = """<letsmt-job><wallTime>3</wallTime><queue>short</queue><commands>
<command>scontrol show job $SLURM_JOB_ID | grep -o -E '(TimeLimit|Partition)=[^ ]*'</command>
<command>id -un</command></commands></letsmt-job>"""


@pytest.fixture(scope="module")
def site(cluster: Cluster, world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A gateway whose dialects work on the real cluster: MODAClouds on HTCondor, LetsMT on Slurm."""
    folder = tmp_path_factory.mktemp("site")
    there = World(folder, {"ann": "alice", "bob": "bob", "carol": "carol"}, world.databases)
    hosts = "".join(host_section(name, f"{name}.example.org", cluster) for name in ("slurm", "htcondor"))
    options = "".join(
        f'[dialects.{dialect}]\nhost = "{host}.example.org"\n'
        for dialect, host in (("modaclouds", "htcondor"), ("letsmt", "slurm"))
    )
    with Server(there, folder, host=hosts + options) as server:
        yield server


def jman(site: Server, *words: str) -> str:
    proxy = site.folder / "proxy.pem"
    proxy.write_bytes(site.world.proxies["ann"].pem())
    proxy.chmod(0o600)
    command = [str(Path(sys.executable).parent / "jman"), *words]
    environment = {"JOBGATE_URL": site.url, "X509_USER_PROXY": str(proxy), "HOME": str(site.folder)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=site.folder).stdout


def test_a_job_of_modaclouds_is_everywhere(site: Server) -> None:
    files = {"job-bundle": ("b.tar.gz", io.BytesIO(SLEEP))}
    answer = site.call("POST", "/jobs", files=files, data={"job-name": "one"}).json()
    job = site.call("GET", f"/api/jobs/{answer['job_id']}").json()
    assert job["host"] == "htcondor.example.org"
    queue = done(call(site, "GET", "job?uid=alice")).findall("list/entry")
    [entry] = [entry for entry in queue if entry.get("id") == job["job_id"].removesuffix(".htcondor.example.org")]
    assert site.call("GET", f"/tethys/jobs/{job['number']}/").json()["name"] == "one"
    assert str(answer["backend_id"]) in jman(site, "list")
    done(call(site, "DELETE", f"job?uid=alice&job_id={entry.get('name')}"))
    until(lambda: site.call("GET", f"/jobs/{job['uuid']}").json()["job_status"] == "removed")


def test_a_letsmt_job_on_slurm(site: Server) -> None:
    """As the account, over ssh; its wall time and queue reach the scheduler."""
    path = "corpus/alice/uploads/job.xml"
    upload(site, path, JOB.encode(), uid="alice")
    done(call(site, "POST", f"job/{path}?uid=alice"))

    def known() -> dict[str, str] | None:
        record = metadata(site, path, uid="alice")
        return record if record["job_status"].startswith("finished") else None

    record = until(known)
    assert (record["job_status"], record["command_1"], record["command_2"]) == ("finished", "finished", "finished")
    number = record["job_id"].rpartition("_")[2]
    logs = site.call("GET", f"/tethys/jobs/{number}/logs/").json()
    assert logs["stdout"].split() == ["TimeLimit=00:03:00", "Partition=short", "alice"]
    found = done(call(site, "GET", f"metadata?uid=alice&REGEX_job_id=_{number}$"))
    assert [entry.get("path") for entry in found.iterfind("list/entry")] == [path]
    assert site.call("GET", f"/ws/storage/{path}?uid=alice&action=download").text == JOB


def test_an_account_that_the_host_does_not_have(site: Server) -> None:
    answer = site.call("GET", "/ws/storage/corpus?uid=carol", user="carol")
    about = ElementTree.fromstring(answer.content)[-1]
    assert (answer.status_code, about.get("code"), "carol" in (about.text or "")) == (403, "14", True)
