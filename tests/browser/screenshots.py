"""`python -m tests.browser.screenshots`: pictures of the page over a real demo.

Taken some minutes after the first learned policy answered, so that a busy machine shows it too.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page

from tests.browser.chromium import chromium
from tests.browser.played import played

REPOSITORY = Path(__file__).parents[2]
FOLDER = REPOSITORY / "docs" / "screenshots"
WIDTH, HEIGHT = 1280, 900
FIRST_POLICY_MS = 900_000
COLOURS = 256  # plenty for flat colours, and a third of the size


def opened(browser: Browser, url: str, scheme: str) -> Page:
    page = browser.new_page(
        color_scheme=scheme,  # type: ignore[arg-type]
        viewport={"width": WIDTH, "height": HEIGHT},
        reduced_motion="reduce",
    )
    page.goto(url)
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description="Pictures of the page.")
    parser.add_argument("--minutes", type=float, default=3.0, help="after the first policy")
    parser.add_argument("--application", default="applications/level_difficulty.py")
    parser.add_argument("--rate", type=float, default=100.0, help="decisions a second")
    parser.add_argument("--to", type=Path, default=FOLDER)
    asked = parser.parse_args()
    asked.to.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as home,
        played(str(REPOSITORY / asked.application), Path(home) / "home", rate=asked.rate) as url,
        chromium() as browser,
    ):
        pages = {scheme: opened(browser, url, scheme) for scheme in ("light", "dark")}
        print(f"the page is at {url}; waiting for the first learned policy")
        swap = "#rewards line.swap[data-to]"
        pages["light"].wait_for_selector(swap, state="attached", timeout=FIRST_POLICY_MS)
        print(f"it answers; {asked.minutes:g} minutes more")
        until = time.monotonic() + asked.minutes * 60
        while (left := until - time.monotonic()) > 0:
            pages["light"].wait_for_timeout(min(left, 1.0) * 1000)
        for scheme, page in pages.items():
            path = asked.to / f"page-{scheme}.png"
            Image.open(BytesIO(page.screenshot(full_page=True))).quantize(COLOURS).save(path)
            print(f"{path}: {path.stat().st_size // 1024} KB")


if __name__ == "__main__":
    main()
