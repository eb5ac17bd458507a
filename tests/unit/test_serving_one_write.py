"""A response leaves in one write, and nothing of it is left behind."""

import asyncio

from serving.one_write import JoiningTransport


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
