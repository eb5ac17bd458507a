"""Which policy is meant by `17`, `champion`, `baseline` or `random`, and what would it do?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from schemas.application import Application
from schemas.bundle import LoadedPolicy, load_bundle
from schemas.errors import BakehouseError, BundleError
from schemas.propensity import executed_distribution

# observation float32 [n, D], eligible bool [n, A], baseline's action int [n] (−1: none) → [n, A]
Distribution = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


class Target(NamedTuple):
    """A policy that may be judged by a log of another one."""

    name: str  # as it was asked for
    words: str
    version: int | None  # None: no published policy
    distribution: Distribution
    learned_until_ms: int | None  # stream time of what it has learned from; None: nothing


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
        BakehouseError: there is no such policy, or its bundle cannot be used.
    """
    if name == "baseline":
        words = "the game's rules, without exploration"
        return Target(name, words, None, _baseline, None)
    if name == "random":
        return Target(name, "every eligible action alike", None, _uniform, None)
    if name == "champion":
        version = champion if champion is not None else newest_version(policies)
    elif name.isdecimal():
        version = int(name)
    else:
        raise BakehouseError(
            f"policy {name!r}: expected a version such as 17, or champion, baseline or random"
        )
    own: Distribution = _baseline
    until: int | None = None
    if version == 0:
        epsilon, floor = application.exploration.epsilon_after(0), application.exploration.floor
    else:
        loaded = _load(policies, version, application)
        exploration = loaded.manifest.exploration
        epsilon, floor = exploration.epsilon, exploration.floor
        own, until = _own(loaded), loaded.manifest.stream_time_ms
    if greedy:
        how, distribution = "without its exploration", own
    else:
        how = f"as it is executed, with exploration {epsilon:g} and floor {floor:g}"
        distribution = _explored(own, epsilon, floor)
    return Target(name, f"policy {version}, {how}", version, distribution, until)


def newest_version(policies: Path) -> int:
    """The highest version in the folder of bundles; 0 where there is none."""
    return max((int(p.name) for p in policies.glob("[0-9]*") if p.name.isdecimal()), default=0)


def _load(policies: Path, version: int, application: Application) -> LoadedPolicy:
    folder = policies / str(version)
    if not folder.is_dir():
        newest = newest_version(policies)
        there = f"the newest there is {newest}" if newest else "there is none"
        raise BundleError(f"policy {version} is not in {policies}; {there}")
    return load_bundle(
        folder,
        application=application.name,
        contract=application.contract,
        sha256=None,
        labels=application.actions.labels,
        dimensions=application.encoder.size,
    )


def _own(loaded: LoadedPolicy) -> Distribution:
    def distribution(
        observation: np.ndarray, eligible: np.ndarray, _baseline: np.ndarray
    ) -> np.ndarray:
        if len(observation) == 0:
            return np.zeros(eligible.shape)
        return loaded.policy.distribution(observation, eligible)

    return distribution


def _explored(own: Distribution, epsilon: float, floor: float) -> Distribution:
    def distribution(
        observation: np.ndarray, eligible: np.ndarray, baseline: np.ndarray
    ) -> np.ndarray:
        chosen = own(observation, eligible, baseline)
        executed = np.zeros(chosen.shape)
        for at in range(len(chosen)):
            executed[at] = executed_distribution(
                chosen[at], eligible[at], epsilon=epsilon, floor=floor
            )
        return executed

    return distribution


def _uniform(_observation: np.ndarray, eligible: np.ndarray, _baseline: np.ndarray) -> np.ndarray:
    return np.asarray(eligible / np.maximum(eligible.sum(axis=1, keepdims=True), 1))


def _baseline(observation: np.ndarray, eligible: np.ndarray, baseline: np.ndarray) -> np.ndarray:
    """Its action; uniform where it has none or one that is not eligible, as in serving."""
    distribution = _uniform(observation, eligible, baseline)
    rows = np.flatnonzero(baseline >= 0)
    rows = rows[eligible[rows, baseline[rows]]]
    distribution[rows] = 0.0
    distribution[rows, baseline[rows]] = 1.0
    return distribution
