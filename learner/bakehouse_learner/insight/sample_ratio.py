"""Is the holdout as large as it should be? Subjects counted once, in bounded memory.

A holdout of another size than was asked for says that assignment, logging or joining favours one
side, and then no difference between the sides can be believed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

MOST = 4_096  # subjects that are remembered
WEIGHT = 100.0  # subjects' worth of the prior: it expects the share to be off by about a tenth
SURE = 0.01  # p-value below which the ratio is wrong


def log_bayes_factor(inside: int, outside: int, expected: float, weight: float = WEIGHT) -> float:
    """Log of "another share" against "the expected share", of so many subjects in and outside.

    Another share is Beta(w·p, w·(1 − p)), about the expected p: the case of two groups of Lindon &
    Malek 2020, "Anytime-valid inference for multinomial count data". Under the expected share its
    exponential is a martingale, so it passes 1/α at any time with probability at most α (Ville).
    """
    a, b = weight * expected, weight * (1.0 - expected)
    beta = (
        math.lgamma(a + inside) + math.lgamma(b + outside) - math.lgamma(a + b + inside + outside)
    )
    prior = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    binomial = inside * math.log(expected) + outside * math.log1p(-expected)
    return beta - prior - binomial


class SampleRatio:
    """A test that may be looked at all the time.

    Which subjects are remembered hangs on bits of a hash that their cohort does not hang on
    (Wegman's adaptive sampling; Flajolet 1990): those whose first `depth` bits are 0. When there
    are too many, one more bit must be 0, and about half are forgotten. Each subject counts at most
    once, at first sight, so counts are independent draws whatever has been forgotten.

    Args:
        expected: share of subjects in the holdout, in [0, 1).
        most: subjects that are remembered at once.
    """

    def __init__(self, expected: float, *, most: int = MOST) -> None:
        self.expected = expected
        self._most = most
        self._depth = 0
        self._seen: set[int] = set()
        self.inside = 0  # subjects ever counted, in the holdout
        self.outside = 0
        self._most_against = 0.0  # largest log Bayes factor

    def add(self, subject: np.ndarray, holdout: np.ndarray) -> None:
        """Take decisions of subjects whose place chance decided.

        Args:
            subject: see `bakehouse_learner.replay.origin.subject_hash`, uint64 `[n]`
            holdout: bool `[n]`
        """
        if self._depth:
            kept = subject >> np.uint64(64 - self._depth) == 0
            subject, holdout = subject[kept], holdout[kept]
        if not len(subject):
            return
        once, first = np.unique(subject, return_index=True)
        before = self.inside + self.outside
        for one, inside in zip(once.tolist(), holdout[first].tolist(), strict=True):
            if one not in self._seen:
                self._seen.add(one)
                self.inside += inside
                self.outside += not inside
        while len(self._seen) > self._most:
            self._depth += 1
            self._seen = {one for one in self._seen if one >> (64 - self._depth) == 0}
        if self.inside + self.outside > before and 0 < self.expected < 1:
            against = log_bayes_factor(self.inside, self.outside, self.expected)
            self._most_against = max(self._most_against, against)

    def figures(self) -> dict[str, Any]:
        """As JSON carries it; None where there is nothing to test."""
        subjects = self.inside + self.outside
        tested = 0 < self.expected < 1 and subjects > 0
        p_value = math.exp(-self._most_against) if tested else None
        return {
            "expected": self.expected,
            "observed": self.inside / subjects if subjects else None,
            "subjects": subjects,
            "p_value": p_value,
            "ok": None if p_value is None else p_value >= SURE,
        }

    def state(self) -> dict[str, Any]:
        """Everything: `json` as JSON carries it, the rest arrays."""
        return {
            "json": {
                "expected": self.expected,
                "depth": self._depth,
                "inside": self.inside,
                "outside": self.outside,
                "most_against": self._most_against,
            },
            "seen": np.array(sorted(self._seen), dtype=np.uint64),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue as if the test that gave `state` had never stopped; start over where the
        application now asks for another share."""
        saved = state["json"]
        if saved["expected"] != self.expected:
            return
        self._depth = int(saved["depth"])
        self.inside, self.outside = int(saved["inside"]), int(saved["outside"])
        self._most_against = float(saved["most_against"])
        self._seen = set(state["seen"].tolist())
