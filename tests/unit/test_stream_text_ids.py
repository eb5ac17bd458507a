"""All rows of one id lie in one hour, whatever is killed, lost, repeated or built anew."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from bakehouse_schemas.events.events import Decision, Outcome
from bakehouse_schemas.ids import uuid7, uuid7_hour
from bakehouse_schemas.process.settings import Settings
from bakehouse_stream.columns import arrow_schema
from bakehouse_stream.kafka.decode import Decoder, Record, _ledger_row, decision_row, outcome_row
from bakehouse_stream.tables.id_hours import UNKNOWN, IdHours, digests
from bakehouse_stream.tables.tables import Table, create_tables, open_table
from bakehouse_stream.tables.text_ids import TextIds, remembered
from tests.stream_events import APPLICATION, decision, outcome

MS_PER_HOUR = 3_600_000
HOUR = 498_715
SPAN = timedelta(hours=30)
TABLES = {"replay": "replay", "outcome": "outcomes"}


def settings_in(folder: Path) -> Settings:
    settings = Settings(home=folder)
    create_tables(settings, first_offsets={})
    return settings


def opened(settings: Settings) -> dict[str, Table]:
    return {output: open_table(settings, table) for output, table in TABLES.items()}


def place(offset: int, hour: int, topic: str) -> Record:
    return Record(topic, 0, offset, hour * MS_PER_HOUR + 7, None, b"")


def decided(decision_id: str, offset: int, hour: int) -> dict[str, Any]:
    event = decision(decision_id, decided_at_ms=hour * MS_PER_HOUR)
    return decision_row(Decision.model_validate(event), place(offset, hour, "d"))


def told(decision_id: str, offset: int, hour: int) -> dict[str, Any]:
    entry = outcome_row(
        Outcome.model_validate(outcome(decision_id, f"o{offset}")), place(offset, hour, "o")
    )
    return _ledger_row(APPLICATION.name, decision_id, entry)


def batch(replay: list[dict[str, Any]], outcomes: list[dict[str, Any]]) -> dict[str, pa.Table]:
    return {
        "replay": pa.Table.from_pylist(replay, schema=arrow_schema("replay")),
        "outcome": pa.Table.from_pylist(outcomes, schema=arrow_schema("outcomes")),
        "quarantined": pa.table({}),
    }


def hours_of(settings: Settings) -> dict[str, set[int]]:
    """Every id's hours, in both tables."""
    found: dict[str, set[int]] = {}
    for table in opened(settings).values():
        rows = table.read(table.files(), ["decision_id", "hour"])
        for decision_id, hour in zip(*(c.to_pylist() for c in rows.columns), strict=True):
            found.setdefault(decision_id, set()).add(hour)
    return found


class Life:
    """A stream process: batches committed one after the other, until it is killed."""

    def __init__(self, settings: Settings, *, saves: bool) -> None:
        self.tables = opened(settings)
        self.now_s = 0.0
        memory = settings.home / "stream" / "text_ids"
        self.ids = TextIds(memory, span=SPAN, clock=lambda: self.now_s)
        self.saves = saves
        self.ids.load(self.tables)

    def apply(self, rows: dict[str, pa.Table], *, killed_after: int = 2) -> None:
        """Commit as the query does; killed after so many commits."""
        found = self.ids.placed(rows)
        for output in ("replay", "outcome")[:killed_after]:
            self.tables[output].append(found[output])
        if killed_after == 2:
            self.now_s += 61.0 if self.saves else 0.0
            self.ids.note(self.tables)


IDS = ["5f0c1e0e-7f2b-4d55-9a2e-2f3d1f0a9c11", "match 7", "é" * 64, "ABC"]
EVENTS = st.lists(
    st.tuples(st.sampled_from(IDS), st.sampled_from("dop"), st.integers(0, 1)),
    min_size=1,
    max_size=5,
)
LIVES = st.lists(
    st.tuples(EVENTS, st.sampled_from([2, 2, 2, 0, 1]), st.booleans(), st.booleans()),
    min_size=1,
    max_size=6,
)


