"""The fold: associative, commutative, idempotent, so appends may repeat and overlap."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bakehouse_schemas.replay.fold import fold_rows, merge_rows


def position(topic: str, offset: int, at: int) -> dict[str, Any]:
    return {"received_at_ms": at, "topic": topic, "partition": 0, "offset": offset}


def row(
    *, offset: int = 0, at: int = 100, action: str = '"a"', outcomes: Any = ()
) -> dict[str, Any]:
    return {
        "application": "game",
        "decision_id": "d1",
        "action": action,
        "propensity": 0.5,
        "context": "{}",
        "outcomes": list(outcomes),
        "positions": [position("decisions", offset, at)],
        "contested": False,
    }


def outcome(name: str, *, offset: int, at: int, value: float = 1.0) -> dict[str, Any]:
    return {
        "outcome_id": name,
        "value": value,
        "positions": [position("outcomes", offset, at)],
    }


def folded(rows: list[dict[str, Any]]) -> dict[str, Any]:
    (one,) = fold_rows(rows).values()
    return one


def test_a_decision_and_its_outcomes_become_one_row():
    one = folded(
        [
            row(),
            row(outcomes=[outcome("won", offset=1, at=150)]),
            row(outcomes=[outcome("quit", offset=2, at=160)]),
        ]
    )
    assert [o["outcome_id"] for o in one["outcomes"]] == ["quit", "won"]
    assert one["positions"] == [position("decisions", 0, 100)]
    assert not one["contested"]


def test_each_of_a_thousand_outcomes_of_one_decision_is_looked_at_some_dozen_times():
    looked: list[str] = []

    class Watched(dict[str, Any]):
        def __getitem__(self, name: str) -> Any:
            looked.append(name)
            return super().__getitem__(name)

    many = 1 << 10
    rows = [row(outcomes=[Watched(outcome(f"o{at}", offset=at, at=150))]) for at in range(many)]
    assert len(folded(rows)["outcomes"]) == many
    assert len(looked) < 3 * 10 * many


def test_of_two_copies_of_an_outcome_the_earlier_wins_and_both_positions_are_kept():
    late = row(outcomes=[outcome("won", offset=9, at=190, value=2.0)])
    early = row(outcomes=[outcome("won", offset=1, at=150, value=1.0)])
    (won,) = folded([late, early])["outcomes"]
    assert won["value"] == 1.0
    assert [p["offset"] for p in won["positions"]] == [1, 9]


def test_two_copies_in_one_row_are_one_outcome():
    twice = row(outcomes=[outcome("won", offset=2, at=160), outcome("won", offset=1, at=150)])
    assert len(folded([twice])["outcomes"]) == 1


def test_a_retry_that_drew_another_action_is_contested_and_the_first_stands():
    one = folded([row(offset=5, at=200, action='"b"'), row(offset=1, at=100, action='"a"')])
    assert one["contested"]
    assert one["action"] == '"a"'


ROWS = st.lists(
    st.builds(
        row,
        offset=st.integers(0, 2),
        at=st.just(100),
        outcomes=st.lists(
            st.builds(
                outcome,
                st.sampled_from(["won", "quit"]),
                offset=st.integers(0, 3),
                at=st.integers(150, 151),
            ),
            max_size=2,
        ),
    ),
    min_size=1,
    max_size=6,
)


@given(ROWS, st.randoms(use_true_random=False), st.integers(0, 5))
def test_order_repetition_and_partial_folds_change_nothing(rows, random, cut):
    # the content of a position never differs: it was read from one place in a log
    for one in rows:
        for o in one["outcomes"]:
            p = o["positions"][0]
            o["value"] = float(hash((o["outcome_id"], p["offset"], p["received_at_ms"])) % 7)
    expected = folded(rows)
    shuffled = rows + rows[:2]
    random.shuffle(shuffled)
    assert folded(shuffled) == expected
    head, tail = shuffled[: cut + 1], shuffled[cut + 1 :]
    assert folded([folded(head), *tail]) == expected
    assert merge_rows(expected, expected) == expected
