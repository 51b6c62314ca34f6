"""The LetsMT dialect's searches, files and mistakes, in one process: every answer is XML, whatever was asked."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from werkzeug.test import TestResponse

from gateway_plugins.letsmt.descriptions import script
from tests.gateways import InProcess, World, until

RECORDS = {
    "slot/ann/a.xml": {"language": "en", "size": "300", "name": "one, two", "resource-type": "corpusfile"},
    "slot/ann/b.xml": {"language": "fi,sv", "size": "1e3", "resource-type": "sentalign"},
    "slot/ann/c.xml": {"language": "sv,en", "size": "many", "resource-type": "sentalign", "öl": None},
    "slot2/ann/ä ö.xml": {"language": "fi", "size": "20", "100%": None, "text": "a=b\nc\\d%41"},
}


@pytest.fixture(scope="module")
def site(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    """A storage of ann's in which something is known of four paths, and one of her other account's."""
    with InProcess(world, tmp_path_factory.mktemp("letsmt")) as gateway:
        for path, record in RECORDS.items():
            sent = {key: value for key, value in record.items() if value is not None}
            ok(gateway.call("POST", f"/ws/metadata/{path}", query_string={"uid": "ann", **sent}))
        ok(gateway.call("POST", "/ws/metadata/slot/ann2/d.xml?uid=ann2&language=en"))
        yield gateway


def xml(answer: TestResponse) -> ElementTree.Element:
    assert answer.content_type == "text/xml; charset=utf-8", answer.text
    root = ElementTree.fromstring(answer.data)
    assert (root.tag, root.get("version"), root[-1].tag) == ("letsmt-ws", "56", "status")
    assert root[-1].keys() == ["code", "location", "operation", "type"]
    return root


def ok(answer: TestResponse) -> ElementTree.Element:
    root = xml(answer)
    assert (answer.status_code, root[-1].get("code"), root[-1].get("type")) == (200, "0", "ok"), answer.text
    return root


def search(site: InProcess, below: str = "", **words: str) -> list[str]:
    root = ok(site.call("GET", f"/ws/metadata{below}", query_string={"uid": "ann", **words}))
    assert root[-1].text == f"Found {len(root.findall('list/entry'))} matching entries"
    return [entry.get("path", "").rpartition("/")[2][0] for entry in root.iterfind("list/entry")]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ({"language": "fi,sv"}, "b"),
        ({"language": "sv,fi"}, ""),
        ({"ONE_OF_language": "en,tr"}, "acd"),
        ({"ALL_OF_language": "sv,fi"}, "b"),
        ({"STARTS_WITH_language": "fi"}, "bä"),
        ({"ENDS_WITH_language": "en"}, "acd"),
        ({"INCLUDES_name": ", t"}, "a"),
        ({"REGEX_language": "^(en|fi)$"}, "adä"),
        ({"REGEX_text": "a=b.c"}, "ä"),
        ({"MIN_size": "300"}, "ab"),
        ({"MAX_size": "300"}, "aä"),
        ({"MIN_size": "21", "MAX_size": "300"}, "a"),
        ({"NOT_language": "en"}, "bcä"),
        ({"NOT_resource-type": "sentalign"}, "adä"),
        ({"NOT_STARTS_WITH_language": "fi"}, "acd"),
        ({"owner": "ann2"}, "d"),
        ({"STARTS_WITH__ID_": "slot2/"}, "ä"),
        ({"text": "a=b\nc\\d%41"}, "ä"),
        ({"STARTS_WITH_": "x"}, ""),
        ({}, "abcdä"),
    ],
    ids=str,
)
def test_search(site: InProcess, words: dict[str, str], found: str) -> None:
    assert search(site, **words) == list(found)


def test_search_below_a_path(site: InProcess) -> None:
    assert search(site, "/slot", type="recursive") == list("abcd")
    assert search(site, "/slot2/ann", type="recursive", language="fi") == ["ä"]
    assert search(site, "/nothing", type="recursive") == []
    assert search(site, "/slo", type="recursive") == []


def test_actions(site: InProcess) -> None:
    def result(**words: str) -> dict[str, str | None]:
        root = ok(site.call("GET", "/ws/metadata", query_string={"uid": "ann", **words}))
        [entry] = root.findall("list/entry")
        assert entry.get("type") == "search result"
        return {element.tag: element.text for element in entry}

    assert result(action="count", ONE_OF_language="en") == {"count": "3"}
    assert result(action="SUM_size") == {"SUM_size": "1320", "count": "5"}
    assert result(action="MAX_size", language="fi") == {"MAX_size": "20", "count": "1"}
    root = ok(site.call("GET", "/ws/metadata?uid=ann&action=list_all&size=20"))
    assert {element.tag: element.text for element in root.find("list/entry")} == {
        "language": "fi",
        "owner": "ann",
        "size": "20",
        "text": "a=b\nc\\d%41",
    }


def test_writes(site: InProcess) -> None:
    """POST overwrites, PUT adds to a list, DELETE takes an item, a key or everything away."""
    path = "/ws/metadata/slot3/ann/x"

    def record() -> dict[str, str]:
        root = xml(site.call("GET", f"{path}?uid=ann"))
        return {element.tag: element.text or "" for element in root.iterfind("list/entry/*")}

    for method, query, expected in (
        ("POST", "langs=en,fi&empty=", {"langs": "en,fi", "empty": ""}),
        ("PUT", "langs=fi,sv", {"langs": "en,fi,sv", "empty": ""}),
        ("DELETE", "langs=fi", {"langs": "en,sv", "empty": ""}),
        ("DELETE", "empty=*", {"langs": "en,sv"}),
        ("DELETE", "nothing=1", {"langs": "en,sv"}),
        ("POST", "langs=", {"langs": ""}),
    ):
        ok(site.call(method, f"{path}?uid=ann&{query}"))
        assert record() == {"owner": "ann", **expected}
    ok(site.call("DELETE", f"{path}?uid=ann"))
    assert record() == {}
    assert xml(site.call("DELETE", f"{path}?uid=ann"))[-1].get("code") == "7"


def test_storage(site: InProcess) -> None:
    def put(path: str, content: bytes) -> ElementTree.Element:
        data = {"payload": (io.BytesIO(content), "f")}
        return ok(site.call("PUT", path, data=data, content_type="multipart/form-data"))

    ok(site.call("PUT", "/ws/storage/files/ann?uid=ann&gid=public"))
    assert (
        put("/ws/storage/files/ann/uploads/ä b.txt?uid=ann", b"\xff\0one")[-1].text
        == "update ok /files/ann/uploads/ä b.txt"
    )
    put("/ws/storage/files/ann/uploads/ä b.txt?uid=ann", b"two")
    root = ok(site.call("GET", "/ws/storage/files/ann/uploads?uid=ann"))
    assert root.find("list").get("path") == "/files/ann/uploads"
    [entry] = root.findall("list/entry")
    assert entry.get("kind") == "file"
    assert [element.tag for element in entry] == ["name", "commit", "group", "owner", "size"]
    assert (entry.findtext("name"), entry.findtext("size"), entry.findtext("owner")) == ("ä b.txt", "3", "ann")
    assert site.call("GET", "/ws/storage/files/ann/uploads/ä b.txt?uid=ann&action=download").data == b"two"
    assert [
        entry.get("kind") for entry in ok(site.call("GET", "/ws/storage/files?uid=ann")).iterfind("list/entry")
    ] == ["dir"]
    assert xml(site.call("GET", "/ws/storage/files/ann/uploads?uid=ann&action=download"))[-1].get("code") == "6"
    assert xml(site.call("GET", "/ws/storage/files?uid=bob", user="bob"))[-1].get("code") == "6"
    assert xml(site.call("GET", "/ws/metadata/files/ann?uid=bob", user="bob"))[-1].get("code") == "7"
    ok(site.call("DELETE", "/ws/storage/files?uid=ann"))
    assert xml(site.call("GET", "/ws/storage/files?uid=ann"))[-1].get("code") == "6"
    assert xml(site.call("GET", "/ws/metadata/files/ann?uid=ann"))[-1].get("code") == "7"


LAUGHS = b"""<!DOCTYPE lolz [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;">]>
<letsmt-job><commands><command>&b;</command></commands></letsmt-job>"""
OUTSIDE = b"""<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]>
<letsmt-job><commands><command>&f;</command></commands></letsmt-job>"""
COMMAND = "<letsmt-job><wallTime>%s</wallTime><commands><command>true</command></commands></letsmt-job>"


@pytest.mark.parametrize(
    ("job", "words"),
    [
        (b"", "no element"),
        (b"<letsmt-job", "unclosed"),
        (b"\xff\xfe\x00\xd8", "Invalid job description"),
        (b"<?xml version='1.0' encoding='nothing'?><letsmt-job/>", "Invalid job description"),
        (LAUGHS, "DTD"),
        (OUTSIDE, "DTD"),
        (b"<other/>", "<other>"),
        (b"<letsmt-job/>", "no <commands>"),
        (b"<letsmt-job><commands><command> </command></commands></letsmt-job>", "no <commands>"),
        ((COMMAND % "soon").encode(), "wallTime"),
        ((COMMAND % "9" * 12).encode(), "Invalid"),
        (
            b"<letsmt-job run='tokenize' path='../x'><commands><command>x</command></commands></letsmt-job>",
            "Invalid path",
        ),
        (b"<letsmt-job>" + b"x" * (1 << 20) + b"</letsmt-job>", "larger than"),
        (b"<letsmt-job><queue>q</queue><commands><command>x</command></commands></letsmt-job>", "queue"),
    ],
)
def test_bad_job_descriptions(site: InProcess, job: bytes, words: str) -> None:
    data = {"payload": (io.BytesIO(job), "job.xml")}
    ok(site.call("PUT", "/ws/storage/bad/ann/job.xml?uid=ann", data=data, content_type="multipart/form-data"))
    for method in ("POST", "PUT"):
        answer = site.call(method, "/ws/job/bad/ann/job.xml?uid=ann")
        status = xml(answer)[-1]
        assert (answer.status_code in (400, 422), status.get("code"), status.get("type")) == (True, "17", "error")
        assert words in status.text


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/ws/job", 400, "12"),
        ("GET", "/ws/metadata", 400, "12"),
        ("GET", "/ws/storage/x", 400, "12"),
        ("GET", "/ws/job?uid=", 400, "12"),
        ("GET", "/ws/job?uid=bob", 403, "15"),
        ("GET", "/ws/job?uid=admin", 403, "14"),
        ("GET", "/ws/metadata?uid=admin", 403, "14"),
        ("GET", "/ws/metadata/no/such/path?uid=ann", 404, "7"),
        ("GET", "/ws/metadata/.metadata/x?uid=ann", 400, "17"),
        ("GET", "/ws/metadata?uid=ann&MIN_size=big", 400, "17"),
        ("GET", "/ws/metadata?uid=ann&REGEX_language=(", 400, "17"),
        ("GET", "/ws/metadata?uid=ann&action=explode", 400, "17"),
        ("GET", "/ws/metadata?uid=ann&REGEX_language=%ff%D8[", 400, "17"),
        ("GET", "/ws/metadata/%ff/%fe?uid=ann", 404, "7"),
        ("GET", "/ws/metadata?uid=%ff", 403, "15"),
        ("GET", "/ws/metadata?uid=ann&a=%00", 400, "17"),
        ("POST", "/ws/metadata/slot?uid=ann&a=b", 400, "12"),
        ("POST", "/ws/metadata/slot/ann?uid=ann&1a=b", 400, "17"),
        ("POST", "/ws/metadata/slot/ann?uid=ann&a%20b=b", 400, "17"),
        ("POST", "/ws/metadata/slot/ann?uid=ann&xmlns=b", 400, "17"),
        ("POST", "/ws/metadata/slot/ann?uid=ann&_ID_=b", 400, "17"),
        ("PUT", "/ws/storage/slot/ann/x?uid=ann", 400, "12"),
        ("PUT", "/ws/storage/slot/ann/../x?uid=ann", 400, "17"),
        ("PUT", "/ws/storage/slot/ann/a%0Ab?uid=ann", 404, "6"),
        ("PUT", "/ws/storage/slot/ann/a%1Bb?uid=ann", 400, "17"),
        ("PUT", "/ws/storage/slot/ann/%00?uid=ann", 400, "17"),
        ("PUT", "/ws/storage/slot/ann/x?uid=ann&action=explode", 400, "17"),
        ("GET", "/ws/storage/slot/ann/nothing?uid=ann", 404, "6"),
        ("GET", "/ws/storage/slot/ann/nothing?uid=ann&action=download", 404, "6"),
        ("DELETE", "/ws/storage/slot/ann/nothing?uid=ann", 404, "6"),
        ("PUT", "/ws/job/slot/ann/nothing.xml?uid=ann&run=tokenize", 404, "6"),
        ("PUT", "/ws/job/slot/ann?uid=ann&run=tokenize", 400, "17"),
        ("POST", "/ws/job/slot/ann/nothing.xml?uid=ann", 404, "6"),
        ("DELETE", "/ws/job/slot/ann/nothing.xml?uid=ann", 404, "6"),
        ("DELETE", "/ws/job?uid=ann", 400, "12"),
        ("DELETE", "/ws/job?uid=ann&job_id=job_1541676088_906142295", 404, "6"),
        ("DELETE", "/ws/job?uid=ann&job_id=%D9%A1", 404, "6"),
        ("PATCH", "/ws/job?uid=ann", 405, "13"),
        ("BREW", "/ws/storage/x?uid=ann", 405, "13"),
        ("GET", "/ws", 404, "6"),
        ("GET", "/ws/group/x?uid=ann", 404, "6"),
    ],
)
def test_mistakes(site: InProcess, method: str, path: str, status: int, code: str) -> None:
    answer = site.call(method, path)
    about = xml(answer)[-1]
    assert (answer.status_code, about.get("code"), about.get("type")) == (status, code, "error"), answer.text
    assert about.get("operation") == method
    assert about.text


def test_runs_that_cannot_be(site: InProcess) -> None:
    data = {"payload": (io.BytesIO(b"<text/>"), "f")}
    ok(site.call("PUT", "/ws/storage/slot/ann/xml/en/1.xml?uid=ann", data=data, content_type="multipart/form-data"))
    for query, code, words in (
        ("run=nothing", "13", "no template 'nothing'"),
        ("run=tokenize&wish=1", "17", "wish"),
        ("run=tokenize&walltime=x", "17", "wallTime"),
        ("run=tokenize&queue=q", "17", "queue"),
    ):
        about = xml(site.call("PUT", f"/ws/job/slot/ann/xml/en/1.xml?uid=ann&{query}"))[-1]
        assert (about.get("code"), words in about.text) == (code, True), about.text


def test_a_job_is_found_by_its_description(site: InProcess) -> None:
    """With or without `.xml`, as the document has it."""
    job = b"<letsmt-job><commands><command>sleep 600</command></commands></letsmt-job>"
    data = {"payload": (io.BytesIO(job), "job.xml")}
    path = "slot/ann/jobs/one.xml"
    ok(site.call("PUT", f"/ws/storage/{path}?uid=ann", data=data, content_type="multipart/form-data"))
    assert ok(site.call("GET", f"/ws/job/{path}?uid=ann"))[-1].text == "job ID not given or found in meta data"
    ok(site.call("POST", f"/ws/job/{path}?uid=ann"))
    assert ok(site.call("GET", f"/ws/job/{path}?uid=ann"))[-1].text in ("pending", "running")
    assert ok(site.call("GET", "/ws/job/slot/ann/jobs/one?uid=ann"))[-1].text in ("pending", "running")
    assert xml(site.call("DELETE", f"/ws/job/{path}?uid=bob", user="bob"))[-1].get("code") == "6"
    assert ok(site.call("DELETE", "/ws/job/slot/ann/jobs/one?uid=ann"))[-1].text is None
    name = ok(site.call("GET", f"/ws/metadata/{path}?uid=ann")).findtext("list/entry/job_id") or ""
    gone = f"no job with ID '{name}' found"
    until(lambda: site.tick() is not None and ok(site.call("GET", f"/ws/job/{path}?uid=ann"))[-1].text == gone)
    assert ok(site.call("GET", f"/ws/job?uid=ann&job_id={name}"))[-1].text == gone
    records = ok(site.call("GET", f"/ws/metadata?uid=ann&job_id={name}&action=list_all"))
    assert records.findtext("list/entry/status") == "job canceled"
    assert records.findtext("list/entry/job_status") == "job canceled"


def test_another_users_job_is_none(site: InProcess) -> None:
    job = site.submit("#!/bin/sh\nsleep 600\n")
    [entry] = ok(site.call("GET", "/ws/job?uid=ann")).findall("list/entry")
    assert entry.get("id") == job["job_id"].split(".")[0]
    path = f"/ws/job?uid=bob&job_id={entry.get('name')}"
    for method in ("GET", "DELETE", "PUT"):
        theirs = xml(site.call(method, path, user="bob"))
        unknown = xml(site.call(method, path.replace(entry.get("name"), "job_1541676088_906142295"), user="bob"))
        assert theirs[-1].text.replace(entry.get("name"), "job_1541676088_906142295") == unknown[-1].text
    assert ok(site.call("GET", "/ws/job?uid=bob", user="bob")).findall("list/entry") == []
    ok(site.call("DELETE", path.replace("bob", "ann")))


def test_an_upload_that_is_too_large(world: World, tmp_path: Path) -> None:
    with InProcess(world, tmp_path, host='[limits]\nupload = "1MiB"\n') as small:
        data = {"payload": (io.BytesIO(b"x" * (2 << 20)), "f")}
        answer = small.call("PUT", "/ws/storage/slot/ann/x?uid=ann", data=data, content_type="multipart/form-data")
        assert (answer.status_code, xml(answer)[-1].get("code")) == (413, "17")
        form = {"job-bundle": (io.BytesIO(b"x" * (2 << 20)), "f")}
        answer = small.call("POST", "/jobs", data=form, content_type="multipart/form-data")
        assert (answer.status_code, answer.get_json()["code"]) == (413, "too_large")


def test_a_host_that_is_down(world: World, tmp_path: Path) -> None:
    away = '[hosts.away]\nbackend = "slurm"\ntransport = "ssh"\n[hosts.away.ssh]\nhostname = "127.0.0.1"\nport = 1\n'
    options = f'known_hosts = "{tmp_path}/none"\nidentity_file = "{tmp_path}/none"\n[dialects.letsmt]\nhost = "away"\n'
    (tmp_path / "none").touch()
    with InProcess(world, tmp_path, host=away + options) as gateway:
        answer = gateway.call("GET", "/ws/storage/slot?uid=ann")
        assert (answer.status_code, xml(answer)[-1].get("code")) == (503, "8")


def test_who_asks(site: InProcess) -> None:
    answer = site.call("GET", "/ws/job?uid=ann", user=None)
    about = xml(answer)[-1]
    assert (answer.status_code, about.get("code")) == (401, "14")
    token = site.call("POST", "/api/tokens").get_json()["token"]
    ok(site.call("GET", "/ws/job?uid=ann", user=None, headers={"Authorization": f"Bearer {token}"}))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=some.sampled_from(["GET", "PUT", "POST", "DELETE", "OPTIONS", "PATCH"]),
    part=some.sampled_from(["job", "metadata", "storage", "other"]),
    path=some.text(max_size=20),
    query=some.dictionaries(
        some.sampled_from(["run", "action", "type", "job_id", "REGEX_a", "MIN_a", "ONE_OF_a", "a", "NOT_b"])
        | some.text(max_size=5),
        some.sampled_from(["import", "list_all", "recursive", "(", "1", "job_1_1", "SUM_a"]) | some.text(max_size=5),
        max_size=3,
    ),
    body=some.binary(max_size=50),
)
def test_every_answer_is_xml(
    site: InProcess, method: str, part: str, path: str, query: dict[str, str], body: bytes
) -> None:
    where = f"/ws/{part}/fuzz/ann/" + path.replace("?", "").replace("#", "")
    data: Any = {"payload": (io.BytesIO(body), "f")} if method in ("PUT", "POST") else None
    answer = site.call(method, where, query_string={**query, "uid": "ann"}, data=data)
    assert answer.status_code < 500, answer.text
    if method != "OPTIONS" and answer.content_type != "application/octet-stream":
        xml(answer)


def test_a_commands_lines_are_no_directives() -> None:
    made = script(["echo a\n#SBATCH --array=1-9\n#$ -t 1-9"])
    assert [line for line in made.splitlines() if line.startswith("#")] == ["#!/bin/sh"]