@examples(max_examples=12, deadline=None)
@given(LIVES)
def test_every_id_has_one_hour_through_kills_repeats_and_lost_files(lives: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = settings_in(Path(folder))
        life, offset, hour, first = Life(settings, saves=True), 0, HOUR, {}
        for events, killed_after, saves, lost in lives:
            replay, outcomes = [], []
            for decision_id, what, later in events:
                offset += 1
                hour += later
                if what in "dp":  # a decision; or one that is joined with an outcome
                    replay.append(decided(decision_id, offset, hour))
                if what in "op":
                    outcomes.append(told(decision_id, offset, hour))
            life.saves = saves
            life.apply(batch(replay, outcomes), killed_after=killed_after)
            if killed_after < 2:
                life = Life(settings, saves=saves)
                life.apply(batch(replay, outcomes))  # what was not noted as applied is read again
            for row in (*replay, *outcomes):
                at = row["positions"][0]["received_at_ms"] // MS_PER_HOUR
                first[row["decision_id"]] = min(first.get(row["decision_id"], at), at)
            if lost:
                shutil.rmtree(settings.home / "stream", ignore_errors=True)
                life = Life(settings, saves=saves)
            assert hours_of(settings) == {one: {at} for one, at in first.items()}


def test_a_retry_hours_later_lies_where_the_first_one_lay_and_beyond_the_span_it_is_new(
    tmp_path: Path,
) -> None:
    settings = settings_in(tmp_path)
    life = Life(settings, saves=True)
    life.apply(batch([decided("a", 1, HOUR)], []))
    life.apply(batch([decided("a", 2, HOUR + 1)], [told("a", 3, HOUR + 30)]))
    assert hours_of(settings) == {"a": {HOUR}}
    for saves in (False, True):  # from the files, and from the tables alone
        anew = Life(settings, saves=saves)
        found = anew.ids.placed(batch([decided("a", 4, HOUR + 31)], [told("a", 5, HOUR + 29)]))
        # of one batch the first event decides for all
        assert found["replay"].column("hour").to_pylist() == [HOUR]
        late = anew.ids.placed(batch([decided("a", 6, HOUR + 31)], []))
        assert late["replay"].column("hour").to_pylist() == [HOUR + 31]
        shutil.rmtree(settings.home / "stream")


def test_an_outcome_that_comes_first_decides_where_its_decision_lies(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    life = Life(settings, saves=True)
    life.apply(batch([], [told("early", 1, HOUR)]))
    life.apply(batch([decided("early", 2, HOUR + 1)], []))
    assert hours_of(settings) == {"early": {HOUR}}


@pytest.mark.parametrize("sign", ["z", "é", "🎲", "\U00020000", "\U0010ffff"])
def test_statistics_of_a_file_that_was_replaced_still_say_what_it_holds(
    tmp_path: Path, sign: str
) -> None:
    settings = settings_in(tmp_path)
    long = [sign * (126 // len(sign.encode())) + tail for tail in ("a1", "b2")]
    life = Life(settings, saves=True)
    life.apply(batch([], [told(one, at, HOUR) for at, one in enumerate(long)]))
    table = open_table(settings, "outcomes")
    (file,) = table.files()
    new = file.path.replace("part-", "folded-")
    shutil.copy(Path(table.uri) / file.path, Path(table.uri) / new)
    table.replace([file], [dataclasses.replace(file, path=new)], now_ms=1)
    for handle in (table, open_table(settings, "outcomes")):
        (found,) = handle.files()
        assert found.path == new
        assert (found.low, found.high) == (long[0], long[1])
        assert all(found.may_hold([one]) for one in long)


def test_a_uuid7_keeps_its_own_hour_and_is_not_remembered(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    life = Life(settings, saves=True)
    made = uuid7(HOUR * MS_PER_HOUR)
    rows = batch([decided(made, 1, HOUR + 5)], [told(made, 2, HOUR + 9)])
    assert life.ids.placed(rows)["replay"] is rows["replay"]  # untouched
    life.apply(rows)
    assert hours_of(settings) == {made: {uuid7_hour(made)}}
    assert len(life.ids) == len(Life(settings, saves=True).ids) == 0


def test_tables_made_anew_at_the_same_place_are_not_taken_for_those_of_before(
    tmp_path: Path,
) -> None:
    settings = settings_in(tmp_path)
    Life(settings, saves=True).apply(batch([decided("a", 1, HOUR)], []))
    shutil.rmtree(settings.tables)
    create_tables(settings, first_offsets={})
    life = Life(settings, saves=True)
    life.apply(batch([decided("a", 1, HOUR + 3)], []))
    assert hours_of(settings) == {"a": {HOUR + 3}}


def test_a_longer_window_reads_the_tables_again(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    Life(settings, saves=True).apply(batch([decided("a", 1, HOUR)], []))
    longer = TextIds(settings.home / "stream" / "text_ids", span=2 * SPAN)
    longer.load(opened(settings))
    found = longer.placed(batch([decided("a", 4, HOUR + 50)], []))
    assert found["replay"].column("hour").to_pylist() == [HOUR]


def test_the_decoder_leaves_the_hour_open_where_the_id_does_not_say_it() -> None:
    checks = Decoder({APPLICATION.name: APPLICATION}, "d")
    record = place(1, HOUR, "d")._replace(value=orjson.dumps(decision("match 7", previous="6")))
    replay, previous = checks.single(record)
    assert replay["replay"]["hour"] is None
    assert previous["outcome"]["hour"] is None
    assert previous["outcome"]["decision_id"] == "6"


def test_ids_are_remembered_as_long_as_anything_is_awaited_and_a_day_but_not_beyond_the_tables():
    window = APPLICATION.reward.window
    assert remembered([APPLICATION], retention_days=30) >= window + timedelta(days=1)
    assert remembered([APPLICATION], retention_days=0.5) == timedelta(hours=12)


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 50), st.integers(0, 40)), min_size=1, max_size=20),
        max_size=30,
    )
)
def test_the_runs_say_what_a_dictionary_would(batches: list[list[tuple[int, int]]]) -> None:
    hours, known, newest = IdHours(span_h=100), {}, 0
    for one in batches:
        hours.add(
            np.array([number for number, _ in one], np.uint64),
            np.array([hour for _, hour in one], np.int32),
        )
        for number, hour in one:
            known[number] = max(known.get(number, hour), hour)
        newest = max(newest, *(hour for _, hour in one))
    asked = np.arange(52, dtype=np.uint64)
    found = hours.find(asked, np.full(52, newest, np.int32))
    assert found.tolist() == [known.get(number, UNKNOWN) for number in range(52)]
    sizes = [len(run.digests) for run in hours.runs]
    assert all(one >= 2 * other for one, other in itertools.pairwise(sizes))


def test_what_no_event_can_ask_for_any_more_takes_no_memory() -> None:
    hours = IdHours(span_h=2)
    for hour in range(200):
        ids = [("game", f"{hour}-{at}") for at in range(64)]
        hours.add(digests(ids), np.full(64, hour, np.int32))
    assert len(hours) < 64 * 40
