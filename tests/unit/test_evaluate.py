"""`bakehouse evaluate` on real Delta tables: what is used, what is said, and in which words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bakehouse_learner.offline import evaluate
from bakehouse_learner.offline.console import run_program
from bakehouse_learner.offline.evaluation.target_policies import (
    distribution,
    find_target,
    newest_version,
    propensity,
)
from bakehouse_schemas.loading import load_application
from bakehouse_schemas.policy.bundle import MANIFEST
from tests.fakes import publish_policy
from tests.logged_worlds import played, ring_of, truth
from tests.replay_rows import T0, Table, decision, outcome

REF = str(Path(__file__).parents[2] / "applications" / "level_difficulty.py")
QUESTS = str(Path(__file__).parents[2] / "applications" / "quest_chain.py")
LEVELS = load_application(REF)
CONTEXT = {
    "skill": 0.5,
    "losses_in_a_row": 1,
    "minutes_today": 12,
    "segment": "new",
    "device": "phone",
    "country": "DE",
}


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("BAKEHOUSE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def ask(home: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Asks `python -m bakehouse_learner.offline.evaluate` in this process."""

    def asked(*arguments: str) -> dict[str, Any]:
        status = run_program(evaluate.evaluate, evaluate.command_line(), arguments)
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert status == (2 if "error" in answer else 0)
        return answer

    return asked


def rows_of(n: int, action: str, reward: str, *, start: int = 0, **changes: Any) -> list[Any]:
    """Decisions of one action with a propensity of 1/3, each with one outcome after 1 s."""
    found = []
    for at in range(start, start + n):
        changes_here = {"propensity": 1 / 3, **changes}
        row = decision(LEVELS.application, CONTEXT, action, at_ms=T0 + 100 * at, **changes_here)
        found += [row, outcome(row, reward, after_ms=1_000)]
    return found


def estimate(policy: dict[str, Any], name: str) -> dict[str, Any]:
    return next(e for e in policy["estimates"] if e["name"] == name)


def uniform_log(home: Path) -> None:
    """Every action 40 times: easy is lost (0), normal won (1), hard makes players quit (−1)."""
    rows: list[Any] = []
    for at, (action, said) in enumerate(
        [("easy", "level_lost"), ("normal", "level_won"), ("hard", "quit")]
    ):
        rows += rows_of(40, action, said, start=40 * at)
    Table(home / "tables").append(rows)


def test_a_log_worked_by_hand(home: Path, ask: Any) -> None:
    # rules: skill 0.5 is "normal", which earns 1 always; uniform earns 0
    uniform_log(home)
    answer = ask(REF, "--policy", "baseline", "--against", "random")
    assert (answer["n"], answer["units"], answer["left_out"]) == (120, "decisions", {})
    baseline, random = answer["policies"]
    assert estimate(baseline, "ips")["mean"] == pytest.approx(1.0)
    assert estimate(baseline, "snips")["mean"] == pytest.approx(1.0)
    assert estimate(baseline, "snips")["effective_sample"] == pytest.approx(40)
    assert estimate(random, "ips")["mean"] == pytest.approx(0.0)
    assert answer["as_logged"]["mean"] == pytest.approx(0.0)
    (difference,) = answer["differences"]
    assert estimate(difference, "snips")["mean"] == pytest.approx(1.0)
    assert answer["warnings"][0] == (
        "baseline: the log speaks for this policy with 40 decisions' worth of evidence out of 120 "
        "(33%): this number is a guess"
    )


def test_what_is_no_evidence_is_left_out_and_counted(home: Path, ask: Any) -> None:
    table = Table(home / "tables")
    rows = rows_of(120, "normal", "level_won")
    contested = rows_of(1, "easy", "quit", start=121)
    other_draw = contested[0] | {"action": '"hard"'}
    holdout = rows_of(2, "normal", "level_won", start=123, cohort="holdout", propensity=1.0)
    overridden = rows_of(1, "hard", "quit", start=126)
    overridden.append(
        outcome(overridden[0], kind="executed", after_ms=10, executed_action='"easy"')
    )
    foreign = rows_of(3, "easy", "quit", start=128, contract="another")
    still_open = [decision(LEVELS.application, CONTEXT, "easy", at_ms=T0 + 60_000)]
    # closed at once, but after one that is open: quick rewards are not heard first
    after = rows_of(4, "easy", "quit", start=601)
    table.append([*rows, *contested, other_draw, *holdout, *overridden, *foreign])
    table.append([*still_open, *after, *rows[:50]])  # and some of it twice
    answer = ask(REF, "--policy", "random", "--against", "baseline")
    assert answer["n"] == 120 + 3  # of another contract, too: their contexts tell as much
    assert answer["decisions"] == 120 + 1 + 2 + 1 + 3 + 1 + 4
    assert answer["left_out"] == {
        "still open": 5,
        "contested, or without a finite reward": 1,
        "not drawn by chance (holdout, fallback, or the game did something else)": 3,
    }
    assert answer["warnings"][-1].startswith("6 rows are of another contract")


