"""One connection: a request's head is bounded, and a response leaves in one system call.

Uvicorn writes head and body of a response one after the other, and each write wakes the client
up; on answers of this size the second costs as much as the policy. What is written in one turn of
the event loop is joined here and written at its end.

Neither Uvicorn nor its parser bounds a head, and the parser keeps the one that is under way. So
the bytes are counted that move neither head nor body on: an address or a field without end, too
many fields, also those after a body in chunks (trailers), and what is written beside a chunk's
length. And it parses all requests that came in one go, at some kilobytes each, before the first
is answered: here the next piece waits until those of the last are under way.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from bakehouse_serving.problems import MEDIA_TYPE, problem_bytes

MOST_HEAD_BYTES = 32 << 10  # request line and fields; trailers may have as many again
MOST_FIELDS = 100  # of a request, its trailers included
PIECE_BYTES = 4 << 10  # parsed at once; a head that is not complete is counted to within this
SURELY_SHORT = MOST_HEAD_BYTES - PIECE_BYTES
# looked up once, for they are called for each request
_data_received = HttpToolsProtocol.data_received
_on_headers_complete = HttpToolsProtocol.on_headers_complete
_on_body = HttpToolsProtocol.on_body


class JoiningTransport:
    """A transport whose writes of one turn of the loop are one; all else is the transport's."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._waiting: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._waiting:
            data = b"".join(self._waiting)
            self._waiting.clear()
            if not self._transport.is_closing():  # the client may have gone since
                self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class _HeadTooLarge(Exception):
    """Ends the parsing."""


class _Trailers(list[tuple[bytes, bytes]]):
    """Where the parser's fields go once a head is complete: counted, and not kept."""

    def __init__(self) -> None:
        super().__init__()
        self.fields = 0  # those of the head included
        self.bytes = 0

    @property
    def too_large(self) -> bool:
        return self.fields > MOST_FIELDS or self.bytes > MOST_HEAD_BYTES

    def append(self, field: tuple[bytes, bytes]) -> None:
        self.fields += 1
        self.bytes += _field_bytes(field)
        if self.too_large:
            raise _HeadTooLarge


def _field_bytes(field: tuple[bytes, bytes]) -> int:
    return len(field[0]) + len(field[1]) + len(": \r\n")


class OneWriteProtocol(HttpToolsProtocol):
    """Uvicorn's protocol on a `JoiningTransport`, with bounded heads."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        # Bytes since a head was completed or a body got on. Of the piece in which that happened
        # none are counted, so there may have been `PIECE_BYTES` more.
        self._unfinished = 0
        self._trailers = _Trailers()
        self._too_large = False
        self._refused = False
        self._held = b""  # came, and is not parsed yet: at most what one read brings
        self._goes_on = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(JoiningTransport(transport, self.loop))  # type: ignore[arg-type]

    def data_received(self, data: bytes | memoryview) -> None:
        if self._refused:
            return None
        if len(data) > PIECE_BYTES or self.pipeline or self._held:
            return self._receive_pieces(memoryview(data))
        self._unfinished += len(data)
        _data_received(self, data)  # type: ignore[arg-type]
        if self._unfinished > MOST_HEAD_BYTES:
            self._refuse()
        return None

    def _receive_pieces(self, data: memoryview) -> None:
        for at in range(0, len(data), PIECE_BYTES):
            if self.transport.is_closing() or self not in self.connections:
                return None  # nothing more is heard, or another protocol hears it
            if self.pipeline or self._held:
                return self._hold(bytes(data[at:]))
            self.data_received(data[at : at + PIECE_BYTES])
        return None

    def _hold(self, data: bytes) -> None:
        """Parse this once no request waits for its turn; until then nothing more is read."""
        self._held += data
        self.flow.pause_reading()
        # called whenever an answer is complete, or a request's body is asked for
        self.flow.resume_reading = self._resume  # type: ignore[method-assign]

    def _resume(self) -> None:
        if not self.pipeline and not self._goes_on:
            self._goes_on = True
            self.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._goes_on = False
        del self.flow.resume_reading  # the flow's own again
        held, self._held = self._held, b""
        self._receive_pieces(memoryview(held))
        if not (self._held or self._refused or self.transport.is_closing()):
            self.flow.resume_reading()

    def on_headers_complete(self) -> None:
        fields, came = len(self.headers), self._unfinished
        if fields > MOST_FIELDS or (came > SURELY_SHORT and self._head_bytes() > MOST_HEAD_BYTES):
            self._too_large = True
            raise _HeadTooLarge
        self._unfinished = 0
        _on_headers_complete(self)
        if not self.parser.should_upgrade():
            trailers = self.headers = self._trailers
            trailers.fields, trailers.bytes = fields, 0

    def on_body(self, body: bytes) -> None:
        self._unfinished = 0
        _on_body(self, body)

    def send_400_response(self, msg: str) -> None:
        if self._too_large or self._trailers.too_large:
            self._refuse()
        else:
            super().send_400_response(msg)

    def _head_bytes(self) -> int:
        line = len(self.parser.get_method()) + len(self.url) + len("  HTTP/1.1\r\n")
        return line + sum(map(_field_bytes, self.headers)) + len("\r\n")

    def _refuse(self) -> None:
        """431, once the requests that came before are answered, and the connection ends."""
        self._refused = True
        self.flow.pause_reading()
        last = self.cycle
        if last is not None and last.more_body:  # it is this one; what it asked for is not done
            last.disconnected = True
            last.message_event.set()
            waits = last.response_started or self.pipeline
            return self.transport.close() if waits else self._say_refused()
        if last is None or last.response_complete:
            return self._say_refused()
        answered = last.on_response

        def then() -> None:
            answered()
            self._say_refused()

        last.on_response = then
        return None

    def _say_refused(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(_REFUSAL)
        self.transport.close()


def _refusal() -> bytes:
    body = problem_bytes(
        431,
        f"what came beside the body has more than {MOST_HEAD_BYTES} bytes or {MOST_FIELDS} fields",
    )
    fields = (f"content-type: {MEDIA_TYPE}", f"content-length: {len(body)}", "connection: close")
    return STATUS_LINE[431] + "".join(f"{field}\r\n" for field in (*fields, "")).encode() + body


_REFUSAL = _refusal()
