"""Where in the table is this learner, and how does it begin anew from all of it?"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from bakehouse_learner.replay.arrow_columns import COLUMNS
from bakehouse_learner.replay.other_contracts import Known
from bakehouse_learner.replay.rebuild import newest_rows, rebuild
from bakehouse_learner.replay.ring import Ring
from bakehouse_learner.replay.row_decoder import Arrival, RowDecoder
from bakehouse_learner.replay.tail import Commit, Tail
from bakehouse_schemas.application.application import Application


class TableReader:
    """Reads one application's rows of the table `replay`.

    Args:
        table: its address.
        known: see `bakehouse_learner.replay.other_contracts.OtherContracts`.
    """

    def __init__(self, table: str, application: Application, known: Known | None = None) -> None:
        self._table = table
        self._application = application
        self.decoder = RowDecoder(application, known)
        self.tail = Tail(table, application.name)

    def go_on_at(self, version: int) -> None:
        """All of the table up to that version has been read."""
        self.tail = Tail(self._table, self._application.name, version)

    def rebuilt(self) -> Ring:
        """The newest decisions of the table; what is new is what comes after."""
        ring, version = rebuild(self._table, self._application, self.decoder)
        self.go_on_at(version)
        return ring

    def newest(self, most: int) -> list[Arrival]:
        """Rows of the newest decisions; what is new is what comes after."""
        decode = self.decoder.decode
        found = newest_rows(self._table, self._application, decode, most=most)
        self.go_on_at(found.version)
        return found.rows

    def rows_of(self, commit: Commit) -> Iterator[tuple[pa.Table, list[Arrival]]]:
        """A commit's rows, as they are and encoded, a file at a time."""
        for added in commit.added:
            rows = self.tail.read(added, COLUMNS)
            yield rows, self.decoder.decode(rows)
