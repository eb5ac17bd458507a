"""The spool: what was answered, on disk before the answer, until Kafka has it.

An append is one `write` to a file opened with O_APPEND. That survives `kill -9` of this process,
because the kernel has the bytes; it is not an fsync, which would cost milliseconds an answer.
`sync`, called beside the answers now and then, bounds what a power cut can take.

Records lie in numbered segments. A segment goes once all of it is published and it is older than
the interval at which a broker flushes, so that after a power cut, which may take the end of the
broker's log too, everything still here is published again (repeats fold into nothing).
"""

from __future__ import annotations

import logging
import os
import re
import struct
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

from bakehouse_schemas.errors import SpoolFull
from bakehouse_schemas.process.durable import sync_data, sync_path
from bakehouse_schemas.process.failpoints import reach
from bakehouse_serving.spool.frames import Record, frame, scan

log = logging.getLogger(__name__)

KEEP_S = 60.0  # longer than brokers wait before they flush (the embedded one: 5 s)
SEGMENT_BYTES = 4 << 20
READ_BYTES = 1 << 20
_MOST_SEGMENTS = 10**17  # no position is believed beyond it; names have up to 18 digits
_POSITION = struct.Struct("<QQI")  # segment, offset, crc32 of both


class Spool:
    """A bounded, segmented log with one reader. Appends come from any thread.

    Args:
        folder: of this spool alone; the caller holds its lock.
        limit_bytes: on disk, all segments together.
        keep_s: how long a published segment is kept.
        replay: start from the oldest record kept, not where publishing stood.
        wake: called after an append, from the appending thread.
    """

    def __init__(
        self,
        folder: Path,
        *,
        limit_bytes: int,
        keep_s: float = KEEP_S,
        replay: bool = False,
        wake: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes
        self.keep_s = keep_s
        self.wake = wake
        self._clock = clock
        self._segment_bytes = min(SEGMENT_BYTES, max(4096, limit_bytes // 8))
        self._lock = threading.Lock()
        self._fd: int | None = None
        self.appended = 0  # records, by this process
        self.published = 0  # records, by this process
        self.recovered = 0  # records of an earlier process that were still to be published
        self.damaged = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._sizes = _segments(folder)
        self._position_fd = os.open(folder / "published", os.O_RDWR | os.O_CREAT, 0o644)
        self._acknowledged = (0, 0) if replay else self._load_position()
        if self._sizes:
            last = max(self._sizes)
            self._truncate_torn_tail(last)
            self._acknowledged = max(self._acknowledged, (min(self._sizes), 0))
        self._cursor = self._acknowledged  # where the reader is; ahead of acknowledged in flight
        # never behind the reader, whatever a power cut took: what is appended must be read
        self._newest = max([*self._sizes, self._acknowledged[0]])
        self._total = sum(self._sizes.values())
        self._unread = self.recovered = self._count_unread()
        self._in_flight = 0
        self._synced = 0  # of `appended`, what the disk holds
        self._unsynced: list[int] = []  # segments that were left since the last sync

    # --- writing

    def append(self, records: Sequence[Record], *, always: bool = False) -> None:
        """Write all of the records, or none.

        Args:
            always: even beyond the bound, for the few records that people write.

        Raises:
            SpoolFull: the bound is reached, or the disk refuses; nothing was written.
        """
        if not records:
            return
        data = b"".join(map(frame, records))
        reach("serving.spool.before_write")
        with self._lock:
            if self._total + len(data) > self.limit_bytes and not always:
                self._drop_published(self._clock() + self.keep_s)  # however young
                if self._total + len(data) > self.limit_bytes:
                    raise SpoolFull(
                        f"the spool holds {self._total} of {self.limit_bytes} bytes that Kafka "
                        f"has not taken; {len(data)} more do not fit. What was answered before "
                        "is kept"
                    )
            if self._fd is None or self._sizes[self._newest] >= self._segment_bytes:
                self._open_segment()
            try:
                self._write(data)
            except SpoolFull:  # what Kafka has is kept only as long as there is room for it
                if not self._drop_published(self._clock() + self.keep_s):
                    raise
                self._write(data)
            self._unread += len(records)
            self.appended += len(records)
        reach("serving.spool.after_write")
        self.wake()

    def _write(self, data: bytes) -> None:
        """With the lock held: all of the data, or none and SpoolFull."""
        assert self._fd is not None
        before = self._sizes[self._newest]
        try:
            written = os.write(self._fd, data)
        except OSError as error:
            raise SpoolFull(f"the spool's disk refuses: {error.strerror}") from error
        if written != len(data):
            os.ftruncate(self._fd, before)  # a disk that filled up half-way
            raise SpoolFull("the spool's disk is full; nothing was written")
        self._sizes[self._newest] = before + written
        self._total += written

    def sync(self) -> bool:
        """Have the disk hold all that was appended before this call; False if it did already.

        Appends go on meanwhile. Called by one thread.

        Raises:
            OSError: the disk refuses; what was appended may not survive a power cut.
        """
        with self._lock:
            if self._fd is None or self._synced == self.appended:
                return False
            appended = self.appended
            behind, self._unsynced = self._unsynced, []
            behind.append(os.dup(self._fd))
        try:
            for fd in behind:
                sync_data(fd)
            if len(behind) > 1 or self._synced == 0:
                sync_path(self.folder)  # a new segment's name, too
        finally:
            for fd in behind:
                os.close(fd)
        self._synced = appended
        return True

    def _open_segment(self) -> None:
        number = self._newest + 1
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        while True:
            try:
                fd = os.open(self._path(number), flags, 0o644)
                break
            except FileExistsError:  # no segment, or it would be known: whatever it is, past it
                number += 1
            except OSError as error:
                raise SpoolFull(f"the spool's disk refuses: {error.strerror}") from error
        if self._fd is not None:
            self._unsynced.append(self._fd)  # closed by the next sync
        self._fd, self._newest = fd, number
        self._sizes[number] = 0

    # --- reading

    def read(self, most: int = 2_000) -> list[Record]:
        """The next records that are not yet published, at most about 1 MiB of them; else empty."""
        while True:
            with self._lock:
                segment, offset = self._cursor
                size = self._sizes.get(segment)
                following = min((n for n in self._sizes if n > segment), default=None)
            if size is None or offset >= size:
                if following is None:
                    return []
                self._cursor = (following, 0)
                continue
            records = self._read_from(segment, offset, size, most)
            if records:
                with self._lock:
                    self._unread -= len(records)
                    self._in_flight += len(records)
                return records

    def _read_from(self, segment: int, offset: int, size: int, most: int) -> list[Record]:
        length = READ_BYTES
        with self._path(segment).open("rb") as file:
            while True:
                file.seek(offset)
                data = file.read(min(length, size - offset))
                # A size is set after a whole write, so nothing before it is still growing.
                whole = offset + len(data) >= size
                found = scan(data, most=most, sealed=whole)
                if found.records or whole:
                    break
                length *= 4  # one record larger than what was read
        self.damaged += found.damaged
        self._cursor = (segment, offset + found.end)
        return found.records

    def newest(self, topic: int, count: int) -> list[Record]:
        """At least the newest `count` records of a topic, if so many are kept; oldest first."""
        found: list[Record] = []
        for number in sorted(self._sizes, reverse=True):
            records = scan(self._path(number).read_bytes(), sealed=True).records
            found = [record for record in records if record.topic == topic] + found
            if len(found) >= count:
                break
        return found

    def acknowledge(self) -> None:
        """Everything that was read is published: remember it, and let old segments go."""
        with self._lock:
            self.published += self._in_flight
            self._in_flight = 0
            self._acknowledged = self._cursor
            self._drop_published(self._clock())
            packed = _POSITION.pack(*self._cursor, _position_crc(*self._cursor))
            try:
                os.pwrite(self._position_fd, packed, 0)
            except OSError as error:  # a full disk: written with the next; repeats fold away
                log.warning("%s: its position is not kept (%s)", self.folder, error)

    def rewind(self) -> None:
        """What was read and not acknowledged will be read again."""
        with self._lock:
            self._unread += self._in_flight
            self._in_flight = 0
            self._cursor = self._acknowledged

    @property
    def waiting(self) -> int:
        """Records that Kafka has not acknowledged."""
        return self._unread + self._in_flight

    @property
    def drained(self) -> bool:
        return self.waiting == 0

    @property
    def bytes_on_disk(self) -> int:
        return self._total

    def close(self) -> None:
        """Release the files; what is unpublished stays for the next process."""
        with self._lock:
            for fd in (*self._unsynced, *((self._fd,) if self._fd is not None else ())):
                os.close(fd)
            self._unsynced, self._fd = [], None
            if self._position_fd >= 0:
                os.close(self._position_fd)
                self._position_fd = -1

    # --- housekeeping

    def _path(self, segment: int) -> Path:
        return self.folder / f"{segment:012d}.log"

    def _drop_published(self, now: float) -> bool:
        """With the lock held: delete segments behind the acknowledged one, if old enough.

        Returns whether there were any.
        """
        dropped = False
        for number in sorted(self._sizes):
            if number >= self._acknowledged[0] or (number == self._newest and self._fd is not None):
                break
            path = self._path(number)
            try:
                if now - path.stat().st_mtime < self.keep_s:
                    break
                path.unlink()
            except FileNotFoundError:
                pass
            self._total -= self._sizes.pop(number)
            dropped = True
        return dropped

    def _load_position(self) -> tuple[int, int]:
        packed = os.pread(self._position_fd, _POSITION.size, 0)
        if len(packed) == _POSITION.size:
            segment, offset, checksum = _POSITION.unpack(packed)
            if checksum == _position_crc(segment, offset) and segment <= _MOST_SEGMENTS:
                return segment, offset
        return 0, 0  # never published, or unreadable: from the oldest, repeats fold away

    def _truncate_torn_tail(self, number: int) -> None:
        """Cut off a frame that a killed process had begun to write."""
        data = self._path(number).read_bytes()
        end = scan(data).end
        if end < len(data):
            self.damaged += 1
            os.truncate(self._path(number), end)
            self._sizes[number] = end

    def _count_unread(self) -> int:
        """Records after the acknowledged position, by walking the frames' headers."""
        count = 0
        for number in sorted(self._sizes):
            if number < self._acknowledged[0]:
                continue
            data = self._path(number).read_bytes()
            from_ = self._acknowledged[1] if number == self._acknowledged[0] else 0
            count += len(scan(data[from_:], sealed=True).records)
        return count


def _segments(folder: Path) -> dict[int, int]:
    """Number and size of each segment. A file of another name is none, and is let be."""
    found: dict[int, int] = {}
    for path in sorted(folder.glob("*.log")):
        number = int(path.stem) if re.fullmatch("[0-9]{12,18}", path.stem) else -1
        if path.name == f"{number:012d}.log" and path.is_file():
            found[number] = path.stat().st_size
        else:
            log.warning("%s is no segment of the spool; it is passed over", path)
    return found


def _position_crc(segment: int, offset: int) -> int:
    return zlib.crc32(struct.pack("<QQ", segment, offset))
