"""What is executed, once it is known who answers: the base policy or the baseline, exploration,
mask and draw. No request and no log: serving decides with it, an audit recomputes with it.
"""

from __future__ import annotations

import numpy as np

from bakehouse_schemas.application.exploration import Exploration
from bakehouse_schemas.application.shape import Shape
from bakehouse_schemas.execution.base_policy import BASELINE_STD, BasePolicy, baseline_policy
from bakehouse_schemas.execution.propensity import (
    Executed,
    draw_action,
    execute,
    executed_distribution,
    next_place,
    one_hot,
    uniform_share,
)


def choose_label(
    base_policy: np.ndarray, eligible: np.ndarray, exploration: Exploration, draw: float
) -> tuple[int, np.ndarray]:
    """Which label, and the distribution it was drawn from.

    Args:
        base_policy: before exploration, float64 `[A]`
        eligible: bool `[A]`
        draw: uniform in [0, 1).

    Returns:
        Its position; float64 `[A]`, which at that position is above 0 unless `base_policy` is no
        number.
    """
    executed = base_policy
    if exploration.kind != "none":
        executed = executed_distribution(
            base_policy, eligible, epsilon=exploration.epsilon, floor=exploration.floor
        )
    return draw_action(executed, draw), executed


def choose_row(
    shape: Shape,
    base_policy: BasePolicy,
    baseline: np.ndarray | None,
    eligible: np.ndarray,
    exploration: Exploration,
    draw: float,
    *,
    explores: bool,
) -> Executed | None:
    """Which numbers, parts or ranking; None where it is the baseline's, and chance has no say.

    Args:
        base_policy: of one context (B = 1).
        baseline: its row; see `allowed_row`. float64 `[W]`
        eligible: bool `[A]`
        draw: uniform in [0, 1).
        explores: False: who answers is the pure baseline, where it has an answer.
    """
    if not explores and baseline is not None:
        return None
    return execute(shape, base_policy, eligible, exploration, draw)


def baseline_distribution(baseline: int | None, eligible: np.ndarray) -> np.ndarray:
    """All on the baseline's label; uniform where that is not eligible or known. float64 `[A]`"""
    if baseline is not None and eligible[baseline]:
        return one_hot(baseline, len(eligible))
    return np.asarray(eligible / eligible.sum(), dtype=np.float64)


def baseline_row_policy(
    shape: Shape, row: np.ndarray | None, eligible: np.ndarray, exploration: Exploration
) -> BasePolicy:
    """Around the baseline's row; where there is none, every eligible choice alike and numbers in
    the middle of their box. Of one context (B = 1).

    Args:
        row: see `allowed_row`.
    """
    if row is not None:
        return baseline_policy(shape, row[None], exploration)
    probabilities = eligible.astype(np.float64)
    for start, stop in shape.segments or ((0, shape.choices),):
        probabilities[start:stop] /= probabilities[start:stop].sum()
    middle = ((shape.low + shape.high) / 2)[None]
    return BasePolicy(probabilities[None], middle, BASELINE_STD * (shape.high - shape.low)[None])


def allowed_row(shape: Shape, row: np.ndarray | None, eligible: np.ndarray) -> np.ndarray | None:
    """The baseline's row, float64 `[W]`, if every label or item of it is eligible."""
    if row is None:
        return None
    if shape.slots:
        return row if bool(eligible[row[row >= 0].astype(int)].all()) else None
    there = all(eligible[start + int(row[part])] for part, (start, _) in enumerate(shape.segments))
    return row if there else None


def chance_of_exploring(
    shape: Shape, base_policy: BasePolicy, eligible: np.ndarray, exploration: Exploration
) -> float:
    """Probability that `Executed.explored` comes out true.

    Args:
        base_policy: of one context (B = 1), before exploration.
        eligible: bool `[A]`
    """
    epsilon, floor = exploration.epsilon, exploration.floor
    mine, staying = base_policy.probabilities[0], 1.0
    if shape.kind == "ranking":
        left = eligible.copy()
        for _ in range(min(shape.slots, int(eligible.sum()))):
            place = next_place(mine, left)
            best = int(place.argmax())
            staying *= executed_distribution(place, left, epsilon=epsilon, floor=floor)[best]
            left[best] = False
        return float(1.0 - staying)
    for start, stop in shape.segments:
        part = mine[start:stop]
        executed = executed_distribution(part, eligible[start:stop], epsilon=epsilon, floor=floor)
        staying *= executed[part.argmax()]
    return float(1.0 - staying * (1.0 - uniform_share(epsilon, floor)) ** shape.dims)
