"""Records become rows, or the reason why not; never both, never neither."""

from __future__ import annotations

import orjson
import pyarrow as pa

from bakehouse_stream.kafka.decode import OUTPUT_SCHEMA, Decoder, Record, decoder
from tests.stream_events import APPLICATION, GAME, decision, outcome

A = "01a204a1-9c69-7000-8493-0a2ae2fab7a9"
B = "01a204a1-9c69-7001-8493-0a2ae2fab7a9"
AT_MS = int(A[:8] + A[9:13], 16) + 1_000
STRUCT = pa.struct(
    [
        ("topic", pa.string()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("received_at_ms", pa.int64()),
        ("key", pa.binary()),
        ("value", pa.binary()),
    ]
)


def record(topic: str, event: dict | bytes | None, offset: int = 0) -> Record:
    value = orjson.dumps(event) if isinstance(event, dict) else event
    return Record(topic, 0, offset, AT_MS, b"key", value)


def checks() -> Decoder:
    return Decoder({APPLICATION.name: APPLICATION}, "decisions")


def test_a_decision_is_a_row_of_replay_with_its_shapes_as_canonical_json():
    (row,) = checks().single(record("decisions", decision(A, context={"skill": 0.5, "a": 1})))
    assert row["replay"]["context"] == '{"a":1,"skill":0.5}'
    assert row["replay"]["action"] == '"easy"'
    assert row["replay"]["outcomes"] == []
    assert row["replay"]["received_at"] == AT_MS * 1000
    assert row["replay"]["positions"] == [record("decisions", None).position]


def test_a_decision_with_a_predecessor_is_also_an_outcome_of_it():
    _, row = checks().single(record("decisions", decision(B, previous=A)))
    assert row["outcome"]["decision_id"] == A
    assert row["outcome"]["outcome_id"] == f"next:{B}"
    assert row["outcome"]["kind"] == "next"
    assert row["outcome"]["next_decision_id"] == B
    assert row["outcome"]["next_observation"] == [0.5]


def test_an_outcome_lies_in_the_partition_of_its_decision():
    (row,) = checks().single(record("outcomes", outcome(A)))
    assert row["outcome"]["hour"] == AT_MS // 3_600_000


def test_what_fails_its_checks_is_quarantined_as_it_came_with_the_reason():
    (row,) = checks().single(record("outcomes", b'{"value": NaN, \xff', offset=7))
    assert row["quarantined"]["offset"] == 7
    assert row["quarantined"]["key"] == "key"
    assert row["quarantined"]["value"] == '{"value": NaN, \ufffd'
    assert "UTF-8" in row["quarantined"]["reason"]


def test_a_tombstone_is_quarantined():
    for topic in ("decisions", "outcomes"):
        (row,) = checks().single(record(topic, None))
        assert "no value" in row["quarantined"]["reason"]


def test_a_pair_is_a_row_of_replay_with_one_outcome():
    (row,) = checks().pair(record("decisions", decision(A)), record("outcomes", outcome(A, "o")))
    assert [entry["outcome_id"] for entry in row["replay"]["outcomes"]] == ["o"]


def test_a_pair_that_was_joined_on_keys_that_are_not_its_own_is_dropped():
    elsewhere = record("outcomes", outcome(B))
    assert checks().pair(record("decisions", decision(A)), elsewhere) == []
    refused = record("outcomes", outcome(A, value="high"))
    assert checks().pair(record("decisions", decision(A)), refused) == []


def test_the_worker_turns_batches_of_records_and_pairs_into_rows():
    told, made = record("outcomes", outcome(A, "o")), record("decisions", decision(A))
    columns = {"record": [made, None, told], "decision": [None, made, None]}
    columns["outcome"] = [None, told, None]
    batch = pa.RecordBatch.from_pydict(
        {
            name: pa.array([r._asdict() if r else None for r in values], STRUCT)
            for name, values in columns.items()
        }
    )
    (found,) = decoder([GAME], "decisions")(iter([batch]))
    assert found.schema == OUTPUT_SCHEMA
    rows = found.to_pylist()
    assert [sorted(k for k, v in row.items() if v) for row in rows] == [
        ["replay"],
        ["replay"],
        ["outcome"],
    ]
    assert rows[1]["replay"]["outcomes"][0]["outcome_id"] == "o"
