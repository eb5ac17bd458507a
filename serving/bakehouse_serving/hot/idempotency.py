"""A repeated decision_id gets the same answer, for some minutes, also after a restart.

Only the subject that it was given to gets it. Answers of labels are 44 bytes each, in memory and
in a small log; others add their action as JSON. Both have two generations: what is
younger than the span asked for is always in one of them, and the older is dropped whole. The log
is written some answers at a time; after a kill the last few are found again in the spool, which
has every decision before it is answered.
"""

from __future__ import annotations

import os
import struct
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from bakehouse_schemas.application.actions import Actions, Discrete
from bakehouse_schemas.errors import BakehouseError
from bakehouse_schemas.ids import is_uuid7, uuid7_time_ms

COHORTS = ("policy", "holdout", "canary", "fallback")
MODES = ("online", "apprentice", "logging_only")
_ANSWER = struct.Struct("<dIHBB")  # propensity, version, action's position, cohort | mode, flags
_LENGTH = struct.Struct("<I")  # of what follows the decision_id in a record
_CHECKSUM = struct.Struct("<I")  # crc32 of decision_id and answer
_ID = 16
_SUBJECT = 8  # bytes of a digest of the subject_id
_ACTION = _ANSWER.size + _SUBJECT  # where the action of others than labels begins
_ANYONE = bytes(_SUBJECT)  # of answers that an earlier release kept, without their subject
WRITTEN, WITHOUT_SUBJECT = ".told", ".answers"  # what the log's files end with; the earlier ones
EXPLORED, LOGGED = 1, 2
ANSWERS_A_WRITE = 64  # answers to a write of the log


class AnotherSubject(BakehouseError):
    """A decision_id is named again, and not by the subject that it was answered for."""


class CachedAnswer(NamedTuple):
    """What was answered."""

    action: Any
    propensity: float
    policy_version: int
    mode: str
    cohort: str
    explored: bool
    logged: bool


