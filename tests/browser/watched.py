"""A page, and whatever its browser complains about."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import ConsoleMessage, Page

# Tells of what the content policy refused, which a console may keep to itself.
_LISTEN = """
window.refusedByPolicy = [];
document.addEventListener("securitypolicyviolation", (event) =>
  refusedByPolicy.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
window.executed = 0;
"""


class Watched:
    """The page, with every error and warning of its console kept."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.add_init_script(_LISTEN)
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")

    def problems(self) -> list[str]:
        """What the console, and the content policy, complained about."""
        refused: list[str] = self.page.evaluate("window.refusedByPolicy")
        return self.complaints + refused

    def text(self, selector: str) -> str:
        return self.page.locator(selector).inner_text()

    def wait(self, condition: str, argument: object = None) -> None:
        """Until an expression of JavaScript is true."""
        self.page.wait_for_function(condition, arg=argument)


Visit = Callable[..., Watched]


def live(watched: Watched) -> Page:
    """The page, once figures have come."""
    watched.page.wait_for_selector('#live[data-state="live"]')
    watched.page.wait_for_selector("#verdict .chip[data-state]")
    return watched.page


def drawn(watched: Watched) -> Page:
    """The page, once the learner's part is drawn too."""
    page = live(watched)
    page.wait_for_selector("#rewards svg.over")
    return page
