"""Decided again out of the log: exactly what serving answered, of every kind and by everyone."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bakehouse_schemas.application.application import Agent, Application, Discrete, Rollout, minutes
from bakehouse_schemas.application.exploration import (
    AgentsOwn,
    EpsilonGreedy,
    Gaussian,
    Softmax,
    Thompson,
)
from bakehouse_schemas.application.observation import Numeric
from bakehouse_schemas.application.reward import Reward
from bakehouse_schemas.decisions.decide import Answer, Asked, answer, answer_one, check
from bakehouse_schemas.decisions.recompute import Recomputed, recompute, recorded_policy
from bakehouse_schemas.decisions.slot import Slot, version_zero
from bakehouse_schemas.errors import NotRecomputable
from bakehouse_schemas.events.events import DecisionRequest
from bakehouse_schemas.ids import uuid7, uuid7_time_ms
from bakehouse_schemas.policy.bundle import LoadedPolicy, Manifest
from bakehouse_schemas.policy.policy import Head, Policy
from bakehouse_schemas.policy.scores import TOGETHER
from tests.fakes import publish_policy
from tests.shapes import SPACES, items, rules

NOW_MS = uuid7_time_ms(uuid7())
FEATURES = [Numeric(f"f{n}", low=-3, high=3) for n in range(20)]
# head, exploration and agent of everything that answers somewhere
CASES: dict[str, tuple[str, str, Any, str]] = {
    "argmax": ("discrete", "argmax", EpsilonGreedy(0.1), "dqn"),
    "softmax over scores": ("discrete", "argmax", Softmax(0.3), "dqn"),
    "softmax": ("discrete", "softmax", AgentsOwn(), "ppo"),
    "linear": ("discrete", "linear", EpsilonGreedy(0.1), "lin_ucb"),
    "thompson": ("discrete", "thompson", Thompson(), "lin_ts"),
    "c51": ("discrete", "c51", EpsilonGreedy(0.1), "c51"),
    "described labels": ("discrete", "argmax", Softmax(0.3), "dqn"),
    "gaussian": ("continuous", "gaussian", Gaussian(0.1), "td3"),
    "tanh_gaussian": ("continuous", "tanh_gaussian", AgentsOwn(), "sac"),
    "parts": ("parts", "parts", AgentsOwn(), "ppo"),
    "ranking": ("ranking", "plackett_luce", EpsilonGreedy(0.1), "rank"),
}
every_case = pytest.mark.parametrize("case", CASES)
LABELS = ("a", "b", "c", "d")


def application_of(case: str, **changes: Any) -> Application:
    kind, _, exploration, agent = CASES[case]
    given_: dict[str, Any] = {
        "name": "exam",
        "observation": FEATURES,
        "actions": SPACES[kind],
        "reward": Reward({"won": 1.0}, window=minutes(1)),
        "baseline": (lambda _: "b") if kind == "discrete" else rules(kind),
        "agent": Agent(agent),
        "exploration": exploration,
        "rollout": Rollout(holdout=0.0),
    }
    if case == "described labels":
        weights = {label: [float(at), 1.0 - at / 2] for at, label in enumerate(LABELS)}
        given_["actions"] = Discrete(*LABELS, features=weights)
    return Application(**given_ | changes)


def policy_of(case: str, application: Application, version: int = 7) -> LoadedPolicy:
    """A policy with hidden layers and random weights, so that its scores are rounded."""
    kind, head, exploration, agent = CASES[case]
    rng, shape = np.random.default_rng(3), application.shape
    described = kind == "ranking" or case == "described labels"
    inputs = application.encoder.size + (shape.features if described else 0)
    outputs = {
        "c51": 11 * shape.choices,
        "gaussian": 2 * shape.dims,
        "tanh_gaussian": 2 * shape.dims,
        "parts": shape.choices + 2 * shape.dims,
        "plackett_luce": 1,
    }.get(head, 1 if described else shape.choices)
    arrays: dict[str, np.ndarray] = {
        "normaliser_offset": np.zeros(application.encoder.size),
        "normaliser_scale": np.ones(application.encoder.size),
        "normaliser_clip": np.array(5.0),
    }
    if described:
        arrays |= {"item_offset": np.zeros(shape.features), "item_scale": np.ones(shape.features)}
        arrays["item_clip"] = np.array(100.0)
    if isinstance(application.actions, Discrete) and described:
        arrays["action_features"] = application.actions.feature_array()
    operations: list[dict[str, Any]] = []
    widths = [inputs, 33, 64] + ([] if head in ("linear", "thompson") else [outputs])
    for at, (before, after) in enumerate(pairwise(widths)):
        arrays[f"w{at}"] = rng.normal(size=(before, after)) / np.sqrt(before)
        arrays[f"b{at}"] = rng.normal(size=after) / 10
        operations.append({"op": "dense", "weight": f"w{at}", "bias": f"b{at}"})
        if after != widths[-1] or head in ("linear", "thompson"):
            operations.append({"op": ("relu", "gelu")[at % 2]})
    if head in ("linear", "thompson"):
        root = rng.normal(size=(shape.choices, 65, 65)) / 20
        arrays["theta"] = rng.normal(size=(shape.choices, 65))
        arrays["inverse"] = root @ root.transpose(0, 2, 1)
    if head == "c51":
        arrays["support"] = np.linspace(-1, 1, 11)
    manifest = Manifest(
        application="exam", contract=application.contract, version=version, lineage="one",
        anchor=0, agent=agent, actions=list(application.actions.choices),
        shape=shape.described(), operations=operations,
        head=Head(kind=head, alpha=0.5 if head == "linear" else 0.0),  # type: ignore[arg-type] # one of its kinds
        exploration=exploration.after(1 << 40), seed=0, replay_version=1, stream_time_ms=1,
        created_at_ms=1, experiences=1, new_experiences=1, new_outcomes_received_at_ms=[],
    )  # fmt: skip
    policy = Policy(
        operations=operations,
        head=manifest.head,
        arrays={name: array.astype(np.float32) for name, array in arrays.items()},
        actions=shape,
    )
    return LoadedPolicy(manifest, policy)


APPLICATIONS = {case: application_of(case) for case in CASES}
POLICIES = {case: policy_of(case, application) for case, application in APPLICATIONS.items()}


def asked(application: Application, seed: int, **request: Any) -> Asked:
    rng = np.random.default_rng(seed)
    given_: dict[str, Any] = {
        "subject_id": f"player-{seed}",
        "context": {feature.name: float(rng.normal()) for feature in FEATURES},
    }
    if application.shape.kind == "ranking":
        given_["items"] = items(5)
    return check(
        application, DecisionRequest(**given_ | request), decision_id=uuid7(NOW_MS), now_ms=NOW_MS
    )


def again(application: Application, made: Answer, policy: LoadedPolicy | None) -> Recomputed:
    """Out of the bytes that were logged."""
    return recompute(
        application, orjson.loads(orjson.dumps(made.event)), policy if made.policy_version else None
    )


def check_same(application: Application, made: Answer, found: Recomputed) -> None:
    event = made.event
    assert found.action == made.action
    assert found.propensity == made.propensity
    assert found.explored == made.explored
    if application.shape.kind == "discrete":
        executed = dict(zip(LABELS, found.executed.tolist(), strict=True))
        assert {k: v for k, v in executed.items() if v > 0} == event["action_probabilities"]
    elif found.sure:
        assert event["density"] == {"kind": "point"}
    else:
        assert list(found.factors) == event["density"]["factors"]


@st.composite
def requests(draw: st.DrawFn, application: Application) -> dict[str, Any]:
    """What a request may add: fewer choices, fewer items, a baseline of the game's own."""
    kind, names = application.shape.kind, list(application.actions.choices)
    more: dict[str, Any] = {}
    if kind == "ranking":
        more["items"] = items(draw(st.integers(1, 5)))
        names = [one["id"] for one in more["items"]]
    if kind != "continuous" and draw(st.booleans()):
        excluded = draw(st.sets(st.sampled_from(names)))
        groups = [names[:3], names[3:]] if kind == "parts" else [names]
        kept = [name for group in groups for name in group if name not in excluded]
        if all(any(name in kept for name in group) for group in groups):
            more["eligible_actions"] = kept
    if kind == "discrete" and draw(st.booleans()):
        more["baseline_action"] = draw(st.sampled_from(names))
    return more


