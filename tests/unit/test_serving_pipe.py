from __future__ import annotations

from typing import Any

from serving.pipe import Heard, Moved, stages

NOW_MS = 1_000_000
OWN = {
    "decisions_per_s": 200.0,
    "outcomes_per_s": 180.0,
    "uptime_s": 100.0,
    "handling_ms": {"p50": 0.2, "p99": 0.9, "n": 200},
    "spool": {"events": 0, "bytes": 1_000, "bytes_limit": 1_000_000},
    "kafka": {
        "published": 5_000,
        "retried": 0,
        "refused": 0,
        "connected": True,
        "listening": True,
        "problem": None,
    },
}
FIGURES = {
    "decisions": 4_900,
    "baseline_failed": 0,
    "unlogged": 0,
    "policy_version": 7,
    "newest_version": 7,
    "swaps": 7,
    "killed": False,
    "frozen": False,
    "pinned_version": None,
    "refused_policy": None,
    "freshness_s": {"p50": 0.9, "p95": 1.4, "n": 200},
}
STREAM = {
    "at_ms": NOW_MS - 800,
    "problem": None,
    "batch_ms": {"triggerExecution": 350},
    "kafka_lag_events": 120,
    "replay_version": 40,
    "stream_time_ms": NOW_MS - 1_800,
    "account": {
        "received": 4_900,
        "applied": 4_880,
        "duplicate": 20,
        "pending": 0,
        "orphan": 0,
        "quarantined": 0,
    },
}
LEARNER = {"at_ms": NOW_MS - 500, "problem": None}
APPLICATION = {
    "problem": None,
    "candidate": 7,
    "experiences": 2_400,
    "matured": 2_300,
    "lag_versions": 0,
    "replay_version": 40,
    "refused": 0,
    "foreign": 0,
    "seconds": {"train": 0.01},
    "outcomes": {"late": 3},
}
MOVED = Moved(NOW_MS - 100, NOW_MS - 100, NOW_MS - 100)


def found(
    *,
    own: Any = OWN,
    figures: Any = FIGURES,
    stream: Any = STREAM,
    learner: Any = LEARNER,
    application: Any = APPLICATION,
    moved: Moved = MOVED,
) -> dict[str, dict[str, Any]]:
    heard = Heard(own, figures, stream, learner, application)
    made = stages(heard, moved, now_ms=NOW_MS, target_s=5.0)
    return {stage["stage"]: stage for stage in made}


def levels(**changes: Any) -> dict[str, str]:
    return {name: stage["level"] for name, stage in found(**changes).items()}


FINE = dict.fromkeys(("serving", "spool", "kafka", "join", "replay", "learner", "swap"), "ok")


def test_where_all_is_well_every_stage_says_so_in_order_with_its_age() -> None:
    assert levels() == FINE
    stages_ = found()
    assert list(stages_) == list(FINE)
    assert stages_["join"]["age_s"] == 0.8
    assert stages_["replay"]["age_s"] == 1.0
    join = {figure["name"]: figure["value"] for figure in stages_["join"]["figures"]}
    assert join["open decisions"] == "100"
    assert join["late"] == "3"
    assert all(stage["do"] == "nothing to do" for stage in stages_.values())


def test_before_stream_and_learner_have_spoken_their_stages_are_unknown_and_not_blocked() -> None:
    quiet = levels(stream={}, learner={}, application={})
    assert {name for name, level in quiet.items() if level == "unknown"} == {
        "join",
        "replay",
        "learner",
    }
    assert "blocked" not in quiet.values()


def test_rules_that_fail_are_named_before_anything_else_of_serving() -> None:
    slow = OWN | {"handling_ms": {"p50": 0.2, "p99": 900.0, "n": 200}}
    for failed, level in ((49, "ok"), (50, "busy"), (2_451, "blocked")):
        figures = FIGURES | {"baseline_failed": failed}
        assert found(figures=figures)["serving"]["level"] == level
        said = found(figures=figures, own=slow)["serving"]["do"]
        assert (f"failed in {failed:,} of 4,900 decisions" in said) == (level != "ok")


