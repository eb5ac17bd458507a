"""`python -m learner` beside a real broker and a real Delta table."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kafka import KafkaConsumer, KafkaProducer

from bakehouse_learner.online.kafka_bus import KafkaBus
from bakehouse_schemas.events.events import Control, PolicyPointer, Progress
from bakehouse_schemas.loading import load_application
from bakehouse_schemas.policy.bundle import load_bundle
from bakehouse_schemas.process.phase import PhaseFile
from bakehouse_schemas.process.settings import Settings
from tests.replay_rows import Table, decision, outcome
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
GAME = """
from bakehouse_schemas.application.application import *
from bakehouse_schemas.application.observation import Numeric
from bakehouse_schemas.application.reward import Reward

application = Application(
    name="game",
    observation=[Numeric("x", low=0, high=1)],
    actions=Discrete("left", "right"),
    reward=Reward({"won": 1.0}, window=seconds(2), closes_after=1),
    baseline=lambda context: "left",
    agent=Agent("lin_ucb"),
    exploration=EpsilonGreedy(0.5),
    training=Training(every=seconds(0.1), buffer=2_000, batch=32, steps=8),
)
"""


@pytest.fixture
def producer(kafka: str) -> Iterator[KafkaProducer]:
    with closing(KafkaProducer(bootstrap_servers=kafka)) as made:
        yield made


@contextmanager
def bus_of(settings: Settings, contract: str | None = None) -> Iterator[KafkaBus]:
    contracts = {} if contract is None else {"game": contract}
    bus = KafkaBus(settings, process="test", contracts=contracts)
    bus.start()
    try:
        wait_until(bus.listening.is_set, "the bus has caught up")
        yield bus
    finally:
        bus.stop()


def records(settings: Settings, topic: str) -> list[tuple[str, dict[str, Any]]]:
    consumer = KafkaConsumer(
        settings.topic(topic),
        **settings.kafka_reader(),
        group_id=None,
        auto_offset_reset="earliest",
        consumer_timeout_ms=500,
    )
    with closing(consumer):
        return [(record.key.decode(), json.loads(record.value)) for record in consumer]


def test_stream_time_is_heard_with_the_table_version_that_it_holds_for(
    settings_of: Callable[[str], Settings], producer: KafkaProducer
) -> None:
    settings = settings_of("progress")
    topic = settings.topic("progress")

    def say(version: int, at_ms: int) -> None:
        said = Progress(
            stream_time_ms=at_ms, replay_version=version, committed={}, applied_ms=at_ms
        )
        producer.send(topic, said.model_dump_json().encode()).get(10)

    say(3, 1_000)
    with bus_of(settings) as bus:
        assert bus.stream_time_ms(2) == -1
        assert bus.stream_time_ms(3) == 1_000
        say(5, 2_000)
        wait_until(lambda: bus.stream_time_ms(5) == 2_000, "the second record is heard")
        assert bus.stream_time_ms(4) == 1_000
        producer.send(topic, b'{"stream_time_ms": "soon"}').get(10)
        say(6, 3_000)
        wait_until(lambda: bus.stream_time_ms(6) == 3_000, "what is malformed is passed over")


def test_pointers_and_controls_are_heard_from_the_beginning_and_said_under_their_key(
    settings_of: Callable[[str], Settings], producer: KafkaProducer
) -> None:
    settings = settings_of("pointers")
    control = Control(application="game", frozen=True, at_ms=7)
    producer.send(
        settings.topic("policies"), control.model_dump_json().encode(), key=b"game/control"
    ).get(10)
    with bus_of(settings, "a1") as bus:
        assert bus.control("game") == control
        assert bus.pointer("game") is None
        pointer = PolicyPointer(application="game", version=4, uri="/p/4", published_at_ms=9)
        bus.publish(pointer)
        wait_until(lambda: bus.pointer("game") == pointer, "the pointer comes by")
        wait_until(lambda: bus.pointer("game", "a1") == pointer, "and the one of its contract")
        assert bus.pointer("game", "b2") is None
        bus.report({"part": "learner", "process": "test", "at_ms": 1})
    keys = [key for key, _ in records(settings, "policies")]
    assert sorted(keys) == ["game", "game/control", "game@a1"]
    with bus_of(settings, "b2") as bus:  # the learner of the next contract
        following = pointer.model_copy(update={"version": 5})
        bus.publish(following)
        wait_until(lambda: bus.pointer("game") == following, "its pointer comes by")
        assert bus.pointer("game", "a1") == pointer, "what servers of the one before go by"
    assert [key for key, _ in records(settings, "status")] == ["learner/test"]


@pytest.mark.filterwarnings("ignore")  # MLflow's client, of SQLAlchemy and of itself
def test_rows_in_the_table_become_a_policy_and_a_stop_is_clean(
    settings_of: Callable[[str], Settings], producer: KafkaProducer, tmp_path: Path
) -> None:
    settings = settings_of("whole")
    file = tmp_path / "game.py"
    file.write_text(GAME)
    application = load_application(str(file)).application
    table, rng = Table(settings.home / "tables"), np.random.default_rng(0)

    def second_of_play(at_ms: int) -> None:
        rows = []
        for at in range(300):
            x, right = float(rng.random()), bool(rng.random() < 0.25)
            made = decision(
                application,
                {"x": x},
                "right" if right else "left",
                at_ms=at_ms + at,
                propensity=0.25 if right else 0.75,
            )
            rows.append(made)
            if right == (x > 0.5):
                rows.append(outcome(made, "won", after_ms=100))
        version = table.append(rows)
        progress = Progress(
            stream_time_ms=at_ms, replay_version=version, committed={}, applied_ms=at_ms
        )
        producer.send(settings.topic("progress"), progress.model_dump_json().encode()).get(10)

    environment = os.environ | settings.as_environment()
    with (tmp_path / "learner.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "bakehouse_learner", str(file)],
            env=environment,
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        phase = PhaseFile(settings.home, "learner")
        wait_until(
            lambda: (phase.read() or {}).get("phase") == "ready" or process.poll() is not None,
            "the learner is ready",
            patience_s=120,
        )
        with bus_of(settings) as bus:
            began_ms = 1_790_000_000_000
            for second in range(60):
                second_of_play(began_ms + 1000 * second)
                if bus.pointer("game") is not None:
                    break
            wait_until(lambda: bus.pointer("game") is not None, "a policy is published")
            pointer = bus.pointer("game")
        assert pointer is not None and pointer.uri is not None
        loaded = load_bundle(
            Path(pointer.uri),
            application="game",
            contract=application.contract,
            sha256=pointer.sha256,
            inside=settings.policies,
        )
        assert loaded.manifest.version == pointer.version
        artifacts = settings.home / "mlflow-artifacts"
        wait_until(
            lambda: any(artifacts.glob("game/*/artifacts/bundle/manifest.json")),
            "MLflow has the bundle (and its tables, which only one process can make)",
        )
        from mlflow.tracking import MlflowClient  # seconds of import, for this test alone

        client = MlflowClient(settings.mlflow_tracking_uri, settings.mlflow_tracking_uri)
        wait_until(
            lambda: (
                bool(client.search_registered_models("name = 'game'"))
                and "champion" in client.get_registered_model("game").aliases
            ),
            "MLflow has a champion",
            patience_s=60,
        )
    finally:
        process.send_signal(signal.SIGTERM)
        said = (tmp_path / "learner.log").read_text
        assert process.wait(60) == 0, said()
    assert "Traceback" not in said()
    assert (settings.home / "learner" / "game" / "checkpoint.npz").exists()
    champion = client.get_model_version_by_alias("game", "champion")
    run = client.get_run(champion.run_id)
    assert run.data.params["agent"] == "lin_ucb"
    paths = {entry.path for entry in client.list_artifacts(champion.run_id)}
    assert {"gate.json", "bundle"} <= paths
    told = [(key, fields) for key, fields in records(settings, "status") if "learner/" in key]
    statuses = [fields for key, fields in told if "/insight/" not in key]
    assert statuses[-1]["applications"]["game"]["version"] >= pointer.version
    figures = [fields for key, fields in told if key == "learner/insight/game"]
    assert figures[-1]["process"] == f"{process.pid}/insight/game"
    assert figures[-1]["insight"]["candidates"][0]["version"] >= pointer.version
