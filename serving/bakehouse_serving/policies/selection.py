"""What should be in the slot: the learner's pointers under an operator's control. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
        instead: the learner's pointer to serve, rather than version 0, where this one cannot be.
    """

    version: int
    source: PolicyPointer | None
    published: PolicyPointer | None
    instead: PolicyPointer | None = None

    def in_its_place(self) -> Selection:
        """What to serve where this cannot be, rather than version 0."""
        return _of(self.instead)


def _of(pointer: PolicyPointer | None, instead: PolicyPointer | None = None) -> Selection:
    return Selection(pointer.version if pointer else 0, pointer, pointer, instead)


def choose(
    newest: PolicyPointer | None,
    own: PolicyPointer | None,
    served: PolicyPointer | None,
    *,
    newest_is_own: bool,
) -> Selection:
    """Which of the learner's pointers a process of one contract serves.

    While parts roll from one contract to another, the learner may be of another than this process.
    Where it has published for this process's contract before, it has moved on (or back): what it
    says now is for others, and its last word to this contract stands. Where it never has, this
    process is ahead of it, and serves what there is, carried over.

    Args:
        newest: the last pointer of all.
        own: the last one that was published for this process's contract; None: none was, or the
            learner is of a release that does not say for which it publishes.
        served: the last one that was put in the slot.
        newest_is_own: whether `newest` was published for this process's contract.
    """
    if newest is None or own is None:
        return _of(newest or own)
    if newest_is_own:
        return _of(newest if newest.published_at_ms >= own.published_at_ms else own)
    # what was carried over here is newer: to go back to one's own would be a step back
    ahead = served is not None and served.published_at_ms > own.published_at_ms
    return _of(newest, own) if ahead else _of(own, newest)


class Pointers:
    """The pointers that the learner has published for an application; the caller locks.

    Args:
        contract: of this process.
    """

    def __init__(self, contract: str) -> None:
        self._contract = contract
        self.newest: PolicyPointer | None = None
        self.served: PolicyPointer | None = None  # the last one whose policy was put in the slot
        self._by_version: dict[int, PolicyPointer] = {}
        self._by_contract: dict[str, PolicyPointer] = {}  # the last one for each
        self._newest_is_own = True

    @property
    def own(self) -> PolicyPointer | None:
        """The last one for this process's contract."""
        return self._by_contract.get(self._contract)

    def add(
        self,
        pointers: Sequence[PolicyPointer],
        of_contracts: Mapping[str, PolicyPointer] | None = None,
        made_for: str | None = None,
    ) -> None:
        """Take in what was published, oldest first.

        Args:
            of_contracts: what was published last for each contract, as far as it is news.
            made_for: the contract of the bundle of what is `unclaimed`.
        """
        self._by_contract |= of_contracts or {}
        if pointers:
            self.newest = pointers[-1]
        if self.newest is not None:
            claimed = self._claimed(self.newest, self._by_contract)
            # what a learner of the release before publishes says nothing; of version 0, no bundle
            self._newest_is_own = self._contract in (claimed or {made_for or self._contract})
        for pointer in (*pointers, *(of_contracts or {}).values()):
            self._by_version[pointer.version] = pointer
        for version in sorted(self._by_version)[:-MOST_POINTERS]:
            del self._by_version[version]

    def unclaimed(
        self, pointers: Sequence[PolicyPointer], of_contracts: Mapping[str, PolicyPointer] | None
    ) -> PolicyPointer | None:
        """The newest pointer, where it matters for which contract it is and no key says so."""
        newest = pointers[-1] if pointers else self.newest
        known = {**self._by_contract, **(of_contracts or {})}
        if newest is None or self._contract not in known or self._claimed(newest, known):
            return None
        return newest

    def _claimed(self, pointer: PolicyPointer, known: Mapping[str, PolicyPointer]) -> set[str]:
        """The contracts for which it was published."""
        return {contract for contract, one in known.items() if one == pointer}

    def chosen(self) -> Selection:
        """What the learner has this process serve."""
        return choose(self.newest, self.own, self.served, newest_is_own=self._newest_is_own)

    def of_version(self, version: int) -> PolicyPointer | None:
        """The pointer to a version, as far as it is kept."""
        return self._by_version.get(version)

    def select(self, control: Control) -> Selection:
        """A pin wins; where it is frozen, the pointer that is served stays; else see `choose`."""
        if control.pinned_version is not None:
            return Selection(control.pinned_version, self.of_version(control.pinned_version), None)
        if control.frozen and self.served:
            return _of(self.served)
        return self.chosen()


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
