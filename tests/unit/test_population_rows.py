"""A row of people becomes a request, and a decision, as serving would make them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from bakehouse_schemas.application.hydration import FromFunction
from bakehouse_schemas.ids import uuid7, uuid7_time_ms
from bakehouse_stream.decide import Run, _decider, _loaded, _row
from bakehouse_stream.people import request_of
from tests.learner_fakes import GAME
from tests.shapes import bundled, shaped


def _raises(context: Any, subject_id: str) -> Any:
    raise TimeoutError("the shop's cache is away")


@pytest.mark.parametrize(
    ("function", "x"),
    [
        (_raises, 0.25),
        (lambda context, subject_id: None, 0.25),
        (lambda context, subject_id: {"x": None}, 0.25),
        (lambda context, subject_id: {"x": 0.75}, 0.75),
    ],
    ids=["raises", "finds nobody", "finds null", "finds"],
)
def test_who_cannot_be_looked_up_gets_the_default_and_the_others_are_decided_for(
    function: Callable[..., Any], x: float
) -> None:
    application = replace(GAME, hydrate=FromFunction(function, default={"x": 0.25}))
    assert request_of(application, {"subject_id": "p"})["context"] == {"x": x}
    sent = {"subject_id": "p", "context": json.dumps({"x": 0.5})}
    assert request_of(application, sent)["context"] == {"x": 0.5}
    null = {"subject_id": "p", "context": json.dumps({"x": None})}  # counts as not sent
    assert request_of(application, null)["context"] == {"x": x}


@pytest.mark.parametrize("pinned", [False, True])
def test_a_policy_that_a_person_promoted_decides_for_everyone(tmp_path: Path, pinned: bool) -> None:
    page = tmp_path / "page.py"
    page.write_text("from tests.shapes import shaped\n\napplication = shaped('parts')\n")
    bundled(tmp_path, shaped("parts"))
    manifest = tmp_path / "3" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"canary": 0.2}))
    run_id = uuid7()
    run = Run(str(page), run_id, uuid7_time_ms(run_id), str(tmp_path / "3"), False, pinned)
    application, slot = _loaded(run)
    made = [
        _row(application, slot, run, {"subject_id": f"p{at}", "skill": 0.5}) for at in range(200)
    ]
    assert not any(row["problem"] for row in made)
    cohorts = [row["cohort"] for row in made]
    if pinned:
        assert set(cohorts) == {"policy"} and {row["policy_version"] for row in made} == {3}
    else:
        assert 20 < cohorts.count("canary") < 60


PAGE = """from bakehouse import *
application = Application(
    name="people",
    observation=[Numeric("skill"), Categorical("country", buckets=16, default="DE")],
    actions=Discrete("easy", "hard"),
    reward=Reward({"won": 1.0}, window=minutes(30)),
    baseline=lambda context: "easy",
)
"""


@pytest.fixture
def decide(tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """The worker's function of Spark: a batch of people in columns becomes rows of DECIDED."""
    (tmp_path / "page.py").write_text(PAGE)
    run_id = uuid7()
    run = Run(str(tmp_path / "page.py"), run_id, uuid7_time_ms(run_id), None, killed=False)

    def decided(**columns: pa.Array) -> list[dict[str, Any]]:
        batch = pa.RecordBatch.from_pydict(columns)
        (made,) = _decider(run)(iter([batch]))
        rows: list[dict[str, Any]] = made.to_pylist()
        return rows

    return decided


def context_of(row: dict[str, Any]) -> dict[str, Any]:
    assert row["problem"] is None
    found: dict[str, Any] = json.loads(row["event"])["context"]
    return found


SKILL = pa.array([0.25, 0.5])


@pytest.mark.parametrize(
    "ids", [pa.array([4711, -7]), pa.array([Decimal(4711), Decimal(-7)]), pa.array(["4711", "-7"])]
)
def test_a_whole_number_as_subject_id_is_taken_as_its_digits(
    decide: Callable[..., list[dict[str, Any]]], ids: pa.Array
) -> None:
    rows = decide(subject_id=ids, skill=SKILL)
    assert [row["subject_id"] for row in rows] == ["4711", "-7"]
    assert [json.loads(row["event"])["subject_id"] for row in rows] == ["4711", "-7"]


@pytest.mark.parametrize(
    ("ids", "told"),
    [
        (pa.array([None, "ok"]), None),
        (pa.array(["", "ok"]), ""),
        (pa.array(["x" * 201, "ok"]), "x" * 201),
        (pa.array([True, None]), "True"),
        (pa.array([1.5, None]), "1.5"),
        (pa.array([float("nan"), None]), "nan"),
        (pa.array([b"\xff", None]), "b'\\xff'"),
        (pa.array([["a"], None]), "['a']"),
        (pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int64())), "[('a', 1)]"),
        (pa.array([date(2026, 1, 1), None]), "datetime.date(2026, 1, 1)"),
    ],
    ids=str,
)
def test_a_subject_id_that_is_none_is_a_problem_of_its_row_alone(
    decide: Callable[..., list[dict[str, Any]]], ids: pa.Array, told: str | None
) -> None:
    first, second = decide(subject_id=ids, skill=SKILL)
    assert first["problem"].startswith("subject_id: ") and first["event"] is None
    assert first["subject_id"] == told
    assert (second["problem"] is None) == (second["subject_id"] == "ok")


