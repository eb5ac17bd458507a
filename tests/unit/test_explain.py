"""A decision explained: out of the tables, by the policy that made it, in a story."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from bakehouse_learner.offline.history.columns import REPLAY_SCHEMA
from bakehouse_schemas.application.actions import Discrete
from bakehouse_schemas.application.application import Application, Rollout
from bakehouse_schemas.application.observation import Boolean
from bakehouse_schemas.contracts.known import note_contracts
from bakehouse_schemas.decisions.cohort import in_holdout
from bakehouse_schemas.decisions.decide import answer_one, check
from bakehouse_schemas.decisions.recompute import recorded_policy
from bakehouse_schemas.decisions.slot import Slot, version_zero
from bakehouse_schemas.errors import DecisionNotFound
from bakehouse_schemas.events.events import DecisionRequest
from bakehouse_schemas.ids import uuid7, uuid7_hour
from bakehouse_schemas.policy.bundle import LoadedPolicy, load_bundle
from bakehouse_schemas.replay.tables import DECISION, PARTITIONED_BY, REPLAY
from bakehouse_serving.explain.__main__ import ON_ITS_WAY_MS, Explainer
from bakehouse_stream.columns import arrow_schema
from tests.fakes import publish_policy
from tests.replay_rows import OFFSETS, T0, Table, outcome
from tests.shapes import bundled, items, shaped
from tests.unit.test_decide import make_application

JSON_COLUMNS = (
    *("context", "items", "eligible_actions", "action", "action_probabilities", "density"),
    *("baseline_action", "exploration"),
)
NOW_MS = T0 + 60_000


def logged(event: dict[str, Any]) -> dict[str, Any]:
    """The row of the table `replay` that a record of `decisions.v1` becomes."""
    row: dict[str, Any] = dict.fromkeys(REPLAY)
    for name in DECISION:
        value = event.get(name)
        row[name] = json.dumps(value) if name in JSON_COLUMNS and value is not None else value
    return row | {
        "hour": uuid7_hour(event["decision_id"]),
        "outcomes": [],
        "received_at": event["decided_at_ms"] * 1000,
        "positions": [OFFSETS.at(event["decided_at_ms"])],
        "contested": False,
    }


class Game:
    """Decisions as serving makes them, straight into a table."""

    def __init__(self, folder: Path, application: Application) -> None:
        self.application = application
        self.folder = folder
        self.table = Table(folder / "tables")
        self.policies = folder / "policies"

    def decide(
        self, slot: Slot, *, subject: str = "anna", draw: float = 0.4, **request: Any
    ) -> dict[str, Any]:
        given = {"subject_id": subject, "context": {"skill": 0.5}} | request
        asked = check(
            self.application,
            DecisionRequest(**given),
            decision_id=uuid7(T0),
            now_ms=T0,
        )
        event = answer_one(self.application, slot, asked, draw, now_ms=T0).event
        return logged(orjson.loads(orjson.dumps(event)))  # as it is on its way through Kafka

    def explain(self, row: dict[str, Any], *, now_ms: int = NOW_MS) -> dict[str, Any]:
        name = self.application.name
        explainer = Explainer(
            {name: self.application},
            str(self.folder / "tables"),
            self.policies,
            now_ms=lambda: now_ms,
            sleep=lambda _: pytest.fail("it must not wait"),
        )
        return explainer.explain(name, row["decision_id"])


def levels(folder: Path, **changes: Any) -> Game:
    return Game(folder, make_application(**changes))


def policy_of(game: Game, version: int = 3) -> LoadedPolicy:
    """Sure of one answer, whoever asks."""
    folder = game.policies / game.application.name
    if game.application.shape.kind == "discrete":
        publish_policy(game.policies, game.application, version, favourite=2)
        return load_bundle(
            folder / str(version),
            application=game.application.name,
            contract=game.application.contract,
            sha256=None,
        )
    return bundled(folder, game.application, version)


def slot_of(policy: LoadedPolicy, **changes: Any) -> Slot:
    return Slot(policy, policy.manifest.exploration, **changes)


def test_a_policys_decision_comes_out_again_with_scores_draw_outcomes_and_reward(tmp_path):
    game = levels(tmp_path)
    row = game.decide(slot_of(policy_of(game)))
    game.table.append([row])
    game.table.append([outcome(row, "won", after_ms=2_000)])
    told = game.explain(row)
    assert told["exact"] is True
    assert told["recomputed"] == told["propensity"] == row["propensity"]
    assert told["policy"]["available"] is True
    assert [one["action"] for one in told["scores"]] == list(game.application.actions.labels)
    assert sum(one["executed"] for one in told["scores"]) == pytest.approx(1.0)
    assert all(one["score"] is not None for one in told["scores"])
    assert told["observation"][0] == {"feature": "skill", "value": 0.5}
    assert [(one["name"], one["counted"], one["delay_ms"]) for one in told["outcomes"]] == [
        ("won", True, 2_000)
    ]
    assert told["reward"]["value"] == 1.0
    story = " ".join(told["sentences"])
    assert "Player anna was in the policy cohort" in story
    assert "so policy 3" in story
    assert "“won” after 2 s" in story


def test_one_of_the_holdout_was_answered_by_the_rules_and_chance_had_no_say(tmp_path):
    game = levels(tmp_path, rollout=Rollout(holdout=0.5))
    subject = next(s for s in map(str, range(99)) if in_holdout(game.application.name, s, 0.5))
    row = game.decide(slot_of(policy_of(game)), subject=subject)
    game.table.append([row])
    told = game.explain(row)
    assert (told["cohort"], told["policy_version"], told["policy"]) == ("holdout", 0, None)
    assert told["exact"] is True
    assert "holdout" in told["sentences"][0]
    assert any("Chance had no say" in one for one in told["sentences"])


def test_version_0_and_the_kill_switch_and_a_canary_are_told_apart(tmp_path):
    game = levels(tmp_path)
    policy = policy_of(game)
    zero = game.decide(version_zero(game.application))
    killed = game.decide(slot_of(policy, killed=True))
    canary = game.decide(slot_of(policy, canary=0.99999))
    game.table.append([zero, killed, canary])
    assert "the game's own rules with exploration" in game.explain(zero)["sentences"][0]
    assert "kill switch" in game.explain(killed)["sentences"][0]
    told = game.explain(canary)
    assert told["cohort"] == "canary" and "canary" in told["sentences"][0]
    assert all(game.explain(row)["exact"] for row in (zero, killed, canary))


@pytest.mark.parametrize("kind", ["continuous", "parts", "ranking"])
def test_numbers_parts_and_rankings_are_explained_and_come_out_again(tmp_path, kind):
    game = Game(tmp_path, shaped(kind))
    request = {"items": items(5)} if kind == "ranking" else {}
    policy = policy_of(game)
    rows = [
        game.decide(slot_of(policy), draw=draw, **request) for draw in (0.001, 0.3, 0.62, 0.999)
    ]
    rows.append(game.decide(version_zero(game.application), **request))
    rows.append(game.decide(slot_of(policy, killed=True), **request))
    game.table.append(rows)
    for row in rows:
        told = game.explain(row)
        assert told["exact"] is True, told["why_not"]
        assert len(told["numbers"]) == game.application.shape.dims
        for one in told["numbers"]:
            assert one["low"] <= one["value"] <= one["high"]
        names = [one["action"] for one in told["scores"]]
        expected = {
            "continuous": [],
            "parts": list(game.application.actions.choices),
            "ranking": [item["id"] for item in items(5)],
        }
        assert names == expected[kind]
        assert json.loads(orjson.dumps(told)) == told  # nothing that JSON cannot carry


def test_actions_that_the_game_ruled_out_are_named(tmp_path):
    game = levels(tmp_path)
    first, *_ = game.application.actions.labels
    row = game.decide(slot_of(policy_of(game)), excluded_actions=[first])
    game.table.append([row])
    told = game.explain(row)
    assert told["mask"]["excluded"] == [first]
    assert f"The game had ruled out “{first}”." in told["sentences"]
    assert next(one for one in told["scores"] if one["action"] == first)["executed"] == 0.0


def test_where_the_policy_is_no_longer_kept_the_log_speaks_and_nothing_is_claimed(tmp_path):
    game = levels(tmp_path)
    policy = policy_of(game)
    row = game.decide(slot_of(policy))
    game.table.append([row])
    folder = game.policies / game.application.name / "3"
    folder.rename(tmp_path / "gone")
    told = game.explain(row)
    assert told["policy"]["available"] is False
    assert (told["recomputed"], told["exact"]) == (None, None)
    assert "no longer kept" in told["why_not"]
    logged_chances = json.loads(row["action_probabilities"])
    assert {one["action"]: one["executed"] for one in told["scores"]} == {
        name: logged_chances.get(name, 0.0) for name in game.application.actions.labels
    }


def test_another_answer_than_the_policys_is_said_loudly(tmp_path):
    game = levels(tmp_path)
    row = game.decide(slot_of(policy_of(game)))
    game.table.append([row | {"propensity": row["propensity"] * 0.9}])
    told = game.explain(row)
    assert told["exact"] is False
    assert any(one.startswith("DECIDED AGAIN, SOMETHING ELSE") for one in told["sentences"])


def test_copies_that_differ_are_contested_and_never_trained_on(tmp_path):
    game = levels(tmp_path)
    row = game.decide(slot_of(policy_of(game)))
    game.table.append([row, row | {"propensity": 0.123, "positions": [OFFSETS.at(T0 + 5)]}])
    told = game.explain(row)
    assert told["contested"] is True and told["trained"]["first"] is None
    assert "none is trained on it" in told["sentences"][-1]


def test_silence_counts_once_the_window_is_over_and_not_before(tmp_path):
    game = levels(tmp_path)
    row = game.decide(version_zero(game.application))
    game.table.append([row])
    window_ms = game.application.reward.window_ms
    young = game.explain(row, now_ms=T0 + 1_000)
    assert young["reward"]["state"] == "open"
    assert any("its window is open" in one for one in young["sentences"])
    old = game.explain(row, now_ms=T0 + window_ms)
    assert (old["reward"]["state"], old["reward"]["value"]) == (
        "matured",
        game.application.reward.default,
    )


def test_the_first_policy_that_knew_the_outcome_is_named(tmp_path):
    game = levels(tmp_path)
    policy_of(game, version=3)
    row = game.decide(version_zero(game.application))
    game.table.append([row])
    game.table.append([outcome(row, "won", after_ms=2_000)])
    for version, new in ((4, []), (5, [T0 + 2_000]), (6, [T0 + 9_000])):
        publish_policy(
            game.policies, game.application, version, favourite=1, received_at_ms=tuple(new)
        )
    trained = game.explain(row)["trained"]
    assert (trained["first"], trained["versions"], trained["latest"]) == (5, 2, 6)
    assert trained["learner"].startswith("policy 5 was the first that knew what came of it")


def test_an_outcome_that_waits_for_the_join_is_shown_as_waiting(tmp_path):
    game = levels(tmp_path)
    row = game.decide(version_zero(game.application))
    game.table.append([row])
    came = outcome(row, "won", after_ms=2_000)
    ledger = {name: came[name] for name in ("application", "hour", "decision_id")} | came[
        "outcomes"
    ][0]
    _append(tmp_path, "outcomes", [ledger])
    told = game.explain(row)
    assert [(one["counted"], one["why"]) for one in told["outcomes"]] == [
        (False, "it was received and not yet met its decision: a matter of seconds")
    ]


def test_a_decision_that_is_nowhere_says_what_that_may_mean(tmp_path):
    game = levels(tmp_path)
    row = game.decide(version_zero(game.application))
    with pytest.raises(DecisionNotFound, match="may be on its way"):
        game.explain(row)
    game.table.append([row | {"application": "another"}])
    with pytest.raises(DecisionNotFound, match="it is one of 'another'"):
        game.explain(row)


def test_a_decision_that_was_set_aside_says_why(tmp_path):
    game = levels(tmp_path)
    row = game.decide(version_zero(game.application))
    position = {"topic": "decisions", "partition": 0, "offset": 1, "received_at_ms": T0}
    record = position | {"key": row["decision_id"], "value": "{}", "reason": "draw: not a number"}
    _append(tmp_path, "quarantine", [record])
    with pytest.raises(DecisionNotFound, match=r"set aside \(draw: not a number\)"):
        game.explain(row)


def test_a_decision_that_is_only_seconds_old_is_waited_for(tmp_path):
    game = levels(tmp_path)
    row = game.decide(version_zero(game.application))
    looks: list[float] = []

    def come(wait_s: float) -> None:
        looks.append(wait_s)
        if len(looks) == 2:
            game.table.append([row])

    name = game.application.name
    explainer = Explainer(
        {name: game.application},
        str(tmp_path / "tables"),
        game.policies,
        now_ms=lambda: T0 + 500,
        sleep=come,
    )
    assert explainer.explain(name, row["decision_id"])["decision_id"] == row["decision_id"]
    assert len(looks) == 2


@pytest.mark.parametrize("text", ["5f0c1e0e-7f2b-4d55-9a2e-2f3d1f0a9c11", "match 7/ä", "é" * 64])
def test_a_decision_named_by_a_text_is_found_in_whatever_hour_it_lies(tmp_path, text):
    game = levels(tmp_path)
    row = game.decide(version_zero(game.application))
    for hours in range(3):  # others, and its own in the middle
        other = row | {"decision_id": f"{text}"[:-1] + "0", "hour": row["hour"] + hours}
        game.table.append([other])
        if hours == 1:
            mine = row | {"decision_id": text, "hour": row["hour"] + 1}
            game.table.append([mine])
            game.table.append([outcome(mine, "won", after_ms=1_000)])
    told = game.explain({"decision_id": text})
    assert told["decision_id"] == text and told["exact"] is True
    assert len(told["outcomes"]) == 1


def test_a_text_that_names_nothing_is_waited_for_as_long_as_a_new_decision_would_be(tmp_path):
    game = levels(tmp_path)
    game.table.append([game.decide(version_zero(game.application))])
    looks: list[float] = []
    name = game.application.name
    explainer = Explainer(
        {name: game.application}, str(tmp_path / "tables"), game.policies, sleep=looks.append
    )
    with pytest.raises(DecisionNotFound, match="no decision nobody's of 'levels' is in"):
        explainer.explain(name, "nobody's")
    assert sum(looks) * 1000 == ON_ITS_WAY_MS


def test_a_decision_of_another_contract_is_shown_and_not_decided_again(tmp_path):
    game = levels(tmp_path)
    row = game.decide(version_zero(game.application))
    game.table.append([row | {"contract": "0123456789abcdef"}])
    told = game.explain(row)
    assert told["exact"] is None and "contract" in told["why_not"]
    assert told["context"] == {"skill": 0.5}
    assert told["observation"][0]["feature"] == "number 0"


def _append(folder: Path, table: str, rows: list[dict[str, Any]]) -> None:
    write_deltalake(
        str(folder / "tables" / table),
        pa.Table.from_pylist(rows, schema=arrow_schema(table)),
        mode="append",
        partition_by=PARTITIONED_BY[table] or None,
    )


def test_the_schema_of_the_rows_here_is_that_of_the_table():
    assert REPLAY_SCHEMA.equals(arrow_schema("replay"))


def changed_game(folder: Path, *, noted: bool) -> tuple[Game, Game]:
    """One home, before and after its application has another label and another feature."""
    before = levels(folder)
    observation = [Boolean("payer", default=False), *before.application.observation]
    labels = ("extreme", *before.application.actions.labels)
    after = levels(folder, observation=observation, actions=Discrete(*labels))
    if noted:
        note_contracts(folder, [before.application])
    return before, after


@pytest.mark.parametrize("version", [0, 3])
def test_decisions_of_a_contract_that_is_gone_come_out_again_exactly(tmp_path, version):
    """By the home's note, or (of a policy's decision) by what its bundle says of its contract."""
    before, after = changed_game(tmp_path, noted=version == 0)
    slot = slot_of(policy_of(before)) if version else version_zero(before.application)
    row = before.decide(slot)
    after.table.append([row])
    told = after.explain(row)
    assert told["exact"] is True, told["why_not"]
    assert told["contract"] == before.application.contract
    assert [one["action"] for one in told["scores"]] == list(before.application.actions.labels)
    assert [one["feature"] for one in told["observation"]] == ["skill"]
    assert "cannot be encoded anew" not in " ".join(told["sentences"])


def test_a_decision_of_a_carried_policy_comes_out_again_exactly_and_says_what_is_new(tmp_path):
    before, after = changed_game(tmp_path, noted=False)
    policy_of(before)
    carried = recorded_policy(after.application, after.policies, 3)
    row = after.decide(slot_of(carried))
    after.table.append([row])
    told = after.explain(row)
    assert told["exact"] is True, told["why_not"]
    assert told["policy"]["carried_over"]["made_for"] == before.application.contract
    story = " ".join(told["sentences"])
    assert f"was made for contract {before.application.contract} and carried over" in story
    assert "new label 'extreme' starts at the mean of the others" in story


def test_a_decision_of_a_contract_that_nothing_describes_says_so(tmp_path):
    before, after = changed_game(tmp_path, noted=False)
    row = before.decide(version_zero(before.application))
    after.table.append([row])
    told = after.explain(row)
    assert told["exact"] is None
    assert "which nothing here describes" in told["why_not"]
