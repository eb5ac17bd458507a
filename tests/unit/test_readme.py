"""What the README, and the pages that it leads to, say can be copied and works."""

import inspect
import json
import random
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from typer.main import get_command

import bakehouse
from bakehouse.cli import app
from bakehouse_schemas.application.application import Application
from bakehouse_schemas.ids import uuid7
from bakehouse_schemas.loading import load_application
from bakehouse_schemas.process.settings import Settings
from bakehouse_schemas.replay.fold import fold_rows
from bakehouse_stream.kafka.decode import Decoder, Record
from bakehouse_stream.tables.tables import Table, create_tables, open_table
from tests.faults.oracle import Experience, Sent, folded
from tests.stream_events import APPLICATION, decision, outcome

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
OPERATING, OFFLINE, EVALUATION, READING, WRITING, ROLLOUT = (
    (ROOT / "docs" / f"{name}.md").read_text()
    for name in (
        *("operating", "offline-workbench", "evaluation", "reading-the-data"),
        *("writing-an-application", "safe-rollout"),
    )
)
MOST_LINES = 170


def blocks(language: str, page: str = README) -> str:
    return "\n".join(re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL))


def commands(page: str) -> list[str]:
    return re.findall(r"uv run bakehouse ([^#\n]+)", blocks("sh", page))


@pytest.mark.parametrize(
    "line",
    [line for page in (README, OPERATING, OFFLINE, EVALUATION, WRITING) for line in commands(page)],
)
def test_a_command_of_these_pages_is_one_that_the_command_line_takes(line):
    name, *arguments = shlex.split(line)
    group = get_command(app)
    command = group.commands[name]  # type: ignore[attr-defined]
    assert command.make_context(name, arguments).info_name == name


@pytest.mark.parametrize(
    ("page", "names"),
    [
        (README, {"demo", "init", "check", "up"}),
        (OPERATING, {"status", "kill", "revive", "explain"}),
        (OFFLINE, {"train", "compare", "tune", "fit-world", "advise"}),
        (EVALUATION, {"evaluate"}),
    ],
    ids=["README", "operating", "offline-workbench", "evaluation"],
)
def test_a_page_shows_the_commands_that_it_is_about(page, names):
    assert {line.split()[0] for line in commands(page)} >= names


def test_the_readme_is_short():
    assert len(README.splitlines()) <= MOST_LINES


def test_the_page_of_the_readme_is_an_application(tmp_path):
    page = tmp_path / "my_game.py"
    page.write_text(blocks("python"))
    loaded = load_application(str(page)).application
    assert isinstance(loaded, Application)
    assert loaded.baseline_action({"skill": 0.5}) == "normal"


SAID = re.findall(
    r"`((?:actions|exploration|reward|compression|baseline|problem|hydrate)=.*?)`", WRITING
)


@pytest.mark.parametrize("line", SAID)
def test_what_an_application_may_say_can_be_said(line):
    names = {name: getattr(bakehouse, name) for name in bakehouse.__all__}
    [(field, value)] = eval(f"dict({line})", names).items()
    assert value is not None and field in inspect.signature(Application).parameters


def test_the_page_about_applications_says_something_of_each_kind():
    assert {line.partition("=")[0] for line in SAID} >= {"actions", "exploration", "reward"}


def test_what_safe_rollout_writes_fits_into_the_application_of_the_readme():
    names = {name: getattr(bakehouse, name) for name in bakehouse.__all__}
    lines = blocks("python", ROLLOUT).removeprefix("application = Application(\n")
    page = re.sub(r"    rollout=.*\n\)\n", lambda _: lines, blocks("python"))
    exec(page.replace('"quit": -2.0', '"quit": -2.0, "bought": 1.0'), names)
    application = names["application"]
    assert isinstance(application, Application)
    assert (application.mode, len(application.gate.guardrails)) == ("apprentice", 2)


def test_ci_runs_the_test_command_of_the_readme():
    assert "uv run pytest\n" in blocks("sh")
    assert "\nuv run pytest\n" in (ROOT / ".ci" / "run").read_text()


QUERY = re.search(r"uv run python - <<'EOF'\n(.*?)\nEOF\n", READING, re.DOTALL)
TOLD = [{}, {"value": 2.5}, {"name": "lost", "value": -1.0}, {"kind": "end", "name": None}]


