"""One thing worth knowing of an application: what was found, its numbers, and what to do."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Urgency = Literal["now", "soon", "know"]
ORDER: tuple[Urgency, ...] = ("now", "soon", "know")
SIGNIFICANT = 0.01  # p-value from which a dependence is believed


@dataclass(frozen=True)
class Finding:
    """What was found.

    Args:
        about: sequence, reward, context, patience, coverage, outcomes or features.
        urgency: `now`, learning is harmed; `soon`, it could be better; `know`, all is well, or it
            cannot be said.
        says: one or two sentences.
        evidence: the numbers behind them, by what they are.
        do: what to do, in a sentence.
    """

    about: str
    urgency: Urgency
    says: str
    evidence: Mapping[str, Any]
    do: str

    def as_dict(self) -> dict[str, Any]:
        """As JSON carries it: None where there is no number."""
        return {
            "about": self.about,
            "urgency": self.urgency,
            "says": self.says,
            "evidence": {name: _plain(value) for name, value in self.evidence.items()},
            "do": self.do,
        }


def by_urgency(findings: Iterable[Finding]) -> list[Finding]:
    """The most urgent first; of the same urgency in the order they came."""
    return sorted(findings, key=lambda finding: ORDER.index(finding.urgency))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(its) for name, its in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, (bool, str)) or value is None:
        return value
    if isinstance(value, float):
        return float(f"{value:.4g}") if math.isfinite(value) else None
    return int(value)
