from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bakehouse.examples import quest_chain
from bakehouse_learner.learning import Learning
from bakehouse_learner.offline.simulation.simulation import Delays, Result, simulate
from bakehouse_learner.offline.simulation.virtual_players import (
    START_MS,
    VirtualPlayers,
    draw,
    version_zero,
)
from bakehouse_learner.replay.row_decoder import RowDecoder
from bakehouse_schemas.application.application import Application, EpsilonGreedy, Rollout
from bakehouse_schemas.application.exploration import NONE
from bakehouse_schemas.decisions import decide
from bakehouse_schemas.decisions.slot import version_zero as slot_of_version_zero
from bakehouse_schemas.errors import ApplicationError
from bakehouse_schemas.events.events import DecisionRequest
from bakehouse_schemas.execution.base_policy import BasePolicy
from bakehouse_schemas.worlds.world import BanditWorld, Context, Delivery, Happening
from tests.learner_fakes import GAME, LinearAgent
from tests.replay_rows import arrow, decision, following, outcome

RIGHT_TO_GO_RIGHT = replace(
    GAME, exploration=EpsilonGreedy(0.2, start=0.5, decay=500), rollout=Rollout(holdout=0.2)
)


class Walkers(BanditWorld):
    """They win nine times in ten where they go right with x above one half, or left below it."""

    def context(self, rng: np.random.Generator) -> dict[str, Any]:
        return {"x": float(rng.random())}

    def happenings(
        self, context: Context, action: str, rng: np.random.Generator
    ) -> list[Happening]:
        won = rng.random() < self.expected_reward(context, action)
        return [Happening(0.5, "won")] if won else []

    def expected_reward(self, context: Context, action: str) -> float:
        return 0.9 if (context["x"] > 0.5) == (action == "right") else 0.1


def walked(
    decisions: int = 2_000,
    *,
    application: Application = RIGHT_TO_GO_RIGHT,
    delivery: Delivery = Delivery(),  # noqa: B008 - frozen
    **options: Any,
) -> Result:
    world = Walkers()
    world.delivery = delivery
    return simulate(application, world, LinearAgent, decisions=decisions, **options)


@pytest.fixture(scope="module")
def played() -> Result:
    return walked(4_000, share_over=400)


def learning_of(result: Result) -> Learning:
    assert result.learning is not None
    return result.learning


def test_an_agent_learns_in_virtual_time_and_leaves_version_0(played: Result) -> None:
    assert played.points[0].share is not None and abs(played.points[0].share) < 0.15
    assert played.share is not None and played.share > 0.85
    assert played.left_version_0 is not None
    assert played.left_version_0 < (played.decisions_until(0.85) or 0) < 4_000
    assert played.turns[0].what == "leaves version 0"
    assert played.decisions == 4_000
    assert 38 < played.points[-1].at_s < 42  # a hundred a second


def test_the_same_seed_plays_the_same_game_and_another_another() -> None:
    first, again, other = (walked(600, seed=seed, share_over=100) for seed in (3, 3, 4))
    assert first.points == again.points
    assert first.turns == again.turns
    assert first.points != other.points
    for name, array in learning_of(first).ring.state().items():
        if name != "json":
            np.testing.assert_array_equal(array, learning_of(again).ring.state()[name])


def test_a_version_answers_only_after_it_was_published() -> None:
    delays = Delays(row_ms=700, policy_ms=3_000)
    result = walked(2_500, delays=delays, share_over=100)
    ring, left = learning_of(result).ring, result.turns[0]
    ruled = ring.policy_version[: ring.size] > 0
    first_ms = int(ring.decided_at_ms[: ring.size][ruled].min())
    published_ms = START_MS + round(left.at_s * 1000) + delays.policy_ms
    assert published_ms <= first_ms < published_ms + 200
    # no version answers before it was made, three seconds before it could
    made_ms = START_MS + 500 * ring.policy_version[: ring.size][ruled]
    assert (ring.decided_at_ms[: ring.size][ruled] >= made_ms + delays.policy_ms).all()


