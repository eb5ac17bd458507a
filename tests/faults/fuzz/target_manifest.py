"""A policy bundle: its manifest, its arrays, and the zip and the headers that they lie in.

The input is a document that says how to make a bundle; what is no document is taken as the bytes
of `arrays.npz` (where they begin as a zip does) or of `manifest.json`. Hashes are made to fit,
mostly, so that a change gets past them.

Must hold: a BundleError, or a policy that reproduces its golden scores and whose distribution is
finite and adds up to 1 over the eligible actions, for the golden observations and for the
farthest contexts there are. No other exception, no warning, no pickle, and no allocation beyond
what the file itself holds.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import resource
import struct
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from bakehouse_schemas.application.observation import FLOAT32_MAX
from bakehouse_schemas.errors import BundleError
from bakehouse_schemas.policy import bundle
from bakehouse_schemas.policy.bundle import ARRAYS, MANIFEST, Manifest, load_bundle
from bakehouse_schemas.policy.policy import Policy
from tests.faults.fuzz.documents import mutate_document

MOST_MORE_BYTES = 1 << 30  # of address space, beyond what the process had at its first input
GOLDEN = [[0.5, 1.0], [-2.0, 0.0]]
EXTREMES = np.array(
    [[a, b] for a in (-FLOAT32_MAX, 0, FLOAT32_MAX) for b in (-FLOAT32_MAX, 0, FLOAT32_MAX)],
    np.float32,
)
DENSE = {"op": "dense", "weight": "w", "bias": "b"}
_limited = False


def array(values: Any, dtype: str = "<f4") -> dict[str, Any]:
    """An array as the document says it."""
    found = np.array(values, dtype)
    return {"dtype": dtype, "shape": list(found.shape), "values": found.ravel().tolist()}


def document(**changes: Any) -> dict[str, Any]:
    """A bundle that loads; `changes` replace fields of its manifest or name arrays."""
    manifest = {
        "schema": "policy.v1",
        "application": "game",
        "contract": "c1",
        "version": 7,
        "lineage": "l1",
        "anchor": 0,
        "agent": "neural_greedy",
        "actions": ["a", "b"],
        "operations": [DENSE, {"op": "relu"}, {"op": "dense", "weight": "v", "bias": "b"}],
        "head": {"kind": "argmax"},
        "exploration": {"kind": "epsilon_greedy", "epsilon": 0.1, "floor": 0.01},
        "seed": 0,
        "replay_version": 3,
        "stream_time_ms": 5,
        "created_at_ms": 6,
        "experiences": 10,
        "new_experiences": 2,
        "new_outcomes_received_at_ms": [4],
        "losses": {"loss": 0.5},
    }
    arrays = {
        "normaliser_offset": array([0.5, 0.0]),
        "normaliser_scale": array([2.0, 1.0]),
        "normaliser_clip": array(5.0),
        "w": array([[1.0, -1.0], [0.0, 2.0]]),
        "v": array([[0.5, 0.25], [1.0, 0.0]]),
        "b": array([0.0, 0.5]),
        "golden_observations": array(GOLDEN),
        "golden_eligible": array([[True, True], [True, False]], "|b1"),
    }
    return {
        "manifest": manifest | {k: v for k, v in changes.items() if k in manifest},
        "arrays": arrays | {k: v for k, v in changes.items() if k not in manifest},
        "golden": True,  # the scores are what the policy answers, where it can be made
        "hash": True,  # the manifest has the hash of the arrays
        "zip": {"compression": 0, "twice": False, "flips": []},
    }


def seeds() -> list[bytes]:
    """A network, a softmax head, a linear head, other dtypes, and both files as they lie there."""
    theta, inverse = array([[1, 0, 1], [0, 1, 0]]), array([np.eye(3).tolist()] * 2)
    linear = {"head": {"kind": "linear", "alpha": 2.0}, "operations": []}
    documents = [
        document(),
        document(operations=[DENSE, {"op": "tanh"}], head={"kind": "softmax", "temperature": 0.5}),
        document(operations=[{"op": "elu"}, DENSE]),
        document(**linear, theta=theta, inverse=inverse),
        document(w=array([[1, 2], [3, 4]], ">i8"), b=array([1, 2], "<f8")),
    ]
    return [json.dumps(one).encode() for one in documents] + list(made(documents[0]))


def made(described: dict[str, Any]) -> tuple[bytes, bytes]:
    """Manifest and arrays of a document. Raises anything where the document is not one."""
    arrays = dict(described["arrays"])
    if described["golden"]:
        arrays = _golden(described["manifest"], arrays)
    content = _zip([(name, _npy(spec)) for name, spec in arrays.items()], described["zip"])
    manifest = dict(described["manifest"])
    manifest["files_sha256"] = {
        ARRAYS: hashlib.sha256(content).hexdigest() if described["hash"] else "0" * 64
    }
    return json.dumps(manifest).encode(), content


def _golden(manifest: dict[str, Any], arrays: dict[str, Any]) -> dict[str, Any]:
    """With the scores that the policy answers, as a learner would have written them."""
    try:
        parsed = Manifest.model_validate_json(json.dumps(manifest))
        real = {name: _real(spec) for name, spec in arrays.items()}
        policy = Policy(
            operations=parsed.operations,
            head=parsed.head,
            arrays={k: v for k, v in real.items() if not k.startswith("golden_")},
            actions=len(parsed.actions),
        )
        seen, eligible = real["golden_observations"], real["golden_eligible"]
        scores = policy.scores(seen.astype(np.float32))
        chances = policy.distribution(seen.astype(np.float32), eligible.astype(bool))
        return {
            "golden_scores": array(scores.tolist()),
            "golden_probabilities": array(chances.tolist(), "<f8"),
        } | arrays
    except Exception:  # no policy: then without, or with what the document says
        return arrays


def _real(spec: dict[str, Any]) -> Any:
    if math.prod(spec["shape"]) != len(spec["values"]):
        raise ValueError("the document's shape lies")
    with np.errstate(all="ignore"):
        return np.array(spec["values"]).astype(spec["dtype"]).reshape(spec["shape"])


def _npy(spec: Any) -> bytes:
    """The bytes of a `.npy`; the header says what the document says, true or not."""
    try:
        with np.errstate(all="ignore"):
            body = np.array(spec["values"]).astype(spec["dtype"]).tobytes()
    except (ValueError, TypeError, OverflowError, KeyError):
        body = repr(spec).encode(errors="replace")
    spec = spec if isinstance(spec, dict) else {}
    header = {"descr": spec.get("dtype"), "fortran_order": False, "shape": spec.get("shape")}
    if isinstance(header["shape"], list):
        header["shape"] = tuple(header["shape"])
    text = str(spec.get("header", repr(header))).encode(errors="replace")[:65_000]
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    version = spec.get("version", 1)
    major = version % 256 if isinstance(version, int) else 1
    return b"\x93NUMPY" + bytes([major, 0]) + struct.pack("<H", len(text)) + text + body


def _zip(members: list[tuple[str, bytes]], how: dict[str, Any]) -> bytes:
    packed = io.BytesIO()
    kinds = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name that is there already
        with zipfile.ZipFile(packed, "w", kinds[int(how["compression"]) % 4]) as file:
            for name, data in [*members, *(members[:1] if how["twice"] else [])]:
                file.writestr(f"{name}.npy", data)
    content = bytearray(packed.getvalue())
    for at, value in how["flips"]:
        content[int(at) % len(content)] = int(value) % 256
    return bytes(content)


VALID = made(document())


@cache
def scratch() -> Path:
    """The folder of the bundle, overwritten by every input."""
    return Path(tempfile.mkdtemp(prefix="fuzz-bundle-"))


def check(data: bytes) -> None:
    """See the module."""
    global _limited
    if not _limited:
        had = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (had + MOST_MORE_BYTES, resource.RLIM_INFINITY))
        _limited = True
    text, content = VALID
    if data.startswith(b"PK"):
        content = data
        described = json.loads(text) | {"files_sha256": {ARRAYS: hashlib.sha256(data).hexdigest()}}
        text = json.dumps(described).encode()
    else:
        try:
            text, content = made(json.loads(data))
        except Exception:  # not a document, or not of a bundle
            text = data
    folder = scratch()
    (folder / MANIFEST).write_bytes(text)
    (folder / ARRAYS).write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            loaded = load_bundle(
                folder, application="game", contract="c1", sha256=None, inside=folder
            )
        except BundleError as refusal:
            assert "MemoryError" not in str(refusal), refusal
            return
        sound(loaded.policy, content)


def sound(policy: Policy, content: bytes) -> None:
    """Raise AssertionError unless the policy answers as it must."""
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        golden = {name: file[name] for name in file.files if name.startswith("golden_")}
    seen = golden["golden_observations"].astype(np.float32)
    eligible = golden["golden_eligible"].astype(bool)
    scores = policy.scores(seen)
    assert np.allclose(scores, golden["golden_scores"], rtol=1e-3, atol=1e-3)
    farthest = np.resize(EXTREMES, (9, seen.shape[1]))
    everything = np.ones((9, policy.actions), bool)
    one = np.eye(policy.actions, dtype=bool)[np.arange(9) % policy.actions]
    for observations, mask in ((seen, eligible), (farthest, everything), (farthest, one)):
        chances = policy.distribution(observations, mask)
        assert chances.shape == mask.shape
        assert np.all(np.isfinite(chances))
        assert np.all(chances >= 0)
        assert np.all(chances[~mask] == 0)
        assert np.allclose(chances.sum(axis=1), 1)


WORDS = (
    *("dense", "relu", "tanh", "elu", "argmax", "softmax", "linear", "w", "v", "b", "theta"),
    *("<f4", ">f8", "<f2", "|b1", "|O", "<i8", "<U4", "<c8", "V8", "header", "version", "(" * 999),
    *([2, 2], [3], [0, 2], [1 << 40], [-1, -1], [1] * 70, [2, 1 << 62, 2]),
    *("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2)}", "{'shape': 1L}", "{", "[[0]]"),
    *("temperature", "alpha", "golden_scores", "normaliser_clip", 1e30, 3e38, 1e-38),
    *(DENSE, {"op": "relu"}, array([[1e30, 1.0], [3e38, 0.0]]), array([1e-45, 3e38])),
)


SEEDS = seeds()


def mutate(
    data: bytes, size: int, random: Random, bytewise: Callable[[bytes, int], bytes]
) -> bytes:
    """Another bundle near this one."""
    return mutate_document(data, size, random, bytewise, WORDS, SEEDS)


def plant() -> None:
    """Golden outputs are not looked at."""
    bundle.check_golden = lambda policy, golden: None
