"""The worlds in which agents are examined: nothing that is too simple passes."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from bakehouse_schemas.application.agents import AGENTS
from bakehouse_schemas.execution.propensity import executed_distribution, one_hot
from bakehouse_schemas.worlds.share import Logged, expected_rewards, share, world_values
from bakehouse_schemas.worlds.world import BanditWorld, EpisodicWorld, Happening
from tests.worlds import WORLDS, Exam, exam_of, stage

OF_LABELS = [exam for exam in WORLDS if exam.application.shape.kind == "discrete"]
every_world = pytest.mark.parametrize("exam", OF_LABELS, ids=lambda exam: exam.module)
MANY = 1 << 40  # decisions: exploration has come to its final value
ENOUGH = 0.5  # of the way to the best: "near" begins here


def contexts_of(exam: Exam, *, count: int = 1_500) -> list[dict[str, object]]:
    rng, world = np.random.default_rng(0), exam.world
    if isinstance(world, EpisodicWorld):
        return [world.context(state, rng) for state in world.states]
    return [world.context(rng) for _ in range(count)]


def logged(exam: Exam, action: int, context: dict[str, object]) -> Logged:
    """What is executed where a policy wants this action."""
    application = exam.application
    eligible = np.ones(len(application.actions), dtype=bool)
    final = application.exploration.after(MANY)
    wanted = one_hot(action, len(eligible))
    executed = executed_distribution(wanted, eligible, epsilon=final.epsilon, floor=final.floor)
    return Logged(context, executed, eligible, final)


@every_world
def test_no_constant_and_no_myopic_policy_comes_near_the_best(exam: Exam) -> None:
    contexts = contexts_of(exam)
    for action in range(len(exam.application.actions)):
        made = [logged(exam, action, context) for context in contexts]
        values = world_values(exam.world, exam.application, made)
        assert (share(values) or 0.0) < ENOUGH
        if exam.module != "footsteps":  # where the rules are to be imitated
            assert (share(values, of="baseline") or 0.0) < ENOUGH
        if isinstance(exam.world, EpisodicWorld):
            assert (share(values, of="myopic") or 0.0) < ENOUGH


def test_nothing_linear_comes_near_the_best_of_the_crossed_world() -> None:
    [exam] = [exam for exam in WORLDS if exam.module == "crossed"]
    application, world = exam.application, exam.world
    assert isinstance(world, BanditWorld)
    contexts = contexts_of(exam)
    x = np.array([application.encoder.encode(context) for context in contexts])
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    q = np.array([expected_rewards(world, application, context) for context in contexts])
    weights, *_ = np.linalg.lstsq(x, q, rcond=None)  # the best that noise-free data would give
    wanted = (x @ weights).argmax(axis=1).tolist()
    made = [logged(exam, a, context) for a, context in zip(wanted, contexts, strict=True)]
    assert abs(share(world_values(world, application, made)) or 0.0) < 0.15


@pytest.mark.parametrize("name", sorted(AGENTS))
def test_every_agent_has_a_world_that_fits_its_kind(name: str) -> None:
    exam = exam_of(name)
    application = exam.application_for(name)
    assert application.agent.name == name
    assert exam.world is not None


@every_world
def test_expected_rewards_are_what_players_cause_on_average(exam: Exam) -> None:
    """Before delivery, which loses a little: 4 standard errors of 1,000 players."""
    world, rng, reward = exam.world, np.random.default_rng(1), exam.application.reward
    assert isinstance(reward.weights, dict)

    def mean_of(caused: list[list[Happening]]) -> tuple[float, float]:
        worth = [reward.weights[h.name] for each in caused for h in each[:1]]  # type: ignore[index]
        worth += [reward.default for each in caused if not each]
        return float(np.mean(worth)), float(np.std(worth)) / np.sqrt(len(worth)) + 1e-9

    for action in exam.application.actions.labels:
        if isinstance(world, EpisodicWorld):
            for state in world.states:
                for way in world.transitions(state, action):
                    caused = [world.happenings(state, action, way, rng) for _ in range(20)]
                    assert mean_of(caused)[0] == pytest.approx(way.reward)
            continue
        for context in contexts_of(exam, count=3):
            mean, error = mean_of([world.happenings(context, action, rng) for _ in range(1_000)])
            assert abs(mean - world.expected_reward(context, action)) < 4 * error


def shelves() -> tuple[Exam, list[dict[str, Any]]]:
    """The world of rankings, and players with their items."""
    [exam] = [exam for exam in WORLDS if exam.module == "shelves"]
    rng, world = np.random.default_rng(3), exam.world
    assert isinstance(world, BanditWorld)
    contexts = [world.context(rng) for _ in range(120)]
    return exam, [{**context, "items": world.items(context, rng)} for context in contexts]


def test_no_order_of_things_that_is_the_same_for_all_comes_near_the_best_shelf() -> None:
    exam, contexts = shelves()
    application, world = exam.application, exam.world
    final = application.exploration.after(MANY)
    orders = {
        "as they come": lambda item: 0,
        "bright first": lambda item: -item["bright"],
        "dark first": lambda item: item["bright"],
        "heavy first": lambda item: -item["heavy"],
        "both": lambda item: -item["bright"] - item["heavy"],
        "wrapped first": lambda item: item["wrapped"],
    }
    for name, order in orders.items():
        made = []
        for context in contexts:
            eligible = np.arange(application.shape.choices) < len(context["items"])
            shown = [item["id"] for item in sorted(context["items"], key=order)[:3]]
            made.append(Logged(context, eligible * 0.0, eligible, final, shown))
        values = world_values(world, application, made)
        assert (share(values) or 0.0) < ENOUGH, name
        assert (share(values, of="baseline") or 0.0) < ENOUGH


def test_the_best_shelf_earns_most_and_what_it_earns_is_what_players_cause() -> None:
    exam, contexts = shelves()
    world, rng = exam.world, np.random.default_rng(4)
    assert isinstance(world, BanditWorld)
    for context in contexts[:3]:
        ids = [item["id"] for item in context["items"]]
        best = world.expected_reward(context, world.best_action(context))
        every = [world.expected_reward(context, list(p)) for p in itertools.permutations(ids, 3)]
        assert best == pytest.approx(max(every))
        caused = [len(world.happenings(context, ids[:3], rng)) for _ in range(2_000)]
        error = float(np.std(caused)) / np.sqrt(2_000)
        assert abs(np.mean(caused) - world.expected_reward(context, ids[:3])) < 4 * error


def of_parts(module: str) -> Exam:
    [exam] = [exam for exam in WORLDS if exam.module == module]
    return exam


def valued(exam: Exam, contexts: list[dict[str, Any]], answer: Any) -> float:
    """Share of a policy that answers `answer(context)`, without randomness."""
    application = exam.application
    eligible, final = np.ones(application.shape.choices, bool), application.exploration.after(MANY)
    made = [Logged(c, eligible * 0.0, eligible, final, answer(c)) for c in contexts]
    return share(world_values(exam.world, application, made)) or 0.0


def test_on_the_stage_nothing_constant_comes_near_nor_a_level_without_its_game() -> None:
    exam = of_parts("stage")
    contexts = contexts_of(exam, count=300)
    for game in ("duel", "race"):
        for level in (1.0, 3.0, 5.0, 7.0, 9.0):
            constant = {"game": game, "level": [level]}
            assert valued(exam, contexts, lambda _, a=constant: a) < ENOUGH
    world = exam.world
    assert isinstance(world, stage.Guests)

    def one_game(context: dict[str, Any]) -> Any:
        return {"game": "duel", "level": [world.level(context, "duel")]}

    def one_level(context: dict[str, Any]) -> Any:
        return {"game": world.game(context), "level": [5.0]}

    assert valued(exam, contexts, one_game) < 0.75
    assert valued(exam, contexts, one_level) < 0.75
    assert valued(exam, contexts, world.best_action) > 0.97


def test_the_vault_pays_who_looks_ahead_and_joins_key_and_force() -> None:
    exam = of_parts("vault")
    contexts = contexts_of(exam)
    world = exam.world
    assert isinstance(world, EpisodicWorld)
    for action in world.grid():
        assert valued(exam, contexts, lambda _, a=action: a) < ENOUGH
    application = exam.application
    eligible, final = np.ones(application.shape.choices, bool), application.exploration.after(MANY)
    made = [
        Logged(c, eligible * 0.0, eligible, final, application.baseline_action(c)) for c in contexts
    ]
    values = world_values(world, application, made)
    assert (share(values, of="myopic") or 0.0) < ENOUGH
    assert (share(values, of="baseline") or 0.0) < ENOUGH


@pytest.mark.parametrize("module", ["stage", "vault"])
def test_worlds_of_parts_cause_what_they_say_they_do(module: str) -> None:
    exam, rng = of_parts(module), np.random.default_rng(5)
    world, weights = exam.world, exam.application.reward.weights
    assert isinstance(weights, dict)
    if isinstance(world, EpisodicWorld):
        for state in world.states:
            for action in world.grid():
                ways = world.transitions(state, action)
                assert sum(way.probability for way in ways) == pytest.approx(1.0)
                for way in ways:
                    caused = world.happenings(state, action, way, rng)
                    assert sum(weights[h.name] for h in caused) == pytest.approx(way.reward)
        return
    for context in contexts_of(exam, count=3):
        action = world.best_action(context)
        caused = [len(world.happenings(context, action, rng)) for _ in range(1_000)]
        error = float(np.std(caused)) / np.sqrt(1_000)
        assert abs(np.mean(caused) - world.expected_reward(context, action)) < 4 * error
