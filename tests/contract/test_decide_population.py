"""A whole population is decided for through real Spark, and logged through real Kafka."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kafka import KafkaConsumer, TopicPartition

from bakehouse.local.spark_environment import spark_environment
from bakehouse_schemas.errors import BakehouseError
from bakehouse_schemas.events.records import read_decision
from bakehouse_schemas.ids import uuid7, uuid7_time_ms
from bakehouse_schemas.loading import load_application
from bakehouse_schemas.process.settings import Settings
from bakehouse_stream.decide import Run, decided, log_decisions, summary
from bakehouse_stream.people import check_people, read_people

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

REF = str(Path(__file__).parents[2] / "applications" / "level_difficulty.py")
PEOPLE = 400


def people(spark: SparkSession, folder: Path, **columns: list[Any]) -> DataFrame:
    loaded = load_application(REF)
    rng = np.random.default_rng(0)
    assert loaded.world is not None
    contexts = [loaded.world.context(rng) for _ in range(PEOPLE)]  # type: ignore[call-arg, arg-type]
    table = pa.Table.from_pylist(contexts)
    table = table.append_column("subject_id", pa.array([f"p{at}" for at in range(PEOPLE)]))
    for name, values in columns.items():
        at = table.schema.get_field_index(name)
        table = table.set_column(at, name, pa.array(values))
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, folder / "people.parquet")
    return spark.read.parquet(str(folder / "people.parquet"))


def run_of(**changes: Any) -> Run:
    run_id = uuid7()
    return Run(REF, run_id, uuid7_time_ms(run_id), None, killed=False)._replace(**changes)


def logged(settings: Settings) -> list[tuple[str, bytes, int]]:
    """Key, value and broker time of every record of the decisions' topic."""
    topic = settings.topic("decisions")
    consumer = KafkaConsumer(**settings.kafka_reader(), auto_offset_reset="earliest")
    parts = [TopicPartition(topic, part) for part in consumer.partitions_for_topic(topic)]
    consumer.assign(parts)
    ends = consumer.end_offsets(parts)
    records: list[tuple[str, bytes, int]] = []
    while len(records) < sum(ends.values()):
        for batch in consumer.poll(timeout_ms=1_000).values():
            records += [(r.key.decode(), r.value, r.timestamp) for r in batch]
    consumer.close()
    return records


def test_everyone_gets_a_decision_that_passes_every_check_and_is_logged_with_its_propensity(
    spark: SparkSession, settings_of: Callable[[str], Settings], tmp_path: Path
) -> None:
    settings, folder = settings_of("population"), str(tmp_path / "decisions")
    run = run_of()
    decided(people(spark, tmp_path), run).write.parquet(folder)
    assert log_decisions(spark, settings, folder) == PEOPLE
    application = load_application(REF).application
    found = {}
    for key, value, at_ms in logged(settings):
        decision = read_decision(value, {application.name: application}, received_at_ms=at_ms)
        assert decision.decision_id == key
        found[decision.subject_id] = decision
    assert len(found) == PEOPLE
    told = {row["subject_id"]: row for row in pq.read_table(folder).to_pylist()}
    for subject, decision in found.items():
        assert told[subject]["action"] == decision.action
        assert told[subject]["propensity"] == decision.propensity
    cohorts = summary(spark, folder)["cohorts"]
    assert 0.05 < cohorts["holdout"] / PEOPLE < 0.16  # a tenth of the subjects, by their hash
    assert {d.propensity for d in found.values() if d.cohort == "holdout"} == {1.0}


