"""Bytes as a record of `decisions.v1`, through the decoder that runs in Spark.

Must hold: the decoder never raises; what it makes of a record can be written to the tables; what
it accepts says in the tables what it said on Kafka; a record read twice folds to one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

import pyarrow as pa

from bakehouse_schemas.events import wire
from bakehouse_schemas.replay.fold import fold_rows
from bakehouse_stream.kafka.decode import OUTPUT_SCHEMA, Decoder, Record
from tests.faults.fuzz.documents import mutate_document
from tests.faults.fuzz.events import (
    APPLICATIONS,
    LOOKED,
    NOW_MS,
    SECOND,
    SHELVED,
    TOPIC,
    WORDS,
)
from tests.faults.fuzz.events import decision as event

DECODER = Decoder(APPLICATIONS, TOPIC)
FLOATS = "action_probabilities"  # in which 1 is 1.0
AS_TEXT = ("context", "items", "eligible_actions", "action", "action_probabilities", "density")


def seeds() -> list[bytes]:
    """Valid decisions: bare, with everything, of an episode, of another contract, of no label."""
    return [
        event(),
        event(observation=None, context={}),
        event(
            eligible_actions=["a", "b"],
            action_probabilities={"a": 0.5, "b": 0.5},
            baseline_action="b",
            exploration={"kind": "epsilon_greedy", "epsilon": 0.1, "floor": 0.01},
            draw=0.25,
            mode="apprentice",
            explored=True,
        ),
        event(episode_id="e1", previous_decision_id=SECOND),
        event(contract="another", action={"x": [1]}, items=[{"id": 1}], density={"mu": 0.5}),
        event(**LOOKED),
        event(**LOOKED | {"density": {"kind": "point"}, "cohort": "holdout", "propensity": 1.0}),
        event(**SHELVED),
        event(**SHELVED | {"action": ["a"], "eligible_actions": ["a"], "baseline_action": ["a"]}),
    ]


def check(data: bytes) -> None:
    """See the module."""
    record = Record(TOPIC, 0, 7, NOW_MS, None, data)
    rows = DECODER.single(record)
    pa.RecordBatch.from_pylist(rows, schema=OUTPUT_SCHEMA)
    assert [key for row in rows for key in row] in (
        ["quarantined"],
        ["replay"],
        ["replay", "outcome"],
    )
    if "quarantined" in rows[0]:
        assert rows[0]["quarantined"]["reason"]
        return
    row, said = rows[0]["replay"], json.loads(data)
    for name in AS_TEXT:
        kept = None if row[name] is None else json.loads(row[name])
        equal = kept == said.get(name) if name == FLOATS else same(kept, said.get(name))
        assert equal, f"{name}: {said.get(name)!r} became {kept!r}"
    application = APPLICATIONS[said["application"]]
    if said["contract"] == application.contract:
        assert row["propensity"] > 0
        assert row["propensity"] <= 1 or application.shape.dims
    assert fold_rows([row, row]) == fold_rows([row])
    pa.RecordBatch.from_pylist(DECODER.pair(record, record), schema=OUTPUT_SCHEMA)


def same(kept: Any, said: Any) -> bool:
    """Equal, and of equal types: `True` is not `1`, and `1.0` is `1` in JSON alone."""
    return json.dumps(kept, sort_keys=True) == json.dumps(said, sort_keys=True)


SEEDS = seeds()


def mutate(
    data: bytes, size: int, random: Random, bytewise: Callable[[bytes, int], bytes]
) -> bytes:
    """Another decision near this one."""
    return mutate_document(data, size, random, bytewise, WORDS, SEEDS)


def plant() -> None:
    """JSON of any depth is let in, though what writes the tables stops at 254 levels."""
    wire.MAX_DEPTH = 100_000
