"""A policy of one contract answers for another: what stays is answered as before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bakehouse_schemas.application.actions import Actions, Continuous, Discrete, Parts
from bakehouse_schemas.application.application import described_contract, fingerprint_of
from bakehouse_schemas.application.observation import (
    Boolean,
    Categorical,
    Encoder,
    Feature,
    Numeric,
    Vector,
)
from bakehouse_schemas.application.ranking import Ranking
from bakehouse_schemas.application.shape import Shape
from bakehouse_schemas.contracts.contract import Contract
from bakehouse_schemas.errors import ContractMismatch
from bakehouse_schemas.policy.carry import Carried, carried
from bakehouse_schemas.policy.policy import Head, Policy

BEFORE: tuple[Feature, ...] = (
    Numeric("skill", low=0, high=10),
    Categorical("country", buckets=4),
    Numeric("age", default=3.0),
    Categorical("segment", values=["new", "old", "lapsed"]),
    Boolean("payer"),
    Vector("days", 2, low=0, high=5),
)
# the same in another order, with more room, and with what the policy has never seen among them
AFTER: tuple[Feature, ...] = (
    Numeric("level", low=0, high=3),
    Vector("days", 2, low=0, high=50),
    Categorical("segment", values=["lapsed", "new", "old"]),
    Categorical("region", buckets=3),
    Categorical("country", buckets=8),
    Numeric("skill", low=0, high=20),
    Boolean("payer"),
    Numeric("age"),
)
LABELS = ("a", "b", "c", "d")
HEADS = ("argmax", "softmax", "linear", "thompson", "c51")
ATOMS = 5

contexts = st.fixed_dictionaries(
    {
        "skill": st.floats(-50, 50, width=32),
        "country": st.sampled_from(["de", "fr", "jp", "br", "us", "ke"]),
        "age": st.floats(-100, 100, width=32),
        "segment": st.sampled_from(["new", "old", "lapsed"]),
        "payer": st.booleans(),
        "days": st.lists(st.floats(-9, 60, width=32), min_size=2, max_size=2),
        "level": st.floats(0, 3, width=32),
        "region": st.sampled_from(["x", "y", "z"]),
    }
)


def contract(
    features: tuple[Feature, ...] = BEFORE,
    actions: Actions = Discrete(*LABELS),  # noqa: B008  # frozen
    problem: str = "bandit",
) -> Contract:
    found = fingerprint_of(described_contract(features, actions, problem))
    return Contract(found, features, actions, problem)


def normaliser(rng: np.random.Generator, size: int, name: str) -> dict[str, np.ndarray]:
    return {
        f"{name}_offset": rng.normal(size=size).astype(np.float32),
        f"{name}_scale": rng.uniform(0.05, 2, size).astype(np.float32),
        f"{name}_clip": np.array(5.0, np.float32),
    }


def made(head: str, of: Contract, seed: int, *, front: str = "dense") -> Carried:
    """A policy of random numbers: a network of one hidden layer, with the head behind it."""
    rng = np.random.default_rng(seed)
    shape, size = of.shape, of.encoder.size
    arrays = normaliser(rng, size, "normaliser")
    width = size
    if shape.kind == "ranking":
        arrays |= normaliser(rng, shape.features, "item")
        width += shape.features
    outputs = {"continuous": 2 * shape.dims, "ranking": 1}.get(shape.kind, shape.choices)
    if shape.kind == "parts":
        outputs += 2 * shape.dims
    if head == "c51":
        outputs *= ATOMS
        arrays["support"] = np.linspace(-1, 3, ATOMS).astype(np.float32)
    operations: list[dict[str, Any]] = []
    if front == "layer_norm":
        operations.append({"op": "layer_norm", "weight": "n", "bias": "m", "epsilon": 1e-3})
        arrays |= {"n": rng.normal(size=width).astype(np.float32), "m": np.zeros(width, np.float32)}
    for name, into, out in (("0", width, 7), ("1", 7, outputs)):
        if front == "none":
            break
        if head in ("linear", "thompson") and name == "1":
            break
        operations += [{"op": "dense", "weight": f"w{name}", "bias": f"b{name}"}, {"op": "relu"}]
        arrays[f"w{name}"] = rng.normal(size=(into, out)).astype(np.float32)
        arrays[f"b{name}"] = rng.normal(size=out).astype(np.float32)
        width = out
    if head in ("linear", "thompson"):
        roots = rng.normal(size=(shape.choices, 1 + width, 1 + width)) / 4
        arrays["theta"] = rng.normal(size=(shape.choices, 1 + width)).astype(np.float32)
        arrays["inverse"] = (roots @ roots.swapaxes(1, 2)).astype(np.float32)
    elif operations[-1]["op"] == "relu":
        operations.pop()
    return Carried(operations, Head(kind=head, alpha=0.7), arrays, ())  # type: ignore[arg-type]


def policy(of: Carried, shape: Shape) -> Policy:
    return Policy(operations=of.operations, head=of.head, arrays=of.arrays, actions=shape)


def moved(of: Carried, before: Contract, after: Contract) -> tuple[Policy, tuple[str, ...]]:
    found = carried(of.operations, of.head, of.arrays, before, after)
    return policy(found, after.shape), found.notes


def seen(of: Contract, context: Mapping[str, Any]) -> np.ndarray:
    return Encoder(of.features).encode(context)[None]


@pytest.mark.parametrize("front", ["dense", "layer_norm"])
@pytest.mark.parametrize("head", HEADS)
@given(context=contexts, seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_known_labels_keep_their_scores_whatever_the_head(
    head: str, front: str, context: dict[str, Any], seed: int
) -> None:
    before = contract()
    after = contract(AFTER, Discrete("d", "new", "a", "c"))
    was = made(head, before, seed, front=front)
    now, notes = moved(was, before, after)
    old = policy(was, before.shape).scores(seen(before, context))[0]
    new = now.scores(seen(after, context))[0]
    assert new[[2, 3, 0]] == pytest.approx(old[[0, 2, 3]], rel=1e-4, abs=1e-4)
    assert any("label 'b' is gone" in note for note in notes)
    if head in ("argmax", "softmax"):
        assert new[1] == pytest.approx(old.mean(), rel=1e-4, abs=1e-4)
    mask = np.array([[True, False, True, True]])
    probabilities = now.distribution(seen(after, context), mask)
    assert probabilities[0, 1] == 0
    assert probabilities.sum() == pytest.approx(1)


@pytest.mark.parametrize("head", ["linear", "thompson"])
def test_a_head_that_takes_the_observation_itself_is_carried_too(head: str) -> None:
    before, after = contract(), contract(AFTER)
    was = made(head, before, 1, front="none")
    now, _ = moved(was, before, after)
    context = {"skill": 3.0, "country": "de", "age": 20.0, "segment": "old", "payer": True}
    context |= {"days": [1.0, 2.0], "level": 1.0, "region": "x"}
    old = policy(was, before.shape).scores(seen(before, context))
    assert now.scores(seen(after, context)) == pytest.approx(old, rel=1e-4)


@pytest.mark.parametrize("head", ["linear", "thompson"])
def test_a_new_label_has_the_mean_of_the_others_and_the_width_of_what_is_unknown(head: str) -> None:
    before, after = contract(), contract(actions=Discrete(*LABELS, "new"))
    was = made(head, before, 3)
    prior = 0.5  # 1/λ: of a direction that no row has spoken of
    was.arrays["inverse"] = np.array([np.eye(8) * 0.1] * 4, np.float32)
    was.arrays["inverse"][2, 5, 5] = prior
    found = carried(was.operations, was.head, was.arrays, before, after)
    assert found.arrays["theta"][:4] == pytest.approx(was.arrays["theta"])
    assert found.arrays["theta"][4] == pytest.approx(was.arrays["theta"].mean(axis=0), rel=1e-5)
    assert found.arrays["inverse"][4] == pytest.approx(prior * np.eye(8))
    assert any("with the uncertainty" in note for note in found.notes)


def test_what_is_the_same_is_left_as_it_is_to_the_last_bit() -> None:
    before, after = contract(), contract((*BEFORE[:2], Numeric("age"), *BEFORE[3:]))
    was = made("argmax", before, 5)
    found = carried(was.operations, was.head, was.arrays, before, after)
    assert found.operations == was.operations
    assert {name: array.tolist() for name, array in found.arrays.items()} == {
        name: array.tolist() for name, array in was.arrays.items()
    }
    assert found.notes == ()


def test_a_policy_carried_twice_from_the_same_bundle_is_the_same_to_the_last_bit() -> None:
    before, after = contract(), contract(AFTER, Discrete("d", "new", "a", "c"))
    was = made("linear", before, 5)
    one, other = (
        carried(was.operations, was.head, was.arrays, before, after).arrays for _ in range(2)
    )
    assert {name: array.tobytes() for name, array in one.items()} == {
        name: array.tobytes() for name, array in other.items()
    }


def scores_of(features: tuple[Feature, ...], context: dict[str, Any]) -> tuple[Any, Any]:
    """Of one policy: before, and of its carried self, with another set of features."""
    before, after = contract(), contract(features)
    was = made("argmax", before, 11)
    now, notes = moved(was, before, after)
    old = policy(was, before.shape)
    return (
        lambda **more: old.scores(seen(before, context | more))[0],
        (now.scores(seen(after, context))[0], notes),
    )


CONTEXT = {"skill": 3.0, "country": "de", "age": 20.0, "segment": "old", "payer": True}
CONTEXT |= {"days": [1.0, 2.0]}


def replaced(feature: Feature) -> tuple[Feature, ...]:
    return tuple(feature if one.name == feature.name else one for one in BEFORE)


def without(name: str) -> tuple[Feature, ...]:
    return tuple(one for one in BEFORE if one.name != name)


def test_a_feature_that_is_gone_is_given_its_default() -> None:
    old, (new, notes) = scores_of(without("age"), CONTEXT)
    assert new == pytest.approx(old(age=3.0), rel=1e-4)
    assert notes == ("feature 'age' is gone: the policy is given its default, 3.0, in its place",)


def test_a_new_value_of_a_closed_set_is_read_as_the_mean_of_those_known() -> None:
    """A linear network, so that the mean of what it is given is the mean of its answers."""
    before = contract()
    after = contract(replaced(Categorical("segment", values=["new", "old", "lapsed", "vip"])))
    was = made("argmax", before, 2)
    linear = was._replace(operations=[one for one in was.operations if one["op"] == "dense"])
    now, notes = moved(linear, before, after)
    old = policy(linear, before.shape)
    known = [
        old.scores(seen(before, CONTEXT | {"segment": one})) for one in ("new", "old", "lapsed")
    ]
    new = now.scores(seen(after, CONTEXT | {"segment": "vip"}))
    assert new == pytest.approx(np.mean(known, axis=0), rel=1e-4)
    assert now.scores(seen(after, CONTEXT)) == pytest.approx(known[1], rel=1e-4)
    assert "the mean of those the policy knows" in notes[0]


def test_buckets_that_do_not_divide_are_read_about_right_and_it_is_said() -> None:
    _, (new, notes) = scores_of(replaced(Categorical("country", buckets=6)), CONTEXT)
    assert np.isfinite(new).all()
    assert "about right" in notes[0]
    _, (_, silent) = scores_of(replaced(Categorical("country", buckets=12)), CONTEXT)
    assert silent == ()


def test_buckets_become_values_each_of_which_was_in_a_bucket_that_is_known() -> None:
    old, (new, notes) = scores_of(replaced(Categorical("country", values=["fr", "de"])), CONTEXT)
    assert new == pytest.approx(old(), rel=1e-4)
    assert notes == ()


BOX = Continuous(low=[0, -5], high=[10, 5])
PARTS = Parts(
    {"mode": Discrete("x", "y"), "speed": Continuous(low=0, high=2), "help": Discrete("on", "off")}
)


def in_game_units(of: Policy, observation: np.ndarray) -> np.ndarray:
    found = of.base_policy(observation, np.ones((1, of.actions), bool))
    shape = of.shape
    if not found.squashed:
        return found.mean[0]
    return (shape.high + shape.low) / 2 + (shape.high - shape.low) / 2 * np.tanh(found.mean[0])


@pytest.mark.parametrize("head", ["gaussian", "tanh_gaussian"])
@given(context=contexts, seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_numbers_stay_what_they_were_in_the_games_units(
    head: str, context: dict[str, Any], seed: int
) -> None:
    before = contract(actions=BOX)
    after = contract(AFTER, Continuous(low=[0, -2], high=[40, 5]))
    was = made(head, before, seed)
    now, notes = moved(was, before, after)
    old = in_game_units(policy(was, before.shape), seen(before, context))
    new = in_game_units(now, seen(after, context))
    nearest = 1e-3 * np.array([20, 3.5])  # how near to a bound a squashed number may come
    expected = np.clip(old, [0, -2], [40, 5])
    assert np.all(np.abs(new - expected) <= (2e-3 if head == "gaussian" else nearest * 1.1))
    assert "other bounds" in notes[-1]


@given(context=contexts, seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_parts_are_carried_one_by_one(context: dict[str, Any], seed: int) -> None:
    before = contract(actions=PARTS)
    after = contract(
        AFTER,
        Parts(
            {
                "help": Discrete("off", "hint", "on"),
                "speed": Continuous(low=0, high=3),
                "mode": Discrete("x", "y"),
            }
        ),
    )
    was = made("parts", before, seed)
    now, notes = moved(was, before, after)
    old_policy = policy(was, before.shape)
    old = old_policy.scores(seen(before, context))[0]
    new = now.scores(seen(after, context))[0]
    # before: x y on off, mean, spread; after: off hint on x y, mean, spread
    assert new[[3, 4, 2, 0, 5, 6]] == pytest.approx(old, rel=1e-4, abs=1e-4)
    assert new[1] == pytest.approx(old[2:4].mean(), rel=1e-4, abs=1e-4)
    number = in_game_units(old_policy, seen(before, context))
    assert in_game_units(now, seen(after, context)) == pytest.approx(number, abs=2e-3)
    assert any("'help=hint'" in note for note in notes)


def test_items_are_read_anew_and_a_list_may_have_other_places() -> None:
    price, rare = Numeric("price", low=0, high=9), Boolean("rare")
    before = contract(actions=Ranking(k=2, item=[price, rare], most_items=4))
    wider = [Numeric("age", low=0, high=5, default=0), rare, Numeric("price", low=0, high=99)]
    after = contract(AFTER, Ranking(k=3, item=wider, most_items=6))
    was = made("plackett_luce", before, 4)
    now, _ = moved(was, before, after)
    items = [{"id": str(at), "price": float(at), "rare": at == 1} for at in range(3)]
    context = CONTEXT | {"level": 1.0, "region": "x"}

    def scores(of: Policy, under: Contract) -> np.ndarray:
        assert isinstance(under.actions, Ranking)
        encoded = under.actions.encode_items(items)[None]
        return of.scores(seen(under, context), encoded)[0, :3]

    old = scores(policy(was, before.shape), before)
    assert scores(now, after) == pytest.approx(old, rel=1e-4)


def test_actions_with_features_are_scored_by_them() -> None:
    """What was learned of features goes for a new action too."""
    before = contract(actions=Discrete("a", "b", features={"a": [0, 1], "b": [1, 0]}))
    after = contract(
        actions=Discrete("b", "c", "a", features={"a": [0, 1], "b": [1, 0], "c": [0, 1]})
    )
    rng = np.random.default_rng(0)
    size = before.encoder.size
    arrays = normaliser(rng, size, "normaliser") | normaliser(rng, 2, "item")
    arrays["action_features"] = np.array([[0, 1], [1, 0]], np.float32)
    arrays |= {"w": rng.normal(size=(size + 2, 1)).astype(np.float32), "b": np.ones(1, np.float32)}
    was = Carried([{"op": "dense", "weight": "w", "bias": "b"}], Head(kind="argmax"), arrays, ())
    now, notes = moved(was, before, after)
    old = policy(was, before.shape).scores(seen(before, CONTEXT))[0]
    new = now.scores(seen(after, CONTEXT))[0]
    assert new == pytest.approx([old[1], old[0], old[0]], rel=1e-5)
    assert notes == ("new label 'c' starts at what its features say",)


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        (contract(problem="episodic"), "the problem is episodic now"),
        (contract(actions=BOX), "actions are continuous now"),
        (contract(actions=Discrete("x", "y")), "none of the labels"),
        (contract((Numeric("other"),)), "no feature of the context is left"),
    ],
)
def test_what_cannot_be_carried_says_why(after: Contract, reason: str) -> None:
    was = made("argmax", contract(), 1)
    with pytest.raises(ContractMismatch, match=reason):
        carried(was.operations, was.head, was.arrays, contract(), after)