def test_rows_are_seen_no_sooner_than_the_table_would_show_them() -> None:
    rng = np.random.default_rng(0)
    players = VirtualPlayers(RIGHT_TO_GO_RIGHT, Walkers(), 100.0, rng, row_delay_ms=800)
    players.play(START_MS + 1_000, version_zero(RIGHT_TO_GO_RIGHT), most=1_000)
    seen = players.rows(START_MS + 1_000)
    assert seen
    assert all(row.known.received_at_ms <= START_MS + 200 for row in seen)
    later = players.rows(START_MS + 10_000)
    told = [row for row in later if row.known.outcomes]
    assert len(seen) + len(later) - len(told) == players.decisions
    assert told
    assert all(row.known.outcomes[0].occurred_at_ms - row.decided_at_ms == 500 for row in told)


def test_a_draw_is_the_one_that_serving_would_make() -> None:
    application = RIGHT_TO_GO_RIGHT
    slot = slot_of_version_zero(application)
    everything = np.ones(2, dtype=bool)
    for at, uniform in enumerate(np.random.default_rng(0).random(50)):
        subject = f"player-{at}"
        asked = decide.check(
            application,
            DecisionRequest(subject_id=subject, context={"x": 0.7}),
            decision_id="0199e6b8-2f00-7000-8000-000000000000",
            now_ms=START_MS,
        )
        [served] = decide.answer(application, slot, [asked], [uniform], now_ms=START_MS)
        exploration = NONE if asked.place < 0 else version_zero(application).exploration
        left = BasePolicy(np.array([[1.0, 0.0]]), np.zeros((1, 0)), np.zeros((1, 0)))
        drawn = draw(application, left, everything, exploration, uniform)
        assert (drawn.row[0], drawn.propensity) == (served.position, served.propensity)


def test_the_holdout_keeps_the_baseline_and_is_no_part_of_the_share(played: Result) -> None:
    ring = learning_of(played).ring
    held = ring.holdout[: ring.size]
    assert 0.15 < held.mean() < 0.25
    assert (ring.action[: ring.size][held] == 0).all()  # the baseline goes left
    assert (ring.propensity[: ring.size][held] == 1.0).all()
    assert not ring.support[: ring.size][held].any()
    assert (ring.policy_version[: ring.size][held] == 0).all()
    assert ring.support[: ring.size][~held].all()


def test_what_is_lost_never_arrives_and_what_comes_twice_counts_once() -> None:
    silent = learning_of(walked(300, delivery=Delivery(loss=1.0))).ring
    assert (silent.reward[: silent.size] == 0.0).all()
    twice = learning_of(walked(300, delivery=Delivery(duplicates=1.0))).ring
    assert set(twice.reward[: twice.size].tolist()) == {0.0, 1.0}
    copies = {
        len(outcome.positions)
        for slot in range(twice.size)
        for outcome in twice.known(slot).outcomes
    }
    assert copies == {1, 2}  # the last ones' second copies are still under way


def test_what_is_late_amends_a_decision_whose_window_is_over() -> None:
    late = Delivery(late=1.0, late_by_s=3.0)  # the window is two seconds
    ring = learning_of(walked(800, delivery=late)).ring
    old = ring.decided_at_ms[: ring.size] < START_MS + 1_000
    assert ring.reward[: ring.size][old].sum() > 0
    young = ring.decided_at_ms[: ring.size] > START_MS + 5_500
    assert young.any()
    assert ring.reward[: ring.size][young].sum() == 0


def test_episodes_are_told_as_the_stream_would_tell_them() -> None:
    result = simulate(
        quest_chain.application, quest_chain.world, LinearAgent, decisions=1_500, share_over=200
    )
    ring = learning_of(result).ring
    used = slice(0, ring.size)
    assert 0.3 < ring.first[used].mean() < 0.6  # two or three steps an episode
    joined = np.flatnonzero(ring.next_sequence[used] >= 0)
    assert len(joined) > 400
    np.testing.assert_array_equal(
        ring.next_observation[joined], ring.observation[ring.next_sequence[joined]]
    )
    assert (ring.decided_at_ms[ring.next_sequence[joined]] > ring.decided_at_ms[joined]).all()
    assert not (ring.ended[used] & ring.has_next[used]).any()
    assert ring.ended[used].sum() > 300
    assert result.share is not None


