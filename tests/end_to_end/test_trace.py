"""A whole demo, traced, its logs in JSON: what a collector gets of it, and what the logs hold."""

from __future__ import annotations

import json

import pytest

from bakehouse_schemas.process.tracing import (
    DECIDE,
    FIRST_ANSWER,
    JOIN,
    OUTCOME,
    PUBLISH,
    SWAP,
    TRAIN,
    is_traced,
)
from tests.collector import Collector, Received, collecting
from tests.end_to_end.test_loop import Ended

PARTS = {
    DECIDE: "serving",
    OUTCOME: "serving",
    JOIN: "stream",
    TRAIN: "learner",
    PUBLISH: "learner",
    SWAP: "serving",
    FIRST_ANSWER: "serving",
}
SHARE = 0.05

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ended, Collector]:
    with collecting() as collector:
        home = tmp_path_factory.mktemp("trace") / "home"
        asked = {"trace_endpoint": collector.url, "trace_share": str(SHARE)}
        ended = Ended(home, log_format="json", **asked)
    assert ended.exit_status == 0, ended.said
    return ended, collector


def test_one_trace_leads_through_all_parts(traced: tuple[Ended, Collector]) -> None:
    _, collector = traced
    traces: dict[int, dict[str, Received]] = {}
    for span in sorted(collector.spans, key=lambda one: one.end_ns, reverse=True):
        traces.setdefault(span.trace_id, {})[span.name] = span  # the first of each name
        assert span.service == f"bakehouse-{PARTS[span.name]}"
        assert is_traced(span.attributes["decision_id"], SHARE)
    complete = [spans for spans in traces.values() if set(spans) == set(PARTS)]
    assert complete, [sorted(spans) for spans in traces.values()][:20]
    for spans in complete:
        assert {spans[name].parent_id for name in PARTS} == {0, spans[DECIDE].span_id}
    assert b"simulated-" not in b"".join(collector.bodies)


def test_the_parts_have_logged_json_and_nothing_of_a_player(
    traced: tuple[Ended, Collector],
) -> None:
    ended, _ = traced
    for part in ("serving", "stream", "learner"):
        written = (ended.home / "logs" / f"{part}.log").read_text()
        lines = [json.loads(line) for line in written.splitlines() if line.startswith("{")]
        assert {line["part"] for line in lines} == {part}
        assert "simulated-" not in written, part
