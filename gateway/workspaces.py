"""Workspaces: the folder of a bundle's own on a host, made and removed there as the job's account.

    <host option workspace>/<uuid>/bundle     what was uploaded, unpacked; the job runs here
                                  /input      the files that were uploaded beside it
                                  /output     what `/output` and `/files/` give
                                  /scratch    for the job

One that is being filled, or taken away, ends in `.part`. What a crash left of those is removed a day later, when the
account's next workspace is made.
"""

import logging
from collections.abc import Generator
from dataclasses import dataclass

from gateway.bundles import Bundle
from gateway.errors import (
    Conflict,
    Forbidden,
    HostDown,
    HostTimeout,
    JobgateError,
    NotFound,
    OutcomeUnknown,
    Unprocessable,
)
from gateway.hosts import Host
from gateway.model import Job
from gateway.transport import Command, CommandResult

log = logging.getLogger(__name__)

SILENCE = 120.0  # seconds in which nothing moves, while files are copied on a slow file system
LONGEST_WORDS = 1 << 14
NOT_THERE, LEADS_OUT = 66, 77

FILL = """
umask 077
mkdir -p -- "$1" && cd -- "$1" || exit
find . -maxdepth 1 -name '*-*.part' -mtime +0 -exec rm -rf -- {} +
mkdir -- "$2.part" && cd -- "$2.part" && mkdir bundle input output scratch || exit
shift 2
exec "$@"
"""
KEEP = 'cd -- "$1" && mv -T -- "$2.part" "$2"'
# Renamed first, so that it is gone at once; a job that is just being ended may still write there.
REMOVE = """
cd -- "$1" 2>/dev/null || exit 0
for old in "$2" "$2.part"; do
    [ -e "$old" ] || [ -L "$old" ] || continue
    mv -T -- "$old" "$old.old.part" || exit
    { find "./$old.old.part" -type d ! -perm -700 -exec chmod u+rwx {} \\; ; rm -rf -- "$old.old.part"; } \\
        </dev/null >/dev/null 2>&1 &
done
"""
PACK = f"""
fence=$(cd -- "$2" && pwd -P) && cd -- "$1" || exit {NOT_THERE}
case $(pwd -P)/ in "${{fence%/}}"/*) ;; *) exit {LEADS_OUT} ;; esac
exec tar -czf - --ignore-failed-read .
"""


@dataclass(frozen=True, slots=True)
class CopyOf:
    """The bundle and input of another job of the same account."""

    workspace: str


Contents = Bundle | CopyOf


def fill(host: Host, account: str, uuid: str, contents: Contents) -> str:
    """Make a job's workspace and put its contents there; gives its path. Nothing is left of one that fails.

    Raises Unprocessable where the host cannot keep it (its words in `error_output`), HostDown, Forbidden."""
    if isinstance(contents, Bundle):
        contents.check()
    root = _root(host, account)
    try:
        _fill(host, account, root, uuid, contents)
    except BaseException:
        remove(host, account, f"{root}/{uuid}")
        raise
    return f"{root}/{uuid}"


def _fill(host: Host, account: str, root: str, uuid: str, contents: Contents) -> None:
    if isinstance(contents, Bundle):
        unpack = ("tar", "-x", "--no-same-owner", "--no-same-permissions", "-f", "-")
        _do(host, account, Command(_sh(FILL, root, uuid, *unpack), stdin=contents, timeout=SILENCE))
    else:
        old = contents.workspace
        if host.transport.run(Command(_sh('test -d "$1/bundle"', old), repeatable=True), account).exit_code:
            raise Conflict("the job's bundle is no longer there; submit it again")
        copy = ("cp", "-a", "--", f"{old}/bundle", f"{old}/input", ".")
        _do(host, account, Command(_sh(FILL, root, uuid, *copy), timeout=10 * SILENCE))
    _do(host, account, Command(_sh(KEEP, root, uuid)))


def _do(host: Host, account: str, command: Command) -> None:
    try:
        result = host.transport.run(command, account)
    except (HostTimeout, OutcomeUnknown) as problem:
        raise HostDown(f"the bundle did not reach {host.name}, nothing was submitted: {problem.message}") from problem
    if result.exit_code:
        raise Unprocessable(
            f"{host.name} cannot keep the bundle: {result.stderr.strip()[-1000:]}",
            code="workspace_failed",
            exit_code=result.exit_code,
            error_output=result.stderr,
        )


def remove(host: Host, account: str, workspace: str) -> None:
    """Take it away. What goes wrong is only logged: no more than a folder is left."""
    root, _, uuid = workspace.rpartition("/")
    try:
        result = host.transport.run(Command(_sh(REMOVE, root, uuid), repeatable=True), account)
    except JobgateError as problem:
        log.warning("the workspace %s on %s was not removed: %s", workspace, host.name, problem.message)
    else:
        if result.exit_code:
            log.warning("the workspace %s on %s was not removed: %s", workspace, host.name, result.stderr)


def _root(host: Host, account: str) -> str:
    root = host.config.section.workspace.replace("{account}", account).rstrip("/")
    return host.transport.home(account) + root[1:] if root.startswith("~/") else root


def environment(job: Job) -> dict[str, str]:
    """What the program of a job with a workspace is told."""
    space = job.workspace
    if space is None:
        return {}
    folders = {"JOBGATE_INPUT": "input", "JOBGATE_OUTPUT": "output", "JOBGATE_SCRATCH": "scratch"}
    return {"JOBGATE_JOB": space, **{name: f"{space}/{folder}" for name, folder in folders.items()}}


def packed(host: Host, account: str, folder: str, within: str) -> Generator[bytes, None, None]:
    """A tar.gz of the folder, made on the host as the account while it is read. Links are kept as links.

    Raises NotFound where the folder is not there, Forbidden where it leads out of `within`."""
    command = Command(_sh(PACK, folder, within), timeout=SILENCE, most_output=LONGEST_WORDS)
    result = yield from host.transport.stream(command, account)
    _check_packed(host, folder, result)


def _check_packed(host: Host, folder: str, result: CommandResult) -> None:
    if result.exit_code == NOT_THERE:
        raise NotFound(f"{folder}: {result.stderr.strip()}", code="no_output_yet")
    if result.exit_code == LEADS_OUT:
        raise Forbidden(f"{folder}: leads out of the job's folder")
    if result.exit_code > 1:  # 1: a file changed while it was read (tar(1))
        raise HostDown(f"{host.name} cannot pack the job's output: {result.stderr.strip()[-1000:]}")


def _sh(script: str, *arguments: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", script, "sh", *arguments)
