"""`bakehouse explain`: where it asks, how long it waits, and what a person reads first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bakehouse.commands import explain as explain_command
from bakehouse.reports.explain import show_explanation
from bakehouse.stack_client import Refused
from bakehouse_schemas.errors import StackError
from bakehouse_schemas.process.settings import Settings
from tests.shapes import items, shaped
from tests.unit.test_explain import Game, levels, policy_of, slot_of


def test_it_asks_again_while_a_decision_is_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain_command, "AGAIN_AFTER_S", 0.0)
    answers: list[Any] = [Refused("not yet", 404), Refused("not yet", 404), {"exact": True}]

    def ask() -> dict[str, Any]:
        answer = answers.pop(0)
        if isinstance(answer, Refused):
            raise answer
        return dict(answer)

    assert explain_command._once_it_is_there(ask, wait_s=60.0) == {"exact": True}


@pytest.mark.parametrize("status", [401, 404, 422])
def test_it_does_not_wait_unasked_nor_for_what_will_not_come(status: int) -> None:
    asked: list[int] = []

    def ask() -> dict[str, Any]:
        asked.append(status)
        raise Refused("no", status)

    with pytest.raises(Refused):
        explain_command._once_it_is_there(ask, wait_s=0.0 if status == 404 else 60.0)
    assert asked == [status]


def test_without_a_stack_it_says_that_it_needs_the_page(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    for given in (None, "levels"):
        with pytest.raises(StackError, match=r"--application game\.py"):
            explain_command._from_tables(settings, "0199", given)


@pytest.mark.parametrize("kind", ["discrete", "continuous", "parts", "ranking"])
def test_a_person_reads_the_story_first_and_then_the_tables(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    game = levels(tmp_path) if kind == "discrete" else Game(tmp_path, shaped(kind))
    request = {"items": items(5)} if kind == "ranking" else {}
    row = game.decide(slot_of(policy_of(game)), subject="[anna]", **request)
    game.table.append([row])
    show_explanation(game.explain(row))
    printed = capsys.readouterr().out
    story, tables = printed.index("Player [anna]"), printed.index("decided again")
    assert story < printed.index("context") < tables
    assert "reward 0 (matured)" in printed
