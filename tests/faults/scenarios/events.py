"""Events that come as they please: early, late, never, from other clocks, as nonsense."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import httpx

from bakehouse_schemas.ids import uuid7
from tests import stream_events
from tests.faults.beside import hold, wait, wait_until
from tests.faults.game import WINDOW_S, application
from tests.faults.ids import game_id
from tests.faults.rig import BASE, RETENTION_S, Measured, Rig

YEAR_MS = 365 * 86_400_000
CONTEXT = {"skill": 0.5, "losses": 1, "segment": "new"}
# What a game that decides for itself publishes.
_decision = partial(
    stream_events.decision,
    application=application.name,
    contract=application.contract,
    context=CONTEXT,
    observation=None,
    propensity=0.5,
)
outcome = partial(stream_events.outcome, application=application.name)


def decision(decision_id: str | None = None, **changes: Any) -> dict[str, Any]:
    """Such a decision; its id is of any kind that a game may choose."""
    return _decision(decision_id or game_id(), **changes)


def clients_clocks_a_year_off(rig: Rig) -> Measured:
    """Clients' clocks are a year off: facts are kept, time goes on, impossible ids are refused."""
    now_ms = int(time.time() * 1000)
    events = [
        decision(decided_at_ms=now_ms + sign * YEAR_MS) for sign in (-1, 1) for _ in range(20)
    ]
    rig.publish("decisions", events)
    rig.publish(
        "outcomes",
        [outcome(e["decision_id"], occurred_at_ms=e["decided_at_ms"] + 1_000) for e in events]
        + [outcome(e["decision_id"], occurred_at_ms=now_ms + YEAR_MS) for e in events],
    )
    odd = [decision(decision_id=uuid7(now_ms + sign * YEAR_MS)) for sign in (-1, 1)]
    rig.publish("decisions", odd, refused=True)
    asked = {
        "subject_id": "late",
        "decision_id": uuid7(now_ms - YEAR_MS),
        "context": {"skill": 0.5, "losses": 1, "segment": "new"},
    }
    answered = httpx.post(f"{rig.url}{BASE}/decisions", json=asked, timeout=30)
    hold(answered.status_code == 422, f"an id of last year was answered {answered.status_code}")
    rig.settle()
    _time_goes_on(rig)
    return {"decisions": len(events), "refused": len(odd)}


def outcomes_silent(rig: Rig) -> Measured:
    """No outcome comes for longer than the window: time goes on, and then they come."""
    assert rig.players is not None
    rig.players.tell(hold=True)
    began = time.monotonic()
    wait(began + 3 * WINDOW_S)
    _time_goes_on(rig)
    rig.players.tell(hold=False)
    return {"silent_s": round(time.monotonic() - began, 1), "window_s": WINDOW_S}


def outcomes_before_decisions(rig: Rig) -> Measured:
    """Outcomes are read before their decisions are: each meets its own."""
    events = [decision() for _ in range(50)]
    rig.publish("outcomes", [outcome(e["decision_id"]) for e in events])
    rig.settle()
    rig.publish("decisions", events)
    joined(rig)
    return {"outcomes": len(events)}


def outcomes_beyond_retention(rig: Rig) -> Measured:
    """Outcomes come when the join has long forgotten their decisions: repair finds them."""
    events = rig.later.pop("old decisions")
    published = rig.later.pop("old decisions at")
    wait(published + 2 * RETENTION_S)
    for _ in range(2):  # what is too old leaves the join with the batch after it was seen to be
        _time_goes_on(rig)
    repaired = rig.stream().get("repaired", 0)
    rig.publish("outcomes", [outcome(e["decision_id"]) for e in events])
    joined(rig)
    wait_until(lambda: rig.stream().get("repaired", 0) > repaired, "repair has appended rows")
    return {
        "outcomes": len(events),
        "older_than_s": round(time.monotonic() - published),
        "retention_s": RETENTION_S,
    }


def poison(rig: Rig) -> Measured:
    """Records that no rule lets through, of each kind, in each topic: set aside with the reason."""
    known = decision()
    rig.publish("decisions", [known])
    bad_decisions: list[Any] = [
        None,
        b"\xff\xfe",
        b"not json",
        b"[1, 2]",
        b'{"schema": "decision.v1", "propensity": NaN}',
        b'{"propensity": 1e999}',
        b'{"a": 1, "a": 2}',
        decision(propensity=0.0),
        decision(propensity=1.5),
        decision(action="impossible"),
        decision(action_probabilities={"easy": 0.2, "hard": 0.8}),
        decision(observation=[0.5]),
        decision(context={}),
        decision(decision_id="not\nan id"),
        decision(application="another"),
        decision(exploration={"kind": "fifo"}),
        decision(previous_decision_id="é" * 65),
    ]
    bad_outcomes: list[Any] = [
        None,
        b"{",
        b"\x00" * 64,
        outcome(known["decision_id"], value="high"),
        outcome(known["decision_id"], name=None),
        outcome(known["decision_id"], kind="executed", executed_action="impossible"),
        outcome(known["decision_id"], outcome_id="next:mine"),
        outcome(known["decision_id"], occurred_at_ms=-1),
        outcome(known["decision_id"], application="another"),
        outcome("not\nan id"),
        b'{"value": 1e999}',
    ]
    rig.publish("decisions", bad_decisions, refused=True)
    rig.publish("outcomes", bad_outcomes, refused=True)
    version = rig.policy()["policy_version"]
    elsewhere = [b"", b"\xff", b"{}", b"[]", b'{"application": "faults", "version": -1}']
    for topic in ("policies", "progress", "status"):
        rig.publish(topic, elsewhere)
    rig.settle()
    wait_until(lambda: rig.policy()["policy_version"] > version, "policies are swapped as before")
    return {"quarantined": len(bad_decisions) + len(bad_outcomes), "passed_over": 15}


def everything_at_once(rig: Rig) -> Measured:
    """Compaction, repair and appends run at once: the account goes on adding up."""
    before = rig.stream()
    rig.publish("outcomes", [outcome(e["decision_id"]) for e in _old(rig, 100)])
    wait_until(
        lambda: (
            rig.stream()["compacted"] >= before["compacted"] + 1
            and rig.stream()["repaired"] > before["repaired"]
        ),
        "a compaction and repairs while players play",
        patience_s=300,
    )
    now = rig.stream()
    return {name: now[name] - before[name] for name in ("compacted", "repaired", "batches")}


def _time_goes_on(rig: Rig) -> None:
    """Stream time follows the broker's clock: it passes the present within some seconds."""
    now_ms = int(time.time() * 1000)
    wait_until(
        lambda: rig.stream().get("stream_time_ms", 0) >= now_ms,
        "stream time passes the present",
        patience_s=60,
    )
    ahead_ms = rig.stream()["stream_time_ms"] - int(time.time() * 1000)
    hold(ahead_ms < 5_000, f"stream time is {ahead_ms} ms in the future")


def joined(rig: Rig) -> None:
    """Everything sent is in the tables, and no outcome waits whose decision is there."""
    hold(rig.settle() == 0, "something is unaccounted for")


def _old(rig: Rig, count: int) -> list[dict[str, Any]]:
    """Decisions that the join has forgotten by now."""
    events = [decision() for _ in range(count)]
    rig.publish("decisions", events)
    wait(time.monotonic() + 2 * RETENTION_S)
    return events
