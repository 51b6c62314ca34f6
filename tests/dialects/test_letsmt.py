"""The LetsMT job API's document, call by call, with a real curl; what each answers has its elements and attributes."""

import re
from collections.abc import Iterator

import pytest

from tests.dialects.letsmt_site import (
    SMALL,
    archive,
    ask,
    call,
    done,
    ended,
    finished,
    letsmt_server,
    metadata,
    page,
    run,
    text,
    upload,
)
from tests.gateways import Server, World, until

C, U = "$LETSMT_CONNECT", "$LETSMT_URL"
REIMPORT = f'{C} -X PUT "{U}/job/corpus333/user/uploads/small12.tar.gz?uid=user&run=reimport"'
LIST = f'{C} -X GET "{U}/job?uid=user"'
SEARCH = f'{C} -X GET "{U}/metadata?uid=user&job_id=job_1541673288_768302220"'
DELETE = f'{C} -X DELETE "{U}/job/corpus333/user/jobs/import/uploads/small12.tar.gz?uid=user"'
DELETE_BY_ID = f'{C} -X DELETE "{U}/job?uid=user&job_id=job_1541676088_906142295"'
DESCRIPTIONS = f'{C} -X GET "{U}/metadata?uid=opus&STARTS_WITH_job_id=job&owner=user"'
WITH_ALL = f'{C} -X GET "{U}/metadata?uid=opus&STARTS_WITH_job_id=job&owner=user&action=list_all"'
REIMPORT_SMALL = f'{C} -X PUT "{U}/job/corpus/user/uploads/small.tar.gz?uid=user&run=reimport"'
METADATA = f'{C} -X GET "{U}/metadata/corpus/user/uploads/small.tar.gz?uid=user"'
LIST_USER1 = f'{C} -X GET "{U}/job?uid=user1"'
TOKENIZE = f'{C} -X PUT "{U}/job/corpus/user/xml/en/4.xml?uid=user&run=tokenize"'
PARSE = f'{C} -X PUT "{U}/job/corpus/user/xml/en/4.xml?uid=user&run=parse"'
WORDALIGN = f'{C} -X PUT "{U}/job/corpus/user/xml/en-sv/4.xml?uid=user&run=wordalign"'
TOKENIZE_ALL = f'{C} -X PUT "{U}/job/opustest2/user/xml?uid=user&run=tokenize"'
PARSE_ALL = f'{C} -X PUT "{U}/job/opustest2/user/xml?uid=user&run=parse"'
WORDALIGN_ALL = f'{C} -X PUT "{U}/job/corpus/user/xml/en-sv?uid=user&run=wordalign"'
SUBMITTED = re.compile(r"submitted job with ID '(job_\d+_\d+)'")
SLEEP = b"<letsmt-job><wallTime/><queue/><commands><command>sleep 600</command></commands></letsmt-job>"
IMPORTED = {"import_empty", "import_empty_count", "import_failed", "import_failed_count", "import_homedir"}
IMPORTED |= {"import_success", "import_success_count", "job_id", "owner", "gid", "status"}


