"""Numbers, parts and rankings: decided, logged, remembered, and read again unchanged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bakehouse.demo.loss_check import DECISION_COLUMNS
from bakehouse_learner.replay.row_decoder import Arrival, RowDecoder
from bakehouse_schemas.application.agents import AGENTS
from bakehouse_schemas.application.application import Application, Rollout
from bakehouse_schemas.application.exploration import Exploration
from bakehouse_schemas.decisions.decide import Answer, answer_one, check
from bakehouse_schemas.decisions.slot import Slot, version_zero
from bakehouse_schemas.errors import InvalidContext, InvalidEvent
from bakehouse_schemas.events.checks import eligible_mask
from bakehouse_schemas.events.events import DecisionRequest
from bakehouse_schemas.events.records import read_decision
from bakehouse_schemas.execution.logged_density import base_policy_from_density
from bakehouse_schemas.execution.propensity import execute, propensities
from bakehouse_schemas.ids import uuid7, uuid7_time_ms
from bakehouse_schemas.policy.bundle import LoadedPolicy
from bakehouse_schemas.worlds.share import logged_decision
from bakehouse_serving.hot.idempotency import CachedAnswer, IdempotencyCache
from bakehouse_stream.columns import arrow_schema
from bakehouse_stream.kafka.decode import Decoder, Record
from tests.shapes import SHAPED, bundled, items, shaped

NOW_MS = uuid7_time_ms(uuid7())
# those that some agent of the catalogue decides
KINDS = [kind for kind in SHAPED if any(kind in agent.actions for agent in AGENTS.values())]
every_kind = pytest.mark.parametrize("kind", KINDS)
APPLICATIONS = {kind: shaped(kind) for kind in KINDS}


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LoadedPolicy]:
    folder = tmp_path_factory.mktemp("policies")
    return {kind: bundled(folder / kind, found) for kind, found in APPLICATIONS.items()}


SUBJECT = "anna"


def decided(
    application: Application,
    slot: Slot | None = None,
    *,
    draw: float = 0.5,
    logged: bool = True,
    **request: Any,
) -> Answer:
    asked: dict[str, Any] = {"subject_id": SUBJECT, "context": {"skill": 0.5}}
    if application.shape.kind == "ranking":
        asked["items"] = items(5)
    one = check(
        application,
        DecisionRequest(**asked | request),
        decision_id=uuid7(NOW_MS),
        now_ms=NOW_MS,
    )
    slot = slot or version_zero(application)
    return answer_one(application, slot, one, draw, now_ms=NOW_MS, logged=logged)


def slot_of(policy: LoadedPolicy, *, killed: bool = False) -> Slot:
    return Slot(policy, policy.manifest.exploration, killed)


def read_back(application: Application, event: dict[str, Any]) -> tuple[dict[str, Any], Arrival]:
    """The event through stream's decoder, Arrow and the learner's."""
    record = Record("decisions", 0, 7, NOW_MS, b"key", json.dumps(event).encode())
    (row,) = Decoder({application.name: application}, "decisions").single(record)
    assert "replay" in row, row["quarantined"]["reason"]
    table = pa.Table.from_pylist([row["replay"]], schema=arrow_schema("replay"))
    decoder = RowDecoder(application)
    arrivals = decoder.decode(table)
    assert decoder.refused == 0
    return row["replay"], arrivals[0]


@st.composite
def masked(draw: st.DrawFn, application: Application) -> dict[str, Any]:
    """A request with some of its choices taken away, each part keeping one."""
    kind = application.shape.kind
    if kind == "continuous":
        return {}
    given = items(draw(st.integers(1, 5)))
    names = [one["id"] for one in given] if kind == "ranking" else list(application.actions.choices)
    kept = draw(st.integers(0, len(names) - 1))
    groups = [names] if kind == "ranking" else [names[:3], names[3:]]
    excluded = [
        name
        for group in groups
        for at, name in enumerate(group)
        if at != kept % len(group) and draw(st.booleans())
    ]
    how = {"excluded_actions": excluded}
    if draw(st.booleans()):
        how = {"eligible_actions": [name for name in names if name not in excluded]}
    return how | ({"items": given} if kind == "ranking" else {})


@every_kind
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_every_decision_passes_the_checks_and_is_recomputed_from_its_log(
    kind: str, policies: dict[str, LoadedPolicy], data: st.DataObject
) -> None:
    application = APPLICATIONS[kind]
    holdout = shaped(kind, rollout=Rollout(holdout=0.9))
    slot = data.draw(
        st.sampled_from(
            [
                version_zero(application),
                slot_of(policies[kind]),
                slot_of(policies[kind], killed=True),
            ]
        )
    )
    made = decided(
        data.draw(st.sampled_from([application, holdout])),
        slot,
        draw=data.draw(st.integers(0, 999)) / 1_000,
        logged=data.draw(st.booleans()),
        **data.draw(masked(application)),
    )
    event = json.loads(json.dumps(made.event))
    read = read_decision(json.dumps(event).encode(), {kind: application}, received_at_ms=NOW_MS)
    assert read.action == made.action
    mask = eligible_mask(
        application, eligible=event.get("eligible_actions"), items=event.get("items")
    )
    row = application.actions.row_of(made.action, event.get("items"))
    if event["density"] == {"kind": "point"}:
        assert (made.propensity, made.explored) == (1.0, False)
        return
    own, exploration = (
        base_policy_from_density(application.shape, event["density"]),
        Exploration(**event["exploration"]),
    )
    again = execute(application.shape, own, mask, exploration, event["draw"])
    assert again.row.tolist() == row.tolist()
    assert again.propensity == event["propensity"] == made.propensity
    found = propensities(application.shape, own, mask[None], row[None], exploration)[0]
    assert found == pytest.approx(made.propensity, rel=1e-9)


@every_kind
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_what_was_decided_reaches_the_learner_unchanged(
    kind: str, policies: dict[str, LoadedPolicy], data: st.DataObject
) -> None:
    application = APPLICATIONS[kind]
    made = decided(
        application,
        slot_of(policies[kind]),
        draw=data.draw(st.integers(0, 999)) / 1_000,
        **data.draw(masked(application)),
    )
    row, arrival = read_back(application, made.event)
    offered = made.event.get("items")
    assert json.loads(row["action"]) == made.action
    assert arrival.action.tolist() == application.actions.row_of(made.action, offered).tolist()
    assert arrival.known.propensity == made.propensity
    mask = eligible_mask(application, eligible=made.event.get("eligible_actions"), items=offered)
    assert arrival.eligible.tolist() == mask.tolist()
    assert arrival.observation.tolist() == [0.5]
    assert (arrival.policy_version, arrival.holdout) == (3, False)
    assert arrival.support == (bool(application.shape.dims) or made.propensity < 1)
    if kind == "ranking":
        assert arrival.items is not None
        assert arrival.items.tolist() == application.actions.encode_items(offered).tolist()  # type: ignore[union-attr]
    assert arrival.baseline is not None
    baseline = application.actions.row_of(made.event["baseline_action"], offered)
    assert arrival.baseline.tolist() == baseline.tolist()


@every_kind
@pytest.mark.parametrize("how", ["holdout", "killed", "spool full"])
def test_who_is_held_out_killed_or_unlogged_gets_the_pure_baseline_for_sure(
    kind: str, how: str, policies: dict[str, LoadedPolicy]
) -> None:
    application = shaped(kind, rollout=Rollout(holdout=0.9)) if how == "holdout" else None
    application = application or APPLICATIONS[kind]
    slot = slot_of(policies[kind], killed=how == "killed")
    for draw in (0.0, 0.4, 0.999):
        made = decided(
            application, slot, draw=draw, logged=how != "spool full", subject_id="player-1"
        )
        offered = made.event.get("items")
        assert made.action == application.baseline_action({"skill": 0.5}, offered)
        assert (made.propensity, made.policy_version, made.explored) == (1.0, 0, False)
        assert made.cohort == ("holdout" if how == "holdout" else "fallback")
        assert made.event["density"] == {"kind": "point"}
        _, arrival = read_back(application, made.event)
        assert not arrival.support


@every_kind
def test_a_sure_policy_is_followed_but_for_its_exploration(
    kind: str, policies: dict[str, LoadedPolicy]
) -> None:
    application, rng = APPLICATIONS[kind], np.random.default_rng(0)
    made = [decided(application, slot_of(policies[kind]), draw=u) for u in rng.random(400)]
    actions = [one.action for one in made]
    if kind == "continuous":
        np.testing.assert_allclose(np.mean(actions, axis=0), [0.75, 0.0], atol=0.5)
    elif kind == "parts":
        assert sum(action["mode"] == "story" for action in actions) > 300
    else:
        dearest = ["item-4", "item-3", "item-2"]
        wanted = [one for one in made if one.action == dearest]
        assert not any(one.explored for one in wanted)
        assert 0.4 < len(wanted) / len(made) < 0.95
    assert {one.cohort for one in made} == {"policy"}
    assert {one.policy_version for one in made} == {3}


@every_kind
def test_a_baseline_that_fails_is_replaced_by_chance_and_called_a_fallback(kind: str) -> None:
    def broken(context: Any) -> Any:
        raise KeyError("season")

    application = shaped(kind, baseline=broken)
    made = [decided(application, draw=u) for u in (0.1, 0.6, 0.9)]
    assert {one.cohort for one in made} == {"fallback"}
    assert all("baseline_action" not in one.event for one in made)
    assert len({json.dumps(one.action) for one in made}) > 1
    assert 0 < made[0].propensity < np.inf
    read_back(application, made[0].event)


def test_a_baseline_with_a_part_that_is_not_eligible_is_replaced_by_chance() -> None:
    application = shaped("parts", rollout=Rollout(holdout=0.9))
    made = [
        decided(application, draw=u, excluded_actions=["mode=arcade"], subject_id="player-1")
        for u in (0.1, 0.5, 0.9)
    ]
    assert {one.cohort for one in made} == {"holdout"}
    assert all(one.action["mode"] in ("story", "duel") for one in made)
    assert all(one.event["density"]["kind"] != "point" for one in made)
    assert made[0].event["baseline_action"]["mode"] == "arcade"


def test_a_ranking_baseline_is_asked_to_rank_what_is_eligible() -> None:
    application = shaped("ranking", rollout=Rollout(holdout=0.9))
    made = decided(application, excluded_actions=["item-0", "item-2"], subject_id="player-1")
    assert made.action == ["item-1", "item-3", "item-4"]
    assert made.propensity == 1.0
    few = decided(application, eligible_actions=["item-3"], subject_id="player-1")
    assert few.action == ["item-3"]
    read_back(application, few.event)


def test_fewer_items_than_places_are_all_ranked() -> None:
    for count in (1, 2):
        made = decided(APPLICATIONS["ranking"], items=items(count))
        assert sorted(made.action) == [f"item-{n}" for n in range(count)]
        _, arrival = read_back(APPLICATIONS["ranking"], made.event)
        assert (arrival.action[count:] == -1).all()


def test_a_games_own_ranking_counts_as_the_baseline() -> None:
    application = shaped("ranking", rollout=Rollout(holdout=0.9))
    own = ["item-4", "item-0", "item-3"]
    assert decided(application, baseline_action=own, subject_id="player-1").action == own
    with pytest.raises(InvalidEvent, match=r"baseline_action: .* expected a list of 3 item ids"):
        decided(application, baseline_action=["item-4"])


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({"items": None}, "items: nothing; expected a list of 1 to 5 items"),
        ({"items": []}, "items: 0 items; expected"),
        ({"items": items(6)}, "items: 6 items; expected a list of 1 to 5"),
        ({"items": [*items(1), *items(1)]}, "items: item 1: the id 'item-0' stands twice"),
        ({"items": [{"id": "a", "price": 1.0}]}, r"items\.0: .*rare"),
        ({"items": [{"id": "a", "price": "dear", "rare": True}]}, r"items\.0: .*price"),
        ({"excluded_actions": ["item-9"]}, "excluded_actions: 'item-9' is not an action"),
        ({"eligible_actions": []}, "nothing is left to choose from"),
    ],
)
def test_items_that_cannot_be_ranked_are_refused_with_words(
    request_: dict[str, Any], says: str
) -> None:
    with pytest.raises((InvalidEvent, InvalidContext), match=says):
        decided(APPLICATIONS["ranking"], **request_)


@pytest.mark.parametrize(
    "change",
    [
        {"action": ["item-1", "item-0"]},
        {"action": ["item-1", "item-0", "item-0"]},
        {"items": None},
        {"eligible_actions": ["item-0"]},
        {"propensity": 1.5},
        {"density": {"kind": "plackett_luce", "worths": [1.0]}},
        {"density": {"kind": "plackett_luce", "worths": "all"}},
        {"density": {"kind": "plackett_luce"}},
        {"action_probabilities": {"item-0": 1.0}},
        {"baseline_action": ["item-7"]},
    ],
)
def test_a_ranking_that_a_game_publishes_is_checked_as_one_of_ours(change: dict[str, Any]) -> None:
    event = decided(APPLICATIONS["ranking"], draw=0.3).event
    with pytest.raises(InvalidEvent):
        read_decision(json.dumps(event | change).encode(), APPLICATIONS, received_at_ms=NOW_MS)


def test_a_ranking_that_says_it_was_sure_supports_no_weight() -> None:
    event = decided(APPLICATIONS["ranking"]).event | {"propensity": 1.0}
    del event["density"]
    assert not read_back(APPLICATIONS["ranking"], event)[1].support


@every_kind
def test_a_repeated_id_is_answered_alike_also_after_a_restart_and_a_torn_log(
    kind: str, tmp_path: Path
) -> None:
    application = APPLICATIONS[kind]
    memory = IdempotencyCache(application.actions, folder=tmp_path, span_s=600)
    told: dict[str, CachedAnswer] = {}
    for draw in np.linspace(0, 0.99, 70):  # more than one write of the log
        made = decided(application, draw=float(draw))
        told[made.decision_id] = CachedAnswer(
            made.action, made.propensity, made.policy_version, made.mode, made.cohort,
            made.explored, True,
        )  # fmt: skip
        memory.put(
            made.decision_id, made.event["subject_id"], made.position, told[made.decision_id]
        )
    assert {one: memory.get(one, SUBJECT) for one in told} == told
    memory.close()
    restarted = IdempotencyCache(application.actions, folder=tmp_path, span_s=600)
    assert {one: restarted.get(one, SUBJECT) for one in told} == told
    (log,) = tmp_path.glob("*.told")
    whole = log.read_bytes()
    for cut in (1, 20, 60):
        log.write_bytes(whole[:-cut])
        torn = IdempotencyCache(application.actions, folder=tmp_path, span_s=600)
        kept = [one for one in told if torn.get(one, SUBJECT) is not None]
        assert len(told) - 3 <= len(kept) < len(told)
        assert all(torn.get(one, SUBJECT) == told[one] for one in kept)


@every_kind
def test_what_only_the_spool_remembers_is_recovered_from_it(kind: str, tmp_path: Path) -> None:
    application = APPLICATIONS[kind]
    made = decided(application)
    memory = IdempotencyCache(application.actions, folder=tmp_path, span_s=600)
    memory.recover([json.loads(json.dumps(made.event))])
    found = memory.get(made.decision_id, made.event["subject_id"])
    assert found is not None
    assert (found.action, found.propensity) == (made.action, made.propensity)


@every_kind
def test_a_report_of_a_demo_reads_enough_to_know_what_a_decision_was_worth(kind: str) -> None:
    made = decided(APPLICATIONS[kind], draw=0.2)
    row, _ = read_back(APPLICATIONS[kind], made.event)
    logged = logged_decision(APPLICATIONS[kind], {name: row[name] for name in DECISION_COLUMNS})
    assert logged.action == made.action
    assert logged.context.get("items") == made.event.get("items")
    assert logged.eligible.sum() == (5 if kind == "ranking" else APPLICATIONS[kind].shape.choices)
