"""Serving, stream and learner are upgraded one after the other, in every order, under players.

Each is a run of `python -m tests.faults` that begins with all parts of the release before, upgrades
them in an order, and then lets the application grow in the reverse of it; the oracle compares its
tables with what was sent.
"""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from tests.faults.__main__ import KEYS, ORDER
from tests.faults.rig import PARTS
from tests.faults.scenarios import rolling

ROOT = Path(__file__).parents[2]
# `python -m tests.faults` takes an order of its own, and the one that is most unlike it is the test
# of every day
EVERY_DAY = tuple(reversed(ORDER))


def rolled(order: tuple[str, ...], scenarios: list[str], scratch: Path) -> dict[str, Any]:
    """What a run of these scenarios found, once its exit status says that promises were kept."""
    report = scratch / "report.json"
    words = ["--order", *order, "--kills", "0", "--events", "1", "--only", *scenarios]
    ended = subprocess.run(
        [sys.executable, "-m", "tests.faults", *words, "--report", str(report), "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-8_000:]
    assert tuple(json.loads(ended.stdout.splitlines()[-1])) == KEYS
    found: dict[str, Any] = json.loads(report.read_text())
    return found


def check_kept(found: dict[str, Any]) -> None:
    counted = {name: found[name] for name in ("lost", "duplicated", "unaccounted", "http_errors")}
    assert not any(counted.values())
    assert found["account"]["quarantined"] == found["contested"] == 0
    for row in found["rows"]:
        assert row["measured"]["decisions"] > 0
        assert row["measured"]["by_the_rules"] == 0


@pytest.mark.full
@pytest.mark.timeout(900)
def test_an_upgrade_from_the_release_before_loses_nothing_and_policies_answer_all_the_while(
    tmp_path: Path,
) -> None:
    found = rolled(EVERY_DAY, [rolling.to_this_release.__name__], tmp_path)
    check_kept(found)
    assert found["rows"][0]["measured"]["order"] == " ".join(EVERY_DAY)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("order", [pytest.param(o, id="-".join(o)) for o in permutations(PARTS)])
def test_in_every_order_an_upgrade_and_a_grown_application_lose_nothing(
    order: tuple[str, ...], tmp_path: Path
) -> None:
    scenarios = [rolling.to_this_release.__name__, rolling.to_another_contract.__name__]
    found = rolled(order, scenarios, tmp_path)
    check_kept(found)
    upgrade, growth = (row["measured"] for row in found["rows"])
    assert upgrade["order"] == " ".join(order)
    assert growth["order"] == " ".join(reversed(order))
    # of two contracts, policy and holdout each at least
    assert len(growth["explained"]) >= 4
    assert all(one["exact"] == one["decisions"] > 0 for one in growth["explained"].values())
