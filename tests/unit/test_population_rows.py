"""A row of people becomes a request, and a decision, as serving would make them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from schemas.hydration import FromFunction
from schemas.ids import uuid7, uuid7_time_ms
from stream.decide import Run, _loaded, _row, request_of
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
