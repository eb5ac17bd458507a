"""The resident buffer: decisions enter once, and are amended in place."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bakehouse_learner.replay.ring import Ring
from bakehouse_learner.replay.row_decoder import RowDecoder
from bakehouse_schemas.application.application import (
    Agent,
    Application,
    Bandit,
    Discrete,
    Episodic,
    Training,
    seconds,
)
from bakehouse_schemas.application.observation import Numeric
from bakehouse_schemas.application.reward import Reward
from tests.replay_rows import OFFSETS, T0, arrow, decision, following, outcome

BANDIT = Application(
    name="game",
    observation=[Numeric("x", low=0, high=1)],
    actions=Discrete("a", "b"),
    reward=Reward({"won": 1.0, "paid": 2.0}, window=seconds(10), default=-1.0),
    baseline=lambda context: "a",
    training=Training(buffer=100),
)


def episodic(**changes: Any) -> Application:
    problem = Episodic(discount=0.5, n_step=3, timeout=seconds(5), **changes)
    return replace(BANDIT, problem=problem, agent=Agent("dqn"))


def ring_of(*batches: list[dict[str, Any]], application: Application = BANDIT) -> Ring:
    ring, decoder = Ring(application), RowDecoder(application)
    for rows in batches:
        ring.ingest(decoder.decode(arrow(rows)))
    return ring


def some_decision(**changes: Any) -> dict[str, Any]:
    return decision(BANDIT, {"x": 0.5}, "b", **changes)


def test_a_decision_enters_once_however_often_its_rows_come() -> None:
    made = some_decision()
    ring = ring_of([made], [made, outcome(made, "won", after_ms=100)], [made])
    assert ring.size == 1
    assert ring.reward[0] == 1.0
    assert ring.baseline[0] == 0 and ring.action[0] == 1


def test_outcomes_are_united_by_their_id() -> None:
    made = some_decision()
    won = outcome(made, "won", after_ms=100)
    again = outcome(made, "won", after_ms=100)  # another position, the same outcome
    ring = ring_of([made, won, again, outcome(made, "paid", after_ms=200)])
    assert ring.reward[0] == 3.0
    assert ring.fresh == {0: [T0 + 100, T0 + 200]}


def test_the_order_of_rows_makes_no_difference() -> None:
    made = some_decision()
    rows = [
        made,
        outcome(made, "won", after_ms=100),
        outcome(made, "paid", after_ms=9_000),
        outcome(made, "paid", after_ms=20_000, outcome_id="too late"),
    ]
    expected = ring_of(rows).known(0)

    @settings(max_examples=30, deadline=None)
    @given(st.permutations(rows), st.integers(1, 3))
    def holds(permuted: list[dict[str, Any]], cut: int) -> None:
        ring = ring_of(permuted[:cut], permuted[cut:])
        assert ring.known(0) == expected
        assert ring.reward[0] == 3.0
        assert ring.matured_at_ms[0] == T0 + 10_000

    holds()


def test_a_retry_that_drew_again_is_never_trained_on() -> None:
    made = some_decision()
    ring = ring_of([made, made | {"action": '"a"', "positions": [OFFSETS.at(T0 + 5)]}])
    assert not ring.usable[0]


def test_an_earlier_copy_that_comes_later_gives_the_columns() -> None:
    made = some_decision()
    earlier = made | {"positions": [OFFSETS.at(T0 - 50)], "policy_version": 7}
    ring = ring_of([made], [earlier])
    assert ring.received_at_ms[0] == T0 - 50
    assert ring.policy_version[0] == 7
    assert ring.usable[0]


def test_a_decision_in_place_of_which_a_label_that_is_gone_was_executed_teaches_nothing() -> None:
    made, kept = some_decision(), some_decision()
    ring = ring_of(
        [made, kept],
        [
            outcome(made, after_ms=5, kind="executed", executed_action='"retired"'),
            outcome(made, "won", after_ms=10),
        ],
    )
    assert ring.usable[:2].tolist() == [False, True]


def test_an_executed_action_that_differs_is_trained_on_and_leaves_evaluation() -> None:
    made, same = some_decision(), some_decision()
    ring = ring_of(
        [made, same],
        [
            outcome(made, after_ms=10, kind="executed", executed_action='"a"'),
            outcome(same, after_ms=10, kind="executed", executed_action='"b"'),
        ],
    )
    assert ring.action[:2].tolist() == [0, 1]
    assert ring.support[:2].tolist() == [False, True]


def test_holdout_and_certain_decisions_are_no_support_for_weights() -> None:
    ring = ring_of(
        [
            some_decision(cohort="holdout", propensity=1.0),
            some_decision(propensity=1.0),
            some_decision(cohort="fallback", propensity=1.0),
            some_decision(cohort="fallback", mode="apprentice", propensity=1.0),
            some_decision(),
        ]
    )
    assert ring.support[:5].tolist() == [False, False, False, False, True]
    assert ring.usable[:5].all()


def test_a_decision_older_than_the_buffer_is_passed_by() -> None:
    rows = [some_decision(at_ms=T0 + at) for at in range(150)]
    ring = ring_of(rows, [outcome(rows[10], "won", after_ms=200)])
    assert (ring.size, ring.head, ring.passed_by) == (100, 150, 1)
    assert ring.slot_of(rows[10]["decision_id"]) is None
    assert ring.slot_of(rows[149]["decision_id"]) == 49


def test_only_what_changed_is_dirty() -> None:
    made, other = some_decision(), some_decision()
    ring = ring_of([made, other])
    ring.dirty[:] = False
    decoder = RowDecoder(BANDIT)
    assert ring.ingest(decoder.decode(arrow([made, outcome(other, "won", after_ms=9)]))) == 1
    assert ring.dirty[:2].tolist() == [False, True]
    ring.dirty[:] = False
    assert ring.ingest(decoder.decode(arrow([outcome(other, "shown", after_ms=9)]))) == 0
    assert not ring.dirty[:2].any()


def test_a_decision_matures_by_stream_time_or_by_its_end() -> None:
    silent, ended = some_decision(), some_decision()
    ring = ring_of([silent, ended], [outcome(ended, after_ms=100, kind="end")])
    assert ring.mature(T0).tolist() == [1]
    assert ring.mature(T0 + 9_999).tolist() == []
    ring.dirty[:] = False
    assert ring.mature(T0 + 10_000).tolist() == [0]
    assert ring.dirty[:2].tolist() == [True, False]


def test_successors_are_linked_whichever_comes_first() -> None:
    game = episodic()
    first = decision(game, {"x": 0.1}, "a")
    second = decision(game, {"x": 0.2}, "b", at_ms=T0 + 1, previous=first["decision_id"])
    for batches in (
        [[first, following(first, second), second]],
        [[first], [second], [following(first, second)]],
        [[second], [following(first, second)]],
    ):
        ring = ring_of(*batches, application=game)
        one, two = (ring.slot_of(row["decision_id"]) for row in (first, second))
        assert one is not None and two is not None
        assert ring.next_sequence[one] == ring.sequence[two]
        assert ring.previous_sequence[two] == ring.sequence[one]
        assert ring.next_observation[one] == pytest.approx([0.2])
        assert ring.has_next[one] and not ring.has_next[two]
        assert ring.first[one] and not ring.first[two]


def test_an_amended_successor_amends_those_whose_return_reaches_it() -> None:
    game = episodic()
    rows = [decision(game, {"x": 0.1}, "a", at_ms=T0 + at) for at in range(5)]
    links = [following(one, two) for one, two in pairwise(rows)]
    ring = ring_of([*rows, *links], application=game)
    ring.dirty[:] = False
    ring.ingest(RowDecoder(game).decode(arrow([outcome(rows[4], "won", after_ms=50)])))
    assert ring.dirty[:5].tolist() == [False, False, True, True, True]


def test_an_episode_without_successor_times_out() -> None:
    game = episodic()
    first = decision(game, {"x": 0.1}, "a")
    second = decision(game, {"x": 0.2}, "b", at_ms=T0 + 1_000)
    ring = ring_of([first, second, following(first, second)], application=game)
    assert ring.time_out(T0 + 5_500).tolist() == []
    assert ring.time_out(T0 + 6_000).tolist() == [1]


def test_open_decisions_age_by_what_is_known_not_by_stream_time_alone() -> None:
    made = some_decision()
    later = some_decision(at_ms=T0 + 4_000)
    ring = ring_of([made, outcome(made, "won", after_ms=3_000), later])
    assert ring.known_until_ms(T0 + 1_000) == T0 + 3_000
    assert ring.known_until_ms(T0 + 3_500) == T0 + 3_500


@pytest.mark.parametrize("game", [BANDIT, episodic()], ids=["bandit", "episodic"])
def test_a_restored_ring_goes_on_as_if_it_had_never_stopped(game: Application) -> None:
    rows = [decision(game, {"x": 0.1}, "a", at_ms=T0 + at) for at in range(130)]
    ring = ring_of(rows, application=game)
    ring.ingest(RowDecoder(game).decode(arrow([following(rows[60], rows[61])])))
    restored = Ring(game)
    restored.restore(ring.state())
    news = [
        outcome(rows[70], "won", after_ms=200),
        outcome(rows[2], "won", after_ms=200),
        *(decision(game, {"x": 0.9}, "b", at_ms=T0 + 300 + at) for at in range(40)),
        following(rows[61], rows[62]),
    ]
    for each in (ring, restored):
        each.ingest(RowDecoder(game).decode(arrow(news)))
    one, two = ring.state(), restored.state()
    assert one["json"] == two["json"]
    for name in one.keys() - {"json"}:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)


def test_a_bandit_keeps_no_successors() -> None:
    assert isinstance(BANDIT.problem, Bandit)
    assert ring_of([some_decision()]).next_observation.size == 0


def test_a_state_that_was_taken_is_not_touched_by_what_comes_later() -> None:
    made = some_decision()
    ring = ring_of([made, outcome(made, "won", after_ms=100)])
    taken = ring.state()["json"]["fresh"]
    ring.ingest(RowDecoder(BANDIT).decode(arrow([outcome(made, "paid", after_ms=200)])))
    assert ring.fresh == {0: [T0 + 100, T0 + 200]}
    assert taken == [(0, [T0 + 100])]


def test_what_was_never_seen_is_not_trained_on_until_it_is() -> None:
    game = replace(BANDIT, reward=replace(BANDIT.reward, activation=True))
    made, other = some_decision(), some_decision(at_ms=T0 + 1)
    ring = ring_of([made, other, outcome(made, "won", after_ms=100)], application=game)
    assert ring.usable[:2].tolist() == [False, False]
    seen = outcome(made, None, after_ms=150, kind="activated")
    ring.ingest(RowDecoder(game).decode(arrow([seen])))
    assert ring.usable[:2].tolist() == [True, False]
    assert ring.reward[0] == 1.0
