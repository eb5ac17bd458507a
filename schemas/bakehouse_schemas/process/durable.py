"""Until what was written is on the disk, and survives a power cut."""

from __future__ import annotations

import os
from pathlib import Path

# fdatasync spares the file's times, which nobody here reads; the Python of macOS lacks it
sync_data = getattr(os, "fdatasync", os.fsync)


def sync_path(path: Path) -> None:
    """Have the disk hold a file that was written; of a folder, the names in it. Raises OSError."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
