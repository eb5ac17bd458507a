"""Which of two groups earns more, within the hours in which both were there?

A game earns less on a Monday, whoever answers. Where a rollout gave the policy a tenth of the
players on Sunday and all of them on Monday, means that are pooled over both days call the policy
worse. So the groups are compared within strata, and the comparisons are added up: post-stratified
by time (Kohavi, Tang & Xu 2020, "Trustworthy Online Controlled Experiments", on ramping up).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from bakehouse_learner.statistics.confidence_sequence import ROUNDING, TAIL_COPIES
from bakehouse_learner.statistics.design_effect import SHARES, share_of

LEAST_SUBJECTS = 10  # of each group, before a stratum may end: a thinner one goes on in the next
_GROUPS = 2
_SUMS = ("n", "w", "wx", "ww", "wwx", "wwxx")


class Group(NamedTuple):
    """One group's side of the comparison."""

    n: int  # values of positive weight
    subjects_at_least: int  # those in one share count once
    mean: float  # over the strata, weighted as the comparison is
    squared_error: float  # of the mean, subjects being as alike as they are
    squared_error_alone: float  # were each value of a subject of its own
    effective: float  # values as many as tell as much, were there one stratum


class StratifiedMeans:
    """Means of two groups over the same strata, and their errors; memory is bounded.

    A stratum s counts `W_s = n₁ n₀ / (n₁ + n₀)`, with n a group's effective sample in it (Kish
    1965): what it knows of the difference. The mean of group g is `Σ W_s m_gs / Σ W_s`. What a
    subject adds to it, its residuals from the means of its strata, is added up over all strata
    before it is squared, in `SHARES` hashed shares (see
    `bakehouse_learner.statistics.design_effect.SubjectSums`). With one stratum these are the plain
    means of both groups.
    """

    def __init__(self) -> None:
        self._first = np.zeros(_GROUPS)  # value of all: means are about it, against cancellation
        self._farthest = np.zeros(_GROUPS)  # from 0 that a value lies, weight included
        self._nobodies = np.zeros(_GROUPS, np.int64)
        self._n = np.zeros(_GROUPS, np.int64)
        self._seen = np.zeros((_GROUPS, SHARES), dtype=bool)
        # of strata that have ended
        self._weight = 0.0  # Σ W_s
        self._means = np.zeros(_GROUPS)  # Σ W_s m_gs, about the origins
        self._residuals = np.zeros((_GROUPS, SHARES))  # Σ W_s e_gks / w_gs
        self._alone = np.zeros(_GROUPS)  # Σ W_s² Σw²(x − m)² / w_gs²
        self._tail = np.zeros(_GROUPS)  # largest W_s w |x − m| / w_gs
        self._spent = np.zeros(_GROUPS)  # Σ W_s² / n_gs
        # of the stratum that goes on
        self._stratum: int | None = None
        self._open = np.zeros((_GROUPS, len(_SUMS)))
        self._origin = np.zeros(_GROUPS)  # its first value: its sums are about it
        self._open_farthest = np.zeros(_GROUPS)
        self._open_w = np.zeros((_GROUPS, SHARES))
        self._open_wx = np.zeros((_GROUPS, SHARES))

    def add(
        self,
        group: int,
        values: np.ndarray,
        weights: np.ndarray,
        subject: np.ndarray,
    ) -> None:
        """Take values of one group in the stratum that goes on.

        Args:
            group: 0 or 1.
            values, weights: float64 `[n]`; a weight of 0 changes nothing.
            subject: whose they are, uint64 `[n]`
        """
        kept = weights > 0
        values, w, subject = values[kept], weights[kept], subject[kept]
        if not len(values):
            return
        if not self._n[group]:
            self._first[group] = values[0]
        if not self._open[group, 0]:
            self._origin[group] = values[0]
        x = values - self._origin[group]
        share, nobodies = share_of(subject, int(self._nobodies[group]))
        self._nobodies[group] = nobodies
        self._n[group] += len(x)
        self._seen[group, share] = True
        for at, terms in enumerate((np.ones_like(w), w, w * x, w**2, w**2 * x, w**2 * x**2)):
            self._open[group, at] += float(np.sum(terms))
        far = float(np.max(w * np.abs(x)))
        self._open_farthest[group] = max(self._open_farthest[group], far)
        self._farthest[group] = max(self._farthest[group], float(np.max(w * np.abs(values))))
        self._open_w[group] += np.bincount(share, weights=w, minlength=SHARES)
        self._open_wx[group] += np.bincount(share, weights=w * x, minlength=SHARES)

    def take_over(self, group: int, sums: Mapping[str, Any], subjects: Mapping[str, Any]) -> None:
        """Put a group's sums of a release that knew no strata into the one that goes on.

        Args:
            sums: as `WeightedMoments.state` gives them.
            subjects: as `SubjectSums.state` gives them.

        Raises:
            ValueError: they are of another number of shares.
        """
        if subjects["origin"] is None:
            return  # nothing had come
        w_by_share, wx_by_share = np.array(subjects["w"]), np.array(subjects["wx"])
        if not len(w_by_share) == len(wx_by_share) == SHARES:
            raise ValueError(f"{len(w_by_share)} shares of subjects came; expected {SHARES}")
        self._first[group] = self._origin[group] = sums["origin"]
        self._open[group] = (sums["n"], *(sums["sums"][name] for name in _SUMS[1:]))
        self._n[group] = sums["n"]
        self._open_farthest[group] = sums["farthest"]
        self._farthest[group] = abs(sums["origin"]) + sums["farthest"]
        self._nobodies[group] = subjects["nobodies"]
        self._seen[group] = w_by_share > 0
        self._open_w[group] = w_by_share
        apart = subjects["origin"] - sums["origin"]
        self._open_wx[group] = wx_by_share + apart * w_by_share

    def reach(self, stratum: int) -> None:
        """What comes from here on is of this stratum, an earlier one's stragglers too.

        The one before ends, if both groups had subjects enough in it; else it goes on in this one.
        """
        if self._stratum is None:
            self._stratum = stratum
        elif stratum > self._stratum:
            self._stratum = stratum
            if min(np.count_nonzero(self._open_w, axis=1)) >= LEAST_SUBJECTS:
                self._end()

    def _end(self) -> None:
        weight, means, residuals, alone, tail, spent = self._opened()
        self._weight += weight
        self._means += weight * means
        self._residuals += residuals
        self._alone += alone
        self._tail = np.maximum(self._tail, tail)
        self._spent += spent
        self._open[:] = 0.0
        self._origin[:] = 0.0
        self._open_farthest[:] = 0.0
        self._open_w[:] = 0.0
        self._open_wx[:] = 0.0

    def _opened(
        self,
    ) -> tuple[float, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """What the stratum that goes on adds: W, means, residuals, alone, tail and spent.

        Nothing, where one of the groups was not in it.
        """
        nothing = np.zeros(_GROUPS)
        n, w, wx, ww, wwx, wwxx = self._open.T
        if not n.all():
            return 0.0, nothing, np.zeros((_GROUPS, SHARES)), nothing, nothing, nothing
        effective = w**2 / ww
        weight = float(effective.prod() / effective.sum())
        means = wx / w  # about the stratum's origin
        scale = weight / w
        residuals = scale[:, None] * (self._open_wx - means[:, None] * self._open_w)
        squares = np.maximum(wwxx - 2 * means * wwx + means**2 * ww, 0.0)
        return (
            weight,
            means + (self._origin - self._first),
            residuals,
            scale**2 * squares,
            scale * self._open_farthest,
            weight**2 / effective,
        )

    @property
    def n(self) -> tuple[int, int]:
        """Values of positive weight in each group, those in strata without the other included."""
        return int(self._n[0]), int(self._n[1])

    @property
    def subjects_at_least(self) -> tuple[int, int]:
        """Subjects of each group, counted up to `SHARES`; those in one share count once."""
        first, second = np.count_nonzero(self._seen, axis=1).tolist()
        return first, second

    @property
    def varies(self) -> bool:
        """Whether values of one group at least differ by more than rounding in a stratum."""
        size = float(self._farthest.max())
        opened = self._opened()
        weight = self._weight + opened[0]
        if not weight > 0.0:
            return False
        spread = float((self._alone + opened[3]).max()) / weight**2 * sum(self.n)
        return spread > (ROUNDING * size) ** 2

    def groups(self) -> tuple[Group, Group]:
        """Both sides; means are 0 and errors infinite where no stratum has both groups."""
        opened = self._opened()
        weight = self._weight + opened[0]
        subjects = self.subjects_at_least
        if not weight > 0.0:
            return tuple(  # type: ignore[return-value]  # two
                Group(self.n[g], subjects[g], self._lone_mean(g), math.inf, math.inf, 0.0)
                for g in range(_GROUPS)
            )
        means = self._first + (self._means + opened[0] * opened[1]) / weight
        residuals = (self._residuals + opened[2]) ** 2
        by_subject = (residuals.sum(axis=1) + TAIL_COPIES * residuals.max(axis=1)) / weight**2
        tail = np.maximum(self._tail, opened[4])
        alone = (self._alone + opened[3] + TAIL_COPIES * tail**2) / weight**2
        effective = weight**2 / (self._spent + opened[5])
        first, second = (
            Group(
                self.n[g],
                subjects[g],
                float(means[g]),
                float(max(by_subject[g], alone[g])),
                float(alone[g]),
                float(effective[g]),
            )
            for g in range(_GROUPS)
        )
        return first, second

    def _lone_mean(self, group: int) -> float:
        w, wx = self._open[group, 1], self._open[group, 2]
        return float(self._origin[group] + wx / w) if w else 0.0

    def state(self) -> dict[str, Any]:
        """Everything, as JSON carries it."""
        return {
            name.removeprefix("_"): value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in vars(self).items()
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue as if what gave `state` had never stopped.

        Raises:
            ValueError: it is of another number of shares.
        """
        for name, value in vars(self).items():
            saved = state[name.removeprefix("_")]
            if isinstance(value, np.ndarray):
                array = np.array(saved, dtype=value.dtype)
                if array.shape != value.shape:
                    raise ValueError(f"{name}: {array.shape} came; expected {value.shape}")
                saved = array
            setattr(self, name, saved)
