"""What can go wrong, one function each: its first line is the promise, it returns what it saw.

Players play all the while. A scenario hurts the stack, waits until it is whole again, and says
what it saw; whoever calls it then holds every record sent so far to account. It raises `Broken`
where a promise is not kept, and whatever waits in vain raises too.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from schemas.failpoints import arm, is_armed
from schemas.ids import uuid7
from schemas.settings import Settings
from serving.frames import Record, Topic, frame
from tests.faults.game import ACTIONS, WINDOW_S, application
from tests.faults.rig import BASE, RETENTION_S, Rig, Server, hold, wait_until

YEAR_MS = 365 * 86_400_000
SPOOL_LIMIT = 256 << 10
DISK_BYTES = 8 << 20
HALF_OPEN_S = 15.0
Measured = dict[str, Any]


def decision(**changes: Any) -> dict[str, Any]:
    """A record of `decisions.v1` as a game that decides for itself publishes it."""
    return {
        "schema": "decision.v1",
        "decision_id": uuid7(),
        "application": application.name,
        "contract": application.contract,
        "subject_id": "direct",
        "decided_at_ms": int(time.time() * 1000),
        "context": {"skill": 0.5, "losses": 1, "segment": "new"},
        "action": "easy",
        "propensity": 0.5,
        "policy_version": 0,
        "cohort": "policy",
        **changes,
    }


def outcome(decision_id: str, **changes: Any) -> dict[str, Any]:
    """A record of `outcomes.v1`."""
    return {
        "schema": "outcome.v1",
        "outcome_id": uuid7(),
        "application": application.name,
        "decision_id": decision_id,
        "kind": "reward",
        "name": "won",
        "value": 1.0,
        "occurred_at_ms": int(time.time() * 1000),
        **changes,
    }


# --- the broker and the network


def broker_killed(rig: Rig) -> Measured:
    """The broker is killed and started again: decisions go on, the spool drains, nothing lost."""
    rig.broker.kill()
    rig.kills += 1
    before = rig.status()["decisions"]
    wait_until(lambda: rig.status()["decisions"] > before + 50, "decisions go on without a broker")
    rig.broker.start()
    return {"drained_s": _drained(rig)}


def broker_unreachable(rig: Rig) -> Measured:
    """The broker cannot be reached: every answer is 2xx, memory is bounded, the spool drains."""
    steady_from = time.monotonic()
    _wait(steady_from + 15.0)
    steady_to = time.monotonic()
    memory = rig.serving_memory_mb()
    rig.proxy.become("closed")
    began = time.monotonic()
    most = 0
    while time.monotonic() < began + rig.later["outage_s"]:
        most = max(most, rig.status()["serving"]["spool"]["events"])
        _wait(time.monotonic() + 5.0)
    ended = time.monotonic()
    grown = rig.serving_memory_mb() - memory
    rig.proxy.become("open")
    rig.later["steady"], rig.later["outage"] = (steady_from, steady_to), (began, ended)
    drained_s = _drained(rig)
    hold(grown < 64, f"serving grew by {grown:.0f} MB while the broker was away")
    return {
        "outage_s": round(ended - began),
        "spooled": most,
        "memory_mb": round(grown, 1),
        "drained_s": drained_s,
    }


def network_half_open(rig: Rig) -> Measured:
    """Connections stay and nothing comes through: found out, begun anew, nothing is lost."""
    rig.proxy.become("silent")
    began = time.monotonic()
    _wait(began + HALF_OPEN_S)
    spooled = rig.status()["serving"]["spool"]["events"]
    hold(spooled > 0, "the spool is empty, though nothing comes through to Kafka")
    rig.proxy.become("open")
    return {"silent_s": round(time.monotonic() - began, 1), "drained_s": _drained(rig)}


def network_resets(rig: Rig) -> Measured:
    """Every connection is reset, again and again: nothing is lost."""
    for _ in range(8):
        before = rig.status()["serving"]["kafka"]["published"]
        rig.proxy.become("reset")
        wait_until(
            lambda before=before: rig.status()["serving"]["kafka"]["published"] > before,  # type: ignore[misc]
            "events are published after a reset",
        )
    return {"resets": 8, "drained_s": _drained(rig)}


# --- parts that die


def parts_killed(rig: Rig) -> Measured:
    """Serving, stream and learner are killed in turn, at any moment: each comes back."""
    seconds = {}
    for part in ("serving", "stream", "learner"):
        began = time.monotonic()
        then = (lambda: _keep_checkpoint(rig)) if part == "stream" else (lambda: None)
        rig.kill(part, then)
        seconds[f"{part}_s"] = round(time.monotonic() - began, 1)
    return seconds


def spool_tail_torn(rig: Rig) -> Measured:
    """A record was half written when serving died: it is cut off, and all others are published."""
    torn = frame(Record(Topic.DECISIONS, b"half", b"{" + b"x" * 500))[:200]

    def tear() -> None:
        last = max((rig.home / "spool" / "0").glob("*.log"))
        with last.open("ab") as file:
            file.write(torn)

    rig.kill("serving", tear)
    damaged = rig.status()["serving"]["spool"]["damaged"]
    hold(damaged == 1, f"{damaged} damaged stretches, expected the torn one")
    return {"damaged": damaged, "drained_s": _drained(rig)}


# --- Spark's checkpoint


def checkpoint_put_back(rig: Rig) -> Measured:
    """An old checkpoint is put back: batches are read again, and absorbed."""
    kept: Path = rig.later["checkpoint"]
    measured: Measured = {}

    def put_back() -> None:
        current = _checkpoint(rig)
        hold(current.name == kept.name, f"{current.name} is not the checkpoint that was kept")
        measured["older_by_batches"] = _batches(current) - _batches(kept)
        shutil.rmtree(current)
        shutil.copytree(kept, current)

    rig.kill("stream", put_back)
    return measured


def checkpoint_deleted(rig: Rig) -> Measured:
    """The checkpoint is deleted: the join begins empty, and repair carries the gap."""
    rig.kill("stream", lambda: shutil.rmtree(_checkpoint(rig)))
    process = str(rig.stack.pids()["stream"])
    rig.settle()
    wait_until(
        lambda: rig.stream()["process"] == process and rig.stream()["repaired"] > 0,
        "what the join had forgotten is repaired",
    )
    return {"repaired": rig.stream()["repaired"]}


def checkpoint_without_metadata(rig: Rig) -> Measured:
    """Its `metadata` file alone is deleted, and Spark refuses it: left behind, begun anew."""
    before = _checkpoint(rig).name
    rig.kill("stream", lambda: (_checkpoint(rig) / "metadata").unlink())
    began = time.monotonic()
    wait_until(
        lambda: _checkpoint(rig).name != before and (_checkpoint(rig) / "offsets").is_dir(),
        "the refused checkpoint is left, and the query begins anew",
    )
    return {"begun_anew_s": round(time.monotonic() - began, 1)}


# --- events that come as they please


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
    _wait(began + 3 * WINDOW_S)
    _time_goes_on(rig)
    rig.players.tell(hold=False)
    return {"silent_s": round(time.monotonic() - began, 1), "window_s": WINDOW_S}


def outcomes_before_decisions(rig: Rig) -> Measured:
    """Outcomes are read before their decisions are: each meets its own."""
    events = [decision() for _ in range(50)]
    rig.publish("outcomes", [outcome(e["decision_id"]) for e in events])
    rig.settle()
    rig.publish("decisions", events)
    _joined(rig)
    return {"outcomes": len(events)}


def outcomes_beyond_retention(rig: Rig) -> Measured:
    """Outcomes come when the join has long forgotten their decisions: repair finds them."""
    events = rig.later.pop("old decisions")
    published = rig.later.pop("old decisions at")
    _wait(published + 2 * RETENTION_S)
    repaired = rig.stream().get("repaired", 0)
    rig.publish("outcomes", [outcome(e["decision_id"]) for e in events])
    _joined(rig)
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
        decision(decision_id="not-an-id"),
        decision(application="another"),
        decision(extra=1),
        decision(previous_decision_id=known["decision_id"].upper()),
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
        outcome("not-an-id"),
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


# --- decisions


def decided_twice(rig: Rig) -> Measured:
    """A server dies before it answers, and another draws again: contested, and never trained on."""
    settings = Settings(home=rig.scratch / "second", kafka_bootstrap=rig.settings.kafka_bootstrap)
    second = Server(
        settings, rig.scratch / "second.log", failpoints=rig.scratch / "second-failpoints"
    )
    second.start()
    asked = [
        {
            "subject_id": f"twice-{at}",
            "decision_id": uuid7(),
            "context": {"skill": at / 64, "losses": 0, "segment": "new"},
        }
        for at in range(64)
    ]
    arm(second.failpoints, "serving.spool.after_write")
    try:
        httpx.post(f"{second.url}{BASE}/decisions:batch", json={"decisions": asked}, timeout=30)
        hold(False, "the second server answered, though it was to die first")
    except httpx.TransportError:
        rig.kills += 1
    hold(not is_armed(second.failpoints, "serving.spool.after_write"), "it died elsewhere")
    answer = httpx.post(f"{rig.url}{BASE}/decisions:batch", json={"decisions": asked}, timeout=30)
    answers = answer.raise_for_status().json()["decisions"]
    rig.acknowledged += [(one["decision_id"], "") for one in answers]
    second.start()
    wait_until(lambda: second.status()["spool"]["events"] == 0, "what it had spooled is published")
    second.stop()
    rig.settle()
    rig.later["twice"] = [one["decision_id"] for one in asked]
    return {"decided_twice": len(asked)}


def rollback_races(rig: Rig) -> Measured:
    """A person rolls back while candidates come in: from the answer on nobody else answers."""
    rounds = others = 0
    for _ in range(10):
        wait_until(lambda: rig.policy()["policy_version"] > 1, "a learned policy answers")
        answered = rig.act("rollback", by="race", why="a test of the race")
        hold(answered.status_code == 200, f"rollback was answered {answered.text}")
        pinned = answered.json()["control"]["pinned_version"]
        published = rig.newest("learner")["applications"][application.name]["published"]
        for at in range(40):
            asked = {
                "subject_id": f"race-{at}",
                "context": {"skill": 0.5, "losses": 0, "segment": "new"},
            }
            said = httpx.post(f"{rig.url}{BASE}/decisions", json=asked, timeout=30).json()
            rig.acknowledged.append((said["decision_id"], ""))
            others += said["cohort"] == "policy" and said["policy_version"] != pinned
            others += rig.policy()["policy_version"] != pinned if at % 10 == 0 else 0
        wait_until(
            lambda published=published: (  # type: ignore[misc]
                rig.newest("learner")["applications"][application.name]["published"] > published
            ),
            "the learner goes on",
        )
        others += rig.policy()["policy_version"] != pinned
        rig.act("release", by="race", why="the race is over")
        rounds += 1
    hold(others == 0, f"{others} answers were of another policy than the one that was pinned")
    return {"rollbacks": rounds, "by_others": others}


def spool_full(rig: Rig) -> Measured:
    """The spool is full: decisions are the baseline's and not learned from, outcomes get 503."""
    settings = Settings(
        home=rig.scratch / "small",
        kafka_bootstrap=_nobody(rig),
        spool_bytes=SPOOL_LIMIT,
    )
    server = Server(settings, rig.scratch / "small.log", failpoints=rig.scratch / "none")
    return _fill(rig, server)


