"""What the pages say holds: links lead somewhere, commands exist, examples are valid."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.main import get_command

import bakehouse
from bakehouse.cli import app
from bakehouse_schemas.events.events import EVENTS
from bakehouse_schemas.process.settings import Settings

ROOT = Path(__file__).parents[2]
PACKAGES = [
    ROOT / folder / package
    for folder, package in (
        ("bakehouse", "bakehouse"),
        *((part, f"bakehouse_{part}") for part in ("learner", "schemas", "serving", "stream")),
    )
]
PAGES = [
    *sorted((ROOT / "docs").glob("*.md")),
    *(ROOT / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md", "ARCHITECTURE.md")),
]
CONTRACT = (ROOT / "docs" / "event-contract.md").read_text()
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Of the headings, as GitHub makes them: lower case, no punctuation, spaces to dashes."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text()), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file_and_a_heading_of_it(page: Path) -> None:
    text = FENCED.sub("", page.read_text())
    for link in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_relative_to(ROOT) and target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_every_page_of_the_docs_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "README.md" or f"]({page.name})" in index, page.name
    assert "](docs/README.md)" in (ROOT / "README.md").read_text()


def commands() -> list[tuple[str, str]]:
    """(page, words after `bakehouse`) of every command that a page shows."""
    found = []
    for page in PAGES:
        text = page.read_text()
        blocks = "\n".join(re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
        lines = re.findall(r"(?:^|\s)bakehouse ((?!\.)[a-z][^#\n]*)", blocks)
        lines += re.findall(r"`(?:uv run )?bakehouse ([a-z][^`]*)`", FENCED.sub("", text))
        found += [(str(page.relative_to(ROOT)), line.strip()) for line in lines]
    return found


@pytest.mark.parametrize(("page", "line"), sorted(set(commands())))
def test_every_command_that_a_page_shows_is_one_that_the_command_line_takes(
    page: str, line: str
) -> None:
    group = get_command(app)
    known = group.commands  # type: ignore[attr-defined]
    if "|" in line.split()[0]:  # `serve|stream|learn REF…`
        assert set(line.split()[0].split("|")) <= set(known), page
        return
    name, *arguments = shlex.split(line)
    assert name in known, f"{page}: {line}"
    if arguments and not any("…" in word or word.isupper() for word in arguments):
        known[name].make_context(name, arguments)


def test_every_benchmark_and_file_of_tests_that_a_page_names_exists() -> None:
    for page in PAGES:
        text = page.read_text()
        for name in re.findall(r"tests\.bench ([a-z]\w*)", text):
            assert (ROOT / "tests" / "bench" / f"{name}.py").exists(), f"{page.name}: {name}"
        for name in re.findall(r"`(tests/[\w/]+(?:\.py)?)`", text):
            assert (ROOT / name).exists(), f"{page.name}: {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_module_that_a_page_names_exists(page: Path) -> None:
    """As `learner/bakehouse_learner/gate/rules.py`, or as `gate/rules.py` below its package."""
    text = page.read_text()
    paths = set(re.findall(r"`((?:\w+/)+\w+\.py)`", FENCED.sub("", text)))
    paths |= set(re.findall(r"\w+/bakehouse_\w+(?:/[\w.]+)*", text))
    paths |= {
        name.replace(".", "/") + ("" if "." in name else "/__main__.py")
        for name in re.findall(r"python -m ((?:bakehouse_|applications\.|tests\b)[\w.]*\w)", text)
    }
    for path in paths:
        places = [p / path for p in (ROOT, *PACKAGES, *(p.parent for p in PACKAGES))]
        assert any(p.exists() or p.with_suffix(".py").exists() for p in places), path


def test_the_map_names_every_room() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    for package in PACKAGES:
        for room in sorted(package.iterdir()):
            if (room / "__init__.py").exists() and not room.is_symlink():
                assert f"`{room.name}/`" in text, f"{package.name}/{room.name}"
    for name in re.findall(r"`(\w+\.py)`", text):
        assert any((package / name).exists() for package in PACKAGES), name


# --- what is promised between releases


def promised(what: str) -> set[str]:
    """The names of one list of `docs/what-we-keep.md`."""
    text = (ROOT / "docs" / "what-we-keep.md").read_text()
    found = re.search(rf"<!-- {what} -->\n```text\n(.*?)```", text, re.DOTALL)
    assert found is not None, what
    return set(found[1].split())


@pytest.mark.parametrize(
    ("what", "there"),
    [
        ("names", set(bakehouse.__all__)),
        ("settings", set(Settings.model_fields)),
        ("commands", set(get_command(app).commands)),  # type: ignore[attr-defined]
    ],
)
def test_what_we_keep_lists_what_there_is(what: str, there: set[str]) -> None:
    gone = promised(what) - there
    assert not gone, f"promised, and gone: {gone}; see docs/what-we-keep.md before you remove it"
    assert not there - promised(what), "new: add it to docs/what-we-keep.md"


# --- the event contract


def sections() -> dict[str, str]:
    """The text of each event's section, up to its example."""
    parts = re.split(r"<!-- ([\w.-]+) -->", CONTRACT)
    return dict(zip(parts[1::2], parts[0::2], strict=False))


EXAMPLES = dict(re.findall(r"<!-- ([\w.-]+) -->\n```json\n(.*?)```", CONTRACT, re.DOTALL))


def test_every_event_has_an_example() -> None:
    assert set(EXAMPLES) == set(EVENTS)


@pytest.mark.parametrize("event", sorted(EVENTS))
def test_an_example_is_valid_by_the_json_schema_and_by_the_checks(event: str) -> None:
    fields: dict[str, Any] = json.loads(EXAMPLES[event])
    schema = json.loads(
        (ROOT / "schemas/bakehouse_schemas/events/json" / f"{event}.schema.json").read_text()
    )
    jsonschema.validate(fields, schema)
    EVENTS[event].model_validate(fields)
    added = fields | {"something": 1}  # of a later release
    jsonschema.validate(added, schema)
    assert EVENTS[event].model_validate(added).model_dump()["something"] == 1


@pytest.mark.parametrize("event", sorted(EVENTS))
def test_every_field_of_an_event_is_described(event: str) -> None:
    text = sections()[event]
    for name, field in EVENTS[event].model_fields.items():
        assert f"`{field.alias or name}`" in text, name