def test_a_dead_broker_blocks_kafka_and_the_spool_says_that_it_waits() -> None:
    kafka = OWN["kafka"] | {"connected": False, "problem": "no route"}  # type: ignore[operator]
    spool = {"events": 900, "bytes": 600_000, "bytes_limit": 1_000_000}
    changed = found(
        own=OWN | {"kafka": kafka, "spool": spool}, moved=MOVED._replace(spool_flows_at_ms=0)
    )
    assert changed["kafka"]["level"] == "blocked"
    assert "no route" in changed["kafka"]["do"]
    assert changed["spool"]["level"] == "busy"
    assert changed["spool"]["age_s"] == 1_000.0


def test_a_full_spool_is_blocked_and_says_what_players_get() -> None:
    spool = {"events": 9_000, "bytes": 960_000, "bytes_limit": 1_000_000}
    stage = found(own=OWN | {"spool": spool})["spool"]
    assert stage["level"] == "blocked"
    assert "503" in stage["do"]


def test_a_part_is_silent_where_news_came_after_its_last_word_and_not_in_an_idle_system() -> None:
    old = NOW_MS - 20_000
    stream, learner = STREAM | {"at_ms": old}, LEARNER | {"at_ms": old}
    idle = Moved(old - 100, old - 100, NOW_MS)
    assert levels(stream=stream, learner=learner, moved=idle) == FINE
    assert levels(stream=stream, learner=learner)["join"] == "blocked"
    grown = STREAM | {"replay_version": 41}
    assert levels(stream=grown, learner=learner)["learner"] == "blocked"
    assert levels(stream=STREAM, learner=learner)["learner"] == "ok"  # it has read all there is


def test_records_that_are_in_no_table_block_replay_whatever_else_is_well() -> None:
    account = STREAM["account"] | {"received": 4_903}  # type: ignore[operator]
    stage = found(stream=STREAM | {"account": account})["replay"]
    assert stage["level"] == "blocked"
    assert stage["do"].startswith("3 consumed records")


def test_quarantined_events_ask_for_a_look_at_the_games_client() -> None:
    account = STREAM["account"] | {"applied": 4_879, "quarantined": 1}  # type: ignore[operator]
    stage = found(stream=STREAM | {"account": account})["join"]
    assert stage["level"] == "busy"
    assert "quarantine" in stage["do"]


def test_a_failing_learner_and_a_refused_policy_say_why() -> None:
    stage = found(application=APPLICATION | {"problem": "OSError: disk full"})["learner"]
    assert (stage["level"], "disk full" in stage["do"]) == ("blocked", True)
    refused = FIGURES | {"refused_policy": {"version": 8, "reason": "SHA-256"}}
    stage = found(figures=refused)["swap"]
    assert (stage["level"], "8 was refused: SHA-256" in stage["do"]) == ("blocked", True)
    old = FIGURES | {"refused_policy": {"version": 6, "reason": "SHA-256"}}
    assert levels(figures=old)["swap"] == "ok"  # a later one is in place


def test_what_people_hold_and_what_the_gate_froze_show_at_the_swap() -> None:
    assert "revive" in found(figures=FIGURES | {"killed": True})["swap"]["do"]
    assert levels(figures=FIGURES | {"pinned_version": 7})["swap"] == "busy"
    frozen = APPLICATION | {"frozen": True, "last_freeze": {"reason": "it was worse"}}
    stage = found(application=frozen)["swap"]
    assert (stage["level"], "it was worse" in stage["do"]) == ("blocked", True)


def test_freshness_above_its_target_shows_at_the_swap() -> None:
    slow = FIGURES | {"freshness_s": {"p50": 4.0, "p95": 6.0, "n": 9}}
    assert levels(figures=slow)["swap"] == "busy"