def disk_full(rig: Rig) -> Measured:
    """The disk (8 MB) is full: the same, a kill switch works, and all goes on once it has room."""
    disk = rig.scratch / "disk"
    with small_disk(disk):
        settings = Settings(home=disk / "home", kafka_bootstrap=_nobody(rig))
        server = Server(settings, rig.scratch / "disk.log", failpoints=rig.scratch / "none")
        return _fill(rig, server, kill_switch=True)


def _fill(rig: Rig, server: Server, *, kill_switch: bool = False) -> Measured:
    """Fill a server's spool while its broker is nowhere, then let it drain into the real one."""
    server.start()
    logged: list[str] = []
    unlogged: list[str] = []
    pad = "x" * 500
    with httpx.Client(base_url=server.url, timeout=30) as client:
        while len(unlogged) < 500:
            asked = [
                {
                    "subject_id": f"full-{len(logged)}-{at}-{pad[:100]}",
                    "context": {"skill": 0.5, "losses": 0, "segment": "new"},
                }
                for at in range(100)
            ]
            answer = client.post(f"{BASE}/decisions:batch", json={"decisions": asked})
            hold(answer.status_code == 200, f"a decision was answered {answer.status_code}")
            for one in answer.json()["decisions"]:
                (logged if one["logged"] else unlogged).append(one["decision_id"])
                if not one["logged"]:
                    plain = one["action"] == "easy" and one["propensity"] == 1.0
                    hold(plain, f"with a full spool the answer was {one}")
        told = [{"decision_id": d, "name": "won", "outcome_id": uuid7()} for d in logged[:5_000]]
        refused = client.post(f"{BASE}/outcomes", json={"outcomes": told})
        hold(refused.status_code == 503, f"an outcome was answered {refused.status_code}")
        hold("retry-after" in refused.headers, "a 503 without Retry-After")
        if kill_switch:
            for verb in ("kill", "revive"):
                said = client.post(f"{BASE}/policy:{verb}", json={"by": "test", "why": "full"})
                hold(said.status_code < 300, f"{verb} on a full disk was answered {said.text}")
                state = client.get(f"{BASE}/status").json()
                hold(state["killed"] == (verb == "kill"), f"{verb} did nothing")
        rig.unlogged.update(unlogged)
    server.kill()
    rig.kills += 1
    server.settings = server.settings.model_copy(
        update={"kafka_bootstrap": rig.settings.kafka_bootstrap}
    )
    server.start()
    recovered = server.status()["spool"]["recovered"]
    wait_until(lambda: server.status()["spool"]["events"] == 0, "the spool drains", patience_s=120)
    rig.acknowledged += [(decision_id, "") for decision_id in logged]
    with httpx.Client(base_url=server.url, timeout=30) as client:
        for at in range(0, len(told), 500):
            part = told[at : at + 500]

            def accepted(part: list[dict[str, str]] = part) -> bool:
                return client.post(f"{BASE}/outcomes", json={"outcomes": part}).status_code == 202

            wait_until(accepted, "outcomes are taken again")
            rig.acknowledged += [(one["decision_id"], one["outcome_id"]) for one in part]
        body = {"subject_id": "after", "context": {"skill": 0.5, "losses": 0, "segment": "new"}}
        after = client.post(f"{BASE}/decisions", json=body).json()
        hold(after["logged"], "decisions are not logged again, though the spool has drained")
        rig.acknowledged.append((after["decision_id"], ""))
    wait_until(lambda: server.status()["spool"]["events"] == 0, "the spool drains", patience_s=120)
    server.stop()
    return {"logged": len(logged), "unlogged": len(unlogged), "recovered": recovered}


