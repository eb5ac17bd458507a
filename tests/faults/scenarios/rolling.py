"""Processes that are upgraded one after the other, while players play."""

from __future__ import annotations

import time

from tests.faults.beside import hold, wait_until
from tests.faults.rig import PARTS, Measured, Rig

AT_LEAST = 300  # events that are acknowledged in each mixture
POLICY_S = 180.0  # until something new is learned and answers; a learner may have to start


def to_this_release(rig: Rig) -> Measured:
    """Parts of the release before are upgraded one by one: nothing is lost, the policy answers."""
    hold(rig.stack.earlier_parts == set(PARTS), "the parts are not of the release before")
    wait_until(
        lambda: rig.policy()["policy_version"] > 0 and rig.policy()["canary"] == 1.0,
        "a learned policy answers everybody",
        patience_s=240,
    )
    return _rolled(rig, ref=None)


def _rolled(rig: Rig, *, ref: str | None) -> Measured:
    measured: Measured = {"order": " ".join(rig.later["order"])}
    began = time.monotonic()
    _flows(rig, "before")
    for part in rig.later["order"]:
        rolled = time.monotonic()
        rig.roll(part, ref=ref)
        measured[f"{part}_s"] = round(time.monotonic() - rolled, 1)
        _flows(rig, f"after {part}")
    rig.rolled.append((began, time.monotonic()))
    return measured


def _flows(rig: Rig, when: str) -> None:
    """In this mixture events go all the way, and so does what is learned of them."""
    assert rig.players is not None
    wanted, version = rig.players.events + AT_LEAST, rig.policy()["policy_version"]
    wait_until(lambda: rig.players.events >= wanted, f"{when}: players are answered")  # type: ignore[union-attr]
    hold(rig.settle() == 0, f"{when}: something is unaccounted for")
    hold(rig.policy()["refused_policy"] is None, f"{when}: {rig.policy()['refused_policy']}")
    wait_until(
        lambda: rig.policy()["policy_version"] > version,
        f"{when}: a policy newer than {version} answers",
        patience_s=POLICY_S,
    )
