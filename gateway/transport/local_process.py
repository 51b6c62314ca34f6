"""Talking with a process of this machine: its input goes in while both outputs come out, in constant memory."""

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, Self

CHUNK = 1 << 16
STDIN, STDOUT, STDERR = 0, 1, 2


class Conversation:
    """With one process that leads a group of its own. At the end of the block the process has ended or is killed."""

    def __init__(self, process: subprocess.Popen[bytes], stdin: bytes | Iterable[bytes]) -> None:
        self.process = process
        self._pieces = iter([stdin] if isinstance(stdin, bytes) else stdin)
        self._piece = memoryview(b"")
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> Self:
        pipes = (self.process.stdin, self.process.stdout, self.process.stderr)
        for stream, pipe in enumerate(pipes):
            assert pipe
            os.set_blocking(pipe.fileno(), False)
            event = selectors.EVENT_WRITE if stream == STDIN else selectors.EVENT_READ
            self._selector.register(pipe, event, stream)
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.kill()
        for pipe in [key.fileobj for key in self._selector.get_map().values()]:
            self._close(pipe)
        self._selector.close()
        self.process.wait()

    def pieces(self, timeout: float, *, streamed: bool = False) -> Iterator[tuple[int, bytes]]:
        """What the process prints, as (STDOUT or STDERR, bytes), until it has closed both. Raises TimeoutExpired when
        that takes longer than `timeout` seconds or, with `streamed`, when nothing moves for so long."""
        deadline = time.monotonic() + timeout
        while self._selector.get_map():
            if streamed:
                deadline = time.monotonic() + timeout
            ready = self._selector.select(max(0.0, deadline - time.monotonic()))
            if not ready or (not streamed and time.monotonic() > deadline):
                raise subprocess.TimeoutExpired(self.process.args, timeout)
            for key, _ in ready:
                if key.data == STDIN:
                    self._feed(key.fileobj)
                elif data := os.read(key.fd, CHUNK):
                    yield key.data, data
                else:
                    self._close(key.fileobj)

    def kill(self) -> None:
        """End the process's group. It is fed no longer."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        if self.process.stdin and not self.process.stdin.closed:
            self._close(self.process.stdin)

    def _feed(self, pipe: Any) -> None:
        """As much as fits. A process that does not read its input to the end is none of our business."""
        try:
            while not self._piece:
                self._piece = memoryview(next(self._pieces))
            self._piece = self._piece[os.write(pipe.fileno(), self._piece) :]
        except BlockingIOError:
            return
        except (StopIteration, BrokenPipeError):
            self._close(pipe)

    def _close(self, pipe: Any) -> None:
        self._selector.unregister(pipe)
        with suppress(BrokenPipeError):
            pipe.close()
