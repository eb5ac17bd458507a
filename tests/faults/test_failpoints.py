"""Serving and stream are ended by `kill -9` at each of their failpoints, and nothing shows.

The learner's points are in `test_learner.py`; `python -m tests.faults` ends all three of a whole
stack under load.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from bakehouse.local.jars import Jars
from bakehouse.local.java import Java
from bakehouse.local.part import module_of
from bakehouse_schemas.ids import uuid7
from bakehouse_schemas.process.failpoints import POINTS, VARIABLE, arm, is_armed
from bakehouse_schemas.process.phase import READY, PhaseFile
from bakehouse_schemas.process.settings import Settings
from bakehouse_stream.tables.running_account import RunningAccount
from bakehouse_stream.tables.tables import open_table
from tests.fakes import publish_policy
from tests.faults import oracle
from tests.faults.oracle import Sent
from tests.stream_events import (
    APPLICATION,
    GAME,
    decision,
    order_requeue,
    outcome,
    publish,
    records,
    remember_label,
    retired,
)
from tests.stream_tables import folded_table
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
BASE = f"/v1/applications/{APPLICATION.name}"
SettingsOf = Callable[[str], Settings]


def test_every_failpoint_is_in_the_code_once_and_every_one_in_the_code_is_described() -> None:
    found = [
        point
        for folder in ("schemas", "serving", "stream", "learner")
        for file in (ROOT / folder).rglob("*.py")
        for point in re.findall(r'(?:reach|during)\("([a-z_.]+)"', file.read_text())
    ]
    assert sorted(found) == sorted(POINTS)


def test_a_process_that_nobody_asked_to_end_passes_every_point(tmp_path: Path) -> None:
    code = (
        "from bakehouse_schemas.process.failpoints import POINTS, reach, during\n"
        "for point in POINTS:\n"
        "    reach(point)\n"
        "    with during(point): pass\n"
    )
    for environment in ({}, {VARIABLE: str(tmp_path)}):
        subprocess.run([sys.executable, "-c", code], env=os.environ | environment, check=True)


def test_a_process_ends_at_the_visit_that_was_asked_for(tmp_path: Path) -> None:
    code = (
        "from bakehouse_schemas.process.failpoints import reach\n"
        "for visit in range(5):\n"
        "    print(visit, flush=True)\n"
        "    reach('stream.append.before')\n"
    )
    arm(tmp_path, "stream.append.before", visit=3)
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {VARIABLE: str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL
    assert ended.stdout.split() == ["0", "1", "2"]
    assert not is_armed(tmp_path, "stream.append.before")


def test_a_point_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is no failpoint; there are serving\.spool"):
        arm(tmp_path, "serving.nowhere")


class Part:
    """A part as a process that is started again after it was killed."""

    def __init__(self, part: str, settings: Settings, environment: dict[str, str]) -> None:
        self.part = part
        self.settings = settings
        self.failpoints = settings.home / "failpoints"
        self.log = settings.home / f"{part}.log"
        self._environment = environment
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module_of(self.part), GAME],
                env=os.environ
                | self.settings.as_environment()
                | self._environment
                | {VARIABLE: str(self.failpoints)},
                stdout=log,
                stderr=log,
            )

    def await_ready(self) -> dict[str, Any]:
        phase = PhaseFile(self.settings.home, self.part)
        process = self.process
        assert process is not None

        def ready() -> bool:
            assert process.poll() is None, self.log.read_text()[-3000:]
            said = phase.read() or {}
            return said.get("phase") == READY and said.get("pid") == process.pid

        wait_until(ready, f"{self.part} is ready")
        return phase.read() or {}

    def await_death(self, point: str) -> None:
        assert self.process is not None
        assert self.process.wait(120) == -signal.SIGKILL, self.log.read_text()[-3000:]
        assert not is_armed(self.failpoints, point)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            assert self.process.wait(90) == 0, self.log.read_text()[-3000:]


@contextmanager
def part(name: str, settings: Settings, **environment: str) -> Iterator[Part]:
    settings.home.mkdir(parents=True, exist_ok=True)
    made = Part(name, settings, environment)
    try:
        yield made
        made.stop()
    finally:
        if made.process is not None:
            made.process.kill()
            made.process.wait()


def sent(settings: Settings) -> list[Sent]:
    return [
        Sent(r.received_at_ms, r.topic, r.partition, r.offset, orjson.loads(r.value or b""))
        for r in records(settings)
    ]


# --- serving


@pytest.mark.full
def test_serving_killed_at_each_of_its_points_loses_nothing_that_it_answered(
    settings_of: SettingsOf,
) -> None:
    settings = settings_of("killed-serving").model_copy(update={"port": 0})
    promised: set[str] = set()

    def ask(url: str, decision_id: str) -> None:
        body = {"subject_id": "anna", "context": {"skill": 0.5}, "decision_id": decision_id}
        answered = httpx.post(f"{url}{BASE}/decisions", json=body, timeout=30)
        assert answered.status_code == 200
        promised.add(decision_id)

    with part("serving", settings) as serving:
        serving.start()
        url = serving.await_ready()["url"]
        for version, point in enumerate((p for p in POINTS if p.startswith("serving.")), start=1):
            decision_id = uuid7()
            arm(serving.failpoints, point)
            try:
                if point == "serving.slot.inside_load":
                    pointer = publish_policy(settings.policies, APPLICATION, version, favourite=1)
                    _publish_pointer(settings, pointer.model_dump_json().encode())
                elif point == "serving.control.before_record":
                    httpx.post(f"{url}{BASE}/policy:freeze", json={"why": "a test"}, timeout=30)
                else:
                    ask(url, decision_id)
            except httpx.TransportError:
                pass  # it died before it answered
            serving.await_death(point)
            serving.start()
            url = serving.await_ready()["url"]
            ask(url, decision_id)  # as a game does that had no answer, or one that it forgot
            if point == "serving.control.before_record":
                assert httpx.get(f"{url}{BASE}/policy").json()["frozen"]
                httpx.post(f"{url}{BASE}/policy:release", json={"why": "over"}, timeout=30)
        wait_until(
            lambda: httpx.get(f"{url}/v1/status").json()["serving"]["spool"]["events"] == 0,
            "the spool drains",
        )
        wait_until(
            lambda: httpx.get(f"{url}{BASE}/policy").json()["policy_version"] > 0,
            "the policy whose load was interrupted answers",
        )
    found = oracle.folded(sent(settings), decisions=settings.topic("decisions"))
    assert {key[1] for key in found} == promised
    assert not any(one.contested for one in found.values()), "an answer was drawn again"


def _publish_pointer(settings: Settings, value: bytes) -> None:
    from kafka import KafkaProducer

    producer = KafkaProducer(bootstrap_servers=settings.kafka_bootstrap)
    producer.send(settings.topic("policies"), key=APPLICATION.name.encode(), value=value).get(30)
    producer.close()


# --- stream


@pytest.mark.full
@pytest.mark.timeout(900)
def test_stream_killed_at_each_of_its_points_leaves_tables_that_equal_the_oracle(
    settings_of: SettingsOf, java: Java, all_jars: Jars
) -> None:
    settings = settings_of("killed-stream").model_copy(
        update={
            "join_retention_minutes": 1 / 60,  # what comes later is repair's
            "repair_every_s": 0.5,
            "upkeep_every_s": 0.5,
            "compact_after_minutes": 1 / 60,
        }
    )
    jars = ",".join(map(str, all_jars.spark))
    with part("stream", settings, JAVA_HOME=str(java.home), BAKEHOUSE_SPARK_JARS=jars) as stream:
        stream.start()
        for point in (p for p in POINTS if p.startswith("stream.") and "requeue" not in p):
            arm(stream.failpoints, point)
            ids = [uuid7() for _ in range(10)]
            publish(settings, "decisions", [decision(one) for one in ids])
            publish(settings, "outcomes", [outcome(one) for one in ids[:5]])
            if "repair" in point or "compaction" in point:
                wait_until(
                    lambda ids=ids: (
                        stream.process.poll() is not None  # type: ignore[misc,union-attr]
                        or ids[0] in _decided(settings)
                    ),
                    "the decisions are in replay",
                )
                late = max(r.received_at_ms for r in records(settings)) + 2_500
                wait_until(lambda late=late: _now_ms() > late, "the join has forgotten them")
            publish(settings, "outcomes", [outcome(one) for one in ids[5:]])
            stream.await_death(point)
            stream.start()
        stream.await_ready()
        wait_until(lambda: _is_applied(settings, 90, 90), "everything is applied", patience_s=300)
    # a clean stop repairs once more and writes the account
    found = {key: oracle.experience_of(row) for key, row in folded_table(settings).items()}
    topic = settings.topic("decisions")
    assert found == oracle.folded(sent(settings), decisions=topic)
    account = json.loads((settings.home / "stream" / "account.json").read_text())
    expected = oracle.account(sent(settings), decisions=topic)
    assert account["received"] == account["applied"] == expected["applied"] == 20 * 9
    again = RunningAccount(settings, settings.home).settle(until=account["at"], stream_time_ms=0)
    assert again == {name: n for name, n in account.items() if name not in ("at", "stream_time_ms")}


@pytest.mark.full
@pytest.mark.timeout(900)
def test_stream_killed_while_quarantine_is_read_again_counts_each_position_once(
    settings_of: SettingsOf, java: Java, all_jars: Jars
) -> None:
    settings = settings_of("killed-requeue").model_copy(update={"account_every_s": 0.5})
    jars = ",".join(map(str, all_jars.spark))
    points = [point for point in POINTS if "requeue" in point]
    ids = [uuid7() for _ in points]
    with part("stream", settings, JAVA_HOME=str(java.home), BAKEHOUSE_SPARK_JARS=jars) as stream:
        stream.start()
        publish(settings, "decisions", [decision(one) for one in ids])
        for point, decision_id in zip(points, ids, strict=True):
            publish(settings, "outcomes", [retired(decision_id, point), outcome(decision_id)])
            wait_until(
                lambda point=point: point in _quarantined(settings),
                "a label is not known",
                patience_s=300,
            )
            stream.await_ready()
            arm(stream.failpoints, point)
            remember_label(settings, point)
            order_requeue(settings)
            stream.await_death(point)
            stream.start()
        stream.await_ready()
        wait_until(lambda: not _quarantined(settings), "nothing waits", patience_s=300)
        wait_until(lambda: _is_applied(settings, 3, 6), "everything is applied", patience_s=300)
    found = {key: oracle.experience_of(row) for key, row in folded_table(settings).items()}
    topic = settings.topic("decisions")
    assert found == oracle.folded(sent(settings), decisions=topic)
    account = json.loads((settings.home / "stream" / "account.json").read_text())
    assert account["received"] == account["applied"] == 9
    assert account["quarantined"] == 0


def _decided(settings: Settings) -> set[str]:
    from bakehouse_stream.tables.tables import tables_exist

    return {key[1] for key in folded_table(settings)} if tables_exist(settings) else set()


def _quarantined(settings: Settings) -> set[str]:
    """Labels of the executed actions that wait in quarantine."""
    from bakehouse_stream.tables.tables import tables_exist

    if not tables_exist(settings):
        return set()
    table = open_table(settings, "quarantine")
    rows = table.read(table.files(), ["value", "waits"]).to_pylist()
    return {
        orjson.loads(row["value"])["executed_action"] for row in rows if row["waits"] == "label"
    }


def _is_applied(settings: Settings, decisions: int, outcomes: int) -> bool:
    noted = json.loads((settings.home / "stream" / "offsets.json").read_text())["applied"]
    counts = {settings.topic("decisions"): decisions, settings.topic("outcomes"): outcomes}
    return all(noted.get(topic, {}).get("0", 0) == count for topic, count in counts.items())


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
