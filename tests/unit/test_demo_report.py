"""The figures at the end of a demo, from tables and a journal made by hand."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from rich.console import Console

from bakehouse.demo.report import DemoReport, make_report, tell
from bakehouse.demo.watch import PolicyWatch, Published, ReplayWatch
from bakehouse.players.player_thread import world_of
from bakehouse.players.players import AcceptedOutcome, AnsweredDecision, Journal
from bakehouse_schemas.application.exploration import Exploration
from bakehouse_schemas.execution.propensity import executed_distribution, one_hot
from bakehouse_schemas.loading import load_application
from bakehouse_schemas.process.settings import Settings
from bakehouse_schemas.worlds.share import expected_rewards

REF = str(Path(__file__).parents[2] / "applications" / "level_difficulty.py")
LOADED = load_application(REF)
WORLD = world_of(LOADED)
LABELS = LOADED.application.actions.labels
ALL = np.ones(3, dtype=bool)
START_MS = 1_700_000_000_000


def row(number: int, at_ms: int, *, best: bool, cohort: str = "policy") -> dict[str, Any]:
    """A decision at random, or the best there is with ε = 0.1."""
    context = WORLD.context(np.random.default_rng(number))  # type: ignore[call-arg]
    worth = expected_rewards(WORLD, LOADED.application, context)  # type: ignore[arg-type]
    own = one_hot(int(worth.argmax()), 3) if best else np.full(3, 1 / 3)
    executed = executed_distribution(own, ALL, epsilon=0.1, floor=0.01)
    position = {"received_at_ms": at_ms, "topic": "d", "partition": 0, "offset": number}
    return {
        "application": LOADED.application.name,
        "hour": 1,
        "decision_id": f"d{number}",
        "decided_at_ms": at_ms,
        "context": json.dumps(context),
        "eligible_actions": None,
        "items": None,
        "action": json.dumps(LABELS[0]),
        "propensity": float(executed[0]),
        "action_probabilities": json.dumps(dict(zip(LABELS, executed.tolist(), strict=True))),
        "exploration": json.dumps({"kind": "epsilon_greedy", "epsilon": 0.1, "floor": 0.01}),
        "policy_version": int(best),
        "cohort": cohort,
        "positions": [position],
        "contested": False,
        "outcomes": [{"outcome_id": f"o{number}", "positions": [position]}],
    }


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> DemoReport:
    """Two minutes: at random in the first, the best in the second; the holdout at random."""
    home = tmp_path_factory.mktemp("home")
    settings = Settings(home=home)
    rows = [row(n, START_MS + n * 500, best=n >= 120) for n in range(240)]
    rows += [row(n, START_MS + 90_000, best=False, cohort="holdout") for n in range(240, 260)]
    schema = pa.Table.from_pylist(rows).schema
    table = schema.with_metadata(None)
    types = {"eligible_actions": pa.string(), "items": pa.string()}
    fields = [pa.field(f.name, types.get(f.name, f.type)) for f in table]
    write_deltalake(
        str(home / "tables" / "replay"),
        pa.Table.from_pylist(rows, schema=pa.schema(fields)),
        partition_by=["application", "hour"],
    )
    (home / "stream").mkdir()
    account = {"received": 522, "applied": 520, "duplicate": 2}
    account |= {"pending": 0, "orphan": 0, "quarantined": 0, "offsets": {}}
    (home / "stream" / "account.json").write_text(json.dumps(account))
    start_s = START_MS / 1000
    journal = Journal(
        decisions=[
            AnsweredDecision(r["decision_id"], r["decided_at_ms"] / 1000, 0, r["cohort"])
            for r in rows
        ],
        outcomes=[AcceptedOutcome(f"o{n}", f"d{n}", start_s + 70) for n in range(260)],
        first_answers={0: start_s, 1: start_s + 60, 2: start_s + 71.5},
    )
    journal.outcomes.append(AcceptedOutcome("vanished", "d0", start_s + 80))
    name = LOADED.application.name
    replay = ReplayWatch(home / "tables" / "replay", name)
    replay.look()
    policies = PolicyWatch(settings, name)
    policies.pointers = 2
    exploration = Exploration(kind="epsilon_greedy", epsilon=0.1, floor=0.01)
    policies.published = {1: Published(-1, exploration), 2: Published(0, exploration)}
    return make_report(
        LOADED, WORLD, settings, journal, seconds=119.5, replay=replay, policies=policies
    )


def test_each_minute_has_the_share_of_its_own_decisions(report: DemoReport) -> None:
    result = report.as_dict()
    assert result["share"]["first_minute"] == pytest.approx(0.0, abs=1e-6)
    assert result["share"]["last_minute"] == pytest.approx(1.0, abs=1e-6)
    assert result["reward"]["last_minute"] == result["reward"]["best"]
    assert result["reward"]["uniform"] < result["reward"]["baseline"] < result["reward"]["best"]
    assert [round(one or 0.0, 6) for one in report.by_minute] == [0.0, 1.0]


def test_counts_are_of_what_was_acknowledged_and_of_what_the_tables_hold(
    report: DemoReport,
) -> None:
    result = report.as_dict()
    assert (result["decisions"], result["experiences"], result["outcomes"]) == (260, 260, 261)
    assert result["lost"] == 1
    assert report.found.lost_outcomes == ["vanished"]
    assert (result["policies_published"], result["policies_swapped"]) == (2, 2)
    parts = ("applied", "duplicate", "pending", "orphan", "quarantined")
    assert result["received"] == sum(result[part] for part in parts) == 522


def test_freshness_is_followed_through_table_and_manifest(report: DemoReport) -> None:
    # the outcome that is nowhere waited from 80 s to the last answer at 119.5 s
    assert report.freshness.delays_s.max() == pytest.approx(39.5)
    assert report.as_dict()["freshness_s"]["p50"] == 1.5
    assert report.left_version_0_after_s == 60.0


def test_the_report_is_one_line_of_json(report: DemoReport) -> None:
    assert json.loads(json.dumps(report.as_dict(), allow_nan=False)) == report.as_dict()


def test_a_person_is_told_what_was_learned_and_what_was_lost(report: DemoReport) -> None:
    page = io.StringIO()
    tell(report, Console(file=page, width=100), home=Path("somewhere"))
    said = page.getvalue()
    assert "After 1 min 0 s a learned policy took over" in said
    assert "Received 522 records = 520 applied + 2 duplicate" in said
    assert "does not add up" not in said
    assert "1 outcomes were acknowledged and are in no table" in said.replace("\n", " ")
    assert "minute by minute: 0%  100%" in said


def test_without_a_learned_policy_what_answered_is_called_by_its_name(report: DemoReport) -> None:
    page = io.StringIO()
    by_rules = replace(report, left_version_0_after_s=None, account=dict.fromkeys(report.account))
    tell(by_rules, Console(file=page, width=100), home=Path("somewhere"))
    said = " ".join(page.getvalue().split())
    assert "answered throughout: no policy had learned enough to leave them" in said
    assert "the rules, exploring, last minute" in said
    assert "the policy, last minute" not in said
    assert "waits in Kafka, and the next start in this home reads it" in said
