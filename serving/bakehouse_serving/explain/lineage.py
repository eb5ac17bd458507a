"""Which policies were trained on a decision, by the manifests that are kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bakehouse_schemas.application.agents import AGENTS
from bakehouse_schemas.application.application import Application
from bakehouse_schemas.errors import BundleError
from bakehouse_schemas.policy.bundle import Manifest, read_manifest


class Lineage(NamedTuple):
    """The policies that were trained on a decision.

    Args:
        first: the first policy that knew what came of the decision; None: none yet, or it is no
            longer kept.
        versions: how many of the policies that are kept were published since, that one included.
        latest: the newest policy; None: there is none.
        learner: the same in words.
    """

    first: int | None
    versions: int
    latest: int | None
    learner: str

    def as_dict(self) -> dict[str, Any]:
        return self._asdict()


class Manifests:
    """The manifests of one application's bundles, each read once.

    Args:
        folder: `<policies>/<application>`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[int, Manifest] = {}

    def all(self) -> list[Manifest]:
        """Those that are there now and can be read, oldest first."""
        there = set()
        if self._folder.is_dir():
            there = {int(path.name) for path in self._folder.iterdir() if path.name.isdigit()}
        for version in there - set(self._known):
            try:
                self._known[version] = read_manifest(self._folder / str(version))
            except BundleError:  # being written, being removed, or foreign
                continue
        self._known = {v: one for v, one in self._known.items() if v in there}
        return [self._known[version] for version in sorted(self._known)]


def lineage_of(
    application: Application,
    manifests: Sequence[Manifest],
    *,
    cohort: str,
    encoded_anew: str | None = None,
    contested: bool,
    received_at_ms: int,
    outcomes_ms: Sequence[int],
    matured_at_ms: int,
    now_ms: int,
) -> Lineage:
    """The policies that learned from a decision and what came of it.

    A manifest lists the broker times of the outcomes that are new in its policy; where nothing
    came, silence is known once the decision has matured.

    Args:
        manifests: oldest first.
        encoded_anew: of a decision of another contract, why it cannot be; None where it can.
        outcomes_ms: broker times of the outcomes that count.
    """
    latest = manifests[-1].version if manifests else None
    if contested:
        return Lineage(None, 0, latest, "copies of this decision differ, so none is trained on it")
    if encoded_anew is not None:
        return Lineage(
            None,
            0,
            latest,
            "it is of another contract than the application now, and cannot be encoded anew, so it "
            f"is not trained on any more: {encoded_anew}",
        )
    if AGENTS[application.agent.name].on_policy and cohort not in ("policy", "canary"):
        return Lineage(
            None,
            0,
            latest,
            f"{application.agent.name} learns from what policies decided alone; this was {cohort}",
        )
    if not manifests:
        return Lineage(None, 0, None, "no policy has been published yet")
    if not outcomes_ms and now_ms < matured_at_ms:
        return _waiting(application, manifests, received_at_ms)
    exact = [m for m in manifests if not {*outcomes_ms}.isdisjoint(m.new_outcomes_received_at_ms)]
    known_ms = min(outcomes_ms, default=matured_at_ms)
    since = exact or [m for m in manifests if m.stream_time_ms >= known_ms]
    if not since:
        return Lineage(
            None, 0, latest, f"no policy since; the newest, {latest}, was made before it was known"
        )
    oldest = manifests[0]
    if not exact and since[0] is oldest and oldest.previous > 0:
        return Lineage(
            None,
            len(manifests),
            latest,
            f"the policies that knew of it first are no longer kept (the oldest that is, is "
            f"{oldest.version}); those that are were all made later",
        )
    first = since[0].version
    versions = sum(m.version >= first for m in manifests)
    words = f"policy {first} was the first that knew what came of it"
    if versions > 1:
        words += f"; {versions - 1} more since, the newest is {latest}"
    words += f". The buffer holds the newest {application.training.buffer:,} decisions"
    return Lineage(first, versions, latest, words)


def _waiting(
    application: Application, manifests: Sequence[Manifest], received_at_ms: int
) -> Lineage:
    """Of a decision that is still open, with nothing told of it."""
    latest = manifests[-1].version
    if application.reward.early == "wait":
        return Lineage(None, 0, latest, "it is trained on once it has matured")
    if manifests[-1].stream_time_ms < received_at_ms:
        return Lineage(None, 0, latest, f"it is newer than the newest policy, {latest}")
    return Lineage(
        None,
        0,
        latest,
        "it trains from its arrival, at the mean reward of decisions like it, until something is "
        "known of it",
    )
