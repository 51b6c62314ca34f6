"""A template over a subtree of files, on the backend `local` and on the three schedulers of the real cluster."""

from tests.cluster.fixture import _turn_on_the_cluster, cluster, cluster_alone
from tests.gateways import Server
from tests.test_arrays import ended, host, site

__all__ = ["_turn_on_the_cluster", "cluster", "cluster_alone", "host", "site"]

MAKE = """#!/bin/sh
mkdir -p xml/deep
for number in $(seq 200); do echo "$number" > "xml/deep/$number of 200.xml"; done
echo > xml/README
"""
COUNT = '#!/bin/sh\nread -r number < "$JOBGATE_FILE"\necho "{{ word }} $number" > "seen.$JOBGATE_TASK_ID"\n'


def test_two_hundred_files(site: Server, host: str) -> None:
    """Each is run once, by a task that has it in JOBGATE_FILE."""
    folder = ended(site, site.submit("#!/bin/sh\nmktemp -d -p ~\n", host=host))
    work = site.call("GET", f"/api/jobs/{folder['job_id']}/stdout").text.strip()
    assert ended(site, site.submit(MAKE, host=host, working_directory=work))["status"] == "FINISHED"
    template = {"name": f"count on {host}", "host": host, "script": COUNT, "parameters": {"word": {"required": True}}}
    assert site.call("POST", "/api/templates", json=template).status_code == 201
    wish = {
        "template": template["name"],
        "parameters": {"word": "seen"},
        "files": {"path": "xml", "pattern": "*.xml"},
        "working_directory": work,
    }
    answer = site.call("POST", "/api/jobs", json=wish)
    assert answer.status_code == 201, answer.text
    assert answer.json()["count"] == 200
    job = ended(site, answer.json())
    assert (job["status"], job["tasks"]) == ("FINISHED", {"total": 200, "finished": 200})
    shown = ended(site, site.submit("#!/bin/sh\ncat seen.*\n", host=host, working_directory=work))
    lines = site.call("GET", f"/api/jobs/{shown['job_id']}/stdout").text.splitlines()
    assert sorted(lines) == sorted(f"seen {number}" for number in range(1, 201))
