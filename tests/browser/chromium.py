"""The browser that tests drive: which one, and how it is started."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Playwright, sync_playwright

COMMANDS = ("chromium", "chromium-browser", "google-chrome")
# No sandbox: CI runs as root in a container, and the only pages are our own. Nothing is fetched
# but what the page asks for.
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
HOW_TO_INSTALL = (
    "no browser was found; install one: `apt-get install -y chromium` (Debian), or "
    "`uv run playwright install chromium`, or name one in BAKEHOUSE_CHROMIUM"
)


class NoBrowser(Exception):
    """There is none on this machine, and nobody said where one would be."""


def find_chromium(playwright: Playwright) -> str:
    """Path of the browser: as named, else on PATH, else Playwright's own.

    Raises:
        NoBrowser: there is none.
        FileNotFoundError: the one that was named is not there.
    """
    if named := os.environ.get("BAKEHOUSE_CHROMIUM"):
        if not Path(named).is_file():
            raise FileNotFoundError(f"BAKEHOUSE_CHROMIUM: there is no file {named}")
        return named
    for command in COMMANDS:
        if (found := shutil.which(command)) is not None:
            return found
    own = playwright.chromium.executable_path
    if not Path(own).is_file():
        raise NoBrowser(HOW_TO_INSTALL)
    return own


@contextmanager
def chromium() -> Iterator[Browser]:
    """A running one."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_chromium(playwright), headless=True, args=ARGUMENTS
        )
        try:
            yield browser
        finally:
            browser.close()
