"""What is done, and what is it worth? For every kind of action, what can be told of it.

- Labels: a leaderboard, and shares by version.
- Numbers: a histogram of each.
- Several parts: a leaderboard of each part that has labels, by that part's own propensity (the
  other parts as they were drawn), and a histogram of each number.
- Rankings: items come and go with the request, so there is nothing fixed whose worth could be
  told; by version, how often each place holds the item that the baseline would put there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bakehouse_learner.insight.histogram import Histogram
from bakehouse_learner.insight.leaderboard import Leaderboard
from bakehouse_learner.insight.taken import Taken
from bakehouse_learner.insight.versions import VersionShares
from bakehouse_schemas.application.actions import Continuous, Discrete, Parts
from bakehouse_schemas.application.application import Application


class ActionFigures:
    """Counted over decisions of cohorts policy and canary, all versions; histograms of the
    holdout too.

    Args:
        alpha: 1 − confidence, of each choice.
    """

    def __init__(self, application: Application, alpha: float) -> None:
        actions = application.actions
        self._shape = application.shape
        self._boards: dict[str, Leaderboard] = {}
        self._numbers: list[Histogram] = []
        self._parts: dict[str, list[Histogram]] = {}  # of each, its numbers
        if isinstance(actions, Discrete):
            self._boards[""] = Leaderboard(actions.labels, alpha)
        elif isinstance(actions, Continuous):
            self._numbers = _histograms("", actions)
        elif isinstance(actions, Parts):
            for name, part in actions.parts.items():
                self._parts[name] = []
                if isinstance(part, Discrete):
                    self._boards[name] = Leaderboard(part.labels, alpha)
                else:
                    self._parts[name] = _histograms(name, part)
                self._numbers += self._parts[name]
        self._versions = VersionShares(self._names(application))

    def _names(self, application: Application) -> list[str]:
        if self._shape.kind == "ranking":
            return [f"place {at + 1} as the baseline" for at in range(self._shape.slots)]
        return list(application.actions.choices) if self._shape.segments else []

    def add(self, decisions: Taken) -> None:
        """Take matured decisions."""
        policy = decisions.by_policy
        first_number = len(self._shape.segments)
        for at, histogram in enumerate(self._numbers):
            numbers = decisions.row[:, first_number + at]
            histogram.add(numbers, policy, decisions.holdout)
        mine = decisions.where(policy)
        if not len(mine.reward):
            return
        for part, board in enumerate(self._boards.values()):
            own = mine.factors[:, part] if mine.factors.shape[1] else mine.propensity
            there = mine.support & (own > 0)
            board.add(mine.row[:, part].astype(int), mine.reward, own, there)
        if self._shape.kind == "ranking" or self._shape.segments:
            self._versions.add(mine.version, self._counts(mine))

    def _counts(self, mine: Taken) -> np.ndarray:
        """What each decision adds to the shares. bool `[n, names]`"""
        if self._shape.kind == "ranking":
            return np.asarray((mine.row == mine.baseline) & (mine.row >= 0))
        counts = np.zeros((len(mine.row), self._shape.choices), dtype=bool)
        for choice in self.choices(mine):
            counts[np.arange(len(choice)), choice] = True
        return counts

    def choices(self, decisions: Taken) -> list[np.ndarray]:
        """Of each discrete part, the place of its choice among all of them. int `[n]` each"""
        return [
            start + decisions.row[:, part].astype(int)
            for part, (start, _) in enumerate(self._shape.segments)
        ]

    def figures(self) -> dict[str, Any]:
        """As JSON carries it."""
        parts: list[dict[str, Any]] = []
        for name, histograms in self._parts.items():
            if name in self._boards:
                rows = self._boards[name].rows()
                parts.append({"name": name, "kind": "discrete", "leaderboard": rows})
            parts += [one.figures() | {"kind": "continuous"} for one in histograms]
        return {
            "kind": self._shape.kind,
            "leaderboard": self._boards[""].rows() if "" in self._boards else [],
            "by_version": self._versions.figures(),
            "numbers": [] if self._parts else [one.figures() for one in self._numbers],
            "parts": parts,
        }

    def state(self) -> dict[str, Any]:
        """Everything: nested dictionaries of arrays and, under `json`, of what JSON carries."""
        boards = [board.state() for board in self._boards.values()]
        return {
            "boards": {str(at): board for at, board in enumerate(boards)},
            "numbers": {str(at): one.state() for at, one in enumerate(self._numbers)},
            "versions": self._versions.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue as if the figures that gave `state` had never stopped. Raises ValueError."""
        for at, board in enumerate(self._boards.values()):
            board.restore(state["boards"][str(at)])
        for at, histogram in enumerate(self._numbers):
            histogram.restore(state["numbers"][str(at)])
        self._versions.restore(state["versions"])


def _histograms(name: str, numbers: Continuous) -> list[Histogram]:
    """One for each number; `name[2]` where there are several, `number 2` where they stand alone."""
    found = []
    for at, (low, high) in enumerate(zip(numbers.shape.low, numbers.shape.high, strict=True)):
        called = f"{name}[{at + 1}]" if numbers.length > 1 else name
        found.append(Histogram(called if name else f"number {at + 1}", float(low), float(high)))
    return found
