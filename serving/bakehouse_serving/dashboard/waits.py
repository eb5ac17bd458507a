"""Since when has a part had work, and reported nothing?

Looked at once a second. A part that has nothing to do reports nothing and waits for nothing,
however long ago its last status came; one that never reported waits as well as one that stopped.
Where a stack runs in this home, its supervisor reports what each part is busy with.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bakehouse_schemas.process.phase import GIVEN_UP, READY, PhaseFile

RUN = "run.json"  # of a home, for as long as a stack runs there
PARTS = ("broker", "stream", "learner")
Fields = Mapping[str, Any]


class Waiting(NamedTuple):
    """One part.

    Args:
        since_ms: since when it has had work and has not reported; None: it has none, or reports.
        heard: it has reported since this process started.
        phase: what the stack's supervisor last reported of it; None: no stack runs in this home.
    """

    since_ms: int | None = None
    heard: bool = True
    phase: str | None = None

    @property
    def given_up(self) -> bool:
        """It died again and again, and is not started again."""
        return self.phase == GIVEN_UP

    @property
    def starting(self) -> bool:
        """It is being started, or started again."""
        return self.phase not in (None, READY, GIVEN_UP)


class Waits:
    """Tracks since when stream, and the learner of each application, have owed a status.

    Args:
        home: where the stack's supervisor keeps its phases; None: there is none.
        started_ms: of this process; what was reported before is of an earlier run.
    """

    def __init__(self, home: Path | None, *, started_ms: int) -> None:
        self._home = home
        self._started_ms = started_ms
        self._phases: dict[str, str] = {}
        self._since: dict[str, int] = {}
        self._reported_at_ms: dict[str, Any] = {}  # of each, by its own clock

    def look(
        self, now_ms: int, *, published: bool, stream: Fields, learners: Mapping[str, Fields]
    ) -> None:
        """Take in what was reported in the last second.

        Args:
            published: Kafka has taken decisions or outcomes of this process since the last look.
            stream: its latest status; empty: none.
            learners: application -> the latest status of the learner that has it.
        """
        self._phases = self._read_phases()
        if published:
            self._since.setdefault("stream", now_ms)
        self._note("stream", stream)
        grown = _version(stream)
        for name, learner in learners.items():
            key = f"learner/{name}"
            if grown > _version((learner.get("applications") or {}).get(name)):
                self._since.setdefault(key, now_ms)
            else:
                self._since.pop(key, None)
            self._note(key, learner)

    def _note(self, key: str, status: Fields) -> None:
        """Who has reported since the last look is not waited for."""
        if self._reported_at_ms.get(key) != status.get("at_ms"):
            self._reported_at_ms[key] = status.get("at_ms")
            self._since.pop(key, None)

    @property
    def broker_starts(self) -> bool:
        """The stack in this home is still busy with the broker that it runs."""
        phase = self._phases.get("broker", READY)
        return phase not in (READY, GIVEN_UP) and not phase.startswith("not ours")

    def stream(self) -> Waiting:
        """For events that Kafka has taken."""
        return self._waiting("stream", "stream")

    def learner(self, application: str) -> Waiting:
        """For rows that stream has appended."""
        return self._waiting("learner", f"learner/{application}")

    def _waiting(self, part: str, key: str) -> Waiting:
        heard = (self._reported_at_ms.get(key) or 0) >= self._started_ms
        return Waiting(self._since.get(key), heard, self._phases.get(part))

    def _read_phases(self) -> dict[str, str]:
        home = self._home
        if home is None or not (home / RUN).exists():
            return {}
        found = {}
        for part in PARTS:
            try:
                announced = PhaseFile(home, part).read() or {}
            except (OSError, ValueError):
                announced = {}
            found[part] = str(announced.get("phase", "waiting"))
        return found


def _version(status: Any) -> int:
    """Of the table that a part has come to; −1 where it reports none: parts differ by release."""
    version = status.get("replay_version") if isinstance(status, Mapping) else None
    return version if isinstance(version, int) else -1
