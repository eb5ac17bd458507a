"""What was sent, held against the tables when all is over: lost, duplicated, unaccounted for."""

from __future__ import annotations

import json
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bakehouse_learner.artifacts.checkpoint import read_checkpoint
from bakehouse_schemas.application.actions import Discrete
from bakehouse_schemas.application.application import Application
from bakehouse_schemas.decisions.recompute import made_under
from bakehouse_schemas.execution.propensity import draw_action
from bakehouse_schemas.loading import load_application
from bakehouse_schemas.process.settings import Settings
from bakehouse_schemas.replay.fold import fold_rows
from bakehouse_serving.explain.__main__ import Explainer
from bakehouse_serving.explain.explanation import is_exact
from bakehouse_serving.explain.tables import recorded_decision
from bakehouse_stream.tables.running_account import by_partition
from bakehouse_stream.tables.tables import Table, open_table
from tests.faults import oracle
from tests.faults.oracle import Experience, Sent

EXPLAINED = 200  # decisions of each contract and cohort
SLICES = 16  # of an hour's decisions, so that a million fit into memory


@dataclass
class Verdict:
    """What was found; the lists hold words about a few of each."""

    lost: int = 0
    duplicated: int = 0
    unaccounted: int = 0
    experiences: int = 0
    contested_ids: set[str] = field(default_factory=set)
    account: dict[str, int] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)

    def say(self, words: str) -> None:
        """Keep the first few."""
        if len(self.words) < 40:
            self.words.append(words)


def verify(
    settings: Settings,
    sent: list[Sent],
    *,
    acknowledged: Iterable[tuple[str, str]],
    unlogged: set[str],
    answers: dict[str, tuple[str, float]],
    account: dict[str, int],
    applications: Iterable[Application],
) -> Verdict:
    """Hold the tables of these settings against what was sent.

    Args:
        sent: every record that the broker keeps.
        acknowledged: decision_id and outcome_id ("" for the decision itself) of all that was
            promised to somebody.
        unlogged: decisions that were answered and promised not to be learned from.
        answers: decision_id → action and propensity that the game was told.
        account: stream's own, from its clean stop.
        applications: every application that was played, under each of its contracts.
    """
    labels = {
        one.contract: one.actions.labels
        for one in applications
        if isinstance(one.actions, Discrete)
    }
    verdict = Verdict(account=account)
    decisions = settings.topic("decisions")
    expected = oracle.folded(sent, decisions=decisions)
    table = open_table(settings, "replay")
    found: dict[tuple[str, str], Experience] = {}
    for row in folded_rows(table):
        key = (row["application"], row["decision_id"])
        if key in found:
            verdict.duplicated += 1
            verdict.say(f"{key} stands twice in the folded table")
        found[key] = oracle.experience_of(row)
        _check_draw(row, labels[row["contract"]], answers, verdict)
    verdict.experiences = len(found)
    verdict.contested_ids = {key[1] for key, one in found.items() if one.contested}
    _compare(expected, found, verdict)
    _check_promises(found, sent, acknowledged, unlogged, verdict)
    _check_account(sent, decisions, account, verdict)
    return verdict


def folded_rows(table: Table) -> Iterator[dict[str, Any]]:
    """The folded table, a slice of an hour at a time."""
    for files in by_partition(table.files()).values():
        rows = table.read(files, table.schema.names)
        ids = rows.column("decision_id").to_pylist()
        slices = pa.array([zlib.crc32(one.encode()) % SLICES for one in ids], pa.int64())
        for slice_ in range(SLICES):
            here = rows.filter(pc.equal(slices, slice_)).to_pylist()
            yield from fold_rows(here).values()


def _compare(
    expected: dict[tuple[str, str], Experience],
    found: dict[tuple[str, str], Experience],
    verdict: Verdict,
) -> None:
    for key in expected.keys() - found.keys():
        verdict.lost += 1
        verdict.say(f"{key} was sent and is not in the table")
    for key in found.keys() - expected.keys():
        verdict.duplicated += 1
        verdict.say(f"{key} is in the table and was not sent")
    for key in expected.keys() & found.keys():
        wanted, got = expected[key], found[key]
        if wanted == got:
            continue
        verdict.lost += len(wanted.outcomes.keys() - got.outcomes.keys())
        verdict.duplicated += len(got.outcomes.keys() - wanted.outcomes.keys())
        same = wanted.outcomes.keys() & got.outcomes.keys()
        differ = [name for name in same if wanted.outcomes[name] != got.outcomes[name]]
        verdict.lost += len(differ) + (wanted[:3] != got[:3])
        verdict.say(f"{key}: expected {wanted}, found {got}")