@pytest.mark.parametrize(
    ("context", "problem"),
    [
        ("[1]", "context: expected a JSON object, got [1]"),
        ('"x"', "context: expected a JSON object, got 'x'"),
        ("{", "context: not valid JSON"),
        ('{"skill": 0.1, "skill": 0.9}', "context: not valid JSON: the key 'skill' stands twice"),
        ('{"skill": 0.1, "z": NaN}', "context: not valid JSON: NaN is not JSON"),
        ('{"skill": 1e999}', "context: not valid JSON: 1e999 is beyond the range"),
        (r'{"skill": 0.1, "z": "\ud83d"}', "context: the text is not valid UTF-8"),
        ('{"skill": 0.1, "z": ' + "[" * 300 + "]" * 300 + "}", "context: the JSON is nested"),
    ],
)
def test_a_context_that_serving_would_refuse_is_a_problem_of_its_row_alone(
    decide: Callable[..., list[dict[str, Any]]], context: str, problem: str
) -> None:
    first, second = decide(
        subject_id=pa.array(["a", "b"]), context=pa.array([context, '{"skill": 0.5}'])
    )
    assert first["problem"].startswith(problem) and first["event"] is None
    assert context_of(second) == {"skill": 0.5}


def test_a_context_column_of_another_type_is_a_problem_of_each_row(
    decide: Callable[..., list[dict[str, Any]]],
) -> None:
    maps = pa.array([[("skill", 0.1)], None], pa.map_(pa.string(), pa.float64()))
    first, second = decide(subject_id=pa.array(["a", "b"]), context=maps)
    assert first["problem"].startswith("context: expected a JSON object")
    assert second["problem"].startswith("context.skill: missing")


@pytest.mark.parametrize(
    ("cells", "value"),
    [
        (pa.array([Decimal("9.99"), None]), 9.99),
        (pa.array([Decimal("9.00"), None]), 9),
        (pa.array([date(2026, 1, 1), None]), "2026-01-01"),
        (pa.array([datetime(2026, 1, 1, tzinfo=UTC), None]), "2026-01-01T00:00:00+00:00"),
        (pa.array([b"text", None]), "text"),
        (pa.array([{"a": [Decimal("1.5")]}, None]), {"a": [1.5]}),
        (pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int64())), [["a", 1]]),
    ],
    ids=str,
)
def test_a_column_that_no_feature_reads_is_logged_as_json_has_it(
    decide: Callable[..., list[dict[str, Any]]], cells: pa.Array, value: Any
) -> None:
    first, second = decide(subject_id=pa.array(["a", "b"]), skill=SKILL, more=cells)
    assert context_of(first) == {"skill": 0.25, "more": value}
    assert context_of(second) == {"skill": 0.5}


@pytest.mark.parametrize(
    "cells",
    [
        pa.array([float("nan"), None]),
        pa.array([float("inf"), None]),
        pa.array([[1.0, float("-inf")], None]),
        pa.array([2**64 - 1, None], pa.uint64()),
        pa.array([b"\xff", None]),
        pa.array([timedelta(days=1), None]),
        pa.array([10**18, None], pa.timestamp("us")),  # of the year 33658
        pa.array([10**8, None], pa.date32()),
    ],
    ids=str,
)
def test_a_value_that_json_cannot_hold_is_a_problem_of_its_row_alone(
    decide: Callable[..., list[dict[str, Any]]], cells: pa.Array
) -> None:
    first, second = decide(subject_id=pa.array(["a", "b"]), skill=SKILL, more=cells)
    assert first["problem"].startswith("context.more") and first["event"] is None
    assert context_of(second) == {"skill": 0.5}


def test_a_number_of_a_decimal_column_is_a_number(
    decide: Callable[..., list[dict[str, Any]]],
) -> None:
    first, _ = decide(
        subject_id=pa.array(["a", "b"]), skill=pa.array([Decimal("0.25"), Decimal("0.50")])
    )
    assert json.loads(first["event"])["observation"][0] == 0.25


@pytest.mark.parametrize(
    "found", [[1], {"x": float("nan")}, {"x": object()}], ids=["a list", "NaN", "an object"]
)
def test_what_a_function_finds_that_json_cannot_hold_is_the_defaults(found: Any) -> None:
    application = replace(
        GAME, hydrate=FromFunction(lambda context, subject_id: found, default={"x": 0.25})
    )
    assert request_of(application, {"subject_id": "p"})["context"] == {"x": 0.25}
