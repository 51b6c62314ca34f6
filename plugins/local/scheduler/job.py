"""How a job's process comes to be: its script, its account, its files, its environment.

`start` forks a child that waits. Only when its pid stands in the spool does `Started.go` let it become the script: a
job whose supervisor was killed before never ran.
"""

import os
import pwd
import signal
import sqlite3
import stat
from contextlib import suppress
from errno import EDQUOT, EINVAL, ENOENT, ENOEXEC, ENOSPC, ENXIO
from typing import NamedTuple

PATH = "/usr/local/bin:/usr/bin:/bin"
CANNOT_START = 125
UNBLOCKABLE = {signal.SIGKILL, signal.SIGSTOP}


class CannotStart(Exception):
    """The job cannot be started; the text says why."""


class NoRoom(Exception):
    """The job cannot be started before the spool's disk has room again."""


class Who(NamedTuple):
    """Whom a job runs as. `switch` is false for the user that the supervisor is already."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str
    switch: bool


def who(account: str, home: str | None) -> Who:
    if home is not None:
        user = pwd.getpwuid(os.geteuid())
        return Who(user.pw_name, user.pw_uid, user.pw_gid, home, user.pw_shell or "/bin/sh", False)
    try:
        user = pwd.getpwnam(account)
    except KeyError:
        raise CannotStart(f"this machine has no account {account!r}") from None
    if user.pw_uid == 0:
        raise CannotStart("nothing is run as root")
    return Who(account, user.pw_uid, user.pw_gid, user.pw_dir, user.pw_shell or "/bin/sh", True)


def environment(job: sqlite3.Row, user: Who) -> dict[bytes, bytes]:
    """All that a job sees; nothing of the gateway's."""
    base = {"PATH": PATH, "LANG": "C.UTF-8", "HOME": user.home, "SHELL": user.shell}
    base |= {"USER": user.name, "LOGNAME": user.name}
    own = {"JOB_ID": str(job["array"] or job["id"]), "JOBGATE_JOB_UUID": job["uuid"]}
    if job["array"]:
        own |= {"JOBGATE_TASK_ID": str(job["task"]), "SGE_TASK_ID": str(job["task"])}
    asked = dict(entry.split(b"=", 1) for entry in job["environment"].split(b"\0")[:-1])
    return _encoded(base) | asked | _encoded(own)


def _encoded(values: dict[str, str]) -> dict[bytes, bytes]:
    return {os.fsencode(name): os.fsencode(value) for name, value in values.items()}


class Started:
    """A job's process. `pid` leads a session and a process group of the job's own."""

    def __init__(self, pid: int, gate: int, words: int) -> None:
        self.pid = pid
        self._gate = gate
        self._words = words

    def go(self) -> None:
        os.write(self._gate, b"!")
        self.close_gate()

    def close_gate(self) -> None:
        """Without `go`: the child ends."""
        if self._gate >= 0:
            os.close(self._gate)
            self._gate = -1

    def failure(self) -> str | None:
        """Once the process has ended: why it did not become the script, if it did not."""
        try:
            return os.read(self._words, 4096).decode("utf-8", "replace") or None
        finally:
            os.close(self._words)


def start(job: sqlite3.Row, folder: str) -> Started:
    """Fork the child that waits. Raises CannotStart, NoRoom."""
    user = who(job["account"], job["home"])
    script, descriptor = _write_script(job, user, folder)
    gate, words = os.pipe(), os.pipe()
    pid = os.fork()
    if pid:
        for theirs in (gate[0], words[1], descriptor):
            os.close(theirs)
        os.set_blocking(words[0], False)
        return Started(pid, gate[1], words[0])
    os.close(gate[1])
    code = CANNOT_START
    try:
        _become(job, user, script, descriptor, gate[0])
    except _Refused as problem:
        code = problem.exit_code
        os.write(words[1], str(problem).encode("utf-8", "replace")[:4096])
    except BaseException as problem:
        os.write(words[1], repr(problem).encode("utf-8", "replace")[:4096])
    finally:
        os._exit(code)


