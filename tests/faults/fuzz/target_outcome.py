"""Bytes as a record of `outcomes.v1`, through the decoder that runs in Spark.

Must hold: the decoder never raises; what it makes of a record can be written to the tables; what
it accepts says in the tables what it said on Kafka; the learner can make a reward of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random

import pyarrow as pa

from bakehouse_learner.replay.maturity import assess
from bakehouse_schemas.application.reward import DecisionTimes, TimedOutcome
from bakehouse_schemas.events import wire
from bakehouse_stream.kafka.decode import OUTPUT_SCHEMA, Decoder, Record
from tests.faults.fuzz.documents import mutate_document
from tests.faults.fuzz.events import APPLICATION, APPLICATIONS, NOW_MS, TOPIC, WORDS
from tests.faults.fuzz.events import outcome as event
from tests.faults.fuzz.target_decision import same

DECODER = Decoder(APPLICATIONS, TOPIC)


def seeds() -> list[bytes]:
    """Valid outcomes, one of each kind."""
    return [
        event(),
        event(value=None, payload={"level": 7, "items": ["sword"]}),
        event(kind="executed", name=None, value=None, executed_action="b"),
        *(
            event(application=name, kind="executed", name=None, value=None, executed_action=done)
            for name, done in (("look", {"size": "l", "speed": [0.75]}), ("shelf", ["c", "b"]))
        ),
        event(kind="activated", name=None, value=None),
        event(kind="end", name=None, value=None),
    ]


def check(data: bytes) -> None:
    """See the module."""
    (row,) = DECODER.single(Record("outcomes", 0, 7, NOW_MS, b"key", data))
    pa.RecordBatch.from_pylist([row], schema=OUTPUT_SCHEMA)
    assert list(row) in (["quarantined"], ["outcome"])
    if "quarantined" in row:
        assert row["quarantined"]["reason"]
        return
    kept, said = row["outcome"], json.loads(data)
    for name in ("executed_action", "payload"):
        text = None if kept[name] is None else json.loads(kept[name])
        assert same(text, said.get(name)), f"{name}: {said.get(name)!r} became {text!r}"
    timed = TimedOutcome(
        kept["outcome_id"],
        kept["kind"],
        kept["name"],
        kept["value"],
        kept["occurred_at_ms"],
        NOW_MS,
    )
    times = DecisionTimes(NOW_MS, NOW_MS)
    found = assess(APPLICATION.reward, times, [timed, timed._replace(outcome_id="again")])
    assert isinstance(found.reward, float)


SEEDS = seeds()


def mutate(
    data: bytes, size: int, random: Random, bytewise: Callable[[bytes, int], bytes]
) -> bytes:
    """Another outcome near this one."""
    return mutate_document(data, size, random, bytewise, WORDS, SEEDS)


def plant() -> None:
    """Python's own JSON parser, to which NaN, 1e999 and any whole number are JSON."""
    wire._DECODER = json.JSONDecoder()