def test_a_virtual_row_is_what_the_learner_would_have_read_from_the_table() -> None:
    """Every field but the broker's offsets, which are another broker's, the digest, and what
    only figures for people look at."""
    application, rng = quest_chain.application, np.random.default_rng(1)
    players = VirtualPlayers(application, quest_chain.world, 200.0, rng, row_delay_ms=0)
    zero = version_zero(application)
    for step in range(1, 15):
        players.play(START_MS + 200 * step, zero, most=1_000)
    rows = players.rows(START_MS + 2_800)
    successor = next(row for row in rows if row.successors)
    next_id = successor.known.outcomes[0].next_decision_id
    follower = next(row for row in rows if row.decision_id == next_id)
    rewarded = next(row for row in rows if any(o.kind == "reward" for o in row.known.outcomes))
    exploration = '{"kind": "epsilon_greedy", "epsilon": 0.5, "floor": 0.01}'
    for row in (successor, follower, rewarded):
        logged = _logged(application, row, exploration=exploration)
        if row.successors:
            logged = following(logged, _logged(application, follower, exploration=exploration))
        for told in row.known.outcomes:
            if told.kind == "reward":
                after_ms = told.occurred_at_ms - row.decided_at_ms
                logged = outcome(logged, told.name, after_ms=after_ms, outcome_id=told.outcome_id)
        [read] = RowDecoder(application).decode(arrow([logged]))
        assert read._replace(
            known=row.known,
            base_propensity=0,
            successors={},
            observation=0,
            eligible=0,
            origin=row.origin,
        ) == row._replace(base_propensity=0, successors={}, observation=0, eligible=0)
        np.testing.assert_array_equal(read.observation, row.observation)
        np.testing.assert_array_equal(read.eligible, row.eligible)
        assert read.base_propensity == pytest.approx(row.base_propensity, abs=1e-12)
        assert read.successors.keys() == row.successors.keys()
        for came, made in zip(read.known.outcomes, row.known.outcomes, strict=True):
            assert came._replace(positions=()) == made._replace(positions=())
            assert came.received_at_ms == made.received_at_ms


def _logged(application: Application, row: Any, *, exploration: str) -> dict[str, Any]:
    states = quest_chain.world.states
    rng = np.random.default_rng(0)
    context = next(
        context
        for state in states
        if np.array_equal(
            application.encoder.encode(context := quest_chain.world.context(state, rng)),
            row.observation,
        )
    )
    return decision(
        application,
        context,
        application.actions.labels[int(row.action[0])],
        at_ms=row.decided_at_ms,
        propensity=row.known.propensity,
        decision_id=row.decision_id,
        previous=None if row.first else "somebody",
        policy_version=row.policy_version,
        exploration=exploration,
        cohort="holdout" if row.holdout else "policy",
    )


def test_an_application_whose_policy_answers_nobody_is_refused() -> None:
    with pytest.raises(ApplicationError, match="in which no policy answers"):
        walked(10, application=replace(RIGHT_TO_GO_RIGHT, mode="logging_only"))


class Turncoats(Walkers):
    """After 20 seconds they win where they lost before."""

    turned = False

    def at(self, elapsed_s: float) -> BanditWorld:
        now = Turncoats()
        now.turned = elapsed_s >= 20
        return now

    def expected_reward(self, context: Context, action: str) -> float:
        won = super().expected_reward(context, action)
        return 1.0 - won if self.turned else won


def test_a_world_that_drifts_is_learned_anew_and_judged_as_it_is() -> None:
    training = replace(RIGHT_TO_GO_RIGHT.training, buffer=500)
    application = replace(RIGHT_TO_GO_RIGHT, training=training)
    played = simulate(application, Turncoats(), LinearAgent, decisions=6_000, share_over=300)
    shares = {round(point.at_s): point.share or 0.0 for point in played.points}
    before = max(share for at_s, share in shares.items() if at_s < 20)
    turned = min(share for at_s, share in shares.items() if 20 < at_s < 30)
    assert before > 0.8
    assert turned < -0.5  # what was best is worst
    assert played.share is not None and played.share > 0.5
