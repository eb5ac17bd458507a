"""Arrow rows become arrivals, or are passed over and counted."""

from __future__ import annotations

import json
import math
import sys
import tracemalloc

import numpy as np
import pytest

from bakehouse_learner.replay.folded_decision import decode, encode, merge
from bakehouse_learner.replay.row_decoder import RowDecoder
from bakehouse_schemas.application.application import Application, Discrete, seconds
from bakehouse_schemas.application.observation import Numeric
from bakehouse_schemas.application.reward import Reward
from tests.replay_rows import arrow, decision, following, outcome

GAME = Application(
    name="game",
    observation=[Numeric("x", low=0, high=1)],
    actions=Discrete("a", "b"),
    reward=Reward({"won": 1.0}, window=seconds(10)),
    baseline=lambda context: "b" if context["x"] > 0.5 else "a",
)


def test_a_context_without_observation_is_encoded_here() -> None:
    row = decision(GAME, {"x": 0.25}, "a", observation=None)
    (arrival,) = RowDecoder(GAME).decode(arrow([row]))
    assert arrival.observation.tolist() == [0.25]


def test_a_baseline_that_was_not_logged_is_asked_again() -> None:
    row = decision(GAME, {"x": 0.75}, "a", baseline_action=None)
    (arrival,) = RowDecoder(GAME).decode(arrow([row]))
    assert arrival.baseline == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"observation": [0.1, 0.2]},
        {"observation": [math.nan]},
        {"observation": None, "context": json.dumps({"y": 1})},
        {"action": '"c"'},
        {"propensity": 0.0},
        {"propensity": None},
        {"decided_at_ms": None},
        {"context": None},
        {"eligible_actions": "[torn"},
    ],
)
def test_what_cannot_be_learned_from_is_refused_and_counted(changes: dict[str, object]) -> None:
    decoder = RowDecoder(GAME)
    assert decoder.decode(arrow([decision(GAME, {"x": 0.5}, "a") | changes])) == []
    assert decoder.refused == 1


def test_the_mask_says_which_labels_were_eligible() -> None:
    row = decision(GAME, {"x": 0.5}, "b", eligible_actions='["b"]')
    (arrival,) = RowDecoder(GAME).decode(arrow([row]))
    assert arrival.eligible.tolist() == [False, True]


def test_exploration_is_taken_out_of_the_propensity() -> None:
    # ε = 0.5 of two: 0.5·own + 0.25
    rows = [decision(GAME, {"x": 0.5}, "a", propensity=p) for p in (0.75, 0.25)]
    rows.append(decision(GAME, {"x": 0.5}, "a", exploration=None))
    own = [arrival.base_propensity for arrival in RowDecoder(GAME).decode(arrow(rows))]
    assert own[:2] == [1.0, 0.0]
    assert math.isnan(own[2])


def test_a_successor_brings_its_observation_and_mask() -> None:
    first = decision(GAME, {"x": 0.5}, "a")
    second = decision(GAME, {"x": 0.75}, "b", eligible_actions='["b"]')
    (arrival,) = RowDecoder(GAME).decode(arrow([following(first, second)]))
    observation, eligible = arrival.successors[second["decision_id"]]
    assert observation.tolist() == [0.75]
    assert eligible.tolist() == [False, True]
    assert arrival.known.outcomes[0].next_decision_id == second["decision_id"]


def test_rows_with_and_without_outcomes_keep_their_own() -> None:
    rows = [decision(GAME, {"x": x}, "a") for x in (0.1, 0.2, 0.3)]
    rows[1] = outcome(rows[1], "won", after_ms=5, value=2.5)
    counts = [arrival.known.outcomes for arrival in RowDecoder(GAME).decode(arrow(rows))]
    assert [len(outcomes) for outcomes in counts] == [0, 1, 0]
    assert counts[1][0].value == 2.5


def test_what_is_known_survives_being_written_down() -> None:
    row = outcome(decision(GAME, {"x": 0.1}, "a", propensity=1 / 3), "won", after_ms=5)
    (arrival,) = RowDecoder(GAME).decode(arrow([row]))
    assert decode(encode(arrival.known)) == arrival.known
    assert merge(arrival.known, arrival.known) == arrival.known


def test_a_sliced_table_reads_the_same_as_its_rows() -> None:
    rows = [decision(GAME, {"x": x}, "a") for x in (0.1, 0.2, 0.3)]
    rows[2] = outcome(rows[2], "won", after_ms=5)
    sliced = RowDecoder(GAME).decode(arrow(rows).slice(1))
    whole = RowDecoder(GAME).decode(arrow(rows[1:]))
    assert [a.known for a in sliced] == [a.known for a in whole]
    np.testing.assert_array_equal(sliced[0].observation, whole[0].observation)


def test_what_is_kept_of_a_decision_takes_no_more_memory_than_its_text() -> None:
    (arrival,) = RowDecoder(GAME).decode(arrow([decision(GAME, {"x": 0.5}, "a")]))
    tracemalloc.start()
    try:
        kept = [encode(arrival.known) for _ in range(1_000)]
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert taken < 2 * sum(map(sys.getsizeof, kept))
    assert decode(kept[0]) == arrival.known
