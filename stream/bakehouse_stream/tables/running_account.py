"""The running account of a home: partition by partition, those that have not changed remembered."""

from __future__ import annotations

import json
from pathlib import Path

from bakehouse_schemas.process.settings import Settings
from bakehouse_schemas.replay.account import NO_RECORD
from bakehouse_stream.kafka.sources import Offsets
from bakehouse_stream.tables.accounting import (
    LEDGER_COLUMNS,
    QUARANTINE_COLUMNS,
    REPLAY_COLUMNS,
    Account,
    account,
    received,
)
from bakehouse_stream.tables.tables import DataFile, open_table

Partition = tuple[str, int]  # application, hour


class RunningAccount:
    """Accounts for everything that was consumed; keeps the figures of partitions since deleted."""

    def __init__(self, settings: Settings, home: Path) -> None:
        self._replay = open_table(settings, "replay")
        self._ledger = open_table(settings, "outcomes")
        self._quarantine = open_table(settings, "quarantine")
        self._closed_file = home.resolve() / "stream" / "closed.json"
        self._known: dict[Partition | None, tuple[frozenset[str], Account]] = {}
        self.result: dict[str, int] = {}

    def settle(self, *, until: Offsets, stream_time_ms: int, no_record: int = 0) -> dict[str, int]:
        """The account of all positions before `until`, which must have been applied.

        Args:
            no_record: how many of them hold none.
        """
        replay, ledger = by_partition(self._replay.files()), by_partition(self._ledger.files())
        total = self.closed()
        for partition in replay.keys() | ledger.keys():
            total += self._settle_partition(
                partition,
                replay.get(partition, []),
                ledger.get(partition, []),
                until,
                stream_time_ms,
            )
        total += self._settle_quarantine(until, stream_time_ms)
        self.result = {
            "received": received(self._replay.first_offsets(), until),
            **total._asdict(),
            **({NO_RECORD: no_record} if no_record else {}),
        }
        return self.result

    def _settle_partition(
        self,
        partition: Partition,
        replay: list[DataFile],
        ledger: list[DataFile],
        until: Offsets,
        stream_time_ms: int,
    ) -> Account:
        files = frozenset(file.path for file in (*replay, *ledger))
        remembered = self._known.get(partition)
        if remembered is not None and remembered[0] == files:
            return remembered[1]
        found = account(
            self._replay.read(replay, REPLAY_COLUMNS),
            self._ledger.read(ledger, LEDGER_COLUMNS),
            self._quarantine.schema.empty_table(),
            until=until,
            stream_time_ms=stream_time_ms,
        )
        # what waits turns from pending to orphan by time alone: look again
        if found.pending == 0:
            self._known[partition] = (files, found)
        return found

    def _settle_quarantine(self, until: Offsets, stream_time_ms: int) -> Account:
        return account(
            self._replay.schema.empty_table(),
            self._ledger.schema.empty_table(),
            self._quarantine.read(self._quarantine.files(), QUARANTINE_COLUMNS),
            until=until,
            stream_time_ms=stream_time_ms,
        )

    def closed(self) -> Account:
        """What was accounted for in partitions that have been deleted since."""
        kept = self._kept()
        return Account(**{name: kept[name] for name in Account._fields if name in kept})

    def _kept(self) -> dict[str, int]:
        """The file, with what another release may have added."""
        if not self._closed_file.is_file():
            return {}
        kept: dict[str, int] = json.loads(self._closed_file.read_text())
        return kept

    def close_partitions(
        self, partitions: set[Partition], *, until: Offsets, stream_time_ms: int
    ) -> None:
        """Keep the figures of partitions that are about to be deleted."""
        replay, ledger = by_partition(self._replay.files()), by_partition(self._ledger.files())
        total = self.closed()
        for partition in partitions:
            total += self._settle_partition(
                partition,
                replay.get(partition, []),
                ledger.get(partition, []),
                until,
                stream_time_ms,
            )
            self._known.pop(partition, None)
        self._closed_file.parent.mkdir(parents=True, exist_ok=True)
        aside = self._closed_file.with_suffix(".aside")
        aside.write_text(json.dumps(self._kept() | total._asdict()))
        aside.replace(self._closed_file)


def by_partition(files: list[DataFile]) -> dict[Partition, list[DataFile]]:
    """Files by application and hour."""
    found: dict[Partition, list[DataFile]] = {}
    for file in files:
        found.setdefault((file.partition["application"], file.partition["hour"]), []).append(file)
    return found
