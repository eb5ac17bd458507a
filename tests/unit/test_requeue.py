"""Quarantine is read again when stream knows more, and each position stays exactly one thing."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from bakehouse_schemas.application.application import Application
from bakehouse_schemas.errors import InvalidEvent
from bakehouse_schemas.events.events import Order
from bakehouse_schemas.ids import uuid7
from bakehouse_schemas.process.settings import Settings
from bakehouse_stream.columns import arrow_schema
from bakehouse_stream.kafka.decode import Decoder, Record, quarantine_row
from bakehouse_stream.requeue import requeue as requeue_home
from bakehouse_stream.tables.running_account import RunningAccount
from bakehouse_stream.tables.tables import Table, create_tables, open_table
from bakehouse_stream.tables.text_ids import TextIds
from bakehouse_stream.upkeep import requeue as module
from bakehouse_stream.upkeep.quarantined import Wish, wish_of
from bakehouse_stream.upkeep.requeue import Requeue
from tests.stream_events import APPLICATION, GAME, decision, outcome

CHESS = dataclasses.replace(APPLICATION, name="chess")
DECISIONS, OUTCOMES = "bakehouse.decisions.v1", "bakehouse.outcomes.v1"
NOW_MS = 1_790_000_000_000
POINTS = ("stream.requeue.staged", "stream.requeue.appended", "stream.requeue.removed")


class Home:
    """Tables to which stream's decoder has appended what came, in the order in which it came."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(home=folder)
        first = {DECISIONS: {"0": 0}, OUTCOMES: {"0": 0}}
        create_tables(self.settings, first_offsets=first)
        self.applied = {DECISIONS: {"0": 0}, OUTCOMES: {"0": 0}}
        self.clock_s = 0.0
        self.text_ids = TextIds(folder / "stream" / "text_ids", span=timedelta(days=2))

    def come(self, topic: str, event: dict[str, Any] | bytes, *applications: Application) -> None:
        value = orjson.dumps(event) if isinstance(event, dict) else event
        offset = self.applied[topic]["0"]
        self.applied[topic]["0"] += 1
        record = Record(topic, 0, offset, NOW_MS + offset, b"key", value)
        for output in self.decoder(*applications).single(record):
            ((name, row),) = output.items()
            self.append(name, row)

    def append(self, output: str, row: dict[str, Any]) -> None:
        table = open_table(
            self.settings,
            {"replay": "replay", "outcome": "outcomes", "quarantined": "quarantine"}[output],
        )
        table.append(pa.Table.from_pylist([row], schema=table.schema))

    def decoder(self, *applications: Application, known: Any = None) -> Decoder:
        return Decoder({one.name: one for one in applications}, DECISIONS, known=known)

    def requeue(self, *applications: Application, known: Any = None, **more: Any) -> Requeue:
        return Requeue(
            self.settings,
            lambda: self.decoder(*applications, known=known),
            {"contracts": {one.name: [one.contract] for one in applications}},
            self.text_ids,
            clock=lambda: self.clock_s,
            **more,
        )

    def rows(self, table: str) -> list[dict[str, Any]]:
        opened = open_table(self.settings, table)
        found: list[dict[str, Any]] = opened.read(opened.files(), opened.schema.names).to_pylist()
        return found

    def account(self) -> dict[str, int]:
        account = RunningAccount(self.settings, self.settings.home)
        return account.settle(until=self.applied, stream_time_ms=NOW_MS)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def played(application: str = "chess", **changes: Any) -> dict[str, Any]:
    """A decision of that application."""
    made = decision(uuid7(NOW_MS), application=application)
    return made | {"contract": CHESS.contract} | changes


def test_a_decision_under_a_text_of_the_games_own_lies_where_its_outcome_lies_already(home: Home):
    made = played() | {"decision_id": "duel 7 of anna"}
    home.come(DECISIONS, made, APPLICATION)
    hour = NOW_MS // 3_600_000
    told = outcome("duel 7 of anna", "o1", application="chess")
    home.come(OUTCOMES, told, APPLICATION)
    home.come(OUTCOMES, told | {"outcome_id": "o2"}, APPLICATION)
    assert home.requeue(APPLICATION, CHESS).step() == 3
    (row,) = home.rows("replay")
    assert {one["hour"] for one in (*home.rows("outcomes"), row)} == {hour}
    assert {one["outcome_id"] for one in row["outcomes"]} == {"o1", "o2"}
    # whatever stream reads next of that id is put there too
    later = {"application": "chess", "decision_id": "duel 7 of anna", "hour": None,
             "received_at": (NOW_MS + 3_600_000) * 1000}  # fmt: skip
    home.text_ids.place([later])
    assert later["hour"] == hour


