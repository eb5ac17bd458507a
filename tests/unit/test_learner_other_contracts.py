"""Rows of another contract are encoded anew from what was stored, by the encoder of ours."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from typing import Any

import pytest

from bakehouse_learner.replay.ring import Ring
from bakehouse_learner.replay.row_decoder import RowDecoder
from bakehouse_schemas.application.application import (
    Agent,
    Application,
    Continuous,
    Discrete,
    Episodic,
    EpsilonGreedy,
    Parts,
    Ranking,
    Training,
    seconds,
)
from bakehouse_schemas.application.observation import Boolean, Categorical, Numeric
from bakehouse_schemas.application.reward import Reward
from bakehouse_schemas.contracts.contract import contract_of
from tests.replay_rows import arrow, decision, following

THEN = Application(
    name="game",
    observation=[Numeric("level", low=0, high=120), Categorical("country", buckets=8)],
    actions=Discrete("a", "b", "c"),
    reward=Reward({"won": 1.0}, window=seconds(10)),
    baseline=lambda context: "a",
    exploration=EpsilonGreedy(0.5),
    training=Training(buffer=100),
)
CONTEXT = {"level": 90.0, "country": "NL"}
LEVEL = THEN.observation[0]
COUNTRY = THEN.observation[1]


def row_of(application: Application, action: Any, **changes: Any) -> dict[str, Any]:
    """A decision of that contract, whose logged observation means nothing under any other."""
    return decision(application, CONTEXT, action, **changes)


def names_of(*applications: Application) -> Any:
    """What was written down of contracts, as a home keeps it."""
    return {one.contract: contract_of(one) for one in applications}.get


def test_a_bound_that_moved_leaves_the_number_as_the_game_sent_it() -> None:
    now = replace(THEN, observation=[Numeric("level", low=0, high=180), COUNTRY])
    decoder = RowDecoder(now)
    (arrival,) = decoder.decode(arrow([row_of(THEN, "a")]))
    assert arrival.observation[0] == 90.0  # the policy's normaliser knows the bounds
    assert (decoder.recoded, decoder.gone, decoder.refused) == (1, 0, 0)


def test_a_country_goes_to_the_bucket_that_it_has_now() -> None:
    now = replace(THEN, observation=[LEVEL, Categorical("country", buckets=16)])
    (arrival,) = RowDecoder(now).decode(arrow([row_of(THEN, "a")]))
    bucket = zlib.crc32(b"country=NL") % 16
    assert arrival.observation.shape == (17,)
    assert arrival.observation.nonzero()[0].tolist() == [0, 1 + bucket]


def test_a_feature_that_is_new_has_its_default_and_one_that_is_gone_is_not_read() -> None:
    now = replace(THEN, observation=[Boolean("tired", default=True), LEVEL])
    (arrival,) = RowDecoder(now).decode(arrow([row_of(THEN, "a")]))
    assert arrival.observation.tolist() == [1.0, 90.0]


def test_a_new_feature_without_a_default_makes_rows_that_lack_it_unreadable() -> None:
    now = replace(THEN, observation=[LEVEL, Boolean("tired")])
    decoder = RowDecoder(now)
    sent = json.dumps({"level": 1.0, "tired": False})  # the game sent it before it was read
    rows = [row_of(THEN, "a"), row_of(THEN, "a") | {"context": sent}]
    (arrival,) = decoder.decode(arrow(rows))
    assert arrival.observation.tolist() == [1.0, 0.0]
    assert (decoder.recoded, decoder.gone, decoder.refused) == (1, 0, 1)


def test_an_observation_of_another_contract_is_not_ours_because_it_has_as_many_numbers() -> None:
    now = replace(THEN, observation=[Numeric("speed", default=0.5), COUNTRY])
    (arrival,) = RowDecoder(now).decode(arrow([row_of(THEN, "a")]))
    assert arrival.observation[0] == 0.5


@pytest.mark.parametrize("written_down", [True, False], ids=["registry", "probabilities"])
def test_a_label_that_did_not_exist_was_not_eligible(written_down: bool) -> None:
    now = replace(THEN, actions=Discrete("a", "new", "b", "c"))
    decoder = RowDecoder(now, names_of(THEN) if written_down else None)
    probabilities = json.dumps({"a": 2 / 3, "b": 1 / 6, "c": 1 / 6})
    rows = [
        row_of(THEN, "a", propensity=2 / 3, action_probabilities=probabilities),
        row_of(THEN, "b", propensity=0.25, eligible_actions='["b", "c"]'),
    ]
    free, masked = decoder.decode(arrow(rows))
    assert free.eligible.tolist() == [True, False, True, True]
    assert masked.eligible.tolist() == [False, False, True, True]
    assert masked.action.tolist() == [2.0]
    # ε = 0.5 of the three of then: 0.5·own + 1/6; of the two: 0.5·own + 1/4
    assert free.base_propensity == pytest.approx(1.0)
    assert masked.base_propensity == pytest.approx(0.0)
    assert free.propensity == 2 / 3 and free.support


def test_where_nothing_says_what_there_was_all_labels_were() -> None:
    now = replace(THEN, actions=Discrete("a", "b", "c", "d"))
    (arrival,) = RowDecoder(now).decode(arrow([row_of(THEN, "a")]))
    assert arrival.eligible.all()


def test_a_label_that_is_gone_cannot_be_learned_and_took_its_share_of_the_chance() -> None:
    now = replace(THEN, actions=Discrete("a", "b"))
    decoder = RowDecoder(now, names_of(THEN))
    # own: a 0.8, c 0.2; ε = 0.5 of three: a 0.4 + 1/6, b 1/6, c 0.1 + 1/6
    executed = {"a": 0.4 + 1 / 6, "b": 1 / 6, "c": 0.1 + 1 / 6}
    rows = [
        row_of(THEN, label, propensity=p, action_probabilities=json.dumps(executed))
        for label, p in executed.items()
    ]
    a, b = decoder.decode(arrow(rows))
    assert (decoder.recoded, decoder.gone, decoder.refused) == (2, 1, 0)
    assert a.eligible.tolist() == [True, True]
    remained = 1 - executed["c"]
    assert a.propensity == pytest.approx(executed["a"] / remained)
    assert a.propensity + b.propensity == pytest.approx(1.0)
    # of a and b, the policy of then chose a for sure
    assert a.base_propensity == pytest.approx(1.0)
    assert b.base_propensity == pytest.approx(0.0, abs=1e-12)
    assert a.known.propensity == executed["a"], "the fold compares what was logged"
    ring = Ring(now)
    ring.ingest([a, b])
    assert ring.propensity[:2].tolist() == [a.propensity, b.propensity]


def test_where_one_label_alone_is_left_chance_had_no_say() -> None:
    now = replace(THEN, actions=Discrete("a", "d"))
    executed = json.dumps({"a": 0.5, "b": 0.5})
    row = row_of(THEN, "a", propensity=0.5, action_probabilities=executed)
    (arrival,) = RowDecoder(now).decode(arrow([row]))
    assert arrival.propensity == 1.0 and not arrival.support
    assert arrival.eligible.tolist() == [True, False]


def test_of_a_decision_by_the_rules_no_share_is_taken() -> None:
    now = replace(THEN, actions=Discrete("a", "b"))
    certain = json.dumps({"a": 1.0, "b": 0.0, "c": 0.0})
    row = row_of(
        THEN, "a", propensity=1.0, cohort="holdout", exploration=None, action_probabilities=certain
    )
    (arrival,) = RowDecoder(now).decode(arrow([row]))
    assert arrival.propensity == 1.0 and arrival.holdout and not arrival.support


def test_the_players_of_another_contract_are_who_they_were() -> None:
    parts = replace(
        THEN,
        actions=Parts({"mode": Discrete("x", "y"), "speed": Continuous(low=0.0, high=1.0)}),
        baseline=lambda context: {"mode": "x", "speed": [0.5]},
        agent=Agent("ppo"),
        exploration=None,  # type: ignore[arg-type]  # by the kind of actions
    )
    now = replace(
        parts,
        actions=Parts({"mode": Discrete("x", "y", "z"), "speed": Continuous(low=0.0, high=1.0)}),
    )
    density = json.dumps({"kind": "truncated_normal", "factors": [0.5, 1.2], "mean": [0.5]})
    action: Any = {"mode": "y", "speed": [0.25]}
    row = decision(
        parts,
        CONTEXT,
        action,
        propensity=0.6,
        density=density,
        baseline={"mode": "x", "speed": [0.5]},  # type: ignore[arg-type]
    )
    (ours,) = RowDecoder(parts).decode(arrow([row]))
    (arrival,) = RowDecoder(now, names_of(parts)).decode(arrow([row]))
    assert arrival.origin.subject == ours.origin.subject != 0
    assert arrival.action.tolist() == [1.0, 0.25]
    assert arrival.eligible.tolist() == [True, True, False]
    masked = row | {"eligible_actions": '["mode=y"]'}
    (arrival,) = RowDecoder(now, names_of(parts)).decode(arrow([masked]))
    assert arrival.eligible.tolist() == [False, True, False]


def test_a_number_outside_the_box_of_now_is_an_action_that_is_gone() -> None:
    then = replace(
        THEN,
        actions=Continuous(low=0.0, high=10.0),
        baseline=lambda context: [5.0],
        agent=Agent("td3"),
        exploration=None,  # type: ignore[arg-type]  # by the kind of actions
    )
    now = replace(then, actions=Continuous(low=2.0, high=20.0))
    rows = [
        decision(then, CONTEXT, [x], propensity=0.2, baseline=[5.0])  # type: ignore[arg-type,list-item]
        for x in (1.0, 3.0)
    ]
    decoder = RowDecoder(now)
    (arrival,) = decoder.decode(arrow(rows))
    assert arrival.action.tolist() == [3.0] and arrival.propensity == 0.2
    assert (decoder.recoded, decoder.gone) == (1, 1)


def test_items_are_described_by_the_features_that_they_have_now() -> None:
    then = replace(
        THEN,
        actions=Ranking(k=1, most_items=3, item=[Numeric("price", low=0, high=10)]),
        baseline=lambda context: [context["items"][0]["id"]],
        agent=Agent("rank"),
        exploration=None,  # type: ignore[arg-type]  # by the kind of actions
    )
    now = replace(
        then,
        actions=Ranking(
            k=1,
            most_items=3,
            item=[Boolean("sale", default=False), Numeric("price", low=0, high=20)],
        ),
    )
    items = [{"id": "sword", "price": 3.0}, {"id": "shield", "price": 4.0, "sale": True}]
    row = decision(
        then,
        CONTEXT,
        ["shield"],  # type: ignore[arg-type]
        items=json.dumps(items),
        baseline=["sword"],  # type: ignore[arg-type]
    )
    (arrival,) = RowDecoder(now, names_of(then)).decode(arrow([row]))
    assert arrival.items is not None
    assert arrival.items[:2].tolist() == [[0.0, 3.0], [1.0, 4.0]]
    assert arrival.eligible.tolist() == [True, True, False]
    assert arrival.action.tolist() == [1.0]


CHAIN = replace(THEN, problem=Episodic(discount=0.9), agent=Agent("dqn"))
CHAIN_NOW = replace(
    CHAIN,
    observation=[Numeric("speed", default=0.5), COUNTRY],  # as many numbers
    actions=Discrete("a", "b", "c", "d"),
)


def test_a_successor_is_encoded_anew_too_and_chose_from_what_there_was() -> None:
    first, second = row_of(CHAIN, "a"), row_of(CHAIN, "b")
    (arrival,) = RowDecoder(CHAIN_NOW, names_of(CHAIN)).decode(arrow([following(first, second)]))
    observation, eligible = arrival.successors[second["decision_id"]]
    assert observation[0] == 0.5
    assert eligible.tolist() == [True, True, True, False]


def test_a_successor_of_another_contract_than_its_predecessor_is_known_by_its_own_row() -> None:
    """An episode that servers of both contracts answered, whichever way round."""
    first, second = row_of(CHAIN_NOW, "a"), row_of(CHAIN, "b")
    third = decision(CHAIN_NOW, CONTEXT, "d", previous=second["decision_id"])
    second["previous_decision_id"] = first["decision_id"]
    chain = [first, following(first, second), second, following(second, third), third]
    ring = Ring(CHAIN_NOW)
    ring.ingest(RowDecoder(CHAIN_NOW, names_of(CHAIN)).decode(arrow(chain)))
    at = {
        name: ring.slot_of(row["decision_id"]) for name, row in zip("123", chain[::2], strict=True)
    }
    assert ring.has_next[at["1"]] and ring.has_next[at["2"]]
    assert ring.next_observation[at["1"]][0] == ring.next_observation[at["2"]][0] == 0.5
    assert ring.next_eligible[at["1"]].tolist() == [True, True, True, False]
    assert ring.next_eligible[at["2"]].tolist() == [True, True, True, True]


def test_rows_of_both_contracts_are_taken_as_they_come_in_the_order_they_have() -> None:
    now = replace(THEN, actions=Discrete("a", "b", "c", "d"))
    decoder = RowDecoder(now, names_of(THEN))
    rows = [row_of(THEN, "a"), decision(now, CONTEXT, "d"), row_of(THEN, "c")]
    arrivals = decoder.decode(arrow(rows))
    assert [one.decision_id for one in arrivals] == [row["decision_id"] for row in rows]
    assert [bool(one.eligible[3]) for one in arrivals] == [False, True, False]
    assert decoder.recoded == 2


def test_a_decision_that_stood_alone_is_no_step_of_an_episode() -> None:
    now = replace(THEN, problem=Episodic(discount=0.9), agent=Agent("dqn"))
    decoder = RowDecoder(now, names_of(THEN))
    assert decoder.decode(arrow([row_of(THEN, "a")])) == []
    assert (decoder.recoded, decoder.gone, decoder.refused) == (0, 1, 0)
