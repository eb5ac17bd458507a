"""A ranked list of the items that come with a request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bakehouse_schemas.application.observation import (
    Boolean,
    Categorical,
    Encoder,
    Feature,
    Numeric,
    Vector,
    described_feature,
)
from bakehouse_schemas.application.shape import Shape
from bakehouse_schemas.errors import ApplicationError, InvalidContext
from bakehouse_schemas.numbers import in_short, is_text, is_whole

MOST_ITEMS = 1_000  # of a request to rank
MOST_PLACES = 50  # of a ranking: beyond it a baseline's order is lost in worths that underflow
Item = Mapping[str, Any]


@dataclass(frozen=True, init=False)
class Ranking:
    """The best `k` of the items that come with a request, in order.

    Args:
        k: places of the list.
        item: features of an item, read from its fields as a context's are; numbers need `low` and
            `high`.
        most_items: that one request may bring.

    A request's items are objects with an `id`; an action is a list of ids, the best first. A
    request with fewer than `k` items is answered with all of them, in order.
    """

    k: int
    item: tuple[Feature, ...]
    most_items: int
    kind = "ranking"

    def __init__(self, *, k: int, item: Sequence[Feature], most_items: int = 50) -> None:
        if not is_whole(most_items, 2, MOST_ITEMS):
            raise ApplicationError(
                f"Ranking(most_items={in_short(most_items)}): from 2 to {MOST_ITEMS}"
            )
        if not is_whole(k, 1, min(most_items, MOST_PLACES)):
            raise ApplicationError(
                f"Ranking(k={in_short(k)}): from 1 to {MOST_PLACES}, and at most most_items, "
                f"{most_items}"
            )
        if not isinstance(item, Iterable) or isinstance(item, str):
            raise ApplicationError(
                f"Ranking(item={in_short(item)}): expected a list of features, such as "
                "[Numeric('price', low=0, high=100)]"
            )
        features = tuple(item)
        for feature in features:
            if not isinstance(feature, (Numeric, Categorical, Boolean, Vector)):
                raise ApplicationError(
                    f"Ranking(item=[…, {in_short(feature)}]): expected Numeric, Categorical, "
                    "Boolean or Vector"
                )
            if isinstance(feature, (Numeric, Vector)) and feature.low is None:
                raise ApplicationError(
                    f"Ranking(item=[…, {feature.name!r}]): an item's numbers need low and high"
                )
        names = [feature.name for feature in features]
        if not names or len(set(names)) != len(names) or "id" in names:
            raise ApplicationError(
                f"Ranking(item=…) has features {names}: expected at least one, each name once, "
                "and none called 'id'"
            )
        object.__setattr__(self, "k", k)
        object.__setattr__(self, "item", features)
        object.__setattr__(self, "most_items", most_items)

    @cached_property
    def encoder(self) -> Encoder:
        """Item → its features."""
        return Encoder(self.item)

    @cached_property
    def shape(self) -> Shape:
        """This space in numbers."""
        return Shape(
            "ranking",
            self.most_items,
            (),
            np.zeros(0),
            np.zeros(0),
            slots=self.k,
            features=self.encoder.size,
        )

    @property
    def choices(self) -> tuple[str, ...]:
        """Names of what a mask covers: the places in a request's list of items."""
        return tuple(f"item {at}" for at in range(self.most_items))

    def problem_with_items(self, items: Any) -> str | None:
        """What is wrong with a request's items; None where they can be ranked."""
        if not isinstance(items, (list, tuple)) or not 1 <= len(items) <= self.most_items:
            came = "nothing" if items is None else f"{items!r:.60}"
            if isinstance(items, (list, tuple)):
                came = f"{len(items)} items"
            return f"{came}; expected a list of 1 to {self.most_items} items to rank"
        ids = set()
        for at, item in enumerate(items):
            if not isinstance(item, Mapping) or not is_text(item.get("id")):
                return f"item {at}: expected an object with an 'id' (a text), got {item!r:.60}"
            if item["id"] in ids:
                return f"item {at}: the id {item['id']!r:.60} stands twice"
            ids.add(item["id"])
        return None

    def encode_items(self, items: Sequence[Item]) -> np.ndarray:
        """Features of a request's items, zeros beyond them. float32 `[M, F]`

        Raises:
            InvalidContext: an item lacks a feature, or has one that cannot be encoded.
        """
        encoded = np.zeros((self.most_items, self.encoder.size), dtype=np.float32)
        for at, item in enumerate(items):
            try:
                encoded[at] = self.encoder.encode(item)
            except InvalidContext as error:
                raise InvalidContext(f"items.{at}: {error}") from None
        return encoded

    def problem_with(self, action: Any, items: Sequence[Item] | None = None) -> str | None:
        """What is wrong with an action as JSON carries it; None where it is one of these."""
        ids = {item["id"]: None for item in items or ()}  # in order
        places = min(self.k, len(items or ()))
        if not isinstance(action, (list, tuple)) or len(action) != places:
            return f"expected a list of {places} item ids"
        for one in action:
            if not isinstance(one, str) or one not in ids:
                known = f"{list(ids)!r:.200}"
                return f"{one!r:.60} is no item of this request; expected some of {known}"
        if len(set(action)) != len(action):
            return "an item stands twice; expected each once"
        return None

    def row_of(self, action: Any, items: Sequence[Item] | None = None) -> np.ndarray:
        """An action without problems as positions; −1 where a place is empty. float64 `[W]`"""
        positions = {item["id"]: at for at, item in enumerate(items or ())}
        row = np.full(self.k, -1.0)
        row[: len(action)] = [positions[one] for one in action]
        return row

    def action_of(self, row: np.ndarray, items: Sequence[Item] | None = None) -> Any:
        """The action of a row, as JSON carries it."""
        return [(items or ())[int(at)]["id"] for at in row if at >= 0]

    def described(self) -> Any:
        """What goes into the contract's fingerprint."""
        return {
            "k": self.k,
            "most_items": self.most_items,
            "item": [described_feature(feature) for feature in self.item],
        }
