"""A network of the application's own: trained by every agent, carried by a bundle, or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bakehouse_learner.agents.check_network import main
from bakehouse_learner.agents.common.keras_layers import built_layers
from bakehouse_learner.training.tensorflow_setup import tf
from bakehouse_schemas.errors import ApplicationError, UnsupportedOperation
from tests.small_worlds import (
    application_for,
    build,
    learn,
    policy_of,
    share_of_tastes,
    tastes,
)

keras = tf.keras.layers


def everything(inputs: int) -> Any:
    """One layer of each kind that a bundle carries."""
    return tf.keras.Sequential(
        [
            tf.keras.Input([inputs]),
            keras.Dense(12, activation="gelu"),
            keras.LayerNormalization(),
            keras.Dense(12, activation="swish"),
            keras.Dense(12),
            keras.LeakyReLU(0.2),
            keras.Dense(12, activation="selu"),
            keras.Dense(12, activation="elu"),
            keras.Dense(12, activation="tanh"),
            keras.Dense(12, activation="softplus"),
            keras.Dense(12),
            keras.ELU(),
            keras.Activation("sigmoid"),
            keras.ReLU(),
        ]
    )


def small(inputs: int) -> list[Any]:
    """What a person would write."""
    assert inputs == 3
    return [
        keras.Dense(32, activation="swish"),
        keras.LayerNormalization(),
        keras.Dropout(0.1),
        keras.Dense(32, activation="gelu"),
    ]


@pytest.mark.parametrize("name", ["dqn", "rainbow", "neural_linucb"])
def test_every_layer_of_the_vocabulary_is_exported_as_tensorflow_runs_it(name: str) -> None:
    agent, rng = build(application_for(name, network=everything)), np.random.default_rng(0)
    state = {
        key: array + rng.normal(0, 0.3, array.shape).astype(array.dtype)
        if key.startswith("network/")
        else array
        for key, array in agent.state().items()
    }
    agent.restore(state)
    if agent.learns_from_ring:
        agent.fit(tastes(rng, 400))
    observation = rng.uniform(-4, 4, (200, 3)).astype(np.float32)
    found = policy_of(agent, 3).scores(observation)
    np.testing.assert_allclose(found, agent.scores(observation), rtol=1e-5, atol=1e-5)
    assert np.ptp(found, axis=0).min() > 0.01


def test_a_network_of_ones_own_learns_and_its_dropout_goes_on_from_a_checkpoint() -> None:
    agent, rng = build(application_for("neural_greedy", network=small)), np.random.default_rng(1)
    rows = tastes(rng, 1_500)
    for _ in range(40):
        learn(agent, rows, rng)
    saved = {key: array.copy() for key, array in agent.state().items()}
    assert any(array.shape == () and array == 40 * 8 for array in saved.values())  # masks drawn
    ends = []
    for _ in range(2):
        agent.restore(saved)
        rng = np.random.default_rng(2)
        for _ in range(20):
            learn(agent, rows, rng)
        ends.append(agent.state())
    for key, array in ends[0].items():
        np.testing.assert_array_equal(array, ends[1][key], err_msg=key)
    assert share_of_tastes(policy_of(agent, 3)) >= 0.85
    np.testing.assert_array_equal(agent.scores(rows.observation), agent.scores(rows.observation))


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        ([keras.Dense(4), keras.GRU(4), keras.BatchNormalization()], "BatchNormalization, GRU"),
        ([keras.Dense(4, activation="exponential")], "the activation exponential"),
        ([keras.Dense(4, use_bias=False)], r"Dense\(use_bias=False\)"),
        ([keras.ReLU(max_value=6.0)], r"ReLU\(max_value=6.0\)"),
        ([keras.ELU(alpha=0.5)], r"ELU\(alpha="),
        ([keras.LayerNormalization(center=False)], r"LayerNormalization\(center=False\)"),
    ],
)
def test_layers_that_a_bundle_cannot_carry_are_refused_by_name(
    layers: list[Any], says: str
) -> None:
    with pytest.raises(UnsupportedOperation, match=says):
        built_layers(lambda _: layers, 3)


@pytest.mark.parametrize(
    ("builder", "says"),
    [
        (lambda inputs: inputs, "gave int; expected a tf.keras.Sequential"),
        (lambda inputs: [64, 64], "gave list; expected"),
        (lambda inputs: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_a_builder_that_makes_no_layers_is_refused(builder: Any, says: str) -> None:
    with pytest.raises(ApplicationError, match=says):
        built_layers(builder, 3)


PAGE = """
from bakehouse import Agent, Application, Discrete, Numeric, Reward, seconds

def network(inputs):
    import tensorflow as tf
    return [tf.keras.layers.Dense(8), tf.keras.layers.{layer}]

application = Application(
    name="game",
    observation=[Numeric("skill", low=0, high=1)],
    actions=Discrete("left", "right"),
    reward=Reward({{"won": 1.0}}, window=seconds(2)),
    baseline=lambda context: "left",
    agent=Agent("dqn", network=network),
)
"""


@pytest.mark.parametrize(
    ("layer", "status", "answer"),
    [
        ("ReLU()", 0, {"operations": ["dense", "relu"], "numbers": 16}),
        ("GRU(3)", 2, {"error": "UnsupportedOperation"}),
    ],
)
def test_check_says_what_the_network_is_or_what_is_missing(
    layer: str, status: int, answer: dict[str, Any], tmp_path: Path, capsys: Any
) -> None:
    page = tmp_path / "game.py"
    page.write_text(PAGE.format(layer=layer))
    assert main([str(page)]) == status
    found = json.loads(capsys.readouterr().out)
    assert found | answer == found
    if status == 2:
        assert "cannot carry GRU; it can carry dense, elu, gelu" in found["message"]


def test_sizes_and_a_network_together_are_refused() -> None:
    with pytest.raises(ApplicationError, match="either sizes of layers or a function"):
        application_for("dqn", hidden=[8], network=small)
