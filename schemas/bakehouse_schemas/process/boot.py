"""Which start of the machine this is: files written before another one may not all be whole."""

from __future__ import annotations

from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# What was written longer ago than this, the kernel has written back (Linux: after 30 s).
SETTLED_S = 60.0


def boot_id() -> str:
    """The same until the machine is started anew; "unknown" where the system does not say."""
    return _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else "unknown"
