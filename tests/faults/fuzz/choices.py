"""An input as a sequence of choices, so that flipping a byte changes one decision of a target."""

from __future__ import annotations


class Choices:
    """Reads an input from its beginning; past the end everything is 0 or empty."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, length: int) -> bytes:
        """The next bytes, fewer at the end."""
        taken = self._data[self._at : self._at + length]
        self._at += len(taken)
        return taken

    def byte(self) -> int:
        """0 to 255."""
        return (self.take(1) or b"\0")[0]

    def number(self) -> int:
        """0 to 65,535."""
        return int.from_bytes(self.take(2).ljust(2, b"\0"), "little")

    def text(self) -> bytes:
        """UTF-8 of up to 255 bytes, as events are."""
        return self.take(self.byte()).decode(errors="ignore").encode()

    def rest(self) -> bytes:
        return self.take(self.left)
