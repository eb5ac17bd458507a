"""What dashboard and alerts ask for, serving tells; what an alert says can be looked up."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import promql_parser as promql
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from bakehouse_serving.counters import Durations, Timings
from bakehouse_serving.dashboard.metrics import Metrics
from bakehouse_serving.dashboard.status import OUTCOMES
from tests.docker.compose import ROOT
from tests.fakes import publish_policy
from tests.machine import needs
from tests.unit.test_serving_http import ASK, Server

DOCKER = ROOT / "docker"
RULES = yaml.safe_load((DOCKER / "prometheus" / "alerts.yaml").read_text())["groups"]
ALERTS = [rule for group in RULES for rule in group["rules"]]
DASHBOARD = json.loads((DOCKER / "grafana" / "dashboards" / "bakehouse.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
GUIDE = (ROOT / "docs" / "alerts.md").read_text()
OF_PROMETHEUS = {"up"}  # and the labels that it adds itself
LABELS_OF_PROMETHEUS = {"job", "instance"}

NOW_MS = 1_700_000_100_000
STREAM = {
    "part": "stream",
    "process": "7",
    "at_ms": NOW_MS - 4_000,
    "problem": None,
    "lives": 1,
    "batch_ms": {"triggerExecution": 640},
    "kafka_lag_events": 12,
    "replay_version": 345,
    "waiting_outcomes": 2,
    "repaired": 3,
    "account": dict(zip(("received", *OUTCOMES), (105, 90, 4, 6, 3, 1), strict=True)),
}
LEARNER = {
    "part": "learner",
    "process": "8",
    "at_ms": NOW_MS - 9_000,
    "problem": None,
    "applications": {
        "levels": {
            "candidate": 9,
            "experiences": 500,
            "matured": 380,
            "lag_versions": 1,
            "frozen": True,
            "match_rate": 0.9,
            "trainings": 11,
            "published": 7,
            "candidates_refused": 4,
            "problem": "no space left",
        }
    },
}
INSIGHT = {
    "part": "learner",
    "process": "8/insight/levels",
    "at_ms": NOW_MS - 1_000,
    "application": "levels",
    "insight": {
        "lift": {
            "difference": {"mean": 0.2, "lower": 0.1, "upper": 0.3},
            "relative": {"mean": 0.4, "lower": 0.2, "upper": 0.6},
        },
        "outcomes": {"in_time": 300, "late": 20, "never": 60},
        "exploration": {"observed": 0.11, "expected": 0.1, "n": 380},
        "trust": {
            "sample_ratio": {"expected": 0.1, "observed": 0.12, "p_value": 0.25},
            "audit": {"checked": 40, "equal": 39, "different": 0, "unavailable": 1},
            "excluded": {"checked": 380, "violations": 0},
        },
    },
}


def told(server: Server, *heard: dict[str, Any]) -> dict[tuple[str, ...], float]:
    """Name and labels -> value, of a scrape; `heard` are records of `status.v1`."""
    server.report._clock = lambda: NOW_MS / 1000
    server.report._subscriber = SimpleNamespace(  # type: ignore[assignment]
        statuses={f"{each['part']}/{each['process']}": each for each in heard},
        listening=True,
        problem=None,
    )
    text = server.request("GET", "/metrics").text
    return {
        (sample.name, *(f"{name}={value}" for name, value in sorted(sample.labels.items()))): (
            sample.value
        )
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def server(tmp_path: Path) -> Server:
    made = Server(tmp_path)
    made.post("/decisions", ASK)
    return made


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, ...], float]:
    """A scrape while all parts have told all that they can."""
    server = Server(tmp_path_factory.mktemp("serving"))
    server.post("/decisions", ASK)
    pointer = publish_policy(server.policies, server.application, 1, favourite=0)
    server.served.point([pointer], live=True)
    server.post("/decisions", ASK)
    server.report.tick()
    server.served.counters.freshness.add(NOW_MS / 1000, (NOW_MS - 2_000,))
    return told(server, STREAM, LEARNER, INSIGHT)


def selectors(expression: Any) -> Iterator[promql.VectorSelector]:
    found: list[promql.VectorSelector] = []

    def visit(node: Any) -> bool:
        if isinstance(node, promql.VectorSelector):
            found.append(node)
        elif isinstance(node, promql.MatrixSelector):
            found.append(node.vector_selector)
        return True

    promql.walk(expression, visit)
    return iter(found)


EXPRESSIONS = {rule["alert"]: rule["expr"] for rule in ALERTS} | {
    f"{panel['title']} {target['refId']}": target["expr"]
    for panel in PANELS
    for target in panel["targets"]
}


@pytest.mark.parametrize("where", EXPRESSIONS)
def test_what_is_asked_for_is_told(everything, where):
    asked = list(selectors(promql.parse(EXPRESSIONS[where].replace("$application", "levels"))))
    assert asked
    for selector in asked:
        if selector.name in OF_PROMETHEUS:
            continue
        fits = [
            key
            for key in everything
            if key[0] == selector.name
            and all(
                matcher.op != promql.MatchOp.Equal or f"{matcher.name}={matcher.value}" in key
                for matcher in selector.matchers.matchers
            )
        ]
        assert fits, f"{where}: nobody tells {selector.prettify()}"


def test_all_that_is_told_of_other_parts_is_what_they_said(everything):
    one = ("application=levels",)
    for (name, *labels), value in {
        ("part_age_seconds", "part=stream"): 4.0,
        ("part_age_seconds", "part=learner"): 9.0,
        ("part_problem", "part=stream"): 0.0,
        ("part_problem", "part=learner"): 1.0,  # one of its applications has one
        ("stream_batch_seconds",): 0.64,
        ("kafka_lag_events",): 12.0,
        ("replay_version",): 345.0,
        ("positions", "outcome=pending"): 6.0,
        ("positions_unaccounted",): 1.0,  # 105 − 90 − 4 − 6 − 3 − 1
        ("learner_rows", *one): 500.0,
        ("learner_open_decisions", *one): 120.0,
        ("learner_gate_frozen", *one): 1.0,
        ("learner_candidates_refused_total", *one): 4.0,
        ("lift_difference", *one, "bound=upper"): 0.3,
        ("lift_ratio", *one, "bound=lower"): 0.2,
        ("sample_ratio_p_value", *one): 0.25,
        ("propensity_audit_decisions", *one, "result=unavailable"): 1.0,
        ("matured_decisions", *one, "outcomes=never"): 60.0,
        ("freshness_target_seconds",): 5.0,
    }.items():
        assert everything[(f"bakehouse_{name}", *labels)] == pytest.approx(value), (name, labels)


def test_what_was_not_heard_is_not_told(server):
    names = {key[0] for key in told(server)}
    assert "bakehouse_decisions_total" in names and "bakehouse_spool_limit_bytes" in names
    for of_others in ("part_age_seconds", "positions", "lift_ratio", "learner_rows"):
        assert f"bakehouse_{of_others}" not in names


def test_a_part_of_another_release_or_out_of_its_mind_spoils_no_scrape(server):
    strange = told(
        server,
        {**STREAM, "batch_ms": None, "account": {"received": 1}, "lives": "many"},
        {**LEARNER, "applications": {"levels": {"experiences": None}, "gone": {}}},
        {**INSIGHT, "insight": {"lift": None, "trust": {"audit": [], "sample_ratio": {}}}},
    )
    assert strange[("bakehouse_part_age_seconds", "part=stream")] == 4.0
    assert not any(key[0] in ("bakehouse_stream_lives", "bakehouse_lift_ratio") for key in strange)


def test_labels_are_few_and_name_no_player_and_no_decision(everything):
    labels = {label.split("=")[0] for key in everything for label in key[1:]}
    assert labels == {
        *("application", "bound", "cohort", "le", "outcome", "outcomes", "part", "quantile"),
        *("result", "share"),
    }
    assert len(everything) < 150


def test_units_are_in_names_and_are_those_of_prometheus(everything):
    for key in everything:
        assert key[0].startswith("bakehouse_")
        assert not re.search(r"_(ms|minutes|hours|mb|kb|percent|s)(_|$)", key[0]), key[0]


def test_durations_are_counted_up_to_each_bound_and_only_once():
    timings = Timings(size=8)
    durations = Durations(timings)
    assert durations.take() == [0] * 13
    for seconds in (0.0001, 0.0002, 0.004, 2.0):
        timings.add(seconds)
    #                         .1 .25 .5  1 2.5  5 10 25 50 100 250 1000 ms, and all
    assert durations.take() == [1, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 4]
    assert durations.take() == [1, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 4]
    assert durations.sum_s == pytest.approx(2.0043)
    for _ in range(20):  # more than are kept between two looks: the rest is not told
        timings.add(0.5)
    assert durations.take()[-1] == 4 + 8


def test_a_request_is_found_in_the_histogram(everything):
    assert everything[("bakehouse_request_seconds_count",)] == 2
    assert everything[("bakehouse_request_seconds_bucket", "le=+Inf")] == 2
    assert 0 < everything[("bakehouse_request_seconds_sum",)] < 10


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: str(rule["alert"]))
def test_an_alert_says_how_bad_it_is_what_it_is_and_where_to_read_on(rule):
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"docs/alerts.md#{rule['alert'].lower()}"
    section = re.search(rf"^### {rule['alert']}\n\n(.+?)(?=\n#|\Z)", GUIDE, re.M | re.S)
    assert section is not None and len(section[1]) > 100
    assert f"({rule['labels']['severity']})" in section[1]


def test_the_guide_has_no_section_of_an_alert_that_is_gone():
    assert re.findall(r"^### (\w+)$", GUIDE, re.M) == [rule["alert"] for rule in ALERTS]
    for anchor in re.findall(r"\]\(#(\w+)\)", GUIDE):
        assert anchor in {rule["alert"].lower() for rule in ALERTS}


def test_an_expression_joins_only_on_labels_that_both_sides_have(everything):
    known = {label.split("=")[0] for key in everything for label in key[1:]} | LABELS_OF_PROMETHEUS
    for expression in EXPRESSIONS.values():
        for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression):
            assert {name.strip() for name in group.split(",")} - {""} <= known


def test_the_dashboard_is_laid_out_without_overlaps_and_asks_one_source():
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    for panel in PANELS:
        assert panel["type"] in ("stat", "timeseries") and panel["targets"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"bakehouse"}
    (variable,) = DASHBOARD["templating"]["list"]
    assert variable["query"]["query"] == "label_values(bakehouse_decisions_total, application)"


def test_promtool_accepts_the_rules_and_they_fire_when_they_should():
    promtool = needs("promtool", "it is in Debian's package prometheus, and in Prometheus' release")
    for words in (
        ["check", "rules", DOCKER / "prometheus" / "alerts.yaml"],
        ["test", "rules", Path(__file__).with_name("alerts_fire.yaml")],
    ):
        done = subprocess.run([promtool, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_collector_can_be_asked_twice_and_says_the_same(server):
    metrics = Metrics(server.report, {"levels": server.served}, server.live)
    names = [family.name for family in metrics.collect()]
    assert names == [family.name for family in metrics.collect()]
    assert len(names) == len(set(names))
