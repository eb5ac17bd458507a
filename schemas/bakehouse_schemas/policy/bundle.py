"""A policy bundle on disk: `manifest.json` and `arrays.npz`, written aside and renamed."""

from __future__ import annotations

import hashlib
import io
import math
import os
import shutil
import stat
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bakehouse_schemas.application.exploration import LoggedExploration
from bakehouse_schemas.application.shape import Shape, discrete_shape, shape_from
from bakehouse_schemas.contracts.contract import Contract, read_contract
from bakehouse_schemas.errors import (
    BundleCorrupt,
    BundleError,
    ContractMismatch,
    UnreadableContract,
)
from bakehouse_schemas.events.validation import describe
from bakehouse_schemas.policy.network import Array
from bakehouse_schemas.policy.policy import Head, Policy
from bakehouse_schemas.process.failpoints import reach

MANIFEST = "manifest.json"
ARRAYS = "arrays.npz"
GOLDEN_TOLERANCE = 1e-4
MAX_BYTES = 512 << 20  # of a file, and of what the arrays unpack to
_KINDS = "fiub"  # of a dtype: floats, integers, booleans; never objects, which would be pickles
_HEADERS: dict[tuple[int, int], Callable[[io.BytesIO], tuple[tuple[int, ...], bool, Any]]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
Int64 = Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]


class Manifest(BaseModel):
    """What a policy is, where it came from, and what it must answer.

    What a later release added to `policy.v1` is kept: it changes nothing of what a policy answers.
    """

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    schema_: Literal["policy.v1"] = Field(default="policy.v1", alias="schema")
    application: str
    contract: str
    version: Int64 = Field(ge=1)
    lineage: str  # changes when the normaliser is made anew
    anchor: Int64 = Field(ge=0)  # the last version shown to be good, when this was published
    previous: Int64 = Field(default=0, ge=0)  # the version that this one replaces
    agent: str
    actions: list[str] = Field(min_length=1)  # labels, or what else a mask covers
    shape: dict[str, Any] | None = None  # of the action space; None: labels alone
    operations: list[dict[str, Any]]
    head: Head
    exploration: LoggedExploration
    canary: float = Field(default=1.0, gt=0, le=1)  # share of subjects that it answers
    apprentice: bool = False  # made in apprentice mode: it may answer where the rules do
    seed: Int64
    replay_version: Int64
    stream_time_ms: Int64
    created_at_ms: Int64
    experiences: Int64  # decisions resident when it was trained
    new_experiences: Int64  # new or amended since the training before
    new_outcomes_received_at_ms: list[Int64]  # broker times of outcomes that are new in it
    losses: dict[str, float] = {}
    gate: dict[str, Any] = {}
    mlflow_run: str | None = None
    files_sha256: dict[str, str] = {}

    def described_contract(self) -> Contract | None:
        """What the policy was made for, as its bundle says; None where it does not (bundles of
        releases up to 0.1), or what it says cannot be read."""
        try:
            contract = read_contract(self.gate.get("contract"), self.application)
        except UnreadableContract:
            return None
        return contract if contract.fingerprint == self.contract else None

    def action_shape(self) -> Shape:
        """The action space that this policy decides in. Raises BundleCorrupt."""
        if self.shape is None:
            return discrete_shape(len(self.actions))
        try:
            return shape_from(self.shape)
        except (KeyError, TypeError, ValueError) as error:
            raise BundleCorrupt(
                f"the action space {self.shape!r:.200} cannot be read: "
                f"{type(error).__name__}: {error}"
            ) from None


class LoadedPolicy:
    """A bundle that passed every check: its manifest and the policy to answer with.

    Args:
        arrays: what it is made of; the policy holds the same.
        notes: where it was made for another contract and carried over: what is new, gone, or only
            about right, see `carry.py`; None: it was not.
    """

    def __init__(
        self,
        manifest: Manifest,
        policy: Policy,
        arrays: Mapping[str, Array] | None = None,
        *,
        notes: tuple[str, ...] | None = None,
    ) -> None:
        self.manifest = manifest
        self.policy = policy
        self.version = manifest.version
        self.arrays = arrays or {}
        self.carried = notes is not None
        self.notes = notes or ()


