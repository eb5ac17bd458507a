"""Until what was written is on the disk, and survives a power cut."""

from __future__ import annotations

import os

# fdatasync spares the file's times, which nobody here reads; the Python of macOS lacks it
sync_data = getattr(os, "fdatasync", os.fsync)
