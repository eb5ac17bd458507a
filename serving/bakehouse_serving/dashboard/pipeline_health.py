"""Where is the pipe blocked? One stage after the other, with its age, its level and what to do.

Pure: from what serving says of itself and what it last heard of stream and learner. A part that
says nothing while there is nothing to do is fine: idle systems write nothing. It is silent where
what it should have taken up has come since (`bakehouse_serving.dashboard.waits`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from bakehouse_schemas.formatting import count, size, span
from bakehouse_schemas.replay.account import NO_RECORD, unaccounted
from bakehouse_serving.dashboard.waits import Waiting

Level = Literal["ok", "busy", "blocked", "unknown"]
Fields = Mapping[str, Any]

AWAY_MS = 10_000  # Kafka, or what it tells, unreachable for longer is no hiccup
SILENT_MS = 15_000  # a part with work that says nothing for this long is not at work
UNHEARD_MS = 60_000  # the same, of one that was never heard: it may only just be starting
STARTING_MS = 180_000  # of one that says it starts: Spark and TensorFlow on a machine that is busy
WAITING_MS = 10_000  # what waits in the spool for longer is not on its way
SLOW_BATCH_MS = 3_000
RULES_FAIL = 0.01  # share of decisions that the page's own rules have no answer to
SLOW_ANSWER_MS = 50.0
BEHIND_MS = 10_000  # stream time this far behind the clock
LEARNS = ("spool", "kafka", "join", "learner")  # where one is blocked, nothing is learned


class Moved(NamedTuple):
    """When things last happened in this process, milliseconds since 1970; None: not yet.

    Args:
        spool_flows_at_ms: when nothing waited in the spool that was older than a second.
        kafka_at_ms: when Kafka took events and told of policies, or was only being started.
    """

    decided_at_ms: int | None = None
    published_at_ms: int | None = None
    spool_flows_at_ms: int | None = None
    kafka_at_ms: int | None = None


class Heard(NamedTuple):
    """What is known now.

    Args:
        own: the status of this serving process.
        figures: of the application, in this process.
        stream, learner: the latest `status.v1` of each; empty where there is none.
        application: the learner's status of the application.
        stream_waits, learner_waits: since when each has had work and said nothing.
    """

    own: Fields
    figures: Fields
    stream: Fields
    learner: Fields
    application: Fields
    stream_waits: Waiting = Waiting()
    learner_waits: Waiting = Waiting()


def stages(heard: Heard, moved: Moved, *, now_ms: int, target_s: float) -> list[dict[str, Any]]:
    """The seven stages, in the order in which an outcome passes them.

    Args:
        target_s: freshness that is wanted.
    """
    return [
        _serving(heard, moved, now_ms),
        _spool(heard, moved, now_ms),
        _told("kafka", "Kafka", lambda: _kafka(heard, moved, now_ms)),
        _told("join", "Join", lambda: _join(heard, now_ms)),
        _told("replay", "Replay", lambda: _replay(heard)),
        _told("learner", "Learner", lambda: _learner(heard, now_ms)),
        _told("swap", "Swap", lambda: _swap(heard, target_s)),
    ]


def _told(stage: str, title: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A stage made of what other parts say, which may be of another release."""
    try:
        return make()
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        meaning = "what was heard of this stage cannot be read"
        do = "do all parts run the same release? `bakehouse logs` of each says what it is"
        return _stage(stage, title, "unknown", None, [], meaning, do)


def _stage(
    stage: str,
    title: str,
    level: Level,
    age_ms: float | None,
    figures: Sequence[tuple[str, str]],
    meaning: str,
    do: str = "nothing to do",
    blocks: str | None = None,
) -> dict[str, Any]:
    """One stage.

    Args:
        blocks: of a blocked one: what is wrong, as a clause.
    """
    return {
        "stage": stage,
        "title": title,
        "level": level,
        "age_s": None if age_ms is None else round(max(age_ms, 0) / 1000, 1),
        "figures": [{"name": name, "value": value} for name, value in figures],
        "meaning": meaning,
        "do": do,
        "blocks": blocks if level == "blocked" else None,
    }


