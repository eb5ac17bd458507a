"""The home of the release before, its application's file changed: who answers, and what is said.

Real processes, no broker: a restart without Kafka is the hardest.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.homes import FOLDER, OF_2026_11
from tests.waiting import wait_until

pytestmark = pytest.mark.full

BAKEHOUSE = Path(sys.executable).with_name("bakehouse")
APPLICATION = "/v1/applications/level-difficulty"
CONTEXT = {
    "skill": 0.5,
    "losses_in_a_row": 1,
    "minutes_today": 30,
    "segment": "regular",
    "device": "phone",
    "country": "DE",
}
CHANGES = (
    ('Discrete("easy", "normal", "hard")', 'Discrete("extreme", "normal", "hard", "easy")'),
    ("buckets=8", "buckets=16"),
    ("high=120)", 'high=180),\n        Numeric("age", low=0, high=99, default=30.0)'),
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Unpacked elsewhere than it was made, its pointer brought there."""
    with tarfile.open(FOLDER / OF_2026_11.archive) as archive:
        archive.extractall(tmp_path, filter="data")
    home = tmp_path / OF_2026_11.path.name
    state = home / "serving" / "level-difficulty.json"
    state.write_text(state.read_text().replace(str(OF_2026_11.path), str(home)))
    return home


@pytest.fixture
def changed(tmp_path: Path) -> str:
    """The application's file with another label, a feature, a bound and more buckets."""
    text = Path(OF_2026_11.ref).read_text()
    for before, after in CHANGES:
        assert before in text
        text = text.replace(before, after)
    page = tmp_path / "changed.py"
    page.write_text(text)
    return str(page)


@contextmanager
def serving(ref: str, home: Path) -> Iterator[httpx.Client]:
    given = os.environ | {"BAKEHOUSE_HOME": str(home), "BAKEHOUSE_PORT": "0"}
    phase = home / "run" / "serving.json"
    phase.unlink(missing_ok=True)
    with subprocess.Popen([str(BAKEHOUSE), "serve", ref], env=given) as process:
        try:
            wait_until(
                lambda: phase.exists() and "url" in json.loads(phase.read_text()),
                "serving listens",
                patience_s=120.0,
            )
            url = json.loads(phase.read_text())["url"]
            with httpx.Client(base_url=url + APPLICATION, timeout=30) as client:
                yield client
        finally:
            process.send_signal(signal.SIGTERM)


def against(ref: str, home: Path) -> tuple[int, dict[str, Any]]:
    command = [str(BAKEHOUSE), "check", ref, "--against", str(home), "--json"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    return ran.returncode, json.loads(ran.stdout)["against"]


@pytest.mark.timeout(600)
def test_the_champion_of_the_release_before_answers_for_the_changed_file_at_once(
    home: Path, changed: str
) -> None:
    status, said = against(changed, home)
    assert status == 1
    assert "start this release once with the file as it was" in said["instead"][0]
    with serving(OF_2026_11.ref, home) as client:
        assert client.get("/policy").json()["policy_version"] == OF_2026_11.policy_version
        asked = {"subject_id": "anna", "context": CONTEXT}
        answered = client.post("/decisions", json=asked).json()
    status, said = against(changed, home)
    assert status == 0
    assert said["policy_goes_on"]
    assert said["rows"] == "encoded anew"
    assert said["sample"]["tried"] == 2_000
    assert said["sample"]["failed"] == 0
    with serving(changed, home) as client:
        policy = client.get("/policy").json()
        assert policy["policy_version"] == OF_2026_11.policy_version
        assert any("'extreme'" in note for note in policy["carried_over"]["notes"])
        again = client.post("/decisions", json=asked | {"decision_id": answered["decision_id"]})
        assert again.json() == answered
        fresh = [client.post("/decisions", json=asked).json() for _ in range(20)]
        assert {one["policy_version"] for one in fresh} <= {0, OF_2026_11.policy_version}
        gone = {"outcomes": [{"decision_id": answered["decision_id"], "kind": "executed"}]}
        gone["outcomes"][0]["executed_action"] = "easy"
        assert client.post("/outcomes", json=gone).status_code == 202
