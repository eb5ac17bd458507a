"""The page at `/` in a real browser, over scripted figures: what is shown, and how it is told."""

from __future__ import annotations

import re
import time

import pytest
from playwright.sync_api import expect

from tests.browser import scripted
from tests.browser.stage import Stage, StageServer
from tests.browser.watched import Visit, drawn, live

ADMIN = "admin-key-0123456789"
ATTACK = "<img src=x onerror=executed++><script>executed++</script>"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_loads_with_nothing_to_complain_about(visit: Visit, scheme: str) -> None:
    watched = visit(scheme=scheme)
    page = drawn(watched)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground))) > 3 * 128) == (scheme == "light")
    assert page.evaluate("document.fonts.check('16px Inter')")
    assert watched.problems() == []


def test_the_toggle_wins_over_the_system_and_is_remembered(visit: Visit) -> None:
    page = live(visit(scheme="light"))
    page.click("#theme")
    page.click("#theme")
    assert page.text_content("#theme") == "Theme: dark"
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.reload()
    page.wait_for_selector('#live[data-state="live"]')
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark


def test_tiles_move_while_decisions_are_made(visit: Visit) -> None:
    watched = visit()
    page = live(watched)
    before = watched.text(".tile:nth-child(2)")
    watched.wait(
        "before => document.querySelector('.tile:nth-child(2)').innerText !== before", before
    )
    assert page.locator(".tile").count() == 6


def test_every_tile_says_what_it_means_when_it_is_focused(visit: Visit) -> None:
    page = live(visit())
    for tile in page.locator(".tile").all():
        expect(tile.locator(".tip")).to_be_hidden()
        page.keyboard.press("Tab")  # so that focus counts as the keyboard's
        tile.focus()
        expect(tile.locator(".tip")).to_be_visible()
        page.keyboard.press("Escape")
        expect(tile.locator(".tip")).to_be_hidden()


def test_one_application_is_shown_at_once_and_several_as_a_list(visit: Visit, stage: Stage) -> None:
    assert "levels earns" in visit_text(visit, "#sentence")
    stage.names = ["levels", "shop-shelf"]
    watched = visit()
    page = watched.page
    page.get_by_role("link", name="shop-shelf").click()
    page.wait_for_selector("#verdict .chip[data-state]")
    assert page.url.endswith("#/shop-shelf")
    assert "shop-shelf" in page.title()
    page.get_by_role("link", name="All applications").click()
    page.get_by_role("link", name="levels", exact=True).wait_for()
    assert watched.problems() == []


def visit_text(visit: Visit, selector: str) -> str:
    watched = visit()
    live(watched)
    return watched.text(selector)


def test_each_state_of_the_verdict_has_a_word_and_a_shape_of_its_own(
    visit: Visit, stage: Stage
) -> None:
    watched = visit()
    live(watched)
    seen = set()
    for state, sentence in scripted.SENTENCES.items():
        stage.state = state
        chip = watched.page.wait_for_selector(f'#verdict .chip[data-state="{state}"]')
        assert chip is not None
        watched.wait("t => document.querySelector('#sentence').innerText === t", sentence)
        mark = watched.page.locator("#verdict .chip svg").first
        seen.add((chip.inner_text(), mark.inner_html()))
        expect(watched.page.locator("#announce")).to_contain_text(sentence[:20])
    assert len({word for word, _ in seen}) == len({shape for _, shape in seen}) == 8
    assert "Simulated players" in watched.text("#verdict")
    assert watched.problems() == []


def test_a_command_in_what_to_do_next_is_shown_as_code_as_it_is_written(visit: Visit) -> None:
    watched = visit()
    live(watched)
    then = watched.page.locator("#verdict .next")
    expect(then).to_have_text("bakehouse logs broker, or raise the holdout ` of.")
    expect(then.locator("code")).to_have_text("bakehouse logs broker")
    assert watched.text("#verdict .next").startswith("bakehouse")  # innerText: as it is shown


