"""The files of the page, as serving sends them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bakehouse_serving.api_keys import Authenticator
from bakehouse_serving.dashboard.static_files import FOLDER, read_files
from tests.unit.test_serving_http import Server, is_problem
from tests.unit.test_serving_keys import ADMIN, KEYS, parse_keys


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Server:
    return Server(tmp_path_factory.mktemp("page"), authenticator=Authenticator(parse_keys(KEYS)))


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/docs", "text/html; charset=utf-8"),
        ("/page/main.js", "text/javascript; charset=utf-8"),
        ("/page/style.css", "text/css; charset=utf-8"),
        ("/page/icon.svg", "image/svg+xml"),
        ("/page/vendor/uplot/uPlot.esm.js", "text/javascript; charset=utf-8"),
        ("/page/vendor/uplot/LICENSE", "text/plain; charset=utf-8"),
        ("/page/vendor/swagger-ui/swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
        ("/page/vendor/inter/inter-latin-wght-normal.woff2", "font/woff2"),
    ],
)
def test_every_file_is_open_and_says_what_it_is(server: Server, path: str, media_type: str) -> None:
    answer = server.request("GET", path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)
    assert answer.headers["x-content-type-options"] == "nosniff"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'self';")
    assert "unsafe" not in policy
    assert answer.content


def test_a_file_that_did_not_change_is_not_sent_again(server: Server) -> None:
    tag = server.request("GET", "/page/main.js").headers["etag"]
    again = server.request("GET", "/page/main.js", headers={"If-None-Match": f'"x", W/{tag}'})
    assert (again.status_code, again.content) == (304, b"")
    other = server.request("GET", "/page/main.js", headers={"If-None-Match": '"x"'})
    assert other.status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "nothing.js",
        "",
        "%2e%2e/static_files.py",
        "%2e%2e%2fv1%2fstatus",
        "vendor",
        "/etc/passwd",
    ],
)
def test_what_is_no_file_of_the_page_is_not_found(server: Server, path: str) -> None:
    bearer = {"Authorization": f"Bearer {ADMIN}"}
    is_problem(server.request("GET", f"/page/{path}", headers=bearer), 404)


def test_nothing_is_inline_and_nothing_comes_from_elsewhere() -> None:
    for name, file in read_files().items():
        if name.startswith("vendor/"):
            continue
        text = file.body.decode()
        addresses = set(re.findall(r"(?:https?:)?//[a-z][\w.-]+\.\w+", text))
        assert addresses <= {"http://www.w3.org"}, name
        if name.endswith(".html"):
            assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=", text), name
        if name.endswith(".js"):
            assert not re.search(
                r"innerHTML|outerHTML|insertAdjacentHTML|\beval\b|new Function", text
            )


def test_the_http_interface_is_drawn_by_open_files_of_this_server_alone(server: Server) -> None:
    answer = server.request("GET", "/docs")
    named = re.findall(r'(?:src|href)="([^"]*)"', answer.text)
    assert "/page/vendor/swagger-ui/swagger-ui-bundle.js" in named
    for address in named:
        assert re.match(r"/(?!/)", address), address
        assert server.request("GET", address).status_code == 200, address
    pictures = answer.headers["content-security-policy"].replace("img-src 'self' data:", "")
    assert ":" not in pictures  # no scheme and no address beside those pictures


def test_no_style_of_others_loads_anything_from_elsewhere() -> None:
    for name, file in read_files().items():
        if name.endswith(".css"):
            assert "@import" not in file.body.decode()
            for loaded in re.findall(r"url\(\s*[\"']?([^\"')]{1,40})", file.body.decode()):
                assert loaded.startswith(("data:", "/page/")), f"{name} loads {loaded}"


def test_every_file_that_is_named_is_there() -> None:
    files = read_files()
    for name, file in files.items():
        if name.endswith((".html", ".css")) and not name.startswith("vendor/"):
            for named in re.findall(r"/page/([\w./-]+)", file.body.decode()):
                assert named in files, f"{name} names {named}"
        if name.endswith(".js") and not name.startswith("vendor/"):
            for named in re.findall(r'from "\./([^"]+)"', file.body.decode()):
                assert named in files, f"{name} imports {named}"


def test_the_licences_of_what_is_vendored_are_beside_it() -> None:
    for folder in (one for one in Path(FOLDER, "vendor").iterdir() if one.is_dir()):
        assert (folder / "LICENSE").read_text().strip(), folder
