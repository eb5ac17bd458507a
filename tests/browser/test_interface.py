"""The HTTP interface at `/docs` in a real browser, over serving's own application behind keys."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, expect

from bakehouse_serving.api_keys import Authenticator
from tests.browser.watched import Watched
from tests.unit.test_serving_http import Server
from tests.unit.test_serving_keys import ADMIN, KEYS, parse_keys


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = Server(
        tmp_path_factory.mktemp("interface"), authenticator=Authenticator(parse_keys(KEYS))
    )
    with server.listening() as address:
        yield address
    server.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_route_is_listed_and_can_be_tried_and_no_other_host_is_asked(
    browser: Browser, url: str, scheme: str
) -> None:
    described = httpx.get(f"{url}/openapi.json", trust_env=False).json()["paths"]
    page = browser.new_page(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_default_timeout(15_000)
    watched = Watched(page)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{url}/docs")

    listed = page.locator(".opblock")
    expect(listed).to_have_count(sum(len(operations) for operations in described.values()))
    paths = page.locator(".opblock-summary-path")
    assert set(paths.evaluate_all("all => all.map(one => one.dataset.path)")) == set(described)
    ground = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground))) > 3 * 128) == (scheme == "light")

    page.get_by_role("button", name="Authorize").click()
    page.get_by_label("Value").fill(ADMIN)
    page.get_by_role("button", name="Apply credentials").click()
    page.get_by_role("button", name="Close").last.click()
    tried = page.locator('.opblock:has([data-path="/v1/applications"])')
    tried.get_by_role("button").first.click()
    tried.get_by_role("button", name="Try it out").click()
    tried.get_by_role("button", name="Execute").click()
    expect(tried.locator(".live-responses-table")).to_contain_text("levels")

    assert f"{url}/v1/applications" in asked
    assert all(address.startswith(f"{url}/") for address in asked), asked
    assert watched.problems() == []
    page.close()