@every_case
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_decision_comes_out_again_as_it_was_logged_whoever_answered(
    case: str, data: st.DataObject
) -> None:
    application, policy = APPLICATIONS[case], POLICIES[case]
    changes = data.draw(
        st.sampled_from([{}, {"rollout": Rollout(holdout=0.9)}, {"mode": "logging_only"}])
    )
    application = replace(application, **changes)
    slot = data.draw(
        st.sampled_from(
            [
                version_zero(application),
                Slot(policy, policy.manifest.exploration),
                Slot(policy, policy.manifest.exploration, canary=0.5),
                Slot(policy, policy.manifest.exploration, killed=True),
            ]
        )
    )
    one = asked(application, data.draw(st.integers(0, 999)), **data.draw(requests(application)))
    draw = data.draw(st.integers(0, (1 << 53) - 1)) / (1 << 53)
    made = answer_one(application, slot, one, draw, now_ms=NOW_MS)
    check_same(application, made, again(application, made, policy))


@every_case
@pytest.mark.parametrize("size", [2, 7, TOGETHER, TOGETHER + 1, 3 * TOGETHER])
def test_a_batch_answers_each_as_alone_to_the_last_bit(case: str, size: int) -> None:
    application, policy = APPLICATIONS[case], POLICIES[case]
    slot = Slot(policy, policy.manifest.exploration)
    several = [asked(application, seed) for seed in range(size)]
    draws = np.random.default_rng(1).random(size).tolist()
    made = answer(application, slot, several, draws, now_ms=NOW_MS)
    for one, draw, answered in zip(several, draws, made, strict=True):
        alone = answer_one(application, slot, one, draw, now_ms=NOW_MS)
        assert answered.event == alone.event
        check_same(application, answered, again(application, answered, policy))


