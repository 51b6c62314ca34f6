"""Jobs that wait for others, over HTTP: on the backend `local`, on the three schedulers of the real cluster, and from
one host to another."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.fixture import Cluster, _turn_on_the_cluster, cluster, cluster_alone
from tests.gateways import Server, World, until
from tests.test_arrays import EVERYWHERE, ended
from tests.test_clusters import HOSTS, host_section

__all__ = ["_turn_on_the_cluster", "cluster", "cluster_alone"]

FAILS = "#!/bin/sh\nexit 5\n"
ENDS_WELL = "#!/bin/sh\n"


@pytest.fixture(scope="module")
def site(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("dependencies")
    world = World(folder, {"ann": "alice", "bob": "bob", "carol": "carol"})
    hosts = [host_section(backend, name, cluster) for backend, name in HOSTS.items()]
    with Server(world, folder, host="\n".join(hosts)) as server:
        yield server


@pytest.fixture(params=EVERYWHERE)
def host(request: pytest.FixtureRequest) -> str:
    return EVERYWHERE[request.param]


def waits_for(job: dict[str, Any], kind: str = "afterok") -> list[dict[str, str]]:
    return [{"job_id": job["job_id"], "type": kind}]


def test_a_chain_whose_first_fails(site: Server, host: str) -> None:
    """A → B → C: both are cancelled, and say why, within a minute."""
    first = site.submit(FAILS, host=host, hold=True)
    second = site.submit(ENDS_WELL, host=host, dependencies=waits_for(first))
    third = site.submit(ENDS_WELL, host=host, array="1-3", dependencies=waits_for(second))
    assert (second["status"], third["status"]) == ("QUEUED", "QUEUED")
    assert site.call("PUT", f"/api/jobs/{first['job_id']}", json={"action": "release"}).status_code == 204
    assert ended(site, first)["state"] == "failed"

    def cancelled(job: dict[str, Any]) -> dict[str, Any] | None:
        now = site.call("GET", f"/api/jobs/{job['uuid']}").json()
        return now if now["state"] == "cancelled" else None

    for job, upstream in ((second, first), (third, second)):
        now = until(lambda job=job: cancelled(job), f"{job['job_id']} was not cancelled", 60)
        assert upstream["job_id"] in now["reason"] or upstream["uuid"] in now["reason"]
        assert "afterok" in now["reason"]


@pytest.mark.parametrize(("kind", "script"), [("afterok", ENDS_WELL), ("afterany", FAILS), ("afternotok", FAILS)])
def test_it_starts_when_the_other_has_ended(site: Server, host: str, kind: str, script: str) -> None:
    first = site.submit(script.replace("\n", "\nsleep 2\n", 1), host=host)
    waiting = site.submit(ENDS_WELL, host=host, dependencies=waits_for(first, kind))
    assert waiting["status"] == "QUEUED"
    second = ended(site, {"job_id": waiting["uuid"]})
    assert second["state"] == "finished", second
    first = ended(site, first)
    assert first["end_time"] <= second["start_time"]


def test_it_starts_when_the_other_has_begun(site: Server, host: str) -> None:
    first = site.submit("#!/bin/sh\nsleep 600\n", host=host)
    waiting = site.submit(ENDS_WELL, host=host, dependencies=waits_for(first, "after"))
    assert ended(site, {"job_id": waiting["uuid"]})["state"] == "finished"
    assert site.call("GET", f"/api/jobs/{first['job_id']}").json()["status"] == "RUNNING"
    assert site.call("DELETE", f"/api/jobs/{first['job_id']}").status_code == 204


def test_an_array_is_one_job_to_wait_for(site: Server, host: str) -> None:
    array = site.submit("#!/bin/sh\n[ $JOBGATE_TASK_ID != 2 ]\n", host=host, array="1-3")
    well = site.submit(ENDS_WELL, host=host, dependencies=waits_for(array))
    badly = site.submit(ENDS_WELL, host=host, dependencies=waits_for(array, "afternotok"))
    assert ended(site, {"job_id": well["uuid"]})["state"] == "cancelled"
    assert ended(site, {"job_id": badly["uuid"]})["state"] == "finished"


def test_what_slurm_has_forgotten(site: Server) -> None:
    """A job that ended so long ago that slurmctld does not know it: the gateway does."""
    old = ended(site, site.submit(ENDS_WELL, host=HOSTS["slurm"]))
    assert ended(site, site.submit(ENDS_WELL, host=HOSTS["slurm"], dependencies=waits_for(old)))["state"] == "finished"


def test_from_host_to_host(site: Server) -> None:
    """Slurm → local → HTCondor: the gateway holds each back."""
    first = site.submit("#!/bin/sh\nsleep 1\n", host=HOSTS["slurm"])
    second = site.submit(ENDS_WELL, dependencies=waits_for(first))
    assert (second["state"], second["job_id"]) == ("held", second["uuid"])
    assert second["reason"] == f"waits for {first['job_id']} (afterok)"
    third = site.submit(ENDS_WELL, host=HOSTS["htcondor"], dependencies=[{"job_id": second["uuid"]}])
    third = ended(site, third)
    assert third["state"] == "finished"
    second = site.call("GET", f"/api/jobs/{second['uuid']}").json()
    assert (second["state"], second["end_time"] <= third["start_time"]) == ("finished", True)
    history = site.call("GET", f"/api/jobs/{second['uuid']}/events").json()
    assert [event["state"] for event in history][:4] == ["submitting", "held", "submitting", "queued"]
