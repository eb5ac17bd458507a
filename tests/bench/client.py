"""A client that costs little, so that what is measured is the server."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Sequence


def request_bytes(path: str, body: bytes) -> bytes:
    """A POST of JSON over a connection that is kept."""
    head = (
        f"POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def split_response(data: bytes | bytearray) -> tuple[int, bytes, int] | None:
    """Status, body and length of the response that `data` begins with, None if it is not whole.

    Of HTTP it knows what our servers say: a status line, `content-length`, no chunks.
    """
    head_end = data.find(b"\r\n\r\n")
    if head_end < 0:
        return None
    head = bytes(data[:head_end]).lower()
    at = head.find(b"content-length:")
    if at < 0:
        raise ValueError(f"expected a content-length, got {head[:200]!r}")
    stop = head.find(b"\r\n", at)
    length = int(head[at + 15 : stop if stop >= 0 else len(head)])
    end = head_end + 4 + length
    if len(data) < end:
        return None
    return int(head[9:12]), bytes(data[head_end + 4 : end]), end


def keep_busy(
    port: int, requests: Sequence[bytes], count: int, *, in_flight: int
) -> tuple[list[float], list[int]]:
    """`count` requests, so many in flight at any time; latencies in seconds, and statuses."""
    latencies: list[float] = []
    statuses: list[int] = []
    selector = selectors.DefaultSelector()
    sockets = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(in_flight)]
    sent_at: dict[socket.socket, float] = {}
    buffers: dict[socket.socket, bytearray] = {}
    sent = 0
    try:
        for one in sockets:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(one, selectors.EVENT_READ, one)
            one.sendall(requests[sent % len(requests)])
            sent_at[one], buffers[one] = time.perf_counter(), bytearray()
            sent += 1
        while len(latencies) < count:
            events = selector.select(30)
            if not events:
                raise ConnectionError(f"no answer for 30 s after {len(latencies)} of {count}")
            for key, _ in events:
                one = key.data
                buffers[one] += one.recv(65536)
                whole = split_response(buffers[one])
                if whole is None:
                    continue
                latencies.append(time.perf_counter() - sent_at[one])
                statuses.append(whole[0])
                del buffers[one][: whole[2]]
                if sent < count:
                    one.sendall(requests[sent % len(requests)])
                    sent_at[one] = time.perf_counter()
                    sent += 1
    finally:
        selector.close()
        for one in sockets:
            one.close()
    return latencies, statuses
