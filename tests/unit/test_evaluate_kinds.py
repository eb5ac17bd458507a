"""Policies over numbers, several parts and rankings are judged as those over labels are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bakehouse_learner.offline.evaluation.policy_value import material
from bakehouse_learner.offline.evaluation.report import ReportSettings, report
from bakehouse_learner.offline.evaluation.target_policies import find_target, propensity
from bakehouse_learner.replay.ring import Ring
from bakehouse_schemas.application.actions import Continuous, Discrete, Parts
from bakehouse_schemas.application.agents import AGENTS
from bakehouse_schemas.application.application import (
    Agent,
    Application,
    EpsilonGreedy,
    Gaussian,
    seconds,
)
from bakehouse_schemas.application.observation import Numeric
from bakehouse_schemas.application.ranking import Ranking
from bakehouse_schemas.application.reward import Reward
from bakehouse_schemas.errors import BakehouseError
from bakehouse_schemas.execution.base_policy import baseline_policy
from bakehouse_schemas.execution.logged_density import logged_density
from bakehouse_schemas.execution.propensity import execute
from tests.logged_worlds import ring_of
from tests.replay_rows import T0, decision, outcome

ITEMS = [{"id": f"item-{n}", "price": float(n)} for n in range(4)]
BOX = Continuous(low=0, high=2)
KINDS: dict[str, tuple[Any, Any, Any]] = {
    "continuous": (BOX, [1.0], Gaussian(std=0.1, start=0.3, floor=0.05)),
    "parts": (
        Parts({"mode": Discrete("story", "arcade", "duel"), "speed": BOX}),
        {"mode": "story", "speed": [1.0]},
        Gaussian(std=0.1, start=0.3, floor=0.1),
    ),
    "ranking": (
        Ranking(k=2, item=[Numeric("price", low=0, high=4)], most_items=6),
        ["item-0", "item-1"],
        EpsilonGreedy(0.1, start=0.5),
    ),
}


@pytest.fixture(params=KINDS)
def application(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Application:
    actions, rules, exploration = KINDS[request.param]
    any_kind = replace(AGENTS["bc"], actions=frozenset(KINDS))
    monkeypatch.setitem(AGENTS, "bc", any_kind)  # what learns is no matter here
    return Application(
        name="kinds",
        observation=[Numeric("x", low=0, high=1)],
        actions=actions,
        reward=Reward({"joy": 1.0}, window=seconds(5)),
        baseline=lambda context: rules,
        agent=Agent("bc"),
        exploration=exploration,
    )


def joy(action: Any) -> float:
    """Best at 1.4 in the box; "duel" is worth 1 more; a dear item is best in front."""
    if isinstance(action, Mapping):
        return joy(action["speed"]) + (action["mode"] == "duel")
    if isinstance(action[0], str):
        return ITEMS[int(action[0][-1])]["price"] + 0.5 * ITEMS[int(action[1][-1])]["price"]
    return float(1.0 - (action[0] - 1.4) ** 2)


# E[1 − (x − 1.4)²] of x uniform in [0, 2] is 1 − (0.6³ + 1.4³) / 6; prices average 1.5.
UNIFORM = {
    "continuous": 1 - (0.6**3 + 1.4**3) / 6,
    "parts": 1 - (0.6**3 + 1.4**3) / 6 + 1 / 3,
    "ranking": 1.5 + 0.75,
}


def logged(application: Application, n: int) -> Ring:
    """What version 0 does: around the rules, exploring."""
    rng = np.random.default_rng(7)
    shape, exploration = application.shape, application.exploration.after(0)
    items = ITEMS if shape.kind == "ranking" else None
    eligible = np.ones(shape.choices, dtype=bool)
    if items:
        eligible[len(items) :] = False
    rows = []
    for at in range(n):
        context = {"x": float(rng.random())}
        if items:
            context["items"] = items  # type: ignore[assignment]
        rules = application.baseline(context)
        own = baseline_policy(shape, application.actions.row_of(rules, items)[None], exploration)
        if items:
            own = own._replace(probabilities=own.probabilities * eligible)
        drawn = execute(shape, own, eligible, exploration, float(rng.random()))
        action = application.actions.action_of(drawn.row, items)
        row = decision(
            application,
            {"x": context["x"]},
            action,
            at_ms=T0 + 100 * at,
            propensity=drawn.propensity,
            baseline=rules,
            items=json.dumps(items) if items else None,
            density=json.dumps(logged_density(shape, own, exploration, drawn)),
            exploration=json.dumps(exploration.logged()),
        )
        value = joy(action) + float(rng.normal(0, 0.1))
        rows += [row, outcome(row, "joy", after_ms=500, value=value)]
    last = decision(
        application, {"x": 0.5}, rules, at_ms=T0 + 100 * n + 9_000, baseline=rules,
        items=json.dumps(items) if items else None,
    )  # fmt: skip
    return ring_of(application, [*rows, last])


def test_what_version_0_would_have_done_is_what_was_logged(
    application: Application, tmp_path: Path
) -> None:
    ring = logged(application, 60)
    slots = ring.slots(0, 60)
    zero = find_target("0", application, tmp_path)
    assert propensity(zero, ring, slots) == pytest.approx(ring.propensity[slots], rel=1e-9)
    found = material(ring, application, [zero])
    answer = report(found, [zero], [0.0], ReportSettings(0.95, 0))
    means = {e["name"]: e["mean"] for e in answer["policies"][0]["estimates"]}
    assert set(means) == {"doubly robust", "switch-DR", "snips", "ips", "clipped ips"}
    for mean in means.values():
        assert mean == pytest.approx(answer["as_logged"]["mean"], abs=1e-9)


def test_the_interval_of_uniform_choice_covers_what_it_earns(
    application: Application, tmp_path: Path
) -> None:
    ring = logged(application, 1_500)
    random = find_target("random", application, tmp_path)
    found = material(ring, application, [random])
    answer = report(found, [random], [0.0], ReportSettings(0.95, 0))
    real = UNIFORM[application.shape.kind]
    for estimate in answer["policies"][0]["estimates"]:
        assert estimate["lower"] < real < estimate["upper"], estimate["name"]
        assert estimate["mean"] == pytest.approx(real, abs=0.25), estimate["name"]


def test_numbers_are_never_judged_greedy(application: Application, tmp_path: Path) -> None:
    if not application.shape.dims:
        assert find_target("0", application, tmp_path, greedy=True).exploration.kind == "none"
        return
    with pytest.raises(BakehouseError, match="no log holds the very number"):
        find_target("0", application, tmp_path, greedy=True)
    rules = find_target("baseline", application, tmp_path)
    assert rules.words.startswith("the game's rules, with spread 0.3 and floor")
