"""The stages that this process measures itself: serving, spool, Kafka, swap. Pure."""

from __future__ import annotations

from typing import Any

from bakehouse_schemas.formatting import count, size, span
from bakehouse_serving.dashboard.stage import Activity, Level, Snapshot, make_stage, ms_since

AWAY_MS = 10_000  # Kafka, or what it tells, unreachable for longer is no hiccup
WAITING_MS = 10_000  # what waits in the spool for longer is not on its way
RULES_FAIL = 0.01  # share of decisions that the application's own rules have no answer to
SLOW_ANSWER_MS = 50.0


def serving_stage(snapshot: Snapshot, activity: Activity, now_ms: int) -> dict[str, Any]:
    """Answers the game: do its rules, its lookups and this machine keep up?"""
    own, p99 = snapshot.own, snapshot.own["handling_ms"]["p99"]
    figures = [
        ("decisions a second", f"{own['decisions_per_s']:.0f}"),
        ("p99", "–" if p99 is None else f"{p99:.1f} ms"),
        ("up", span(own["uptime_s"])),
    ]
    meaning = "answers the game; what it answers is on this machine's disk first"
    age = ms_since(activity.decided_at_ms, now_ms)
    failed, decided = snapshot.figures["baseline_failed"], snapshot.figures["decisions"]
    if failed > RULES_FAIL * decided:
        level: Level = "blocked" if failed > decided / 2 else "busy"
        do = (
            f"the page's own rules failed in {count(failed)} of {count(decided)} decisions; where "
            "they are to answer, players get any eligible action. `bakehouse check` tries them, "
            "`bakehouse logs serving` has the first reason"
        )
        blocks = f"the game's own rules fail in {count(failed)} of {count(decided)} decisions"
        return make_stage("serving", "Serving", level, age, figures, meaning, do, blocks)
    hydration = snapshot.figures.get("hydration") or {}
    if hydration.get("problem"):
        used = "the rows read before" if hydration.get("read_at_ms") else "the default"
        do = (
            f"features cannot be looked up ({hydration['problem']}): decisions are made with "
            f"{used}. Bring back what `hydrate=` names; serving tries again by itself"
        )
        return make_stage("serving", "Serving", "busy", age, figures, meaning, do)
    if p99 is not None and p99 > SLOW_ANSWER_MS:
        do = "the machine is busy: give serving a core of its own, or run several processes"
        return make_stage("serving", "Serving", "busy", age, figures, meaning, do)
    return make_stage("serving", "Serving", "ok", age, figures, meaning)


def spool_stage(snapshot: Snapshot, activity: Activity, now_ms: int) -> dict[str, Any]:
    """Keeps events until Kafka has them: how full is it, and does it drain?"""
    spool = snapshot.own["spool"]
    fill = spool["bytes"] / max(spool["bytes_limit"], 1)
    waiting_ms = 0 if not spool["events"] else ms_since(activity.spool_flows_at_ms, now_ms)
    figures = [
        ("events waiting", count(spool["events"])),
        ("size", f"{size(spool['bytes'])} of {size(spool['bytes_limit'])}"),
        ("not logged", count(snapshot.figures["unlogged"])),
    ]
    meaning = "keeps events on disk until Kafka has acknowledged them, so a dead broker loses none"
    level: Level = "ok"
    do, blocks = "nothing to do", None
    if fill >= 0.95:
        level, blocks = "blocked", "the spool is full and takes no more events"
        do = (
            "it is full: decisions are the baseline's and not logged, outcomes get 503. Bring "
            "Kafka back, or raise BAKEHOUSE_SPOOL_BYTES and restart serving"
        )
    elif fill >= 0.5 or (waiting_ms or 0) > WAITING_MS:
        level, do = "busy", "Kafka does not take events as fast as they come: see the next stage"
    return make_stage("spool", "Spool", level, waiting_ms, figures, meaning, do, blocks)


