"""Lead ports of this machine's loopback into another process's network namespace.

usage: relay.py PID OUTER:INNER...      (OUTER 0: any free port)

Prints the outer ports on one line once they listen. SIGHUP cuts every connection; SIGTERM ends it, too.
"""

import asyncio
import ctypes
import os
import signal
import socket
import sys

CLONE_NEWNET = 0x40000000
CHUNK = 256 * 1024
open_writers: set[asyncio.StreamWriter] = set()


def listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(1024)
    return listener


def enter_network_of(pid: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    if libc.setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
    os.close(descriptor)


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.close()


async def join(outer: tuple[asyncio.StreamReader, asyncio.StreamWriter], port: int) -> None:
    try:
        inner = await asyncio.open_connection("127.0.0.1", port, limit=CHUNK)
    except OSError:
        outer[1].close()
        return
    for _, writer in (outer, inner):
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    both = {outer[1], inner[1]}
    open_writers.update(both)
    await asyncio.gather(copy(outer[0], inner[1]), copy(inner[0], outer[1]))
    open_writers.difference_update(both)
    for writer in both:
        writer.close()


def cut() -> None:
    for writer in open_writers:
        writer.transport.abort()


async def serve(listener: socket.socket, port: int) -> None:
    server = await asyncio.start_server(lambda *streams: join(streams, port), sock=listener, limit=CHUNK)
    await server.serve_forever()


async def main(pid: int, pairs: list[tuple[int, int]]) -> None:
    # The listeners stay in the namespace in which they were made; only what is opened from now on is inside.
    listeners = [listen(outer) for outer, _ in pairs]
    enter_network_of(pid)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, cut)
    print(*(listener.getsockname()[1] for listener in listeners), flush=True)
    await asyncio.gather(*(serve(listener, inner) for listener, (_, inner) in zip(listeners, pairs, strict=True)))


if __name__ == "__main__":
    numbers = [tuple(map(int, pair.split(":"))) for pair in sys.argv[2:]]
    asyncio.run(main(int(sys.argv[1]), [(outer, inner) for outer, inner in numbers]))
