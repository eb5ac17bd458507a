"""What has not varied has no bounds, and opens no gate: nobody has seen yet what it does."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from bakehouse_learner.gate.guardrails import Guards, is_violated
from bakehouse_learner.gate.progressive_evaluation import ProgressiveEvaluation
from bakehouse_learner.gate.report import Evidence, GateReport
from bakehouse_learner.gate.rules import decide
from bakehouse_learner.insight.lift import Lift
from bakehouse_learner.insight.sums import WeightedSums
from bakehouse_learner.offline.tuning.objectives import paired
from bakehouse_learner.ope.diagnostics import diagnose
from bakehouse_learner.statistics.confidence_sequence import ConfidenceSequence, Interval
from bakehouse_learner.statistics.difference import DifferenceSequence
from bakehouse_schemas.application.application import Gate
from bakehouse_schemas.application.rollout import Guardrail

NONE = (-math.inf, math.inf)
RULES, OTHER = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]


def ruled(
    rng: np.random.Generator, n: int, candidate: list[float], *, loses: float = 0.0
) -> dict[str, np.ndarray]:
    """Decisions of version 0, ε = 0.1, whose rules win in half; a candidate's answer loses."""
    executed = np.tile([0.9 + 0.1 / 3, 0.1 / 3, 0.1 / 3], (n, 1))
    action = (executed.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1).clip(0, 2)
    won = rng.random(n) < np.where(action == 0, 0.5, 0.5 - loses)
    return {
        "candidate": np.tile(candidate, (n, 1)),
        "anchor": np.tile(RULES, (n, 1)),
        "model": np.zeros((n, 3)),
        "action": action,
        "propensity": executed[0][action],
        "reward": won.astype(float),
    }


def asked(evaluation: ProgressiveEvaluation) -> GateReport:
    """About a candidate that answers otherwise than the rules in all contexts."""
    return decide(
        Gate(),
        candidate=2,
        current=0,
        anchor=0,
        losses={"loss": 1.0},
        golden_scores=np.ones((16, 3)),
        largest_score=10.0,
        shift=1.0,
        evidence=Evidence(
            evaluation.difference, evaluation.reward_std, evaluation.effective_sample
        ),
    )


def new() -> ProgressiveEvaluation:
    return ProgressiveEvaluation(alpha=0.05, weight_cap=100.0)


@pytest.mark.parametrize("n", [100, 100_000])
def test_candidates_that_answered_as_the_rules_do_let_no_other_candidate_out(n: int) -> None:
    evaluation = new()
    evaluation.complete(**ruled(np.random.default_rng(0), n, RULES))
    report = asked(evaluation)
    assert not report.publish
    assert evaluation.difference == (0.0, *NONE, n)
    assert report.reason.startswith(f"waits at version 0: {n} decisions are too few, or too much")
    assert json.loads(json.dumps(report.as_dict()))["evidence"]["lower"] is None


@pytest.mark.parametrize("otherwise", [1, 10, 49])
def test_a_handful_of_decisions_on_which_the_two_differ_is_too_few(otherwise: int) -> None:
    rng, evaluation = np.random.default_rng(0), new()
    evaluation.complete(**ruled(rng, 10_000, RULES))
    evaluation.complete(**ruled(rng, otherwise, OTHER))
    assert not asked(evaluation).publish
    assert evaluation.difference[1:3] == NONE


@pytest.mark.parametrize("alike", [100, 10_000, 1_000_000])
def test_decisions_on_which_the_two_are_alike_dilute_nothing(alike: int) -> None:
    """A candidate that never wins is let out neither soon nor later, whatever came before it."""
    rng, evaluation = np.random.default_rng(1), new()
    evaluation.complete(**ruled(rng, alike, RULES))
    for _ in range(40):
        evaluation.complete(**ruled(rng, 100, OTHER, loses=0.5))
        assert not asked(evaluation).publish
    assert evaluation.difference.upper < 0.0


def test_probabilities_that_are_the_same_but_for_rounding_are_the_same() -> None:
    evaluation = new()
    rows = ruled(np.random.default_rng(2), 5_000, RULES)
    evaluation.complete(**rows | {"candidate": rows["anchor"] * (1 - 1e-7)})
    assert evaluation.difference[1:3] == NONE


def test_densities_that_are_the_same_are_no_evidence_either() -> None:
    rng, evaluation = np.random.default_rng(3), new()
    density = rng.random((500, 1)) + 0.5
    evaluation.complete(
        candidate=density,
        anchor=density,
        model=np.zeros((500, 1)),
        action=np.zeros(500, int),
        propensity=density[:, 0],
        reward=rng.random(500),
    )
    assert evaluation.difference == (0.0, *NONE, 500)


@pytest.mark.parametrize("reward", [0.0, 0.1, 1.0])
def test_rewards_that_never_vary_let_nobody_out(reward: float) -> None:
    """Nothing was won so far, or the same each time: what the candidate would earn is unknown."""
    rng, evaluation = np.random.default_rng(4), new()
    for n in (7, 300, 1_000):
        rows = ruled(rng, n, OTHER)
        model = np.full((n, 3), reward)
        evaluation.complete(**rows | {"reward": np.full(n, reward), "model": model})
        assert not asked(evaluation).publish
    assert evaluation.difference[1:3] == NONE


def test_rule_2_opens_on_no_interval_without_width_wherever_it_comes_from() -> None:
    evidence = Evidence(Interval(0.0, 0.0, 0.0, 900), scale=1.0, effective_sample=900.0)
    report = decide(
        Gate(),
        candidate=1,
        current=0,
        anchor=0,
        losses={},
        golden_scores=np.ones((4, 3)),
        largest_score=10.0,
        shift=1.0,
        evidence=evidence,
    )
    assert not report.publish


