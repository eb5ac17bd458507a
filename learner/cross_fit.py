"""What does a reward model say of rows that it has not learned from?

Each fold is predicted by a model of the others (cross-fitting, Chernozhukov et al. 2018), so
that a doubly robust estimate does not grade its own homework. Pure NumPy.
"""

from __future__ import annotations

import numpy as np

from learner.batch import Rows
from learner.reward_model import RewardModel

FOLDS = 5


def cross_fitted_rewards(
    rows: Rows, *, actions: int, also: Rows | None = None, folds: int = FOLDS
) -> np.ndarray:
    """Predicted reward of every action of every row, none by a model that saw the row.

    Args:
        rows: matured decisions, observations normalised.
        actions: number of actions, A.
        also: rows that every model may learn from and that need no prediction.

    Returns:
        float64 `[n, A]`
    """
    n, width = rows.observation.shape
    fold = np.arange(n) % folds  # neighbours in time are in all folds, so drift is too
    predicted = np.zeros((n, actions))
    for left_out in range(folds):
        model = RewardModel(actions, width)
        if also is not None:
            model.update(*also)
        model.update(*(column[fold != left_out] for column in rows))
        predicted[fold == left_out] = model.predict(rows.observation[fold == left_out])
    return predicted
