"""A client that costs little, so that what is measured is the server."""

from __future__ import annotations

import socket
from typing import Self


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


class Connection:
    """One kept connection; a request at a time, blocking."""

    def __init__(self, host: str, port: int) -> None:
        self._socket = socket.create_connection((host, port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send and wait: status and body. Raises ConnectionError."""
        self._socket.sendall(request)
        data = bytearray()
        while True:
            received = self._socket.recv(65536)
            if not received:
                raise ConnectionError(f"the server closed the connection after {bytes(data)!r:.80}")
            data += received
            if (whole := split_response(data)) is not None:
                return whole[0], whole[1]

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
