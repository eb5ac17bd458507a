"""Outcomes that were accepted and that nothing counts: noted in the answer, and in the status.

They are kept as they came. A name is a game's word, and may be anything: what is remembered of
names is bounded, and never goes into a metric, a log or a topic.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bakehouse_schemas.application.application import Application
from bakehouse_schemas.application.counted import counted_by, meant

MOST_NOTES = 20  # names that one answer tells of
MOST_NAMES = 20  # that are remembered; the rare make room for others
MOST_SHOWN = 5
MOST_SPELT = 256  # names whose spelling is remembered
# To spell a name costs more than a request: so many may be new at once, and one more each so often.
NEW_AT_ONCE, NEW_EVERY = 32, 16
LONGEST_SHOWN = 60  # characters of a name
ACTIVATED = "activated"  # the key of these, which have no name


class Uncounted:
    """Of one application. Only the event loop's thread adds to it; any may ask."""

    def __init__(self, application: Application) -> None:
        self.counted = counted_by(application)
        self._names: dict[str, int] = {}
        self._meant: dict[str, str | None] = {}
        self._may_spell = float(NEW_AT_ONCE)

    def note(self, came: Mapping[tuple[str, str | None], int]) -> list[dict[str, Any]]:
        """Remember, and say it once for each name, the most frequent first.

        Args:
            came: kind and name of a request's outcomes that nothing counts -> how many.
        """
        self._may_spell = min(self._may_spell + 1 / NEW_EVERY, NEW_AT_ONCE)
        ordered = sorted(came.items(), key=lambda entry: -entry[1])
        notes = []
        for (kind, name), count in ordered[:MOST_NOTES]:
            self._remember(kind if name is None else name, count)
            notes.append({"kind": kind, "name": name, "count": count, **self._why(kind, name)})
        if more := ordered[MOST_NOTES:]:
            problem = f"{len(more)} names more are counted by nothing; the outcomes were kept"
            count = sum(count for _, count in more)
            notes.append({"kind": "reward", "name": None, "count": count, "problem": problem})
        return notes

    def most(self) -> list[dict[str, Any]]:
        """The most frequent names, for people: about how often each came, and what was meant."""
        found = sorted(self._names.items(), key=lambda entry: -entry[1])[:MOST_SHOWN]
        return [
            {"name": shown(name), "count": count, "meant": self._spelt(name)}
            for name, count in found
        ]

    def _why(self, kind: str, name: str | None) -> dict[str, Any]:
        if kind == ACTIVATED or name is None:
            problem = "the reward asks for no activation (Reward(activation=True)); it was kept"
            return {"problem": problem}
        counts = ", ".join(sorted(self.counted.names or ()))
        close = None
        if name in self._meant or self._may_spell >= 1:
            self._may_spell -= name not in self._meant
            close = self._spelt(name)
        hint = f"it counts {counts:.200}" if close is None else f"did you mean {close!r}?"
        return {
            "problem": f"no reward or guardrail counts {name!r:.80}: kept, and not learned from; "
            f"{hint}",
            "meant": close,
        }

    def _spelt(self, name: str) -> str | None:
        known = self._meant
        if name not in known:
            if len(known) >= MOST_SPELT:
                known = self._meant = {}
            known[name] = meant(name, self.counted.names or frozenset())
        return known[name]

    def _remember(self, name: str, count: int) -> None:
        """Metwally et al. 2005, "space saving": whatever is frequent is among those kept."""
        if name not in self._names and len(self._names) >= MOST_NAMES:
            rarest = min(self._names, key=self._names.__getitem__)
            count += self._names.pop(rarest)
        self._names[name] = self._names.get(name, 0) + count


def shown(name: str) -> str:
    """A game's word as a terminal or the dashboard can show it."""
    text = "".join(letter if letter.isprintable() else "\ufffd" for letter in name)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"
