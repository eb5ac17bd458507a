"""The SavedModel kept for audit answers what the bundle answers, masks included."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bakehouse_learner.agents.common.saved_model import save_model
from bakehouse_learner.training.tensorflow_setup import tf
from tests.small_worlds import DISCRETE, application_for, learn, lessons, policy_of, untrained


@pytest.mark.parametrize("name", DISCRETE)
def test_the_saved_model_chooses_as_the_bundle_under_every_mask(name: str, tmp_path: Path) -> None:
    agent, rng = untrained(name), np.random.default_rng(0)
    for _ in range(10):
        learn(agent, lessons(name, rng, 400), rng)
    folder = tmp_path / "3"
    for _ in range(2):  # the second replaces the first
        save_model(folder, agent, application_for(name))  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["3"]

    observation = rng.uniform(-1, 1, (70, 3)).astype(np.float32)
    masks = np.array([[m >> a & 1 for a in range(3)] for m in range(1, 8)], bool)
    eligible = np.tile(masks, (10, 1))
    answer = tf.saved_model.load(str(folder)).signatures["serving_default"]
    scores = answer(observation=tf.constant(observation), eligible=tf.constant(eligible))
    found = scores["scores"].numpy()
    policy = policy_of(agent, 3)
    assert np.all(np.isneginf(found[~eligible]))
    np.testing.assert_allclose(
        found[eligible], policy.scores(observation)[eligible], rtol=1e-5, atol=1e-5
    )
    if agent.export().head.kind == "thompson":
        return  # its distribution weighs how sure it is, not the scores alone
    chosen = policy.distribution(observation, eligible).argmax(axis=1)
    np.testing.assert_array_equal(found.argmax(axis=1), chosen)
