"""A response leaves in one write, and nothing of it is left behind; heads have bounds."""

import asyncio
import contextlib
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bakehouse_serving.hot.one_write import (
    MOST_FIELDS,
    MOST_HEAD_BYTES,
    PIECE_BYTES,
    JoiningTransport,
)
from tests.unit.test_serving_http import ASK, LEVELS, Server


class Wire:
    """What a transport wrote, write by write."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.writes.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


async def turn_of_the_loop() -> None:
    await asyncio.sleep(0)


def test_head_and_body_leave_together_and_the_next_response_by_itself():
    async def respond() -> list[bytes]:
        wire = Wire()
        transport = JoiningTransport(wire, asyncio.get_running_loop())  # type: ignore[arg-type]
        transport.write(b"head ")
        transport.write(b"body")
        assert wire.writes == []
        await turn_of_the_loop()
        transport.write(b"next")
        await turn_of_the_loop()
        await turn_of_the_loop()
        return wire.writes

    assert asyncio.run(respond()) == [b"head body", b"next"]


def test_what_was_written_before_a_close_is_sent_before_it():
    async def respond() -> Wire:
        wire = Wire()
        transport = JoiningTransport(wire, asyncio.get_running_loop())  # type: ignore[arg-type]
        transport.write(b"goodbye")
        transport.close()
        assert transport.is_closing()
        await turn_of_the_loop()
        return wire

    wire = asyncio.run(respond())
    assert wire.writes == [b"goodbye"]
    assert wire.closed


def test_what_was_written_for_a_client_that_went_away_in_the_same_turn_is_dropped():
    async def respond() -> Wire:
        wire = Wire()
        transport = JoiningTransport(wire, asyncio.get_running_loop())  # type: ignore[arg-type]
        transport.write(b"nobody is there")
        wire.closed = True  # such a transport refuses to write
        await turn_of_the_loop()
        return wire

    assert asyncio.run(respond()).writes == []


# --- heads

BODY = orjson.dumps(ASK)
CLOSE = b"Connection: close"
PATH = f"{LEVELS}/decisions".encode()
CHUNKED = b"Transfer-Encoding: chunked"
IN_CHUNKS = b"%x\r\n%s\r\n0\r\n" % (len(BODY), BODY)  # trailers may follow


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, int]]:
    server = Server(tmp_path_factory.mktemp("server"))
    with server.listening() as url:
        yield server, int(url.rpartition(":")[2])
    server.close()


def head(*fields: bytes, method: bytes = b"POST", path: bytes = PATH) -> bytes:
    return b"\r\n".join((method + b" " + path + b" HTTP/1.1", b"Host: x", *fields, b"", b""))


def post(*fields: bytes) -> bytes:
    return head(b"Content-Length: %d" % len(BODY), *fields) + BODY


def head_of(size: int, *fields: bytes) -> bytes:
    """The head of a decision of this many bytes."""
    length = b"Content-Length: %d" % len(BODY)
    short = len(head(length, *fields, b"a: "))
    return head(length, *fields, b"a: " + b"b" * (size - short))


def statuses(port: int, parts: Iterable[bytes]) -> list[int]:
    """Of the answers until the connection is closed, each part sent by itself."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(ConnectionError):
            for part in parts:
                client.sendall(part)
        with contextlib.suppress(ConnectionError):
            while more := client.recv(1 << 16):
                answer += more
    return [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


MANY = [b"f%d: x" % at for at in range(MOST_FIELDS - 3)]  # beside Host, length and Connection
TOO_LARGE = {
    "a byte too many": head_of(MOST_HEAD_BYTES + 1, CLOSE) + BODY,
    "a field too many": post(CLOSE, *MANY, b"one: more"),
    "an address too long": head(CLOSE, path=b"/" + b"a" * MOST_HEAD_BYTES, method=b"GET"),
    "a trailer too many": head(CHUNKED, CLOSE, *MANY) + IN_CHUNKS + b"one: more\r\n\r\n",
    "a trailer too long": head(CHUNKED, CLOSE)
    + IN_CHUNKS
    + b"a: %s\r\n\r\n" % (b"b" * MOST_HEAD_BYTES),
}


@pytest.mark.parametrize("size", [1 << 20, PIECE_BYTES, 1_000], ids=lambda size: f"by {size}")
@pytest.mark.parametrize("sent", TOO_LARGE.values(), ids=TOO_LARGE)
def test_a_head_beyond_the_bounds_is_a_431_that_does_nothing_and_ends_the_connection(
    listening: tuple[Server, int], sent: bytes, size: int
) -> None:
    server, port = listening
    before = len(server.spool.records)
    assert statuses(port, cut(sent, size)) == [431]
    assert len(server.spool.records) == before


@pytest.mark.parametrize("size", [1 << 20, PIECE_BYTES, 1_000], ids=lambda size: f"by {size}")
def test_a_head_within_the_bounds_is_answered_however_it_is_cut(
    listening: tuple[Server, int], size: int
) -> None:
    largest = head_of(MOST_HEAD_BYTES) + BODY
    trailed = head(CHUNKED, *MANY) + IN_CHUNKS + b"a: b\r\n\r\n"
    sent = [largest, largest, post(*MANY), trailed, post(*MANY, CLOSE)]
    assert statuses(listening[1], cut(b"".join(sent), size)) == [200] * len(sent)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    sizes=st.lists(st.integers(200, MOST_HEAD_BYTES + 400), min_size=1, max_size=5),
    piece=st.integers(500, 40_000),
)
def test_each_head_of_a_connection_is_counted_anew_and_those_before_a_large_one_are_answered(
    listening: tuple[Server, int], sizes: list[int], piece: int
) -> None:
    sent = b"".join(head_of(size) + BODY for size in sizes) + post(CLOSE)
    bad = next((at for at, size in enumerate(sizes) if size > MOST_HEAD_BYTES), None)
    expected = [200] * (len(sizes) + 1) if bad is None else [200] * bad + [431]
    assert statuses(listening[1], cut(sent, piece)) == expected


def test_thousands_of_requests_in_one_go_are_answered_in_order(
    listening: tuple[Server, int],
) -> None:
    """Each third is wrong, so that order shows; the last one's body comes apart from its head."""
    some = [post(), head(b"Content-Length: 1") + b"{", head(method=b"PUT")]
    sent = b"".join(some * 500) + head(b"Content-Length: %d" % len(BODY), CLOSE)
    assert statuses(listening[1], [sent, BODY]) == [200, 422, 405] * 500 + [200]


def test_what_follows_a_body_is_not_taken_for_what_stood_before_it(tmp_path: Path) -> None:
    """A proxy that takes a field out of heads does not look for it there."""
    server = Server(tmp_path)
    sent = head(CHUNKED, CLOSE) + IN_CHUNKS + b"Origin: https://evil.example\r\n\r\n"
    with server.listening() as url:
        assert statuses(int(url.rpartition(":")[2]), [sent]) == [200]
    server.close()
