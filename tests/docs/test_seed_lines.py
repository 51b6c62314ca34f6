"""The command lines of the PLGrid job submitter's document, letter by letter, in a real shell with a real curl.

Only what the document itself leaves open is filled in: the proxy file, the address of the service, and the job's id.
"""

import json
import subprocess
from collections.abc import Iterator

import pytest

from tests.docs.pages import demo_server
from tests.gateways import Server

PROXY = """proxy="`cat {path-to-proxy-file} | base64 | tr -d '\\n'`"\n\n"""
SUBMIT_ZEUS = r"""#zeus.cyfronet.pl (SLURM)
curl -k -X POST --data '{"host":"zeus.cyfronet.pl", "script":"#!/bin/bash\n#SBATCH -A {grantid}\necho hello\nexit 0"}' \
--header "Content-Type:application/json" --header "PROXY:$proxy" https://submit.plgrid.pl/api/jobs"""
SUBMIT_PROMETHEUS = r"""#prometheus.cyfronet.pl (SLURM)
curl -k -X POST --data '{"host":"prometheus.cyfronet.pl", "script":"#!/bin/bash\n#SBATCH -A {grantid}\necho hello\nexit 0"}' \
--header "Content-Type:application/json" --header "PROXY:$proxy" https://submit.plgrid.pl/api/jobs"""  # noqa: E501
LIST = """curl -k -X GET --header "PROXY:$proxy" https://submit.plgrid.pl/api/jobs"""
SHOW = """curl -k -X GET --header "PROXY:$proxy" https://submit.plgrid.pl/api/jobs/50463091.batch.grid.cyf-kr.edu.pl"""
DELETE = (
    """curl -k -X DELETE --header "PROXY:$proxy" https://submit.plgrid.pl/api/jobs/50463091.batch.grid.cyf-kr.edu.pl"""
)
ABORT = """curl -k -X PUT --data '{"action":"abort"}' --header "Content-Type:application/json" --header "PROXY:$proxy" \
https://submit.plgrid.pl/api/jobs/50463091.batch.grid.cyf-kr.edu.pl"""
THE_JOB = "50463091.batch.grid.cyf-kr.edu.pl"
SLEEP = "#!/bin/sh\nsleep 600\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    aliases = 'aliases = ["zeus.cyfronet.pl", "prometheus.cyfronet.pl"]\n'
    with demo_server(tmp_path_factory.mktemp("seed"), aliases) as server:
        yield server


def paste(server: Server, lines: str, job_id: str = THE_JOB) -> tuple[int, str]:
    """Status and body. Without curl's own -w the document's lines do not show the status, so a .curlrc does."""
    (server.folder / ".curlrc").write_text('write-out = "\\n%{http_code}"\nsilent\n')
    text = (PROXY + lines).replace("{path-to-proxy-file}", str(server.folder / "var" / "demo" / "proxy.pem"))
    text = text.replace("https://submit.plgrid.pl", server.url).replace(THE_JOB, job_id)
    environment = {"HOME": str(server.folder), "PATH": "/usr/local/bin:/usr/bin:/bin"}
    done = subprocess.run(["bash", "-c", text], env=environment, capture_output=True, text=True, check=True)
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


@pytest.mark.parametrize("lines", [SUBMIT_ZEUS, SUBMIT_PROMETHEUS], ids=["zeus", "prometheus"])
def test_submit(server: Server, lines: str) -> None:
    status, body = paste(server, lines)
    job = json.loads(body)
    assert (status, job["status"], job["tag"]) == (201, "QUEUED", None)
    assert {"job_id", "stdout_path", "stderr_path"} <= job.keys()
    ended = server.ended(job["job_id"])
    assert ended["status"] == "FINISHED"
    assert server.call("GET", ended["stdout_path"].removeprefix(server.url)).text == "hello\n"


def test_list_and_show(server: Server) -> None:
    submitted = server.submit("#!/bin/sh\n", tag="listed")
    status, body = paste(server, LIST)
    assert status == 200
    assert submitted["job_id"] in [job["job_id"] for job in json.loads(body)]
    status, body = paste(server, SHOW, submitted["job_id"])
    assert (status, json.loads(body)["job_id"]) == (200, submitted["job_id"])


def test_abort_and_delete(server: Server) -> None:
    job_id = server.submit(SLEEP)["job_id"]
    assert paste(server, ABORT, job_id) == (204, "")
    assert server.ended(job_id)["status"] == "ABORTED"
    assert paste(server, DELETE, job_id) == (204, "")
    assert paste(server, SHOW, job_id)[0] == 404


@pytest.mark.parametrize("lines", [SHOW, DELETE, ABORT], ids=["show", "delete", "abort"])
def test_the_documents_own_id_is_unknown(server: Server, lines: str) -> None:
    status, body = paste(server, lines)
    assert status == 404
    assert json.loads(body)["error_message"] == f"Job with {THE_JOB} not found"
