"""How an observation is normalised before a network sees it, within bounds whatever comes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bakehouse_schemas.application.observation import FLOAT32_MAX
from bakehouse_schemas.errors import BundleCorrupt
from bakehouse_schemas.policy.network import Array, refuse_unbounded


class BoundedNormaliser:
    """`clip((x − offset) · scale)` over the last dimension, bounded whatever comes.

    Args:
        name: of its arrays, `<name>_offset [D]`, `<name>_scale [D]` and `<name>_clip []`.
    """

    def __init__(self, arrays: Mapping[str, Array], name: str) -> None:
        try:
            self._offset = arrays[f"{name}_offset"].astype(np.float32)
            self._scale = arrays[f"{name}_scale"].astype(np.float32)
            clip = arrays[f"{name}_clip"].astype(np.float32)
        except KeyError as error:
            raise BundleCorrupt(f"the normaliser's array {error} is missing") from None
        if self._offset.ndim != 1 or self._scale.shape != self._offset.shape or clip.shape != ():
            raise BundleCorrupt(
                f"the normaliser's offset {self._offset.shape}, scale {self._scale.shape} and clip "
                f"{clip.shape} do not fit; expected (D,), (D,) and ()"
            )
        if np.any(self._scale <= 0) or clip <= 0:
            raise BundleCorrupt("the normaliser's scale and clip must be above 0")
        # a clip that lies beyond float32 lies beyond every context, and must not overflow
        reach = np.minimum(clip / self._scale, np.float32(FLOAT32_MAX / 2))
        self._least = np.maximum(self._offset - reach, np.float32(-FLOAT32_MAX))
        self._most = np.minimum(self._offset + reach, np.float32(FLOAT32_MAX))
        ends = self.apply(np.stack([self._least, self._most]))
        # rounding is monotone, so nothing between the ends leaves them: [D]
        self.farthest = np.abs(ends).max(axis=0).astype(np.float64)
        refuse_unbounded(self.farthest, "normalised observation")

    @property
    def size(self) -> int:
        return len(self._offset)

    def apply(self, values: Array) -> Array:
        """float32 `[…, D]` → `[…, D]`."""
        # clipped before it is scaled: a context near float32's limit must not overflow
        x: Array = np.maximum(values, self._least)
        np.minimum(x, self._most, out=x)
        x -= self._offset
        x *= self._scale
        return x
