"""Where is the pipe blocked? One stage after the other, with its age, its level and what to do.

Pure: from what serving says of itself and what it last heard of stream and learner. A part that
says nothing while there is nothing to do is fine: idle systems write nothing. It is silent where
what it should have taken up has come since.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from schemas.words import count, size, span

Level = Literal["ok", "busy", "blocked", "unknown"]
Fields = Mapping[str, Any]

SILENT_MS = 15_000  # a part with work that says nothing for this long is not at work
WAITING_MS = 10_000  # what waits in the spool for longer is not on its way
SLOW_BATCH_MS = 3_000
RULES_FAIL = 0.01  # share of decisions that the page's own rules have no answer to
SLOW_ANSWER_MS = 50.0
BEHIND_MS = 10_000  # stream time this far behind the clock


class Moved(NamedTuple):
    """When things last happened in this process, milliseconds since 1970; None: not yet.

    Args:
        spool_flows_at_ms: when nothing waited in the spool that was older than a second.
    """

    decided_at_ms: int | None = None
    published_at_ms: int | None = None
    spool_flows_at_ms: int | None = None


class Heard(NamedTuple):
    """What is known now.

    Args:
        own: the status of this serving process.
        figures: of the application, in this process.
        stream, learner: the latest `status.v1` of each; empty where there is none.
        application: the learner's status of the application.
    """

    own: Fields
    figures: Fields
    stream: Fields
    learner: Fields
    application: Fields


def stages(heard: Heard, moved: Moved, *, now_ms: int, target_s: float) -> list[dict[str, Any]]:
    """The seven stages, in the order in which an outcome passes them.

    Args:
        target_s: freshness that is wanted.
    """
    return [
        _serving(heard, moved, now_ms),
        _spool(heard, moved, now_ms),
        _kafka(heard, moved, now_ms),
        _join(heard, moved, now_ms),
        _replay(heard),
        _learner(heard, now_ms),
        _swap(heard, target_s),
    ]


def _stage(
    stage: str,
    title: str,
    level: Level,
    age_ms: float | None,
    figures: Sequence[tuple[str, str]],
    meaning: str,
    do: str = "nothing to do",
) -> dict[str, Any]:
    return {
        "stage": stage,
        "title": title,
        "level": level,
        "age_s": None if age_ms is None else round(max(age_ms, 0) / 1000, 1),
        "figures": [{"name": name, "value": value} for name, value in figures],
        "meaning": meaning,
        "do": do,
    }


def _since(then_ms: int | None, now_ms: int) -> int | None:
    return None if then_ms is None else now_ms - then_ms


def _serving(heard: Heard, moved: Moved, now_ms: int) -> dict[str, Any]:
    own, p99 = heard.own, heard.own["handling_ms"]["p99"]
    figures = [
        ("decisions a second", f"{own['decisions_per_s']:.0f}"),
        ("p99", "–" if p99 is None else f"{p99:.1f} ms"),
        ("up", span(own["uptime_s"])),
    ]
    meaning = "answers the game; what it answers is on this machine's disk first"
    age = _since(moved.decided_at_ms, now_ms)
    failed, decided = heard.figures["baseline_failed"], heard.figures["decisions"]
    if failed > RULES_FAIL * decided:
        level: Level = "blocked" if failed > decided / 2 else "busy"
        do = (
            f"the page's own rules failed in {count(failed)} of {count(decided)} decisions; where "
            "they are to answer, players get any eligible action. `bakehouse check` tries them, "
            "`bakehouse logs serving` has the first reason"
        )
        return _stage("serving", "Serving", level, age, figures, meaning, do)
    if p99 is not None and p99 > SLOW_ANSWER_MS:
        do = "the machine is busy: give serving a core of its own, or run several processes"
        return _stage("serving", "Serving", "busy", age, figures, meaning, do)
    return _stage("serving", "Serving", "ok", age, figures, meaning)


def _spool(heard: Heard, moved: Moved, now_ms: int) -> dict[str, Any]:
    spool = heard.own["spool"]
    fill = spool["bytes"] / max(spool["bytes_limit"], 1)
    waiting_ms = 0 if not spool["events"] else _since(moved.spool_flows_at_ms, now_ms)
    figures = [
        ("events waiting", count(spool["events"])),
        ("size", f"{size(spool['bytes'])} of {size(spool['bytes_limit'])}"),
        ("not logged", count(heard.figures["unlogged"])),
    ]
    meaning = "keeps events on disk until Kafka has acknowledged them, so a dead broker loses none"
    level: Level = "ok"
    do = "nothing to do"
    if fill >= 0.95:
        level = "blocked"
        do = (
            "it is full: decisions are the baseline's and not logged, outcomes get 503. Bring "
            "Kafka back, or raise BAKEHOUSE_SPOOL_BYTES and restart serving"
        )
    elif fill >= 0.5 or (waiting_ms or 0) > WAITING_MS:
        level, do = "busy", "Kafka does not take events as fast as they come: see the next stage"
    return _stage("spool", "Spool", level, waiting_ms, figures, meaning, do)


def _kafka(heard: Heard, moved: Moved, now_ms: int) -> dict[str, Any]:
    kafka, lag = heard.own["kafka"], heard.stream.get("kafka_lag_events")
    figures = [
        ("published", count(kafka["published"])),
        ("lag", "–" if lag is None else f"{count(lag)} events"),
        ("sent again", count(kafka["retried"])),
        ("refused", count(kafka["refused"])),
    ]
    meaning = "carries decisions, outcomes, policies and what the parts say of themselves"
    age = _since(moved.published_at_ms, now_ms)
    if not kafka["connected"]:
        said = f" ({kafka['problem']})" if kafka["problem"] else ""
        do = f"no broker answers{said}: `bakehouse logs broker`, or look at your Kafka cluster"
        return _stage("kafka", "Kafka", "blocked", age, figures, meaning, do)
    if not kafka["listening"]:
        do = "serving cannot hear policies and control yet; it tries on. `bakehouse logs serving`"
        return _stage("kafka", "Kafka", "busy", age, figures, meaning, do)
    per_s = heard.own["decisions_per_s"] + heard.own["outcomes_per_s"]
    if lag is not None and lag > max(2_000, 5 * per_s):
        do = "stream is behind: see the next stage; nothing is lost, freshness grows"
        return _stage("kafka", "Kafka", "busy", age, figures, meaning, do)
    return _stage("kafka", "Kafka", "ok", age, figures, meaning)


def _join(heard: Heard, moved: Moved, now_ms: int) -> dict[str, Any]:
    stream, account = heard.stream, heard.stream.get("account") or {}
    meaning = "Spark meets every outcome with its decision; what misses the join is repaired"
    if not stream:
        do = "stream has not said anything yet: it takes 15 s to start; `bakehouse logs stream`"
        return _stage("join", "Join", "unknown", None, [], meaning, do)
    batch_ms = (stream.get("batch_ms") or {}).get("triggerExecution")
    late = (heard.application.get("outcomes") or {}).get("late")
    waiting = heard.application.get("experiences", 0) - heard.application.get("matured", 0)
    figures = [
        ("batch", "–" if batch_ms is None else span(batch_ms / 1000)),
        ("open decisions", count(waiting)),
        ("waiting for their decision", count(account.get("pending", 0))),
        ("orphans", count(account.get("orphan", 0))),
        ("quarantined", count(account.get("quarantined", 0))),
    ]
    if late is not None:
        figures.insert(2, ("late", count(late)))
    at_ms = int(stream["at_ms"])
    age = now_ms - at_ms
    if stream.get("problem"):
        do = f"its query died and begins again by itself: {stream['problem']}"
        return _stage("join", "Join", "blocked", age, figures, meaning, do)
    if _is_silent(at_ms, moved.published_at_ms, now_ms):
        do = "stream says nothing while events come: `bakehouse status`, `bakehouse logs stream`"
        return _stage("join", "Join", "blocked", age, figures, meaning, do)
    if account.get("quarantined"):
        do = (
            "events were refused; the table `quarantine` has each with its reason, topic and "
            "offset. Mend the game's client: docs/event-contract.md"
        )
        return _stage("join", "Join", "busy", age, figures, meaning, do)
    if account.get("orphan"):
        do = "outcomes name decisions that never came: does the game send ids of another stack?"
        return _stage("join", "Join", "busy", age, figures, meaning, do)
    if batch_ms is not None and batch_ms > SLOW_BATCH_MS:
        do = "batches are slow: more cores for Spark, or fewer other programs on this machine"
        return _stage("join", "Join", "busy", age, figures, meaning, do)
    return _stage("join", "Join", "ok", age, figures, meaning)


def _is_silent(at_ms: int, news_at_ms: int | None, now_ms: int) -> bool:
    """Whether news has come after a part last spoke, and it has had time to take it up."""
    return news_at_ms is not None and news_at_ms > at_ms and now_ms - at_ms > SILENT_MS


def _replay(heard: Heard) -> dict[str, Any]:
    stream = heard.stream
    meaning = "the Delta table of decisions with their outcomes; its fold is the truth"
    if not stream:
        return _stage("replay", "Replay", "unknown", None, [], meaning, "it comes with stream")
    account = stream.get("account") or {}
    parts = ("applied", "duplicate", "pending", "orphan", "quarantined")
    behind_ms = int(stream["at_ms"]) - int(stream["stream_time_ms"] or stream["at_ms"])
    figures = [
        ("version", count(stream["replay_version"])),
        ("stream time behind", span(max(behind_ms, 0) / 1000)),
        ("applied", count(account.get("applied", 0))),
    ]
    left = account.get("received", 0) - sum(account.get(part, 0) for part in parts)
    if account and left:
        figures.append(("unaccounted for", count(left)))
        do = (
            f"{left:,} consumed records are in no table: a fault of ours. Keep the home, stop "
            "nothing, and report it"
        )
        return _stage("replay", "Replay", "blocked", behind_ms, figures, meaning, do)
    if behind_ms > BEHIND_MS and stream.get("kafka_lag_events"):
        do = "stream is behind; nothing is lost, freshness grows until it has caught up"
        return _stage("replay", "Replay", "busy", behind_ms, figures, meaning, do)
    return _stage("replay", "Replay", "ok", behind_ms, figures, meaning)


def _learner(heard: Heard, now_ms: int) -> dict[str, Any]:
    its, record, stream = heard.application, heard.learner, heard.stream
    meaning = "trains on what is new, evaluates, and asks the gate whether players may have it"
    if not its:
        do = "the learner has not said anything yet: TensorFlow takes some 15 s to load"
        return _stage("learner", "Learner", "unknown", None, [], meaning, do)
    figures = [
        ("candidate", count(its.get("candidate", 0))),
        ("rows", count(its.get("experiences", 0))),
        ("versions behind", count(its.get("lag_versions", 0))),
        ("train", span(float((its.get("seconds") or {}).get("train", 0.0)))),
    ]
    at_ms = int(record["at_ms"])
    age = now_ms - at_ms
    problem = its.get("problem") or record.get("problem")
    if problem:
        do = f"{problem}. It tries again; the policy in place goes on. `bakehouse logs learner`"
        return _stage("learner", "Learner", "blocked", age, figures, meaning, do)
    ahead = int(stream.get("replay_version", -1)) > int(its.get("replay_version", -1))
    if ahead and _is_silent(at_ms, stream.get("at_ms"), now_ms):
        do = "it says nothing while the table grows: `bakehouse status`, `bakehouse logs learner`"
        return _stage("learner", "Learner", "blocked", age, figures, meaning, do)
    if its.get("refused") or its.get("foreign"):
        figures.append(("rows passed over", count(its["refused"] + its["foreign"])))
    if its.get("lag_versions", 0) > 20:
        do = "it is behind the table: a slower cadence or fewer steps (`training=`) let it catch up"
        return _stage("learner", "Learner", "busy", age, figures, meaning, do)
    return _stage("learner", "Learner", "ok", age, figures, meaning)


def _swap(heard: Heard, target_s: float) -> dict[str, Any]:
    figures, its = heard.figures, heard.application
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
        return _stage("swap", "Swap", "blocked", age, shown, meaning, do)
    if its.get("frozen"):
        reason = (its.get("last_freeze") or {}).get("reason", "see the policies below")
        do = f"the gate froze it: {reason}. Look, then `bakehouse release`"
        return _stage("swap", "Swap", "blocked", age, shown, meaning, do)
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
        return _stage("swap", "Swap", "busy", age, shown, meaning, "; ".join(held))
    if fresh["p95"] is not None and fresh["p95"] > target_s:
        do = f"above the target of {span(target_s)}: the stage before that is yellow says why"
        return _stage("swap", "Swap", "busy", age, shown, meaning, do)
    return _stage("swap", "Swap", "ok", age, shown, meaning)
