"""Processes that are upgraded one after the other, while players play."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx

from bakehouse_schemas.ids import uuid7
from tests.faults import game_beside, game_grown
from tests.faults.beside import hold, wait_until
from tests.faults.game import application
from tests.faults.rig import BASE, PARTS, Measured, Rig
from tests.faults.scenarios.events import decision, outcome

AT_LEAST = 300  # events that are acknowledged in each mixture
POLICY_S = 180.0  # until something new is learned and answers; a learner may have to start
BESIDE = f"/v1/applications/{game_beside.application.name}"
# a field of a release that is still to come, or of a game that says more than it must
UNKNOWN = {"season": {"name": "winter", "day": 3}}


def to_this_release(rig: Rig) -> Measured:
    """Parts of the release before are upgraded one by one: nothing is lost, the policy answers."""
    hold(rig.stack.earlier_parts == set(PARTS), "the parts are not of the release before")
    measured: Measured = {"order": " ".join(rig.later["order"])}
    with _policy_in_force(rig):
        _flows(rig, "before")
        for part in rig.later["order"]:
            measured[f"{part}_s"] = _rolled(rig, part, None)
            _flows(rig, f"after {part}")
    assert rig.players is not None
    rig.players.tell(any_ids=True)
    return measured


def to_another_contract(rig: Rig) -> Measured:
    """The application grows, part by part: its policy goes on, and what came too early waits."""
    refs = (game_grown.REF, rig.growing, game_beside.REF)
    order = rig.later["order"][::-1]  # so that one run sees two orders that are unlike
    measured: Measured = {"order": " ".join(order)}
    with _policy_in_force(rig):
        for part in order:
            measured[f"{part}_s"] = _rolled(rig, part, refs)
            if part == "serving":
                _say_what_is_new(rig)
                measured["waited"] = _quarantined_too_early(rig)
            _flows(rig, f"after {part}", learned=False)
        _flows(rig, "after all", learned=True)
        events = [decision() | UNKNOWN for _ in range(20)]
        rig.publish("decisions", events)
        rig.publish("outcomes", [outcome(e["decision_id"]) | UNKNOWN for e in events])
        wait_until(
            lambda: _quarantined_too_early(rig) == 0,
            "nothing is quarantined but what was made to be",
            patience_s=60,
        )
    hold(
        _contract_in_force(rig) == game_grown.application.contract,
        "the policy that answers was not trained for the grown application",
    )
    return measured


@contextmanager
def _policy_in_force(rig: Rig) -> Iterator[None]:
    """Once a policy answers everybody, nobody but the holdout should get the rules."""
    wait_until(
        lambda: rig.policy()["policy_version"] > 0 and rig.policy()["canary"] == 1.0,
        "a learned policy answers everybody",
        patience_s=240,
    )
    began = time.monotonic()
    try:
        yield
    finally:
        rig.rolled.append((began, time.monotonic()))


def _rolled(rig: Rig, part: str, refs: Sequence[str] | None) -> float:
    """Seconds that a part was away."""
    began = time.monotonic()
    rig.roll(part, refs=refs)
    return round(time.monotonic() - began, 1)


def _flows(rig: Rig, when: str, *, learned: bool = True) -> None:
    """In this mixture events go all the way, and so does what is learned of them.

    Args:
        learned: False while serving and learner are of two contracts: what the learner publishes
            is for the other one.
    """
    players = rig.players
    assert players is not None
    wanted, version = players.events + AT_LEAST, rig.policy()["policy_version"]
    wait_until(lambda: players.events >= wanted, f"{when}: players are answered")
    hold(rig.settle() == 0, f"{when}: something is unaccounted for")
    if learned:
        wait_until(
            lambda: rig.policy()["policy_version"] > version,
            f"{when}: a policy newer than {version} answers",
            patience_s=POLICY_S,
        )
        hold(rig.policy()["refused_policy"] is None, f"{when}: {rig.policy()['refused_policy']}")


def _say_what_is_new(rig: Rig) -> None:
    """A serving process of the grown application may be the first part that knows all this."""
    new = [_ask(rig, BESIDE, {"gold": at}) for at in range(20)]
    _tell(rig, BESIDE, [{"decision_id": one, "name": "bought"} for one in new])
    context = {"skill": 0.5, "losses": 15, "segment": "new", "country": "FR", "tablet": True}
    grown = [_ask(rig, BASE, context) for _ in range(20)]
    done = {"kind": "executed", "executed_action": game_grown.ADDED}
    _tell(rig, BASE, [{"decision_id": one} | done for one in grown])


def _quarantined_too_early(rig: Rig) -> int:
    """Records that stream set aside and will want; none where it was upgraded first."""
    return rig.settled_account()["quarantined"] - len(rig.refused)


def _ask(rig: Rig, base: str, context: dict[str, Any]) -> str:
    asked = {"subject_id": "first", "context": context}
    answer = httpx.post(f"{rig.url}{base}/decisions", json=asked, timeout=30).raise_for_status()
    decision_id = str(answer.json()["decision_id"])
    rig.acknowledged.append((decision_id, ""))
    return decision_id


def _tell(rig: Rig, base: str, outcomes: list[dict[str, Any]]) -> None:
    told = [one | {"outcome_id": uuid7()} for one in outcomes]
    answer = httpx.post(f"{rig.url}{base}/outcomes", json={"outcomes": told}, timeout=30)
    hold(answer.status_code == 202, f"outcomes were answered {answer.text}")
    rig.acknowledged += [(one["decision_id"], one["outcome_id"]) for one in told]


def _contract_in_force(rig: Rig) -> str:
    """That which the answering policy was trained for."""
    folder = rig.home / "policies" / application.name / str(rig.policy()["policy_version"])
    return str(json.loads((folder / "manifest.json").read_text())["contract"])