def write_bundle(
    folder: Path,
    manifest: Manifest,
    arrays: Mapping[str, Array],
    *,
    golden_observations: Array,
    golden_eligible: Array,
    golden_items: Array | None = None,
) -> str:
    """Write a bundle whole, or not at all; returns the SHA-256 of its manifest.

    Args:
        folder: `<policies>/<application>/<version>`; replaced if there.
        golden_observations: float32 `[G, D]`; their outputs are recorded, and every server
            must reproduce them before it serves the bundle.
        golden_eligible: bool `[G, A]`
        golden_items: float32 `[G, A, F]` where items are ranked

    Raises:
        BundleError: the policy cannot be run as written; nothing is left behind.
    """
    policy = Policy(
        operations=manifest.operations,
        head=manifest.head,
        arrays=arrays,
        actions=manifest.action_shape(),
    )
    golden = {
        "golden_observations": golden_observations,
        "golden_eligible": golden_eligible,
        "golden_scores": policy.scores(golden_observations, golden_items),
        "golden_probabilities": policy.base_policy(
            golden_observations, golden_eligible, golden_items
        ).probabilities,
    }
    if golden_items is not None:
        golden["golden_items"] = golden_items
    check_golden(policy, golden)
    packed = io.BytesIO()
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
    labels: Sequence[str] | None = None,
    shape: Shape | None = None,
    dimensions: int | None = None,
) -> LoadedPolicy:
    """The policy of a bundle, after every check.

    Args:
        application, contract: what this process serves.
        sha256: of the manifest, as the pointer says; None for a bundle from a local cache.
        inside: the only folder that bundles are loaded from, links resolved, of each file too.
        labels, shape, dimensions: of the actions, in order, and of an observation. A contract is
            a name; these are what an answer takes.

    Raises:
        BundleError: with the reason; the caller's current policy is untouched.
    """
    if inside is not None:
        for path in (folder, folder / MANIFEST, folder / ARRAYS):
            check_inside(path, inside)
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
    if labels is not None and list(labels) != manifest.actions:
        raise ContractMismatch(
            f"policy {manifest.version} decides between {manifest.actions}, {application!r} "
            f"between {list(labels)}"
        )
    if shape is not None and shape.described() != manifest.action_shape().described():
        raise ContractMismatch(
            f"policy {manifest.version} decides in {manifest.action_shape().described()}, "
            f"{application!r} in {shape.described()}"
        )
    content = _read(folder / ARRAYS)
    if hashlib.sha256(content).hexdigest() != manifest.files_sha256.get(ARRAYS):
        raise BundleCorrupt(f"{folder / ARRAYS} differs from its recorded SHA-256")
    arrays = _unpack(content, folder / ARRAYS)
    golden = {name: arrays.pop(name) for name in list(arrays) if name.startswith("golden_")}
    try:
        policy = Policy(
            operations=manifest.operations,
            head=manifest.head,
            arrays=arrays,
            actions=manifest.action_shape(),
        )
        check_golden(policy, golden)
        if dimensions is not None and policy.dimensions != dimensions:
            raise ContractMismatch(
                f"policy {manifest.version} takes {policy.dimensions} numbers; an observation of "
                f"{application!r} has {dimensions}"
            )
    except BundleError:
        raise
    except Exception as error:  # numbers from outside: whatever they break, the policy is refused
        raise BundleCorrupt(
            f"{folder}: arrays do not fit the manifest: {type(error).__name__}: {error}"
        ) from None
    return LoadedPolicy(manifest, policy, arrays)


@np.errstate(all="ignore")  # what overflows is refused below, with words
def check_golden(policy: Policy, golden: Mapping[str, Array]) -> None:
    """Raise BundleCorrupt unless the policy reproduces its recorded outputs, all of them numbers.

    Args:
        golden: `golden_observations [G, D]`, `golden_eligible [G, A]`, `golden_scores [G, A]` and
            `golden_probabilities [G, A]`, G at least 1.
    """
    missing = {"observations", "eligible", "scores", "probabilities"} - {
        name.removeprefix("golden_") for name in golden
    }
    if missing:
        raise BundleCorrupt(f"the golden arrays {sorted(missing)} are missing")
    observations = golden["golden_observations"].astype(np.float32)
    eligible = golden["golden_eligible"].astype(bool)
    rows = len(observations) if observations.ndim == 2 else 0
    space = policy.shape
    items = golden.get("golden_items")
    shape = (rows, policy.actions)
    shapes = {name: array.shape for name, array in golden.items()}
    if not rows or any(shapes[f"golden_{name}"] != shape for name in ("eligible", "probabilities")):
        raise BundleCorrupt(
            f"the golden arrays have the shapes {shapes}; expected at least one observation, and "
            f"{policy.actions} actions for each"
        )
    wanted = (*shape, space.features) if space.kind == "ranking" else None
    if (None if items is None else items.shape) != wanted:
        raise BundleCorrupt(f"the golden items have shape {shapes.get('golden_items')}; {wanted}")
    for name, array in golden.items():
        if not np.all(np.isfinite(array)):
            raise BundleCorrupt(f"array {name!r} holds values that are not finite")
    segments = space.segments or ((0, policy.actions),)
    if not all(eligible[:, start:stop].any(axis=1).all() for start, stop in segments):
        raise BundleCorrupt("golden_eligible has a row in which no action is eligible")
    scores, expected = policy.scores(observations, items), golden["golden_scores"]
    if scores.shape != expected.shape:
        raise BundleCorrupt(f"golden scores have shape {expected.shape}; expected {scores.shape}")
    if not np.allclose(scores, expected, rtol=GOLDEN_TOLERANCE, atol=GOLDEN_TOLERANCE):
        worst = float(np.max(np.abs(scores - expected)))
        raise BundleCorrupt(f"golden outputs differ by {worst:g}; at most {GOLDEN_TOLERANCE:g}")
    base_policy = policy.base_policy(observations, eligible, items)
    if not (np.isfinite(base_policy.mean).all() and np.isfinite(base_policy.std).all()):
        raise BundleCorrupt("the golden observations are answered by numbers that are not finite")
    # Recorded probabilities are not compared: at a near tie a rounding decides who is best.
    for probabilities in (golden["golden_probabilities"], base_policy.probabilities):
        sums = [probabilities[:, start:stop].sum(axis=1) for start, stop in segments]
        if (
            not np.allclose(sums, 1.0, atol=GOLDEN_TOLERANCE)
            or np.any(probabilities < 0)
            or np.any(probabilities[~eligible] != 0)
        ):
            raise BundleCorrupt("golden probabilities do not add up to 1 over the eligible actions")


