"""Named places at which a test ends the process, as `kill -9` or a power cut might.

Off unless `BAKEHOUSE_FAILPOINTS` names a folder when the process starts; then a point ends the
process with SIGKILL if the folder holds a file of the point's name. The file is removed first, so
a process that is started again passes. A number in the file is the visit that counts (1: the
next). Where no folder is named, reaching a point costs one look at a variable.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

VARIABLE = "BAKEHOUSE_FAILPOINTS"

# point → what has happened by then, and what has not
POINTS: Mapping[str, str] = {
    "serving.spool.before_write": "a request is checked; nothing of it is on disk",
    "serving.spool.after_write": "an event is in the spool; its request is not answered",
    "serving.publish.before_acknowledgement": "Kafka has events; the spool does not know it",
    "serving.slot.inside_load": "a bundle is loaded and checked; the old policy still answers",
    "serving.control.before_record": "a person's word is in force and kept; Kafka has not heard",
    "stream.append.before": "a batch is computed; no table has it",
    "stream.append.inside": "anywhere between a batch's data file and its commit to replay",
    "stream.append.between": "replay has a batch; the ledger has not",
    "stream.append.after": "all tables have a batch; no offset says so",
    "stream.append.noted": "our offsets say that a batch is applied; Spark's do not",
    "stream.repair.before_append": "repair has found rows; no table has them",
    "stream.repair.after_append": "replay has repair's rows; its memory does not say so",
    "stream.requeue.staged": "what quarantine gives back is on disk; no table has it",
    "stream.requeue.appended": "replay and ledger have what quarantine gives back, and it too",
    "stream.requeue.removed": "quarantine has let go of it; what was staged is still there",
    "stream.compaction.before_commit": "a folded file is written; the table does not name it",
    "stream.compaction.after_commit": "the table names the folded file; nothing else knows",
    "learner.plan.written": "a training is planned; nothing of it is done",
    "learner.training.inside": "weights have moved; no policy was made of them",
    "learner.checkpoint.before_rename": "a checkpoint is written aside; the one before counts",
    "learner.checkpoint.after_rename": "the checkpoint counts; plans that it holds are still there",
    "learner.bundle.before_rename": "a bundle is written aside; nobody can load it",
    "learner.bundle.after_rename": "a bundle is in its place; no pointer names it",
    "learner.pointer.sent": "a pointer is on its way; nothing else was noted",
}

_folder: Path | None = Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None
_lock = threading.Lock()


def reach(point: str) -> None:
    """End this process here, if it was asked for."""
    if _folder is not None and _is_due(_folder / point):
        end()


@contextmanager
def during(point: str, *, within_s: float = 0.02) -> Iterator[None]:
    """End this process at some moment of what is done inside, if it was asked for.

    Where that is over sooner than the moment comes, the process ends just after.
    """
    if _folder is not None and _is_due(_folder / point):
        moment = threading.Timer(random.uniform(0.0, within_s), end)
        moment.start()
        yield
        moment.join()
    else:
        yield


def arm(folder: Path, point: str, *, visit: int = 1) -> None:
    """Ask the process that watches `folder` to end at a point, the `visit`-th time it is reached.

    Raises:
        ValueError: there is no such point.
    """
    if point not in POINTS:
        raise ValueError(f"{point!r} is no failpoint; there are {', '.join(POINTS)}")
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f".{point}"
    aside.write_text(str(visit))
    aside.replace(folder / point)


def is_armed(folder: Path, point: str) -> bool:
    """Whether nobody has ended there yet."""
    return (folder / point).exists()


def disarm(folder: Path, point: str) -> None:
    """Take the wish back."""
    (folder / point).unlink(missing_ok=True)


def end() -> None:
    """End this process as `kill -9` does: no handler, no flush, no goodbye."""
    os.kill(os.getpid(), signal.SIGKILL)


def _is_due(wish: Path) -> bool:
    """Count one visit; whether it is the one."""
    with _lock:
        try:
            left = int(wish.read_text()) - 1
        except FileNotFoundError:
            return False
        if left > 0:
            wish.write_text(str(left))
            return False
        wish.unlink()
        return True
