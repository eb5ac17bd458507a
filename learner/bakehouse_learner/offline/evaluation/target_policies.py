"""Which policy is meant by `17`, `champion`, `baseline` or `random`, and what would it do?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bakehouse_learner.replay.ring import Ring
from bakehouse_schemas.application.application import Application
from bakehouse_schemas.application.exploration import NONE, Exploration
from bakehouse_schemas.contracts.contract import contract_of
from bakehouse_schemas.contracts.known import KnownContracts
from bakehouse_schemas.errors import BakehouseError, BundleError
from bakehouse_schemas.execution.base_policy import BasePolicy, baseline_policy
from bakehouse_schemas.execution.propensity import propensities
from bakehouse_schemas.policy.bundle import LoadedPolicy
from bakehouse_schemas.policy.load_carried import load_policy
from bakehouse_schemas.policy.policy import Policy

EVERYTHING = Exploration(kind="epsilon_greedy", epsilon=1.0)  # all choices, all of a box, alike


class Target(NamedTuple):
    """A policy that may be judged by a log of another one."""

    name: str  # as it was asked for
    words: str
    version: int | None  # None: no published policy
    base_policy: Callable[[Ring, np.ndarray], BasePolicy]  # of the contexts in these slots, int [n]
    exploration: Exploration
    learned_until_ms: int | None  # stream time of what it has learned from; None: nothing


def propensity(target: Target, ring: Ring, slots: np.ndarray) -> np.ndarray:
    """Probability or density that a target gives resident decisions' actions. float64 `[n]`"""
    rows = _rows(ring.action[slots])
    return _propensity(target, target.base_policy(ring, slots), ring, slots, rows)


def distribution(target: Target, ring: Ring, slots: np.ndarray) -> np.ndarray:
    """What a target gives every label in the contexts of resident decisions. float64 `[n, A]`"""
    base_policy = target.base_policy(ring, slots)
    each = [
        _propensity(target, base_policy, ring, slots, np.full((len(slots), 1), label))
        for label in range(ring.eligible.shape[1])
    ]
    return np.stack(each, axis=1)


def find_target(
    name: str,
    application: Application,
    policies: Path,
    *,
    champion: int | None = None,
    greedy: bool = False,
) -> Target:
    """The policy of that name.

    Args:
        name: a version, `champion`, `baseline` or `random`.
        policies: the folder of the application's bundles.
        champion: the version that answers; the newest bundle where it is not known.
        greedy: published policies without their exploration; else as they are executed.

    Raises:
        BakehouseError: there is no such policy, its bundle cannot be used, or it is to be greedy
            in numbers, of which no log holds the very same.
    """
    first = application.exploration.after(0)
    numbers = application.shape.dims > 0
    if greedy and numbers:
        raise BakehouseError(
            f"{application.name!r} decides on numbers: no log holds the very number that a policy "
            "would choose, so policies can be judged as they are executed only, without --greedy"
        )
    if name == "random":
        return Target(name, "every eligible action alike", None, _nothing, EVERYTHING, None)
    if name == "baseline":
        how = _described(first) if numbers else "without exploration"
        exploration = first if numbers else NONE
        return Target(name, f"the game's rules, {how}", None, _baseline(first), exploration, None)
    if name == "champion":
        version = champion if champion is not None else newest_version(policies)
    elif name.isdecimal():
        version = int(name)
    else:
        raise BakehouseError(
            f"policy {name!r}: expected a version such as 17, or champion, baseline or random"
        )
    base_policy, exploration, until = _baseline(first), first, None
    if version > 0:
        loaded = _load(policies, version, application)
        exploration, until = loaded.manifest.exploration, loaded.manifest.stream_time_ms
        base_policy = _published(loaded.policy, NONE if greedy else exploration)
    how = "without its exploration" if greedy else f"as it is executed, {_described(exploration)}"
    words = f"policy {version}, {how}"
    return Target(name, words, version, base_policy, NONE if greedy else exploration, until)


