import json
import math

import numpy as np
import pytest

from bakehouse_learner.gate.progressive_evaluation import expected_square, paired_difference
from bakehouse_learner.statistics.confidence_sequence import ConfidenceSequence, Moments, boundary
from bakehouse_learner.statistics.difference import DifferenceSequence


def test_the_boundary_is_the_published_formula():
    # ρ² = (−2 log 0.05 + log(1 − 2 log 0.05)) / 1000 = 7.936 / 1000; n = 1000
    # √(2 · (1 + 1/7.936) · (½ log 8.936 + log 20)) = √(2.2520 · 4.0908)
    assert boundary(1_000, 0.05, 1_000) == pytest.approx(math.sqrt(2.2520 * 4.0908), rel=1e-3)


def test_moments_of_batches_are_the_moments_of_all():
    values = np.random.default_rng(0).normal(1e6, 2.0, 1_000)
    moments = Moments()
    for batch in np.array_split(values, [1, 10, 400]):
        moments.update(batch)
    assert moments.mean == pytest.approx(values.mean())
    assert moments.std == pytest.approx(values.std(ddof=1), rel=1e-9)


def test_there_are_no_bounds_before_the_burn_in():
    sequence = ConfidenceSequence(0.05)
    sequence.update(np.arange(99.0))
    assert sequence.bounds() == (-math.inf, math.inf)
    sequence.update(np.zeros(1))
    assert np.isfinite(sequence.bounds()).all()


def test_a_value_that_is_not_finite_changes_nothing():
    sequence = ConfidenceSequence(0.05)
    sequence.update(np.ones(10))
    before = sequence.state()
    with pytest.raises(ValueError, match="1 of 2 values are not finite"):
        sequence.update(np.array([1.0, np.nan]))
    with pytest.raises(ValueError, match="expected variances"):
        sequence.update(np.ones(1), np.array([np.inf]))
    assert sequence.state() == before


def test_a_single_large_value_among_zeros_decides_nothing():
    sequence = ConfidenceSequence(0.05)
    sequence.update(np.concatenate([np.zeros(2_000), [50.0]]))
    lower, upper = sequence.bounds()
    assert lower < 0 < upper


def test_a_restored_sequence_goes_on_as_the_first():
    rng = np.random.default_rng(1)
    first, second = ConfidenceSequence(0.02), ConfidenceSequence(0.5)
    first.update(rng.normal(size=150), np.ones(150))
    second.restore(json.loads(json.dumps(first.state())))
    more = rng.normal(size=70)
    first.update(more, np.ones(70))
    second.update(more, np.ones(70))
    assert first.bounds() == second.bounds()


def _differences(
    rng: np.random.Generator, rows: int, *, epsilon: float, rare: bool, biased: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Values of two policies that are equally good and differ in half of the contexts."""
    executed = np.tile([1 - epsilon * 2 / 3, epsilon / 3, epsilon / 3], (rows, 1))
    action = (executed.cumsum(axis=1) < rng.random((rows, 1))).sum(axis=1).clip(0, 2)
    candidate = np.zeros((rows, 3))
    candidate[np.arange(rows), np.where(rng.random(rows) < 0.5, 1, 0)] = 1.0
    anchor = np.tile([1.0, 0.0, 0.0], (rows, 1))
    reward = (rng.random(rows) < 0.05) * 4.5 if rare else rng.normal(size=rows)
    choice = {
        "candidate": candidate,
        "anchor": anchor,
        "action": action,
        "propensity": executed[np.arange(rows), action],
        "weight_cap": 100.0,
    }
    model = np.tile([0.2, 0.2 + biased, 0.2], (rows, 1))
    values = paired_difference(model=model, reward=reward, **choice)
    residual = reward - model[np.arange(rows), action]
    return values, np.var(residual) * expected_square(**choice)


@pytest.mark.parametrize(
    ("epsilon", "rare", "biased"),
    [(0.5, False, False), (0.1, True, False), (0.1, False, True), (0.03, True, True)],
)
def test_looking_at_every_batch_of_a_thousand_streams_errs_in_at_most_one_of_twenty(
    epsilon, rare, biased
):
    # epsilon 0.03 of three actions: propensities of 0.01, weights of 100
    streams, batches, rows = 1_000, 40, 100
    rng = np.random.default_rng(7)
    wrong = 0
    for _ in range(streams):
        values, expected = _differences(
            rng, batches * rows, epsilon=epsilon, rare=rare, biased=biased
        )
        sequence = ConfidenceSequence(0.05)
        for at in range(0, batches * rows, rows):
            sequence.update(values[at : at + rows], expected[at : at + rows])
            lower, upper = sequence.bounds()
            if not lower <= 0.0 <= upper:
                wrong += 1
                break
    assert wrong / streams <= 0.05


def test_without_the_variance_that_propensities_announce_rare_weights_would_deceive():
    rng = np.random.default_rng(7)
    wrong = 0
    for _ in range(200):
        values, _ = _differences(rng, 1_000, epsilon=0.03, rare=True, biased=True)
        sequence = ConfidenceSequence(0.05)
        for at in range(0, 1_000, 100):
            sequence.update(values[at : at + 100])
            lower, upper = sequence.bounds()
            if not lower <= 0.0 <= upper:
                wrong += 1
                break
    assert wrong / 200 > 0.2  # why expected_square exists


def test_the_difference_of_two_groups_is_covered_at_every_look():
    rng = np.random.default_rng(3)
    wrong = 0
    for _ in range(400):
        sequence = DifferenceSequence(0.05)
        for _ in range(20):
            sequence.update(rng.exponential(1.0, 90), rng.exponential(1.0, 10))
            interval = sequence.interval()
            if not interval.lower <= 0.0 <= interval.upper:
                wrong += 1
                break
    assert wrong / 400 <= 0.05


def test_a_better_group_is_found_to_be_better():
    rng = np.random.default_rng(4)
    sequence = DifferenceSequence(0.05)
    sequence.update(rng.normal(0.5, 1.0, 900), rng.normal(0.0, 1.0, 100))
    assert sequence.interval().lower > 0
    assert sequence.interval().mean == pytest.approx(0.5, abs=0.2)


def test_weights_judge_a_policy_as_if_it_had_not_explored():
    # Half of the episodes explored and earned 0; the policy itself earns 1. Weight of an
    # episode without exploration: 1 / 0.5.
    explored = np.tile([True, False], 500)
    sequence = DifferenceSequence(0.05)
    sequence.update(np.where(explored, 0.0, 1.0), np.full(200, 0.9), np.where(explored, 0.0, 2.0))
    assert sequence.interval().mean == pytest.approx(0.1)
    assert sequence.sizes == (500, 200)


def test_groups_refuse_what_is_not_finite_and_survive_a_checkpoint():
    first, second = DifferenceSequence(0.05), DifferenceSequence(0.05)
    first.update(np.arange(40.0), np.arange(50.0))
    with pytest.raises(ValueError, match="not finite"):
        first.update(np.array([np.inf]), np.zeros(1))
    with pytest.raises(ValueError, match="expected none below 0"):
        first.update(np.ones(1), np.zeros(1), np.array([-1.0]))
    second.restore(json.loads(json.dumps(first.state())))
    assert second.interval() == first.interval()
    assert first.interval().n == 90
