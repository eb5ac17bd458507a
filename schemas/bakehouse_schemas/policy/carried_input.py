"""What a new observation is to a network that was made for another: a linear map, exact where it
can be.

The network must see of every feature that is left what it has always seen: the old offsets and
scales stay, and dimensions are put where it expects them. A feature that is gone is fed its
default, else the middle of its range; one that is new is not looked at.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bakehouse_schemas.application.observation import Boolean, Categorical, Feature, Numeric, Vector
from bakehouse_schemas.contracts.change import FeatureChange, same_feature
from bakehouse_schemas.errors import ContractMismatch
from bakehouse_schemas.policy.network import Array

MOST_TERMS = 1 << 22  # of a map: beyond it a set of buckets is as good as another


class InputMap(NamedTuple):
    """`seen = normalised(new) @ M + constant`, M of few terms.

    Args:
        offset, scale: of the new observation's normaliser; the clip stays. float32 `[D']`
        new, old, factor: `M[new, old] = factor`, one entry for each. int, int, float64 `[T]`
        constant: of what no new dimension says. float64 `[D]`
        notes: what is not as it was, in words.
    """

    offset: Array
    scale: Array
    new: Array
    old: Array
    factor: Array
    constant: Array
    notes: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether the network sees the new observation as it is."""
        sizes = len(self.offset) == len(self.constant) == len(self.new)
        return bool(
            sizes
            and np.array_equal(self.new, np.arange(len(self.new)))
            and np.array_equal(self.old, self.new)
            and np.all(self.factor == 1.0)
            and not self.constant.any()
        )

    def after(self, other: InputMap) -> InputMap:
        """The map of this observation followed by another."""
        return InputMap(
            np.concatenate([self.offset, other.offset]),
            np.concatenate([self.scale, other.scale]),
            np.concatenate([self.new, other.new + len(self.offset)]),
            np.concatenate([self.old, other.old + len(self.constant)]),
            np.concatenate([self.factor, other.factor]),
            np.concatenate([self.constant, other.constant]),
            self.notes + other.notes,
        )

    def folded(self, weight: Array, bias: Array) -> tuple[Array, Array]:
        """A first layer that does it: `[D, H]`, `[H]` → `[D', H]`, `[H]`."""
        wide = weight.astype(np.float64)
        mapped = np.zeros((len(self.offset), weight.shape[1]))
        np.add.at(mapped, self.new, self.factor[:, None] * wide[self.old])
        return mapped.astype(np.float32), (bias + self.constant @ wide).astype(np.float32)

    def matrix(self) -> Array:
        """M itself. float32 `[D', D]`

        Raises:
            ContractMismatch: it would be too large to be a layer of its own.
        """
        if len(self.offset) * len(self.constant) > 16 * MOST_TERMS:
            raise ContractMismatch(
                f"observations of {len(self.constant)} and {len(self.offset)} numbers are too long "
                "to carry a policy of this kind over"
            )
        mapped = np.zeros((len(self.offset), len(self.constant)))
        np.add.at(mapped, (self.new, self.old), self.factor)
        return mapped.astype(np.float32)


def unchanged(size: int) -> InputMap:
    """The map that changes nothing of numbers that are normalised elsewhere."""
    every = np.arange(size)
    ones = np.ones(size, np.float32)
    return InputMap(0 * ones, ones, every, every, np.ones(size), np.zeros(size), ())


class _Normal:
    """The old normaliser, number by number."""

    def __init__(self, arrays: Mapping[str, Array], name: str) -> None:
        self.offset = arrays[f"{name}_offset"].astype(np.float32)
        self.scale = arrays[f"{name}_scale"].astype(np.float32)
        self.clip = float(arrays[f"{name}_clip"])

    def of(self, at: slice, value: float | Sequence[float]) -> Array:
        scaled = (np.asarray(value, np.float64) - self.offset[at]) * self.scale[at]
        return np.asarray(np.clip(scaled, -self.clip, self.clip))


def input_map(
    before: Sequence[Feature],
    after: Sequence[Feature],
    changes: Sequence[FeatureChange],
    arrays: Mapping[str, Array],
    name: str,
) -> InputMap:
    """How to read `after` for a network that reads `before`.

    Args:
        changes: what `contracts.change.compare` says of the features.
        name: of the normaliser's arrays, `normaliser` or `item`.

    Raises:
        ContractMismatch: the map would be too large.
    """
    normal = _Normal(arrays, name)
    size, width = sum(f.size for f in after), len(normal.offset)
    offset, scale = np.zeros(size, np.float32), np.ones(size, np.float32)
    constant = np.zeros(width)
    terms: list[tuple[int, int, float]] = []
    notes: list[str] = []
    there = _places(after)
    said = {change.name: change for change in changes}
    for was, old in _places(before).values():
        found = there.get(was.name)
        if found is None or not same_feature(was, found[0]):
            constant[old] = _absent(was, normal, old)
            notes.append(
                f"feature {was.name!r} is gone: the policy is given {_stand_in(was)} in its place"
            )
            continue
        now, new = found
        if not _same_set(was, now):
            assert isinstance(was, Categorical)
            assert isinstance(now, Categorical)
            unit = min(1.0, normal.clip)  # a one must come through the clip
            off, on = normal.of(old, 0.0), normal.of(old, 1.0)
            constant[old] = off
            scale[new] = unit
            shares, approximate = _shares(was, now)
            for at, to, share in shares:
                terms.append((new.start + at, old.start + to, share * (on[to] - off[to]) / unit))
            if approximate:
                notes.append(f"feature {was.name!r}, {said[was.name].words}: {approximate}")
            continue
        offset[new], scale[new] = normal.offset[old], normal.scale[old]
        terms += [(new.start + at, old.start + at, 1.0) for at in range(was.size)]
    for change in changes:
        if change.what in ("added", "replaced"):
            notes.append(f"feature {change.name!r} is new: the policy does not look at it")
    terms.sort()
    columns = np.array(terms, dtype=np.float64).reshape(-1, 3)
    return InputMap(
        offset,
        scale,
        columns[:, 0].astype(np.int64),
        columns[:, 1].astype(np.int64),
        columns[:, 2],
        constant,
        tuple(notes),
    )


def _places(features: Sequence[Feature]) -> dict[str, tuple[Feature, slice]]:
    places, at = {}, 0
    for feature in features:
        places[feature.name] = (feature, slice(at, at + feature.size))
        at += feature.size
    return places


def _same_set(was: Feature, now: Feature) -> bool:
    """Whether a feature's numbers stand for the same, one by one."""
    if isinstance(was, Categorical) and isinstance(now, Categorical):
        return was.values == now.values and was.buckets == now.buckets
    return True


def _absent(feature: Feature, normal: _Normal, at: slice) -> Array:
    """What the network is given where a feature is gone: normalised, `[its size]`."""
    if isinstance(feature, (Numeric, Vector)):
        if feature.default is None:
            return np.zeros(feature.size)  # the middle of its range, or the mean of the first rows
        return normal.of(at, feature.default)
    off, on = normal.of(at, 0.0), normal.of(at, 1.0)
    if isinstance(feature, Boolean):
        share = 0.5 if feature.default is None else float(feature.default)
        return np.asarray(off + share * (on - off))
    shares = np.full(feature.size, 1.0 / feature.size)
    if feature.default is not None:
        shares = np.eye(feature.size)[_position(feature, feature.default)]
    return np.asarray(off + shares * (on - off))


def _stand_in(feature: Feature) -> str:
    if feature.default is not None:
        return f"its default, {feature.default!r:.60},"
    if isinstance(feature, (Numeric, Vector)):
        return "the middle of its range"
    return "the mean of its values"


def _position(feature: Categorical, value: str) -> int:
    if feature.values is not None:
        return list(feature.values).index(value)
    return zlib.crc32(f"{feature.name}={value}".encode()) % feature.size


def _shares(was: Categorical, now: Categorical) -> tuple[list[tuple[int, int, float]], str]:
    """(new place, old place, share) of what each new category was before, and in words what is
    only about right; empty where all is exact.

    A label that the policy never saw by itself is read as the mean of those it knows.
    """
    evenly = [(to, 1.0 / was.size) for to in range(was.size)]
    of: list[list[tuple[int, float]]] = []
    words = ""
    if now.values is not None:
        for value in now.values:
            known = was.values is None or value in was.values
            of.append([(_position(was, value), 1.0)] if known else evenly)
        if was.values is not None and set(now.values) - set(was.values):
            words = "a new value is read as the mean of those the policy knows"
    elif was.values is not None:
        for at in range(now.size):
            inside = [to for to, v in enumerate(was.values) if _position(now, v) == at]
            of.append([(to, 1.0 / len(inside)) for to in inside] or evenly)
        words = "a bucket is read as the mean of the known values in it, else of all"
    else:
        # a hash that is `at` modulo the new number and `to` modulo the old: such there are only
        # where both agree modulo what divides them, and then equally many of each
        common = math.gcd(was.size, now.size)
        if common < was.size:
            words = "a bucket is read as the mean of those its labels were in before; about right"
        if now.size * (was.size // common) > MOST_TERMS:
            raise ContractMismatch(
                f"feature {was.name!r}: {was.size} and {now.size} buckets have too little in "
                "common to read one as the other"
            )
        for at in range(now.size):
            of.append([(to, common / was.size) for to in range(at % common, was.size, common)])
    found = [(at, to, share) for at, shares in enumerate(of) for to, share in shares]
    if len(found) > MOST_TERMS:
        raise ContractMismatch(
            f"feature {was.name!r}: {was.size} and {now.size} categories are too many to read one "
            "as the other"
        )
    return found, words
