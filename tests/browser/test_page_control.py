"""The buttons of the page in a real browser, over scripted figures: what each sends, and when."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.browser.stage import Stage
from tests.browser.watched import Visit, live

ADMIN, READER = "admin-key-0123456789", "decide-key-0123456789"


def test_a_kill_and_its_revival_need_nothing_but_the_keyboard(visit: Visit, stage: Stage) -> None:
    watched = visit()
    page = live(watched)
    page.keyboard.press("Tab")
    expect(page.locator("#skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    for verb, state in (("kill", "killed"), ("revive", "winning")):
        walk_to(page, f'.controls [data-verb="{verb}"]')
        page.keyboard.press("Enter")
        expect(page.locator('dialog [name="confirm"]')).to_be_focused()
        page.keyboard.type("levels")
        page.keyboard.press("Tab")
        page.keyboard.type("it's a $HOME test")
        command = f"bakehouse {verb} --application levels --why 'it'\\''s a $HOME test'"
        expect(page.locator("dialog [data-command]")).to_contain_text(command)
        page.keyboard.press("Tab")
        page.keyboard.type("ada")
        page.keyboard.press("Enter")
        expect(page.locator("dialog .result")).to_contain_text("Done.")
        expect(page.get_by_role("button", name="Close")).to_be_focused()
        page.keyboard.press("Enter")
        page.wait_for_selector(f'#verdict .chip[data-state="{state}"]')
        expect(page.locator("#control .audit tbody tr").first).to_contain_text(verb)
        expect(page.locator(".controls button:focus")).to_be_attached()
    body = {"why": "it's a $HOME test", "by": "ada"}
    assert stage.posts == [("kill", body), ("revive", body)]
    assert watched.problems() == []


def walk_to(page: Page, selector: str) -> None:
    for _ in range(60):
        if page.evaluate("s => document.activeElement.matches(s)", selector):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"60 times Tab did not lead to {selector}")


def test_what_the_gate_froze_by_itself_is_released_by_the_same_button(
    visit: Visit, stage: Stage
) -> None:
    page = live(visit())
    expect(page.get_by_role("button", name="Freeze…")).to_be_visible()
    stage.gate_frozen = True
    expect(page.get_by_role("button", name="Release…")).to_be_visible()


def test_a_wrong_confirmation_changes_nothing_and_escape_gives_the_focus_back(
    visit: Visit, stage: Stage
) -> None:
    page = live(visit())
    page.get_by_role("button", name="Kill…").click()
    page.fill('dialog [name="confirm"]', "level")
    page.fill('dialog [name="why"]', "because")
    page.keyboard.press("Enter")
    expect(page.locator("dialog")).to_contain_text("That is not “levels”")
    expect(page.locator('dialog [name="confirm"]')).to_have_attribute("aria-invalid", "true")
    page.fill('dialog [name="confirm"]', "levels")
    page.fill('dialog [name="why"]', " ")
    page.keyboard.press("Enter")
    expect(page.locator("dialog")).to_contain_text("Say why")
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_have_count(0)
    expect(page.get_by_role("button", name="Kill…")).to_be_focused()
    assert stage.posts == []


def test_every_control_sends_what_its_command_says(visit: Visit, stage: Stage) -> None:
    page = live(visit())
    for opened, typed, sent, argument in (
        ("Exploration…", "0.2", {"share": 0.2}, "explore 0.2 "),
        ("Exploration…", "", {"share": None}, "explore default "),
        ("Promote…", "12", {"version": 12}, "promote 12 "),
        ("Roll back…", "", {}, "rollback --application"),
        ("Retrain now…", None, {}, "retrain --application"),
        ("Freeze…", None, {}, "freeze --application"),
    ):
        page.get_by_role("button", name=opened).click()
        if typed is not None:
            page.locator("dialog input").first.fill(typed)
        page.fill('dialog [name="confirm"]', "levels")
        page.fill('dialog [name="why"]', "to see")
        expect(page.locator("dialog [data-command]")).to_contain_text(f"bakehouse {argument}")
        page.keyboard.press("Enter")
        expect(page.locator("dialog .result")).to_contain_text("Done.")
        page.get_by_role("button", name="Close").click()
        verb, body = stage.posts[-1]
        assert (verb, body) == (argument.split()[0], {"why": "to see", "by": "the page", **sent})


def test_a_locked_server_is_asked_with_the_key_that_is_typed(visit: Visit, stage: Stage) -> None:
    stage.lock(f"decide:{READER},admin:{ADMIN}")
    page = visit().page
    expect(page.get_by_role("dialog")).to_contain_text("This server is locked")
    page.keyboard.type("not the right one")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text("is not known")
    page.keyboard.type(READER)
    page.keyboard.press("Enter")
    page.wait_for_selector('#live[data-state="live"]')
    page.get_by_role("button", name="Kill…").click()
    page.fill('dialog [name="confirm"]', "levels")
    page.fill('dialog [name="why"]', "because")
    page.keyboard.press("Enter")
    expect(page.locator('dialog [name="key"]')).to_be_focused()
    assert stage.posts == []
    page.keyboard.type(ADMIN)
    page.keyboard.press("Enter")
    expect(page.locator("dialog .result")).to_contain_text("Done.")
    assert [verb for verb, _ in stage.posts] == ["kill"]
