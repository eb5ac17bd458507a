"""An outcome that nothing counts is kept, and said to the game, to people and to Prometheus."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bakehouse_schemas.application.application import Gate, Guardrail
from bakehouse_schemas.application.counted import meant
from bakehouse_schemas.application.reward import Reward
from bakehouse_schemas.ids import uuid7
from bakehouse_serving.spool.frames import Topic
from bakehouse_serving.uncounted import (
    LONGEST_SHOWN,
    MOST_NAMES,
    MOST_NOTES,
    MOST_SHOWN,
    MOST_SPELT,
    NEW_AT_ONCE,
    NEW_EVERY,
)
from tests.unit.test_decide import make_application
from tests.unit.test_serving_http import LEVELS, Server

WINDOW = timedelta(hours=1)
REVENUE = Reward({"revenue_usd": 1.0, "level_won": 0.1}, window=WINDOW)


def serving(folder: Path, reward: Reward = REVENUE, **more: Any) -> Server:
    return Server(folder, make_application(reward=reward, **more))


def tell(server: Server, *names: str, **more: Any) -> dict[str, Any]:
    outcomes = [{"decision_id": uuid7(), "name": name} | more for name in names]
    answer = server.post("/outcomes", {"outcomes": outcomes})
    assert answer.status_code == 202
    said: dict[str, Any] = answer.json()
    assert said["accepted"] == len(names)
    return said


def test_a_name_that_nothing_counts_is_noted_once_with_the_one_that_was_meant(
    tmp_path: Path,
) -> None:
    server = serving(tmp_path)
    assert tell(server, "revenue_usd", "level_won")["notes"] == []
    said = tell(server, *["revenue"] * 3, "level_won", "revenue")
    assert said["notes"] == [
        {
            "kind": "reward",
            "name": "revenue",
            "count": 4,
            "problem": "no reward or guardrail counts 'revenue': kept, and not learned from; did "
            "you mean 'revenue_usd'?",
            "meant": "revenue_usd",
        }
    ]
    assert len(server.spool.events(Topic.OUTCOMES)) == 7  # as it was sent
    assert server.served.counters.uncounted == 4
    (note,) = tell(server, "shop_opened")["notes"]
    assert note["meant"] is None
    assert note["problem"].endswith("it counts level_won, revenue_usd")


def test_what_a_guardrail_counts_is_counted(tmp_path: Path) -> None:
    gate = Gate(guardrails=[Guardrail("uninstall", most=0.1)])
    server = serving(tmp_path, gate=gate)
    assert tell(server, "uninstall")["notes"] == []
    assert tell(server, "uninstal")["notes"][0]["meant"] == "uninstall"


def test_kinds_that_mean_something_are_counted_whatever_name_they_bear(tmp_path: Path) -> None:
    seen = Reward({"revenue_usd": 1.0}, window=WINDOW, activation=True)
    for reward, noted in ((REVENUE, ["activated"]), (seen, [])):
        server = serving(tmp_path / str(len(noted)), reward)
        tell(server, "revenu", kind="end")
        tell(server, "revenu", kind="executed", executed_action="easy")
        assert server.served.counters.uncounted == 0
        notes = tell(server, "revenu", kind="activated")["notes"]
        assert [note["kind"] for note in notes] == noted


def test_a_reward_that_is_a_function_may_count_any_name(tmp_path: Path) -> None:
    server = serving(tmp_path, Reward(lambda outcomes: float(len(outcomes)), window=WINDOW))
    assert tell(server, "whatever")["notes"] == []


def test_what_was_not_recorded_is_not_noted(tmp_path: Path) -> None:
    server = serving(tmp_path)
    outcome = {"decision_id": uuid7(), "name": "revenue"}
    wrong = outcome | {"value": "4.99"}
    some = server.post("/outcomes", {"outcomes": [outcome, wrong]})
    assert some.status_code == 207
    assert [note["count"] for note in some.json()["notes"]] == [1]
    assert server.post("/outcomes", {"outcomes": [wrong]}).json()["notes"] == []
    server.spool.full = True
    assert server.post("/outcomes", {"outcomes": [outcome]}).status_code == 503
    assert server.served.counters.uncounted == 1


def test_names_from_outside_are_bounded_and_in_no_metric_and_no_topic(tmp_path: Path) -> None:
    server = serving(tmp_path)
    evil = "\x1b[2Jplayer-4711\n" + "x" * 100
    tell(server, *["revenue"] * 90)
    for batch in range(4):
        said = tell(server, evil, *(f"player {batch}:{at}" for at in range(60)))
        assert len(said["notes"]) == MOST_NOTES + 1
        assert said["notes"][-1]["count"] == 61 - MOST_NOTES
        tell(server, *["revenue"] * 90)
    uncounted = server.served.uncounted
    assert len(uncounted._names) <= MOST_NAMES and len(uncounted._meant) <= MOST_SPELT
    shown = uncounted.most()
    assert len(shown) == MOST_SHOWN
    assert (shown[0]["name"], shown[0]["meant"]) == ("revenue", "revenue_usd")
    assert all(one["name"].isprintable() for one in shown)
    assert all(len(one["name"]) <= LONGEST_SHOWN + 1 for one in shown)
    metrics = server.request("GET", "/metrics").text
    assert 'bakehouse_uncounted_total{application="levels"} 694.0' in metrics
    for said in (metrics, str(server.report.status())):
        assert not any(name in said for name in ("revenue", "player-4711", "player 0"))


def test_spelling_new_names_over_and_over_is_paid_for_seldom_and_known_ones_are_told_always(
    tmp_path: Path,
) -> None:
    server = serving(tmp_path)
    tell(server, "revenue")
    for at in range(NEW_AT_ONCE):
        tell(server, f"shop {at}")
    told = [tell(server, f"level_wno{at}")["notes"][0]["meant"] for at in range(4 * NEW_EVERY)]
    assert 1 <= sum(name == "level_won" for name in told) <= 6
    assert tell(server, "revenue")["notes"][0]["meant"] == "revenue_usd"


def test_people_see_how_many_and_the_most_frequent_names(tmp_path: Path) -> None:
    server = serving(tmp_path)
    tell(server, "revenue", "revenue", "shop")
    said = server.request("GET", f"{LEVELS}/status").json()
    assert said["uncounted"] == 3
    assert said["uncounted_names"] == [
        {"name": "revenue", "count": 2, "meant": "revenue_usd"},
        {"name": "shop", "count": 1, "meant": None},
    ]
    tile = server.live.view("levels")["tiles"]["decisions"]
    assert tile["outcomes_uncounted"] == 3
    assert tile["uncounted_names"] == said["uncounted_names"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("revenue", "revenue_usd"),
        ("LEVEL_WON", "level_won"),
        ("levelWon", "level_won"),
        ("shop_opened", None),
        ("level_won" * 50, None),
    ],
)
def test_the_name_that_was_meant_is_found_in_whatever_case(name: str, expected: str | None) -> None:
    assert meant(name, frozenset({"revenue_usd", "level_won"})) == expected
