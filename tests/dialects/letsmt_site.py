"""A gateway with a LetsMT storage, real tools, and the names of the document: ann is user, user1 and opus there."""

import io
import re
import sys
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from tests.dialects.documents import paste
from tests.gateways import Server, World, until
from tests.unix_accounts import missing

BIN = Path(sys.executable).parent
TOOLS = {
    "sacremoses": BIN / "sacremoses",
    "eflomal": BIN / "eflomal-align",
    "link_parser": Path("/usr/bin/link-parser"),
}
MAPFILE = {"ann": "user,user1,opus", "bob": "bob", "carol": "carol,user"}
EN = ["The house is small.", "The cat sat on the mat. It was happy.", "Good night."]
SV = ["Huset är litet.", "Katten satt på mattan. Den var glad.", "God natt."]


def options() -> str:
    """The dialect's table, with the tools that tests install."""
    for name, path in TOOLS.items():
        if not path.exists():
            missing(f"there is no {name}: `make test` installs it")
    tools = "".join(f'{name} = "{path}"\n' for name, path in TOOLS.items())
    return f'[dialects.letsmt]\npython = "{sys.executable}"\n{tools}'


@contextmanager
def letsmt_server(folder: Path, world: World) -> Iterator[Server]:
    there = World(folder, MAPFILE, world.databases)
    with Server(there, folder, host=options()) as server:
        yield server


def page(paragraphs: list[str]) -> bytes:
    text = "".join(f"<p>{words}</p>" for words in paragraphs)
    return f"<html><head><title>not this</title></head><body>{text}</body></html>".encode()


def archive(documents: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, content in documents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


SMALL = archive({f"{lang}/4.html": page(text) for lang, text in (("en", EN), ("sv", SV))})


def ask(server: Server, line: str, user: str = "ann") -> tuple[int, ElementTree.Element]:
    """What a line of the document answers."""
    assert line.startswith("$LETSMT_CONNECT ")
    words = {"LETSMT_CONNECT": "curl --silent --show-error", "LETSMT_URL": f"{server.url}/ws"}
    status, body = paste(server, line, user, **words)
    return status, ElementTree.fromstring(body)


def done(answer: tuple[int, ElementTree.Element]) -> ElementTree.Element:
    """The answer, which says that all is well."""
    status, root = answer
    assert (status, root.tag, root.get("version")) == (200, "letsmt-ws", "56"), ElementTree.tostring(root, "unicode")
    about = root.find("status")
    assert about is not None
    assert (about.get("code"), about.get("type")) == ("0", "ok")
    return root


def call(server: Server, method: str, path: str, user: str = "ann", **more: Any) -> tuple[int, ElementTree.Element]:
    answer = server.call(method, f"/ws/{path}", user=user, **more)
    return answer.status_code, ElementTree.fromstring(answer.content)


def upload(server: Server, path: str, content: bytes, more: str = "", uid: str = "user") -> str:
    files = {"payload": ("f", content)}
    root = done(call(server, "PUT", f"storage/{path}?uid={uid}{more}", files=files))
    return root.findtext("status") or ""


def metadata(server: Server, path: str, uid: str = "user") -> dict[str, str]:
    entry = done(call(server, "GET", f"metadata/{path}?uid={uid}")).find("list/entry")
    assert entry is not None
    assert entry.get("path") == path
    return {element.tag: element.text or "" for element in entry}


def run(server: Server, path: str, name: str, more: str = "") -> str:
    """The job_id of what was run."""
    said = done(call(server, "PUT", f"job/{path}?uid=user&run={name}{more}")).findtext("status") or ""
    found = re.fullmatch(r"submitted job with ID '(job_\d+_\d+)'", said)
    assert found, said
    return found[1]


def ended(server: Server, path: str) -> dict[str, str]:
    """What is known of a path when its job has ended."""

    def known() -> dict[str, str] | None:
        record = metadata(server, path)
        return record if record["job_status"].startswith(("finished", "job canceled")) else None

    return until(known, f"the job of {path} did not end")


def finished(server: Server, path: str) -> dict[str, str]:
    record = ended(server, path)
    if record["job_status"] != "finished":
        raise AssertionError(f"{record}\n{Path(record['job_log_err']).read_text()}")
    return record


def text(server: Server, path: str) -> bytes:
    answer = server.call("GET", f"/ws/storage/{path}?uid=user&action=download")
    assert answer.status_code == 200, answer.text
    return answer.content
