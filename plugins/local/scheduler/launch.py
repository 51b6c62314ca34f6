"""Starting a supervisor so that it outlives whoever starts it: a session of its own, nothing inherited."""

import os
import signal
import sys

PROGRAM = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "supervisor.py")  # noqa: PTH100, PTH118, PTH120
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
UNBLOCKABLE = {signal.SIGKILL, signal.SIGSTOP}


def supervisor(folder: str) -> int:
    """Start one for this spool; its pid. The caller has to wait for it some time, or to end itself."""
    log = os.path.join(folder, "supervisor.log")  # noqa: PTH118
    return os.posix_spawn(
        sys.executable,
        (sys.executable, "-I", "-S", PROGRAM, folder),
        ENVIRONMENT,
        file_actions=(
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ),
        setsid=True,
        setsigmask=(),
        setsigdef=signal.valid_signals() - UNBLOCKABLE,
    )


def orphan(folder: str) -> int:
    """Start one that is nobody's child, for a supervisor, whose children are its job. Forks: not for threads."""
    reading, writing = os.pipe()
    between = os.fork()
    if between == 0:
        try:
            os.write(writing, str(supervisor(folder)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(between, 0)
    try:
        return int(os.read(reading, 20) or 0)
    finally:
        os.close(reading)
