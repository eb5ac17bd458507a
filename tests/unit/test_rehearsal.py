"""A page is tried on its own simulated players before anything is started."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bakehouse.commands.init import write
from bakehouse.players.rehearsal import rehearse
from bakehouse_learner.offline.simulation.simulation import simulate
from bakehouse_schemas.application.application import Gate, Guardrail
from bakehouse_schemas.application.hydration import FromFunction
from bakehouse_schemas.errors import ApplicationError
from bakehouse_schemas.loading import Loaded, load_application
from tests.learner_fakes import LinearAgent

APPLICATIONS = Path(__file__).parents[2] / "applications"
RULES = 'return "fight" if'
DONE = "if rng.random() < self.chance(context, action):"


def page(folder: Path, *changes: tuple[str, str]) -> Loaded:
    """What `init` writes, changed here and there."""
    written, _ = write("quests", "labels", folder)
    text = written.read_text()
    for before, after in changes:
        assert before in text
        text = text.replace(before, after, 1)
    written.write_text(text)
    return load_application(str(written))


def test_a_page_that_init_writes_and_every_example_pass(tmp_path: Path) -> None:
    examples = [load_application(str(APPLICATIONS / f"{name}.py")) for name in EXAMPLES]
    for loaded in [page(tmp_path), *examples]:
        rehearsed = rehearse(loaded)
        assert rehearsed is not None
        assert rehearsed.caution is None, loaded.ref


EXAMPLES = [path.stem for path in APPLICATIONS.glob("*.py") if path.stem != "__init__"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ((RULES, "return context['lvl'] if"), r"raised KeyError: 'lvl' \(quests.py, line \d+\); a"),
        ((RULES, 'return "flight" if'), "answered 'flight': expected one of .*player of the page"),
        (('"style": STYLES', '"stile": STYLES'), "context.style: missing.*sent {.*'stile'"),
        ((DONE, f"1 / 0\n        {DONE}"), r"Players raised ZeroDivisionError.*quests.py, line 9"),
        (("chance * 1.0", "chance * nothing"), "Players raised NameError: name 'nothing'.*line"),
    ],
)
def test_what_a_player_shows_to_be_broken_is_refused_with_its_line(
    tmp_path: Path, change: tuple[str, str], says: str
) -> None:
    with pytest.raises(ApplicationError, match=says):
        rehearse(page(tmp_path, change))


def test_outcomes_that_the_reward_does_not_know_are_named_beside_those_that_never_came(
    tmp_path: Path,
) -> None:
    rehearsed = rehearse(page(tmp_path, ('{"quest_done": 1.0', '{"quest_doen": 1.0')))
    assert rehearsed is not None
    assert rehearsed.caution == (
        "the players cause quest_done, which the reward does not count; it counts quest_doen"
    )


@pytest.mark.parametrize("reward", ['{"quest_done": 1.0', 'lambda _: 1.0 or {"quest_done": 1.0'])
def test_a_guardrail_on_an_outcome_that_no_player_causes_is_named_with_what_was_meant(
    tmp_path: Path, reward: str
) -> None:
    loaded = page(tmp_path, ('{"quest_done": 1.0', reward))

    def caution(outcome: str) -> str | None:
        gate = Gate(guardrails=[Guardrail(outcome, most=0.5)])
        rehearsed = rehearse(replace(loaded, application=replace(loaded.application, gate=gate)))
        assert rehearsed is not None
        return rehearsed.caution

    assert caution("quest_done") is None
    assert caution("quest_dnoe") == (
        "a guardrail counts quest_dnoe, which no player caused; did you mean quest_done?"
    )
    assert caution("uninstal") == "a guardrail counts uninstal, which no player caused"


def test_players_are_not_asked_where_there_are_none_or_features_are_looked_up(
    tmp_path: Path,
) -> None:
    loaded = page(tmp_path)
    assert rehearse(replace(loaded, world=None)) is None
    looked_up = replace(loaded.application, hydrate=FromFunction(lambda _context, _id: {}))
    assert rehearse(replace(loaded, application=looked_up)) is None


def test_a_world_that_raises_in_virtual_time_is_told_with_its_line(tmp_path: Path) -> None:
    broken = page(tmp_path, (DONE, f"1 / 0\n        {DONE}"))
    assert broken.world is not None
    with pytest.raises(ApplicationError, match=r"ZeroDivisionError: division by zero \(quests.py"):
        simulate(broken.application, broken.world, LinearAgent, decisions=100, rate_per_s=100.0)


def test_a_world_that_is_a_class_is_refused_with_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ApplicationError, match=r"such as world = Players\(\), found the class"):
        page(tmp_path, ("world = Players()", "world = Players"))
