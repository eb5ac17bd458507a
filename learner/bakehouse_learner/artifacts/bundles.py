"""Writes bundles, and removes those that nobody needs any more."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np

from bakehouse_learner.gate.candidate import Candidate
from bakehouse_learner.gate.policy_version import Version, carried_over, policy_of
from bakehouse_learner.training.agent import Exported
from bakehouse_schemas.application.application import Application
from bakehouse_schemas.application.exploration import LoggedExploration
from bakehouse_schemas.contracts.contract import Contract, contract_of
from bakehouse_schemas.errors import BundleError, ContractMismatch
from bakehouse_schemas.events.events import PolicyPointer
from bakehouse_schemas.policy.bundle import (
    ARRAYS,
    MANIFEST,
    Manifest,
    load_bundle,
    read_manifest,
    write_bundle,
)
from bakehouse_schemas.process.tracing import to_name


class Bundles:
    """The bundles of one application: `<policies>/<application>/<version>/`.

    Args:
        folder: of this application.
        kept: how many of the newest stay, beside those that are named.
        known: contracts by fingerprint, where a bundle does not say what it was made for.
    """

    def __init__(
        self,
        folder: Path,
        application: Application,
        kept: int,
        known: Callable[[str], Contract | None] | None = None,
    ) -> None:
        self._known = known
        self.folder = folder.resolve()
        self._application = application
        self._kept = kept

    def write(
        self,
        candidate: Candidate,
        *,
        lineage: str,
        anchor: int,
        previous: int,
        at_ms: int,
        mlflow_run: str | None = None,
        traced: Sequence[str] = (),
    ) -> PolicyPointer:
        """Write a candidate down; returns the pointer that announces it.

        Args:
            traced: decisions that are new in it and traced; the newest of them are named.

        Raises:
            BundleError: it cannot be run as exported; nothing is left behind.
        """
        if candidate.exported is None:
            raise BundleError(f"candidate {candidate.version} is not finite; it was not written")
        application, exported = self._application, candidate.exported
        manifest = Manifest(
            schema="policy.v1",
            application=application.name,
            contract=application.contract,
            version=candidate.version,
            lineage=lineage,
            anchor=anchor,
            previous=previous,
            agent=application.agent.name,
            actions=list(application.actions.choices),
            shape=None if application.shape.kind == "discrete" else application.shape.described(),
            operations=exported.operations,
            head=exported.head,
            exploration=LoggedExploration.model_validate(candidate.exploration),
            canary=candidate.report.canary,
            apprentice=application.mode == "apprentice",
            seed=application.training.seed,
            replay_version=candidate.replay_version,
            stream_time_ms=candidate.stream_time_ms,
            created_at_ms=at_ms,
            experiences=candidate.experiences,
            new_experiences=candidate.new_experiences,
            new_outcomes_received_at_ms=candidate.outcomes_received_at_ms,
            losses=candidate.losses,
            gate=candidate.report.as_dict()
            | ({"last_freeze": candidate.last_freeze} if candidate.last_freeze else {})
            | to_name(traced)
            # in the open object `gate`: readers of the release before know no field of its own
            | {"contract": contract_of(application).described()},
            mlflow_run=mlflow_run,
        )
        sha256 = write_bundle(
            self.folder / str(candidate.version),
            manifest,
            exported.arrays,
            golden_observations=candidate.golden_observations,
            golden_eligible=candidate.golden_eligible,
            golden_items=candidate.golden_items,
        )
        return self._pointer(candidate.version, sha256, at_ms)

    def load(self, pointer: PolicyPointer) -> Version:
        """The version that a pointer names, checked as serving checks it.

        Of another contract, it is carried over to the application's.

        Raises:
            BundleError: it is gone, damaged, or cannot be carried over.
        """
        if pointer.version == 0 or pointer.uri is None:
            return Version(0)
        folder = Path(pointer.uri.removeprefix("file://"))
        contract = self._contract(read_manifest(folder))
        loaded = load_bundle(
            folder,
            application=self._application.name,
            contract=contract.fingerprint,
            sha256=pointer.sha256,
            labels=contract.choices,
            shape=contract.shape,
            dimensions=contract.encoder.size,
        )
        with np.load(folder / ARRAYS, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files if not name.startswith("golden_")}
        exported = Exported(loaded.manifest.operations, loaded.manifest.head, arrays)
        policy, manifest = policy_of(exported, contract.shape), loaded.manifest
        version = Version(pointer.version, policy, exported, manifest.canary, manifest.apprentice)
        if contract.fingerprint == self._application.contract:
            return version
        return carried_over(version, contract, self._application)

    def _contract(self, manifest: Manifest) -> Contract:
        """What a bundle was made for. Raises ContractMismatch where nobody knows any more."""
        ours = contract_of(self._application)
        if manifest.contract == ours.fingerprint:
            return ours
        found = manifest.described_contract()
        if found is None and self._known is not None:
            found = self._known(manifest.contract)
        if found is None:
            raise ContractMismatch(
                f"version {manifest.version} is of contract {manifest.contract}, expected "
                f"{ours.fingerprint}; nothing in the home says what that contract was, so it "
                "cannot be carried over"
            )
        return found

    def pointer_to(self, version: int, at_ms: int) -> PolicyPointer:
        """The pointer that announces a version that was written before; 0 has no bundle.

        Raises:
            BundleError: it is gone.
        """
        sha256 = None
        if version:
            try:
                manifest = (self.folder / str(version) / MANIFEST).read_bytes()
            except OSError as error:
                raise BundleError(f"version {version} cannot be announced: {error}") from error
            sha256 = hashlib.sha256(manifest).hexdigest()
        return self._pointer(version, sha256, at_ms)

    def _pointer(self, version: int, sha256: str | None, at_ms: int) -> PolicyPointer:
        return PolicyPointer(
            application=self._application.name,
            version=version,
            uri=str(self.folder / str(version)) if version else None,
            sha256=sha256,
            published_at_ms=at_ms,
        )

    def prune(self, named: Collection[int]) -> list[int]:
        """Remove all but the newest `kept` and the `named` versions; returns what went."""
        there = self.versions()
        gone = [version for version in there[: -self._kept] if version not in named]
        for version in gone:
            shutil.rmtree(self.folder / str(version), ignore_errors=True)
        return gone

    def tidy(self) -> None:
        """Remove what a killed writer has left half-written; its versions are written again."""
        for aside in self.folder.glob(".*"):
            shutil.rmtree(aside, ignore_errors=True)

    def versions(self) -> list[int]:
        """Versions on disk, ascending."""
        if not self.folder.is_dir():
            return []
        return sorted(int(path.name) for path in self.folder.iterdir() if path.name.isdigit())
