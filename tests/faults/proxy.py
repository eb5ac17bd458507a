"""A TCP proxy that misbehaves on request: `python -m tests.faults.proxy LISTEN TARGET`.

A process of its own, told on standard input, one word a line, and answering each with `ok`:

    open    pass everything on; connections of a worse time are reset
    closed  reset every connection, and every new one: nobody is there
    silent  half-open: connections stay and are accepted, and what is sent goes nowhere
    reset   reset every connection, once
"""

from __future__ import annotations

import asyncio
import socket
import struct
import subprocess
import sys
from typing import Self

MODES = ("open", "closed", "silent", "reset")


class Proxy:
    """The proxy as its driver sees it."""

    def __init__(self, listen: int, target: int) -> None:
        self.port = listen
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.proxy", str(listen), str(target)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._expect_ok()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()

    def become(self, mode: str) -> None:
        """One of `MODES`; in force when this returns."""
        assert mode in MODES and self._process.stdin is not None
        self._process.stdin.write(f"{mode}\n")
        self._process.stdin.flush()
        self._expect_ok()

    def _expect_ok(self) -> None:
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ok\n":
            raise RuntimeError(f"the proxy ended with {self._process.wait()}")


class _Relay:
    def __init__(self, target: int) -> None:
        self.target = target
        self.mode = "open"
        self.writers: set[asyncio.StreamWriter] = set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.add(writer)
        try:
            if self.mode == "closed":
                return
            if self.mode == "silent":
                await self._pump(reader, None)
                return
            try:
                there, out = await asyncio.open_connection("127.0.0.1", self.target)
            except OSError:
                return
            self.writers.add(out)
            pumps = [
                asyncio.create_task(self._pump(reader, out)),
                asyncio.create_task(self._pump(there, writer)),
            ]
            _, rest = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in rest:
                pump.cancel()
            reset(out)
            self.writers.discard(out)
        finally:
            reset(writer)
            self.writers.discard(writer)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None
    ) -> None:
        try:
            while data := await reader.read(1 << 16):
                if self.mode != "silent" and writer is not None:
                    writer.write(data)
                    await writer.drain()
        except (ConnectionError, OSError):
            pass

    def become(self, mode: str) -> None:
        if mode in ("closed", "reset") or (mode == "open" and self.mode != "open"):
            for writer in list(self.writers):
                reset(writer)
        self.mode = "open" if mode == "reset" else mode


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with RST, not with a goodbye."""
    plain = writer.get_extra_info("socket")
    if plain is not None and plain.fileno() >= 0:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def main(listen: int, target: int) -> None:
    """Relay until standard input ends."""
    relay = _Relay(target)
    server = await asyncio.start_server(relay.accept, "127.0.0.1", listen)
    print("ok", flush=True)
    loop = asyncio.get_running_loop()
    async with server:
        while mode := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
            relay.become(mode)
            print("ok", flush=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
