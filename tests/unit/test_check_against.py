"""`bakehouse check REF --against HOME`: what becomes of a home, before anybody restarts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bakehouse.against import Rows, against
from bakehouse_schemas.application.actions import Continuous, Discrete
from bakehouse_schemas.application.application import Agent, Application
from bakehouse_schemas.application.exploration import Gaussian
from bakehouse_schemas.application.observation import Numeric
from bakehouse_schemas.contracts.known import note_contracts
from bakehouse_schemas.decisions.slot import version_zero
from bakehouse_serving.explain.tables import Tables
from bakehouse_serving.explain.try_rows import try_rows
from bakehouse_serving.policies.served import Served
from tests.fakes import publish_policy
from tests.unit.test_decide import LABELS, make_application
from tests.unit.test_explain import levels
from tests.unit.test_serving_served import act

OLD = make_application()
SKILL = Numeric("skill", low=0, high=1)
WITH_DEFAULT = make_application(
    observation=[SKILL, Numeric("age", low=0, high=99, default=30.0)],
    actions=Discrete(*LABELS, "extreme"),
)
WITHOUT_DEFAULT = make_application(observation=[SKILL, Numeric("age", low=0, high=99)])


def lived_in(home: Path, *, version: int = 3, described: bool = True) -> Served:
    """A home in which OLD has been served, by a policy if `version` is above 0."""
    note_contracts(home, [OLD] if described else [])
    served = Served(OLD, policies=home / "policies", cache=home / "serving" / "levels.json")
    if version:
        contract = None if described else OLD.contract
        pointer = publish_policy(home / "policies", OLD, version, favourite=1, contract=contract)
        served.point([pointer], live=False)
    return served


def test_the_same_contract_goes_on_as_it_is(tmp_path: Path) -> None:
    lived_in(tmp_path)
    found = against(make_application(), tmp_path)
    assert found.fits
    assert found.rows == "same"
    assert found.policy_goes_on
    assert "everything goes on as it is" in found.lines()[0]


def test_a_label_and_a_feature_with_a_default_are_said_with_what_the_policy_makes_of_them(
    tmp_path: Path,
) -> None:
    lived_in(tmp_path)
    found = against(WITH_DEFAULT, tmp_path)
    assert found.fits
    assert found.rows == "encoded anew"
    assert found.changes == ["feature 'age': new, with a default", "new label 'extreme'"]
    assert found.policy == 3
    assert found.policy_goes_on
    assert (
        "new label 'extreme' starts at the mean of the others (nothing learned yet)"
        in found.policy_notes
    )


def test_a_feature_without_a_default_loses_the_rows_and_it_is_said_what_to_do(
    tmp_path: Path,
) -> None:
    lived_in(tmp_path)
    found = against(WITHOUT_DEFAULT, tmp_path)
    assert not found.fits
    assert found.rows == "lost"
    assert found.policy_goes_on
    assert found.instead == ["give 'age' a default"]


def test_another_kind_of_actions_needs_another_name(tmp_path: Path) -> None:
    lived_in(tmp_path)
    numbers = make_application(
        actions=Continuous(low=0, high=1),
        agent=Agent("td3"),
        baseline=lambda context: [0.5],
        exploration=Gaussian(0.1),
    )
    found = against(numbers, tmp_path)
    assert not found.fits
    assert found.policy_goes_on is False
    assert "another `name`" in found.instead[0]


def test_a_pin_that_cannot_go_on_is_to_be_released(tmp_path: Path) -> None:
    act(lived_in(tmp_path), "promote", 3)
    gone = make_application(actions=Discrete("x", "y"), baseline=lambda context: "x")
    assert any("bakehouse release" in line for line in against(gone, tmp_path).instead)


def test_a_home_of_the_release_before_is_to_be_started_once_under_the_old_file(
    tmp_path: Path,
) -> None:
    lived_in(tmp_path, described=False)
    found = against(WITH_DEFAULT, tmp_path)
    assert not found.fits
    assert "start this release once with the file as it was" in found.instead[0]
    note_contracts(tmp_path, [OLD])
    assert against(WITH_DEFAULT, tmp_path).fits


def test_a_home_in_which_nothing_was_learned_fits_anything(tmp_path: Path) -> None:
    found = against(OLD, tmp_path)
    assert found.fits
    assert found.rows == "none"


def test_a_home_at_version_0_is_of_the_contract_that_was_noted_last(tmp_path: Path) -> None:
    lived_in(tmp_path, version=0)
    found = against(WITH_DEFAULT, tmp_path)
    assert found.before == OLD.contract
    assert found.policy_goes_on is None
    assert found.fits


def test_stored_rows_are_tried_and_the_first_that_fails_says_why(tmp_path: Path) -> None:
    game = levels(tmp_path)
    rows = [game.decide(version_zero(OLD), draw=draw) for draw in (0.1, 0.4, 0.9)]
    game.table.append(rows)

    def tried(application: Application) -> dict[str, Any]:
        return try_rows(application, Tables(str(tmp_path / "tables")).newest("levels", 100))

    assert tried(WITH_DEFAULT) == {"tried": 3, "failed": 0, "reason": None}
    lost = tried(WITHOUT_DEFAULT)
    assert lost["failed"] == 3
    assert "context.age: missing" in lost["reason"]
    lived_in(tmp_path)
    assert not against(WITH_DEFAULT, tmp_path, Rows(3, 3, "they lack it")).fits
    assert against(WITH_DEFAULT, tmp_path, Rows(3, 1, "one lacks it")).fits


PAGE = """
from bakehouse import *

application = Application(
    name="levels",
    observation=[Numeric("skill", low=0, high=1), Numeric("age", low=0, high=99{default})],
    actions=Discrete("easy", "normal", "hard"),
    reward=Reward({{"won": 1.0}}, window=minutes(1)),
    baseline=lambda context: "easy",
)
"""


@pytest.mark.parametrize(("default", "status"), [(", default=1.0", 0), ("", 1)])
def test_the_command_says_it_and_exits_with_1_where_something_is_lost(
    tmp_path: Path, default: str, status: int
) -> None:
    home = tmp_path / "home"
    game = levels(home)
    game.table.append([game.decide(version_zero(OLD))])
    lived_in(home)
    page = tmp_path / "page.py"
    page.write_text(PAGE.format(default=default))
    command = [sys.executable, "-m", "bakehouse", "check", str(page), "--against", str(home)]
    ran = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    assert ran.returncode == status, ran.stderr
    found = json.loads(ran.stdout)["against"]
    assert found["sample"]["tried"] == 1
    assert found["sample"]["failed"] == (1 if status else 0)
    assert found["fits"] is not bool(status)
