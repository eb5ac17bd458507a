"""Decisions that two servers drew, and people who race with candidates."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx

from bakehouse_schemas.process.failpoints import arm, is_armed
from bakehouse_schemas.process.settings import Settings
from tests.faults.beside import Server, hold, wait_until
from tests.faults.game import application
from tests.faults.ids import game_id
from tests.faults.rig import BASE, Measured, Rig


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
            "context": {"skill": at / 64, "losses": 0, "segment": "new"},
        }
        # what names itself, and what is named by the request's key
        | ({"decision_id": game_id()} if at % 2 else {})
        for at in range(64)
    ]
    request: dict[str, Any] = {
        "json": {"decisions": asked},
        "headers": {"Idempotency-Key": str(uuid4())},
        "timeout": 30,
    }
    arm(second.failpoints, "serving.spool.after_write")
    try:
        httpx.post(f"{second.url}{BASE}/decisions:batch", **request)
        hold(False, "the second server answered, though it was to die first")
    except httpx.TransportError:
        rig.kills += 1
    hold(not is_armed(second.failpoints, "serving.spool.after_write"), "it died elsewhere")
    answer = httpx.post(f"{rig.url}{BASE}/decisions:batch", **request)
    answers = answer.raise_for_status().json()["decisions"]
    rig.acknowledged += [(one["decision_id"], "") for one in answers]
    second.start()
    wait_until(lambda: second.status()["spool"]["events"] == 0, "what it had spooled is published")
    second.stop()
    rig.settle()
    rig.later["twice"] = [one["decision_id"] for one in answers]
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
