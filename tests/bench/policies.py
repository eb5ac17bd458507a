"""Policy bundles to serve: a network of ordinary size with random weights."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import numpy as np

from bakehouse_schemas.application.application import Application
from bakehouse_schemas.application.exploration import Exploration
from bakehouse_schemas.events.events import PolicyPointer
from bakehouse_schemas.policy.bundle import Manifest, write_bundle
from bakehouse_schemas.policy.policy import Head


def write_policy(
    policies: Path, application: Application, version: int, *, hidden: tuple[int, ...] = (64, 64)
) -> PolicyPointer:
    """Write `<policies>/<application>/<version>`; returns what the learner would publish of it."""
    rng = np.random.default_rng(version)
    size = application.encoder.size
    widths = (size, *hidden, len(application.actions))
    operations: list[dict[str, str]] = []
    arrays = {
        "normaliser_offset": np.zeros(size, np.float32),
        "normaliser_scale": np.ones(size, np.float32),
        "normaliser_clip": np.array(5.0, np.float32),
    }
    for at, (into, out) in enumerate(pairwise(widths)):
        arrays[f"w{at}"] = rng.normal(0, into**-0.5, (into, out)).astype(np.float32)
        arrays[f"b{at}"] = rng.normal(0, 0.1, out).astype(np.float32)
        operations.append({"op": "dense", "weight": f"w{at}", "bias": f"b{at}"})
        if at < len(hidden):
            operations.append({"op": "relu"})
    now_ms = time.time_ns() // 1_000_000
    folder = policies / application.name / str(version)
    sha256 = write_bundle(
        folder,
        Manifest(
            application=application.name,
            contract=application.contract,
            version=version,
            lineage="bench",
            anchor=0,
            previous=version - 1,
            agent=application.agent.name,
            actions=list(application.actions.labels),
            operations=operations,
            head=Head(kind="argmax"),
            exploration=Exploration(kind="epsilon_greedy", epsilon=0.1, floor=0.01),
            seed=version,
            replay_version=version,
            stream_time_ms=now_ms,
            created_at_ms=now_ms,
            experiences=0,
            new_experiences=0,
            new_outcomes_received_at_ms=[],
        ),
        arrays,
        golden_observations=rng.random((16, size), np.float32),
        golden_eligible=np.ones((16, len(application.actions)), bool),
    )
    return PolicyPointer(
        application=application.name,
        version=version,
        uri=str(folder),
        sha256=sha256,
        published_at_ms=now_ms,
    )
