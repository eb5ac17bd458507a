"""A world fitted to past decisions: the players of a log, as far as the log knows them.

`bakehouse fit-world` writes one, and says how far to trust it; a page takes it as
`world = FittedWorld.load("world.npz")`. Contexts are those of the log. What an action is worth is
a network's answer (`bakehouse_schemas.policy.network`); what comes of it are outcomes that came of
it in the log, drawn so that the application's own reward of them is, on average, what the network
says.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bakehouse_schemas.application.actions import Continuous, Discrete
from bakehouse_schemas.application.application import Application
from bakehouse_schemas.application.observation import (
    Boolean,
    Categorical,
    Encoder,
    Feature,
    Numeric,
    Vector,
)
from bakehouse_schemas.errors import BakehouseError, BundleCorrupt, ContractMismatch
from bakehouse_schemas.execution.propensity import draw_action
from bakehouse_schemas.policy.bundle import read_arrays
from bakehouse_schemas.policy.network import Array, Operation, compile_network
from bakehouse_schemas.worlds.world import BanditWorld, Context, Happening

SCHEMA = "fitted-world.v1"
ALIKE = 64  # logged decisions, nearest in predicted reward, that an outcome is drawn from
STEEPEST, CLOSE = 700.0, 1e-6  # |t| whose exponential is still a float; of a mean, in its range
TOGETHER = 8_192  # rows of one run of the network
GRID, TRIES = 101, 256  # actions tried for the best: of one number, of several
Space = Discrete | Continuous
_FEATURES: dict[str, type[Any]] = {
    one.__name__: one for one in (Numeric, Categorical, Boolean, Vector)
}


class Fitted(NamedTuple):
    """What a fitted world is made of.

    Args:
        operations: a network of the normalised observation to the reward of every label; or of
            that and the action (`action_numbers`) to one reward.
        arrays: of the network, and `normaliser_offset`, `normaliser_scale` `[D]`,
            `normaliser_clip` `[]`.
        contexts: JSON of each logged decision's context, n of them.
        actions: what was done, as rows. float64 `[n, W]`
        outcomes: what came of it and after how many seconds.
        rewards: what that is under the application's reward. float64 `[n]`
    """

    application: str
    contract: str
    reward_rule: str  # `Reward.fingerprint`
    features: tuple[Feature, ...]
    space: Space
    operations: list[Operation]
    arrays: Mapping[str, Array]
    contexts: Sequence[str]
    actions: np.ndarray
    outcomes: Sequence[Sequence[Happening]]
    rewards: np.ndarray


class FittedWorld(BanditWorld):
    """Players as a log knows them.

    A label that was never tried is worth what the least of the others is, and a number outside
    those tried what the nearest of those is: so that nothing wins by being unknown.
    """

    def __init__(self, fitted: Fitted) -> None:
        self.fitted = fitted
        self._encoder = Encoder(fitted.features)
        self._network = compile_network(fitted.operations, fitted.arrays)
        self._labels = isinstance(fitted.space, Discrete)
        answers = len(fitted.arrays[fitted.operations[-1]["bias"]])
        self._per_label = self._labels and answers == len(fitted.space.choices)
        rewards, rows = fitted.rewards, fitted.actions
        groups = rows[:, 0].astype(int) if self._labels else np.zeros(len(rows), dtype=int)
        count = len(fitted.space.choices)
        self._members = [np.flatnonzero(groups == group) for group in range(count)]
        self.tried = np.array([len(members) for members in self._members])  # decisions, int [A]
        spans = [rewards[members] for members in self._members]
        self._least = np.array([span.min() if len(span) else math.nan for span in spans])
        self._most = np.array([span.max() if len(span) else math.nan for span in spans])
        self._range = rows.min(axis=0), rows.max(axis=0)
        observations = np.stack([self._encoder.encode(json.loads(t)) for t in fitted.contexts])
        predicted = self.predicted(observations, rows)
        for group, members in enumerate(self._members):
            self._members[group] = members[np.argsort(predicted[members], kind="stable")]
        self._sorted = [predicted[members] for members in self._members]
        self._last: tuple[Context, np.ndarray] | None = None
        self._options = self._tried_options()

    # -- what a world says -------------------------------------------------------------------

    def context(self, rng: np.random.Generator) -> dict[str, Any]:
        context: dict[str, Any] = json.loads(
            self.fitted.contexts[int(rng.integers(len(self.fitted.contexts)))]
        )
        return context

    def happenings(
        self, context: Context, action: Any, rng: np.random.Generator
    ) -> list[Happening]:
        """Outcomes of a logged decision like this one, drawn so that their mean is expected."""
        worth = self.expected_reward(context, action)
        group = 0
        if self._labels:
            group = int(self.fitted.space.row_of(action)[0])
            if not self.tried[group]:  # it is worth what the least of the others is
                group = int(np.nanargmin(self._worths(context)))
        members, predicted = self._members[group], self._sorted[group]
        size = ALIKE if self._labels else 4 * ALIKE
        while True:
            near = members[_around(predicted, worth, size)]
            if not self._labels and size < len(members):  # a quarter, nearest in action too
                near = self._closest(near, action, size // 4)
            chance = tilted(self.fitted.rewards[near], worth)
            if chance is not None:
                drawn = draw_action(chance, float(rng.random()))
                return list(self.fitted.outcomes[int(near[drawn])])
            if size >= len(members):  # beyond all by rounding alone
                rewards = self.fitted.rewards[members]
                return list(self.fitted.outcomes[int(members[np.abs(rewards - worth).argmin()])])
            size *= 4

    def expected_reward(self, context: Context, action: Any) -> float:
        row = self.fitted.space.row_of(action)
        if self._labels:
            return float(self._worths(context)[int(row[0])])
        return float(self.predicted(self._encoder.encode(context)[None], row[None])[0])

    def best_action(self, context: Context) -> Any:
        """The best label; of numbers, of a grid (one) or of points spread at random (several)."""
        if self._labels:
            return self.fitted.space.action_of(np.array([self._worths(context).argmax()]))
        observation = self._encoder.encode(context)
        worths = self.predicted(np.tile(observation, (len(self._options), 1)), self._options)
        return self.fitted.space.action_of(self._options[int(worths.argmax())])

    # -- arrays --------------------------------------------------------------------------------

    def predicted(self, observations: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Expected reward of actions: float32 `[n, D]` and rows `[n, W]` → float64 `[n]`."""
        if self._labels:
            at = np.arange(len(rows))
            return np.asarray(self.predicted_labels(observations)[at, rows[:, 0].astype(int)])
        numbers = action_numbers(self.fitted.space, np.clip(rows, *self._range))
        answer = self._answer(self._normalised(observations), numbers)
        return np.clip(answer, self._least[0], self._most[0])

    def predicted_labels(self, observations: np.ndarray) -> np.ndarray:
        """Expected reward of every label: float32 `[n, D]` → float64 `[n, A]`."""
        x, known = self._normalised(observations).astype(np.float32), self.tried > 0
        worths = np.full((len(x), len(known)), math.nan)
        answers = self._network(x) if self._per_label else self._label_by_label(x)
        worths[:, known] = np.clip(answers[:, known], self._least[known], self._most[known])
        unknown = self.tried == 0
        worths[:, unknown] = np.min(worths[:, ~unknown], axis=1, keepdims=True)
        return worths

    def check(self, application: Application) -> None:
        """Raise ContractMismatch unless it was fitted for this application as it is now."""
        again = (
            "take its line out of the page, fit it again with `bakehouse fit-world`, and put the "
            "line back; nothing was loaded"
        )
        if application.contract != self.fitted.contract:
            raise ContractMismatch(
                f"the world was fitted to {self.fitted.application!r} of contract "
                f"{self.fitted.contract}, and {application.name!r} is of {application.contract}: "
                f"its observation or actions are others; {again}"
            )
        if application.reward.fingerprint != self.fitted.reward_rule:
            raise ContractMismatch(
                f"the world was fitted under another reward than {application.name!r} has now, so "
                f"what it says actions are worth would not be what their outcomes earn; {again}"
            )

    # -- on disk -------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write one file; whole, or not at all."""
        fitted = self.fitted
        said = {
            "schema": SCHEMA,
            "application": fitted.application,
            "contract": fitted.contract,
            "reward_rule": fitted.reward_rule,
            "features": [{"feature": type(f).__name__} | vars(f) for f in fitted.features],
            "actions": {"kind": fitted.space.kind, "described": fitted.space.described()},
            "operations": fitted.operations,
        }
        outcomes = [json.dumps([tuple(one) for one in each]) for each in fitted.outcomes]
        columns: dict[str, Any] = {
            "said": _bytes(json.dumps(said)),
            "contexts": _bytes("\n".join(fitted.contexts)),
            "outcomes": _bytes("\n".join(outcomes)),
            "actions": fitted.actions,
            "rewards": fitted.rewards,
        }
        columns |= {f"network/{name}": array for name, array in fitted.arrays.items()}
        whole = io.BytesIO()
        np.savez_compressed(whole, **columns)
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.partial")
        aside.write_bytes(whole.getvalue())
        aside.replace(path)

    @classmethod
    def load(cls, path: str | Path, application: Application | None = None) -> FittedWorld:
        """The world in a file that `save` wrote.

        Args:
            application: for which it must have been fitted. A page need not say: whatever loads
                the page checks its world.

        Raises:
            BundleCorrupt: there is no such file, or it is no fitted world.
            ContractMismatch: it was fitted for another contract or reward.
        """
        try:
            world = cls(_read(read_arrays(Path(path))))
        except (ValueError, KeyError, TypeError, IndexError, BakehouseError) as error:
            raise BundleCorrupt(
                f"{path} is no fitted world that can be read ({type(error).__name__}: {error}; "
                f"looked from {Path.cwd()}); expected a file that `bakehouse fit-world` wrote"
            ) from error
        if application is not None:
            world.check(application)
        return world

    # -- inside --------------------------------------------------------------------------------

    def _worths(self, context: Context) -> np.ndarray:
        """Of every label; callers ask for one label after another, so the last is kept."""
        if self._last is None or self._last[0] != context:
            observation = self._encoder.encode(context)[None]
            self._last = dict(context), self.predicted_labels(observation)[0]
        return self._last[1]

    def _normalised(self, observations: np.ndarray) -> np.ndarray:
        arrays = self.fitted.arrays
        scaled = (observations - arrays["normaliser_offset"]) * arrays["normaliser_scale"]
        return np.asarray(np.clip(scaled, -arrays["normaliser_clip"], arrays["normaliser_clip"]))

    def _label_by_label(self, x: np.ndarray) -> np.ndarray:
        """A network of context and label together, asked for every label: → `[n, A]`."""
        count = len(self.tried)
        together = max(TOGETHER // count, 1)  # contexts of one run of the network
        found = [np.zeros((0, count))]
        for start in range(0, len(x), together):
            some = x[start : start + together]
            labels = np.tile(np.arange(count), len(some))[:, None]
            numbers = action_numbers(self.fitted.space, labels)
            answer = self._answer(np.repeat(some, count, axis=0), numbers)
            found.append(answer.reshape(len(some), count))
        return np.concatenate(found)

    def _answer(self, x: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        both = np.concatenate([x, numbers], axis=1).astype(np.float32)
        return np.asarray(self._network(both)[:, 0], dtype=np.float64)

    def _closest(self, near: np.ndarray, action: Any, count: int) -> np.ndarray:
        """Of logged decisions, those whose numbers are nearest to an action's."""
        rows = np.stack([self.fitted.space.row_of(action), *self.fitted.actions[near]])
        scaled = action_numbers(self.fitted.space, rows)
        apart = np.sum((scaled[1:] - scaled[0]) ** 2, axis=1)
        return near[np.argsort(apart, kind="stable")[:count]]

    def _tried_options(self) -> np.ndarray:
        low, high = self._range
        if len(low) == 1:
            return np.linspace(low, high, GRID)
        spread = np.random.default_rng(0).random((TRIES, len(low)))
        return np.asarray(low + spread * (high - low))


def action_numbers(space: Space, rows: np.ndarray) -> np.ndarray:
    """Actions as the network sees them: labels one-hot `[n, A]`, numbers in [−1, 1] `[n, d]`."""
    shape = space.shape
    if isinstance(space, Discrete):
        return np.asarray(np.eye(shape.choices, dtype=np.float32)[rows[:, 0].astype(int)])
    middle, half = (shape.low + shape.high) / 2, (shape.high - shape.low) / 2
    return np.asarray((rows - middle) / half, dtype=np.float32)


def tilted(rewards: np.ndarray, mean: float) -> np.ndarray | None:
    """Probabilities, nearest to equal ones, under which rewards have this mean. float64 `[k]`

    Of all that have it, those of least divergence from equal ones are `∝ exp(t·r)` (Csiszár 1975,
    "I-divergence geometry of probability distributions"); t by Newton's steps within a bracket.
    None where the mean is outside the rewards.
    """
    least, most = float(rewards.min()), float(rewards.max())
    if not least <= mean <= most:
        return None
    if mean in (least, most):
        there = rewards == mean
        return np.asarray(there / there.sum())
    scaled, wanted = (rewards - least) / (most - least), (mean - least) / (most - least)
    t, lower, upper = 0.0, -STEEPEST, STEEPEST
    for _ in range(60):
        chance = np.exp(t * scaled - max(t, 0.0))
        chance /= chance.sum()
        reached = float(chance @ scaled)
        if abs(reached - wanted) < CLOSE:
            break
        lower, upper = (t, upper) if reached < wanted else (lower, t)
        variance = float(chance @ scaled**2) - reached**2
        t += (wanted - reached) / max(variance, CLOSE)
        if not lower < t < upper:
            t = (lower + upper) / 2
    return np.asarray(chance)


def _around(values: np.ndarray, value: float, size: int) -> slice:
    """The `size` of sorted values that lie around a value, float `[n]`."""
    start = int(np.searchsorted(values, value)) - size // 2
    start = max(min(start, len(values) - size), 0)
    return slice(start, start + size)


def _bytes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), dtype=np.uint8)


