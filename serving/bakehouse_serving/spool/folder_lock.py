"""Which spool is whose: a folder each, `<home>/spool/<number>`, held by a lock on a file in it.

A lock dies with its process, however that dies. A new process takes the lowest folder that
nobody holds, so a restart finds its own again, and publishes what other dead processes left.
"""

from __future__ import annotations

import fcntl
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from bakehouse_schemas.process.boot import boot_id

log = logging.getLogger(__name__)
LOCK = "lock"


@dataclass(frozen=True)
class FolderLock:
    """A folder that this process holds until it releases it or dies."""

    folder: Path
    fd: int
    rebooted: bool  # the machine was restarted since the folder was last used, or may have been

    @property
    def process(self) -> str:
        """Name of this serving process within its home."""
        return self.folder.name

    def release(self, *, remove: bool = False) -> None:
        """Release it; with `remove` the folder and its files are deleted too."""
        if remove:
            for path in sorted(self.folder.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            self.folder.rmdir()
        os.close(self.fd)


def lock_own_folder(root: Path) -> FolderLock:
    """The lowest-numbered folder that no running process holds; made if need be."""
    number = 0
    while True:
        if (lock := _try_lock(root / str(number))) is not None:
            return lock
        number += 1


def lock_orphans(root: Path) -> list[FolderLock]:
    """Every other folder whose process is dead."""
    folders = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    return [lock for folder in folders if (lock := _try_lock(folder)) is not None]


def _try_lock(folder: Path) -> FolderLock | None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except FileNotFoundError:
        return None  # its holder has just removed it
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = os.fstat(fd).st_ino == path.stat().st_ino  # removed between open and lock?
    except (BlockingIOError, FileNotFoundError):
        held = False
    if not held:
        os.close(fd)
        return None
    boot = boot_id().encode()
    before = os.pread(fd, 100, 0).strip()
    if before != boot:
        try:
            os.pwrite(fd, boot, 0)  # over what was there, which a full disk still takes
            os.ftruncate(fd, len(boot))
        except OSError as error:  # the next process takes it for another boot, and sends again
            log.warning("%s cannot be written (%s)", path, error)
    return FolderLock(folder, fd, rebooted=before != boot)
