"""What does a reward model say of rows that it has not learned from?

Each fold is predicted by a model of the others (cross-fitting, Chernozhukov et al. 2018), so
that a doubly robust estimate does not grade its own homework. Pure NumPy.
"""

from __future__ import annotations

import numpy as np

from bakehouse_learner.ope.fitted_q import Features
from bakehouse_learner.ope.reward_model import RewardModel
from bakehouse_learner.training.batch import Rows

FOLDS = 5
PRODUCTS_UP_TO = 32  # dimensions for which squares and products are features too
ROWS_A_FEATURE = 10  # of each action on average; with fewer, the model is linear
_SHOW_WHAT_VARIES = 5_000  # rows


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
    n = len(rows.action)
    predicted = np.zeros((n, actions))
    if n == 0:
        return predicted
    features = Features(rows.observation[:_SHOW_WHAT_VARIES], products_up_to=PRODUCTS_UP_TO)
    if n < ROWS_A_FEATURE * actions * features.width:
        features = Features(rows.observation[:_SHOW_WHAT_VARIES], products_up_to=0)
    rows = _expanded(rows, features)
    also = None if also is None else _expanded(also, features)
    fold = np.arange(n) % folds  # neighbours in time are in all folds, so drift is too
    for left_out in range(folds):
        model = RewardModel(actions, rows.observation.shape[1])
        if also is not None:
            model.update(*also)
        model.update(*(column[fold != left_out] for column in rows))
        predicted[fold == left_out] = model.predict(rows.observation[fold == left_out])
    return predicted


def _expanded(rows: Rows, features: Features) -> Rows:
    return rows._replace(observation=features(rows.observation)[:, 1:])  # the model adds the 1
