"""What the learner reads and writes beside the tables, whoever carries it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Protocol

from bakehouse_schemas.events.events import Control, PolicyPointer, Progress
from bakehouse_schemas.events.records import read_control
from bakehouse_schemas.events.validation import validated
from bakehouse_schemas.events.wire import parse_object

REMEMBERED = 1_000  # records of progress: what the tail has not reached yet


class Bus(Protocol):
    """Everything outside the tables that the loop depends on."""

    def stream_time_ms(self, replay_version: int) -> int:
        """Latest stream time that holds for a table read up to this version; −1: none yet."""

    def replay_version(self) -> int:
        """The latest table version that progress has named; −1: none yet."""

    def control(self, application: str) -> Control | None:
        """The last operator command."""

    def pointer(self, application: str, contract: str | None = None) -> PolicyPointer | None:
        """What the learner last published, in this run or before.

        Args:
            contract: the last for servers of that contract; None: the last of all.
        """

    def publish(self, pointer: PolicyPointer) -> None:
        """Announce a policy, to all servers and to those of the contract that is learned."""

    def report(self, fields: Mapping[str, Any], *, about: str | None = None) -> None:
        """Write one record of `status.v1`.

        Args:
            about: the record takes the place of what this or an earlier process wrote about
                the same; None: this process.
        """

    def wait(self, seconds: float) -> None:
        """Return when a record has come, or after this long."""


def key_for(application: str, contract: str) -> str:
    """Under which a pointer is published for servers of one contract, in `policies.v1`.

    Readers that do not know it pass it over: no application is called so.
    """
    return f"{application}@{contract}"


class BusState:
    """What the topics have said so far; thread-safe by replacing, never changing, values."""

    def __init__(self) -> None:
        self._progress: deque[Progress] = deque(maxlen=REMEMBERED)
        self._controls: dict[str, Control] = {}
        self._pointers: dict[str, PolicyPointer] = {}

    def progress(self, record: Progress) -> None:
        self._progress.append(record)

    def policies(self, key: str, value: bytes, *, received_at_ms: int) -> None:
        """A record of `policies.v1`. Raises InvalidEvent.

        Args:
            received_at_ms: the broker's time of it.
        """
        name, _, control = key.partition("/")
        if name.startswith("@"):  # an order to another part
            return
        if control:
            self._controls[name] = read_control(value, received_at_ms=received_at_ms)
        else:
            self._pointers[name] = validated(PolicyPointer, parse_object(value))

    def stream_time_ms(self, replay_version: int) -> int:
        times = [
            record.stream_time_ms
            for record in tuple(self._progress)
            if record.replay_version <= replay_version
        ]
        return max(times, default=-1)

    def replay_version(self) -> int:
        return self._progress[-1].replay_version if self._progress else -1

    def control(self, application: str) -> Control | None:
        return self._controls.get(application)

    def pointer(self, application: str, contract: str | None = None) -> PolicyPointer | None:
        key = application if contract is None else key_for(application, contract)
        return self._pointers.get(key)
