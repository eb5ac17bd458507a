"""Sample ratio, drift, and propensities decided again."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bakehouse_learner.insight.drift import Drift, beyond_chance, level_of, stability_index
from bakehouse_learner.insight.propensity_audit import PropensityAudit
from bakehouse_learner.insight.sample_ratio import SampleRatio, log_bayes_factor
from bakehouse_learner.replay.origin import subject_hash
from bakehouse_schemas.application.application import Application, Rollout
from bakehouse_schemas.application.observation import Boolean, Categorical, Encoder, Numeric, Vector
from bakehouse_schemas.decisions.cohort import in_holdout
from bakehouse_schemas.decisions.decide import answer_one, check
from bakehouse_schemas.decisions.slot import Slot, version_zero
from bakehouse_schemas.events.events import DecisionRequest
from bakehouse_schemas.ids import uuid7, uuid7_time_ms
from bakehouse_schemas.policy.bundle import LoadedPolicy
from bakehouse_stream.kafka.decode import Decoder, Record
from tests.replay_rows import arrow
from tests.shapes import SHAPED, bundled, items, shaped
from tests.unit.test_decide import make_application

NOW_MS = uuid7_time_ms(uuid7())


def hashes(names: list[str]) -> np.ndarray:
    return np.array([subject_hash(name) for name in names], dtype=np.uint64)


def test_a_bayes_factor_by_hand() -> None:
    """Beta(1, 1) against a half: of one head and one tail B(2, 2) / B(1, 1) / ¼ = ⅔."""
    assert math.exp(log_bayes_factor(1, 1, 0.5, weight=2.0)) == pytest.approx(2 / 3)
    assert math.exp(log_bayes_factor(3, 0, 0.5, weight=2.0)) == pytest.approx(2.0)
    assert log_bayes_factor(0, 0, 0.1) == 0.0


def test_a_holdout_of_the_right_size_is_called_wrong_in_almost_no_game() -> None:
    """Looked at after every 50 subjects, up to 3,000; α = 0.01."""
    rng, wrong = np.random.default_rng(0), 0
    for _ in range(100):
        ratio = SampleRatio(0.1)
        for _ in range(60):
            subjects = rng.integers(0, 1 << 63, 50).astype(np.uint64) * np.uint64(2)
            ratio.add(subjects, rng.random(50) < 0.1)
        wrong += ratio.figures()["ok"] is False
    assert wrong <= 3


def test_a_holdout_that_loses_a_third_of_its_subjects_is_found() -> None:
    rng, ratio = np.random.default_rng(1), SampleRatio(0.1)
    subjects = rng.integers(0, 1 << 63, 5_000).astype(np.uint64) * np.uint64(2)
    ratio.add(subjects, rng.random(5_000) < 0.0667)
    figures = ratio.figures()
    assert figures["ok"] is False
    assert figures["p_value"] < 1e-6
    assert figures["observed"] == pytest.approx(0.0667, abs=0.01)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 400), max_size=80), max_size=12))
def test_each_subject_counts_once_whatever_is_forgotten(batches: list[list[int]]) -> None:
    ratio, met = SampleRatio(0.3, most=16), set()
    for batch in batches:
        names = [f"player-{n}" for n in batch]
        met |= set(names)
        inside = np.array([in_holdout("game", name, 0.3) for name in names], dtype=bool)
        ratio.add(hashes(names), inside)
    figures = ratio.figures()
    assert figures["subjects"] <= len(met)
    assert figures["subjects"] >= min(len(met), 16)
    again = SampleRatio(0.3, most=16)
    again.restore(ratio.state())
    for batch in batches:  # nobody new: nothing moves
        names = [f"player-{n}" for n in batch]
        again.add(hashes(names), np.ones(len(names), bool))
    assert again.figures() == figures


def test_what_is_remembered_has_nothing_to_do_with_the_cohort() -> None:
    ratio = SampleRatio(0.2, most=256)
    for first in range(0, 40_000, 500):
        names = [f"player-{n}" for n in range(first, first + 500)]
        inside = np.array([in_holdout("game", name, 0.2) for name in names])
        ratio.add(hashes(names), inside)
    figures = ratio.figures()
    assert figures["ok"] is True
    assert 1_000 < figures["subjects"] < 4_000
    assert figures["observed"] == pytest.approx(0.2, abs=0.04)


def test_without_a_holdout_there_is_nothing_to_test() -> None:
    ratio = SampleRatio(0.0)
    ratio.add(hashes(["anna"]), np.array([False]))
    figures = ratio.figures()
    assert (figures["p_value"], figures["ok"], figures["subjects"]) == (None, None, 1)


def test_another_holdout_on_the_page_begins_a_new_test() -> None:
    ratio, again = SampleRatio(0.1), SampleRatio(0.2)
    ratio.add(hashes(["anna"]), np.array([True]))
    again.restore(ratio.state())
    assert again.figures()["subjects"] == 0


# --- drift


def test_a_stability_index_by_hand() -> None:
    """¼ against ¾ and back: 2 · (¾ − ¼) · log 3, but for the halves that are added."""
    found = stability_index(np.array([2_500.0, 7_500.0]), np.array([7_500.0, 2_500.0]))
    assert found == pytest.approx(2 * 0.5 * math.log(3), abs=1e-3)
    assert stability_index(np.array([5.0, 5.0]), np.array([5.0, 5.0])) == 0.0
    assert beyond_chance(0.5, 11, 1_000, 1_000) == pytest.approx(0.48)
    assert [level_of(x) for x in (0.09, 0.1, 0.24, 0.25)] == [
        "stable", "moved", "moved", "shifted"
    ]  # fmt: skip


FEATURES = [
    Numeric("level", low=0, high=100),
    Categorical("country", buckets=64),
    Boolean("payer"),
    Vector("taste", length=3),
    Numeric("always_1", low=0, high=2),
]


def observations(rng: np.random.Generator, n: int, *, moved: bool = False) -> np.ndarray:
    encoder = Encoder(FEATURES)
    return np.array(
        [
            encoder.encode(
                {
                    "level": float(rng.normal(50 + 15 * moved, 10)),
                    "country": f"c{rng.integers(200)}",
                    "payer": bool(rng.random() < (0.9 if moved else 0.2)),
                    "taste": (rng.normal(0, 1, 3) + np.array([0, 0, 3 * moved])).tolist(),
                    "always_1": 1.0,
                }
            )
            for _ in range(n)
        ]
    )


def test_what_has_moved_is_named_and_the_rest_is_stable() -> None:
    rng, drift = np.random.default_rng(0), Drift(Encoder(FEATURES))
    assert not drift.counted(999)
    assert drift.counted(1)
    assert drift.span(5_000) == (4_000, 5_000)
    drift.look(observations(rng, 1_000))
    assert drift.figures() == []
    assert not drift.counted(199)
    assert drift.counted(801)
    assert drift.span(6_000) == (5_000, 6_000)
    drift.look(observations(rng, 1_000))
    assert {one["feature"]: one["level"] for one in drift.figures()} == dict.fromkeys(
        ("level", "country", "payer", "taste", "always_1"), "stable"
    )
    again = Drift(Encoder(FEATURES))
    again.restore(drift.state())
    again.look(observations(rng, 1_000, moved=True))
    assert {one["feature"]: one["level"] for one in again.figures()} == {
        "level": "shifted",
        "country": "stable",
        "payer": "shifted",
        "taste": "shifted",
        "always_1": "stable",
    }


def test_of_a_backlog_the_first_thousand_are_the_reference() -> None:
    drift = Drift(Encoder(FEATURES))
    assert drift.counted(4_000)
    assert drift.span(4_100) == (100, 1_100)


# --- propensities


def row_of(application: Application, slot: Slot, *, draw: float, subject: str) -> dict[str, Any]:
    """A decision as stream writes it into the table."""
    asked: dict[str, Any] = {"subject_id": subject, "context": {"skill": 0.5}}
    if application.shape.kind == "ranking":
        asked["items"] = items(5)
    one = check(application, DecisionRequest(**asked), decision_id=uuid7(NOW_MS), now_ms=NOW_MS)
    made = answer_one(application, slot, one, draw, now_ms=NOW_MS)
    record = Record("decisions", 0, 7, NOW_MS, b"key", json.dumps(made.event).encode())
    (row,) = Decoder({application.name: application}, "decisions").single(record)
    found: dict[str, Any] = row["replay"]
    return found


def audit_of(application: Application, policies: Path) -> PropensityAudit:
    return PropensityAudit(application, policies, np.random.default_rng(0))


@pytest.mark.parametrize("kind", SHAPED)
def test_what_serving_answered_is_found_equal_by_whoever_it_was_answered(
    kind: str, tmp_path: Path
) -> None:
    application = shaped(kind, rollout=Rollout(holdout=0.5))
    policy = bundled(tmp_path / kind, application)
    rows = [
        row_of(application, slot, draw=draw, subject=f"player-{draw}")
        for slot in (version_zero(application), Slot(policy, policy.manifest.exploration))
        for draw in (0.0, 0.3, 0.7, 0.999)
    ]
    audit = audit_of(application, tmp_path)
    table = arrow(rows)
    sample = audit.sample(table)
    assert len(sample) == 8
    audit.judge_all(sample)
    figures = audit.figures()
    assert (figures["checked"], figures["equal"], figures["different"]) == (8, 8, 0)
    assert (figures["worst"], figures["last_problem"]) == (0.0, None)


def test_a_propensity_that_was_not_drawn_with_is_shown() -> None:
    application = make_application()
    row = row_of(application, version_zero(application), draw=0.5, subject="anna")
    audit = audit_of(application, Path("nowhere"))
    audit.judge_all([row, row | {"propensity": row["propensity"] * 1.1}])
    figures = audit.figures()
    assert (figures["checked"], figures["equal"], figures["different"]) == (2, 1, 1)
    assert figures["worst"] == pytest.approx(0.1 / 1.1)
    problem = figures["last_problem"]
    assert problem["decision_id"] == row["decision_id"]
    assert problem["recorded"]["action"] == problem["recomputed"]["action"]
    again = audit_of(application, Path("nowhere"))
    again.restore(audit.state())
    assert again.figures() == figures


def test_a_policy_that_is_gone_and_a_log_of_others_are_unavailable(tmp_path: Path) -> None:
    application = shaped("parts")
    policy: LoadedPolicy = bundled(tmp_path / "elsewhere", application)
    slot = Slot(policy, policy.manifest.exploration)
    row = row_of(application, slot, draw=0.5, subject="anna")
    audit = audit_of(application, tmp_path)
    audit.judge_all([row, row | {"policy_version": 0, "draw": None}, row | {"action": "{torn"}])
    figures = audit.figures()
    assert (figures["checked"], figures["unavailable"]) == (0, 3)


def test_decisions_that_nobody_was_given_are_not_drawn() -> None:
    application = make_application()
    row = row_of(application, version_zero(application), draw=0.5, subject="anna")
    others = [row | {"cohort": "fallback"}]
    assert audit_of(application, Path("nowhere")).sample(arrow(others)) == []


def test_a_decision_of_a_contract_that_nobody_remembers_is_unavailable() -> None:
    application = make_application()
    row = row_of(application, version_zero(application), draw=0.5, subject="anna")
    audit = audit_of(application, Path("nowhere"))
    drawn = audit.sample(arrow([row | {"contract": "another"}]))
    audit.judge_all(drawn)
    figures = audit.figures()
    assert (len(drawn), figures["checked"], figures["unavailable"]) == (1, 0, 1)


def test_a_thread_judges_what_is_offered_every_two_seconds() -> None:
    application = make_application()
    table = arrow(
        [
            row_of(application, version_zero(application), draw=n / 50, subject=f"p{n}")
            for n in range(50)
        ]
    )
    audit = audit_of(application, Path("nowhere"))
    audit.offer(table, 0.0)
    audit.offer(table, 1.9)
    audit.offer(table, 2.0)
    audit.close()
    assert audit.figures()["equal"] == 40