def test_an_application_that_stream_learns_of_gets_what_came_before_with_its_position(home: Home):
    made = played(region="eu")
    home.come(DECISIONS, made, APPLICATION)
    home.come(OUTCOMES, outcome(made["decision_id"], "o1", application="chess"), APPLICATION)
    home.come(OUTCOMES, b"garbage", APPLICATION)
    assert home.account()["quarantined"] == 3
    requeue = home.requeue(APPLICATION, CHESS)
    assert requeue.step() == 2
    (row,) = home.rows("replay")
    assert row["positions"] == [
        {"received_at_ms": NOW_MS, "topic": DECISIONS, "partition": 0, "offset": 0}
    ]
    assert row["extra"] == '{"region":"eu"}'
    # with its outcome, in one commit: a learner never sees it as one that nothing came of
    assert [one["outcome_id"] for one in row["outcomes"]] == ["o1"]
    assert [one["value"] for one in home.rows("quarantine")] == ["garbage"]
    assert home.account() == {
        "received": 3,
        "applied": 2,
        "duplicate": 0,
        "pending": 0,
        "orphan": 0,
        "quarantined": 1,
    }


def test_the_outcomes_that_waited_in_the_ledger_come_with_their_decision(home: Home):
    made = played()
    home.come(DECISIONS, made, APPLICATION)
    home.come(OUTCOMES, outcome(made["decision_id"], "o1", application="chess"), CHESS)
    assert home.account()["pending"] == 1
    home.requeue(CHESS).step()
    (row,) = home.rows("replay")
    assert [one["outcome_id"] for one in row["outcomes"]] == ["o1"]
    assert row["outcomes"][0] == {
        name: value
        for name, value in home.rows("outcomes")[0].items()
        if name in row["outcomes"][0]
    }
    assert home.account()["applied"] == 2


def test_it_is_read_again_only_where_something_else_is_known(home: Home):
    home.come(DECISIONS, played(), APPLICATION)
    first = home.requeue(APPLICATION)
    assert first.is_wanted  # never read before
    first.step()
    assert first.status["read"] == 1
    assert first.status["still"] == 1
    again = home.requeue(APPLICATION)
    assert not again.is_wanted
    assert again.status == first.status
    assert home.requeue(APPLICATION, CHESS).is_wanted


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("knows", [True, False], ids=["as before", "the application gone"])
def test_a_requeue_that_was_cut_off_is_carried_out_to_its_end(
    home: Home, monkeypatch: pytest.MonkeyPatch, point: str, knows: bool
):
    made = [played() for _ in range(5)]
    for one in made:
        home.come(DECISIONS, one, APPLICATION)
        home.come(OUTCOMES, outcome(one["decision_id"], application="chess"), APPLICATION)
    home.come(OUTCOMES, b"garbage", APPLICATION)

    def end(reached: str) -> None:
        if reached == point:
            raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr(module, "reach", end)
        with pytest.raises(KeyboardInterrupt):
            home.requeue(APPLICATION, CHESS).step()
    next_life = home.requeue(APPLICATION, *([CHESS] if knows else []))
    next_life.recover()
    account = home.account()
    assert (account["received"], account["applied"], account["quarantined"]) == (11, 10, 1)
    next_life.step()
    assert home.account() == account
    assert not list((home.settings.home / "stream" / "requeue").glob("*.staged"))


def test_after_a_power_cut_what_was_moved_lately_is_moved_again(home: Home):
    home.come(DECISIONS, played(), APPLICATION)
    requeue = home.requeue(CHESS)
    requeue.step()
    account = home.account()
    # the commit to replay did not reach the disk, the one to quarantine did
    log = home.settings.home / "tables" / "replay" / "_delta_log"
    sorted(log.glob("*.json"))[-1].unlink()
    assert home.account()["applied"] == 0
    home.requeue(CHESS, rewound=True).recover()
    assert home.account() == account


def test_what_was_staged_is_kept_until_the_disk_surely_has_it(home: Home):
    home.come(DECISIONS, played(), APPLICATION)
    requeue = home.requeue(CHESS)
    requeue.step()
    folder = home.settings.home / "stream" / "requeue"
    assert len(list(folder.glob("*.done"))) == 1
    home.clock_s = 600.0
    requeue.recover()
    assert list(folder.iterdir()) == []


def test_what_earlier_releases_set_aside_is_read_once_where_it_is_whole(home: Home):
    refusal = InvalidEvent("application: 'chess' is not served here")  # that said no `waits`
    whole = orjson.dumps(played())
    for offset, value in enumerate(
        [whole, whole[:-1], orjson.dumps(played(subject_id="\ufffd")), whole[:20] + b"\xff"]
    ):
        record = Record(DECISIONS, 0, offset, NOW_MS, None, value)
        home.append("quarantined", quarantine_row(record, refusal))
    home.applied[DECISIONS]["0"] = 4
    assert home.requeue(CHESS).step() == 1
    assert home.account()["applied"] == 1
    assert home.account()["quarantined"] == 3


