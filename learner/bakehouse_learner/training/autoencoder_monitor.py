"""Is what a compressor was fitted on still what observations are?

Fitted once, on the first rows, and kept; from then on each row says how much of it is lost. What
is lost now, well above what was lost when it was fitted, says that observations have changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bakehouse_learner.replay.ring import Ring
from bakehouse_learner.statistics.recent_mean import RecentMean
from bakehouse_learner.training.normaliser import Normaliser
from bakehouse_schemas.application.application import Application

if TYPE_CHECKING:  # it needs TensorFlow, which an agent may not
    from bakehouse_learner.training.autoencoder import Compressor


class AutoencoderMonitor:
    """The compressor of one application, and how well it rebuilds what comes."""

    def __init__(self, application: Application) -> None:
        self._compression = application.compression
        self._seed = application.training.seed
        self.compressor: Compressor | None = None  # not fitted yet, or nothing is compressed
        self._lost = RecentMean()  # share of variance that the compressor loses of new rows
        self._watched = 0  # sequences below have been looked at for it

    def fit(self, values: np.ndarray) -> None:
        """Fit it where the application asks for one. Normalised observations, float32 `[n, D]`"""
        if self._compression is None:
            return
        from bakehouse_learner.training.autoencoder import (
            fit_compressor,  # TensorFlow's, as agents are
        )

        self.compressor = fit_compressor(self._compression, values, seed=self._seed)

    def watch(self, ring: Ring, normaliser: Normaliser | None) -> None:
        """How well the compressor rebuilds the rows that have come since the last look."""
        if self.compressor is None or normaliser is None:
            return
        slots = ring.slots(max(self._watched, ring.tail), ring.head)
        self._watched = ring.head
        self._lost.update(self.compressor.lost_of(normaliser.apply(ring.observation[slots])))

    def status(self) -> dict[str, Any] | None:
        """Shares of the observations' variance that are lost; None where nothing is compressed.

        Lost now well above lost when fitted says that observations are no longer what they were:
        a `bakehouse reset` of the learner fits another.
        """
        if self.compressor is None:
            return None
        lost, now = self.compressor.lost, self._lost.mean
        return {
            "size": self.compressor.size,
            "lost_when_fitted": lost,
            "lost_now": now,
            "drifted": now > max(2.0 * lost, lost + 0.05),
        }

    def restore(self, state: Mapping[str, np.ndarray] | None, ring: Ring) -> None:
        """Go on with the compressor that gave `state`; the rows in the ring have been looked at.

        Args:
            state: None: the checkpoint holds none.

        Raises:
            ValueError: the checkpoint has one and the application asks for none, or the other way
                round.
        """
        if (state is not None) != (self._compression is not None):
            raise ValueError(
                f"the checkpoint was made with another compression; expected {self._compression}"
            )
        if state is None:
            return
        from bakehouse_learner.training.autoencoder import compressor_from

        self._watched = ring.head
        self.compressor = compressor_from(dict(state))
