"""Serving, stream and learner are upgraded one after the other, in every order, under players.

Each is a run of `python -m tests.faults` that begins with all parts of the release before and
carries out the upgrade alone; the oracle compares its tables with what was sent.
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
# `python -m tests.faults` takes an order of its own; the one that is most unlike it is the test of
# every day, and the others are as slow and less apart
EVERY_DAY = tuple(reversed(ORDER))
ORDERS = [
    pytest.param(
        order,
        id="-".join(order),
        marks=pytest.mark.full if order == EVERY_DAY else pytest.mark.long,
    )
    for order in permutations(PARTS)
]


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


@pytest.mark.timeout(900)
@pytest.mark.parametrize("order", ORDERS)
def test_an_upgrade_from_the_release_before_loses_nothing_and_policies_answer_all_the_while(
    order: tuple[str, ...], tmp_path: Path
) -> None:
    found = rolled(order, [rolling.to_this_release.__name__], tmp_path)
    counted = {name: found[name] for name in ("lost", "duplicated", "unaccounted", "http_errors")}
    assert not any(counted.values())
    assert found["account"]["quarantined"] == 0
    upgrade = found["rows"][0]["measured"]
    assert upgrade["order"] == " ".join(order)
    assert upgrade["decisions"] > 0
    assert upgrade["by_the_rules"] == 0