def _check_draw(
    row: dict[str, Any],
    labels: Sequence[str],
    answers: dict[str, tuple[str, float]],
    verdict: Verdict,
) -> None:
    """What was logged is what was drawn, and what the game was told."""
    if row["action_probabilities"] is None:
        return
    chances = json.loads(row["action_probabilities"])
    executed = np.array([chances.get(label, 0.0) for label in labels])
    position = draw_action(executed, row["draw"])
    action = json.loads(row["action"])
    if labels[position] != action or chances[action] != row["propensity"]:
        verdict.unaccounted += 1
        verdict.say(f"{row['decision_id']}: {action} is not what was drawn from {chances}")
    told = answers.get(row["decision_id"])
    if told is not None and not row["contested"] and told != (action, row["propensity"]):
        verdict.lost += 1
        verdict.say(f"{row['decision_id']}: the game was told {told}, the table says {action}")


def _check_promises(
    found: dict[tuple[str, str], Experience],
    sent: list[Sent],
    acknowledged: Iterable[tuple[str, str]],
    unlogged: set[str],
    verdict: Verdict,
) -> None:
    """All that was acknowledged has at least reached the broker, and the table where it can."""
    decided = {key[1] for key in found}
    joined = {(key[1], name) for key, one in found.items() for name in one.outcomes}
    told = {
        (one.event["decision_id"], one.event["outcome_id"])
        for one in sent
        if one.event is not None and "outcome_id" in one.event
    }
    for decision_id, outcome_id in acknowledged:
        if outcome_id == "":
            missing = decision_id not in decided and decision_id not in unlogged
        elif decision_id in decided:
            missing = (decision_id, outcome_id) not in joined
        else:
            missing = (decision_id, outcome_id) not in told
        if missing:
            verdict.lost += 1
            verdict.say(f"{decision_id} {outcome_id} was acknowledged and is lost")
    for decision_id in unlogged & decided:
        verdict.duplicated += 1
        verdict.say(f"{decision_id} was promised not to be learned from, and is in the table")


def _check_account(
    sent: list[Sent], decisions: str, account: dict[str, int], verdict: Verdict
) -> None:
    expected = oracle.account(sent, decisions=decisions)
    got = {name: account[name] for name in ("received", "applied", "duplicate", "quarantined")}
    got["waiting"] = account["pending"] + account["orphan"]
    adds_up = sum(number for name, number in got.items() if name != "received")
    verdict.unaccounted += abs(got["received"] - adds_up)
    for name, number in expected.items():
        if got[name] != number:
            verdict.unaccounted += abs(got[name] - number)
            verdict.say(f"the account says {name} = {got[name]}, expected {number}")


def explained(
    settings: Settings, ref: str, decision_ids: Iterable[str], *, of_each: int = EXPLAINED
) -> dict[str, Any]:
    """What came of deciding again, as `bakehouse explain` does, out of tables and policies.

    Args:
        ref: the application as it is now.
        decision_ids: those that a player was answered.
        of_each: so many of each contract and cohort, spread over the time in which they were made.

    Returns:
        `kinds`: contract and cohort → decisions and how many came out exactly; `wrong`: words
        about a few of the others.
    """
    application = load_application(ref).application
    explainer = Explainer({application.name: application}, settings.tables, settings.policies)
    asked = set(decision_ids)
    kinds: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in folded_rows(open_table(settings, "replay")):
        if row["decision_id"] in asked and not row["contested"]:
            kinds[f"{row['contract']} {row['cohort']}"].append(row)
    found: dict[str, Any] = {"kinds": {}, "wrong": []}
    for kind, rows in kinds.items():
        rows.sort(key=lambda row: int(row["decided_at_ms"]))
        spread = [rows[at * len(rows) // of_each] for at in range(of_each)]
        exact = 0
        for row in spread:
            one = recorded_decision(row)
            under = made_under(application, one.decision, settings.policies)
            again, why_not, _ = explainer.decide_again(under, one)
            if again is not None and is_exact(again, one.decision):
                exact += 1
            elif len(found["wrong"]) < 10:
                found["wrong"].append(f"{row['decision_id']}, {kind}: {why_not or again}")
        found["kinds"][kind] = {"decisions": len(spread), "exact": exact}
    return found


def by_the_rules(decisions: list[list[Any]], began: float, ended: float) -> tuple[int, int]:
    """Decisions of a time, and how many of them no policy answered, though no rule says so.

    Args:
        decisions: of the players' journal; the holdout gets the rules whatever is in force.
        began, ended: monotonic seconds; a policy answers everybody from the first on.
    """
    there = [one for one in decisions if began <= one[6] <= ended]
    return len(there), sum(one[3] == 0 and one[4] != "holdout" for one in there)


def check_ring(home: Path, application: Application, found_contested: set[str]) -> list[str]:
    """What is wrong with the learner's checkpoint: a decision that is in it twice, or contested."""
    state = read_checkpoint(home / "learner" / application.name / "checkpoint.npz")
    if state is None:
        return ["the learner left no checkpoint"]
    ring = state["learning"]["ring"]
    ids = ring["ids"].tobytes().decode().split("\n")
    problems = []
    if len(set(ids)) != len(ids):
        problems.append(f"{len(ids) - len(set(ids))} decisions are in the ring twice")
    usable = ring["usable"]
    for at, decision_id in enumerate(ids):
        if decision_id in found_contested and usable[at]:
            problems.append(f"{decision_id} is contested and would be trained on")
    return problems
