"""`accounts = "mapped"` over HTTP: jobs run as real Unix accounts, and each reads its own files alone. Needs root."""

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateways import Server, World, error, until
from tests.test_bundles import tar
from tests.unix_accounts import two_accounts

MAPPED = 'slots = 2\n[hosts.mapped]\nbackend = "local"\npoll_interval = 0.1\n'


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    one, two = two_accounts()
    folder = tmp_path_factory.mktemp("mapped")
    with Server(World(folder, {"ann": f"{one},{two}", "bob": two, "carol": "nosuchuser"}), folder, host=MAPPED) as site:
        yield site


def test_a_job_runs_as_the_mapped_account(site: Server) -> None:
    one, two = two_accounts()
    script = "#!/bin/sh\nid -un; id -Gn; echo $HOME; pwd; umask; env | grep -c -E 'PROXY|JOBGATE_CONFIG'\n"
    for more, account in (({}, one), ({"account": two}, two)):
        job = site.ended(
            site.submit(script, host="mapped", working_directory=f"/tmp/jobgate-{account}", **more)["job_id"]
        )
        assert job["account"] == account
        lines = site.call("GET", f"/api/jobs/{job['job_id']}/stdout").text.splitlines()
        assert lines[0] == account
        assert "root" not in lines[1].split()
        assert lines[3] == f"/tmp/jobgate-{account}"
        assert lines[5] == "0"


def test_root_is_never_a_target_of_links(site: Server) -> None:
    """The job puts a link to a file that only root may read where its log was; the gateway, though root, will not."""
    one, _ = two_accounts()
    script = "#!/bin/sh\nln -sf /etc/shadow shadow; ln -f /etc/shadow hard 2>/dev/null; echo done\n"
    folder = f"/tmp/jobgate-{one}"
    job = site.ended(site.submit(script, host="mapped", working_directory=folder)["job_id"])
    for path in ("shadow", "hard", "../../etc/shadow"):
        assert site.call("GET", f"/api/jobs/{job['job_id']}/files/{path}").status_code in (403, 404)


def test_a_folder_that_the_account_may_not_use(site: Server) -> None:
    body = {"host": "mapped", "script": "#!/bin/sh\n", "working_directory": "/root/here"}
    answer = site.call("POST", "/api/jobs", json=body)
    assert (answer.status_code, error(answer)["code"]) == (422, "refused_by_scheduler")
    assert "/root" in error(answer)["error_message"]


def test_an_account_that_does_not_exist(site: Server) -> None:
    answer = site.call("POST", "/api/jobs", user="carol", json={"host": "mapped", "script": "#!/bin/sh\n"})
    assert answer.status_code == 403
    assert "nosuchuser" in error(answer)["error_message"]


def test_a_bundle_is_the_accounts_own(site: Server) -> None:
    one, _ = two_accounts()
    run = b'#!/bin/sh\nid -un > "$JOBGATE_OUTPUT/who"; stat -c "%U %a" .. run.sh\n'
    files = {"bundle": ("b.tar.gz", tar(run=run).getvalue())}
    answer = site.call("POST", "/api/jobs", data={"job": json.dumps({"host": "mapped"})}, files=files)
    assert answer.status_code == 201, answer.text
    job = site.ended(answer.json()["job_id"])
    path = f"/api/jobs/{job['job_id']}"
    assert site.call("GET", f"{path}/stdout").text == f"{one} 700\n{one} 700\n"
    with tarfile.open(fileobj=io.BytesIO(site.call("GET", f"{path}/output").content)) as output:
        assert {info.name: info.uname for info in output} == {".": one, "./who": one}
    assert site.call("GET", f"{path}/files/who").text == f"{one}\n"
    workspace = Path(job["working_directory"]).parent
    assert site.call("DELETE", path).status_code == 204
    until(lambda: not workspace.exists())


def test_a_short_command_is_the_accounts(site: Server) -> None:
    one, two = two_accounts()
    for more, account in (({}, one), ({"account": two}, two)):
        answer = site.call("POST", "/api/process", json={"host": "mapped", "command": "id -un", **more})
        assert answer.json()["standard_output"] == f"{account}\n"
