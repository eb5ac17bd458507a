from __future__ import annotations

from typing import Any

import pytest

from bakehouse_schemas.application.application import Gate, Rollout
from bakehouse_schemas.formatting import digits_for, signed, span
from bakehouse_serving.dashboard.verdict import verdict
from tests.unit.test_decide import make_application

FIGURES = {
    "policy_version": 37,
    "decisions": 41_200,
    "killed": False,
    "frozen": False,
    "pinned_version": None,
    "simulated": 0,
}
WINNING = {
    "policy": {"n": 37_080},
    "holdout": {"n": 4_120},
    "difference": {"mean": 0.042, "lower": 0.016, "upper": 0.068},
    "relative": {"mean": 0.084, "lower": 0.031, "upper": 0.139},
    "confidence": 0.95,
    "scale": 1.0,
}


def said(
    lift: dict[str, Any] | None = None,
    *,
    control: dict[str, Any] | None = None,
    learner: dict[str, Any] | None = None,
    page: dict[str, Any] | None = None,
    age_s: float | None = 12.0,
    blocked: dict[str, str] | None = None,
    **figures: Any,
) -> dict[str, Any]:
    application = make_application(
        **{"rollout": Rollout(holdout=0.1), "gate": Gate(margin=0.1)} | (page or {})
    )
    return verdict(
        application,
        FIGURES | figures,
        control=control or {},
        learner=learner or {},
        insight={} if lift is None else {"lift": lift},
        pipe=[
            {
                "stage": stage,
                "level": "blocked" if stage in (blocked or {}) else "ok",
                "blocks": (blocked or {}).get(stage),
                "do": f"look at {stage}",
            }
            for stage in ("serving", "spool", "kafka", "join", "replay", "learner", "swap")
        ],
        policy_age_s=age_s,
        decisions_per_s=10.0,
    )


def test_a_policy_that_is_surely_better_earns_its_keep_with_its_interval() -> None:
    found = said(WINNING)
    assert found == {
        "state": "winning",
        "sentence": "levels earns +8.4% over the baseline (95% CI +3.1 to +13.9, 41,200 "
        "decisions, holdout 10%). Policy 37 is 12 s old.",
        "next": "",
        "simulated": False,
    }


def test_where_percent_say_nothing_the_difference_is_said_in_units_of_reward() -> None:
    found = said(WINNING | {"relative": None})
    assert "earns +0.042 reward a decision over the baseline (95% CI +0.016" in found["sentence"]


def test_one_that_is_surely_worse_is_said_to_hurt_and_what_to_do() -> None:
    worse = {"mean": -0.05, "lower": -0.08, "upper": -0.02}
    found = said(WINNING | {"difference": worse, "relative": None})
    assert found["state"] == "hurting"
    assert "earns −0.050 reward a decision against the baseline" in found["sentence"]
    assert "bakehouse kill" in found["next"]


def test_an_interval_around_0_is_no_difference_only_where_it_is_narrower_than_the_margin() -> None:
    narrow = {"mean": 0.01, "lower": -0.05, "upper": 0.07}
    assert said(WINNING | {"difference": narrow, "relative": None})["state"] == "no_difference"
    wide = {"mean": 0.01, "lower": -0.19, "upper": 0.21}
    found = said(WINNING | {"difference": wide, "relative": None})
    assert found["state"] == "not_enough_data"
    # twenty times too wide: 400 times as many decisions, less those there are
    assert "about 16.4 M more decisions are needed, if the difference stays" in found["next"]
    assert found["next"].endswith("(19 d at 10 a second)")


@pytest.mark.parametrize("lift", [None, {"policy": {"n": 3}, "difference": None}])
def test_without_bounds_there_is_not_enough_data(lift: dict[str, Any] | None) -> None:
    found = said(lift)
    assert found["state"] == "not_enough_data"
    assert "too few decisions to be told from the baseline" in found["sentence"]


def test_of_too_few_players_many_decisions_say_nothing() -> None:
    found = said(
        {
            "policy": {"n": 9_000, "subjects_at_least": 400},
            "holdout": {"n": 800, "subjects_at_least": 12},
            "burn_in": 30,
            "difference": None,
        }
    )
    assert found["state"] == "not_enough_data"
    assert "too few players" in found["sentence"] and "(12 of 30 on one side" in found["sentence"]
    assert "more players" in found["next"]


def test_where_everybody_earned_the_same_it_says_so() -> None:
    found = said(
        {
            "policy": {"n": 9_000, "subjects_at_least": 400, "mean": 0.0},
            "holdout": {"n": 800, "subjects_at_least": 80, "mean": 0.0},
            "burn_in": 30,
            "difference": None,
            "scale": 0.0,
        }
    )
    assert found["state"] == "not_enough_data"
    assert "all 9,800 decisions earned the same" in found["sentence"]


def test_where_players_are_alike_it_takes_others_to_tell() -> None:
    wide = {"mean": 0.01, "lower": -0.19, "upper": 0.21}
    found = said(WINNING | {"difference": wide, "relative": None, "design_effect": 3.0})
    assert "more decisions of other players are needed" in found["next"]
    assert found["next"].endswith("at 10 a second)")