def remove_script(job: int, folder: str) -> None:
    with suppress(OSError):
        os.unlink(_script_path(job, folder))  # noqa: PTH108


def _script_path(job: int, folder: str) -> str:
    return os.path.join(folder, "scripts", str(job))  # noqa: PTH118


def _write_script(job: sqlite3.Row, user: Who, folder: str) -> tuple[str, int]:
    """Its path, and a descriptor for an account that cannot reach the path."""
    path = _script_path(job["id"], folder)
    try:
        os.makedirs(os.path.dirname(path), mode=0o711 if user.switch else 0o700, exist_ok=True)  # noqa: PTH103, PTH120
        remove_script(job["id"], folder)  # a supervisor that was killed may have left it
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o700)
        with open(descriptor, "wb") as file:  # noqa: PTH123
            file.write(job["script"])
            os.fchmod(descriptor, 0o700)
            if user.switch:
                os.fchown(descriptor, user.uid, user.gid)
        return path, os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as problem:
        words = f"the script cannot be put into the spool: {problem.strerror}"
        raise (NoRoom if problem.errno in (EDQUOT, ENOSPC) else CannotStart)(words) from None


# --- in the child ---------------------------------------------------------------------------------------------------


class _Refused(Exception):
    def __init__(self, words: str, exit_code: int = CANNOT_START) -> None:
        super().__init__(words)
        self.exit_code = exit_code


def _become(job: sqlite3.Row, user: Who, script: str, descriptor: int, gate: int) -> None:
    os.setsid()
    for number in signal.valid_signals() - UNBLOCKABLE:
        signal.signal(number, signal.SIG_DFL)  # Python ignores SIGPIPE and SIGXFSZ, and a job would inherit that
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if os.read(gate, 1) != b"!":
        os._exit(CANNOT_START)
    os.umask(0o022)
    values = environment(job, user)
    if user.switch:
        os.initgroups(user.name, user.gid)
        os.setgid(user.gid)
        os.setuid(user.uid)
    _enter(job["working_directory"])
    _connect(job)
    _execute(script, descriptor, values)


def _enter(directory: str) -> None:
    try:
        os.chdir(directory)
    except OSError as problem:
        raise _Refused(f"working directory {directory}: {problem.strerror}") from None


def _connect(job: sqlite3.Row) -> None:
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    out = _open(job["stdout"], bool(job["append"] & 1))
    os.dup2(out, 1)
    same = job["stdout"] == job["stderr"]
    os.dup2(out if same else _open(job["stderr"], bool(job["append"] & 2)), 2)


def _open(path: str, append: bool) -> int:
    """Neither a FIFO without a reader nor a terminal line can hold the job up."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY
    try:
        descriptor = os.open(path, flags | (0 if append else os.O_TRUNC), 0o644)
        kind = os.fstat(descriptor)
        if not stat.S_ISREG(kind.st_mode) and kind.st_rdev != os.makedev(1, 3):
            raise OSError(EINVAL, "is neither a regular file nor /dev/null")
    except OSError as problem:
        words = "is neither a regular file nor /dev/null" if problem.errno == ENXIO else problem.strerror
        raise _Refused(f"{path}: {words}") from None
    os.set_blocking(descriptor, True)
    return descriptor


def _execute(script: str, descriptor: int, values: dict[bytes, bytes]) -> None:
    if not os.access(script, os.R_OK | os.X_OK):  # the account cannot get there: by its descriptor, which stays open
        os.set_inheritable(descriptor, True)
        script = f"/proc/self/fd/{descriptor}"
    try:
        os.execve(script, [script], values)
    except OSError as problem:
        if problem.errno == ENOEXEC:
            os.execve("/bin/sh", ["/bin/sh", script], values)
        missing = problem.errno == ENOENT
        words = "the script's first line names an interpreter that "
        words += "does not exist" if missing else f"cannot be run: {problem.strerror}"
        os.write(2, f"jobgate: {words}\n".encode())
        raise _Refused(words, 127 if missing else 126) from None