def check_inside(path: Path, inside: Path) -> None:
    """Raise BundleError unless a path, links resolved, lies in the folder `inside`."""
    try:
        found = path.resolve()
        within = found.is_relative_to(inside.resolve())
    except (OSError, ValueError, RuntimeError) as error:  # a loop of links, a null byte, …
        raise BundleError(f"{str(path)!r:.200} names no place to load from: {error}") from None
    if not within:
        raise BundleError(f"{path} is not inside {inside}, the only place to load policies from")


def _read(path: Path) -> bytes:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise BundleCorrupt(f"{path} is not a file")
        if found.st_size > MAX_BYTES:
            raise BundleCorrupt(f"{path} is larger than {MAX_BYTES >> 20} MiB")
        return path.read_bytes()
    except OSError as error:
        raise BundleCorrupt(f"{path}: {error.strerror}") from None
    except ValueError as error:  # a null byte in the name
        raise BundleCorrupt(f"{str(path)!r:.200}: {error}") from None


def read_arrays(path: Path) -> dict[str, Array]:
    """The arrays of an `.npz` file, by name: numbers and booleans, nothing that would be run.

    Raises:
        BundleCorrupt: there is no such file, it is damaged, or it is larger than it may be.
    """
    return _unpack(_read(path), path)


def _unpack(content: bytes, path: Path) -> dict[str, Array]:
    """The arrays of an `.npz`, by name, each of numbers. Raises BundleCorrupt."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            members = packed.infolist()
            declared = sum(member.file_size for member in members)
            if declared > MAX_BYTES:  # before anything is inflated; no more than that is read
                raise BundleCorrupt(
                    f"{path} unpacks to {declared} bytes; at most {MAX_BYTES >> 20} MiB"
                )
            names = [member.filename.removesuffix(".npy") for member in members]
            if len(set(names)) != len(names):
                raise BundleCorrupt(f"{path} holds an array twice")
            return {
                name: _array(packed.read(member), name)
                for name, member in zip(names, members, strict=True)
            }
    except BundleCorrupt:
        raise
    except Exception as error:  # zipfile and numpy raise nearly anything on a damaged file
        raise BundleCorrupt(f"{path}: {type(error).__name__}: {error}") from None


def _array(data: bytes, name: str) -> Array:
    """The array of an `.npy`, allocated only once its header is known to be honest."""
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)  # type: ignore[no-untyped-call]  # numpy's
    if version not in _HEADERS:
        raise BundleCorrupt(f"array {name!r} has the format {version}; expected (1, 0) or (2, 0)")
    shape, fortran, dtype = _HEADERS[version](stream)
    if dtype.kind not in _KINDS:
        raise BundleCorrupt(f"array {name!r} is of {dtype}; expected numbers or booleans")
    size, there = math.prod(shape) * dtype.itemsize, len(data) - stream.tell()
    if size != there:
        raise BundleCorrupt(f"array {name!r} of shape {shape} takes {size} bytes, found {there}")
    flat = np.frombuffer(data, dtype, offset=stream.tell())
    return flat.reshape(shape, order="F" if fortran else "C").copy()
