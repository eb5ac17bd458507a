"""Categorical Q-learning's own: the support, the projection, and what folds into one layer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bakehouse_learner.agents.common.categorical import project, support_of
from bakehouse_learner.agents.common.duelling import Duelling
from bakehouse_learner.training.agent import Setup
from bakehouse_learner.training.normaliser import static_normaliser
from bakehouse_learner.training.tensorflow_setup import tf
from bakehouse_schemas.application.application import Bandit, Episodic
from bakehouse_schemas.errors import BundleCorrupt
from bakehouse_schemas.policy.policy import Head, Policy
from tests.small_worlds import application_for


def _support(problem: Bandit | Episodic) -> np.ndarray:
    application = application_for("c51", problem=problem)
    normaliser = static_normaliser(application.encoder.bounds())
    assert normaliser is not None
    return support_of(Setup(application, normaliser, 0))


def test_the_support_reaches_as_far_as_a_return_may() -> None:
    assert _support(Bandit())[[0, 25, 50]].tolist() == [-10, 0, 10]
    assert _support(Episodic(discount=0.9))[-1] == pytest.approx(20)
    assert _support(Episodic(discount=0.9, n_step=2))[-1] == pytest.approx(10 + 1 / 0.19)
    assert _support(Episodic(discount=1.0))[-1] == 110


def test_a_return_is_shared_between_its_neighbours() -> None:
    support = np.array([-1.0, 0.0, 1.0], np.float32)
    found = project(
        tf.constant([[0.5, 0.5], [1.0, 0.0]]), tf.constant([[0.25, -9.0], [1.0, 0.0]]), support
    )
    np.testing.assert_allclose(found, [[0.5, 0.375, 0.125], [0.0, 0.0, 1.0]], atol=1e-6)


@settings(deadline=None)
@given(st.lists(st.floats(-10, 10, width=32), min_size=4, max_size=4))
def test_projection_keeps_mass_and_mean_inside_the_support(returns: list[float]) -> None:
    support = np.linspace(-10, 10, 51, dtype=np.float32)
    probability = np.array([[0.1, 0.2, 0.3, 0.4]], np.float32)
    found = project(tf.constant(probability), tf.constant([returns], tf.float32), support).numpy()
    assert found.sum() == pytest.approx(1, abs=1e-5)
    assert found[0] @ support == pytest.approx(float(probability[0] @ returns), abs=1e-4)


@pytest.mark.parametrize("split", [True, False])
def test_a_duelling_layer_folds_into_one_dense_layer(split: bool) -> None:
    layer, rng = Duelling(3, 5, split=split), np.random.default_rng(0)
    x = rng.normal(size=(20, 8)).astype(np.float32)
    layer(x)
    for variable in layer.trainable_weights:
        variable.assign(rng.normal(size=variable.shape))
    weight, bias = layer.folded()
    assert weight.shape == (8, 15)
    np.testing.assert_allclose(x @ weight + bias, layer(x), rtol=1e-5, atol=1e-5)


def test_the_value_is_the_mean_over_actions() -> None:
    layer, rng = Duelling(3, 1, split=True), np.random.default_rng(1)
    x = rng.normal(size=(20, 8)).astype(np.float32)
    layer(x)
    for variable in layer.trainable_weights:
        variable.assign(rng.normal(size=variable.shape))
    value = x[:, :4] @ layer.value_kernel.numpy() + layer.value_bias.numpy()
    np.testing.assert_allclose(np.mean(layer(x), axis=1), value[:, 0], rtol=1e-4, atol=1e-5)


def _policy(**changes: np.ndarray) -> Policy:
    arrays = {
        "normaliser_offset": np.zeros(1),
        "normaliser_scale": np.ones(1),
        "normaliser_clip": np.array(10.0),
        "w0": np.zeros((1, 4)),
        "b0": np.log([1.0, 3.0, 1.0, 1.0]),
        "support": np.array([-2.0, 2.0]),
    } | changes
    operations = [{"op": "dense", "weight": "w0", "bias": "b0"}]
    return Policy(operations=operations, head=Head(kind="c51"), arrays=arrays, actions=2)


def test_a_c51_head_scores_the_expected_return() -> None:
    # ¼ · −2 + ¾ · 2 = 1, and ½ · −2 + ½ · 2 = 0
    scores = _policy().scores(np.zeros((1, 1), np.float32))
    np.testing.assert_allclose(scores, [[1.0, 0.0]], atol=1e-6)


def test_a_support_that_does_not_fit_is_refused() -> None:
    with pytest.raises(BundleCorrupt, match="4 numbers come from the network for 2 actions"):
        _policy(support=np.array([-1.0, 0.0, 1.0]))
    with pytest.raises(BundleCorrupt, match="support"):
        _policy(support=np.array([0.0, 1e38]))
