from __future__ import annotations

from typing import Any

import pytest

from bakehouse_schemas.process.phase import GIVEN_UP, READY
from bakehouse_serving.dashboard.own_stages import AWAY_MS
from bakehouse_serving.dashboard.pipeline_health import not_learning, stages
from bakehouse_serving.dashboard.reported_stages import SILENT_MS, STARTING_MS, UNHEARD_MS
from bakehouse_serving.dashboard.stage import Activity, Snapshot
from bakehouse_serving.dashboard.waits import Waiting

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
ACTIVITY = Activity(NOW_MS - 100, NOW_MS - 100, NOW_MS - 100)
SPEAKS = Waiting()


def found(
    *,
    own: Any = OWN,
    figures: Any = FIGURES,
    stream: Any = STREAM,
    learner: Any = LEARNER,
    application: Any = APPLICATION,
    activity: Activity = ACTIVITY,
    stream_waits: Waiting = SPEAKS,
    learner_waits: Waiting = SPEAKS,
) -> dict[str, dict[str, Any]]:
    snapshot = Snapshot(own, figures, stream, learner, application, stream_waits, learner_waits)
    made = stages(snapshot, activity, now_ms=NOW_MS, target_s=5.0)
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
        own=OWN | {"kafka": kafka, "spool": spool}, activity=ACTIVITY._replace(spool_flows_at_ms=0)
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


def test_kafka_is_blocked_once_it_is_away_for_longer_than_a_hiccup() -> None:
    away = OWN | {"kafka": OWN["kafka"] | {"connected": False}}  # type: ignore[operator]
    deaf = OWN | {"kafka": OWN["kafka"] | {"listening": False}}  # type: ignore[operator]
    for own, words in ((away, "cannot be reached"), (deaf, "cannot hear")):
        for since_ms, level in ((AWAY_MS, "busy"), (AWAY_MS + 1, "blocked")):
            stage = found(own=own, activity=ACTIVITY._replace(kafka_at_ms=NOW_MS - since_ms))[
                "kafka"
            ]
            assert stage["level"] == level
            assert (words in str(stage["blocks"])) == (level == "blocked")


PART_OF = {"join": "stream_waits", "learner": "learner_waits"}


@pytest.mark.parametrize("stage", PART_OF)
def test_a_part_is_silent_where_it_has_had_work_for_long_and_not_in_an_idle_system(
    stage: str,
) -> None:
    old = NOW_MS - 3_600_000
    spoke = {"stream": STREAM | {"at_ms": old}, "learner": LEARNER | {"at_ms": old}}
    assert levels(**spoke)[stage] == "ok"
    for since_ms, level in ((SILENT_MS, "ok"), (SILENT_MS + 1, "blocked")):
        waits = {PART_OF[stage]: Waiting(NOW_MS - since_ms)}
        assert levels(**spoke, **waits)[stage] == level
    # one that says it starts has longer
    for since_ms, level in ((STARTING_MS, "ok"), (STARTING_MS + 1, "blocked")):
        waits = {PART_OF[stage]: Waiting(NOW_MS - since_ms, phase="importing TensorFlow")}
        assert levels(**spoke, **waits)[stage] == level


@pytest.mark.parametrize("stage", PART_OF)
def test_a_part_that_was_never_heard_is_blocked_once_it_has_had_time_to_start(stage: str) -> None:
    nobody: dict[str, Any] = {"stream": {}} if stage == "join" else {"application": {}}
    for since_ms, level in ((UNHEARD_MS, "unknown"), (UNHEARD_MS + 1, "blocked")):
        waits = {PART_OF[stage]: Waiting(NOW_MS - since_ms, heard=False)}
        assert levels(**nobody, **waits)[stage] == level
    assert levels(**nobody)[stage] == "unknown"  # nothing has come that it should know of


@pytest.mark.parametrize("stage", PART_OF)
@pytest.mark.parametrize("nobody", [True, False])
def test_a_part_that_was_given_up_is_blocked_at_once_with_where_to_look(
    stage: str, nobody: bool
) -> None:
    said: dict[str, Any] = {"stream": {}} if stage == "join" else {"application": {}}
    made = found(**(said if nobody else {}), **{PART_OF[stage]: Waiting(phase=GIVEN_UP)})[stage]
    assert made["level"] == "blocked"
    assert "was given up" in made["blocks"]
    assert f"bakehouse logs {'stream' if stage == 'join' else 'learner'}" in made["do"]
    assert levels(**{PART_OF[stage]: Waiting(phase=READY)}) == FINE


def test_what_another_release_says_is_unknown_and_breaks_nothing() -> None:
    odd = levels(
        stream=STREAM | {"batch_ms": [1], "stream_time_ms": "soon"},
        application=APPLICATION | {"experiences": None, "last_freeze": "?", "frozen": True},
    )
    assert odd["serving"] == odd["spool"] == "ok"
    assert {odd[stage] for stage in ("join", "replay", "learner", "swap")} == {"unknown"}


