"""What stream does not know yet: kept where it can be, and else waiting until it is known."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

from bakehouse_schemas.application.actions import Discrete
from bakehouse_schemas.contracts.known import KnownContracts
from bakehouse_schemas.ids import uuid7
from bakehouse_stream.tables.tables import open_table
from tests.faults.beside import hold, wait_until
from tests.faults.game import ACTIONS, application
from tests.faults.growing import LATER, write_growing
from tests.faults.rig import Measured, Rig
from tests.faults.scenarios.events import decision, joined, outcome

COUNT = 20
ADDED = {"region": "eu", "trace": {"hop": [1, None]}}


def not_known_yet(rig: Rig) -> Measured:
    """Added fields are kept; an application, a label and a schema version wait until known."""
    grown = [decision(**ADDED) for _ in range(COUNT)]
    rig.publish("decisions", grown)
    rig.publish("outcomes", [outcome(e["decision_id"], **ADDED) for e in grown])
    label = f"retired-{uuid7()}"
    rig.publish("outcomes", [executed(e["decision_id"], label) for e in grown])
    later = [decision(schema="decision.v2", action={"of": "another shape"}) for _ in range(COUNT)]
    rig.publish("decisions", later, refused=True)
    write_growing(rig.scratch, LATER)
    rig.kill("serving", rig.do_nothing)
    _play(rig)  # serving knows it before stream does
    joined(rig)
    before = waiting(rig)
    hold(before.get("application", 0) >= 2 * COUNT, f"an application waits: {before}")
    hold(before.get("label", 0) >= COUNT, f"a label waits: {before}")
    hold(before.get("schema", 0) >= COUNT, f"a schema version waits: {before}")
    remember_label(rig, label)
    rig.kill("stream", rig.do_nothing)
    wait_until(
        lambda: rig.stream().get("requeue", {}).get("requeued", 0) >= 3 * COUNT,
        "stream has read quarantine again by itself",
        patience_s=120,
    )
    joined(rig)
    after = waiting(rig)
    for what, count in (("application", 2 * COUNT), ("label", COUNT), ("schema", 0)):
        left = before[what] - after.get(what, 0)
        hold(left == count, f"{left} of {what} have left quarantine, expected {count}")
    # somebody asks as well: what waits still waits, and the command says how much
    command = [str(Path(sys.executable).with_name("bakehouse")), "requeue", "--url", rig.url]
    asked = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    hold(asked.returncode == 0, f"`bakehouse requeue` ended with {asked.stderr}")
    said = json.loads(asked.stdout)
    hold(
        (said["requeued"], said["still"]) == (0, sum(after.values())),
        f"`bakehouse requeue` said {said}, and {after} wait",
    )
    return {"requeued": 3 * COUNT, "waiting": sum(after.values())}


def _play(rig: Rig) -> None:
    """Decisions of the application that is new, and their outcomes, all acknowledged."""
    base = f"{rig.url}/v1/applications/{LATER}"
    for number in range(COUNT):
        asked = {"subject_id": f"p{number}", "context": {"skill": 0.5}}
        answered = httpx.post(f"{base}/decisions", json=asked, timeout=30)
        answered.raise_for_status()
        decision_id = answered.json()["decision_id"]
        told = {"decision_id": decision_id, "outcome_id": "o", "name": "won"}
        httpx.post(f"{base}/outcomes", json={"outcomes": [told]}, timeout=30).raise_for_status()
        rig.acknowledged += [(decision_id, ""), (decision_id, "o")]


def executed(decision_id: str, label: str) -> dict[str, Any]:
    """What a game did instead: a label that only an earlier contract has."""
    done = {"kind": "executed", "name": None, "value": None, "executed_action": label}
    return outcome(decision_id, **done)


def remember_label(rig: Rig, label: str) -> None:
    """The home has known a contract with this label, too."""
    before = dataclasses.replace(application, actions=Discrete(*ACTIONS, label))
    KnownContracts(rig.home).note(application.name, before)


def waiting(rig: Rig) -> dict[str, int]:
    """How many records wait in quarantine, by what they wait for."""
    table = open_table(rig.settings, "quarantine")
    places = ["topic", "partition", "offset", "waits"]
    found = {tuple(row.values()) for row in table.read(table.files(), places).to_pylist()}
    counts: dict[str, int] = {}
    for *_, waits in found:
        if waits is not None:
            counts[waits] = counts.get(waits, 0) + 1
    return counts


def have_requeued(rig: Rig) -> None:
    """A record waits for a label, the home learns of it, and somebody asks for a requeue."""
    event, label = decision(), f"retired-{uuid7()}"
    rig.publish("decisions", [event])
    before = waiting(rig).get("label", 0)
    rig.publish("outcomes", [executed(event["decision_id"], label)])
    wait_until(lambda: waiting(rig).get("label", 0) > before, "a label waits", patience_s=120)
    remember_label(rig, label)
    body = {"by": "test", "why": "the label is known now"}
    httpx.post(f"{rig.url}/v1/stream:requeue", json=body, timeout=30).raise_for_status()
