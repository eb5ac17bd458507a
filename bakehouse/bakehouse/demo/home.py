"""Where a demo keeps its data, and what becomes of the homes of earlier ones."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from bakehouse.local.home import DEMO, is_held
from bakehouse.local.ports import is_free
from bakehouse_schemas.process.settings import Settings

DEMO_HOMES_KEPT = 3


def demo_settings(settings: Settings) -> Settings:
    """A fresh home unless one was named, so that the figures are of this run; a port that is free.

    Homes of earlier demos are removed, but for the last few.
    """
    changed: dict[str, object] = {}
    if settings.home == Settings.model_fields["home"].default:
        parent = settings.home
        earlier = sorted(path for path in parent.glob(f"{DEMO}*") if path.is_dir())
        for old in earlier[: max(0, len(earlier) - DEMO_HOMES_KEPT + 1)]:
            if not is_held(old):
                shutil.rmtree(old, ignore_errors=True)
        changed["home"] = parent / time.strftime(f"{DEMO}%Y%m%d-%H%M%S")
    if settings.port == Settings.model_fields["port"].default and not is_free(settings.port):
        changed["port"] = 0
    return settings.model_copy(update=changed)


def short_path(path: Path) -> Path:
    """As seen from the working directory, where it is below it."""
    try:
        return path.resolve().relative_to(Path.cwd())
    except ValueError:
        return path
