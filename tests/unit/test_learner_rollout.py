import numpy as np
import pytest

from bakehouse_learner.gate.guardrails import Guards, is_violated
from bakehouse_learner.gate.report import Evidence
from bakehouse_learner.gate.rollout import RolloutSteps
from bakehouse_learner.gate.rules import decide
from bakehouse_learner.replay.maturity import guarded_values
from bakehouse_learner.statistics.confidence_sequence import Interval
from bakehouse_learner.statistics.recent_mean import RecentMean
from bakehouse_learner.training.apprentice import asked_of_an_apprentice, matches
from bakehouse_schemas.application.actions import Continuous, Discrete
from bakehouse_schemas.application.application import Gate
from bakehouse_schemas.application.reward import DecisionTimes, Reward, TimedOutcome
from bakehouse_schemas.application.rollout import Guardrail, Rollout
from bakehouse_schemas.errors import ApplicationError
from bakehouse_schemas.execution.base_policy import BasePolicy
from tests.learner_fakes import GAME

QUIT = Guardrail("quit", most=0.2)


def test_a_rollout_goes_from_nobody_to_everybody_a_step_at_a_time() -> None:
    steps = RolloutSteps([0.1, 0.5, 1.0], decisions_a_step=100)
    assert (steps.share, steps.is_due()) == (0.0, False)  # nothing was let out yet
    steps.forward(version=7)
    steps.see(np.full(99, 7))
    assert (steps.share, steps.is_due()) == (0.1, False)
    steps.see(np.array([8]))
    assert steps.is_due()
    steps.forward(version=9)
    steps.see(np.full(500, 8))  # decided by a policy of the step before, and matured in this one
    assert (steps.share, steps.is_due()) == (0.5, False)
    steps.see(np.full(100, 9))
    assert steps.is_due()
    steps.forward(version=12)
    steps.see(np.full(10_000, 12))
    assert (steps.share, steps.complete, steps.is_due()) == (1.0, True, False)


def test_a_rollout_goes_back_a_step_at_a_time_and_stops_at_once() -> None:
    steps = RolloutSteps([0.1, 0.5, 1.0], decisions_a_step=100)
    for version in range(3):
        steps.forward(version)
    steps.back(4)
    assert steps.share == 0.5
    steps.stop()
    assert steps.share == 0.0
    steps.back(5)
    assert steps.share == 0.0


def test_a_rollout_that_is_resumed_has_forgotten_nothing() -> None:
    steps, resumed = (RolloutSteps([0.1, 1.0], decisions_a_step=100) for _ in range(2))
    steps.forward(40)
    steps.see(np.full(99, 40))
    resumed.restore(steps.state())
    assert (resumed.share, resumed.is_due()) == (0.1, False)
    resumed.see(np.array([40]))
    assert resumed.is_due()


@pytest.mark.parametrize(
    ("before", "now", "share"),
    [
        ([0.01, 0.05, 0.1, 1.0], [0.5, 1.0], 0.5),  # not everyone, which is the third step's place
        ([0.1, 1.0], [0.01, 0.1, 0.5, 1.0], 0.1),
        ([0.1, 0.5, 1.0], [1.0], 1.0),
    ],
)
def test_a_rollout_whose_page_names_other_shares_goes_on_at_no_more_than_it_had_come_to(
    before: list[float], now: list[float], share: float
) -> None:
    steps, resumed = (
        RolloutSteps(before, decisions_a_step=10),
        RolloutSteps(now, decisions_a_step=10),
    )
    for version in range(3 if len(before) == 4 else 1):
        steps.forward(version)
    steps.see(np.full(10, 9))
    resumed.restore(steps.state())
    assert resumed.share == share
    assert not resumed.is_due() or share == steps.share


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Rollout(canary=[0.5, 0.1, 1.0]), "growing shares"),
        (lambda: Rollout(canary=[0.1, 0.5]), "end with 1.0"),
        (lambda: Rollout(canary=[0.0, 1.0]), "growing shares"),
        (lambda: Rollout(match=1.5), "in \\(0, 1\\]"),
        (lambda: Guardrail("quit"), "no bound"),
        (lambda: Guardrail("quit", most=0.1, least=0.2), "nothing lies between"),
        (lambda: Gate(guardrails=[QUIT] * 6), "at most 5"),
        (lambda: Gate(guardrails="quit"), "expected a list"),
    ],
)
def test_a_rollout_that_cannot_be_is_answered_with_what_to_write(make: object, words: str) -> None:
    with pytest.raises(ApplicationError, match=words):
        make()  # type: ignore[operator]


