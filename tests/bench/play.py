"""Players in a process of their own: `python -m tests.bench.play '{"url": …}'`.

They share the machine with the stack, as the load generator of a measurement on one machine must,
but no interpreter lock with whoever measures.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bakehouse.players.player_thread import PlayerThread
from bakehouse.players.players import AcceptedOutcome
from bakehouse_schemas.loading import load_application
from tests.bench.game import REF
from tests.bench.measure import percentile

SETTLE_S = 30.0


@dataclass(frozen=True)
class Played:
    """What the players saw, as they saw it."""

    rate: float  # asked for
    asked: int  # decisions
    began_s: float  # seconds since 1970
    ended_s: float  # of the arrivals
    decisions: int
    outcomes: list[AcceptedOutcome]
    first_answers: dict[int, float]  # policy version → when it first answered
    last_answer_s: float
    p50_ms: float
    p99_ms: float
    http_errors: int
    errors: dict[str, int]
    not_logged: int
    cpu_s: float

    @property
    def loops(self) -> int:
        """Decisions with their outcomes, acknowledged."""
        return min(self.decisions, len(self.outcomes))

    @property
    def loops_per_s(self) -> float:
        """Loops over the time of play."""
        return self.loops / (self.ended_s - self.began_s)


class PlayProcess:
    """Players, from now for `seconds`; see `Played`."""

    def __init__(
        self, url: str, file: Path, *, rate: float, seconds: float, batched: bool, seed: int
    ) -> None:
        self._file = file
        given = {
            "url": url,
            "file": str(file),
            "rate": rate,
            "seconds": seconds,
            "batched": batched,
            "seed": seed,
        }
        command = [sys.executable, "-m", "tests.bench.play", json.dumps(given)]
        self._process = subprocess.Popen(command)

    def result(self, timeout_s: float) -> Played:
        """Wait for the end. Raises RuntimeError if it broke."""
        try:
            status = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        if status:
            raise RuntimeError(f"the players ended with {status}")
        found = json.loads(self._file.read_text())
        found["outcomes"] = [AcceptedOutcome(*entry) for entry in found["outcomes"]]
        found["first_answers"] = {int(v): at for v, at in found["first_answers"].items()}
        return Played(**found)

    def kill(self) -> None:
        """End it, whatever it does."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def play(*, url: str, rate: float, seconds: float, batched: bool, seed: int) -> dict[str, Any]:
    """Play, settle, and tell; the fields of `Played`."""
    loaded = load_application(REF)
    players = PlayerThread(
        loaded, url, rate=rate, decisions=int(rate * seconds), seed=seed, batched=batched
    )
    began_s = time.time()
    players.start()
    if not players.join(seconds * 2 + SETTLE_S):
        players.stop()
        players.join(SETTLE_S)
    journal = players.journal
    answered = [decision.at_s for decision in journal.decisions]
    latencies_ms = [s * 1000 for s in journal.decision_s]
    return {
        "rate": rate,
        "asked": int(rate * seconds),
        "began_s": began_s,
        "ended_s": max(answered, default=began_s + seconds),
        "decisions": len(answered),
        "outcomes": [tuple(outcome) for outcome in journal.outcomes],
        "first_answers": journal.first_answers,
        "last_answer_s": max(answered, default=began_s),
        "p50_ms": percentile(latencies_ms, 0.5),
        "p99_ms": percentile(latencies_ms, 0.99),
        "http_errors": journal.http_errors,
        "errors": dict(journal.errors),
        "not_logged": journal.not_logged,
        "cpu_s": players.cpu_s,
    }


def main() -> None:
    """One run of players; the result goes to the file that was named."""
    given = json.loads(sys.argv[1])
    file = Path(given.pop("file"))
    file.write_text(json.dumps(play(**given)))


if __name__ == "__main__":
    main()
