"""Bundles → policies in memory: from one folder alone, checked, and run once before they answer.

Whoever publishes a policy to Kafka may name any folder; nothing outside the policies' own is read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bakehouse_schemas.application.application import Application
from bakehouse_schemas.contracts.contract import contract_of
from bakehouse_schemas.contracts.known import KnownContracts
from bakehouse_schemas.errors import BundleError
from bakehouse_schemas.events.events import PolicyPointer
from bakehouse_schemas.policy.bundle import LoadedPolicy, Manifest, read_manifest
from bakehouse_schemas.policy.load_carried import load_policy


class PolicyLoader:
    """Loads the bundles of one application. It takes as long as a disk does: hold no lock.

    Args:
        policies: the only folder that bundles are loaded from.
        known: contracts that this home has known, for bundles that do not describe theirs.
    """

    def __init__(self, application: Application, policies: Path, known: KnownContracts) -> None:
        self._application = application
        self._contract = contract_of(application)
        self._policies = policies
        self._known = known

    def load(self, version: int, pointer: PolicyPointer | None) -> LoadedPolicy:
        """One policy, ready to answer; of another contract, carried over to this application's.

        Args:
            pointer: names its folder and its SHA-256; None: the folder of this number is loaded,
                whatever its SHA-256.

        Raises:
            BundleError: it cannot be used.
        """
        application = self._application
        folder = self._policies / application.name / str(version)
        if pointer is not None and pointer.uri:
            folder = self._folder(pointer.uri)
        loaded = load_policy(
            folder,
            application=application.name,
            contract=self._contract,
            sha256=pointer.sha256 if pointer else None,
            inside=self._policies,
            known=lambda contract: self._known.of(application.name, contract),
        )
        if loaded.version != version:
            raise BundleError(f"{folder} holds policy {loaded.version}, expected {version}")
        # The first run of a shape costs more than the others: not a player's to pay.
        size, shape = application.encoder.size, application.shape
        items = np.zeros((1, shape.choices, shape.features), np.float32)
        loaded.policy.base_policy(
            np.zeros((1, size), np.float32), np.ones((1, shape.choices), dtype=bool), items
        )
        return loaded

    def manifests(self, pointers: Sequence[PolicyPointer]) -> list[Manifest]:
        """The manifests of these policies, as far as they can be read."""
        found = []
        for pointer in pointers:
            if pointer.uri:
                with contextlib.suppress(BundleError):
                    found.append(read_manifest(self._folder(pointer.uri)))
        return found

    def made_for(self, pointer: PolicyPointer) -> str | None:
        """The contract of a pointer's bundle; None where there is none, or it cannot be read."""
        found = self.manifests([pointer])
        return found[0].contract if found else None

    def _folder(self, uri: str) -> Path:
        """The folder that a pointer names.

        Raises:
            BundleError: it is not inside the policies' folder, links and `..` resolved.
        """
        folder = Path(uri.removeprefix("file://"))
        try:
            inside = folder.resolve().is_relative_to(self._policies.resolve())
        except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a NUL
            raise BundleError(f"{uri!r:.200} cannot be a folder: {error}") from None
        if not inside:
            raise BundleError(
                f"{uri!r:.200} is not inside {self._policies}, the only place to load policies from"
            )
        return folder