@pytest.mark.full
def test_it_decides_as_a_program_of_its_own_too(
    spark: SparkSession, settings_of: Callable[[str], Settings], tmp_path: Path
) -> None:
    people(spark, tmp_path)
    command = [
        sys.executable,
        "-m",
        "bakehouse_stream.decide",
        REF,
        "--to",
        str(tmp_path / "decisions"),
    ]
    done = subprocess.run(
        [*command, "--from", str(tmp_path / "people.parquet")],
        env=spark_environment() | settings_of("population-program").as_environment(),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    said = json.loads(done.stdout.splitlines()[-1])
    assert (said["logged"], said["refused"]) == (PEOPLE, 0)


def test_what_is_no_parquet_is_refused_in_a_sentence(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("no columns in here")
    with pytest.raises(BakehouseError, match="expected a Parquet file, or a folder of them"):
        read_people(spark, str(tmp_path / "text.parquet"))


def test_a_task_that_runs_again_decides_nothing_anew_and_logging_again_adds_no_decision(
    spark: SparkSession, settings_of: Callable[[str], Settings], tmp_path: Path
) -> None:
    settings, run = settings_of("population-again"), run_of()
    someone = people(spark, tmp_path)
    first, again = (sorted(decided(someone, run).collect()) for _ in range(2))
    assert first == again
    assert sorted(decided(someone, run_of()).collect()) != first
    folder = str(tmp_path / "decisions")
    decided(someone, run).write.parquet(folder)
    for _ in range(2):
        log_decisions(spark, settings, folder)
    records = logged(settings)
    assert len(records) == 2 * PEOPLE
    assert len({(key, value) for key, value, _ in records}) == PEOPLE  # the fold keeps one of each


def test_whoever_cannot_be_decided_for_is_named_with_the_reason_and_the_others_are(
    spark: SparkSession, tmp_path: Path
) -> None:
    skills: list[float | None] = [0.5] * PEOPLE
    skills[7] = None
    rows = {
        row["subject_id"]: row
        for row in decided(people(spark, tmp_path, skill=skills), run_of()).collect()
    }
    assert "context.skill" in rows["p7"]["problem"]
    assert rows["p7"]["decision_id"] is None
    assert sum(row["decision_id"] is not None for row in rows.values()) == PEOPLE - 1


def test_with_the_kill_switch_on_everyone_gets_the_plain_baseline(
    spark: SparkSession, tmp_path: Path
) -> None:
    rows = decided(people(spark, tmp_path), run_of(killed=True)).collect()
    assert {(row["cohort"], row["propensity"]) for row in rows} == {("fallback", 1.0)}
    assert all(row["action"] == json.loads(row["event"])["baseline_action"] for row in rows)


def test_a_file_that_names_someone_twice_or_nobody_is_refused_before_anything_is_decided(
    spark: SparkSession, tmp_path: Path
) -> None:
    application = load_application(REF).application
    twice = people(spark, tmp_path / "twice", subject_id=["p1"] * PEOPLE)
    with pytest.raises(BakehouseError, match="'p1' more than once"):
        check_people(application, twice, "people.parquet")
    nobody = people(spark, tmp_path / "nobody").drop("subject_id")
    with pytest.raises(BakehouseError, match="expected one called subject_id"):
        check_people(application, nobody, "people.parquet")


def test_people_with_whole_numbers_as_ids_are_decided_for_and_those_without_one_are_told_so(
    spark: SparkSession, tmp_path: Path
) -> None:
    application = load_application(REF).application
    ids = [None, None, *range(2, PEOPLE)]
    there = people(spark, tmp_path, subject_id=ids)
    check_people(application, there, "people.parquet")
    made = decided(there, run_of()).toPandas()
    refused = made[made.problem.notna()]
    assert list(refused.problem) == ["subject_id: field required"] * 2
    assert sorted(made[made.problem.isna()].subject_id) == sorted(str(one) for one in ids[2:])


def test_ids_that_are_neither_text_nor_whole_numbers_are_refused_before_anything_is_decided(
    spark: SparkSession, tmp_path: Path
) -> None:
    application = load_application(REF).application
    for at, kind in enumerate(("boolean", "double", "map<string,string>", "decimal(9,2)")):
        there = people(spark, tmp_path / str(at)).selectExpr(f"cast(null as {kind}) subject_id")
        with pytest.raises(BakehouseError, match="expected text or whole numbers"):
            check_people(application, there, "people.parquet")
