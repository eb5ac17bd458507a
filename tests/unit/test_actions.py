"""Actions of four kinds: what is one, what is none and why, and how they become numbers."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bakehouse_schemas.application.actions import Continuous, Discrete, Parts
from bakehouse_schemas.application.observation import Boolean, Categorical, Numeric
from bakehouse_schemas.application.ranking import Ranking
from bakehouse_schemas.application.shape import shape_from
from bakehouse_schemas.errors import ApplicationError, InvalidContext
from tests.shapes import SPACES, cases, items

every_kind = pytest.mark.parametrize("kind", sorted(SPACES))
SHELF = SPACES["ranking"]
assert isinstance(SHELF, Ranking)
PARTS = SPACES["parts"]
assert isinstance(PARTS, Parts)


@every_kind
def test_a_shape_comes_back_from_json(kind: str) -> None:
    shape = SPACES[kind].shape
    back = shape_from(json.loads(json.dumps(shape.described())))
    assert back.described() == shape.described()
    assert (back.dims, back.width, back.draws) == (shape.dims, shape.width, shape.draws)


def test_the_shapes_are_those_worked_by_hand() -> None:
    assert SPACES["discrete"].shape.described() == {
        "kind": "discrete",
        "choices": 4,
        "segments": [[0, 4]],
        "low": [],
        "high": [],
        "slots": 0,
        "features": 0,
    }
    parts = PARTS.shape
    assert parts.segments == ((0, 3), (3, 5))
    assert (parts.choices, parts.dims, parts.width) == (5, 1, 3)
    assert PARTS.choices == ("mode=story", "mode=arcade", "mode=duel", "help=on", "help=off")
    ranking = SHELF.shape
    assert (ranking.choices, ranking.slots, ranking.width, ranking.features) == (5, 3, 3, 2)
    box = SPACES["continuous"].shape
    assert (box.choices, box.dims, box.width) == (1, 2, 2)


@every_kind
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_what_is_drawn_is_an_action_and_becomes_the_same_numbers_again(
    kind: str, data: st.DataObject
) -> None:
    from bakehouse_schemas.execution.propensity import execute

    case, actions = data.draw(cases(kind)), SPACES[kind]
    case.eligible[:] = True
    offered = items(case.shape.choices)
    row = execute(*case).row
    action = json.loads(json.dumps(actions.action_of(row, offered)))
    assert actions.problem_with(action, offered) is None
    assert actions.row_of(action, offered).tolist() == row.tolist()


@pytest.mark.parametrize(
    ("kind", "action", "says"),
    [
        ("discrete", "e", "expected one of"),
        ("discrete", 0, "expected one of"),
        ("continuous", [0.5], "expected a list of 2 numbers"),
        ("continuous", 0.5, "expected a list of 2 numbers"),
        ("continuous", [0.5, 16.0], "number 1 is 16.0; expected from -5 to 15"),
        ("continuous", [True, 0.0], "number 0 is True"),
        ("continuous", ["0.5", 0.0], "number 0 is '0.5'"),
        ("continuous", [float("nan"), 0.0], "number 0 is nan"),
        ("continuous", [10**400, 0.0], "number 0 is 1"),
        ("parts", {"mode": "story", "help": "on"}, "expected an object of"),
        ("parts", ["story", 1.0, "on"], "expected an object of"),
        (
            "parts",
            {"mode": "story", "speed": [9.0], "help": "on"},
            "part 'speed': number 0 is 9.0",
        ),
        ("parts", {"mode": "golf", "speed": [1.0], "help": "on"}, "part 'mode': expected one of"),
        ("ranking", ["item-0", "item-1"], "expected a list of 3 item ids"),
        ("ranking", ["item-0", "item-1", "item-1"], "an item stands twice"),
        ("ranking", ["item-0", "item-1", "item-9"], "'item-9' is no item of this request"),
        ("ranking", ["item-0", "item-1", {"id": "item-2"}], "is no item of this request"),
        ("ranking", "item-0", "expected a list of 3 item ids"),
    ],
)
def test_what_is_no_action_is_refused_with_what_was_expected(
    kind: str, action: Any, says: str
) -> None:
    problem = SPACES[kind].problem_with(action, items(5))
    assert problem is not None
    assert says in problem


def test_the_items_of_a_ranking_are_found_without_comparing_each_with_all() -> None:
    compared: list[object] = []

    class Watched(str):
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            compared.append(other)
            return str.__eq__(self, other)

    shelf = Ranking(k=50, item=[Numeric("price", low=0, high=1)], most_items=1_000)
    offered = [{"id": f"item-{at}"} for at in range(1_000)]
    ranked = [Watched(f"item-{at}") for at in range(950, 1_000)]
    assert shelf.problem_with(ranked, offered) is None
    assert len(compared) <= 4 * len(ranked)


def test_fewer_items_than_places_are_ranked_all() -> None:
    offered = items(2)
    assert SHELF.problem_with(["item-1", "item-0"], offered) is None
    assert "expected a list of 2" in str(SHELF.problem_with(["item-1"], offered))
    row = SHELF.row_of(["item-1", "item-0"], offered)
    assert row.tolist() == [1.0, 0.0, -1.0]
    assert SHELF.action_of(row, offered) == ["item-1", "item-0"]


@pytest.mark.parametrize(
    ("offered", "says"),
    [
        (None, "nothing; expected a list of 1 to 5 items"),
        ([], "0 items; expected a list of 1 to 5 items"),
        (items(6), "6 items; expected a list of 1 to 5 items"),
        ("item-0", "expected a list of 1 to 5 items"),
        ([*items(2), items(1)[0]], "item 2: the id 'item-0' stands twice"),
        ([{"price": 1.0}], "item 0: expected an object with an 'id' (a text)"),
        ([{"id": 7}], "item 0: expected an object with an 'id'"),
        (["item-0"], "item 0: expected an object with an 'id'"),
        ([{"id": "x" * 201}], "item 0: expected an object with an 'id'"),
    ],
)
def test_items_that_cannot_be_ranked_are_refused_by_the_first_that_is_wrong(
    offered: Any, says: str
) -> None:
    assert says in str(SHELF.problem_with_items(offered))


def test_items_are_described_by_their_features_and_zeros_beyond_them() -> None:
    encoded = SHELF.encode_items(items(2))
    assert encoded.dtype == np.float32
    assert encoded.tolist() == [[0, 1], [10, 0], [0, 0], [0, 0], [0, 0]]


def test_an_item_without_a_feature_is_named_by_its_place() -> None:
    with pytest.raises(InvalidContext, match=r"items\.1: .*price"):
        SHELF.encode_items([*items(1), {"id": "b", "rare": True}])


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda: Discrete("a"), "at least two labels"),
        (lambda: Discrete("a", "a"), "all different"),
        (lambda: Discrete(["a", "b"]), "one by one"),  # type: ignore[arg-type]
        (lambda: Discrete("a", "b", features={"a": [1.0]}), "numbers for each label"),
        (lambda: Discrete("a", "b", features={"a": [1.0], "b": [1.0, 2.0]}), "the same length"),
        (lambda: Discrete("a", "b", features={"a": [], "b": []}), "at least 1"),
        (lambda: Discrete("a", "b", features={"a": "x", "b": "y"}), "a list of numbers"),
        (lambda: Discrete("a", "b", features={"a": [np.nan], "b": [0.0]}), "finite"),
        (lambda: Continuous(low=1.0, high=1.0), "low 1 is not below high 1"),
        (lambda: Continuous(low=[0.0, 0.0], high=[1.0] * 3), "2 and 3 numbers"),
        (lambda: Continuous(low=0.0, high=[1.0, 1.0], length=3), "2 bounds for 3 numbers"),
        (lambda: Continuous(low=0.0, high=1.0, length=0), "from 1 to 256"),
        (lambda: Continuous(low="0", high=1.0), "a finite number"),  # type: ignore[arg-type]
        (lambda: Parts({"only": Discrete("a", "b")}), "at least two parts"),
        (lambda: Parts({"a=b": Discrete("a", "b"), "c": Discrete("a", "b")}), "without '='"),
        (lambda: Parts({"a": 1, "b": 2}), "expected Discrete"),  # type: ignore[dict-item]
        (
            lambda: Parts(
                {
                    "a": Discrete("x", "y", features={"x": [1.0], "y": [2.0]}),
                    "b": Discrete("x", "y"),
                }
            ),
            "stand alone",
        ),
        (lambda: Ranking(k=0, item=[Boolean("rare")]), "from 1 to 50"),
        (lambda: Ranking(k=51, item=[Boolean("rare")], most_items=60), "from 1 to 50"),
        (lambda: Ranking(k=4, item=[Boolean("rare")], most_items=3), "at most most_items, 3"),
        (lambda: Ranking(k=1, item=[Numeric("price")]), "need low and high"),
        (lambda: Ranking(k=1, item=[]), "at least one"),
        (lambda: Ranking(k=1, item=[Boolean("id")]), "none called 'id'"),
        (lambda: Ranking(k=1, item="price"), "a list of features"),  # type: ignore[arg-type]
    ],
)
def test_an_impossible_action_space_is_refused_when_it_is_written(made: Any, says: str) -> None:
    with pytest.raises(ApplicationError) as refused:
        made()
    assert says in str(refused.value)


def test_one_bound_stands_for_all_numbers() -> None:
    assert Continuous(low=0.0, high=[1.0, 2.0]).low == (0.0, 0.0)
    assert Continuous(low=0.0, high=1.0, length=3).high == (1.0, 1.0, 1.0)


def test_features_of_actions_are_in_the_order_of_the_labels_and_in_the_contract() -> None:
    described = Discrete("a", "b", features={"b": [3, 4], "a": [1, 2]})
    assert described.shape.features == 2
    found = described.feature_array()
    assert found is not None
    assert found.tolist() == [[1, 2], [3, 4]]
    assert described.described() != Discrete("a", "b").described()
    assert Discrete("a", "b").feature_array() is None


def test_what_an_item_is_described_by_is_in_the_contract() -> None:
    plain = Ranking(k=2, item=[Numeric("price", low=0, high=1)]).described()
    finer = Ranking(
        k=2, item=[Numeric("price", low=0, high=1), Categorical("kind", values=["a", "b"])]
    ).described()
    assert plain != finer
    assert json.dumps(plain)
