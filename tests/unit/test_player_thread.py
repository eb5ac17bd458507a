"""Players in their thread, what is said of them, and the demo's own housekeeping."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bakehouse.demo.home import demo_settings
from bakehouse.demo.report import read_account
from bakehouse.players.player_thread import PlayerThread, Scoreboard, world_of
from bakehouse.players.simulate import run_simulate
from bakehouse_schemas.application.exploration import Exploration
from bakehouse_schemas.errors import ApplicationError, BakehouseError
from bakehouse_schemas.loading import Loaded, load_application
from bakehouse_schemas.process.settings import Settings
from bakehouse_schemas.worlds.share import share
from tests.fake_serving import FakeServing, served

REF = str(Path(__file__).parents[2] / "applications" / "quest_chain.py")


@pytest.fixture
def quests() -> Loaded:
    loaded = load_application(REF)
    assert loaded.world is not None
    loaded.world.delivery = loaded.world.delivery.__class__()  # nothing late
    return loaded


def answer(action: str, version: int, cohort: str = "policy") -> dict[str, Any]:
    return {"action": action, "policy_version": version, "cohort": cohort}


def test_players_play_until_they_are_stopped_and_deliver_what_occurred(quests: Loaded) -> None:
    with served(FakeServing()) as url:
        players = PlayerThread(quests, url, rate=500)
        players.start()
        while len(players.journal.decisions) < 20:
            assert not players.join(0.02), "it ended by itself"
        players.stop()
        asked = len(players.journal.decisions)
        assert players.join(30)
    assert players.settled
    # those under way when it stopped are still answered
    assert asked <= len(players.journal.decisions) < asked + 60
    assert players.journal.http_errors == 0, players.journal.errors


def test_players_end_after_so_many_decisions(quests: Loaded) -> None:
    serving = FakeServing()
    with served(serving) as url:
        players = PlayerThread(quests, url, rate=2_000, decisions=50, batched=True)
        players.start()
        assert players.join(30)
    assert len(players.journal.decisions) == len(serving.decisions) == 50


def test_simulate_tells_what_happened(capsys: pytest.CaptureFixture[str]) -> None:
    with served(FakeServing()) as url:
        assert run_simulate(ref=REF, url=url, decisions=30, as_json=True, rate=1_000) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["decisions"] == 30
    assert result["http_errors"] == 0
    assert result["cohorts"] == {"policy": 30}
    assert result["latency_ms"]["p50"] > 0


def test_simulate_says_once_that_nobody_answers(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BakehouseError, match="3 × cannot connect"):
        run_simulate(ref=REF, url="http://127.0.0.1:1", decisions=3, as_json=True, rate=1_000)
    assert capsys.readouterr().out == ""  # the one JSON is the reason, which `main` prints


def test_an_application_without_a_world_cannot_be_played(quests: Loaded) -> None:
    with pytest.raises(ApplicationError, match="has no world"):
        world_of(Loaded(ref="x.py", application=quests.application, world=None))


def test_the_scoreboard_judges_each_version_by_its_own_exploration() -> None:
    loaded = load_application(REF.replace("quest_chain", "level_difficulty"))
    world = world_of(loaded)
    shares = []
    for explorations in ({}, {7: Exploration(kind="epsilon_greedy", epsilon=0.1, floor=0.01)}):
        board = Scoreboard(loaded.application, world)
        rng = np.random.default_rng(0)
        for _ in range(200):
            context = world.context(rng)  # type: ignore[call-arg]
            board.note({"context": context}, answer("normal", 7))
            board.note({"context": context}, answer("easy", 0, "holdout"))
        recent = board.recent(explorations)
        assert recent.policy is not None and recent.holdout is not None
        assert recent.policy.policy != recent.holdout.policy
        shares.append(share(recent.policy))
    # what version 0 (ε = 0.5) could earn is less, so the same actions are a larger share of it
    assert shares[0] is not None and shares[1] is not None and shares[0] > shares[1]


def test_a_demo_has_a_home_of_its_own_and_the_last_few_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for day in range(1, 7):
        (tmp_path / ".bakehouse" / f"demo-2020010{day}-000000").mkdir(parents=True)
    (tmp_path / ".bakehouse" / "tables").mkdir()
    chosen = demo_settings(Settings()).home
    assert chosen.parent == Path(".bakehouse")
    assert not chosen.exists()
    left = sorted(path.name for path in (tmp_path / ".bakehouse").iterdir())
    assert left == ["demo-20200105-000000", "demo-20200106-000000", "tables"]


def test_a_home_that_was_named_is_used_as_it_is(tmp_path: Path) -> None:
    assert demo_settings(Settings(home=tmp_path, port=0)).home == tmp_path


def test_a_missing_account_is_told_as_unknown(tmp_path: Path) -> None:
    assert set(read_account(tmp_path).values()) == {None}
    (tmp_path / "stream").mkdir()
    (tmp_path / "stream" / "account.json").write_text('{"received": 5, "applied": 5}')
    assert read_account(tmp_path)["applied"] == 5
