"""Quarantine read again: what stream did not know when a record came, and knows now.

A record whose application, label or schema version was unknown waits in quarantine, whole. Read
again it goes through the same decoder, at its own position and with the broker's time of then, and
its rows go where they would have gone. Each position must stay exactly one thing: before anything
is appended, what a round is about to move is staged on disk, and a round that was cut off is
carried out again, to its end, before the account is settled. Its rows may be appended twice, which
the fold and the account absorb.
"""

from __future__ import annotations

import json
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bakehouse_schemas.application.application import Application
from bakehouse_schemas.contracts.contract import Contract
from bakehouse_schemas.process.boot import SETTLED_S
from bakehouse_schemas.process.durable import sync_path
from bakehouse_schemas.process.failpoints import reach
from bakehouse_schemas.process.settings import Settings
from bakehouse_stream.kafka.decode import (
    OUTPUT_SCHEMA,
    OUTPUTS,
    Decoder,
    Record,
    Row,
    known_contracts,
    rows_of,
)
from bakehouse_stream.tables.running_account import by_partition
from bakehouse_stream.tables.tables import DataFile, open_table
from bakehouse_stream.tables.text_ids import TextIds
from bakehouse_stream.upkeep.quarantined import (
    PLACE,
    Place,
    Wish,
    is_wished,
    place_of,
    record_of,
)

# Raise when this release reads records that the one before refused.
READS = 1
MOST_RECORDS, MOST_BYTES = 20_000, 64 << 20  # of one round: it fits into memory

log = logging.getLogger("bakehouse_stream.upkeep.maintenance")


