"""A policy bundle on disk: `manifest.json` and `arrays.npz`, written aside and renamed."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.errors import BundleCorrupt, BundleError, ContractMismatch
from schemas.events import Exploration, describe
from schemas.failpoints import reach
from schemas.network import Array
from schemas.policy import Head, Policy

MANIFEST = "manifest.json"
ARRAYS = "arrays.npz"
GOLDEN_TOLERANCE = 1e-4
MAX_BYTES = 512 << 20


class Manifest(BaseModel):
    """What a policy is, where it came from, and what it must answer."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_: str = Field(default="policy.v1", alias="schema")
    application: str
    contract: str
    version: int = Field(ge=1)
    lineage: str  # changes when the normaliser is made anew
    anchor: int = Field(ge=0)  # the last version shown to be good, when this was published
    previous: int = Field(default=0, ge=0)  # the version that this one replaces
    agent: str
    actions: list[str]
    operations: list[dict[str, Any]]
    head: Head
    exploration: Exploration
    seed: int
    replay_version: int
    stream_time_ms: int
    created_at_ms: int
    experiences: int  # decisions resident when it was trained
    new_experiences: int  # new or amended since the training before
    new_outcomes_received_at_ms: list[int]  # broker times of outcomes that are new in it
    losses: dict[str, float] = {}
    gate: dict[str, Any] = {}
    mlflow_run: str | None = None
    files_sha256: dict[str, str] = {}


class LoadedPolicy:
    """A bundle that passed every check: its manifest and the policy to answer with."""

    def __init__(self, manifest: Manifest, policy: Policy) -> None:
        self.manifest = manifest
        self.policy = policy
        self.version = manifest.version


def write_bundle(
    folder: Path,
    manifest: Manifest,
    arrays: Mapping[str, Array],
    *,
    golden_observations: Array,
    golden_eligible: Array,
) -> str:
    """Write a bundle whole, or not at all; returns the SHA-256 of its manifest.

    Args:
        folder: `<policies>/<application>/<version>`; replaced if there.
        golden_observations: float32 `[G, D]`; their outputs are recorded, and every server
            must reproduce them before it serves the bundle.
        golden_eligible: bool `[G, A]`

    Raises:
        BundleError: the policy cannot be run as written; nothing is left behind.
    """
    policy = Policy(
        operations=manifest.operations,
        head=manifest.head,
        arrays=arrays,
        actions=len(manifest.actions),
    )
    scores = policy.scores(golden_observations)
    if not np.all(np.isfinite(scores)):
        raise BundleCorrupt("the policy's golden outputs are not finite; it was not written")
    packed = io.BytesIO()
    golden = {
        "golden_observations": golden_observations,
        "golden_eligible": golden_eligible,
        "golden_scores": scores,
        "golden_probabilities": policy.distribution(golden_observations, golden_eligible),
    }
    np.savez(packed, allow_pickle=False, **arrays, **golden)
    content = packed.getvalue()
    described = manifest.model_copy(
        update={"files_sha256": {ARRAYS: hashlib.sha256(content).hexdigest()}}
    )
    text = described.model_dump_json(by_alias=True, indent=1).encode()
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    aside.mkdir(parents=True, exist_ok=True)
    for name, data in ((ARRAYS, content), (MANIFEST, text)):
        with (aside / name).open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    reach("learner.bundle.before_rename")
    if folder.exists():
        shutil.rmtree(folder)
    aside.rename(folder)
    return hashlib.sha256(text).hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """The manifest alone, unchecked against the arrays. Raises BundleCorrupt."""
    try:
        return Manifest.model_validate_json(_read(folder / MANIFEST))
    except ValidationError as error:
        raise BundleCorrupt(f"{folder / MANIFEST}: {describe(error)}") from None


def load_bundle(
    folder: Path,
    *,
    application: str,
    contract: str,
    sha256: str | None,
    inside: Path | None = None,
) -> LoadedPolicy:
    """The policy of a bundle, after every check.

    Args:
        application, contract: what this process serves.
        sha256: of the manifest, as the pointer says; None for a bundle from a local cache.
        inside: the only folder that bundles are loaded from, links resolved.

    Raises:
        BundleError: with the reason; the caller's current policy is untouched.
    """
    if inside is not None and not folder.resolve().is_relative_to(inside.resolve()):
        raise BundleError(f"{folder} is not inside {inside}, the only place to load policies from")
    text = _read(folder / MANIFEST)
    if sha256 is not None and hashlib.sha256(text).hexdigest() != sha256:
        raise BundleCorrupt(f"{folder / MANIFEST} is not the manifest that was published (SHA-256)")
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        raise BundleCorrupt(f"{folder / MANIFEST}: {describe(error)}") from None
    if manifest.application != application or manifest.contract != contract:
        raise ContractMismatch(
            f"policy {manifest.version} was trained for {manifest.application!r}, contract "
            f"{manifest.contract}; expected {application!r}, contract {contract}"
        )
    content = _read(folder / ARRAYS)
    if hashlib.sha256(content).hexdigest() != manifest.files_sha256.get(ARRAYS):
        raise BundleCorrupt(f"{folder / ARRAYS} differs from its recorded SHA-256")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise BundleCorrupt(f"{folder / ARRAYS}: {error}") from None
    golden = {name: arrays.pop(name) for name in list(arrays) if name.startswith("golden_")}
    try:
        policy = Policy(
            operations=manifest.operations,
            head=manifest.head,
            arrays=arrays,
            actions=len(manifest.actions),
        )
        check_golden(policy, golden)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise BundleCorrupt(f"{folder}: arrays do not fit the manifest: {error}") from None
    return LoadedPolicy(manifest, policy)


def check_golden(policy: Policy, golden: Mapping[str, Array]) -> None:
    """Raise BundleCorrupt unless the policy reproduces its recorded outputs."""
    scores = policy.scores(golden["golden_observations"])
    expected = golden["golden_scores"]
    if not np.allclose(scores, expected, rtol=GOLDEN_TOLERANCE, atol=GOLDEN_TOLERANCE):
        worst = float(np.max(np.abs(scores - expected)))
        raise BundleCorrupt(f"golden outputs differ by {worst:g}; at most {GOLDEN_TOLERANCE:g}")


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BundleCorrupt(f"{path} is larger than {MAX_BYTES >> 20} MiB")
        return path.read_bytes()
    except OSError as error:
        raise BundleCorrupt(f"{path}: {error.strerror}") from None
