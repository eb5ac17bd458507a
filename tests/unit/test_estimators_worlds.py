"""Estimates from logs of known worlds against what policies really earn there."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from bakehouse_learner.offline.evaluation.policy_value import material
from bakehouse_learner.offline.evaluation.report import ReportSettings, report
from bakehouse_learner.offline.evaluation.target_policies import Target, find_target
from bakehouse_schemas.loading import Loaded, load_application
from tests.fakes import publish_policy
from tests.logged_worlds import played, ring_of, truth

FOLDER = Path(__file__).parents[2] / "applications"
NAMES = ("3", "0", "baseline", "random")
SEEDS = range(4)


def loaded(name: str) -> Loaded:
    return load_application(str(FOLDER / f"{name}.py"))


def targets_of(one: Loaded, policies: Path) -> list[Target]:
    """Version 3 wants the second action always, which no rule does."""
    application = one.application
    publish_policy(policies, application, 3, favourite=1, epsilon=0.3)
    return [find_target(name, application, policies / application.name) for name in NAMES]


@pytest.mark.parametrize(("name", "players"), [("level_difficulty", 1_000), ("quest_chain", 500)])
def test_intervals_cover_what_policies_really_earn(name: str, players: int, tmp_path: Path) -> None:
    one = loaded(name)
    targets = targets_of(one, tmp_path)
    bounded = missed = 0
    errors: dict[str, list[float]] = {}
    for seed in SEEDS:
        assert one.world is not None
        rows = played(one.world, one.application, players, seed=seed)
        found = material(ring_of(one.application, rows), one.application, targets)
        assert found.logged.n == players
        answer = report(found, targets, [0.0] * len(targets), ReportSettings(0.95, 0))
        real = {t.name: truth(one.world, one.application, rows, t) for t in targets}
        for policy in answer["policies"]:
            if policy["verdict"] == "a guess":
                continue  # and is labelled one: its interval promises nothing
            for estimate in policy["estimates"]:
                errors.setdefault(estimate["name"], []).append(
                    abs(estimate["mean"] - real[policy["policy"]])
                )
                if estimate["lower"] is not None:
                    bounded += 1
                    missed += not (estimate["lower"] <= real[policy["policy"]] <= estimate["upper"])
        for difference in answer["differences"]:
            real_difference = real["3"] - real[difference["against"]]
            for estimate in difference["estimates"]:
                if answer["policies"][0]["verdict"] != "a guess" and estimate["lower"] is not None:
                    bounded += 1
                    missed += not estimate["lower"] <= real_difference <= estimate["upper"]
    assert bounded >= 24
    assert missed <= 0.05 * bounded
    robust = errors["doubly robust"]
    assert max(robust) < 0.4
    assert math.fsum(robust) / len(robust) < 0.1


def test_a_policy_that_the_log_seldom_follows_is_called_a_guess(tmp_path: Path) -> None:
    # four stories in a row are logged with 0.17⁴
    one = loaded("quest_chain")
    assert one.world is not None
    publish_policy(tmp_path, one.application, 3, favourite=1, epsilon=0.1)
    target = find_target("3", one.application, tmp_path / one.application.name)
    rows = played(one.world, one.application, 500, seed=0)
    found = material(ring_of(one.application, rows), one.application, [target])
    answer = report(found, [target], [0.0], ReportSettings(0.95, 0))
    (policy,) = answer["policies"]
    assert policy["verdict"] == "a guess"
    assert policy["diagnosis"]["effective_sample"] < 100
    assert answer["warnings"][0].startswith("3: the log speaks for this policy with ")
    assert answer["warnings"][0].endswith(": this number is a guess")


def test_of_the_logging_policy_itself_the_estimate_is_the_mean_reward(tmp_path: Path) -> None:
    # what was logged is version 0, whose exploration begins at 0.5
    for name, unbiased in (
        ("level_difficulty", ("ips", "snips", "clipped ips")),
        ("quest_chain", ("per-decision is", "weighted is")),
    ):
        one = loaded(name)
        assert one.world is not None
        zero = find_target("0", one.application, tmp_path)
        ring = ring_of(one.application, played(one.world, one.application, 200, seed=1))
        found = material(ring, one.application, [zero])
        answer = report(found, [zero], [0.0], ReportSettings(0.95, 0))
        means = {e["name"]: e["mean"] for e in answer["policies"][0]["estimates"]}
        for estimator in unbiased:
            assert means[estimator] == pytest.approx(answer["as_logged"]["mean"], abs=1e-9)
