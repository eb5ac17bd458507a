"""The fold of replay rows, in plain Python: the rule that defines the table's truth.

`stream/bakehouse_stream/fold.py` says the same over DataFrames, and a property test holds the two
equal. The learner, which has no Spark, folds with this one.

A row is one decision plus the outcomes that the row knows of. Folding is associative,
commutative and idempotent, so appends may repeat, overlap and arrive in any order.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Row = dict[str, Any]

# Two copies of one decision that differ in any of these were drawn twice.
CONTESTED_BY = ("action", "propensity", "context")


def position_key(position: Row) -> tuple[int, str, int, int]:
    """Order of Kafka positions: broker time first, then the place in the log."""
    return (
        position["received_at_ms"],
        position["topic"],
        position["partition"],
        position["offset"],
    )


def _union(first: list[Row], second: list[Row]) -> list[Row]:
    by_key = {position_key(p): p for p in (*first, *second)}
    return [by_key[key] for key in sorted(by_key)]


def _earliest(row: Row) -> tuple[int, str, int, int]:
    return min(map(position_key, row["positions"]))


def merge_outcomes(first: Row, second: Row) -> Row:
    """Two copies of one outcome: content of the earlier, positions of both."""
    winner = first if _earliest(first) <= _earliest(second) else second
    return winner | {"positions": _union(first["positions"], second["positions"])}


def merge_rows(first: Row, second: Row) -> Row:
    """Two rows of one `(application, decision_id)` as one; see the module's docstring.

    `positions` are lists of `{received_at_ms, topic, partition, offset}`; `outcomes` are lists
    of rows with `outcome_id` and `positions`.
    """
    winner = first if _earliest(first) <= _earliest(second) else second
    outcomes: dict[str, Row] = {}
    for outcome in (*first["outcomes"], *second["outcomes"]):
        seen = outcomes.get(outcome["outcome_id"])
        outcomes[outcome["outcome_id"]] = merge_outcomes(seen, outcome) if seen else outcome
    differs = any(first[name] != second[name] for name in CONTESTED_BY)
    return winner | {
        "positions": _union(first["positions"], second["positions"]),
        "outcomes": [outcomes[outcome_id] for outcome_id in sorted(outcomes)],
        "contested": bool(first["contested"] or second["contested"] or differs),
    }


def fold_rows(rows: Iterable[Row]) -> dict[tuple[str, str], Row]:
    """All rows folded, by `(application, decision_id)`."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["application"], row["decision_id"]), []).append(row)
    # a single row is merged with itself: its outcomes may hold one id twice
    return {
        key: _merged(group if len(group) > 1 else [*group, *group]) for key, group in groups.items()
    }


def _merged(group: list[Row]) -> Row:
    """All rows of one decision as one. By halves: merged one after the other, the first of ten
    thousand outcomes would be looked at ten thousand times."""
    if len(group) == 1:
        return group[0]
    half = len(group) // 2
    return merge_rows(_merged(group[:half]), _merged(group[half:]))