def newest_version(policies: Path) -> int:
    """The highest version in the folder of bundles; 0 where there is none."""
    return max((int(p.name) for p in policies.glob("[0-9]*") if p.name.isdecimal()), default=0)


def _load(policies: Path, version: int, application: Application) -> LoadedPolicy:
    folder = policies / str(version)
    if not folder.is_dir():
        newest = newest_version(policies)
        there = f"the newest there is {newest}" if newest else "there is none"
        raise BundleError(f"policy {version} is not in {policies}; {there}")
    known = KnownContracts(policies.parent.parent)
    return load_policy(
        folder,
        application=application.name,
        contract=contract_of(application),
        sha256=None,
        known=lambda contract: known.of(application.name, contract),
    )


def _described(exploration: Exploration) -> str:
    """`with exploration 0.1 and floor 0.01`"""
    named = {
        "exploration": exploration.epsilon or None,
        "spread": exploration.std,
        "temperature": exploration.temperature,
        "floor": exploration.floor or None,
    }
    given = [f"{name} {value:g}" for name, value in named.items() if value is not None]
    return f"with {' and '.join(given)}" if given else "with its own randomness"


def _propensity(
    target: Target, base_policy: BasePolicy, ring: Ring, slots: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    return propensities(ring.shape, base_policy, ring.eligible[slots], rows, target.exploration)


def _rows(actions: np.ndarray) -> np.ndarray:
    """Labels' positions `[n]` as rows `[n, 1]`; other actions are rows already."""
    return actions[:, None] if actions.ndim == 1 else actions


def _published(
    policy: Policy, exploration: Exploration
) -> Callable[[Ring, np.ndarray], BasePolicy]:
    temperature = exploration.temperature if exploration.kind == "softmax" else None

    def base_policy(ring: Ring, slots: np.ndarray) -> BasePolicy:
        if len(slots) == 0:
            return _nothing(ring, slots)
        items = ring.items[slots] if ring.shape.kind == "ranking" else None
        return policy.base_policy(
            ring.observation[slots], ring.eligible[slots], items, temperature=temperature
        )

    return base_policy


def _baseline(first: Exploration) -> Callable[[Ring, np.ndarray], BasePolicy]:
    """The game's rules; uniform where they have no answer, or a label that is not eligible.

    Args:
        first: exploration of version 0, whose spread a number has around the rules' own.
    """

    def base_policy(ring: Ring, slots: np.ndarray) -> BasePolicy:
        rows = _rows(ring.baseline[slots])
        known = ring.has_baseline[slots].copy()
        if ring.labels:
            known &= ring.eligible[slots, np.maximum(ring.baseline[slots], 0)]
        found = baseline_policy(ring.shape, np.where(known[:, None], rows, 0), first)
        uniform = _nothing(ring, slots)
        return BasePolicy(
            np.where(known[:, None], found.probabilities, uniform.probabilities),
            np.where(known[:, None], found.mean, uniform.mean),
            np.where(known[:, None], found.std, uniform.std),
        )

    return base_policy


def _nothing(ring: Ring, slots: np.ndarray) -> BasePolicy:
    """No preference: choices alike; numbers in the middle of their box, and as wide as it."""
    shape, eligible = ring.shape, ring.eligible[slots]
    probabilities = np.zeros(eligible.shape)
    for start, stop in shape.segments or ((0, shape.choices),):
        count = np.maximum(eligible[:, start:stop].sum(axis=1, keepdims=True), 1)
        probabilities[:, start:stop] = eligible[:, start:stop] / count
    numbers = (len(slots), shape.dims)
    middle, wide = (shape.low + shape.high) / 2, shape.high - shape.low
    return BasePolicy(
        probabilities, np.broadcast_to(middle, numbers).copy(), np.broadcast_to(wide, numbers)
    )