def not_learning(pipe: Sequence[Fields]) -> dict[str, Any] | None:
    """The first stage through which nothing comes to the learner, or out of it; None: it learns.

    Beyond what `stages` says, a stage that nobody has heard of yet counts: whether anything is
    learned is not known then.
    """
    learning = [stage for stage in pipe if stage["stage"] in LEARNS]
    for level in ("blocked", "unknown"):
        for stage in learning:
            if stage["level"] == level:
                return {name: stage[name] for name in ("stage", "level", "blocks", "do")}
    return None


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
        blocks = f"the game's own rules fail in {count(failed)} of {count(decided)} decisions"
        return _stage("serving", "Serving", level, age, figures, meaning, do, blocks)
    hydration = heard.figures.get("hydration") or {}
    if hydration.get("problem"):
        used = "the rows read before" if hydration.get("read_at_ms") else "the default"
        do = (
            f"features cannot be looked up ({hydration['problem']}): decisions are made with "
            f"{used}. Bring back what `hydrate=` names; serving tries again by itself"
        )
        return _stage("serving", "Serving", "busy", age, figures, meaning, do)
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
    do, blocks = "nothing to do", None
    if fill >= 0.95:
        level, blocks = "blocked", "the spool is full and takes no more events"
        do = (
            "it is full: decisions are the baseline's and not logged, outcomes get 503. Bring "
            "Kafka back, or raise BAKEHOUSE_SPOOL_BYTES and restart serving"
        )
    elif fill >= 0.5 or (waiting_ms or 0) > WAITING_MS:
        level, do = "busy", "Kafka does not take events as fast as they come: see the next stage"
    return _stage("spool", "Spool", level, waiting_ms, figures, meaning, do, blocks)


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
    away_ms = _since(moved.kafka_at_ms, now_ms)
    level: Level = "blocked" if away_ms is None or away_ms > AWAY_MS else "busy"
    said = f" ({kafka['problem']})" if kafka["problem"] else ""
    if not kafka["connected"]:
        do = f"no broker answers{said}: `bakehouse logs broker`, or look at your Kafka cluster"
        blocks = "Kafka cannot be reached"
        return _stage("kafka", "Kafka", level, age, figures, meaning, do, blocks)
    if not kafka["listening"]:
        do = (
            f"serving does not hear policies and controls{said}: those in place go on. It tries "
            "again by itself; `bakehouse logs serving`"
        )
        if kafka["problem"]:  # it cannot, rather than not yet
            level = "blocked"
        blocks = "serving cannot hear of new policies in Kafka"
        return _stage("kafka", "Kafka", level, age, figures, meaning, do, blocks)
    per_s = heard.own["decisions_per_s"] + heard.own["outcomes_per_s"]
    if lag is not None and lag > max(2_000, 5 * per_s):
        do = "stream is behind: see the next stage; nothing is lost, freshness grows"
        return _stage("kafka", "Kafka", "busy", age, figures, meaning, do)
    return _stage("kafka", "Kafka", "ok", age, figures, meaning)


def _join(heard: Heard, now_ms: int) -> dict[str, Any]:
    stream, account = heard.stream, heard.stream.get("account") or {}
    meaning = "Spark meets every outcome with its decision; what misses the join is repaired"
    batch_ms = (stream.get("batch_ms") or {}).get("triggerExecution")
    # a long batch says nothing meanwhile, and the first is the longest
    patience_ms = UNHEARD_MS if batch_ms is None else max(SILENT_MS, 3 * batch_ms)
    absent = _absent("stream", heard.stream_waits, now_ms, "events come", patience_ms)
    if not stream and absent is not None:
        return _stage("join", "Join", "blocked", None, [], meaning, *absent)
    if not stream:
        do = "stream has not said anything yet: it takes 15 s to start; `bakehouse logs stream`"
        return _stage("join", "Join", "unknown", None, [], meaning, do)
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
    if absent is not None:
        return _stage("join", "Join", "blocked", age, figures, meaning, *absent)
    if stream.get("problem"):
        do = f"its query died and begins again by itself: {stream['problem']}"
        blocks = "stream's query died, and begins again"
        return _stage("join", "Join", "blocked", age, figures, meaning, do, blocks)
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


def _absent(
    part: str, waiting: Waiting, now_ms: int, work: str, patience_ms: float = SILENT_MS
) -> tuple[str, str] | None:
    """What to do and what is wrong where a part is not at work; None where it may well be.

    Args:
        work: what it should take up.
        patience_ms: how long one that runs may be silent over its work.
    """
    its = "the learner" if part == "learner" else part
    if waiting.given_up:
        do = (
            f"{its} died again and again right after its start and is not started again: "
            f"`bakehouse logs {part}` has its last words. Mend that, then stop the stack and start "
            "it again"
        )
        return do, f"{its} was given up after dying again and again"
    since_ms = waiting.since_ms
    if not waiting.heard:
        patience_ms = max(patience_ms, UNHEARD_MS)
    if waiting.starting:
        patience_ms = max(patience_ms, STARTING_MS)
    if since_ms is None or now_ms - since_ms <= patience_ms:
        return None
    if waiting.heard:
        do = f"{its} says nothing while {work}: `bakehouse status`, `bakehouse logs {part}`"
        return do, f"{its} says nothing while {work}"
    command = "learn" if part == "learner" else part
    do = (
        f"{its} has said nothing since serving started, and {work}: is it running? `bakehouse logs "
        f"{part}`; `bakehouse up` starts all parts, `bakehouse {command}` this one"
    )
    return do, f"{its} has not been heard of"


