"""The page in front of Slurm on the real cluster: ann is alice there, bob is bob."""

import tarfile
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.cluster.fixture import Cluster, _turn_on_the_cluster, cluster
from tests.gateways import Server, World
from tests.portal.conftest import SignIn
from tests.portal.test_jobs_table import MARKUP, row
from tests.test_clusters import host_section

__all__ = ["_turn_on_the_cluster", "cluster"]

SLURM = "slurm.example.org"
SCRIPT = """#!/bin/sh
#SBATCH -A physics
echo started
until [ -e go ]; do sleep 0.2; done
echo '{markup}'
echo 42 > answer
"""


@pytest.fixture(scope="module")
def site(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("site")
    world = World(folder, {"ann": "alice", "bob": "bob", "carol": "carol"})
    with Server(world, folder, host=host_section("slurm", SLURM, cluster)) as server:
        yield server


def test_submit_watch_follow_download_abort_resubmit(site: Server, cluster: Cluster, signed_in: SignIn) -> None:
    """From signing in to signing out, without a reload."""
    page = signed_in(site)
    token = {"Authorization": f"Bearer {page.context.cookies()[0]['value']}"}
    page.get_by_role("link", name="Submit", exact=True).click()
    page.get_by_label("Host").select_option(SLURM)
    expect(page.get_by_label("Queue").locator("option")).not_to_have_count(1)  # its partitions
    page.get_by_role("textbox", name="Script", exact=True).fill(SCRIPT.format(markup=MARKUP))
    page.get_by_label("Name", exact=True).fill("on the cluster")
    page.get_by_label("Memory per node").fill("100MiB")
    page.get_by_label("Wall time").fill("0:10:00")
    page.get_by_text("More", exact=True).click()
    folder = f"/tmp/page-{site.port}"
    page.get_by_label("Working directory").fill(folder)
    page.get_by_role("button", name="Submit", exact=True).click()

    expect(page.get_by_role("heading", name="on the cluster")).to_be_visible()
    expect(page.get_by_role("log")).to_have_text("started\n", use_inner_text=False)
    expect(page.locator(".standing")).to_contain_text("running")
    cluster.enter("alice", ["touch", f"{folder}/go"])
    expect(page.locator(".standing")).to_contain_text("finished")
    expect(page.get_by_role("log")).to_have_text(f"started\n{MARKUP}\n", use_inner_text=False)
    expect(page.get_by_text("(00:10:00 asked for)")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download output").click()
    with tarfile.open(download.value.path()) as archive:
        assert archive.extractfile("./answer").read() == b"42\n"  # type: ignore[union-attr]

    cluster.enter("alice", ["rm", f"{folder}/go"])
    address = page.url
    page.get_by_role("button", name="Resubmit").click()
    expect(page).not_to_have_url(address)
    expect(page.locator(".standing")).to_contain_text("running")
    page.get_by_role("button", name="Abort").click()
    page.get_by_role("dialog").get_by_role("button", name="Abort").click()
    expect(page.locator(".standing")).to_contain_text("cancelled")
    page.get_by_role("link", name="Jobs", exact=True).click()
    expect(row(page, "on the cluster").get_by_text("finished")).to_be_visible()
    expect(row(page, "on the cluster").get_by_text("cancelled")).to_be_visible()

    bob = signed_in(site, "bob")
    bob.goto(address)
    expect(bob.get_by_role("alert")).to_contain_text("not found")
    bob.get_by_role("link", name="Hosts").click()
    expect(bob.get_by_role("region", name=SLURM).get_by_role("rowheader").first).to_be_visible()

    assert site.call("GET", "/api/jobs", user=None, headers=token).status_code == 200
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_text("You are signed out.")).to_be_visible()
    assert site.call("GET", "/api/jobs", user=None, headers=token).status_code == 401
