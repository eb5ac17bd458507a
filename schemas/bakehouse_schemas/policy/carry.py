"""A policy of one contract, carried over to another: what stays is answered as before.

Within the vocabulary of `network.py`, and deterministic: whoever carries the same bundle from and
to the same contracts has the same policy, so a decision by it can be computed again. Nothing of it
is written down as a bundle.

Known labels keep their scores. A new label starts at the mean of the others; in a `linear` or
`thompson` head with the uncertainty that the agent has about what it knows nothing of. A label that
is gone cannot be chosen. Numbers stay what they were in the game's units, within the new bounds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from bakehouse_schemas.application.actions import Actions, Continuous, Discrete, Parts
from bakehouse_schemas.contracts.change import ContractChange, compare
from bakehouse_schemas.contracts.contract import Contract
from bakehouse_schemas.errors import BundleCorrupt, BundleError, ContractMismatch
from bakehouse_schemas.policy.bundle import LoadedPolicy
from bakehouse_schemas.policy.carried_input import InputMap, input_map, unchanged
from bakehouse_schemas.policy.network import Array, Operation
from bakehouse_schemas.policy.policy import Head, Policy

_BELIEVING = ("linear", "thompson")  # heads with θ and A⁻¹ of each label


class Carried(NamedTuple):
    """What a `Policy` of the new contract is made of.

    Args:
        notes: what is new, gone, or only about right, for people.
    """

    operations: list[Operation]
    head: Head
    arrays: dict[str, Array]
    notes: tuple[str, ...]


def carried(
    operations: Sequence[Operation],
    head: Head,
    arrays: Mapping[str, Array],
    before: Contract,
    after: Contract,
) -> Carried:
    """Carry what a policy is made of from one contract to another.

    Args:
        operations, head, arrays: as `Policy` takes them, of `before`.

    Raises:
        ContractMismatch: it cannot be carried, with the reasons.
        BundleCorrupt: arrays are missing, or do not fit `before`.
    """
    change = compare(before, after)
    if not change.policy_can_be_carried:
        raise ContractMismatch("; ".join(change.policy_obstacles))
    made = Carried(list(operations), head, dict(arrays), ())
    try:
        made = _read_anew(made, change)
        made = _answer_anew(made, change)
    except KeyError as error:
        raise BundleCorrupt(f"the policy's array {error} is missing") from None
    except (IndexError, ValueError) as error:
        raise BundleCorrupt(f"the policy does not fit its contract: {error}") from None
    return made


def carried_policy(loaded: LoadedPolicy, before: Contract, after: Contract) -> LoadedPolicy:
    """A policy that was loaded and checked for `before`, for `after`; `notes` says what is new.

    Its manifest stays, but for a floor that more labels would add up to more than it allows.

    Raises:
        ContractMismatch: it cannot be carried, with the reasons.
        BundleCorrupt: what comes of it could answer no number.
    """
    version, manifest = loaded.version, loaded.manifest
    try:
        made = carried(manifest.operations, manifest.head, loaded.arrays, before, after)
        policy = Policy(
            operations=made.operations, head=made.head, arrays=made.arrays, actions=after.shape
        )
    except BundleError as error:
        raise type(error)(
            f"policy {version} was made for contract {before.fingerprint} and cannot be carried "
            f"over to {after.fingerprint}: {error}"
        ) from None
    more = after.shape.most_choices / max(before.shape.most_choices, 1)
    if more > 1:
        floor = manifest.exploration.floor / more
        manifest = manifest.model_copy(
            update={"exploration": manifest.exploration.model_copy(update={"floor": floor})}
        )
    return LoadedPolicy(manifest, policy, loaded.arrays, notes=made.notes)


def carried_over(policy: LoadedPolicy | None) -> dict[str, Any] | None:
    """Where a policy was made for another contract: for which, and what is not as it was. JSON"""
    if policy is None or not policy.carried:
        return None
    return {"made_for": policy.manifest.contract, "notes": list(policy.notes)}


# --- what the network is given


def _read_anew(made: Carried, change: ContractChange) -> Carried:
    arrays, before, after = made.arrays, change.before, change.after
    reads = input_map(before.features, after.features, change.features, arrays, "normaliser")
    arrays |= {"normaliser_offset": reads.offset, "normaliser_scale": reads.scale}
    if before.item_features:
        items = input_map(
            before.item_features, after.item_features, change.item_features, arrays, "item"
        )
        arrays |= {"item_offset": items.offset, "item_scale": items.scale}
        reads = reads.after(items)
    elif "action_features" in arrays:
        reads = reads.after(unchanged(len(arrays["item_offset"])))
    made = made._replace(notes=made.notes + reads.notes)
    return made if reads.same else _before_the_network(made, reads)


def _before_the_network(made: Carried, reads: InputMap) -> Carried:
    operations, arrays = made.operations, made.arrays
    if operations and operations[0]["op"] == "dense":
        first = operations[0]
        weight, bias = reads.folded(arrays[first["weight"]], arrays[first["bias"]])
        rest = operations[1:]
    else:
        weight, bias, rest = reads.matrix(), reads.constant.astype(np.float32), operations
    named = {"weight": "carried_first_weight", "bias": "carried_first_bias"}
    arrays |= {named["weight"]: weight, named["bias"]: bias}
    return made._replace(operations=[{"op": "dense", **named}, *rest])


# --- what it answers


def _answer_anew(made: Carried, change: ContractChange) -> Carried:
    before, after, notes = change.before.actions, change.after.actions, list(made.notes)
    arrays = made.arrays
    sources = _sources(before, after)
    labels = change.labels_added
    if "action_features" in arrays:
        arrays["action_features"], said = _features(before, after, arrays, sources)
        notes += said
    elif made.head.kind in _BELIEVING:
        _believe(arrays, sources)
        notes += [
            f"new label {label!r} starts at the mean of the others, with the uncertainty of a "
            "label that was never chosen (nothing learned yet)"
            for label in labels
        ]
    elif sources != [[at] for at in range(len(before.choices))]:
        made = _behind_the_network(made, before, after, sources)
        arrays = made.arrays
        notes += [
            f"new label {label!r} starts at the mean of the others (nothing learned yet)"
            for label in labels
        ]
    elif _numbers(before) != _numbers(after):
        made = _behind_the_network(made, before, after, sources)
        arrays = made.arrays
    notes += [f"label {label!r} is gone and is not chosen" for label in change.labels_removed]
    old, new = _boxes(before), _boxes(after)
    if any(old[at] != box for at, box in new.items()):
        arrays["answered_low"] = np.array([old[at][0] for at in new], np.float64)
        arrays["answered_high"] = np.array([old[at][1] for at in new], np.float64)
        notes.append("other bounds: the policy's numbers stay what they were, within the new ones")
    return made._replace(notes=tuple(notes))


def _sources(before: Actions, after: Actions) -> list[list[int]]:
    """Of which old choices each new one is the mean, in order."""
    if not isinstance(before, (Discrete, Parts)) or not before.shape.segments:
        return [[at] for at in range(len(before.choices))]
    if isinstance(before, Discrete):
        return [
            [at] if (at := before.position(label)) is not None else list(range(len(before)))
            for label in after.choices
        ]
    assert isinstance(after, Parts)
    starts = _starts(before)
    found = []
    for name, part in after.parts.items():
        if isinstance(part, Discrete):
            was = before.parts[name]
            found += [[starts[name] + at for at in one] for one in _sources(was, part)]
    return found


def _starts(parts: Parts) -> dict[str, int]:
    discrete = [name for name, part in parts.parts.items() if isinstance(part, Discrete)]
    return {name: start for name, (start, _) in zip(discrete, parts.shape.segments, strict=True)}


def _boxes(actions: Actions) -> dict[tuple[str, int], tuple[float, float]]:
    """Bounds of each number, by part and place, in order."""
    single = {"": actions} if isinstance(actions, Continuous) else {}
    parts = actions.parts if isinstance(actions, Parts) else single
    return {
        (name, at): bounds
        for name, part in parts.items()
        if isinstance(part, Continuous)
        for at, bounds in enumerate(zip(part.low, part.high, strict=True))
    }


def _numbers(actions: Actions) -> list[tuple[str, int]]:
    return list(_boxes(actions))


def _features(
    before: Actions, after: Actions, arrays: Mapping[str, Array], sources: Sequence[Sequence[int]]
) -> tuple[Array, list[str]]:
    """What describes each of the new actions, `[A', F]`, and what is to be said of it."""
    known = arrays["action_features"].astype(np.float64)
    assert isinstance(after, Discrete)
    assert isinstance(before, Discrete)
    new = after.feature_array()
    fresh = [label for label in after.labels if before.position(label) is None]
    if new is not None and new.shape[1] == known.shape[1]:
        return new, [f"new label {label!r} starts at what its features say" for label in fresh]
    found = np.array([known[one].mean(axis=0) for one in sources])
    said = [f"new label {label!r} is taken for the mean of the others" for label in fresh]
    return found.astype(np.float32), ["actions are described otherwise: as before", *said]


def _believe(arrays: dict[str, Array], sources: Sequence[Sequence[int]]) -> None:
    """θ and A⁻¹ of the new labels, in place.

    What an agent believes of a label that was never chosen is A⁻¹ = I/λ. λ is not in the bundle;
    no direction of any label's A⁻¹ is wider than 1/λ, and one that no row speaks of is as wide.
    """
    theta = arrays["theta"].astype(np.float64)
    inverse = arrays["inverse"].astype(np.float64)
    widest = max(
        float(np.linalg.eigvalsh(one)[-1]) for one in (inverse + inverse.swapaxes(1, 2)) / 2
    )
    prior = widest * np.eye(theta.shape[1])
    arrays["theta"] = np.array([theta[one].mean(axis=0) for one in sources], np.float32)
    arrays["inverse"] = np.array(
        [inverse[one[0]] if len(one) == 1 else prior for one in sources], np.float32
    )


def _behind_the_network(
    made: Carried, before: Actions, after: Actions, sources: Sequence[Sequence[int]]
) -> Carried:
    """Answers in the new order, those of new labels the mean of the others'."""
    operations, arrays = made.operations, made.arrays
    width = _width(operations, arrays)
    each = 1  # numbers that the network answers of one label
    if made.head.kind == "c51":
        each = len(arrays["support"])
    taken = [[at * each + of for at in one] for one in sources for of in range(each)]
    if made.head.kind in ("parts", "gaussian", "tanh_gaussian"):
        places = {at: place for place, at in enumerate(_numbers(before))}
        labels = len(before.choices) if before.shape.segments else 0
        taken = taken if labels else []
        blocks = (width - labels) // max(len(places), 1)  # means, then spreads where there are any
        for block in range(blocks):
            first = labels + block * len(places)
            taken += [[first + places[at]] for at in _numbers(after)]
    named = {"weight": "carried_last_weight", "bias": "carried_last_bias"}
    if operations[-1]["op"] == "dense":
        last = operations[-1]
        weight, bias = arrays[last["weight"]], arrays[last["bias"]]
        rest = operations[:-1]
        found = _columns(weight, taken), _columns(bias[None], taken)[0]
    else:
        rest = operations
        found = _columns(np.eye(width), taken), np.zeros(len(taken), np.float32)
    arrays |= {named["weight"]: found[0], named["bias"]: found[1]}
    return made._replace(operations=[*rest, {"op": "dense", **named}])


def _columns(weight: Array, taken: Sequence[Sequence[int]]) -> Array:
    """Each column the mean of some. float32 `[H, K']`"""
    wide = weight.astype(np.float64)
    return np.stack([wide[:, one].mean(axis=1) for one in taken], axis=1).astype(np.float32)


def _width(operations: Sequence[Operation], arrays: Mapping[str, Array]) -> int:
    """Numbers that the network answers."""
    for operation in reversed(operations):
        if "weight" in operation:
            return int(arrays[operation["weight"]].shape[-1])
    raise BundleCorrupt("the policy has no layer whose answers could be put in another order")
