"""Processes as /proc shows them: who lives, who descends from whom, and how to end what is left of a job.

A process is named by its pid and its start time (clock ticks since the machine started), since pids are used again.
Standard library only.
"""

import os
import signal
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from typing import NamedTuple

KILL_PATIENCE = 10.0


class Process(NamedTuple):
    pid: int
    state: str
    parent: int
    session: int
    started: int


def boot_id() -> str:
    """Changes when the machine restarts."""
    with open("/proc/sys/kernel/random/boot_id") as file:  # noqa: PTH123
        return file.read().strip()


def read(pid: int) -> Process | None:
    """None where there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    cells = text[text.rindex(b")") + 2 :].split()  # the name before may hold blanks and brackets
    return Process(pid, cells[0].decode(), int(cells[1]), int(cells[3]), int(cells[19]))


def started(pid: int) -> int | None:
    found = read(pid)
    return found.started if found else None


def alive(pid: int, started: int, boot: str) -> bool:
    """The very process that was written down. One that ended and was not waited for yet does not live."""
    found = read(pid)
    return bool(found and found.started == started and found.state not in "ZX" and boot == boot_id())


def all_processes() -> Iterator[Process]:
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit() and (found := read(int(name))):
            yield found


def descendants(root: int) -> list[int]:
    """Every living process below `root`, nearest first."""
    children: dict[int, list[int]] = {}
    for process in all_processes():
        if process.state not in "ZX":
            children.setdefault(process.parent, []).append(process.pid)
    found = list(children.get(root, ()))
    for pid in found:  # grows while it is walked
        found += children.get(pid, ())
    return found


def send(pids: Collection[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):  # gone; or setuid, and not ours to end
            os.kill(pid, number)


def signal_process(pid: int, started: int, number: int) -> bool:
    """Signal the very process that was written down, and no other that has its pid by now."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        found = read(pid)
        if not found or found.started != started:
            return False
        signal.pidfd_send_signal(handle, number)
        return True
    except OSError:
        return False
    finally:
        os.close(handle)


def end_orphans(uuid: str, leader: int, leader_started: int) -> None:
    """Kill what is left of a job whose supervisor is gone."""
    kill_all(lambda: orphans(uuid, leader, leader_started))


def kill_all(find: Callable[[], Collection[int]]) -> bool:
    """Kill what `find` finds until it finds nothing more; false where something would not go."""
    deadline = time.monotonic() + KILL_PATIENCE
    while pids := find():
        if time.monotonic() > deadline:
            return False
        send(pids, signal.SIGKILL)
        time.sleep(0.005)
    return True


def orphans(uuid: str, leader: int, leader_started: int) -> list[int]:
    """Processes of the job's session, and those that carry its uuid in their environment."""
    first = read(leader)
    ours = first is None or first.started == leader_started  # else the pid, and so the session, is somebody else's
    mark = f"JOBGATE_JOB_UUID={uuid}".encode()
    return [
        process.pid
        for process in all_processes()
        if process.state not in "ZX" and ((ours and process.session == leader) or mark in environment(process.pid))
    ]


def environment(pid: int) -> list[bytes]:
    """The environment that the process was started with; empty where it may not be read."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123
            return file.read().split(b"\0")
    except OSError:
        return []
