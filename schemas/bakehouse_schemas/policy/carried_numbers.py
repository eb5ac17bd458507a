"""Squashed numbers of one box, as those of another: what is answered stays, in the game's units."""

from __future__ import annotations

import numpy as np

from bakehouse_schemas.policy.network import Array

# how near to a bound the middle of an answer may be brought, in half ranges: at the bound itself
# nothing could vary
NEAREST = 1e-3
_SPREAD = (np.exp(-10.0), np.exp(2.0))  # as a network may say it


def between_boxes(
    mean: Array, std: Array, answered: tuple[Array, Array], bounds: tuple[Array, Array]
) -> tuple[Array, Array]:
    """Mean and spread before squashing, such that the middle of the answer is the same number.

    `m + h·tanh(z)`, z ~ N(mean, std), has its median at `m + h·tanh(mean)` and there the slope
    `h·(1 − tanh²)`; both are kept, the median within the new bounds. So the answer is the same to
    first order in std. Numbers whose bounds are the same stay as they are, to the last bit.

    Args:
        mean, std: of each number before squashing. float64 `[B, d]`
        answered, bounds: low and high, of before and of now. `[d]` each
    """
    (low, high), (least, most) = answered, bounds
    half, half_now = (high - low) / 2, (most - least) / 2
    at = np.tanh(mean)
    value = (high + low) / 2 + half * at
    place = (value - (most + least) / 2) / half_now
    place = np.clip(place, NEAREST - 1.0, 1.0 - NEAREST)
    slope = half * (1.0 - at * at) / (half_now * (1.0 - place * place))
    same = (low == least) & (high == most)
    return (
        np.where(same, mean, np.arctanh(place)),
        np.where(same, std, np.clip(std * slope, *_SPREAD)),
    )