def kafka_stage(snapshot: Snapshot, activity: Activity, now_ms: int) -> dict[str, Any]:
    """Carries events and policies: can it be reached, and does stream keep up?"""
    kafka, lag = snapshot.own["kafka"], snapshot.stream.get("kafka_lag_events")
    figures = [
        ("published", count(kafka["published"])),
        ("lag", "–" if lag is None else f"{count(lag)} events"),
        ("sent again", count(kafka["retried"])),
        ("refused", count(kafka["refused"])),
    ]
    meaning = "carries decisions, outcomes, policies and what the parts say of themselves"
    age = ms_since(activity.published_at_ms, now_ms)
    away_ms = ms_since(activity.kafka_at_ms, now_ms)
    level: Level = "blocked" if away_ms is None or away_ms > AWAY_MS else "busy"
    said = f" ({kafka['problem']})" if kafka["problem"] else ""
    if not kafka["connected"]:
        do = f"no broker answers{said}: `bakehouse logs broker`, or look at your Kafka cluster"
        blocks = "Kafka cannot be reached"
        return make_stage("kafka", "Kafka", level, age, figures, meaning, do, blocks)
    if not kafka["listening"]:
        do = (
            f"serving does not hear policies and controls{said}: those in place go on. It tries "
            "again by itself; `bakehouse logs serving`"
        )
        if kafka["problem"]:  # it cannot, rather than not yet
            level = "blocked"
        blocks = "serving cannot hear of new policies in Kafka"
        return make_stage("kafka", "Kafka", level, age, figures, meaning, do, blocks)
    per_s = snapshot.own["decisions_per_s"] + snapshot.own["outcomes_per_s"]
    if lag is not None and lag > max(2_000, 5 * per_s):
        do = "stream is behind: see the next stage; nothing is lost, freshness grows"
        return make_stage("kafka", "Kafka", "busy", age, figures, meaning, do)
    return make_stage("kafka", "Kafka", "ok", age, figures, meaning)


def swap_stage(snapshot: Snapshot, target_s: float) -> dict[str, Any]:
    """Puts policies in place: is one refused or held back, and how fresh are answers?"""
    figures, its = snapshot.figures, snapshot.application
    fresh = figures["freshness_s"]
    shown = [
        ("answers", f"policy {figures['policy_version']}"),
        ("newest", f"policy {figures['newest_version']}"),
        ("swaps", count(figures["swaps"])),
        ("freshness p95", "–" if fresh["p95"] is None else span(fresh["p95"])),
    ]
    meaning = "puts a published policy in place between two requests"
    age = None if fresh["p50"] is None else 1000 * fresh["p50"]
    refused = figures["refused_policy"]
    if refused and refused["version"] > figures["policy_version"]:
        do = f"policy {refused['version']} was refused: {refused['reason']}"
        blocks = f"policy {refused['version']} was refused"
        return make_stage("swap", "Swap", "blocked", age, shown, meaning, do, blocks)
    if its.get("frozen"):
        reason = (its.get("last_freeze") or {}).get("reason", "see the policies below")
        do = f"the gate froze it: {reason}. Look, then `bakehouse release`"
        blocks = "the gate froze what answers"
        return make_stage("swap", "Swap", "blocked", age, shown, meaning, do, blocks)
    held = [
        words
        for words, on in (
            ("killed; `bakehouse revive` ends it", figures["killed"]),
            ("pinned; `bakehouse release` ends it", figures["pinned_version"] is not None),
            ("frozen; `bakehouse release` ends it", figures["frozen"]),
        )
        if on
    ]
    if held:
        return make_stage("swap", "Swap", "busy", age, shown, meaning, "; ".join(held))
    if fresh["p95"] is not None and fresh["p95"] > target_s:
        do = f"above the target of {span(target_s)}: look at the stages before it that are not ok"
        return make_stage("swap", "Swap", "busy", age, shown, meaning, do)
    return make_stage("swap", "Swap", "ok", age, shown, meaning)
