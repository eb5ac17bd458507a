"""Forty numbers that three would say: fitted, frozen, served, watched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bakehouse_learner.agents import build_agent
from bakehouse_learner.gate.policy_version import policy_of
from bakehouse_learner.learning import Learning
from bakehouse_learner.replay.row_decoder import RowDecoder
from bakehouse_learner.training.agent import Setup
from bakehouse_learner.training.autoencoder import Compressor, compressor_from, fit_compressor
from bakehouse_learner.training.normaliser import static_normaliser
from bakehouse_schemas.application.application import Application, Discrete, Training
from bakehouse_schemas.application.compression import Compression
from bakehouse_schemas.application.observation import Numeric, Vector
from bakehouse_schemas.errors import ApplicationError
from tests.learner_fakes import GAME
from tests.replay_rows import T0, arrow, decision
from tests.small_worlds import application_for, learn, share_of_tastes, tastes

SPEC = Compression(size=4, hidden=32, rows=600, steps=800)
MIXING = np.random.default_rng(1).normal(size=(3, 40)).astype(np.float32) / 3
WIDE = Vector("signals", length=40, low=-1, high=1)


def observed(latent: np.ndarray) -> np.ndarray:
    """Three numbers as forty: mixed, bent, and kept in their bounds. float32 `[n, 40]`"""
    return np.tanh(latent @ MIXING).astype(np.float32)


def latents(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (n, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def fitted() -> Compressor:
    return fit_compressor(SPEC, observed(latents(2_000)), seed=0)


def test_what_three_numbers_say_is_kept_by_a_code_of_four(fitted: Compressor) -> None:
    assert fitted.lost < 0.05
    later = fitted.lost_of(observed(latents(500, seed=9)))
    assert later.mean() == pytest.approx(fitted.lost, abs=0.02)
    assert np.abs(fitted.encode(observed(latents(50)))).max() <= 1.0


def test_rows_that_are_like_no_others_are_rebuilt_badly(fitted: Compressor) -> None:
    strange = np.random.default_rng(0).uniform(-1, 1, (200, 40)).astype(np.float32)
    assert fitted.lost_of(strange).mean() > 5 * fitted.lost


def test_the_same_rows_and_seed_give_the_same_code_and_it_survives_a_checkpoint() -> None:
    spec = replace(SPEC, steps=50)
    one, two = (fit_compressor(spec, observed(latents(700)), seed=3) for _ in range(2))
    again = compressor_from(one.state())
    values = observed(latents(20, seed=5))
    for other in (two, again):
        np.testing.assert_array_equal(one.encode(values), other.encode(values))
    assert (again.spread, again.lost) == (one.spread, one.lost)


@pytest.mark.parametrize("name", ["lin_ucb", "neural_greedy"])
def test_an_agent_learns_behind_the_code_and_its_policy_begins_with_it(
    name: str, fitted: Compressor
) -> None:
    application = application_for(name, feature=WIDE)
    normaliser = static_normaliser(application.encoder.bounds())
    assert normaliser is not None
    agent = build_agent(Setup(application, normaliser, 0, fitted))
    rng = np.random.default_rng(2)
    rows = tastes(rng, 3_000)
    wide = rows._replace(observation=observed(rows.observation))
    for _ in range(25):
        learn(agent, wide, rng)
    policy = policy_of(agent.export(), 3)
    assert policy.dimensions == 40
    np.testing.assert_allclose(
        policy.scores(wide.observation), agent.scores(wide.observation), rtol=1e-5, atol=1e-5
    )

    class OfTastes:
        """The policy, asked with three numbers."""

        def distribution(self, observation: np.ndarray, eligible: np.ndarray) -> np.ndarray:
            return policy.distribution(observed(observation), eligible)

    assert share_of_tastes(OfTastes()) >= 0.8  # type: ignore[arg-type]


def compressed_game() -> Application:
    return replace(
        GAME,
        observation=[WIDE],
        actions=Discrete("left", "right"),
        baseline=lambda context: "left",
        training=Training(batch=32, steps=4, buffer=2_000),
        compression=replace(SPEC, rows=300, steps=200),
        agent=application_for("lin_ucb").agent,
    )


def rows_of(application: Application, values: np.ndarray, *, at_ms: int) -> Any:
    made = [
        decision(application, {"signals": row.tolist()}, "left", at_ms=at_ms + at, propensity=0.5)
        for at, row in enumerate(values)
    ]
    return RowDecoder(application).decode(arrow(made))


def trained(learning: Learning, plan: Callable[[int], Any], versions: range) -> None:
    for version in versions:
        learning.train(plan(version))


def test_the_learner_fits_it_once_watches_it_and_says_when_observations_have_changed() -> None:
    from bakehouse_learner.training.plan import Plan

    application = compressed_game()
    learning = Learning(application, build_agent)

    def plan(version: int) -> Plan:
        return Plan(version=version, replay_version=version, stream_time_ms=T0, seed=1, at_ms=T0)

    learning.ingest(rows_of(application, observed(latents(299)), at_ms=T0))
    assert learning.train(plan(1)) is None  # one row is missing
    learning.ingest(rows_of(application, observed(latents(300, seed=1)), at_ms=T0 + 1_000))
    trained(learning, plan, range(2, 4))
    status = learning.autoencoder.status()
    assert status is not None and not status["drifted"]
    assert status["lost_now"] < 0.3
    resumed = Learning(application, build_agent)
    resumed.restore(learning.state())
    assert resumed.lineage == learning.lineage
    strange = np.random.default_rng(0).uniform(-1, 1, (900, 40)).astype(np.float32)
    for each in (learning, resumed):
        each.ingest(rows_of(application, strange, at_ms=T0 + 2_000))
        trained(each, plan, range(4, 5))
        changed = each.autoencoder.status()
        assert changed is not None and changed["drifted"]
        assert changed["lost_when_fitted"] == status["lost_when_fitted"]  # it stays as it is


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Compression(size=0), "from 1 to"),
        (lambda: replace(GAME, compression=Compression(size=4)), "nothing to make smaller"),
        (
            lambda: replace(GAME, observation=[WIDE], compression=Compression(rows=3_000)),
            "never come together",
        ),
        (lambda: replace(GAME, observation=[Numeric("x")], compression=16), "expected Compression"),
    ],
)
def test_a_compression_that_cannot_be_is_answered_with_the_reason(
    make: Callable[[], object], words: str
) -> None:
    with pytest.raises(ApplicationError, match=words):
        make()