def test_an_evaluation_of_the_last_release_begins_anew_where_it_counted_what_is_alike() -> None:
    first, second = new(), new()
    first.complete(**ruled(np.random.default_rng(0), 900, OTHER))
    state = first.state()
    del state["compared"]  # as the last release wrote it
    second.restore(json.loads(json.dumps(state)))
    assert second.difference == (0.0, *NONE, 0)
    assert second.reward_std == first.reward_std


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, -1e9])
@pytest.mark.parametrize("batches", [(1_000,), (1, 99, 900), (333, 333, 334)])
def test_a_constant_has_no_bounds(value: float, batches: tuple[int, ...]) -> None:
    sequence, apart, sums = ConfidenceSequence(0.05), DifferenceSequence(0.05), WeightedSums(2)
    for n in batches:
        values = np.full(n, value)
        sequence.update(values)
        apart.update(values, values + 1.0)
        sums.add(np.zeros(n, int), values, np.ones(n))
    assert sequence.interval() == (pytest.approx(value), *NONE, 1_000)
    assert apart.interval() == (pytest.approx(-1.0), *NONE, 2_000)
    assert sums.bounds(0, 0.05) == (pytest.approx(value), None, None)


def test_values_that_differ_by_rounding_alone_have_no_bounds() -> None:
    values = np.where(np.arange(1_000) % 2, 0.1 + 0.2, 0.3)
    sequence, apart, sums = ConfidenceSequence(0.05), DifferenceSequence(0.05), WeightedSums(2)
    sequence.update(values)
    apart.update(values, values)
    sums.add(np.zeros(1_000, int), values, np.ones(1_000))
    assert sequence.bounds() == NONE
    assert apart.interval()[1:3] == NONE
    assert sums.bounds(0, 0.05)[1:] == (None, None)


def test_a_group_of_one_value_beside_a_group_of_another_has_no_bounds() -> None:
    sums = WeightedSums(2)
    sums.add(np.tile([0, 1], 500), np.tile([3.0, 0.1], 500), np.ones(1_000))
    assert [sums.bounds(group, 0.05)[1:] for group in (0, 1)] == [(None, None)] * 2


def test_the_smallest_variance_that_is_one_gives_bounds() -> None:
    values = np.concatenate([np.zeros(999), [1e-6]])
    sequence, apart, sums = ConfidenceSequence(0.05), DifferenceSequence(0.05), WeightedSums(1)
    sequence.update(values)
    apart.update(values, np.zeros(1_000))
    sums.add(np.zeros(1_000, int), values, np.ones(1_000))
    for lower, upper in (sequence.bounds(), apart.interval()[1:3], sums.bounds(0, 0.05)[1:]):
        assert lower is not None and upper is not None
        assert -1e-6 < lower < 0 < upper < 1e-6


def test_a_lift_without_variance_is_told_without_bounds() -> None:
    lift = Lift(0.05)
    lift.begin(np.zeros(1, np.int64))
    n = 4_000
    policy = np.arange(n) % 2 == 0
    lift.add(np.zeros(n, np.int64), np.arange(n).astype(np.uint64), np.ones(n), policy, ~policy)
    figures = json.loads(json.dumps(lift.figures(), allow_nan=False))
    assert (figures["difference"], figures["relative"]) == (None, None)
    assert figures["policy"]["mean"] == 1.0


def test_weights_that_are_all_the_same_and_not_1_are_still_told() -> None:
    """A mean without variance has no bounds, but half of every decision is missing all the same."""
    found = diagnose(np.full(2_000, 0.5))
    assert found.verdict == "a guess"
    assert "at least 50% of what this policy would do" in found.words[0]
    assert diagnose(np.ones(2_000)).verdict == "sound"
    assert found.as_dict()["mean_weight_upper"] is None


def test_pairs_that_all_differ_by_the_same_have_no_interval() -> None:
    found = paired([0.5, 0.6, 0.7], [0.4, 0.5, 0.6])
    assert found.mean == pytest.approx(0.1)
    assert not found.more_than_noise


QUIT, BOUGHT = Guardrail("quit", most=0.2), Guardrail("bought", least=0.08)


def guarded(policy: float, rules: float, n: int, guardrail: Guardrail) -> bool:
    """Whether it is violated, when policies always had one value and rules a share of ones."""
    guards, rng = Guards([guardrail], alpha=0.05), np.random.default_rng(5)
    before = (rng.random((1_000, 1)) < rules).astype(float)
    guards.update(np.zeros((0, 1)), before)
    mine = np.full((n, 1), policy)
    guards.update(mine, mine)
    again = Guards([guardrail], alpha=0.05)
    again.restore(json.loads(json.dumps(guards.state())))
    assert again.intervals() == guards.intervals()
    return is_violated(*guards.intervals()[0])


def test_an_outcome_that_never_comes_under_policies_but_comes_to_others_breaks_its_least() -> None:
    assert guarded(0.0, 0.1, 500, BOUGHT)
    assert not guarded(0.0, 0.1, 99, BOUGHT)


def test_an_outcome_that_always_comes_under_policies_breaks_its_most() -> None:
    assert guarded(1.0, 0.05, 200, QUIT)
    assert guarded(1.0, 0.0, 200, QUIT), "that nobody quit under the rules is variance, too"


def test_an_outcome_too_rare_to_have_come_yet_breaks_nothing() -> None:
    """One decision in 1,000 buys: that none of 300 did says nothing against at least 1 in 2,000."""
    assert not guarded(0.0, 0.001, 300, Guardrail("bought", least=0.0005))


def test_a_guardrail_on_what_has_never_come_to_anybody_is_not_broken() -> None:
    """Going back to the rules, under which it does not come either, would mend nothing."""
    assert not guarded(0.0, 0.0, 100_000, BOUGHT)
