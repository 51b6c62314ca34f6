"""Job description files: `<letsmt-job>` with a wall time in minutes, a queue, and commands that run one after another.
One that the repository wrote for `run=` names what is run, so that it can be submitted again."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from xml.etree import ElementTree

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from .answers import INVALID, Fault, clean

LARGEST = 1 << 20
MINUTES = 60


@dataclass(frozen=True, slots=True)
class Description:
    """A job description. `run` and `of` are what is run on which path, for those that the repository wrote."""

    commands: Sequence[str]
    wall_time: int | None = None
    queue: str | None = None
    run: str | None = None
    of: str | None = None
    arguments: Mapping[str, str] = field(default_factory=dict)

    def fields(self) -> dict[str, object]:
        """The fields of a job that it asks for."""
        asked = {"wall_time": self.wall_time and self.wall_time * MINUTES, "queue": self.queue}
        return {name: value for name, value in asked.items() if value}


def written(of: str, run: str, arguments: Mapping[str, str]) -> bytes:
    """The description of a `run=` on a path."""
    root = ElementTree.Element("letsmt-job", {"run": clean(run), "path": clean(of)})
    ElementTree.SubElement(root, "wallTime").text = clean(arguments.get("walltime", ""))
    ElementTree.SubElement(root, "queue").text = clean(arguments.get("queue", ""))
    own = {name: value for name, value in arguments.items() if name not in ("walltime", "queue")}
    for name, value in own.items():
        ElementTree.SubElement(root, "parameter", name=clean(name)).text = clean(value)
    words = [f"{name}={value}" for name, value in own.items()]
    command = ElementTree.SubElement(ElementTree.SubElement(root, "commands"), "command")
    command.text = clean(shlex.join(["letsmt_make", of, run, *words]))
    ElementTree.indent(root)
    return bytes(ElementTree.tostring(root, "utf-8", xml_declaration=True)) + b"\n"


def read(text: bytes, name: str) -> Description:
    """What a job description file says. Raises Fault. Entities and external files are refused."""
    try:
        root = fromstring(text, forbid_dtd=True)
    except (ElementTree.ParseError, DefusedXmlException, ValueError, LookupError) as problem:
        words = "it must not have a DTD" if isinstance(problem, DefusedXmlException) else str(problem)
        raise Fault(INVALID, f"Invalid job description {name}: {words}") from None
    if root.tag != "letsmt-job":
        raise Fault(INVALID, f"Invalid job description {name}: its root is <{root.tag}>, not <letsmt-job>")
    commands = [command.text.strip() for command in root.iterfind("commands/command") if (command.text or "").strip()]
    if not commands:
        raise Fault(INVALID, f"Invalid job description {name}: it has no <commands><command>")
    if any("\0" in command for command in commands):
        raise Fault(INVALID, f"Invalid job description {name}: a command has a NUL in it")
    wall_time = (root.findtext("wallTime") or "").strip()
    queue = (root.findtext("queue") or "").strip()
    arguments = {one.get("name", ""): one.text or "" for one in root.iterfind("parameter")}
    asked = {"walltime": wall_time, "queue": queue}
    arguments |= {name: value for name, value in asked.items() if value}
    return Description(commands, minutes(wall_time), queue or None, root.get("run"), root.get("path"), arguments)


def minutes(text: str) -> int | None:
    """A wall time. Raises Fault."""
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and int(text[:9]) > 0 and len(text) < 9):
        raise Fault(INVALID, f"Invalid wallTime {text!r}: write it in minutes")
    return int(text)


RUN = """if /bin/sh -c {command}
then told=finished
else told="failed with exit code $?"; failed=$((failed + 1))
fi
printf 'command_{number}=%s\\n' "$told" >> "$LETSMT_RECORD"
"""


def script(commands: Sequence[str]) -> str:
    """What the scheduler runs: each command in the account's home, whatever became of those before. What became of each
    is written into the metadata of the description; the exit code is how many failed."""
    runs = [RUN.format(command=_one_word(command), number=number) for number, command in enumerate(commands, 1)]
    return "".join(["#!/bin/sh\ncd || exit\nfailed=0\n", *runs, 'exit "$((failed > 100 ? 100 : failed))"\n'])


def _one_word(command: str) -> str:
    """No line of it begins a line of the script, where a scheduler would look for directives."""
    return "\"$(printf '%b' " + shlex.quote("".join(_escaped(byte) for byte in command.encode())) + ')"'


def _escaped(byte: int) -> str:
    return chr(byte) if 32 <= byte < 127 and byte != 92 else f"\\0{byte:03o}"
