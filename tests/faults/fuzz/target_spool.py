"""A whole folder of a spool: segments of any bytes, any names, any position of what was published.

Must hold: the spool opens, reads to its end, and never raises; what was read and not acknowledged
is read again after a rewind; what is appended then is read, once, after everything else; and the
same after a restart.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path

from bakehouse_serving.spool import spool as product
from bakehouse_serving.spool.frames import Record
from bakehouse_serving.spool.spool import _POSITION, Spool, _position_crc
from tests.faults.fuzz import target_frames
from tests.faults.fuzz.choices import Choices

logging.getLogger(product.__name__).disabled = True  # it says which files it passes over
NAMES = (
    *("000000000000.log", "000000000001.log", "000000000002.log", "000000000009.log"),
    *(
        "999999999999.log",
        "abc.log",
        "1.log",
        "00000000000١.log",
        "1_0.log",
        ".log",
        "-00000000001.log",
    ),
    *("refused.frames", "0000000000000000000000009.log", "000000000003.log.tmp", "lock"),
)
NUMBERS = (0, 1, 2, 3, 9, 10, 999_999_999_999, 10**17 + 1, (1 << 63), (1 << 64) - 1)
OFFSETS = (0, 1, 13, 100, 4096, 1 << 40, (1 << 64) - 1)
NEW = Record(1, b"new", b'{"new": true}')


def seeds() -> list[bytes]:
    """One segment; two with a position; a position beyond the segments; a strange name."""
    frames = target_frames.seeds()
    one = bytes([1, 0, len(frames[0])]) + frames[0]
    two = bytes([2, 1, len(frames[1])]) + frames[1] + bytes([2, len(frames[2])]) + frames[2]
    return [
        one + bytes([0]),
        two + bytes([1, 1, 2]),
        two + bytes([1, 4, 3]),
        bytes([2, 1, len(frames[3])]) + frames[3] + bytes([11, 3, 1, 2, 3, 2, 5]) + b"torn!",
    ]


def lay(folder: Path, choices: Choices) -> None:
    """Write a folder as the input says."""
    for _ in range(choices.byte() % 5):
        name = NAMES[choices.byte() % len(NAMES)]
        content = Choices(choices.take(choices.byte()))
        framed = b"".join(part for _, part in target_frames.parts(content))
        (folder / name).write_bytes(framed)
    kind = choices.byte() % 4
    if kind == 1:  # a position that looks right
        segment = NUMBERS[choices.byte() % len(NUMBERS)]
        offset = OFFSETS[choices.byte() % len(OFFSETS)]
        packed = _POSITION.pack(segment, offset, _position_crc(segment, offset))
        (folder / "published").write_bytes(packed)
    elif kind == 2:
        (folder / "published").write_bytes(choices.take(choices.byte()))
    elif kind == 3:  # a folder of a segment's name
        (folder / "000000000004.log").mkdir(exist_ok=True)


def read(spool: Spool, most: int) -> list[Record]:
    """Everything up to the end."""
    found: list[Record] = []
    for _ in range(10_000):
        records = spool.read(most)
        if not records:
            return found
        found += records
    raise AssertionError("reading does not end")


def check(data: bytes) -> None:
    """See the module."""
    choices = Choices(data)
    folder = Path(tempfile.mkdtemp(prefix="fuzz-spool-"))
    try:
        lay(folder, choices)
        most = 1 + choices.byte() % 7
        spool = Spool(folder, limit_bytes=1 << 20)
        waiting = spool.waiting
        before = read(spool, most)
        assert len(before) == waiting, f"{waiting} were said to wait, {len(before)} came"
        spool.rewind()
        assert read(spool, most) == before
        spool.append([NEW])
        assert read(spool, most) == [NEW], "what was appended was not read"
        assert spool.waiting == len(before) + 1
        if choices.byte() % 2:
            spool.acknowledge()
            assert spool.drained
            before = []
        else:
            before = [*before, NEW]
        spool.close()
        again = Spool(folder, limit_bytes=1 << 20)
        assert read(again, most) == before, "a restart reads something else"
        again.append([NEW])
        assert read(again, most) == [NEW]
        again.close()
    finally:
        shutil.rmtree(folder)


def plant() -> None:
    """Every `.log` in the folder is taken for a segment."""
    product._segments = lambda folder: {
        int(path.stem): path.stat().st_size for path in sorted(folder.glob("*.log"))
    }
