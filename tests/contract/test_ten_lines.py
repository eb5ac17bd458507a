"""The game engineer's page against a real serving process: its curl and its Python work."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.machine import needs
from tests.waiting import serving_url

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "your-game-in-ten-lines.md").read_text()
CONTEXT = {
    **{"skill": 0.4, "losses_in_a_row": 1, "minutes_today": 12.0},
    **{"segment": "new", "device": "phone", "country": "DE"},
}


def block(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert found is not None, language
    return found[1]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of serving as it is without anything behind it: what it takes waits in its spool."""
    home = tmp_path_factory.mktemp("home")
    environment = os.environ | {"BAKEHOUSE_HOME": str(home), "BAKEHOUSE_PORT": "0"}
    with subprocess.Popen(
        [sys.executable, "-m", "bakehouse_serving", "applications/level_difficulty.py"],
        cwd=ROOT,
        env=environment,
    ) as process:
        yield serving_url(home)
        process.terminate()
        process.wait(30)


def test_the_curl_lines_ask_and_tell(url: str, tmp_path: Path) -> None:
    bash = needs("bash", "apt-get install -y bash")
    needs("curl", "apt-get install -y curl")
    script = block("sh").replace("http://localhost:8080", url).replace("localhost:8080", url)
    ran = subprocess.run(
        [bash, "-euo", "pipefail", "-c", script], cwd=tmp_path, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    assert '"action":' in ran.stdout
    assert '{"accepted":1,"rejected":[],"notes":[]}' in ran.stdout


def python_of_the_page(url: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(block("python").replace("http://localhost:8080", url), names)
    names["bakehouse"].timeout = 10.0  # of a machine that runs other tests beside
    return names


def test_the_python_lines_ask_and_tell(url: str, caplog: pytest.LogCaptureFixture) -> None:
    page = python_of_the_page(url)
    action, decision_id = page["difficulty"]("player-4711", CONTEXT)
    assert action in ("easy", "normal", "hard")
    page["tell"](decision_id, "level_won")
    page["tell"](decision_id, "level_won")  # again: the same fact
    told = {"outcomes": [{"decision_id": decision_id, "kind": "executed"}]}
    refused = page["bakehouse"].post("/outcomes", json=told).json()["rejected"]
    assert "executed_action" in refused[0]["problem"]["detail"]
    assert caplog.text == ""
    page["tell"](decision_id, "level_wno")
    assert "did you mean 'level_won'?" in caplog.text
    page["tell"](f"{decision_id}\n", "level_won")
    assert "decision_id: expected 1 to 128 bytes" in caplog.text
    page["bakehouse"].close()


def test_where_serving_is_away_the_python_lines_answer_by_the_rules_and_tell_nothing() -> None:
    page = python_of_the_page("http://127.0.0.1:9")
    assert page["difficulty"]("player-4711", CONTEXT) == ("normal", None)
    page["tell"](None, "level_won")
    page["bakehouse"].close()


def test_the_same_id_gets_the_same_answer(url: str) -> None:
    from bakehouse_schemas.ids import uuid7

    body = {"subject_id": "player-1", "context": CONTEXT, "decision_id": uuid7()}
    address = f"{url}/v1/applications/level-difficulty/decisions"
    answers = [httpx.post(address, json=body, trust_env=False).json() for _ in range(2)]
    assert answers[0] == answers[1]


def test_the_other_languages_use_the_same_calls_and_fields() -> None:
    for language in ("csharp", "js"):
        text = block(language)
        for word in (
            "decisions",
            "outcomes",
            "subject_id",
            "decision_id",
            "outcome_id",
            "200",
            "rejected",
            "notes",
        ):
            assert word in text, (language, word)
