"""Every agent with every kind of action and problem: those that fit work, the others are refused.

A row of the catalogue that is not true, or an agent that is told of nowhere, fails here.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bakehouse_learner.agents import build_agent
from bakehouse_learner.gate.policy_version import policy_of
from bakehouse_learner.learning import Learning
from bakehouse_learner.offline.simulation.simulation import simulate
from bakehouse_learner.offline.simulation.virtual_players import (
    Answering,
    VirtualPlayers,
    version_zero,
)
from bakehouse_learner.training.plan import Plan
from bakehouse_schemas.application.actions import Actions, Continuous, Discrete, Parts
from bakehouse_schemas.application.agents import (
    ACTION_KINDS,
    AGENTS,
    PROBLEM_KINDS,
    agents_table,
    refusal,
)
from bakehouse_schemas.application.application import (
    Agent,
    Application,
    Bandit,
    Episodic,
    Rollout,
    Training,
    seconds,
)
from bakehouse_schemas.application.observation import Numeric
from bakehouse_schemas.application.ranking import Ranking
from bakehouse_schemas.application.reward import Reward
from bakehouse_schemas.errors import ApplicationError
from bakehouse_schemas.worlds.world import (
    BanditWorld,
    Context,
    EpisodicWorld,
    Happening,
    Transition,
    World,
)
from tests.worlds import WORLDS, Exam

CELLS = [(name, a, p) for name in AGENTS for a in ACTION_KINDS for p in PROBLEM_KINDS]
FITTING = [c for c in CELLS if refusal(c[0], actions=c[1], problem=c[2]) is None]
REFUSED = [c for c in CELLS if c not in FITTING]
ITEMS = [{"id": f"item-{at}", "weight": at / 4} for at in range(4)]
LEAST = 0.85
# Building takes seconds. What an agent does alone it also does in a row, where it does both.
QUICK = {(name, actions): (name, actions, problem) for name, actions, problem in FITTING}.values()

ACTIONS: dict[str, tuple[Actions, Any]] = {
    "discrete": (Discrete("a", "b", "c"), "a"),
    "continuous": (Continuous(low=[0, -5], high=[1, 20]), [0.5, 0.0]),
    "parts": (
        Parts({"mode": Discrete("x", "y"), "level": Continuous(low=2, high=8)}),
        {"mode": "x", "level": [3.0]},
    ),
    "ranking": (
        Ranking(k=2, item=[Numeric("weight", low=0, high=1)], most_items=6),
        ["item-0", "item-1"],
    ),
}


def application_of(name: str, actions: str, problem: str) -> Application:
    space, answer = ACTIONS[actions]
    small = {"hidden": [8]} if "hidden" in AGENTS[name].parameters else {}
    return Application(
        name="cell",
        observation=[Numeric("place", low=0, high=1)],
        actions=space,
        problem=Bandit() if problem == "bandit" else Episodic(n_step=2, timeout=seconds(5)),
        reward=Reward({"liked": 1.0}, window=seconds(2)),
        baseline=lambda context: answer,
        agent=Agent(name, **small),
        training=Training(batch=8, steps=2, buffer=1_000),
        rollout=Rollout(holdout=0.0),
    )


class Anybody(BanditWorld):
    def context(self, rng: np.random.Generator) -> dict[str, Any]:
        return {"place": round(float(rng.random()), 3)}

    def items(self, context: Context, rng: np.random.Generator) -> list[dict[str, Any]]:
        return ITEMS

    def happenings(
        self, context: Context, action: Any, rng: np.random.Generator
    ) -> list[Happening]:
        return [Happening(0.5, "liked")] if rng.random() < 0.5 else []

    def expected_reward(self, context: Context, action: Any) -> float:
        return 0.5


class Somewhere(EpisodicWorld):
    states: Sequence[Hashable] = (0.0, 1.0)

    def start(self) -> dict[Hashable, float]:
        return {0.0: 1.0}

    def context(self, state: Hashable, rng: np.random.Generator) -> dict[str, Any]:
        return {"place": state}

    def state_of(self, context: Context) -> Hashable:
        return float(context["place"])

    def transitions(self, state: Hashable, action: Any) -> list[Transition]:
        return [Transition(1.0, 0.5, 1.0 if state == 0.0 else None)]

    def happenings(
        self, state: Hashable, action: Any, went: Transition, rng: np.random.Generator
    ) -> list[Happening]:
        return [Happening(0.5, "liked")] if rng.random() < 0.5 else []


@pytest.mark.parametrize(
    ("name", "actions", "problem"),
    [cell if cell in QUICK else pytest.param(*cell, marks=pytest.mark.long) for cell in FITTING],
)
def test_an_agent_that_fits_is_trained_exported_and_answers(
    name: str, actions: str, problem: str
) -> None:
    application = application_of(name, actions, problem)
    world: World = Anybody() if problem == "bandit" else Somewhere()
    players = VirtualPlayers(application, world, 100.0, np.random.default_rng(0), row_delay_ms=0)
    for _ in range(10):
        players.play(players.now_ms + 500, version_zero(application), most=20)
    learning = Learning(application, build_agent)
    learning.ingest(players.rows(players.now_ms))
    now_ms = players.now_ms
    candidate = learning.train(
        Plan(version=1, replay_version=0, stream_time_ms=now_ms, seed=0, at_ms=now_ms)
    )

    assert candidate is not None and candidate.exported is not None
    assert learning.agent is not None
    policy, ring = policy_of(candidate.exported, application.shape), learning.ring
    observation, items = ring.observation[:50], ring.items[:50] if ring.items.size else None
    told = {} if items is None else {"items": items}
    own = learning.agent.scores(observation, **told)  # type: ignore[call-arg] # of rankings
    np.testing.assert_allclose(policy.scores(observation, items), own, rtol=1e-4, atol=1e-4)

    answering = Answering(1, policy, application.exploration.after(1_000))
    made = players.play(players.now_ms + 500, answering, most=20)
    assert made
    for decision in made:
        offered = decision.context.get("items")
        assert application.actions.problem_with(decision.action, offered) is None


@pytest.mark.parametrize(("name", "actions", "problem"), REFUSED)
def test_an_agent_that_does_not_fit_is_refused_with_the_reason_and_with_what_fits(
    name: str, actions: str, problem: str
) -> None:
    with pytest.raises(ApplicationError) as refused:
        application_of(name, actions, problem)
    said = str(refused.value)
    reason = refusal(name, actions=actions, problem=problem)
    assert reason is not None and reason in said
    assert reason.split(": ")[1].strip()
    fitting = [n for n, a, p in FITTING if (a, p) == (actions, problem)]
    for other in AGENTS:
        assert (f" {other}" in said.split("; use")[1]) == (other in fitting)


def test_the_readme_shows_the_table_as_it_is() -> None:
    shown = (Path(__file__).parents[2] / "README.md").read_text()
    assert agents_table() in shown, (
        "copy what `python -m bakehouse_schemas.application.agents` prints"
    )


def test_the_table_has_a_row_for_each_agent_and_a_column_for_each_kind_of_action() -> None:
    head, _, *rows = agents_table().splitlines()
    assert [cell.strip() for cell in head.split("|")[3:-1]] == list(ACTION_KINDS)
    assert [row.split("`")[1] for row in rows] == list(AGENTS)
    assert all(row.count("|") == head.count("|") for row in rows)


def _world_of(actions: str, problem: str) -> Exam | None:
    pages = [
        exam
        for exam in WORLDS
        if exam.application.actions.kind == actions
        and exam.application.problem.kind == problem
        and exam.module != "footsteps"
    ]
    return pages[-1] if pages else None


@pytest.mark.long
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize(("name", "actions", "problem"), FITTING)
def test_an_agent_learns_each_kind_that_it_says_it_can(
    name: str, actions: str, problem: str
) -> None:
    exam = _world_of(actions, problem)
    if exam is None or AGENTS[name].imitates:
        pytest.skip("no world of this kind, or the agent imitates whoever decided")
    application = exam.application_for(name)
    result = simulate(
        application, exam.world, build_agent, decisions=exam.decisions, rate_per_s=exam.rate_per_s
    )
    assert result.left_version_0 is not None, "the gate let no version of it answer"
    assert result.share is not None and result.share >= LEAST
