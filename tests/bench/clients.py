"""Clients that cost little: a process each, one kept-alive connection each, requests written in advance."""

import socket
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True)
class Request:
    """What a client sends again and again, and the status that it must get."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""
    expect: int = 200

    def encoded(self) -> bytes:
        headers = {"Host": "bench", **self.headers, **({"Content-Length": str(len(self.body))} if self.body else {})}
        lines = [f"{self.method} {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join(lines).encode() + HEAD_END + self.body


@dataclass(frozen=True)
class Load:
    """What came of it: seconds for each answer, in any order; how long it took altogether; bytes of one answer."""

    latencies: list[float]
    seconds: float
    answer_bytes: int

    @property
    def per_second(self) -> float:
        return len(self.latencies) / self.seconds

    def percentile(self, percent: float) -> float:
        """In milliseconds."""
        ordered = sorted(self.latencies)
        return 1000 * ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def load(port: int, request: Request, clients: int, seconds: float) -> Load:
    """As many requests as so many clients get answered in that time; each at least one."""
    begin = time.monotonic() + 0.3  # all processes have started by then
    with ProcessPoolExecutor(clients, mp_context=get_context("fork")) as pool:
        runs = [pool.submit(_run, port, request, begin, seconds) for _ in range(clients)]
        results = [run.result() for run in runs]
    latencies = [latency for result in results for latency in result[0]]
    return Load(latencies, max(result[1] for result in results) - begin, results[0][2])


def _run(port: int, request: Request, begin: float, seconds: float) -> tuple[list[float], float, int]:
    message, latencies, size = request.encoded(), [], 0
    with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        buffer = bytearray(1 << 20)
        time.sleep(max(0.0, begin - time.monotonic()))
        now = time.monotonic()
        while now < begin + seconds or not latencies:
            connection.sendall(message)
            size = _answer(connection, buffer, request.expect)
            before, now = now, time.monotonic()
            latencies.append(now - before)
    return latencies, now, size


def _answer(connection: socket.socket, buffer: bytearray, expect: int) -> int:
    """Read one answer and give the size of its body. Fails where its status is another than it must be."""
    head = b""
    while HEAD_END not in head:
        got = connection.recv_into(buffer)
        if not got:
            raise ConnectionError(f"the gateway closed the connection after {head!r}")
        head += buffer[:got]
    head, _, body = head.partition(HEAD_END)
    if int(head.split(b" ", 2)[1]) != expect:
        raise ValueError(f"{head.decode()}\n{body.decode()}")
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    missing = length - len(body)
    while missing > 0:
        missing -= connection.recv_into(buffer)
    return length