@pytest.fixture(scope="module")
def site(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with letsmt_server(tmp_path_factory.mktemp("letsmt"), world) as server:
        yield server


def submitted(site: Server, line: str) -> str:
    found = SUBMITTED.fullmatch(done(ask(site, line)).findtext("status") or "")
    assert found
    return found[1]


def in_queue(site: Server) -> list[str | None]:
    return [entry.get("name") for entry in done(ask(site, LIST)).iterfind("list/entry")]


def paths(root) -> list[str]:
    return [entry.get("path") for entry in root.iterfind("list/entry")]


def test_an_import_and_its_metadata(site: Server) -> None:
    """With what the document shows of it, and what FACTS says of a job's statuses."""
    texts = {"en/1.html": page(["One, e.g. this. Two!"]), "en/2.html": page([])}
    documents = {**texts, "sv/9.odt": b"?", "../en/3.html": page(["x"])}
    upload(site, "corpus/user/uploads/small.tar.gz", archive(documents))
    job = submitted(site, REIMPORT_SMALL)
    record = finished(site, "corpus/user/uploads/small.tar.gz")
    root = done(ask(site, METADATA))
    assert root.find("status").attrib == {
        "code": "0",
        "location": "/metadata/corpus/user/uploads/small.tar.gz",
        "operation": "GET",
        "type": "ok",
    }
    assert root.findtext("status") == "Found matching path ID. Listing all of its properties"
    assert (root.find("list").attrib, paths(root)) == ({"path": ""}, ["corpus/user/uploads/small.tar.gz"])
    assert record.keys() >= IMPORTED
    assert [element.tag for element in root.find("list/entry")] == sorted(record)
    counted = {key: record[key] for key in record if key.startswith("import_") and key != "import_runtime"}
    assert counted == {
        "import_success": "en/1.html",
        "import_success_count": "1",
        "import_empty": "en/2.html",
        "import_empty_count": "1",
        "import_failed": "sv/9.odt,../en/3.html",
        "import_failed_count": "2",
        "import_homedir": "uploads/small",
    }
    assert (record["job_id"], record["owner"], record["status"]) == (job, "user", "imported")
    assert b'<s id="2">Two!</s>' in text(site, "corpus/user/xml/en/1.xml")
    about = metadata(site, "corpus/user/xml/en/1.xml")
    assert (about["language"], about["resource-type"], about["size"]) == ("en", "corpusfile", "2")
    found = ask(site, SEARCH.replace("job_1541673288_768302220", job))
    root = done(found)
    description = "corpus/user/jobs/import/uploads/small.tar.gz.xml"
    assert set(paths(root)) == {description, "corpus/user/uploads/small.tar.gz"}
    assert root.findtext("status") == "Found 2 matching entries"
    assert b'<letsmt-job run="reimport"' in text(site, description)


def test_the_queue(site: Server) -> None:
    """One's own jobs, whichever door they came through; everybody's for an administrator alone."""
    upload(site, "mycorpus/user/uploads/job.xml", SLEEP)
    said = done(call(site, "POST", "job/mycorpus/user/uploads/job.xml?uid=user")).findtext("status")
    job = SUBMITTED.fullmatch(said)[1]
    other = site.submit("#!/bin/sh\nsleep 600\n")
    form = {"job-bundle": ("setup.py", b"x")}
    third = site.call("POST", "/jobs", files=form).json()["job_id"]
    site.submit("#!/bin/sh\nsleep 600\n", user="bob")
    until(lambda: site.call("GET", f"/api/jobs/{third}").json()["status"] == "ERROR")
    root = done(ask(site, LIST))
    assert root.find("list").get("path") == "jobs"
    assert root.find("status").attrib == {"code": "0", "location": "job", "operation": "GET", "type": "ok"}
    entries = {entry.get("name"): entry.attrib for entry in root.iterfind("list/entry")}
    assert entries[job].keys() == {"name", "id", "job", "status"}
    assert entries[job]["job"] == "mycorpus/user/uploads/job.xml"
    assert entries[job]["status"] in ("PENDING", "RUNNING")
    by_number = {entry["id"]: entry for entry in entries.values()}
    assert by_number[other["job_id"].split(".")[0]].keys() == {"name", "id", "status"}
    assert done(ask(site, LIST_USER1)).findall("list/entry") == []
    everybodys = done(ask(site, LIST.replace("uid=user", "uid=admin"), "carol")).findall("list/entry")
    assert len(everybodys) == 3
    assert all(entry.attrib.keys() == {"name", "id", "status"} for entry in everybodys)
    status, root = ask(site, LIST.replace("uid=user", "uid=admin"))
    assert (status, root.find("status").get("code"), root.find("status").get("type")) == (403, "14", "error")
    for name in (job, next(iter(entries.keys() - {job}))):
        root = done(ask(site, DELETE_BY_ID.replace("job_1541676088_906142295", name)))
        assert root.find("status").attrib == {"code": "0", "location": "/job", "operation": "DELETE", "type": "ok"}
        assert root.findtext("status") is None or root.findtext("status") == ""
    assert metadata(site, "mycorpus/user/uploads/job.xml")["status"] == "job canceled"
    until(lambda: done(ask(site, LIST)).findall("list/entry") == [])


def test_deleting_by_the_path_of_the_description(site: Server) -> None:
    upload(site, "corpus333/user/uploads/small12.tar.gz", SMALL)
    for line in (REIMPORT, REIMPORT.replace("run=reimport", "run=import")):
        submitted(site, line)
        root = done(ask(site, DELETE))
        about = {"location": "/job/corpus333/user/jobs/import/uploads/small12.tar.gz", "operation": "DELETE"}
        assert root.find("status").attrib == {"code": "0", "type": "ok", **about}
        assert ended(site, "corpus333/user/uploads/small12.tar.gz")["job_id"]
    status, root = ask(site, DELETE.replace("small12", "nothing"))
    assert (status, root.find("status").get("code")) == (404, "6")


def test_descriptions_are_found(site: Server) -> None:
    root = done(ask(site, DESCRIPTIONS))
    assert "corpus333/user/jobs/import/uploads/small12.tar.gz.xml" in paths(root)
    assert root.findtext("status") == f"Found {len(paths(root))} matching entries"
    assert all(len(entry) == 0 for entry in root.iterfind("list/entry"))
    root = done(ask(site, WITH_ALL))
    assert all(entry.findtext("owner") == "user" for entry in root.iterfind("list/entry"))
    assert all(entry.findtext("job_id").startswith("job_") for entry in root.iterfind("list/entry"))


def test_a_job_file_from_its_upload_to_its_end(site: Server) -> None:
    """FACTS, section 5: POST, status, metadata after the run, PUT cancels the old one."""
    words = "echo 'it is' \"$(echo fine)\" &gt;&amp;2\n#SBATCH --nonsense"
    commands = "".join(f"<command>{command}</command>" for command in (words, "exit 3", "echo last"))
    job = f"<letsmt-job><wallTime>5</wallTime><queue/><commands>{commands}</commands></letsmt-job>"
    path = "corpus/user/uploads/job.xml"
    assert upload(site, path, job.encode()) == f"update ok /{path}"
    first = SUBMITTED.fullmatch(done(call(site, "POST", f"job/{path}?uid=user")).findtext("status"))[1]
    record = ended(site, path)
    assert record["job_status"] == "finished with 1 failed command(s)"
    assert [record[f"command_{n}"] for n in (1, 2, 3)] == ["finished", "failed with exit code 3", "finished"]
    assert record["job_id"] == first
    native = site.call("GET", "/api/jobs?owner=&sort=-number&limit=1").json()[0]
    assert native["extended_properties"] == {"letsmt": {"job": path}}
    assert site.call("GET", f"/api/jobs/{native['job_id']}/stdout").text == "last\n"
    assert site.call("GET", f"/api/jobs/{native['job_id']}/stderr").text == "it is fine\n"
    assert done(call(site, "GET", f"job/{path}?uid=user")).findtext("status") == f"no job with ID '{first}' found"
    upload(site, path, SLEEP)
    second = SUBMITTED.fullmatch(done(call(site, "POST", f"job/{path}?uid=user")).findtext("status"))[1]
    until(lambda: done(call(site, "GET", f"job/{path}?uid=user")).findtext("status") == "running")
    assert metadata(site, path)["job_status"] == "fetched job file"
    third = SUBMITTED.fullmatch(done(call(site, "PUT", f"job/{path}?uid=user")).findtext("status"))[1]
    assert third in in_queue(site)
    until(lambda: second not in in_queue(site))
    again = SUBMITTED.fullmatch(done(call(site, "PUT", f"job?uid=user&job_id={third}")).findtext("status"))[1]
    assert again not in (first, second, third)
    done(call(site, "DELETE", f"job/{path}?uid=user"))
    until(lambda: done(ask(site, LIST)).findall("list/entry") == [])
    assert metadata(site, path)["job_status"] == "job canceled"


def test_tokenize_parse_align_and_wordalign(site: Server) -> None:
    """With the real tools, on single files."""
    said = upload(site, "corpus/user/uploads/texts.tar.gz", SMALL, "&action=import")
    assert re.fullmatch(r"update ok /corpus/user/uploads/texts.tar.gz,submitted job with ID 'job_\d+_\d+'", said)
    assert finished(site, "corpus/user/uploads/texts.tar.gz")["import_success"] == "en/4.html,sv/4.html"
    run(site, "corpus/user/xml/en/4.xml", "align", "&trg=xml/sv/4.xml")
    finished(site, "corpus/user/xml/en/4.xml")
    links = text(site, "corpus/user/xml/en-sv/4.xml").decode()
    assert 'fromDoc="xml/en/4.xml" toDoc="xml/sv/4.xml"' in links
    assert re.findall(r'xtargets="(.*?)"', links) == ["1;1", "2;2", "3;3", "4;4"]
    assert metadata(site, "corpus/user/xml/en-sv/4.xml")["language"] == "en,sv"
    for line in (TOKENIZE, PARSE, WORDALIGN):
        submitted(site, line)
        finished(site, re.search(r"job/(.*?)\?", line)[1])
    tokens = text(site, "corpus/user/tok/en/4.xml").decode()
    assert re.findall(r"<w id=\"1\.\d\">(.*?)</w>", tokens) == ["The", "house", "is", "small", "."]
    tree = text(site, "corpus/user/ud/en/4.xml").decode()
    assert "<parse>(S (NP the house.n) (VP is.v (ADJP small.a)) .)</parse>" in tree
    assert metadata(site, "corpus/user/xml/en/4.xml")["parsed_count"] == "4"
    assert re.fullmatch(r"((\d+-\d+ ?)*\n){4}", text(site, "corpus/user/wordalign/en-sv/4").decode())
    assert metadata(site, "corpus/user/xml/en-sv/4.xml")["wordaligned"] == "wordalign/en-sv/4"


def test_runs_over_subtrees(site: Server) -> None:
    upload(site, "opustest2/user/uploads/texts.tar.gz", SMALL, "&action=import&lang=en")
    finished(site, "opustest2/user/uploads/texts.tar.gz")
    for line, path in ((TOKENIZE_ALL, "opustest2/user/xml"), (PARSE_ALL, "opustest2/user/xml")):
        submitted(site, line)
        finished(site, path)
    assert metadata(site, "opustest2/user/xml/en/4.xml")["tokenized"] == "tok/en/4.xml"
    submitted(site, WORDALIGN_ALL)
    finished(site, "corpus/user/xml/en-sv")
    run(site, "corpus/user/xml", "align")
    finished(site, "corpus/user/xml")
