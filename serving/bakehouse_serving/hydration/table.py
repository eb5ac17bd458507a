"""A Parquet file or Delta table in memory: one row in about a microsecond, whatever its size.

Columns are kept as arrays, and the keys in dictionaries, so that a million subjects are some
hundred megabytes and no work for the garbage collector. A new version is read aside and put in
place at once. Whatever holds the interpreter goes in small steps that let requests pass: a
dictionary of a million keys that grows, or is freed, would stop them all for 0.1 s.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bakehouse_schemas.application.hydration import FromTable
from bakehouse_schemas.process.addresses import told, without_secrets

log = logging.getLogger(__name__)
FIRST_WAIT_S = 10.0  # for the first reading: better late than with defaults for everyone
AGAIN_AFTER_S = 5.0  # when it could not be read
STEP = 1_000  # keys or texts taken in at once, about 0.3 ms
SHARDS = 256  # dictionaries of keys
FREED_AFTER_S = 1.0  # a request that has begun to read an old version is over by then

Column = Callable[[int], Any]  # position of a row → its value, None where there is none


class Content:
    """One version of the table."""

    def __init__(self, shards: list[dict[str, int]], columns: dict[str, Column]) -> None:
        self._shards = shards
        self._columns = tuple(columns.items())

    def __len__(self) -> int:
        return sum(map(len, self._shards))

    def row(self, key: str) -> dict[str, Any] | None:
        at = self._shards[hash(key) % SHARDS].get(key)
        if at is None:
            return None
        return {name: column(at) for name, column in self._columns}

    def free(self) -> None:
        """Let go of the keys, step by step."""
        for shard in self._shards:
            shard.clear()
            time.sleep(0)


class Table:
    """A table in memory, read again in the background where it has changed.

    `row` may be called from any thread.

    Args:
        clock: seconds since 1970, UTC.
    """

    def __init__(self, hydration: FromTable, *, clock: Callable[[], float] = time.time) -> None:
        self._hydration = hydration
        self._clock = clock
        self._content = Content([{} for _ in range(SHARDS)], {})
        self._outdated: Content | None = None
        self._version: Any = None  # of what is in place
        self._read_at_s: float | None = None
        self._problem: str | None = "not read yet"
        self._stopping = threading.Event()
        self._first = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="hydration table", daemon=True)

    def row(self, key: str) -> dict[str, Any] | None:
        """The columns of a subject, None for an unknown one."""
        return self._content.row(key)

    def start(self) -> None:
        """Read it, and go on looking; waits a little for the first reading."""
        self._thread.start()
        if not self._first.wait(FIRST_WAIT_S):
            log.warning(
                "%s is still being read; until then the default",
                without_secrets(self._hydration.uri),
            )

    def is_alive(self) -> bool:
        """Whether it goes on looking."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def state(self) -> dict[str, Any]:
        """For status."""
        return {
            "rows": len(self._content),
            "read_at_ms": None if self._read_at_s is None else int(self._read_at_s * 1000),
            "problem": self._problem,
        }

    def refresh(self) -> bool:
        """Read it again if it has changed; True if what is in place is what is there now."""
        try:
            version, content = _read(self._hydration, self._version)
        except Exception as error:  # files half written, a store that is away: the old one stays
            problem = told(error)[:300]
            if problem != self._problem:
                log.warning("%s cannot be read (%s)", without_secrets(self._hydration.uri), error)
            self._problem = problem
            return False
        if content is not None:
            self._outdated, self._content = self._content, content
            self._version, self._read_at_s = version, self._clock()
        self._problem = None
        return True

    def _keep(self) -> None:
        every_s = self._hydration.refresh.total_seconds()
        while not self._stopping.is_set():
            there = False
            try:
                there = self.refresh()
                self._first.set()
                self._free_outdated()
            except Exception:  # no turn is the last: players' features would stay as they are
                log.exception("a look at %s failed", without_secrets(self._hydration.uri))
            self._stopping.wait(every_s if there else min(every_s, AGAIN_AFTER_S))

    def _free_outdated(self) -> None:
        old, self._outdated = self._outdated, None
        if old is not None and len(old):
            self._stopping.wait(FREED_AFTER_S)
            old.free()


