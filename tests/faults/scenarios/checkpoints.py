"""What happens to Spark's checkpoint."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from tests.faults.beside import hold, wait_until
from tests.faults.rig import Measured, Rig


def checkpoint_put_back(rig: Rig) -> Measured:
    """An old checkpoint is put back: batches are read again, and absorbed."""
    kept: Path = rig.later["checkpoint"]
    measured: Measured = {}

    def put_back() -> None:
        current = rig.checkpoint()
        hold(current.name == kept.name, f"{current.name} is not the checkpoint that was kept")
        measured["older_by_batches"] = _batches(current) - _batches(kept)
        shutil.rmtree(current)
        shutil.copytree(kept, current)

    rig.kill("stream", put_back)
    return measured


def checkpoint_deleted(rig: Rig) -> Measured:
    """The checkpoint is deleted: the join begins empty, and repair carries the gap."""
    rig.kill("stream", lambda: shutil.rmtree(rig.checkpoint()))
    process = str(rig.stack.pids()["stream"])
    rig.settle()
    wait_until(
        lambda: rig.stream()["process"] == process and rig.stream()["repaired"] > 0,
        "what the join had forgotten is repaired",
    )
    return {"repaired": rig.stream()["repaired"]}


def checkpoint_without_metadata(rig: Rig) -> Measured:
    """Its `metadata` file alone is deleted, and Spark refuses it: left behind, begun anew."""
    before = rig.checkpoint().name
    rig.kill("stream", lambda: (rig.checkpoint() / "metadata").unlink())
    began = time.monotonic()
    wait_until(
        lambda: rig.checkpoint().name != before and (rig.checkpoint() / "offsets").is_dir(),
        "the refused checkpoint is left, and the query begins anew",
    )
    return {"begun_anew_s": round(time.monotonic() - began, 1)}


def _batches(checkpoint: Path) -> int:
    return max(int(p.name) for p in (checkpoint / "offsets").iterdir() if p.name.isdigit())
