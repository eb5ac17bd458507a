"""Rollouts as players would live them: a world in virtual time, the learner of production."""

from dataclasses import replace
from typing import Any

import numpy as np

from bakehouse_learner.gate.candidate import Candidate
from bakehouse_learner.learning import Learning
from bakehouse_learner.offline.simulation.simulation import Result, simulate
from bakehouse_schemas.application.application import (
    Application,
    EpsilonGreedy,
    Gate,
    Guardrail,
    Rollout,
)
from bakehouse_schemas.worlds.world import BanditWorld, Context, Happening
from tests.learner_fakes import GAME, LinearAgent

ONLINE = replace(GAME, exploration=EpsilonGreedy(0.2, start=0.5, decay=500))


class Walkers(BanditWorld):
    """They win where they go right with x above one half, or left below it."""

    quits_right = 0.0  # share of those who went right and quit, whatever they won

    def context(self, rng: np.random.Generator) -> dict[str, Any]:
        return {"x": float(rng.random())}

    def happenings(
        self, context: Context, action: str, rng: np.random.Generator
    ) -> list[Happening]:
        happened = []
        if action == "right" and rng.random() < self.quits_right:
            happened.append(Happening(0.2, "quit"))
        if rng.random() < self.expected_reward(context, action):
            happened.append(Happening(0.5, "won"))
        return happened

    def expected_reward(self, context: Context, action: str) -> float:
        return 0.9 if (context["x"] > 0.5) == (action == "right") else 0.1


def watched(
    application: Application, world: BanditWorld, decisions: int
) -> tuple[Result, list[Candidate]]:
    """A simulation, and every candidate that it made."""
    candidates: list[Candidate] = []
    train = Learning.train

    class Watching(Learning):
        def train(self, plan: Any) -> Candidate | None:
            candidate = train(self, plan)
            if candidate is not None:
                candidates.append(candidate)
            return candidate

    result = simulate(application, world, LinearAgent, decisions=decisions, learning=Watching)
    return result, candidates


def published(candidates: list[Candidate]) -> list[float]:
    """The share of subjects of each published policy, in order, each share once in a row."""
    shares = [c.report.canary for c in candidates if c.report.publish]
    return [share for at, share in enumerate(shares) if at == 0 or share != shares[at - 1]]


def test_a_good_policy_is_given_to_more_players_step_by_step() -> None:
    rollout = Rollout(holdout=0.1, canary=[0.1, 0.5, 1.0], decisions_a_step=100)
    application = replace(ONLINE, rollout=rollout, reward=replace(ONLINE.reward, closes_after=None))
    result, candidates = watched(application, Walkers(), 8_000)
    assert published(candidates) == [0.1, 0.5, 1.0]
    assert result.learning is not None
    ring = result.learning.ring
    by_policy = ring.policy_version[: ring.size] > 0
    assert by_policy[-500:].mean() > 0.8  # all but the holdout, in the end


def test_a_guardrail_takes_the_policy_back_for_good_however_much_it_wins() -> None:
    world = Walkers()
    world.quits_right = 0.5  # the policy sends half of them right
    gate = Gate(margin=0.1, guardrails=[Guardrail("quit", most=0.15)])
    application = replace(ONLINE, gate=gate, rollout=Rollout(holdout=0.1))
    result, candidates = watched(application, world, 6_000)
    stopped = [c for c in candidates if c.report.freeze]
    assert stopped
    assert stopped[0].report.rollback_to == 0
    assert "guardrail 'quit'" in stopped[0].report.reason
    assert result.learning is not None
    assert result.learning.deployment.frozen
    assert result.learning.deployment.current.number == 0
    assert not any(c.report.publish for c in candidates[candidates.index(stopped[0]) :])


def test_a_guardrail_that_holds_stops_nothing() -> None:
    world = Walkers()
    world.quits_right = 0.1
    gate = Gate(margin=0.1, guardrails=[Guardrail("quit", most=0.15)])
    result, _ = watched(replace(ONLINE, gate=gate), world, 4_000)
    assert result.learning is not None
    assert result.learning.deployment.current.number > 0
    assert not result.learning.deployment.frozen


def test_an_apprentice_matches_the_rules_graduates_and_then_learns_to_beat_them() -> None:
    application = replace(
        ONLINE,
        mode="apprentice",
        baseline=lambda context: "right" if context["x"] > 0.8 else "left",
        rollout=Rollout(holdout=0.1, canary=[0.05, 0.5, 1.0], decisions_a_step=60, match=0.85),
    )
    result, candidates = watched(application, Walkers(), 16_000)
    first = next(c for c in candidates if c.report.publish)
    assert "match with the baseline" in first.report.reason
    assert published(candidates)[:3] == [0.05, 0.5, 1.0]
    assert result.learning is not None
    assert (
        not result.learning.deployment.apprentice
    )  # everyone has it: from then on rewards are learned
    x = np.linspace(0, 1, 101, dtype=np.float32)[:, None]
    policy = result.learning.deployment.current.policy
    assert policy is not None
    answers = policy.distribution(x, np.ones((101, 2), bool)).argmax(axis=1)
    assert answers[(x[:, 0] > 0.6) & (x[:, 0] < 0.75)].all()  # where the rules go left, and lose


def test_until_it_graduates_an_apprentice_answers_nobody_and_nothing_is_explored() -> None:
    application = replace(ONLINE, mode="apprentice", rollout=Rollout(holdout=0.0, match=1.0))
    world = Walkers()
    result, _ = watched(
        replace(application, baseline=lambda context: "right" if context["x"] > 0.5 else "left"),
        world,
        1_500,
    )
    assert result.learning is not None
    ring = result.learning.ring
    assert (ring.propensity[: ring.size] == 1.0).all()
    assert not ring.support[: ring.size].any()


def test_an_apprentice_whose_rules_change_goes_back_step_by_step_and_not_to_the_start() -> None:
    turned = False

    def rules(context: Context) -> str:
        return "right" if (context["x"] > 0.8) != turned else "left"

    candidates: list[Candidate] = []
    train = Learning.train

    class Watching(Learning):
        def train(self, plan: Any) -> Candidate | None:
            nonlocal turned
            candidate = train(self, plan)
            if candidate is not None:
                candidates.append(candidate)
                turned = turned or candidate.report.canary == 0.3
            return candidate

    application = replace(
        ONLINE,
        mode="apprentice",
        baseline=rules,
        rollout=Rollout(holdout=0.1, canary=[0.1, 0.2, 0.3, 1.0], decisions_a_step=60, match=0.85),
    )
    simulate(application, Walkers(), LinearAgent, decisions=7_000, learning=Watching)
    assert published(candidates)[:5] == [0.1, 0.2, 0.3, 0.2, 0.1]
    let_out = [c for c in candidates if c.report.publish]
    widest = next(at for at, c in enumerate(let_out) if c.report.canary == 0.3)
    back = next(c for c in let_out[widest:] if c.report.canary == 0.2)
    further = next(c for c in let_out[widest:] if c.report.canary == 0.1)
    # a hundred decisions a second: each step is judged by a thousand of its own
    assert further.stream_time_ms - back.stream_time_ms >= 10_000
