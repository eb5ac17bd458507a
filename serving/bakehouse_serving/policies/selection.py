"""What should be in the slot: the learner's pointers under an operator's control. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bakehouse_schemas.application.application import Application
from bakehouse_schemas.decisions.slot import Slot, version_zero
from bakehouse_schemas.events.events import Control, PolicyPointer
from bakehouse_schemas.policy.bundle import LoadedPolicy

MOST_POINTERS = 200  # kept, by version


class Selection(NamedTuple):
    """The policy that should be served.

    Args:
        version: 0: the baseline mixed with exploration.
        source: the pointer that names its bundle; None: the folder of its number.
        published: the learner's pointer; None: an operator's pin.
    """

    version: int
    source: PolicyPointer | None
    published: PolicyPointer | None


class Pointers:
    """The pointers that the learner has published for an application; the caller locks."""

    def __init__(self) -> None:
        self.newest: PolicyPointer | None = None
        self.served: PolicyPointer | None = None  # the last one whose policy was put in the slot
        self._by_version: dict[int, PolicyPointer] = {}

    def add(self, pointers: Sequence[PolicyPointer]) -> None:
        """Take in what was published, oldest first."""
        self.newest = pointers[-1]
        for pointer in pointers:
            self._by_version[pointer.version] = pointer
        for version in sorted(self._by_version)[:-MOST_POINTERS]:
            del self._by_version[version]

    def of_version(self, version: int) -> PolicyPointer | None:
        """The pointer to a version, as far as it is kept."""
        return self._by_version.get(version)

    def select(self, control: Control) -> Selection:
        """A pin wins; where it is frozen, the pointer that is served stays; else the newest."""
        if control.pinned_version is not None:
            return Selection(control.pinned_version, self.of_version(control.pinned_version), None)
        pointer = self.served if control.frozen and self.served else self.newest
        return Selection(pointer.version if pointer else 0, pointer, pointer)


def slot_of(
    application: Application,
    policy: LoadedPolicy | None,
    control: Control,
    fresh: tuple[int, ...],
) -> Slot:
    """The slot of a policy under a control.

    Args:
        policy: None: version 0.
        fresh: broker times of the outcomes that are new in it, milliseconds since 1970.
    """
    if policy is None:
        return version_zero(application, killed=control.killed, explore_share=control.explore_share)
    manifest = policy.manifest
    # what an operator promotes answers everyone
    canary = manifest.canary if control.pinned_version is None else 1.0
    return Slot(policy, manifest.exploration, control.killed, fresh, canary, control.explore_share)