def test_a_thousand_scores_at_once_may_differ_in_their_last_bits_only() -> None:
    policy = POLICIES["softmax"].policy
    x = np.random.default_rng(2).normal(size=(1_000, 20)).astype(np.float32)
    alone = np.concatenate([policy.scores(row[None]) for row in x])
    np.testing.assert_allclose(policy.scores(x), alone, rtol=1e-4, atol=1e-5)


def test_a_baseline_that_failed_is_recomputed_as_the_uniform_choice_it_was() -> None:
    def broken(_: Any) -> str:
        raise KeyError("level")

    application = application_of("argmax", baseline=broken)
    made = answer_one(
        application, version_zero(application), asked(application, 1), 0.6, now_ms=NOW_MS
    )
    found = again(application, made, None)
    check_same(application, made, found)
    assert found.executed.tolist() == [0.25] * 4
    assert made.cohort == "fallback"


def test_what_the_policy_said_is_there_to_be_explained() -> None:
    """ε 0.1 of four labels, the floor below it: 0.9 + 0.1 / 4 on the best, 0.1 / 4 elsewhere."""
    application, policy = APPLICATIONS["argmax"], POLICIES["argmax"]
    one = asked(application, 5)
    made = answer_one(
        application, Slot(policy, policy.manifest.exploration), one, 0.5, now_ms=NOW_MS
    )
    found = again(application, made, policy)
    assert found.scores is not None
    best = int(found.scores.argmax())
    assert found.base_policy.probabilities[0].tolist() == [float(at == best) for at in range(4)]
    assert found.executed[best] == pytest.approx(0.925)
    assert np.delete(found.executed, best).tolist() == pytest.approx([0.025] * 3)
    assert found.row.tolist() == [LABELS.index(made.action)]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"contract": "another"}, "contract another"),
        ({"policy_version": 8}, "names policy 8; policy 7 was given"),
        ({"exploration": None}, "no exploration"),
        ({"exploration": {"kind": "guessing"}}, "exploration cannot be read"),
        ({"draw": None}, "no draw"),
        ({"observation": [0.5]}, "1 numbers; expected 20"),
        ({"eligible_actions": ["e"]}, "'e' is not an action"),
        ({"baseline_action": "e"}, "baseline_action 'e'"),
    ],
)
def test_a_log_that_does_not_say_enough_is_refused_with_what_is_missing(
    changed: dict[str, Any], said: str
) -> None:
    application, policy = APPLICATIONS["argmax"], POLICIES["argmax"]
    slot = Slot(policy, policy.manifest.exploration)
    made = answer_one(application, slot, asked(application, 1), 0.5, now_ms=NOW_MS)
    with pytest.raises(NotRecomputable, match=said):
        recompute(application, made.event | changed, policy)


def test_a_policy_that_was_cleaned_away_is_said_to_be_gone(tmp_path: Path) -> None:
    application = application_of("argmax")
    publish_policy(tmp_path, application, 3, favourite=0)
    found = recorded_policy(application, tmp_path, 3)
    assert found is not None
    assert found.version == 3
    assert recorded_policy(application, tmp_path, 2) is None
    assert recorded_policy(application, tmp_path, 0) is None
    slot = Slot(found, found.manifest.exploration)
    made = answer_one(application, slot, asked(application, 1), 0.5, now_ms=NOW_MS)
    with pytest.raises(NotRecomputable, match="names policy 3; none was given"):
        recompute(application, made.event, None)
