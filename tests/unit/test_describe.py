"""What `check` says of a page: also who stops a policy, and how far it goes at first."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bakehouse.describe import gate_words, rollout_words
from bakehouse.output import words_table
from bakehouse_schemas.application.application import Gate, Guardrail, Rollout
from tests.learner_fakes import GAME


def test_guardrails_are_said_with_their_bounds() -> None:
    guardrails = [Guardrail("quit", most=0.2), Guardrail("bought", least=0.05)]
    said = gate_words(replace(GAME, gate=Gate(guardrails=guardrails)))
    assert said.endswith(
        "; every policy is taken back where quit is surely above 0.2 a decision or bought is "
        "surely below 0.05 a decision"
    )
    assert "taken back" not in gate_words(replace(GAME, gate=Gate()))


def test_a_canary_is_said_step_by_step_and_so_is_an_apprentice() -> None:
    slow = Rollout(holdout=0.1, canary=[0.1, 0.5, 1.0], decisions_a_step=300)
    assert rollout_words(replace(GAME, rollout=slow)).endswith(
        "10% of the subjects stay on the baseline; of the others a policy answers 10%, then 50%, "
        "then 100%, a step further after 300 decisions at least"
    )
    apprentice = rollout_words(replace(GAME, rollout=Rollout(match=0.8), mode="apprentice"))
    assert "answers 1%, then 5%" in apprentice
    assert apprentice.endswith("500 decisions that match in 80% at least")
    assert "of the others" not in rollout_words(replace(GAME, rollout=Rollout()))


def test_labels_stand_side_by_side_and_sentences_below_each_other(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words_table({"actions": ["easy", "hard"], "observation": ["skill: a number", "x: a number"]})
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "actions      easy, hard",
        "observation  skill: a number",
        "             x: a number",
    ]