def _read(arrays: dict[str, np.ndarray]) -> Fitted:
    said = json.loads(arrays["said"].tobytes())
    if said["schema"] != SCHEMA:
        raise ValueError(f"its schema is {said['schema']!r:.40}, expected {SCHEMA!r}")
    features = []
    for given in said["features"]:
        features.append(_FEATURES[given.pop("feature")](**given))
    contexts, outcomes = (
        arrays[n].tobytes().decode().split("\n") for n in ("contexts", "outcomes")
    )
    rewards, actions = arrays["rewards"], arrays["actions"]
    space = _space(**said["actions"])
    sizes = {len(contexts), len(outcomes), len(rewards), len(actions)}
    if sizes == {0} or len(sizes) != 1 or actions.shape[1:] != (space.shape.width,):
        raise ValueError(f"its columns are of {sorted(sizes)} rows, expected one number above 0")
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds values that are not finite")
    return Fitted(
        said["application"], said["contract"], said["reward_rule"], tuple(features), space,
        said["operations"],
        {n.removeprefix("network/"): a for n, a in arrays.items() if n.startswith("network/")},
        contexts, actions, [[Happening(a, n, v) for a, n, v in json.loads(t)] for t in outcomes],
        rewards,
    )  # fmt: skip


def _space(kind: str, described: Any) -> Space:
    if kind == "continuous":
        return Continuous(**described)
    if isinstance(described, Mapping):
        return Discrete(*described, features=described)
    return Discrete(*described)
