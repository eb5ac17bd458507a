"""Which hour the events of an id lie in: a compact map from digests of ids to hours.

Twelve bytes an id, in sorted runs of which a smaller is merged into the one before it: a batch
looks into a dozen arrays, however many ids there are. Nothing here is the truth; the tables are.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Digests = NDArray[np.uint64]  # [N]
Hours = NDArray[np.int32]  # [N], since 1970, UTC
SLACK_H = 2  # partitions of a topic are read at their own pace: what is this late is looked up yet
UNKNOWN = -1
_EMPTY = blake2b(digest_size=8)
_NUMBERS = itertools.count()


class Run(NamedTuple):
    """Digests in order, each once, and the hour of each; `name` is that of no other run."""

    name: str
    digests: Digests
    hours: Hours


def digests(ids: Iterable[tuple[str, str]]) -> Digests:
    """64 bits of each `(application, decision_id)`.

    Two ids that share them share an hour while both are remembered, which harms neither: that
    their rows lie together is all that is asked.
    """
    found = bytearray()
    for application, decision_id in ids:
        digest = _EMPTY.copy()
        digest.update(f"{application}\0{decision_id}".encode())
        found += digest.digest()
    return np.frombuffer(bytes(found), np.uint64)


def run_of(digests: Digests, hours: Hours) -> Run:
    """In order; of one that is there twice the latest hour counts."""
    order = np.argsort(digests, kind="stable")  # of two runs one after the other: a merge
    digests, hours = digests[order], hours[order]
    first = np.empty(len(digests), bool)
    first[:1] = True
    np.not_equal(digests[1:], digests[:-1], out=first[1:])
    if not first.all():
        hours = np.maximum.reduceat(hours, np.flatnonzero(first))
        digests = digests[first]
    return Run(f"{time.time_ns()}-{next(_NUMBERS)}", digests, hours)


class IdHours:
    """Remembers hours for `span_h` hours; what is older is forgotten, whoever asks when.

    Whether an id is known depends on its hour and on that of the event that names it, never on
    when this was cleaned: one that was built anew from the tables says the same.
    """

    def __init__(self, span_h: int, runs: Iterable[Run] = ()) -> None:
        self.span_h = span_h
        self.runs = list(runs)  # each at least twice as large as the next

    def __len__(self) -> int:
        return sum(len(run.digests) for run in self.runs)

    def find(self, digests: Digests, arrived: Hours) -> Hours:
        """The hour of each id, `UNKNOWN` where none is remembered at the hour of arrival.  # [N]"""
        found = np.full(len(digests), UNKNOWN, np.int32)
        for run in self.runs:
            at = np.searchsorted(run.digests, digests)
            at[at == len(run.digests)] = 0
            hit = run.digests[at] == digests
            np.maximum(found, np.where(hit, run.hours[at], UNKNOWN), out=found)
        found[found < arrived - self.span_h] = UNKNOWN
        return found

    def add(self, digests: Digests, hours: Hours) -> None:
        """Remember these."""
        if len(digests) == 0:
            return
        self.runs.append(run_of(digests, hours))
        while len(self.runs) > 1 and len(self.runs[-2].digests) < 2 * len(self.runs[-1].digests):
            newer, older = self.runs.pop(), self.runs.pop()
            self.runs.append(self._merged(older, newer))

    def _merged(self, older: Run, newer: Run) -> Run:
        both = run_of(
            np.concatenate([older.digests, newer.digests]),
            np.concatenate([older.hours, newer.hours]),
        )
        keep = both.hours >= int(newer.hours.max()) - self.span_h - SLACK_H
        return both if keep.all() else Run(both.name, both.digests[keep], both.hours[keep])