def sent_by_a_game() -> list[Sent]:
    """Decisions that are repeated, or drawn again, with no outcome or many, in any order."""
    draw = random.Random(7)
    events = []
    for number in range(120):
        one = decision(uuid7(), action=draw.choice(["easy", "hard"]))
        events.append(("decisions", one))
        for _ in range(draw.choice([0, 0, 1])):
            events.append(("decisions", one | draw.choice([{}, {"propensity": 0.25}])))
        for nth in range(draw.choice([0, 1, 1, 3])):
            for _ in range(draw.choice([1, 1, 2])):  # told again, and not always the same
                changes = draw.choice(TOLD)
                if changes.get("kind") == "end":
                    changes = changes | {"value": None}
                told = outcome(one["decision_id"], f"{number}-{nth}", **changes)
                events.append(("outcomes", told))
    draw.shuffle(events)
    now_ms = time.time_ns() // 1_000_000
    return [Sent(now_ms + n // 3, topic, 0, n, event) for n, (topic, event) in enumerate(events)]


def appended(sent: list[Sent]) -> Iterator[list[dict]]:
    """Batches as stream appends them: decisions, and pairs as soon as both have come."""
    decoder = Decoder({APPLICATION.name: APPLICATION}, "decisions")
    records = [
        Record(one.topic, 0, one.offset, one.received_at_ms, None, json.dumps(one.event).encode())
        for one in sent
    ]
    decisions = [record for record in records if record.topic == "decisions"]
    outcomes = [record for record in records if record.topic == "outcomes"]
    came = [(one.offset, row) for one in decisions for row in decoder.single(one)]
    came += [
        (max(one.offset, told.offset), row)
        for one in decisions
        for told in outcomes
        for row in decoder.pair(one, told)  # none where it is of another decision
    ]
    rows = [row["replay"] for _, row in sorted(came, key=lambda one: one[0])]
    for first in range(0, len(rows), 50):
        yield rows[first : first + 50]


def compact_older_half(table: Table) -> None:
    """What compaction leaves: each decision of the older files once, the newer as they came."""
    older = sorted(table.files(), key=lambda file: file.modified_ms)[: len(table.files()) // 2]
    rows = table.read(older, table.schema.names).to_pylist()
    table.drop(older, now_ms=1)
    table.append(pa.Table.from_pylist(list(fold_rows(rows).values()), schema=table.schema))


def by_action(experiences: list[Experience]) -> dict[str, tuple[int, int, float]]:
    """Action → decisions, contested ones, mean of what the outcomes of the others said."""
    found = {}
    for action in ("easy", "hard"):
        here = [one for one in experiences if json.loads(one.says)["action"] == action]
        values = [
            sum(
                said["value"]
                for said in (json.loads(told.says) for told in one.outcomes.values())
                if said["kind"] == "reward"
            )
            for one in here
            if not one.contested
        ]
        found[action] = len(here), len(here) - len(values), sum(values) / len(values)
    return found


def test_the_query_of_reading_the_data_counts_each_decision_and_each_outcome_once(tmp_path):
    sent = sent_by_a_game()
    expected = by_action(list(folded(sent, decisions="decisions").values()))
    assert all(contested for _, contested, _ in expected.values())
    settings = Settings(home=tmp_path / ".bakehouse")
    create_tables(settings, first_offsets={})
    table = open_table(settings, "replay")
    for rows in appended(sent):
        table.append(pa.Table.from_pylist(rows, schema=table.schema))
        table.append(pa.Table.from_pylist(rows[:5], schema=table.schema))  # a batch that died
    assert sum(file.rows for file in table.files()) > 2 * 120
    for compacted in (False, True):
        if compacted:
            compact_older_half(table)
        assert query_of_the_page(tmp_path) == {
            action: (decisions, contested, pytest.approx(mean))
            for action, (decisions, contested, mean) in expected.items()
        }, f"compacted: {compacted}"


def query_of_the_page(folder: Path) -> dict[str, tuple[int, int, float]]:
    """What it shows, where it is copied into a shell in `folder`."""
    assert QUERY is not None
    done = subprocess.run(
        [sys.executable, "-"], input=QUERY[1], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.stdout.splitlines()]
    return {
        row[1]: (int(row[2]), int(row[3]), float(row[4]))
        for row in rows
        if row and row[0] == APPLICATION.name
    }
