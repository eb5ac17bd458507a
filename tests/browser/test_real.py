"""The page over a whole real stack: what it shows is what really happened."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from bakehouse_schemas.ids import uuid7
from tests.browser.graffiti import LAST, LIKED, SPRAY, WALLS
from tests.browser.played import played
from tests.browser.watched import Watched
from tests.waiting import wait_until

FIRST_MS = 400_000  # Spark and TensorFlow start, players play, decisions mature, policies are made
PATIENCE_MS = 30_000
SEEN_WITHIN_MS = 5_000

pytestmark = [pytest.mark.full, pytest.mark.timeout(600)]


class Game:
    """The game's side of it."""

    def __init__(self, url: str) -> None:
        self._url = f"{url}/v1/applications/graffiti"
        self._http = httpx.Client(timeout=30, trust_env=False)

    def close(self) -> None:
        self._http.close()

    def get(self, what: str) -> Any:
        return self._http.get(f"{self._url}/{what}").raise_for_status().json()

    def outcomes(self, decision_id: str) -> list[Any]:
        """That are known to have met it; none while the decision itself is on its way."""
        answer = self._http.get(f"{self._url}/decisions/{decision_id}")
        if answer.status_code == 404:
            return []
        found: list[Any] = answer.raise_for_status().json()["outcomes"]
        return found

    def decide(self, subject: str) -> dict[str, Any]:
        body = {
            "decision_id": uuid7(),
            "subject_id": subject,
            "context": {LAST: f"somewhere{SPRAY}", "hour": 4.5},
        }
        answer = self._http.post(f"{self._url}/decisions", json=body)
        found: dict[str, Any] = answer.raise_for_status().json()
        return found

    def tell(self, decision_id: str) -> None:
        outcome = {"decision_id": decision_id, "name": LIKED}
        answer = self._http.post(f"{self._url}/outcomes", json={"outcomes": [outcome]})
        assert answer.raise_for_status().json()["accepted"] == 1

    def cohorts(self, n: int = 20) -> set[str]:
        return {self.decide(f"simulated-visitor-{i}")["cohort"] for i in range(n)}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("page") / "home"
    with played(str(Path(__file__).with_name("graffiti.py")), home, rate=60) as address:
        yield address


@pytest.fixture(scope="module")
def game(url: str) -> Iterator[Game]:
    one = Game(url)
    yield one
    one.close()


@pytest.fixture(scope="module")
def watched(browser: Browser, url: str) -> Iterator[Watched]:
    """One page for all, as somebody would leave it open."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(PATIENCE_MS)
    seen = Watched(page)
    # When each swap's line came to be, by the clock that serving uses too.
    page.add_init_script("""
      window.lines = {};
      new MutationObserver(() => {
        for (const line of document.querySelectorAll("#rewards line.swap[data-to]"))
          lines[line.dataset.to] ??= Date.now();
      }).observe(document, {subtree: true, childList: true});
    """)
    page.goto(url)
    page.wait_for_selector("#rewards svg.over", state="attached", timeout=FIRST_MS)
    yield seen
    page.close()


@pytest.fixture
def page(watched: Watched) -> Page:
    return watched.page


def test_it_loads_with_nothing_to_complain_about_and_figures_move(
    watched: Watched, page: Page
) -> None:
    page.wait_for_selector('#live[data-state="live"]')
    assert "graffiti" in watched.text("#sentence")
    expect(page.locator("#verdict .simulated")).to_be_visible()
    before = watched.text(".tile:nth-child(2)")
    watched.wait(
        "before => document.querySelector('.tile:nth-child(2)').innerText !== before", before
    )
    assert page.locator("#pipe button").count() == 7
    assert watched.problems() == []


def test_a_policy_swap_is_a_line_within_five_seconds(page: Page, game: Game) -> None:
    began_ms = int(time.time() * 1000)

    def fresh() -> list[dict[str, Any]]:
        return [
            swap
            for swap in game.get("policy")["history"]
            if swap["at_ms"] > began_ms and swap["to"] > swap["from"]
        ]

    wait_until(lambda: bool(fresh()), "a learned policy is swapped in", patience_s=200)
    swap = fresh()[0]
    page.wait_for_function("to => lines[to]", arg=swap["to"])
    assert page.evaluate("to => lines[to]", swap["to"]) - swap["at_ms"] < SEEN_WITHIN_MS


def test_a_kill_and_a_revival_really_change_the_answers(page: Page, game: Game) -> None:
    assert "policy" in game.cohorts()
    change(page, "Kill…", f"it is a test{SPRAY}")
    page.wait_for_selector('#verdict .chip[data-state="killed"]')
    assert game.cohorts() <= {"fallback", "holdout"}
    assert game.get("policy")["control"]["why"] == f"it is a test{SPRAY}"
    change(page, "Revive…", f"it was a test{SPRAY}")
    page.wait_for_selector('#verdict .chip:not([data-state="killed"])')
    assert "policy" in game.cohorts()
    first = page.locator("#control .audit tbody tr").first
    expect(first).to_contain_text("revive")
    expect(first).to_contain_text(SPRAY)


def change(page: Page, button: str, why: str) -> None:
    page.get_by_role("button", name=button).click()
    page.fill('dialog [name="confirm"]', "graffiti")
    page.fill('dialog [name="why"]', why)
    page.fill('dialog [name="by"]', SPRAY)
    page.keyboard.press("Enter")
    expect(page.locator("dialog .result")).to_contain_text("Done.", timeout=PATIENCE_MS)
    page.get_by_role("button", name="Close").click()


def test_the_inspector_explains_a_decision_that_was_really_made(
    watched: Watched, page: Page, game: Game
) -> None:
    subject = f"player-4711{SPRAY}"
    answer = game.decide(subject)
    game.tell(answer["decision_id"])
    wait_until(lambda: bool(game.outcomes(answer["decision_id"])), "the outcome met its decision")
    page.fill('#inspector [name="decision"]', answer["decision_id"])
    page.keyboard.press("Enter")
    story = page.locator("#inspector .story")
    story.locator(".sentences li").first.wait_for()
    for said in (answer["action"], subject, LIKED, LAST, f"somewhere{SPRAY}"):
        expect(story).to_contain_text(said)
    expect(story).to_contain_text("exactly equal")


def test_what_the_game_sends_is_shown_as_text_in_every_section(
    watched: Watched, page: Page
) -> None:
    for part in ("rewards", "actions", "trust", "inspector", "control"):
        expect(page.locator(f"#{part}")).to_contain_text(SPRAY, timeout=FIRST_MS)
    for wall in WALLS:
        expect(page.locator("#actions .board")).to_contain_text(wall)
    assert page.locator("#main img, #main script").count() == 0
    assert page.evaluate("window.executed") == 0
    assert watched.problems() == []
