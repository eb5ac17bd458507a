"""Homes that earlier releases left, each with the application that played in it.

A home does not move: checkpoints, pointers and policies name their places by their whole paths. So
each is unpacked where it was made, below `/tmp`. Without logs, MLflow's runs and what says which
processes run; otherwise it is what `bakehouse demo` left when it was stopped.
"""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class OldHome:
    """One of them.

    Attributes:
        archive: what it was packed into.
        path: where it lies, unpacked.
        ref: its application, as a file.
        received, decisions: what its account and its table say.
        policy_version: what answered when it was stopped.
    """

    archive: str
    path: Path
    ref: str
    received: int
    decisions: int
    policy_version: int

    def tables_below(self, folder: Path) -> Path:
        """A home below `folder` with this one's tables alone: they may lie anywhere."""
        with tarfile.open(FOLDER / self.archive) as archive:
            tables = f"{self.path.name}/tables/"
            members = [one for one in archive if one.name.startswith(tables)]
            archive.extractall(folder, members, filter="data")
        return folder / self.path.name

    @contextmanager
    def unpacked(self) -> Iterator[Path]:
        """The home, as it was; gone again afterwards."""
        shutil.rmtree(self.path, ignore_errors=True)  # of a test that was killed
        with tarfile.open(FOLDER / self.archive) as archive:
            archive.extractall(self.path.parent, filter="data")
        self.path.chmod(0o700)
        try:
            yield self.path
        finally:
            shutil.rmtree(self.path)


# packages `schemas`, `stream`, `learner` and `serving` at top level, replay rows of schema 1
OF_2026_11 = OldHome(
    archive="home-2026-11.tar.xz",
    path=Path("/tmp/bakehouse-home-of-2026-11"),
    ref=str(FOLDER / "level_difficulty.py"),
    received=5829,
    decisions=3270,
    policy_version=81,
)
