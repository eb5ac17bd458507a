"""How have the shares of choices gone from version to version? In a dozen groups of versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

GROUPS = 12
FIRST_SIZE = 200  # decisions that close a group


class VersionShares:
    """Counts by groups of successive versions; when there are too many, neighbours are merged.

    Version 0 is a group of its own.

    Args:
        names: of what is counted.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(names)
        self._size = FIRST_SIZE
        # of each group: first version, last version, decisions; then counts by name
        self._groups = np.zeros((0, 3 + len(self._names)), dtype=np.int64)

    def add(self, version: np.ndarray, counts: np.ndarray) -> None:
        """Take decisions.

        Args:
            version: int64 `[n]`
            counts: how often each decision made each choice, int or bool `[n, names]`
        """
        for number in np.unique(version).tolist():
            mine = version == number
            group = self._group_of(number)
            group[2] += int(mine.sum())
            group[3:] += counts[mine].sum(axis=0, dtype=np.int64)

    def _group_of(self, version: int) -> np.ndarray:
        """The counts that a version adds to; a new group where the last one is full."""
        groups = self._groups
        within = np.flatnonzero((groups[:, 0] <= version) & (version <= groups[:, 1]))
        if len(within):
            return np.asarray(groups[within[0]])
        below = np.flatnonzero(groups[:, 1] < version)
        last = int(below[-1]) if len(below) else -1
        newest = last == len(groups) - 1
        if last >= 0 and groups[last, 1] > 0 and (groups[last, 2] < self._size or not newest):
            groups[last, 1] = version
            return np.asarray(groups[last])
        fresh = np.zeros((1, groups.shape[1]), dtype=np.int64)
        fresh[0, :2] = version
        self._groups = np.concatenate([groups[: last + 1], fresh, groups[last + 1 :]])
        if len(self._groups) > GROUPS:
            self._merge()
            return self._group_of(version)
        return np.asarray(self._groups[last + 1])

    def _merge(self) -> None:
        """Neighbours become one, from the oldest on; version 0 stays alone."""
        groups = self._groups
        alone = 1 if len(groups) and groups[0, 1] == 0 else 0
        rest = groups[alone:]
        merged = [groups[:alone]]
        for at in range(0, len(rest), 2):
            pair = rest[at : at + 2]
            one = pair.sum(axis=0)
            one[0], one[1] = pair[0, 0], pair[-1, 1]
            merged.append(one[None])
        self._groups = np.concatenate(merged)
        self._size *= 2

    def figures(self) -> list[dict[str, Any]]:
        """As JSON carries it, oldest first."""
        return [
            {
                "from": first,
                "to": last,
                "n": n,
                "shares": {
                    name: count / max(n, 1)
                    for name, count in zip(self._names, counts, strict=True)
                    if count
                },
            }
            for first, last, n, *counts in self._groups.tolist()
        ]

    def state(self) -> dict[str, Any]:
        """Everything: `json` as JSON carries it, the rest arrays."""
        return {"json": {"size": self._size}, "groups": self._groups.copy()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue as if the shares that gave `state` had never stopped. Raises ValueError."""
        if state["groups"].shape[1] != self._groups.shape[1]:
            raise ValueError(f"{state['groups'].shape[1] - 3} names; expected {len(self._names)}")
        self._size = int(state["json"]["size"])
        self._groups = state["groups"].astype(np.int64)
