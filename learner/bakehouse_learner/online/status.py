"""What a person wants to see of one application's learner now, as `status.v1` carries it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bakehouse_learner.learning import Learning
from bakehouse_learner.replay.row_decoder import RowDecoder


@dataclass
class LastTraining:
    """What the last training came to, and how many candidates have been refused."""

    losses: dict[str, float] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)  # the gate's
    seconds: dict[str, float] = field(default_factory=dict)  # where the time went
    refused: int = 0  # candidates that the gate did not let through


def application_status(
    learning: Learning,
    last: LastTraining,
    *,
    decoder: RowDecoder,
    room: Mapping[str, Any] | None,
    stream_time_ms: int,
    replay_version: int,
    newest_replay_version: int,
    published: int,
    problem: str | None,
) -> dict[str, Any]:
    """One application's entry.

    Args:
        room: see `bakehouse_learner.replay.buffer_size.RoomWatch.status`.
        replay_version: of the table, that has been read.
        newest_replay_version: of the table, that there is.
        published: policies, by this process.
        problem: with which the last turn failed.
    """
    ring, deployment, report = learning.ring, learning.deployment, last.report
    return {
        "version": deployment.current.number,
        "candidate": learning.version,
        "anchor": deployment.anchor.number,
        "canary": deployment.current.canary if deployment.current.number else 0.0,
        "carried": None if (carried := deployment.current.carried) is None else carried.as_dict(),
        "proving": deployment.proving,
        "apprentice": deployment.apprentice,
        "compression": learning.autoencoder.status(),
        "match_rate": None if learning.evidence is None else learning.evidence.match.mean,
        "frozen": deployment.frozen,
        "last_freeze": deployment.last_freeze,
        "problem": problem,
        "stream_time_ms": stream_time_ms,
        "replay_version": replay_version,
        "lag_versions": max(newest_replay_version - replay_version, 0),
        "experiences": ring.size,
        "decisions": learning.decisions,
        "unusable": int(np.count_nonzero(~ring.usable[: ring.size])),
        "matured": int(np.count_nonzero(ring.matured[: ring.size])),
        "buffer": ring.capacity,
        "room": room,
        "trainings": learning.trainings,
        "published": published,
        "candidates_refused": last.refused,
        "losses": last.losses,
        "exploration": learning.application.exploration.after(learning.decisions).logged(),
        "gate": {
            name: report[name]
            for name in ("candidate", "publish", "reason", "rules", "evidence", "carried")
            if name in report
        },
        "recoded": decoder.recoded,  # rows of another contract, encoded anew
        "foreign": decoder.gone,  # of another contract, and of an action that is none of ours
        "refused": decoder.refused,  # that cannot be encoded, of whatever contract
        "passed_by": ring.passed_by,
        "seconds": {name: round(value, 4) for name, value in last.seconds.items()},
    }