def test_outcomes_that_nobody_learns_from_stand_below_the_verdict_by_name(
    visit: Visit, stage: Stage
) -> None:
    watched = visit()
    live(watched)
    mistakes = watched.page.locator("#verdict .mistakes")
    expect(mistakes.locator("li")).to_have_count(0)
    stage.uncounted, stage.rejected = True, 1
    lines = mistakes.locator("li")
    expect(lines.first).to_have_text(
        "412 outcomes are not counted: revenue × 400 (did you mean revenue_usd?), shop × 12"
    )
    expect(lines.last).to_have_text("1 outcome was rejected: the answers to the game say why")
    assert watched.problems() == []


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("discrete", [".stack polygon", ".board-whisker .reach"]),
        ("continuous", [".histogram .bar-policy", ".histogram .outline-holdout"]),
        ("parts", [".stack polygon", ".board-whisker .mean-mark", ".histogram .bar-policy"]),
        ("ranking", [".probability .executed"]),
    ],
)
def test_every_kind_of_actions_is_drawn(
    visit: Visit, stage: Stage, kind: str, found: list[str]
) -> None:
    stage.kind = kind
    watched = visit()
    page = drawn(watched)
    for selector in found:
        expect(page.locator(f"#actions {selector}").first).to_be_attached()
    if ".board-whisker .reach" in found:
        expect(page.locator("#actions")).to_contain_text("Raw means mislead")
    assert watched.problems() == []


def test_shares_are_shown_by_version_too(visit: Visit) -> None:
    page = drawn(visit())
    page.get_by_role("button", name="by version").click()
    assert page.locator("#actions .versions li").count() == 12


def test_of_many_actions_the_most_chosen_have_colours_and_the_others_share_one(
    visit: Visit, stage: Stage
) -> None:
    stage.kind = "many"
    page = drawn(visit())
    expect(page.locator("#actions .board tbody tr")).to_have_count(24)
    expect(page.locator("#actions .area")).to_have_count(8)
    expect(page.locator("#actions .tags")).to_contain_text("(others) 70%")  # with 17 of 24
    most_chosen = page.locator("#actions tr", has_text="offer 23")
    expect(most_chosen.locator(".swatch.s0")).to_be_visible()
    page.get_by_role("button", name="by version").click()
    expect(page.locator("#actions .versions li").first).to_contain_text("(others) 71%")


def test_a_swap_becomes_a_line_and_candidates_that_were_refused_are_hollow(
    visit: Visit, stage: Stage
) -> None:
    watched = visit()
    page = drawn(watched)
    assert page.locator("#rewards line.swap[data-to]").count() == 12
    assert page.locator("#rewards .over .candidate").count() == 14
    assert page.locator("#rewards .over .candidate.hollow").count() == 4
    last = scripted.START_MS + 900_000
    stage.swaps = [{"at_ms": last, "from": 12, "to": 99, "killed": False, "why": ""}]
    page.wait_for_selector('#rewards line.swap[data-to="99"]', state="attached")
    page.get_by_role("button", name=re.compile("^Random")).click()
    assert page.locator('.legend [aria-pressed="false"]').count() == 1
    assert watched.problems() == []


def test_a_policy_opens_to_the_rules_of_the_gate_and_stays_open(visit: Visit, stage: Stage) -> None:
    watched = visit()
    page = drawn(watched)
    button = page.locator("#policies .open", has_text="v12")
    button.focus()
    page.keyboard.press("Enter")
    details = page.locator("#policies tr.details:not([hidden])")
    expect(details).to_contain_text("lower bound")
    expect(details.locator('.level[data-level="blocked"]')).to_contain_text("failed")
    expect(details.locator('.level[data-level="ok"]')).to_contain_text("passed")
    stage.evil = " and more"  # a new insight is drawn over it
    expect(details).to_contain_text("lower bound and more")
    expect(button).to_be_focused()


def test_a_stage_of_the_pipe_says_what_it_means_and_what_to_do(visit: Visit) -> None:
    page = live(visit())
    stages = page.locator("#pipe button")
    assert stages.count() == 7
    levels = set(page.locator("#pipe .level").all_inner_texts())
    assert levels == {"ok", "busy", "blocked", "unknown"}
    page.locator('#pipe [data-stage="learner"]').focus()
    page.keyboard.press("Enter")
    expect(page.locator("#pipe-detail")).to_contain_text("What to do about learner")
    page.keyboard.press("Escape")
    expect(page.locator("#pipe-detail")).to_be_hidden()
    expect(page.locator('#pipe [data-stage="learner"]')).to_be_focused()


def test_what_a_game_sends_is_shown_as_text_wherever_it_stands(visit: Visit, stage: Stage) -> None:
    stage.evil = ATTACK
    stage.entries = [
        {"at_ms": 1, "action": "kill", "by": ATTACK, "why": ATTACK, "changed": {"pin": [1, ATTACK]}}
    ]
    watched = visit(f"#/levels/decision/{scripted.DECISION}")
    page = drawn(watched)
    page.wait_for_selector("#inspector .sentences li")
    page.locator("#policies .open").first.click()
    page.locator("#pipe button").first.click()
    page.locator("#control .audit tbody tr").first.wait_for()
    for part in ("rewards", "actions", "policies", "pipe", "trust", "inspector", "control"):
        assert ATTACK in (page.text_content(f"#{part}") or ""), part
    for kind in ("continuous", "parts"):
        stage.kind = kind
        name = {"continuous": "health", "parts": "What each is worth: tone"}[kind]
        expect(page.locator("#actions h3", has_text=name + ATTACK).first).to_be_visible()
    assert page.locator("#main img, #main script").count() == 0
    assert page.evaluate("window.executed") == 0
    assert watched.problems() == []


