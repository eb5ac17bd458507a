"""The plan log: what each training is made from, written down before it begins.

One JSON line a training. A learner that is killed reads the lines after its checkpoint and does
exactly the same again, so it arrives at the same policies.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from bakehouse_schemas.application.application import Training
from bakehouse_schemas.events.events import Control
from bakehouse_schemas.process.durable import sync_data


class Plan(BaseModel):
    """One training: everything it depends on beside the state before it."""

    model_config = ConfigDict(frozen=True, extra="allow")  # of a later release, rolled back

    version: int  # of the candidate that it makes
    replay_version: int  # table versions up to this one are in the ring
    stream_time_ms: int
    seed: int
    frozen: bool = False  # nothing is published, and the anchor stays
    released: bool = False  # someone lifted the gate's own freeze before this training
    asked: bool = False  # a person wanted a training now; else the cadence did
    at_ms: int  # wall clock, for the records only


def next_plan(
    training: Training,
    version: int,
    *,
    replay_version: int,
    stream_time_ms: int,
    control: Control | None,
    frozen_at_ms: int | None,
    asked: bool,
    at_ms: int,
) -> Plan:
    """What the next training is to be made from; see `Plan`.

    Args:
        control: what people said last.
        frozen_at_ms: since when the gate has frozen what is published; None: it has not.
    """
    return Plan(
        version=version,
        replay_version=replay_version,
        stream_time_ms=max(stream_time_ms, 0),
        seed=training_seed(training, version),
        frozen=control is not None and control.frozen,
        released=frozen_at_ms is not None
        and control is not None
        and not control.frozen
        and control.released_at_ms > frozen_at_ms,
        asked=asked,
        at_ms=at_ms,
    )


def training_seed(training: Training, version: int) -> int:
    """The seed of one training: from the application's, another for each version."""
    return int(np.random.SeedSequence([training.seed, version]).generate_state(1)[0])


class PlanLog:
    """Appends plans, synced to disk; reads them back up to the first torn line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._drop_torn_line()

    def append(self, plan: Plan) -> None:
        """Write one plan down; on return it survives a crash."""
        with self._path.open("ab") as file:
            file.write(plan.model_dump_json().encode() + b"\n")
            file.flush()
            sync_data(file.fileno())

    def after(self, version: int) -> list[Plan]:
        """Plans of later candidates than `version`, in order."""
        return [plan for plan in self._read() if plan.version > version]

    def keep_after(self, version: int) -> None:
        """Forget plans up to `version`: a checkpoint holds what they led to."""
        kept = self.after(version)
        aside = self._path.with_suffix(".new")
        with aside.open("wb") as file:
            file.writelines(plan.model_dump_json().encode() + b"\n" for plan in kept)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(self._path)

    def _read(self) -> list[Plan]:
        plans: list[Plan] = []
        if not self._path.exists():
            return plans
        for line in self._path.read_bytes().split(b"\n"):
            try:
                plans.append(Plan.model_validate_json(line))
            except ValidationError:
                break
        return plans

    def _drop_torn_line(self) -> None:
        """A crash while writing leaves half a line; what follows it must begin a new one."""
        if self._path.exists():
            content = self._path.read_bytes()
            whole = content.rfind(b"\n") + 1
            if whole < len(content):
                with self._path.open("r+b") as file:
                    file.truncate(whole)