def _replay(heard: Heard) -> dict[str, Any]:
    stream = heard.stream
    meaning = "the Delta table of decisions with their outcomes; its fold is the truth"
    if not stream:
        return _stage("replay", "Replay", "unknown", None, [], meaning, "it comes with stream")
    account = stream.get("account") or {}
    behind_ms = int(stream["at_ms"]) - int(stream.get("stream_time_ms") or stream["at_ms"])
    figures = [
        ("version", count(stream.get("replay_version", -1))),
        ("stream time behind", span(max(behind_ms, 0) / 1000)),
        ("applied", count(account.get("applied", 0))),
    ]
    if account.get(NO_RECORD):
        figures.append(("positions without a record", count(account[NO_RECORD])))
    left = unaccounted(account)
    if left:
        figures.append(("unaccounted for", count(left)))
        do = (
            f"{left:,} consumed records are in no table: a fault of ours. Keep the home, stop "
            "nothing, and report it"
        )
        blocks = f"{left:,} consumed records are in no table"
        return _stage("replay", "Replay", "blocked", behind_ms, figures, meaning, do, blocks)
    if behind_ms > BEHIND_MS and stream.get("kafka_lag_events"):
        do = "stream is behind; nothing is lost, freshness grows until it has caught up"
        return _stage("replay", "Replay", "busy", behind_ms, figures, meaning, do)
    return _stage("replay", "Replay", "ok", behind_ms, figures, meaning)


def _learner(heard: Heard, now_ms: int) -> dict[str, Any]:
    its, record = heard.application, heard.learner
    meaning = "trains on what is new, evaluates, and asks the gate whether players may have it"
    train_s = float((its.get("seconds") or {}).get("train", 0.0))
    patience_ms = max(SILENT_MS, 3_000 * train_s)  # a long training says nothing meanwhile
    absent = _absent("learner", heard.learner_waits, now_ms, "the table grows", patience_ms)
    if not its and absent is not None:
        return _stage("learner", "Learner", "blocked", None, [], meaning, *absent)
    if not its:
        do = "the learner has not said anything yet: TensorFlow takes some 15 s to load"
        return _stage("learner", "Learner", "unknown", None, [], meaning, do)
    figures = [
        ("candidate", count(its.get("candidate", 0))),
        ("rows", count(its.get("experiences", 0))),
        ("versions behind", count(its.get("lag_versions", 0))),
        ("train", span(train_s)),
    ]
    at_ms = int(record["at_ms"])
    age = now_ms - at_ms
    if absent is not None:
        return _stage("learner", "Learner", "blocked", age, figures, meaning, *absent)
    problem = its.get("problem") or record.get("problem")
    if problem:
        do = f"{problem}. It tries again; the policy in place goes on. `bakehouse logs learner`"
        blocks = "the learner has a problem, and tries again"
        return _stage("learner", "Learner", "blocked", age, figures, meaning, do, blocks)
    room = its.get("room") or {}
    if room.get("level") == "none":
        do = _more(its)
        blocks = "no decision matures before it leaves the buffer"
        return _stage("learner", "Learner", "blocked", age, figures, meaning, do, blocks)
    if its.get("refused") or its.get("foreign"):
        figures.append(("rows passed over", count(its.get("refused", 0) + its.get("foreign", 0))))
    if its.get("lag_versions", 0) > 20:
        do = "it is behind the table: a slower cadence or fewer steps (`training=`) let it catch up"
        return _stage("learner", "Learner", "busy", age, figures, meaning, do)
    if room.get("level") == "some":
        early = f"{room['leave_open']:.0%} of the decisions leave the buffer before they mature"
        do = f"{early}: what comes late is not learned. {_more(its)}"
        return _stage("learner", "Learner", "busy", age, figures, meaning, do)
    if record.get("mlflow_problem"):
        figures.append(("runs not written", count(record.get("mlflow_failures", 0))))
        do = (
            f"MLflow takes no runs ({record['mlflow_problem']}): it learns and publishes, and what "
            "it learned is not written down. Look at BAKEHOUSE_MLFLOW_URI and at what stands "
            "behind it; the next run tries again. `bakehouse logs learner`"
        )
        return _stage("learner", "Learner", "busy", age, figures, meaning, do)
    return _stage("learner", "Learner", "ok", age, figures, meaning)


def _more(its: Fields) -> str:
    """Which buffer would do."""
    room = its["room"]
    return (
        f"At {room['per_s']:.3g} decisions a second, raise `Training(buffer=…)` from "
        f"{its['buffer']:,} to at least {room['needed']:,} (some {size(room['needed_bytes'])} of "
        "memory), or shorten the window"
    )


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
        blocks = f"policy {refused['version']} was refused"
        return _stage("swap", "Swap", "blocked", age, shown, meaning, do, blocks)
    if its.get("frozen"):
        reason = (its.get("last_freeze") or {}).get("reason", "see the policies below")
        do = f"the gate froze it: {reason}. Look, then `bakehouse release`"
        blocks = "the gate froze what answers"
        return _stage("swap", "Swap", "blocked", age, shown, meaning, do, blocks)
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
        do = f"above the target of {span(target_s)}: look at the stages before it that are not ok"
        return _stage("swap", "Swap", "busy", age, shown, meaning, do)
    return _stage("swap", "Swap", "ok", age, shown, meaning)