def two_stacks(rig: Rig) -> Measured:
    """A second stack is started on the home: it refuses, with the reason, and the first goes on."""
    command = [str(Path(sys.executable).with_name("bakehouse")), "up"]
    ended = subprocess.run(
        [*command, application_ref(), "--home", str(rig.home), "--port", "0"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    said = ended.stderr + ended.stdout
    hold(ended.returncode == 2, f"the second stack ended with {ended.returncode}: {said}")
    hold("is in use" in said and rig.url in said, f"it did not say why: {said}")
    hold(rig.status()["policy_version"] >= 0, "the first stack does not answer")
    return {"exit_status": ended.returncode}


def application_ref() -> str:
    """How parts are told to load the game."""
    from tests.faults.game import REF

    return REF


# --- helpers


def _wait(until: float) -> None:
    """Let players play until a moment: what is tested is a length of time."""
    threading.Event().wait(max(0.0, until - time.monotonic()))


def _drained(rig: Rig) -> float:
    """Seconds until Kafka has what had been spooled by now."""
    began = time.monotonic()
    spooled = rig.status()["serving"]["spool"]["events"]
    published = rig.status()["serving"]["kafka"]["published"]
    wait_until(
        lambda: (
            rig.status()["serving"]["kafka"]["published"] >= published + spooled
            or rig.status()["serving"]["spool"]["events"] == 0
        ),
        "the spool drains",
        patience_s=180,
    )
    return round(time.monotonic() - began, 1)


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


def _joined(rig: Rig) -> None:
    """Everything sent is in the tables, and no outcome waits whose decision is there."""
    hold(rig.settle() == 0, "something is unaccounted for")


def _old(rig: Rig, count: int) -> list[dict[str, Any]]:
    """Decisions that the join has forgotten by now."""
    events = [decision() for _ in range(count)]
    rig.publish("decisions", events)
    _wait(time.monotonic() + 2 * RETENTION_S)
    return events


def _nobody(rig: Rig) -> str:
    """An address at which nobody answers, and nobody will: the proxy's neighbour that is closed."""
    del rig
    return "127.0.0.1:1"


def _checkpoint(rig: Rig) -> Path:
    noted = json.loads((rig.home / "stream" / "offsets.json").read_text())
    return rig.home / "checkpoints" / f"{noted['name']}-{noted['generation']}"


def _batches(checkpoint: Path) -> int:
    return max(int(p.name) for p in (checkpoint / "offsets").iterdir() if p.name.isdigit())


def _keep_checkpoint(rig: Rig) -> None:
    """Copy the checkpoint while nobody writes to it."""
    current = _checkpoint(rig)
    kept = rig.scratch / "kept" / current.name
    shutil.copytree(current, kept)
    rig.later["checkpoint"] = kept


@contextmanager
def small_disk(folder: Path, size: int = DISK_BYTES) -> Iterator[None]:
    """A file system of its own that is soon full."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "bakehouse-faults", str(folder)], check=True
    )
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


SCENARIOS: tuple[Callable[[Rig], Measured], ...] = (
    two_stacks,
    outcomes_before_decisions,
    poison,
    clients_clocks_a_year_off,
    parts_killed,
    outcomes_beyond_retention,
    broker_killed,
    network_resets,
    network_half_open,
    spool_tail_torn,
    decided_twice,
    checkpoint_put_back,
    checkpoint_deleted,
    outcomes_silent,
    rollback_races,
    checkpoint_without_metadata,
    spool_full,
    disk_full,
    everything_at_once,
    broker_unreachable,
)
assert set(ACTIONS) == set(application.actions.labels)