def _outcome(name: str, after_ms: int, value: float | None = None) -> TimedOutcome:
    return TimedOutcome(f"{name}-{after_ms}", "reward", name, value, after_ms, after_ms)


def test_a_guardrail_counts_its_outcomes_within_the_window_and_adds_up_their_values() -> None:
    rule = Reward({"won": 1.0}, window=GAME.reward.window)
    outcomes = [
        _outcome("quit", 500),
        _outcome("spent", 600, 2.5),
        _outcome("spent", 700, 1.5),
        _outcome("quit", rule.window_ms + 1_000),  # too late
        _outcome("won", 800),
    ]
    guardrails = [QUIT, Guardrail("spent", least=0.0)]
    assert guarded_values(guardrails, rule, DecisionTimes(0, 0), outcomes) == [1.0, 4.0]


def test_a_guardrail_is_violated_where_its_mean_is_surely_beyond_it() -> None:
    assert not is_violated(QUIT, Interval(0.25, 0.19, 0.31, 500))
    assert is_violated(QUIT, Interval(0.25, 0.21, 0.29, 2_000))
    assert is_violated(Guardrail("spent", least=1.0), Interval(0.5, 0.1, 0.9, 2_000))


def test_guardrails_err_together_no_more_often_than_the_gate_may() -> None:
    wrong = 0
    for seed in range(200):
        guards = Guards([QUIT, Guardrail("bought", least=0.1)], alpha=0.05)
        rng = np.random.default_rng(seed)
        for _ in range(20):
            quits, bought = rng.random(50) < 0.2, rng.random(50) < 0.1  # exactly at the bounds
            guards.update(np.stack([quits, bought], axis=1).astype(float))
        wrong += any(is_violated(*one) for one in guards.intervals())
    assert wrong <= 0.05 * 200


def test_a_broken_guardrail_takes_even_a_good_policy_back_to_version_0_and_freezes() -> None:
    report = decide(
        Gate(guardrails=[QUIT]),
        candidate=9,
        current=8,
        anchor=5,
        losses={},
        golden_scores=np.ones((4, 3)),
        largest_score=10.0,
        shift=0.0,
        evidence=Evidence(
            Interval(0.5, 0.4, 0.6, 5_000),  # far better than the anchor
            scale=1.0,
            effective_sample=900.0,
            guardrails=((QUIT, Interval(0.3, 0.25, 0.35, 5_000)),),
        ),
    )
    assert (report.publish, report.rollback_to, report.freeze) == (False, 0, True)
    assert "guardrail 'quit'" in report.reason
    assert "at most 0.2" in report.reason


def test_a_label_matches_where_it_is_the_same_and_a_number_where_it_is_near() -> None:
    labels = Discrete("a", "b").shape
    own = BasePolicy(np.array([[0.4, 0.6], [0.9, 0.1]]), np.zeros((2, 0)), np.zeros((2, 0)))
    assert matches(labels, own, np.array([[1.0], [1.0]])).tolist() == [True, False]
    box = Continuous(low=0, high=10).shape
    own = BasePolicy(np.ones((2, 1)), np.array([[3.0], [3.0]]), np.ones((2, 1)))
    assert matches(box, own, np.array([[3.4], [3.6]])).tolist() == [True, False]


def test_an_apprentice_is_asked_half_the_time_for_the_rules_own_action() -> None:
    shape, rng = Discrete("a", "b", "c").shape, np.random.default_rng(0)
    baseline = np.zeros((4_000, 1))
    eligible = np.tile([True, True, False], (4_000, 1))
    action, reward = asked_of_an_apprentice(shape, baseline, eligible, rng)
    assert set(action[:, 0].astype(int)) == {0, 1}  # never what may not be chosen
    assert ((action[:, 0] == 0) == (reward == 1)).all()
    assert 0.72 < reward.mean() < 0.78  # one half, and half of the other half


def test_numbers_are_rewarded_by_how_near_they_come() -> None:
    shape, rng = Continuous(low=0, high=10).shape, np.random.default_rng(0)
    baseline = np.full((1_000, 1), 2.0)
    action, reward = asked_of_an_apprentice(shape, baseline, np.ones((1_000, 1), bool), rng)
    np.testing.assert_allclose(reward, 1 - np.abs(action[:, 0] - 2.0) / 10, rtol=1e-6)


def test_a_match_rate_follows_the_last_thousand_decisions() -> None:
    match = RecentMean()
    match.update(np.ones(500, bool))
    assert (match.mean, match.n) == (1.0, 500)
    for _ in range(100):
        match.update(np.zeros(100, bool))
    assert match.mean < 1e-4
