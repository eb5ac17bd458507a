"""One browser for all; a stage and a fresh page for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.chromium import NoBrowser, chromium
from tests.browser.stage import Stage, StageServer
from tests.browser.watched import Watched
from tests.machine import lacks

PATIENCE_MS = 8_000


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with ExitStack() as running:
        try:
            one = running.enter_context(chromium())
        except NoBrowser as error:
            lacks(str(error))
        yield one


@pytest.fixture(scope="package")
def server() -> Iterator[StageServer]:
    one = StageServer(Stage())
    yield one
    one.stop()


@pytest.fixture
def stage(server: StageServer) -> Stage:
    fresh = Stage()
    server.stage.__dict__.update(fresh.__dict__)
    return server.stage


@pytest.fixture
def visit(browser: Browser, server: StageServer, stage: Stage) -> Iterator[Callable[..., Watched]]:
    """Opens the page in a browser of its own: `visit("#/levels", scheme="dark", width=390)`."""
    opened: list[Page] = []

    def go(
        address: str = "", *, scheme: str = "light", width: int = 1280, height: int = 900
    ) -> Watched:
        context = browser.new_context(
            color_scheme=scheme,  # type: ignore[arg-type]
            viewport={"width": width, "height": height},
        )
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        opened.append(page)
        watched = Watched(page)
        page.goto(f"{server.url}/{address}")
        return watched

    yield go
    for page in opened:
        page.context.close()