def test_the_inspector_explains_a_decision_and_has_an_address(visit: Visit) -> None:
    watched = visit()
    page = live(watched)
    page.fill('#inspector [name="decision"]', f" {scripted.DECISION.upper()} ")
    page.keyboard.press("Enter")
    expect(page.locator("#inspector .story h3")).to_contain_text("Got hard")
    expect(page.locator("#inspector .chosen")).to_contain_text("drawn")
    assert page.url.endswith(f"#/levels/decision/{scripted.DECISION}")
    assert watched.problems() == []
    page.fill('#inspector [name="decision"]', "nothing-of-the-kind")
    page.keyboard.press("Enter")
    expect(page.locator("#inspector .wrong:visible")).to_contain_text("is not known here")


def test_it_says_that_it_reconnects_and_goes_on_where_the_server_comes_back(
    visit: Visit, server: StageServer
) -> None:
    page = live(visit())
    server.stop()
    page.wait_for_selector('#live[data-state="reconnecting"]')
    expect(page.locator("#live")).to_contain_text("Reconnecting…")
    server.start()
    page.wait_for_selector('#live[data-state="live"]')


def test_nothing_is_asked_for_while_nobody_looks(visit: Visit, stage: Stage) -> None:
    page = live(visit())
    hide = """hidden => {
      Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(hide, True)
    page.wait_for_selector('#live[data-state="paused"]')
    opened = stage.listeners
    page.evaluate(hide, False)
    page.wait_for_selector('#live[data-state="live"]')
    assert stage.listeners == opened + 1


@pytest.mark.parametrize("kind", scripted.KINDS)
def test_a_small_screen_needs_no_horizontal_scrolling(
    visit: Visit, stage: Stage, kind: str
) -> None:
    stage.kind = kind
    page = drawn(visit(f"#/levels/decision/{scripted.DECISION}", width=390, height=844))
    page.wait_for_selector("#inspector .sentences li")
    page.locator("#policies .open").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for table in page.locator("#actions .scroll, #policies .scroll").all():
        assert table.evaluate("e => e.scrollWidth <= e.clientWidth"), table.inner_text()


def test_a_small_screen_says_of_each_application_how_it_goes(visit: Visit, stage: Stage) -> None:
    long = "a-name-that-somebody-wanted-to-be-longer-than-a-telephone-is-wide"
    stage.names = ["levels", "shop-shelf", long]
    page = visit(width=390, height=844).page
    page.locator(".list tbody tr").nth(2).wait_for()
    for row in page.locator(".list tbody tr").all():
        row.scroll_into_view_if_needed()
        for part in (row.get_by_role("link"), row.locator(".chip").first, row.locator(".sentence")):
            expect(part).to_be_in_viewport(ratio=1)
        expect(row.get_by_role("cell").last).to_be_in_viewport(ratio=1)
    page.get_by_role("link", name=long).click()
    expect(page.locator("#where")).to_be_in_viewport(ratio=1)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_everything_that_can_be_done_has_a_name_and_sections_are_landmarks(visit: Visit) -> None:
    page = drawn(visit())
    for button in page.locator("button:visible, a:visible, input:visible").all():
        name = button.evaluate(
            "e => e.ariaLabel || e.innerText || (e.labels && e.labels[0]?.innerText) || ''"
        )
        assert name.strip(), button.evaluate("e => e.outerHTML")
    for part in ("verdict", "rewards", "actions", "policies", "pipe", "trust", "inspector"):
        labelled = page.get_attribute(f"#{part}", "aria-labelledby")
        assert page.locator(f"#{labelled}").count() == 1
    page.get_by_role("link", name="Trust").click()
    expect(page.locator("#trust")).to_be_focused()


def test_the_page_is_open_without_a_key_and_its_figures_are_not(
    visit: Visit, stage: Stage, server: StageServer
) -> None:
    stage.lock(f"admin:{ADMIN}")
    began = time.monotonic()
    page = visit().page
    page.get_by_role("dialog").wait_for()
    page.keyboard.press("Escape")
    expect(page.locator("#live")).to_contain_text("Locked")
    expect(page.locator("#main")).to_contain_text("This server is locked")
    assert stage.listeners == 0
    assert time.monotonic() - began < 8
