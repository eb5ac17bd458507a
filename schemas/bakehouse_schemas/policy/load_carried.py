"""A bundle on disk → the policy that answers for a contract, be it the bundle's own or another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bakehouse_schemas.contracts.contract import Contract
from bakehouse_schemas.errors import ContractMismatch
from bakehouse_schemas.policy.bundle import (
    MANIFEST,
    LoadedPolicy,
    check_inside,
    load_bundle,
    read_manifest,
)
from bakehouse_schemas.policy.carry import carried_policy


def load_policy(
    folder: Path,
    *,
    application: str,
    contract: Contract,
    sha256: str | None,
    inside: Path | None = None,
    known: Callable[[str], Contract | None] = lambda _: None,
) -> LoadedPolicy:
    """The policy of a bundle, after every check, carried over where it is of another contract.

    A bundle of another contract passes all checks under its own first, its golden outputs too.

    Args:
        application: its name.
        contract: what the policy is to answer for.
        sha256, inside: see `load_bundle`.
        known: a contract by its fingerprint, for bundles that do not describe theirs (those of
            releases up to 0.1); None where it is not known.

    Raises:
        BundleError: with the reason; the caller's current policy is untouched.
    """
    if inside is not None:
        check_inside(folder / MANIFEST, inside)
    made_for = contract
    manifest = read_manifest(folder)
    if manifest.contract != contract.fingerprint or manifest.actions != list(contract.choices):
        described = manifest.described_contract() or known(manifest.contract)
        if described is not None and manifest.application == application:
            made_for = described
        elif manifest.application == application and manifest.contract != contract.fingerprint:
            raise ContractMismatch(
                f"policy {manifest.version} was made for contract {manifest.contract}, which "
                f"nothing here describes; expected {contract.fingerprint}. Start this release "
                "once under the application's file as it was, so that its contract is noted"
            )
    loaded = load_bundle(
        folder,
        application=application,
        contract=made_for.fingerprint,
        sha256=sha256,
        inside=inside,
        labels=made_for.choices,
        shape=made_for.shape,
        dimensions=made_for.encoder.size,
    )
    return loaded if made_for is contract else carried_policy(loaded, made_for, contract)