def test_a_long_batch_is_no_silence() -> None:
    waits = Waiting(NOW_MS - 50_000)
    for batch_ms, level in ((350, "blocked"), (20_000, "busy"), (None, "ok")):
        slow = STREAM | {"batch_ms": {"triggerExecution": batch_ms}}
        assert levels(stream=slow, stream_waits=waits)["join"] == level
    assert levels(stream=STREAM | {"batch_ms": {}}, stream_waits=Waiting(0))["join"] == "blocked"


def test_a_long_training_is_no_silence() -> None:
    slow = APPLICATION | {"seconds": {"train": 20.0}}
    waits = Waiting(NOW_MS - 50_000)
    assert levels(application=slow, learner_waits=waits)["learner"] == "ok"
    assert levels(learner_waits=waits)["learner"] == "blocked"


def test_nothing_is_learned_where_a_stage_on_the_way_is_blocked_or_has_not_spoken() -> None:
    assert not_learning(list(found().values())) is None
    silent = found(learner_waits=Waiting(0), stream={})
    why = not_learning(list(silent.values()))
    assert why is not None
    assert (why["stage"], why["level"]) == ("learner", "blocked")  # what is known comes first
    why = not_learning(list(found(stream={}).values()))
    assert why is not None
    assert (why["stage"], why["level"], why["blocks"]) == ("join", "unknown", None)
    refused = FIGURES | {"refused_policy": {"version": 8, "reason": "SHA-256"}}
    assert not_learning(list(found(figures=refused).values())) is None  # it is learned, not served


def test_records_that_are_in_no_table_block_replay_whatever_else_is_well() -> None:
    account = STREAM["account"] | {"received": 4_903}  # type: ignore[operator]
    stage = found(stream=STREAM | {"account": account})["replay"]
    assert stage["level"] == "blocked"
    assert stage["do"].startswith("3 consumed records")


def test_ends_of_transactions_are_positions_without_a_record_and_no_fault() -> None:
    account = STREAM["account"] | {"received": 4_903, "no_record": 3}  # type: ignore[operator]
    stage = found(stream=STREAM | {"account": account})["replay"]
    assert stage["level"] == "ok"
    assert {"name": "positions without a record", "value": "3"} in stage["figures"]


def test_serving_that_cannot_read_a_topic_says_why_and_that_policies_go_on() -> None:
    said = "UnsupportedCodecError: Libraries for zstd compression codec not found"
    deaf = OWN["kafka"] | {"listening": False}  # type: ignore[operator]
    activity = Activity(kafka_at_ms=NOW_MS)
    assert (
        found(own=OWN | {"kafka": deaf}, activity=activity)["kafka"]["level"] == "busy"
    )  # not yet
    stage = found(own=OWN | {"kafka": deaf | {"problem": said}})["kafka"]
    assert stage["level"] == "blocked"
    assert said in stage["do"]


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


def test_runs_that_mlflow_does_not_take_are_told_at_the_learner_with_what_to_do() -> None:
    said = {"mlflow_problem": "OSError: no space left", "mlflow_failures": 3}
    stage = found(learner=LEARNER | said)["learner"]
    assert stage["level"] == "busy"
    assert "no space left" in stage["do"]
    assert "BAKEHOUSE_MLFLOW_URI" in stage["do"]
    assert {"name": "runs not written", "value": "3"} in stage["figures"]
    written_since = {"mlflow_problem": None, "mlflow_failures": 3}
    assert levels(learner=LEARNER | written_since) == FINE


def test_a_hydration_table_that_is_gone_is_told_at_serving_with_what_is_used_instead() -> None:
    gone = {"rows": 9, "read_at_ms": 7, "problem": "FileNotFoundError: players.parquet"}
    stage = found(figures=FIGURES | {"hydration": gone})["serving"]
    assert stage["level"] == "busy"
    assert "players.parquet" in stage["do"]
    assert "the rows read before" in stage["do"]
    never = gone | {"rows": 0, "read_at_ms": None}
    assert "with the default" in found(figures=FIGURES | {"hydration": never})["serving"]["do"]
    assert levels(figures=FIGURES | {"hydration": gone | {"problem": None}}) == FINE


def test_what_people_hold_and_what_the_gate_froze_show_at_the_swap() -> None:
    assert "revive" in found(figures=FIGURES | {"killed": True})["swap"]["do"]
    assert levels(figures=FIGURES | {"pinned_version": 7})["swap"] == "busy"
    frozen = APPLICATION | {"frozen": True, "last_freeze": {"reason": "it was worse"}}
    stage = found(application=frozen)["swap"]
    assert (stage["level"], "it was worse" in stage["do"]) == ("blocked", True)


def test_freshness_above_its_target_shows_at_the_swap() -> None:
    slow = FIGURES | {"freshness_s": {"p50": 4.0, "p95": 6.0, "n": 9}}
    assert levels(figures=slow)["swap"] == "busy"