def test_without_a_holdout_nothing_is_claimed() -> None:
    found = said(WINNING, page={"rollout": Rollout(holdout=0.0)})
    assert found["state"] == "not_enough_data"
    assert "no holdout" in found["sentence"] and "holdout=0.1" in found["next"]


def test_at_version_0_it_is_learning_and_the_gates_word_is_the_next_step() -> None:
    waits = {"decisions": 900, "gate": {"reason": "waits at version 0: 12 decisions are too few"}}
    found = said(None, learner=waits, policy_version=0, age_s=None, decisions=1_234)
    assert found["state"] == "learning"
    assert found["sentence"].endswith("with exploration; 1,234 decisions so far.")
    assert found["next"] == waits["gate"]["reason"]  # type: ignore[index]


def test_a_kill_goes_before_a_freeze_and_both_before_what_is_earned() -> None:
    by = {"by": "ada", "why": "players complain"}
    frozen = said(WINNING, control=by, frozen=True)
    assert frozen["state"] == "frozen"
    assert frozen["sentence"].startswith(
        "levels is frozen at policy 37 by ada (“players complain”). It earns +8.4% over"
    )
    assert "bakehouse release" in frozen["next"]
    killed = said(WINNING, control=by, frozen=True, killed=True)
    assert killed["state"] == "killed"
    assert killed["sentence"].startswith(
        "levels is killed by ada (“players complain”): the game's own rules answer everyone. It"
    )
    assert "bakehouse revive" in killed["next"]


AWAY = {"kafka": "Kafka cannot be reached"}


def test_where_nothing_is_learned_the_verdict_is_blocked_and_says_what_players_get() -> None:
    at_0 = said(None, policy_version=0, age_s=None, blocked=AWAY)
    assert (at_0["state"], at_0["next"]) == ("blocked", "look at kafka")
    assert at_0["sentence"] == (
        "levels is blocked: nothing is being learned because Kafka cannot be reached; players get "
        "the game's rules, with exploration."
    )
    found = said(WINNING, blocked=AWAY)
    assert found["state"] == "blocked"
    assert "players get policy 37. It earns +8.4% over the baseline" in found["sentence"]
    apprentice = said(None, policy_version=3, blocked=AWAY, page={"mode": "apprentice"})
    assert "players get the game's rules" in apprentice["sentence"]


@pytest.mark.parametrize(
    ("blocked", "words"),
    [
        ({"learner": "the learner was given up", "swap": "8 was refused"}, "the learner was given"),
        ({"spool": "it is full", **AWAY}, "because it is full; players get the game's rules."),
        ({"serving": "the game's own rules fail"}, "rules fail; players get any eligible action"),
        ({"swap": "policy 38 was refused"}, "policy 38 was refused: nobody gets what is learned"),
    ],
)
def test_of_several_blocked_stages_the_one_that_stops_learning_is_said(
    blocked: dict[str, str], words: str
) -> None:
    found = said(WINNING, blocked=blocked)
    assert found["state"] == "blocked"
    assert words in found["sentence"]


def test_records_in_no_table_leave_the_verdict_as_it_is() -> None:
    assert said(WINNING, blocked={"replay": "3 consumed records are in no table"}) == said(WINNING)


def test_a_kill_a_freeze_and_a_harmful_policy_go_before_and_say_that_nothing_is_learned() -> None:
    worse = {"mean": -0.05, "lower": -0.08, "upper": -0.02}
    hurting = WINNING | {"difference": worse, "relative": None}
    for state, found in (
        ("killed", said(WINNING, killed=True, blocked=AWAY)),
        ("frozen", said(WINNING, frozen=True, blocked=AWAY)),
        ("hurting", said(hurting, blocked=AWAY)),
    ):
        assert found["state"] == state
        assert "Nothing is being learned: Kafka cannot be reached." in found["sentence"]
        assert "bakehouse" in found["next"] and found["next"].endswith("; look at kafka")


def test_a_freeze_of_the_gates_own_says_what_the_gate_saw() -> None:
    gate = {"frozen": True, "last_freeze": {"reason": "the upper bound fell below 0"}}
    found = said(WINNING, learner=gate)
    assert found["state"] == "frozen"
    assert "frozen at policy 37 by the gate: the upper bound fell below 0" in found["sentence"]


def test_a_pin_is_said_as_such() -> None:
    found = said(WINNING, control={"by": "ada", "why": ""}, pinned_version=37)
    assert found["sentence"].startswith("levels is pinned to policy 37 by ada. It earns")


def test_simulated_players_are_never_taken_for_people() -> None:
    assert said(WINNING, simulated=1)["simulated"]
    assert not said(WINNING)["simulated"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (0.04, "40 ms"),
        (0.4, "0.4 s"),
        (9.96, "10 s"),
        (12, "12 s"),
        (119, "119 s"),
        (120, "2 min"),
        (192, "3.2 min"),
        (7200, "2 h"),
    ],
)
def test_spans_have_one_unit(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_numbers_show_as_many_digits_as_their_interval_knows() -> None:
    assert signed(-0.04, 2) == "−0.04"
    assert [digits_for(width) for width in (5.0, 0.5, 0.05, 0.005)] == [1, 2, 3, 4]
