"""A learner's state in one file: arrays of any nesting, written aside, synced and renamed.

No pickle: an `.npz` of plain arrays, in which every `json` entry is JSON as bytes.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from bakehouse_schemas.process.failpoints import reach

JSON = "json"


def write_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Replace the checkpoint at `path` by `state`; a crash leaves the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".new")
    with aside.open("wb") as file:
        np.savez(file, allow_pickle=False, **_flat(state))
        file.flush()
        os.fsync(file.fileno())
    reach("learner.checkpoint.before_rename")
    aside.replace(path)
    reach("learner.checkpoint.after_rename")


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """The state at `path`, None where there is none.

    Raises:
        ValueError: the file is there, and is no checkpoint.
    """
    if not path.exists():
        return None
    try:
        with path.open("rb") as content, np.load(content, allow_pickle=False) as file:
            flat = {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no checkpoint: {error}") from error
    nested: dict[str, Any] = {}
    for name, array in flat.items():
        *folders, last = name.split("//")
        at = nested
        for folder in folders:
            at = at.setdefault(folder, {})
        at[last] = orjson.loads(array.tobytes()) if last == JSON else array
    return nested


def _flat(state: Mapping[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    flat: dict[str, np.ndarray] = {}
    for name, value in state.items():
        if name == JSON:
            flat[prefix + name] = np.frombuffer(orjson.dumps(value), dtype=np.uint8)
        elif isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}//")
        else:
            flat[prefix + name] = np.asarray(value)
    return flat
