"""Are the observations still what they were? Each feature's population stability index."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from bakehouse_schemas.application.observation import Encoder, Numeric, Vector

REFERENCE = 1_000  # observations, the first that were counted
NEWEST = 1_000  # that are held against them
EVERY = 200  # new observations between two looks
BINS = 10
MOVED, SHIFTED = 0.1, 0.25  # the usual thresholds (Siddiqi 2006, *Credit risk scorecards*)

Level = Literal["stable", "moved", "shifted"]


def stability_index(reference: np.ndarray, newest: np.ndarray) -> float:
    """`Σ (q − p) log(q / p)` over bins, half an observation added to each.

    Args:
        reference, newest: counts, `[bins]`
    """
    bins = len(reference)
    p = (reference + 0.5) / (reference.sum() + 0.5 * bins)
    q = (newest + 0.5) / (newest.sum() + 0.5 * bins)
    return float(np.sum((q - p) * np.log(q / p)))


def beyond_chance(index: float, bins: int, reference: int, newest: int) -> float:
    """The index less what it comes to on average where nothing has moved, at least 0.

    That is `(bins − 1)(1/n + 1/m)` (Yurdakul 2018, "Statistical properties of population stability
    index"): of a category with 64 buckets, 0.13 of two thousand observations.
    """
    return max(index - (bins - 1) * (1 / reference + 1 / newest), 0.0)


def level_of(index: float) -> Level:
    """What an index means."""
    return "stable" if index < MOVED else "moved" if index < SHIFTED else "shifted"


class _Bins:
    """One number's or category's bins, and how the reference fell into them."""

    def __init__(self, edges: np.ndarray | None, counts: np.ndarray) -> None:
        self.edges = edges  # between the bins; None: the observation's own ones and zeros
        self.counts = counts

    def index(self, values: np.ndarray) -> float:
        """Of newer values, float32 `[m, width]`."""
        counts = binned(values, self.edges)
        found = stability_index(self.counts, counts)
        bins = int(np.count_nonzero(self.counts + counts))  # what neither ever saw moves nothing
        sizes = int(self.counts.sum()), int(counts.sum())
        return beyond_chance(found, max(bins, 1), *sizes)


def binned(values: np.ndarray, edges: np.ndarray | None) -> np.ndarray:
    """Counts by bin.

    Args:
        values: float32 `[n, width]`; width 1 where there are edges.
        edges: float64, sorted; None: `values` is one-hot.
    """
    if edges is None:
        return np.asarray(values.sum(axis=0, dtype=np.float64))
    places = np.searchsorted(edges, values[:, 0], side="right")
    return np.bincount(places, minlength=len(edges) + 1).astype(np.float64)


class Drift:
    """Holds the newest observations against the first.

    Of a vector the component that has moved most is told.

    Args:
        encoder: whose observations these are.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._bins: list[list[_Bins]] = []  # of each feature, of each of its components
        self._counted = 0
        self._looked = 0
        self._found: list[dict[str, Any]] = []
        self._reference = 0  # observations in it

    def counted(self, n: int) -> bool:
        """So many observations have come; True where it is time to look at the newest."""
        self._counted += n
        if not self._bins:
            return self._counted >= REFERENCE
        return self._counted - self._looked >= EVERY

    def span(self, stop: int) -> tuple[int, int]:
        """Sequence numbers to look at: the first that were counted, later the newest.

        Args:
            stop: behind the last that was counted.
        """
        if not self._bins:
            return stop - self._counted, stop - self._counted + REFERENCE
        return stop - NEWEST, stop

    def look(self, newest: np.ndarray) -> None:
        """Take the observations of `span`, float32 `[n, D]`; the first time, the reference."""
        self._looked = self._counted
        if not self._bins:
            self._refer_to(newest)
            return
        self._found = []
        for name, columns, parts in self._columns(newest):
            index = max(bins.index(column) for bins, column in zip(parts, columns, strict=True))
            self._found.append({"feature": name, "psi": index, "level": level_of(index)})

    def _refer_to(self, first: np.ndarray) -> None:
        self._reference = len(first)
        at = 0
        for feature in self._encoder.features:
            wide = first[:, at : at + feature.size]
            at += feature.size
            parts = []
            for column in _split(feature, wide):
                edges = _edges(feature, column)
                parts.append(_Bins(edges, binned(column, edges)))
            self._bins.append(parts)

    def _columns(self, observations: np.ndarray) -> list[tuple[str, list[np.ndarray], list[_Bins]]]:
        found, at = [], 0
        for feature, parts in zip(self._encoder.features, self._bins, strict=True):
            wide = observations[:, at : at + feature.size]
            at += feature.size
            found.append((feature.name, _split(feature, wide), parts))
        return found

    def figures(self) -> list[dict[str, Any]]:
        """As JSON carries it, in the order of the page; empty until there is enough to compare."""
        return self._found

    @property
    def reference(self) -> str:
        """What the newest are held against, in words."""
        if not self._reference:
            return f"the first {REFERENCE:,} observations, of which {self._counted:,} have come"
        return f"the first {self._reference:,} observations, against the newest {NEWEST:,}"

    def state(self) -> dict[str, Any]:
        """Everything, as JSON carries it."""
        return {
            "counted": self._counted,
            "looked": self._looked,
            "reference": self._reference,
            "found": self._found,
            "bins": [
                [
                    [None if one.edges is None else one.edges.tolist(), one.counts.tolist()]
                    for one in parts
                ]
                for parts in self._bins
            ],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue as if the drift that gave `state` had never stopped. Raises ValueError."""
        bins = [
            [
                _Bins(None if edges is None else np.array(edges), np.array(counts))
                for edges, counts in parts
            ]
            for parts in state["bins"]
        ]
        if bins and len(bins) != len(self._encoder.features):
            raise ValueError(f"{len(bins)} features; expected {len(self._encoder.features)}")
        self._bins, self._found = bins, list(state["found"])
        self._counted, self._looked = int(state["counted"]), int(state["looked"])
        self._reference = int(state["reference"])


def _split(feature: Any, wide: np.ndarray) -> list[np.ndarray]:
    """The components of a feature that have bins of their own, `[n, width]` each."""
    if isinstance(feature, Vector):
        return [wide[:, at : at + 1] for at in range(feature.size)]
    return [wide]


def _edges(feature: Any, column: np.ndarray) -> np.ndarray | None:
    """Between tenths of the reference; of a boolean one half; of a category none."""
    if isinstance(feature, (Numeric, Vector)):
        quantiles = np.quantile(column[:, 0], np.arange(1, BINS) / BINS)
        return np.unique(quantiles.astype(np.float64))
    return np.array([0.5]) if feature.size == 1 and column.shape[1] == 1 else None
