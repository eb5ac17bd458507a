"""Past decisions to learn from and to evaluate on: a home's replay table, or a studio's own log.

Rewards are not read but computed, by the application as it is now, from outcomes as they
happened: under a changed reward the same history teaches something else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute
from deltalake import DeltaTable

from bakehouse_learner.offline.history.files import Read, read_files
from bakehouse_learner.offline.history.layout import replay_rows
from bakehouse_learner.offline.history.propensity_model import estimate_propensities
from bakehouse_learner.replay.rebuild import newest_rows
from bakehouse_learner.replay.ring import Ring
from bakehouse_learner.replay.row_decoder import Arrival, RowDecoder
from bakehouse_schemas.application.application import Application, Episodic
from bakehouse_schemas.contracts.known import KnownContracts
from bakehouse_schemas.errors import InvalidHistory

Propensities = Literal["logged", "estimated", "partly estimated"]

ELSEWHERE = "Name the home of a stack that has played with --home, or another history with --from"


class History(NamedTuple):
    """Past decisions, in the order in which they were made."""

    application: Application  # as it learns from them: a file may give rewards themselves
    arrivals: list[Arrival]
    propensities: Propensities
    notes: tuple[str, ...]  # what a person should know of it, in sentences
    stream_time_ms: int  # by then everything was known
    timed: bool  # whether outcomes came when they say; else how long they took is unknown
    table_version: int  # of the replay table; −1: it is none
    left_out_ms: int = -1  # decisions received up to then exist and are left out
    contexts: Mapping[str, str] = MappingProxyType({})  # JSON by decision_id, if asked for
    whose: Mapping[str, Any] = MappingProxyType({})  # subject by decision_id, if asked for
    refused: int = 0  # rows whose contexts cannot be encoded

    def ring(self) -> Ring:
        """A buffer as large as the history, with all of it in, matured."""
        ring = Ring(self.application)
        ring.forget_before(self.left_out_ms)
        ring.ingest(self.arrivals)
        ring.mature(self.stream_time_ms)
        ring.time_out(self.stream_time_ms)
        return ring


def read_history(
    application: Application,
    source: str | Path,
    *,
    most: int | None = None,
    contexts: bool = False,
) -> History:
    """The newest `most` past decisions (default: as many as the application's buffer holds).

    `source` is one of
    - a home, or the address of a replay table: decisions and outcomes as they were recorded. Of
      another contract, as when the observation was changed, contexts are encoded anew;
    - a `.csv` (or `.csv.gz`) or `.parquet` file, a folder of such files as
      `bakehouse_learner.offline.history.files` says, or another Delta table, laid out as
      `bakehouse_learner.offline.history.layout` says.

    `contexts` keeps what the observations were made of, and whose decisions they were.

    Raises:
        InvalidHistory: nothing is there, or a row is not as its layout says.
    """
    most = application.training.buffer if most is None else most
    address = str(source).rstrip("/")
    for table in (f"{address}/tables/replay", f"{address}/replay", address):
        names = _delta_columns(table)
        if names is not None and {"positions", "outcomes", "contested"} <= names:
            known = None if "://" in address else KnownContracts(Path(address))
            return _from_replay(application, table, most, contexts, known)
        if names is not None:
            rows = DeltaTable(table).to_pyarrow_table()
            return _from_layout(application, rows, table, most, contexts)
    found = _read_files(Path(address))
    return _from_layout(application, found.table, address, most, contexts, notes=found.notes)


def _delta_columns(table: str) -> set[str] | None:
    if "://" not in table and not (Path(table) / "_delta_log").is_dir():
        return None
    try:
        return {field.name for field in DeltaTable(table).schema().fields}
    except Exception as error:  # deltalake raises many kinds; its own words are the best
        if "://" in table:
            return None
        raise InvalidHistory(f"{table} cannot be read as a Delta table: {error}") from error


def _from_replay(
    application: Application,
    table: str,
    most: int,
    contexts: bool,
    known: KnownContracts | None,
) -> History:
    decoder = RowDecoder(
        application, None if known is None else partial(known.of, application.name)
    )
    kept: dict[str, str] = {}

    def decode(rows: pa.Table) -> list[Arrival]:
        if contexts:
            kept.update(_contexts(rows))
        return decoder.decode(rows)

    found = newest_rows(table, application, decode, most=most)
    if not found.rows:
        raise InvalidHistory(
            f"{table} holds no decisions of {application.name!r} that can be read "
            f"({decoder.refused + decoder.gone} rows cannot be encoded, or are of actions that are "
            "gone); expected those of a stack that has "
            f"served it. {ELSEWHERE}"
        )
    notes = []
    if decoder.recoded:
        notes.append(
            f"{decoder.recoded} rows are of another contract: their contexts were encoded anew"
        )
    if decoder.gone:
        notes.append(f"{decoder.gone} rows are of actions that are gone, and were left out")
    if decoder.refused:
        notes.append(f"{decoder.refused} rows cannot be encoded and were left out")
    if found.left_out_ms >= 0:
        notes.append(f"the newest {most} decisions; older ones were left out")
    known_ms = max(
        max((o.received_at_ms for o in row.known.outcomes), default=row.known.received_at_ms)
        for row in found.rows
    )
    return History(
        application=application,
        arrivals=found.rows,
        propensities="logged",
        notes=tuple(notes),
        stream_time_ms=known_ms,
        timed=True,
        table_version=found.version,
        left_out_ms=found.left_out_ms,
        contexts=kept,
        whose=_subjects(application, table) if contexts else {},
        refused=decoder.refused,
    )


def _subjects(application: Application, table: str) -> dict[str, Any]:
    dataset = DeltaTable(table).to_pyarrow_dataset()
    mine = pa.compute.field("application") == application.name
    rows = dataset.to_table(columns=["decision_id", "subject_id"], filter=mine)
    ids, subjects = rows.column("decision_id").to_pylist(), rows.column("subject_id").to_pylist()
    return {i: subject for i, subject in zip(ids, subjects, strict=True) if subject is not None}


def _contexts(rows: pa.Table) -> dict[str, str]:
    ids, texts = rows.column("decision_id").to_pylist(), rows.column("context").to_pylist()
    return {decision: text for decision, text in zip(ids, texts, strict=True) if text is not None}


def _read_files(path: Path) -> Read:
    if not path.exists():
        raise InvalidHistory(
            f"{path}: there is nothing there; expected a home, a Delta table, a .parquet or .csv "
            f"file, or a folder of such files. {ELSEWHERE}"
        )
    return read_files(path)


def _from_layout(
    application: Application,
    table: pa.Table,
    named: str,
    most: int,
    contexts: bool,
    notes: Sequence[str] = (),
) -> History:
    laid = replay_rows(application, table, named)
    arrivals = RowDecoder(laid.application).decode(laid.rows)
    if len(arrivals) != laid.rows.num_rows:
        raise InvalidHistory(
            f"{named}: {laid.rows.num_rows - len(arrivals)} rows cannot be encoded, although each "
            "column is as expected; nothing was learned"
        )
    said = [*notes, *laid.notes]
    if len(arrivals) > most:
        arrivals = arrivals[-most:]
        said.append(f"the newest {most} decisions; older ones were left out")
        laid = laid._replace(given=laid.given[-most:], groups=laid.groups[-most:])
    propensities: Propensities = "logged"
    missing = ~laid.given
    if missing.any():
        propensities = "estimated" if missing.all() else "partly estimated"
        arrivals = _with_estimates(application, arrivals, missing, laid.groups)
        said.append(
            f"{int(missing.sum())} of {len(arrivals)} propensities are estimated from the context "
            "(multinomial logistic regression, cross-fitted): importance weights are only as good "
            "as the logs' choice can be explained by it"
        )
    problem = application.problem
    known_ms = max(
        max((o.received_at_ms for o in row.known.outcomes), default=row.known.received_at_ms)
        for row in arrivals
    )
    wait_ms = application.reward.window_ms + 1
    if isinstance(problem, Episodic):
        wait_ms += round(problem.timeout.total_seconds() * 1000)
    return History(
        application=laid.application,
        arrivals=arrivals,
        propensities=propensities,
        notes=tuple(said),
        stream_time_ms=known_ms + wait_ms,  # a log is written when all is over
        timed=laid.timed,
        table_version=-1,
        contexts=_contexts(laid.rows) if contexts else {},
        whose=(
            {row.decision_id: int(g) for row, g in zip(arrivals, laid.groups, strict=True)}
            if contexts
            else {}
        ),
    )


def _with_estimates(
    application: Application, arrivals: list[Arrival], missing: np.ndarray, groups: np.ndarray
) -> list[Arrival]:
    found = estimate_propensities(
        np.array([row.observation for row in arrivals]),
        np.array([row.action[0] for row in arrivals], dtype=np.int64),
        np.array([row.eligible for row in arrivals]),
        groups,
        floor=application.exploration.floor,
    )
    return [
        row._replace(
            known=row.known._replace(propensity=float(propensity)),
            support=not row.holdout and propensity < 1,
        )
        if unknown
        else row
        for row, propensity, unknown in zip(arrivals, found.tolist(), missing, strict=True)
    ]
