"""What a log says of a decision that is no label, and what is read back of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from bakehouse_schemas.application.exploration import Exploration
from bakehouse_schemas.application.shape import Shape
from bakehouse_schemas.execution.base_policy import (
    BasePolicy,
    half_range,
    middle,
    with_exploration_spread,
)
from bakehouse_schemas.execution.bounded_normal import LARGEST_SQUASHED
from bakehouse_schemas.execution.propensity import Executed


def logged_density(
    shape: Shape, base_policy: BasePolicy, exploration: Exploration, executed: Executed
) -> dict[str, Any]:
    """What a log must say, beside exploration and draw, to recompute a decision that is no label.

    `base_policy_from_density` reads it back.
    """
    base_policy = with_exploration_spread(shape, base_policy, exploration)
    described: dict[str, Any] = {"factors": list(executed.factors)}
    if shape.kind == "ranking":
        described |= {"kind": "plackett_luce", "worths": base_policy.probabilities[0].tolist()}
        return described
    if shape.segments:
        described["probabilities"] = base_policy.probabilities[0].tolist()
    if shape.dims:
        described |= {
            "kind": "tanh_normal" if base_policy.squashed else "truncated_normal",
            "mean": base_policy.mean[0].tolist(),
            "std": base_policy.std[0].tolist(),
        }
        if base_policy.squashed:
            numbers = executed.row[len(shape.segments) :]
            ratio = np.clip((numbers - middle(shape)) / half_range(shape), -1.0, 1.0)
            with np.errstate(divide="ignore"):
                z = np.arctanh(ratio)
            described["before_squashing"] = np.clip(z, -LARGEST_SQUASHED, LARGEST_SQUASHED).tolist()
    described.setdefault("kind", "categorical")
    return described


POINT = {"kind": "point"}  # no draw: the one action, for sure


def base_policy_from_density(shape: Shape, density: dict[str, Any]) -> BasePolicy:
    """The distribution that a decision was drawn from, out of its log.

    Raises:
        KeyError, TypeError, ValueError: the log is not of this shape.
    """
    weights = density["worths"] if shape.kind == "ranking" else density.get("probabilities")
    probabilities = np.ones(1) if weights is None else np.array(weights, dtype=np.float64)
    mean = np.array(density.get("mean", ()), dtype=np.float64)
    std = np.array(density.get("std", ()), dtype=np.float64)
    sizes = (probabilities.shape, mean.shape, std.shape)
    if sizes != ((shape.choices,), (shape.dims,), (shape.dims,)):
        raise ValueError(
            f"the density has {sizes[0]} probabilities, {sizes[1]} means and {sizes[2]} spreads; "
            f"expected ({shape.choices},), ({shape.dims},) and ({shape.dims},)"
        )
    return BasePolicy(
        probabilities[None], mean[None], std[None], squashed=density["kind"] == "tanh_normal"
    )
