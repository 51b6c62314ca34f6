"""Arrays over HTTP, on the backend `local` and on the three schedulers of the real cluster."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.fixture import Cluster, _turn_on_the_cluster, cluster, cluster_alone
from tests.gateways import Server, World, error, until
from tests.test_clusters import HOSTS, host_section

__all__ = ["_turn_on_the_cluster", "cluster", "cluster_alone"]

EVERYWHERE = {"local": "localhost", **HOSTS}
SCRIPT = "#!/bin/sh\necho task $SGE_TASK_ID\n[ $JOBGATE_TASK_ID != 37 ] || exit 3\n"


@pytest.fixture(scope="module")
def site(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A gateway in front of all three schedulers and of its own machine: ann is alice there."""
    folder = tmp_path_factory.mktemp("arrays")
    world = World(folder, {"ann": "alice", "bob": "bob", "carol": "carol"})
    hosts = [host_section(backend, name, cluster) for backend, name in HOSTS.items()]
    with Server(world, folder, host="\n".join(hosts)) as server:
        yield server


@pytest.fixture(params=EVERYWHERE)
def host(request: pytest.FixtureRequest) -> str:
    return EVERYWHERE[request.param]


def ended(site: Server, job: dict[str, Any]) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        now = site.call("GET", f"/api/jobs/{job['job_id']}").json()
        return now if now["status"] in ("FINISHED", "ABORTED", "ERROR") else None

    return until(look, f"{job['job_id']} did not end", 180)


def test_a_task_of_a_hundred_fails(site: Server, host: str) -> None:
    """It shows, and resubmitting what failed runs one task."""
    job = site.submit(SCRIPT, host=host, array="1-100", name="hundred")
    assert (job["array"], job["status"]) == ("1-100", "QUEUED")
    assert job["tasks"] == {"total": 100, "queued": 100}
    url = f"/api/jobs/{job['job_id']}"

    job = ended(site, job)
    assert (job["state"], job["status"], job["exit_code"]) == ("failed", "ERROR", 3)
    assert job["reason"] == "1 of 100 tasks failed"
    assert job["tasks"] == {"total": 100, "finished": 99, "failed": 1}
    assert job["start_time"] <= job["end_time"]

    answer = site.call("GET", f"{url}/tasks?status=ERROR")
    assert answer.headers["X-Total-Count"] == "1"
    (bad,) = answer.json()
    assert (bad["task_id"], bad["state"], bad["exit_code"]) == (37, "failed", 3)
    assert site.call("GET", f"{url}/tasks/37").json() == bad
    for task in (1, 37, 100):
        assert site.call("GET", f"{url}/tasks/{task}/stdout").text == f"task {task}\n"
    assert error(site.call("GET", f"{url}/stdout"))["code"] == "is_array"

    again = site.call("PUT", url, json={"action": "resubmit", "tasks": "failed"})
    assert again.status_code == 201, again.text
    new = again.json()
    assert (new["array"], new["resubmitted_from"], new["tasks"]["total"]) == ("37", job["job_id"], 1)
    new = ended(site, new)
    assert (new["reason"], new["tasks"]) == ("1 of 1 tasks failed", {"total": 1, "failed": 1})


def test_a_task_is_aborted_and_run_again(site: Server, host: str) -> None:
    """The array goes on, and says at the end that one was cancelled."""
    script = "#!/bin/sh\n[ $JOBGATE_TASK_ID != 2 ] || sleep 600\n"
    job = site.submit(script, host=host, array="1-3")
    task = f"/api/jobs/{job['job_id']}/tasks/2"
    until(lambda: site.call("GET", task).json()["state"] == "running", "task 2 did not run", 60)
    assert site.call("PUT", task, json={"action": "Abort"}).status_code == 204
    job = ended(site, job)
    assert (job["state"], job["reason"]) == ("cancelled", "1 of 3 tasks cancelled")
    assert job["tasks"] == {"total": 3, "finished": 2, "cancelled": 1}
    assert site.call("PUT", task, json={"action": "abort"}).status_code == 409
    new = site.call("PUT", task, json={"action": "resubmit"}).json()
    assert new["array"] == "2"
    assert site.call("DELETE", f"/api/jobs/{new['job_id']}").status_code == 204


def test_an_array_is_aborted(site: Server, host: str) -> None:
    """Tasks that run and tasks that wait."""
    job = site.submit("#!/bin/sh\nsleep 600\n", host=host, array="1-50%2")
    until(lambda: "running" in site.call("GET", f"/api/jobs/{job['job_id']}").json()["tasks"], "none ran", 60)
    assert site.call("PUT", f"/api/jobs/{job['job_id']}", json={"action": "abort"}).status_code == 204
    job = ended(site, job)
    assert (job["state"], job["tasks"]) == ("cancelled", {"total": 50, "cancelled": 50})
