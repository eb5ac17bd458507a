import numpy as np
import pytest

from bakehouse_learner.ope.reward_model import RewardModel


def test_it_finds_the_line_of_each_action():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (2_000, 2))
    action = rng.integers(0, 2, 2_000)
    reward = np.where(action == 0, 1 + 2 * x[:, 0], -1 + 3 * x[:, 1])
    model = RewardModel(actions=2, width=2)
    model.update(x, action, reward)
    predicted = model.predict(np.array([[0.5, 0.0], [0.0, 0.5]]))
    assert predicted == pytest.approx(np.array([[2.0, -1.0], [1.0, 0.5]]), abs=0.02)


def test_an_action_never_taken_is_expected_to_be_like_the_others():
    model = RewardModel(actions=3, width=1)
    model.update(np.zeros((4, 1)), np.array([0, 0, 1, 1]), np.array([1.0, 1.0, 3.0, 3.0]))
    assert model.predict(np.array([[1.0]]))[0, 2] == 2.0
    # two rows of 1.0 and one row's worth of the common mean 2.0: (1 + 1 + 2) / 3
    assert model.predict(np.array([[0.0]]))[0, 0] == pytest.approx(4 / 3)


def test_before_the_first_row_it_expects_nothing():
    assert np.array_equal(RewardModel(3, 2).predict(np.ones((2, 2))), np.zeros((2, 3)))


def test_predictions_stay_within_the_rewards_seen():
    model = RewardModel(actions=1, width=1)
    model.update(np.array([[0.0], [1.0]]), np.array([0, 0]), np.array([0.0, 1.0]))
    assert model.predict(np.array([[1e6], [-1e6]])).ravel().tolist() == [1.0, 0.0]


def test_rows_that_are_not_finite_are_left_out_and_counted():
    model, clean = RewardModel(2, 1), RewardModel(2, 1)
    x, action = np.array([[0.0], [np.nan], [1.0], [1.0]]), np.array([0, 0, 1, 1])
    assert model.update(x, action, np.array([1.0, 1.0, np.inf, 2.0])) == 2
    clean.update(x[[0, 3]], action[[0, 3]], np.array([1.0, 2.0]))
    assert model.n == 2
    assert np.array_equal(model.predict(np.eye(1)), clean.predict(np.eye(1)))


def test_batches_add_up_and_a_restored_model_goes_on():
    rng = np.random.default_rng(2)
    x, action, reward = rng.normal(size=(60, 3)), rng.integers(0, 4, 60), rng.normal(size=60)
    whole, parts, restored = (RewardModel(4, 3) for _ in range(3))
    whole.update(x, action, reward)
    parts.update(x[:25], action[:25], reward[:25])
    restored.restore(parts.state())
    for model in (parts, restored):
        model.update(x[25:], action[25:], reward[25:])
    assert parts.predict(x) == pytest.approx(whole.predict(x))
    assert np.array_equal(parts.predict(x), restored.predict(x))


def test_a_state_of_another_width_is_refused():
    with pytest.raises(ValueError, match="this one is unchanged"):
        RewardModel(2, 3).restore(RewardModel(2, 4).state())


def test_no_shrinkage_is_refused():
    with pytest.raises(ValueError, match="ridge is 0"):
        RewardModel(2, 2, ridge=0.0)