def test_a_policy_is_judged_as_it_is_executed_or_greedy(home: Path, ask: Any) -> None:
    uniform_log(home)
    publish_policy(home / "policies", LEVELS.application, 7, favourite=1, epsilon=0.3)
    executed = ask(REF, "--policy", "7", "--against", "baseline")["policies"][0]
    assert executed["words"] == "policy 7, as it is executed, with exploration 0.3 and floor 0.01"
    # 0.8 of "normal" at 1, 0.1 of "easy" at 0, 0.1 of "hard" at −1
    assert estimate(executed, "ips")["mean"] == pytest.approx(0.7)
    greedy = ask(REF, "--policy", "7", "--against", "baseline", "--greedy")["policies"][0]
    assert greedy["words"] == "policy 7, without its exploration"
    assert estimate(greedy, "ips")["mean"] == pytest.approx(1.0)


def test_the_champion_is_named_and_compared_with_itself_only_once(home: Path, ask: Any) -> None:
    uniform_log(home)
    for version in (3, 11):
        publish_policy(home / "policies", LEVELS.application, version, favourite=1)
    answer = ask(REF, "--policy", "champion")
    assert [p["policy"] for p in answer["policies"]] == ["champion", "baseline", "random"]
    assert answer["policies"][0]["version"] == 11
    assert answer["policies"][0]["words"].startswith("policy 11, as it is executed")
    pinned = ask(REF, "--policy", "11", "--against", "champion", "--champion", "3")
    assert [(p["policy"], p["version"]) for p in pinned["policies"]] == [
        ("11", 11),
        ("champion", 3),
    ]


def test_segments_have_their_own_numbers(home: Path, ask: Any) -> None:
    # players of "DE" like normal, the others hard
    rows: list[Any] = []
    for at, (country, action, said) in enumerate(
        [
            (country, action, "level_won" if (country == "DE") == (action == "normal") else "quit")
            for country in ("DE", "JP")
            for action in ("easy", "normal", "hard")
        ]
    ):
        for row in rows_of(120, action, said, start=120 * at):
            rows.append(row | {"context": json.dumps(CONTEXT | {"country": country})})
    Table(home / "tables").append(rows)
    answer = ask(REF, "--policy", "baseline", "--against", "random", "--segment", "country")
    assert answer["segments"]["field"] == "country"
    assert answer["segments"]["each_at_confidence"] == pytest.approx(0.975)
    found = {row["segment"]: row for row in answer["segments"]["segments"]}
    assert set(found) == {"DE", "JP"}
    assert [found[name]["n"] for name in ("DE", "JP")] == [360, 360]
    better, worse = (found[name]["differences"][0] for name in ("DE", "JP"))
    assert better["lower"] > 0 > worse["upper"]
    assert ask(REF, "--segment", "height")["message"].startswith(
        "no context has the field 'height'; there are country, device"
    )


def test_a_bootstrap_is_narrower_and_said_to_be_one(home: Path, ask: Any) -> None:
    Table(home / "tables").append(played(LEVELS.world, LEVELS.application, 400, seed=0))  # type: ignore[arg-type]
    widths = {}
    for replicates in ("0", "200"):
        arguments = ("--policy", "random", "--against", "0", "--bootstrap", replicates)
        answer = ask(REF, *arguments)
        snips = estimate(answer["policies"][0], "snips")
        widths[replicates] = snips["upper"] - snips["lower"]
        assert answer == ask(REF, *arguments)  # seeded
    assert widths["200"] < 0.8 * widths["0"]
    assert answer["interval"] == "bootstrap of 200"