class IdempotencyCache:
    """The answers of one application, by decision_id.

    Args:
        actions: their order must be that of the log's writer; the folder names the contract.
        folder: for the log, None keeps answers in memory only.
        span_s: how long an answer is remembered at least,
        most: unless more than half as many come in that time: then the older ones go early (at
            1,000 decisions a second ten minutes are 600,000 answers, about 100 MB).
        clock: monotonic, in seconds: a clock that is set must not make it forget.
    """

    def __init__(
        self,
        actions: Actions,
        *,
        folder: Path | None,
        span_s: float,
        most: int = 1_200_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._labels = actions if isinstance(actions, Discrete) else None
        self._waiting = 0  # answers not yet in the log
        self._folder = folder
        self._span_s = span_s
        self._most = most
        self._clock = clock
        self._young: dict[bytes, bytes] = {}
        self._old: dict[bytes, bytes] = {}
        self._since = clock()
        self._unwritten = bytearray()
        self._fd: int | None = None
        self._path: Path | None = None
        self._old_paths: list[Path] = []
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._old_paths = self._recall(folder)

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def get(self, decision_id: str, subject_id: str) -> CachedAnswer | None:
        """The answer given before, if it is remembered.

        Raises:
            AnotherSubject: it was given to another subject.
        """
        packed = self._find(decision_id)
        if packed is None:
            return None
        if packed[_ANSWER.size : _ACTION] not in (_digest(subject_id), _ANYONE):
            raise another_subject(decision_id)
        propensity, version, position, kinds, flags = _ANSWER.unpack_from(packed)
        return CachedAnswer(
            self._labels.labels[position] if self._labels else orjson.loads(packed[_ACTION:]),
            propensity,
            version,
            MODES[kinds >> 4],
            COHORTS[kinds & 15],
            bool(flags & EXPLORED),
            bool(flags & LOGGED),
        )

    def would_know(self, decision_id: str, now_ms: int) -> bool:
        """Whether an answer to this id would still be here, had one been given.

        True where the time in the id is within half the span of now, either way: an id that was
        answered so near to its time, and is forgotten, is further away than that. An id that is
        no UUIDv7 says no time: it may have been answered whenever.
        """
        return (
            is_uuid7(decision_id)
            and abs(uuid7_time_ms(decision_id) - now_ms) <= self.half_span_s * 1000
        )

    @property
    def half_span_s(self) -> float:
        """See `would_know`."""
        return self._span_s / 2

    def put(self, decision_id: str, subject_id: str, position: int, answer: CachedAnswer) -> None:
        """Remember, and write the log where `ANSWERS_A_WRITE` answers have come together.

        Args:
            subject_id: whom the answer is given to, and may be given to again.
            position: of a label; of other actions it says nothing.
        """
        packed = _ANSWER.pack(
            answer.propensity,
            answer.policy_version,
            position,
            MODES.index(answer.mode) << 4 | COHORTS.index(answer.cohort),
            EXPLORED * answer.explored | LOGGED * answer.logged,
        )
        packed += _digest(subject_id)
        if self._labels is None:
            packed += orjson.dumps(answer.action)
        if self._clock() - self._since > self._span_s or len(self._young) >= self._most // 2:
            self._turn()
        key = _key(decision_id)
        self._young[key] = packed
        if self._folder is not None:
            if self._labels is None:
                self._unwritten += _LENGTH.pack(len(packed))
            self._unwritten += key + packed + _CHECKSUM.pack(zlib.crc32(key + packed))
            self._waiting += 1
            if self._waiting >= ANSWERS_A_WRITE:
                self.flush()

    def recover(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Remember decisions that were spooled by a process that was killed, if it is news.

        Args:
            events: records of `decisions.v1` of this application and contract.
        """
        for event in events:
            position = self._labels.position(event["action"]) if self._labels else 0
            known = self._find(event["decision_id"])
            if position is not None and (known is None or known[_ANSWER.size : _ACTION] == _ANYONE):
                answer = CachedAnswer(
                    event["action"],
                    event["propensity"],
                    event["policy_version"],
                    event["mode"],
                    event["cohort"],
                    event["explored"],
                    True,
                )
                self.put(event["decision_id"], event["subject_id"], position, answer)

    def inherit(self, actions: Actions, folder: Path) -> None:
        """Remember what was answered under another contract, as far as it is an action now.

        Args:
            actions: of that contract.
            folder: of its log, which goes when its answers are too old.
        """
        before = IdempotencyCache(actions, folder=folder, span_s=self._span_s)
        was, now = before._labels, self._labels
        if (was is None) == (now is None):
            for key, packed in before._old.items():
                if was is not None and now is not None:
                    fields = list(_ANSWER.unpack_from(packed))
                    position = now.position(was.labels[fields[2]])
                    if position is None:  # it is gone: asked for again, it is decided anew
                        continue
                    fields[2] = position
                    packed = _ANSWER.pack(*fields) + packed[_ANSWER.size :]
                self._old.setdefault(key, packed)
        self._old_paths += before._old_paths

    def _find(self, decision_id: str) -> bytes | None:
        key = _key(decision_id)
        return self._young.get(key) or self._old.get(key)

    def _turn(self) -> None:
        self.flush()
        self._old, self._young = self._young, {}
        self._since = self._clock()
        for path in self._old_paths:
            path.unlink(missing_ok=True)
        self._old_paths = [self._path] if self._path is not None else []
        self.close()

    def flush(self) -> None:
        """Write what is not yet in the log (as the spool does: no fsync)."""
        if not self._unwritten or self._folder is None:
            return
        data, self._unwritten, self._waiting = self._unwritten, bytearray(), 0
        try:
            if self._fd is None:
                self._path = self._folder / f"{time.time_ns():020d}{WRITTEN}"
                self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            if os.write(self._fd, data) != len(data):
                self.close()  # half a record: what follows it must begin a new file
        except OSError:
            # A full disk costs the memory across a restart, not the answer.
            self.close()

    def _recall(self, folder: Path) -> list[Path]:
        """Read the logs of earlier processes; returns those to delete at the next turn.

        Their age is measured against the newest of them, by one clock: what time it is now says
        nothing, for the machine's clock may have been set since.
        """
        paths = [
            *sorted(folder.glob(f"*{WITHOUT_SUBJECT}")),
            *sorted(folder.glob(f"*{WRITTEN}")),
        ]
        written_s = {path: path.stat().st_mtime for path in paths}
        newest_s = max(written_s.values(), default=0.0)
        kept = []
        for path, at_s in written_s.items():
            if newest_s - at_s > self._span_s:
                path.unlink()
                continue
            kept.append(path)
            if path.suffix == WRITTEN:
                self._old.update(self._records(path.read_bytes(), _ACTION))
                continue
            head = _ANSWER.size
            for key, packed in self._records(path.read_bytes(), head):
                self._old[key] = packed[:head] + _ANYONE + packed[head:]
        return kept

    def _records(self, data: bytes, head: int) -> Iterator[tuple[bytes, bytes]]:
        """Decision ids and answers of a log, up to where it is torn.

        Args:
            head: bytes of an answer before its action.
        """
        at, size = 0, head
        while True:
            if self._labels is None:
                if at + _LENGTH.size > len(data):
                    return
                (size,) = _LENGTH.unpack_from(data, at)
                at += _LENGTH.size
            end = at + _ID + size
            if end + _CHECKSUM.size > len(data):
                return
            if zlib.crc32(data[at:end]) == _CHECKSUM.unpack_from(data, end)[0]:
                yield data[at : at + _ID], data[at + _ID : end]
            at = end + _CHECKSUM.size

    def close(self) -> None:
        """Write and close the log; the next answer opens a new one."""
        self.flush()
        if self._fd is not None:
            os.close(self._fd)
        self._fd = self._path = None


_EMPTY = blake2b(digest_size=_SUBJECT)  # copied: to make one anew costs half as much again
_EMPTY_ID = blake2b(digest_size=_ID)


def _key(decision_id: str) -> bytes:
    """The 128 bits of a UUIDv7, or as many of a hash."""
    if is_uuid7(decision_id):
        return bytes.fromhex(decision_id.replace("-", ""))
    digest = _EMPTY_ID.copy()
    digest.update(decision_id.encode())
    return digest.digest()


def _digest(subject_id: str) -> bytes:
    digest = _EMPTY.copy()
    digest.update(subject_id.encode())
    return digest.digest()


def another_subject(decision_id: str) -> AnotherSubject:
    """The refusal; it says nothing of whom the answer was given to."""
    return AnotherSubject(
        f"decision_id: {decision_id} was asked for with another subject_id before; expected the "
        "same one, or an id of this decision's own (leave decision_id out, and the answer names "
        "one)"
    )