class Requeue:
    """Reads one home's quarantine again; for one thread, the only writer of its tables.

    Args:
        read_with: makes the decoder of now, with what the home knows by then.
        known: what that decoder knows, as JSON has it: where it is not what quarantine was last
            read with, it is read again.
        text_ids: says in which hour an id that is no UUIDv7 lies.
        rewound: the power may have failed: rounds that were done may not have reached the disk.
    """

    def __init__(
        self,
        settings: Settings,
        read_with: Callable[[], Decoder],
        known: Mapping[str, Any],
        text_ids: TextIds,
        *,
        rewound: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._replay = open_table(settings, "replay")
        self._ledger = open_table(settings, "outcomes")
        self._quarantine = open_table(settings, "quarantine")
        self._read_with = read_with
        self._known = {"reads": READS, **known}
        self._text_ids = text_ids
        self._folder = settings.home.resolve() / "stream" / "requeue"
        self._note = settings.home.resolve() / "stream" / "requeue.json"
        self._clock = clock
        self._noted = self._recall()
        self._wishes: list[Wish] = []
        self._staged = sorted(self._folder.glob("*.staged"))
        self._done = {path: clock() for path in self._folder.glob("*.done")}
        if rewound:
            self._staged = sorted([*self._staged, *self._done])
            self._done = {}
        if (last := self._noted.get("known")) != self._known:
            # never read, or by a release that read less: whatever is whole
            less = last is None or last.get("reads") != READS
            self._wishes.append(Wish(everything=less))

    @property
    def is_wanted(self) -> bool:
        """Whether there is something to do."""
        return bool(self._wishes or self._staged)

    @property
    def status(self) -> dict[str, Any]:
        """For `status.v1`: when it was last asked for and done, and what came of it."""
        names = ("asked_at_ms", "done_at_ms", "read", "requeued", "still")
        return {name: self._noted[name] for name in names if name in self._noted}

    def ask(self, wish: Wish) -> bool:
        """Take note of what somebody wants; False where that has been done before."""
        asked = [self._noted.get("asked_at_ms", 0), *(one.at_ms for one in self._wishes)]
        if wish.at_ms <= max(asked):
            return False
        self._wishes.append(wish)
        return True

    def recover(self) -> None:
        """Carry out to its end what a round has begun."""
        for path in tuple(self._staged):
            log.warning("a requeue was cut off, and is carried out to its end: %s", path.name)
            self._carry_out(path)
        for path, since_s in tuple(self._done.items()):
            if self._clock() - since_s > 2 * SETTLED_S:
                path.unlink(missing_ok=True)
                del self._done[path]

    def step(self) -> int:
        """Do all that is wanted; returns how many records were moved."""
        self.recover()
        read = requeued = 0
        while self._wishes:
            wish = self._wishes[0]
            some_read, some_requeued, still = self._run(wish)
            read, requeued = read + some_read, requeued + some_requeued
            self._wishes.pop(0)
            self._remember(wish, read, requeued, still)
            if some_read:
                log.info(
                    "quarantine was read again: %d records, %d requeued, %d still wait",
                    some_read,
                    some_requeued,
                    still,
                )
        return requeued

    def _run(self, wish: Wish) -> tuple[int, int, int]:
        """Records that were read, requeued, and wait still."""
        decoder = self._read_with()
        read = requeued = still = 0
        for records in self._rounds(wish):
            rows: list[Row] = []
            for record, kept in records:
                outputs = decoder.single(record)
                refused = outputs[0].get("quarantined")
                read += 1
                requeued += refused is None
                if refused is not None:
                    still += refused["waits"] is not None
                    # an earlier release did not say what it waits for
                    if all(refused[name] == kept[name] for name in ("reason", "waits")):
                        continue
                rows += outputs
            if rows:
                self._move(self._with_outcomes(self._placed(rows)))
        return read, requeued, still

    def _rounds(self, wish: Wish) -> Iterator[list[tuple[Record, Row]]]:
        """Records that are to be read again, as quarantine has them, so many at a time."""
        found: list[tuple[Record, Row]] = []
        size = 0
        seen: set[Place] = set()  # a repeated batch repeats its rows
        for file in self._quarantine.files():
            for row in self._quarantine.read([file], self._quarantine.schema.names).to_pylist():
                if not is_wished(row, wish) or (place := place_of(row)) in seen:
                    continue
                seen.add(place)
                found.append((record_of(row), row))
                size += len(row["value"])
                if len(found) >= MOST_RECORDS or size >= MOST_BYTES:
                    yield found
                    found, size = [], 0
        if found:
            yield found

    def _placed(self, rows: list[Row]) -> list[Row]:
        """Each with the hour that it lies in, also where its id does not say it."""
        self._text_ids.load({"replay": self._replay, "outcome": self._ledger})
        self._text_ids.place(
            [row for one in rows for output in ("replay", "outcome") if (row := one.get(output))]
        )
        return rows

    def _with_outcomes(self, rows: list[Row]) -> list[Row]:
        """Each decision with the outcomes that are known of it, so that it does not come to a
        learner as one that nothing came of."""
        decisions = {
            (row["application"], row["decision_id"]): row
            for one in rows
            if (row := one.get("replay")) is not None
        }
        told = [one["outcome"] for one in rows if "outcome" in one]
        wanted: dict[tuple[str, int], set[str]] = {}
        for row in decisions.values():
            wanted.setdefault((row["application"], row["hour"]), set()).add(row["decision_id"])
        files = by_partition(self._ledger.files()) if wanted else {}
        for partition, ids in wanted.items():
            here = [file for file in files.get(partition, []) if file.may_hold(sorted(ids))]
            ledger = self._ledger.read(here, self._ledger.schema.names)
            of_these = pc.is_in(ledger.column("decision_id"), pa.array(sorted(ids)))
            told += ledger.filter(of_these).to_pylist()
        for outcome in told:
            decision = decisions.get((outcome["application"], outcome["decision_id"]))
            if decision is not None:
                entry = {n: v for n, v in outcome.items() if n not in _ADDRESS}
                received_ms = min(position["received_at_ms"] for position in entry["positions"])
                decision["outcomes"].append(entry | {"received_at": received_ms * 1000})
        return rows

    def _move(self, rows: list[Row]) -> None:
        """Stage what a round moves, and carry it out."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{uuid.uuid4()}.staged"
        aside = path.with_suffix(".aside")
        table = pa.Table.from_pylist(rows, schema=OUTPUT_SCHEMA)
        with aside.open("wb") as file:
            with pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        sync_path(self._folder)
        self._staged.append(path)
        reach("stream.requeue.staged")
        self._carry_out(path)

    def _carry_out(self, path: Path) -> None:
        """Append a staged round's rows, then let quarantine go of them, in one commit."""
        with path.open("rb") as file:
            rows = pa.ipc.open_file(file).read_all()
        found = {output: rows_of(rows, output) for output in OUTPUTS}
        self._replay.append(found["replay"])
        self._ledger.append(found["outcome"])
        reach("stream.requeue.appended")
        self._let_go(_places(found), found["quarantined"])
        reach("stream.requeue.removed")
        self._staged.remove(path)
        done = path.with_suffix(".done")
        path.replace(done)
        # until the disk surely has the tables' commits, too
        self._done[done] = self._clock()

    def _let_go(self, gone: set[Place], again: pa.Table) -> None:
        """One commit that takes these positions out of quarantine, and puts `again` there."""
        files: list[DataFile] = []
        parts = [again]
        for file in self._quarantine.files():
            places = self._quarantine.read([file], PLACE).to_pylist()
            stays = [place_of(row) not in gone for row in places]
            if not all(stays):
                files.append(file)
                parts.append(self._quarantine.whole(file).filter(pa.array(stays)))
        if files:
            self._quarantine.rewrite(files, parts, now_ms=time.time_ns() // 1_000_000)

    def _recall(self) -> dict[str, Any]:
        try:
            noted: dict[str, Any] = json.loads(self._note.read_text())
        except FileNotFoundError:
            return {}
        except ValueError:
            log.warning("%s is torn: quarantine is read again", self._note)
            return {}
        return noted

    def _remember(self, wish: Wish, read: int, requeued: int, still: int) -> None:
        asked_at_ms = max(wish.at_ms, self._noted.get("asked_at_ms", 0))
        known: dict[str, Any] | None = self._known
        if wish.at_ms and self._noted.get("known") != known:
            # some were read; the rest is, when it has its turn
            known = self._noted.get("known")
        self._noted = {
            "known": known,
            "asked_at_ms": asked_at_ms,
            "done_at_ms": time.time_ns() // 1_000_000,
            "read": read,
            "requeued": requeued,
            "still": still,
        }
        self._note.parent.mkdir(parents=True, exist_ok=True)
        aside = self._note.with_suffix(".aside")
        aside.write_text(json.dumps(self._noted))
        aside.replace(self._note)


def requeue_of(
    settings: Settings,
    applications: Mapping[str, Application],
    text_ids: TextIds,
    *,
    rewound: bool = False,
) -> Requeue:
    """That of a home whose stream has these applications.

    Args:
        text_ids: see `Requeue`.
        rewound: see `Requeue`.
    """
    topic = settings.topic("decisions")

    def known() -> dict[str, list[Contract]]:
        return known_contracts(settings.home, applications)

    return Requeue(
        settings,
        lambda: Decoder(applications, topic, known=known()),
        {"contracts": {name: sorted(c.fingerprint for c in of) for name, of in known().items()}},
        text_ids,
        rewound=rewound,
    )


_ADDRESS = ("application", "hour", "decision_id")


def _places(found: Mapping[str, pa.Table]) -> set[Place]:
    """Where the records of a round lie; of a decision and the `next` that it is, the same place."""
    places = {place_of(row) for row in found["quarantined"].select(PLACE).to_pylist()}
    for output in ("replay", "outcome"):
        positions: Iterable[list[Row]] = found[output].column("positions").to_pylist()
        places |= {place_of(position) for of_row in positions for position in of_row}
    return places
