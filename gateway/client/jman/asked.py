"""From a command line to a request for a job."""

import hashlib
import re
import shlex
import shutil
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from gateway.model import task_range

PYTHON = "/usr/bin/python3"  # on a host; on this machine it is the one in PATH
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT])(?:i?B?)\Z", re.IGNORECASE)
MEBIBYTES = {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024 * 1024}

# The job's program goes along in a here-document, which no shell reads.
SENT = """#!/bin/sh
{directives}folder=$(mktemp -d "${{TMPDIR:-/tmp}}/jman.XXXXXX") || exit 1
trap 'rm -rf "$folder"' EXIT
cat > "$folder"/{name} <<'{end}'
{text}{end}
chmod 700 "$folder"/{name}
{python}"$folder"/{name} {arguments}
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """A job as it was asked for: the command, how it is shown, and the fields of the request. With `local` it runs on
    this machine; a `bundle` has a program of its own, and the command is its arguments."""

    command: Sequence[str]
    shown: Sequence[str]
    fields: Mapping[str, Any]
    directives: Sequence[str] = ()
    local: bool = False
    python: str = PYTHON
    bundle: Path | None = None

    def request(self) -> dict[str, Any]:
        """The body of a request. Raises click.UsageError for a script that cannot be read."""
        kept: dict[str, Any] = {"arguments": [*self.shown]}
        if self.bundle:
            return {**self.fields, "arguments": [*self.command], "extended_properties": {"jman": kept}}
        if is_sent(self.command[0]) and not self.local:
            kept |= {"file": f"{socket.gethostname()}:{Path(self.command[0]).absolute()}"}
            kept |= {"command": [*self.command], "python": self.python, "directives": [*self.directives]}
        return {**self.fields, "script": self.script(), "extended_properties": {"jman": kept}}

    def script(self) -> str:
        program, *arguments = self.command
        directives = "".join(f"{line}\n" for line in self.directives)
        if not is_sent(program):
            return f"#!/bin/sh\n{directives}exec {shlex.join(self.command)}\n"
        python = f"{shlex.quote(self.python)} " if program.endswith(".py") else ""
        text = read(program)
        if self.local:  # the file itself, as it will be when the job runs
            return f"#!/bin/sh\n{directives}exec {python}{shlex.join([str(Path(program).absolute()), *arguments])}\n"
        return with_file(Path(program).name, text, python, arguments, directives)


def with_file(name: str, text: str, python: str, arguments: Sequence[str], directives: str) -> str:
    """A script that brings a file along, and runs it."""
    return SENT.format(
        directives=directives,
        name=shlex.quote(name),
        end=f"JMAN_{hashlib.sha256(text.encode()).hexdigest()[:32]}",
        text=text if text.endswith("\n") else f"{text}\n",
        python=python,
        arguments=shlex.join(arguments),
    )


def sent_again(kept: Mapping[str, Any]) -> str | None:
    """The script of a job whose file was sent along, with the file as it is now; None where it is not here."""
    machine, _, path = str(kept.get("file") or "").partition(":")
    if machine != socket.gethostname() or not Path(path).is_file():
        return None
    python = f"{shlex.quote(kept.get('python') or PYTHON)} " if path.endswith(".py") else ""
    directives = "".join(f"{line}\n" for line in kept.get("directives") or ())
    return with_file(Path(path).name, read(path), python, kept["command"][1:], directives)


def is_sent(program: str) -> bool:
    """Whether it is a file of this folder that goes along: a Python script, or a script by a relative path. Any other
    command is the host's."""
    if program.endswith(".py"):
        return True
    if "/" not in program or program.startswith("/"):
        return False
    try:
        with Path(program).open("rb") as file:
            return file.read(2) == b"#!"
    except OSError:
        return False


def read(program: str) -> str:
    try:
        text = Path(program).read_text(encoding="utf-8")
    except OSError as problem:
        hint = f"to run a file of the host's own write: jman submit -- {PYTHON} {program}"
        raise click.UsageError(f"{program} cannot be read: {problem.strerror}; {hint}") from None
    except UnicodeDecodeError:
        raise click.UsageError(f"{program} is no text in UTF-8, so it cannot be a script") from None
    if "\0" in text:
        raise click.UsageError(f"{program} has a NUL in it, so it cannot be a script")
    return text


def default_python(local: bool) -> str:
    return (shutil.which("python3") or sys.executable) if local else PYTHON


def shown(command: Sequence[str], python: str) -> list[str]:
    """The command as it is printed, with the Python that runs a script."""
    return ["-S", python, *command] if command[0].endswith(".py") else [*command]


def tasks(text: str) -> str:
    """`10` is 1-10; `2-10:2` and `3,7,9` are as the API has them. Raises click.BadParameter."""
    expression = f"1-{text}" if text.isdigit() else text
    try:
        return str(task_range(expression))
    except ValueError as problem:
        raise click.BadParameter(str(problem)) from None


def memory(*sizes: str | None) -> str | None:
    """The greatest of some sizes such as `8G`, as the API has it."""
    found = []
    for size in filter(None, sizes):
        if not (read := SIZE.match(size)):
            raise click.BadParameter(f"{size!r} is no size; write 8G or 512M")
        found.append(float(read[1]) * MEBIBYTES[read[2].upper()])
    return f"{max(1, round(max(found)))}MiB" if found else None


def environment(pairs: Sequence[str]) -> dict[str, str]:
    for pair in pairs:
        if not re.match(r"[A-Za-z_][A-Za-z0-9_]*=", pair):
            raise click.BadParameter(f"{pair!r} is no NAME=value")
    return dict(pair.split("=", 1) for pair in pairs)


def folder(path: str | None) -> str | None:
    """A folder for logs, as the API has it: with a slash at its end."""
    return f"{path.rstrip('/')}/" if path else None


def wall_time(text: str | None) -> int | str | None:
    """Seconds are a number in the API."""
    return int(text) if text and text.isdigit() else text