def test_what_a_policy_has_learned_from_is_said_and_can_be_left_out(home: Path, ask: Any) -> None:
    uniform_log(home)
    publish_policy(home / "policies", LEVELS.application, 2, favourite=1)
    manifest = home / "policies" / "level-difficulty" / "2" / MANIFEST
    half = json.loads(manifest.read_text()) | {"stream_time_ms": T0 + 100 * 60 - 50}
    manifest.write_text(json.dumps(half))
    answer = ask(REF, "--policy", "2", "--against", "random")
    assert answer["policies"][0]["learned_from"] == 0.5
    assert any("has learned from 50% of these decisions" in w for w in answer["warnings"])
    unseen = ask(REF, "--policy", "2", "--against", "random", "--unseen")
    assert unseen["n"] == 60
    assert unseen["left_out"] == {"already learned from": 60}


def test_episodes_are_judged_whole(home: Path, ask: Any) -> None:
    quests = load_application(QUESTS)
    assert quests.world is not None
    rows = played(quests.world, quests.application, 300, seed=3)
    Table(home / "tables").append(rows)
    answer = ask(QUESTS, "--policy", "0", "--against", "random", "--segment", "style")
    assert (answer["n"], answer["units"]) == (300, "episodes")
    assert answer["left_out"] == {"still going on": 1}
    names = [e["name"] for e in answer["policies"][0]["estimates"]]
    assert names == ["doubly robust", "weighted is", "per-decision is", "fitted q"]
    zero = find_target("0", quests.application, home)
    real = truth(quests.world, quests.application, rows, zero)
    robust = estimate(answer["policies"][0], "doubly robust")
    assert robust["lower"] < real < robust["upper"]
    assert sum(row["n"] for row in answer["segments"]["segments"]) == 300


def test_a_limit_takes_the_newest_decisions_and_says_so(home: Path, ask: Any) -> None:
    uniform_log(home)
    answer = ask(REF, "--policy", "baseline", "--against", "random", "--limit", "100")
    assert answer["n"] == 100
    assert answer["warnings"][-1] == "the newest 100 decisions; older ones were left out"


def test_a_studios_own_log_judges_as_a_replay_table_does(home: Path, ask: Any) -> None:
    lines = ["skill,losses_in_a_row,minutes_today,segment,device,country,action,propensity,reward"]
    for action, reward in (("easy", 0), ("normal", 1), ("hard", -1)):
        lines += [f"0.5,1,12,new,phone,DE,{action},0.25,{reward}"] * 60
    log = home / "log.csv"
    log.write_text("\n".join(lines) + "\n")
    arguments = ("--policy", "baseline", "--against", "random", "--segment", "country")
    answer = ask(REF, *arguments, "--from", str(log))
    assert answer["n"] == 180
    assert estimate(answer["policies"][0], "snips")["mean"] == pytest.approx(1.0)
    assert answer["segments"]["segments"][0]["segment"] == "DE"
    # logged with a third each, not with a quarter: the weights average 4/3
    assert any("weights average 1.333" in words for words in answer["warnings"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--policy", "best"], "policy 'best': expected a version such as 17, or champion"),
        (["--policy", "9"], "policy 9 is not in "),
        (["--confidence", "1.5"], "confidence 1.5: expected from 0.5 to below 1"),
        (["--from", "/nowhere"], "/nowhere: there is nothing there"),
    ],
)
def test_what_cannot_be_answered_is_one_message(
    ask: Any, home: Path, arguments: Sequence[str], words: str
) -> None:
    uniform_log(home)
    assert words in ask(REF, *arguments)["message"]


def test_a_log_without_chance_cannot_judge_anything(home: Path, ask: Any) -> None:
    Table(home / "tables").append(
        rows_of(50, "normal", "level_won", cohort="holdout", propensity=1.0)
    )
    message = ask(REF, "--policy", "random", "--against", "baseline")["message"]
    assert "nothing in " in message
    assert "50 not drawn by chance" in message


def test_without_a_bundle_the_champion_is_version_0(tmp_path: Path) -> None:
    assert newest_version(tmp_path / "nothing") == 0
    zero = find_target("champion", LEVELS.application, tmp_path / "nothing")
    assert zero.version == 0
    odd = decision(LEVELS.application, CONTEXT, "hard", eligible_actions='["easy", "hard"]')
    ring = ring_of(LEVELS.application, [decision(LEVELS.application, CONTEXT, "easy"), odd])
    chosen = distribution(zero, ring, np.arange(2))
    # ε = 0.5 over three; where the rules' answer may not be taken, they are uniform
    assert chosen[0].tolist() == pytest.approx([1 / 6, 2 / 3, 1 / 6])
    assert chosen[1].tolist() == pytest.approx([0.5, 0.0, 0.5])
    assert propensity(zero, ring, np.arange(2)).tolist() == pytest.approx([1 / 6, 0.5])
