"""Freshness: from the acknowledgement of an outcome to the first answer of a policy trained on it.

Both ends are on the client's clock. In between, an outcome is followed by its id: to the first
version of the replay table that holds it, and from there to the first answer of a policy whose
manifest says that it was trained on that version.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from bakehouse.players.players import AcceptedOutcome

TAIL_S = 10.0


class Freshness(NamedTuple):
    """Delays in seconds, and what was left out."""

    delays_s: np.ndarray  # [n]
    waiting: int  # of n, those with no such answer to the end; counted at how long that was
    left_out: int  # acknowledged before the first trained policy answered, or in the tail

    def summary(self) -> dict[str, float | int | None]:
        """`{p50, p95, n}`; None where there is nothing to measure."""
        n = len(self.delays_s)
        p50, p95 = np.percentile(self.delays_s, [50, 95]).tolist() if n else (None, None)
        return {
            "p50": None if p50 is None else round(p50, 3),
            "p95": None if p95 is None else round(p95, 3),
            "n": n,
        }


def measure_freshness(
    outcomes: Iterable[AcceptedOutcome],
    *,
    table_versions: Mapping[str, int],
    trained_on: Mapping[int, int],
    first_answers: Mapping[int, float],
    last_answer_s: float,
    tail_s: float = TAIL_S,
) -> Freshness:
    """Freshness of all outcomes that were acknowledged while trained policies answered.

    An outcome acknowledged less than `tail_s` before the last answer is left out, whether or not
    a policy trained on it answered: keeping only those that made it would flatter. Any other
    for which no such answer came is counted at the time that it waited.

    Args:
        outcomes: acknowledged ones, in any order.
        table_versions: outcome_id → first replay version that holds it.
        trained_on: policy version → replay version that it was trained on.
        first_answers: policy version → when it first answered; seconds since 1970.
        last_answer_s: when any policy last answered.
    """
    answered = sorted((at_s, version) for version, at_s in first_answers.items() if version > 0)
    acknowledged = list(outcomes)
    if not answered:
        return Freshness(np.empty(0), waiting=0, left_out=len(acknowledged))
    times = np.array([at_s for at_s, _ in answered])
    # a policy with an unknown manifest proves nothing new
    known = np.maximum.accumulate([trained_on.get(version, -1) for _, version in answered])
    delays: list[float] = []
    waiting = left_out = 0
    for outcome in acknowledged:
        if not answered[0][0] <= outcome.at_s <= last_answer_s - tail_s:
            left_out += 1
            continue
        held_by = table_versions.get(outcome.outcome_id)
        at = len(known) if held_by is None else int(np.searchsorted(known, held_by))
        if at < len(known):
            delays.append(max(float(times[at]) - outcome.at_s, 0.0))
        else:
            waiting += 1
            delays.append(last_answer_s - outcome.at_s)
    return Freshness(np.array(delays), waiting, left_out)