def _read(hydration: FromTable, known: Any) -> tuple[Any, Content | None]:
    """Version and content; None for a content that is known already."""
    import pyarrow as pa

    uri, names = hydration.uri, [hydration.key, *hydration.columns]
    names = list(dict.fromkeys(names))
    if (Path(uri) / "_delta_log").is_dir() or ("://" in uri and not uri.endswith(".parquet")):
        from deltalake import DeltaTable

        delta = DeltaTable(uri)
        version: Any = delta.version()
        if version == known:
            return version, None
        arrow = delta.to_pyarrow_table(columns=names)
    else:
        import pyarrow.parquet as pq

        version = None if "://" in uri else sorted(_stamps(Path(uri)))
        if version is not None and version == known:
            return version, None
        arrow = pq.read_table(uri, columns=names)
    if lacking := [name for name in names if name not in arrow.column_names]:
        raise ValueError(f"it has no column {', '.join(lacking)}")
    columns = {name: _column(name, arrow[name], pa) for name in hydration.columns}
    return version, Content(_positions(arrow[hydration.key]), columns)


def _stamps(path: Path) -> Iterator[tuple[str, int, int]]:
    for file in sorted(path.rglob("*.parquet")) if path.is_dir() else [path]:
        stat = file.stat()
        yield str(file), stat.st_mtime_ns, stat.st_size


def _positions(keys: Any) -> list[dict[str, int]]:
    """Key → position, by the key's hash."""
    shards: list[dict[str, int]] = [{} for _ in range(SHARDS)]
    for at, key in enumerate(_stepwise(keys)):
        if key is not None:
            text = key if type(key) is str else str(key)
            shards[hash(text) % SHARDS][text] = at
    return shards


def _stepwise(values: Any) -> Iterator[Any]:
    """Arrow's values as Python's."""
    for start in range(0, len(values), STEP):
        yield from values.slice(start, STEP).to_pylist()
        time.sleep(0)


def _column(name: str, values: Any, pa: Any) -> Column:
    """Values of JSON's kinds by position; what JSON cannot say (NaN, infinity) is none.

    Raises:
        TypeError: the column holds something else.
    """
    kind = values.type
    values = values.combine_chunks() if values.num_chunks != 1 else values.chunk(0)
    if pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return _numbers(values, pa)
    if pa.types.is_dictionary(kind):
        kind, values = kind.value_type, values.cast(kind.value_type)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _texts(values)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        inner = kind.value_type
        if pa.types.is_floating(inner) or pa.types.is_integer(inner):
            if pa.types.is_fixed_size_list(kind):
                values = values.cast(pa.list_(inner))
            return _lists(values, pa)
    raise TypeError(
        f"column {name!r} holds {kind}; expected numbers, booleans, texts or lists of numbers"
    )


def _numbers(values: Any, pa: Any) -> Column:
    array, there = _array(values, pa)
    if there is None:
        return array.item
    return lambda at: array.item(at) if there[at] else None


def _array(values: Any, pa: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Values, and which of them are there; None: all."""
    there = ~values.is_null().to_numpy(zero_copy_only=False)
    if values.null_count:
        values = values.fill_null(False if pa.types.is_boolean(values.type) else 0)
    array = values.to_numpy(zero_copy_only=False)
    if array.dtype.kind == "f":
        there &= np.isfinite(array)
    return array, None if there.all() else there


def _texts(values: Any) -> Column:
    coded = values.dictionary_encode()
    texts = [*_stepwise(coded.dictionary), None]  # position −1: none
    codes = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return lambda at: texts[codes[at]]


def _lists(values: Any, pa: Any) -> Column:
    none = values.is_null().to_numpy(zero_copy_only=False)
    lengths = values.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    ends = np.cumsum(lengths, dtype=np.int64)
    starts = ends - lengths
    array, there = _array(values.flatten(), pa)
    if there is not None:  # one number that is not there spoils its list
        gaps = np.concatenate([[0], np.cumsum(~there)])
        none |= gaps[ends] > gaps[starts]
    return lambda at: None if none[at] else array[starts[at] : ends[at]].tolist()
