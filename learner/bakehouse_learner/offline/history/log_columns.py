"""What stands in the columns of a studio's log, cell by cell, and which cells are refused?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute

from bakehouse_learner.offline.history import values
from bakehouse_schemas.application.application import Application
from bakehouse_schemas.application.observation import Boolean, Numeric
from bakehouse_schemas.errors import InvalidHistory
from bakehouse_schemas.numbers import in_short

PROBLEMS_TOLD = 5
BY_THE_FILE = "reward"  # the column whose values are the rewards themselves


class LogColumns:
    """The columns of a log as lists of values, None where a cell is empty.

    Args:
        named: what the log is called in messages.

    Raises:
        InvalidHistory: it is empty, or lacks columns without which nothing can be learned.
    """

    def __init__(self, application: Application, table: pa.Table, named: str) -> None:
        self.named = named
        self.names = list(table.column_names)
        self.size = table.num_rows
        numbers = _columns_of_numbers(application)
        self.columns: dict[str, list[Any]] = {
            name: _cells(table.column(name), numbers=name in numbers) for name in self.names
        }
        self.problems: list[str] = []
        self._problem_count = 0
        if self.size == 0:
            raise InvalidHistory(f"{named} holds no rows: expected at least one decision")
        self._check_names(application)

    @property
    def described(self) -> str:
        """How a message that refuses the whole log begins."""
        return f"{self.named} has the columns {self.names}"

    def _check_names(self, application: Application) -> None:
        features = [feature.name for feature in application.observation]
        if "action" not in self.names:
            raise InvalidHistory(f"{self.described}: expected `action` among them, what was done")
        if "context" not in self.names and not set(features) & set(self.names):
            raise InvalidHistory(
                f"{self.described}: expected a column for each feature "
                f"({', '.join(features)}), or `context` with all of them as JSON"
            )
        if "context" not in self.names:
            self._check_features(application)

    def _check_features(self, application: Application) -> None:
        lacking = [
            feature.name
            for feature in application.observation
            if feature.default is None and feature.name not in self.names
        ]
        if lacking:
            raise InvalidHistory(
                f"{self.described}: expected {', '.join(lacking)} among "
                "them, as these features have no default; nothing was learned"
            )

    def refuse(self, row: int, column: str, came: Any, expected: str) -> None:
        """Note what is wrong with a cell; the rows before and after are still looked at."""
        self._problem_count += 1
        if len(self.problems) < PROBLEMS_TOLD:
            self.problems.append(
                f"row {row + 1}, column {column!r}: {in_short(came)} came, "
                + (expected if "expected" in expected else f"expected {expected}")
            )

    def raise_problems(self) -> None:
        """Raise InvalidHistory with the first problems, if any were noted."""
        if self.problems:
            more = self._problem_count - len(self.problems)
            raise InvalidHistory(
                f"{self.named}: "
                + "; ".join(self.problems)
                + (f"; and {more} more" if more else "")
                + "; nothing was learned"
            )

    def checked(
        self, column: str, check: Callable[[Any], tuple[Any, str | None]], *, needed: bool = False
    ) -> list[Any]:
        """Values of a column, None where empty; `check` gives a value, or what was expected."""
        found: list[Any] = [None] * self.size
        for at, came in enumerate(self.columns.get(column, ())):
            if came is None or (came == "" and not needed):
                if needed:
                    self.refuse(at, column, came, check(None)[1] or "a value")
                continue
            value, expected = check(came)
            if expected is not None:
                self.refuse(at, column, came, expected)
            found[at] = value
        return found


def _columns_of_numbers(application: Application) -> set[str]:
    """Columns of numbers, or of true and false; in all others a text is what it says."""
    weights = application.reward.weights
    features = [f.name for f in application.observation if isinstance(f, (Numeric, Boolean))]
    outcomes = list(weights) if isinstance(weights, Mapping) else []
    return {*features, *outcomes, BY_THE_FILE, "propensity", "step", "end"}


def _cells(column: pa.ChunkedArray, *, numbers: bool) -> list[Any]:
    """Values, None where empty; what is no number is empty, as pandas has it."""
    if pa.types.is_floating(column.type):
        column = pa.compute.if_else(pa.compute.is_nan(column), None, column)
    cells: list[Any] = column.to_pylist()
    if pa.types.is_decimal(column.type):
        return [values.without_decimals(cell) for cell in cells]
    return [values.typed(cell) for cell in cells] if numbers else cells
