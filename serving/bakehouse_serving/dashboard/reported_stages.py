"""The stages that stream and learner report: join, replay, learner. Pure.

A part that says nothing while there is nothing to do is fine: idle systems write nothing. It is
silent where what it should have taken up has come since (`bakehouse_serving.dashboard.waits`).
"""

from __future__ import annotations

from typing import Any

from bakehouse_schemas.formatting import count, size, span
from bakehouse_schemas.replay.account import NO_RECORD, unaccounted
from bakehouse_serving.dashboard.stage import Fields, Snapshot, make_stage
from bakehouse_serving.dashboard.waits import Waiting

SILENT_MS = 15_000  # a part with work that says nothing for this long is not at work
UNHEARD_MS = 60_000  # the same, of one that was never heard: it may only just be starting
STARTING_MS = 180_000  # of one that says it starts: Spark and TensorFlow on a machine that is busy
SLOW_BATCH_MS = 3_000
BEHIND_MS = 10_000  # stream time this far behind the clock


def join_stage(snapshot: Snapshot, now_ms: int) -> dict[str, Any]:
    """Joins outcomes with decisions: does the query of stream run, and lose nothing?"""
    stream, account = snapshot.stream, snapshot.stream.get("account") or {}
    meaning = "Spark meets every outcome with its decision; what misses the join is repaired"
    batch_ms = (stream.get("batch_ms") or {}).get("triggerExecution")
    # a long batch says nothing meanwhile, and the first is the longest
    patience_ms = UNHEARD_MS if batch_ms is None else max(SILENT_MS, 3 * batch_ms)
    absent = _absent("stream", snapshot.stream_waits, now_ms, "events come", patience_ms)
    if not stream and absent is not None:
        return make_stage("join", "Join", "blocked", None, [], meaning, *absent)
    if not stream:
        do = "stream has not said anything yet: it takes 15 s to start; `bakehouse logs stream`"
        return make_stage("join", "Join", "unknown", None, [], meaning, do)
    late = (snapshot.application.get("outcomes") or {}).get("late")
    waiting = snapshot.application.get("experiences", 0) - snapshot.application.get("matured", 0)
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
        return make_stage("join", "Join", "blocked", age, figures, meaning, *absent)
    if stream.get("problem"):
        do = f"its query died and begins again by itself: {stream['problem']}"
        blocks = "stream's query died, and begins again"
        return make_stage("join", "Join", "blocked", age, figures, meaning, do, blocks)
    if account.get("quarantined"):
        do = (
            "events were refused; the table `quarantine` has each with its reason, topic and "
            "offset. Mend the game's client: docs/event-contract.md. What stream does not know yet "
            "waits there (`waits`), and is read again when it does, or by `bakehouse requeue`"
        )
        return make_stage("join", "Join", "busy", age, figures, meaning, do)
    if account.get("orphan"):
        do = "outcomes name decisions that never came: does the game send ids of another stack?"
        return make_stage("join", "Join", "busy", age, figures, meaning, do)
    if batch_ms is not None and batch_ms > SLOW_BATCH_MS:
        do = "batches are slow: more cores for Spark, or fewer other programs on this machine"
        return make_stage("join", "Join", "busy", age, figures, meaning, do)
    return make_stage("join", "Join", "ok", age, figures, meaning)


def replay_stage(snapshot: Snapshot) -> dict[str, Any]:
    """Holds decisions with their outcomes: is every consumed record in a table?"""
    stream = snapshot.stream
    meaning = "the Delta table of decisions with their outcomes; its fold is the truth"
    if not stream:
        return make_stage("replay", "Replay", "unknown", None, [], meaning, "it comes with stream")
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
        return make_stage("replay", "Replay", "blocked", behind_ms, figures, meaning, do, blocks)
    if behind_ms > BEHIND_MS and stream.get("kafka_lag_events"):
        do = "stream is behind; nothing is lost, freshness grows until it has caught up"
        return make_stage("replay", "Replay", "busy", behind_ms, figures, meaning, do)
    return make_stage("replay", "Replay", "ok", behind_ms, figures, meaning)


def learner_stage(snapshot: Snapshot, now_ms: int) -> dict[str, Any]:
    """Trains: does it run, keep up with the table, and have room for the window?"""
    its, record = snapshot.application, snapshot.learner
    meaning = "trains on what is new, evaluates, and asks the gate whether players may have it"
    train_s = float((its.get("seconds") or {}).get("train", 0.0))
    patience_ms = max(SILENT_MS, 3_000 * train_s)  # a long training says nothing meanwhile
    absent = _absent("learner", snapshot.learner_waits, now_ms, "the table grows", patience_ms)
    if not its and absent is not None:
        return make_stage("learner", "Learner", "blocked", None, [], meaning, *absent)
    if not its:
        do = "the learner has not said anything yet: TensorFlow takes some 15 s to load"
        return make_stage("learner", "Learner", "unknown", None, [], meaning, do)
    figures = [
        ("candidate", count(its.get("candidate", 0))),
        ("rows", count(its.get("experiences", 0))),
        ("versions behind", count(its.get("lag_versions", 0))),
        ("train", span(train_s)),
    ]
    at_ms = int(record["at_ms"])
    age = now_ms - at_ms
    if absent is not None:
        return make_stage("learner", "Learner", "blocked", age, figures, meaning, *absent)
    problem = its.get("problem") or record.get("problem")
    if problem:
        do = f"{problem}. It tries again; the policy in place goes on. `bakehouse logs learner`"
        blocks = "the learner has a problem, and tries again"
        return make_stage("learner", "Learner", "blocked", age, figures, meaning, do, blocks)
    room = its.get("room") or {}
    if room.get("level") == "none":
        do = _more(its)
        blocks = "no decision matures before it leaves the buffer"
        return make_stage("learner", "Learner", "blocked", age, figures, meaning, do, blocks)
    if its.get("refused") or its.get("foreign"):
        figures.append(("rows passed over", count(its.get("refused", 0) + its.get("foreign", 0))))
    if its.get("lag_versions", 0) > 20:
        do = "it is behind the table: a slower cadence or fewer steps (`training=`) let it catch up"
        return make_stage("learner", "Learner", "busy", age, figures, meaning, do)
    if room.get("level") == "some":
        early = f"{room['leave_open']:.0%} of the decisions leave the buffer before they mature"
        do = f"{early}: what comes late is not learned. {_more(its)}"
        return make_stage("learner", "Learner", "busy", age, figures, meaning, do)
    if record.get("mlflow_problem"):
        figures.append(("runs not written", count(record.get("mlflow_failures", 0))))
        do = (
            f"MLflow takes no runs ({record['mlflow_problem']}): it learns and publishes, and what "
            "it learned is not written down. Look at BAKEHOUSE_MLFLOW_URI and at what stands "
            "behind it; the next run tries again. `bakehouse logs learner`"
        )
        return make_stage("learner", "Learner", "busy", age, figures, meaning, do)
    return make_stage("learner", "Learner", "ok", age, figures, meaning)


def _more(its: Fields) -> str:
    """Which buffer would do."""
    room = its["room"]
    return (
        f"At {room['per_s']:.3g} decisions a second, raise `Training(buffer=…)` from "
        f"{its['buffer']:,} to at least {room['needed']:,} (some {size(room['needed_bytes'])} of "
        "memory), or shorten the window"
    )


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