def test_a_row_that_is_still_refused_says_from_now_on_what_it_waits_for(home: Home):
    record = Record(DECISIONS, 0, 0, NOW_MS, b"k", orjson.dumps(played()))
    home.append("quarantined", quarantine_row(record, InvalidEvent("not served here")))
    home.applied[DECISIONS]["0"] = 1
    home.requeue(APPLICATION).step()
    (row,) = home.rows("quarantine")
    assert row["waits"] == "application"
    assert home.account()["quarantined"] == 1


def test_somebody_may_ask_for_one_application_and_an_order_is_carried_out_once(home: Home):
    home.requeue(APPLICATION).step()
    home.come(DECISIONS, played(), APPLICATION)
    home.come(DECISIONS, played("go"), APPLICATION)
    requeue = home.requeue(APPLICATION)
    assert not requeue.is_wanted
    order = Order(order="requeue", application="chess", at_ms=7)
    assert requeue.ask(wish_of(order))
    requeue.step()
    assert (requeue.status["read"], requeue.status["asked_at_ms"]) == (1, 7)
    assert not requeue.ask(wish_of(order))
    assert not home.requeue(APPLICATION).ask(wish_of(order))  # heard again by the next process
    assert requeue.ask(Wish(at_ms=8))


def test_what_the_query_sets_aside_meanwhile_stays(home: Home, monkeypatch: pytest.MonkeyPatch):
    home.come(DECISIONS, played(), APPLICATION)
    requeue = home.requeue(CHESS)
    listed = Table.rewrite

    def rewrite(table: Table, *arguments: Any, **more: Any) -> int:
        home.come(OUTCOMES, b"garbage", APPLICATION)  # between its listing and its commit
        return listed(table, *arguments, **more)

    monkeypatch.setattr(Table, "rewrite", rewrite)
    assert requeue.step() == 1
    assert [row["value"] for row in home.rows("quarantine")] == ["garbage"]
    assert home.account()["quarantined"] == home.account()["applied"] == 1


def test_columns_of_a_later_release_outlive_a_requeue(home: Home):
    home.come(DECISIONS, played(), APPLICATION)
    home.come(OUTCOMES, b"garbage", APPLICATION)
    uri = str(home.settings.home / "tables" / "quarantine")
    later = arrow_schema("quarantine").append(pa.field("seen_by", pa.string()))
    write_deltalake(DeltaTable(uri), later.empty_table(), mode="append", schema_mode="merge")
    said = {"topic": "x", "partition": 0, "offset": 9, "received_at_ms": 1, "seen_by": "later"}
    write_deltalake(DeltaTable(uri), pa.Table.from_pylist([said], schema=later), mode="append")
    home.requeue(CHESS).step()
    rows = DeltaTable(uri).to_pyarrow_table().to_pylist()
    assert sorted(str(row["seen_by"]) for row in rows) == ["None", "later"]


def test_a_home_that_stands_still_is_requeued_and_its_account_written_anew(home: Home):
    made = decision(uuid7(NOW_MS))
    home.come(DECISIONS, made)  # no application at all
    home.come(OUTCOMES, outcome(made["decision_id"]))
    file = home.settings.home / "stream" / "account.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(
        json.dumps(home.account() | {"at": home.applied, "stream_time_ms": NOW_MS, "later": 1})
    )
    answer = requeue_home(home.settings, [GAME], Wish(at_ms=5))
    assert (answer["read"], answer["requeued"], answer["still"]) == (2, 2, 0)
    assert json.loads(file.read_text())["applied"] == 2
    assert json.loads(file.read_text())["later"] == 1
    assert json.loads(file.read_text())["quarantined"] == 0


def test_the_command_requeues_a_home_that_stands_still_and_says_what_it_needs(home: Home):
    home.come(DECISIONS, decision(uuid7(NOW_MS)))
    bakehouse = str(Path(sys.executable).with_name("bakehouse"))
    command = [bakehouse, "requeue", "--home", str(home.settings.home)]
    ran = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert "no stack is running in" in json.loads(ran.stdout)["message"]
    assert "bakehouse requeue REF" in json.loads(ran.stdout)["message"]
    ran = subprocess.run([*command, GAME, "--json"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    answer = json.loads(ran.stdout.splitlines()[-1])
    assert (answer["read"], answer["requeued"], answer["still"]) == (1, 1, 0)
    assert len(home.rows("replay")) == 1
    ran = subprocess.run([*command, GAME, "--all"], capture_output=True, text=True, check=False)
    assert "0 records were read again" in ran.stdout
