"""Do recorded policies give the recorded propensities? A sample of new decisions, made again.

Every two seconds some of the newest rows are put aside, and decided again in a thread of its own
by `bakehouse_schemas.decisions.recompute`. Nobody waits for it: where it falls behind, decisions
are not looked at.
"""

from __future__ import annotations

import json
import logging
import queue
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from bakehouse_schemas.application.application import Application
from bakehouse_schemas.contracts.contract import Contract
from bakehouse_schemas.decisions.recompute import made_under, recompute, recorded_policy
from bakehouse_schemas.errors import BundleError, NotRecomputable
from bakehouse_schemas.policy.bundle import LoadedPolicy

log = logging.getLogger(__name__)

EVERY_S = 2.0
DECISIONS_A_SAMPLE = 20  # decisions of one sample
POLICIES = 4  # that stay loaded
WAITING = 4  # samples
TOLERANCE = 1e-9  # relative difference of propensities up to which they are the same
AUDITED = ("policy", "canary", "holdout")
_JSON = ("context", "eligible_actions", "items", "action", "baseline_action", "exploration")
_PLAIN = ("decision_id", "contract", "observation", "draw", "propensity", "policy_version")
COLUMNS = [*_PLAIN, *_JSON]

Verdict = Literal["equal", "different", "unavailable"]


class Judged(NamedTuple):
    """What came of one decision."""

    verdict: Verdict
    apart: float = 0.0  # relative difference of the propensities
    recomputed: dict[str, Any] | None = None  # action and propensity


def decision_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the table `replay` as a record of `decisions.v1`. Raises ValueError."""
    texts = {name: None if row[name] is None else orjson.loads(row[name]) for name in _JSON}
    return {name: row[name] for name in _PLAIN} | texts


def judge(
    application: Application | Contract,
    decision: Mapping[str, Any],
    policy: LoadedPolicy | None,
) -> Judged:
    """Decide again, and compare action and propensity.

    Args:
        application: what it was made under; see `bakehouse_schemas.decisions.recompute.made_under`.
        decision: see `decision_of`.
        policy: see `bakehouse_schemas.decisions.recompute.recompute`.
    """
    try:
        found = recompute(application, decision, policy)
    except NotRecomputable:
        return Judged("unavailable")
    recorded = float(decision["propensity"])
    apart = abs(found.propensity - recorded) / recorded
    same = found.action == decision["action"] and apart <= TOLERANCE
    recomputed = {"action": found.action, "propensity": found.propensity}
    return Judged("equal" if same else "different", apart, recomputed)


class PropensityAudit:
    """Judges samples in a thread, which begins with the first sample.

    Args:
        policies: the folder that bundles are loaded from.
        rng: draws the sample; it has no part in learning.
    """

    def __init__(self, application: Application, policies: Path, rng: np.random.Generator) -> None:
        self._application = application
        self._policies = policies
        self._rng = rng
        self._counts = dict.fromkeys(("equal", "different", "unavailable"), 0)
        self._worst = 0.0
        self._last_problem: dict[str, Any] | None = None
        self._loaded: OrderedDict[tuple[str, int], LoadedPolicy | None] = OrderedDict()
        self._samples: queue.Queue[list[dict[str, Any]] | None] = queue.Queue(WAITING)
        self._thread: threading.Thread | None = None
        self._sampled_s = -EVERY_S

    def offer(self, table: pa.Table, now_s: float) -> None:
        """Take a sample of a file of the table, if it is time.

        Args:
            table: rows with `bakehouse_learner.replay.arrow_columns.COLUMNS`.
            now_s: on a clock that does not jump.
        """
        if now_s - self._sampled_s < EVERY_S:
            return
        rows = self.sample(table)
        if not rows:
            return
        self._sampled_s = now_s
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="audit", daemon=True)
            self._thread.start()
        try:
            self._samples.put_nowait(rows)
        except queue.Full:
            log.debug("%s: the audit is behind; a sample is left out", self._application.name)

    def sample(self, table: pa.Table) -> list[dict[str, Any]]:
        """Rows of new decisions, drawn at random: those that no outcome has come with."""
        cohort = table.column("cohort").to_pylist()
        lengths = pc.list_value_length(table.column("outcomes")).to_pylist()
        fresh = [at for at, length in enumerate(lengths) if not length and cohort[at] in AUDITED]
        if not fresh:
            return []
        drawn = self._rng.choice(fresh, size=min(DECISIONS_A_SAMPLE, len(fresh)), replace=False)
        rows: list[dict[str, Any]] = table.select(COLUMNS).take(pa.array(drawn)).to_pylist()
        return rows

    def judge_all(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Judge and count."""
        for row in rows:
            try:
                decision = decision_of(row)
                version = decision["policy_version"]
                under = made_under(self._application, decision, self._policies)
                policy = self._policy(under, version) if version else None
                judged = judge(under, decision, policy)
            except (BundleError, ValueError, TypeError, KeyError) as error:
                log.debug("decision %s cannot be audited: %s", row.get("decision_id"), error)
                judged = Judged("unavailable")
            self._count(row, judged)

    def _count(self, row: Mapping[str, Any], judged: Judged) -> None:
        self._counts[judged.verdict] += 1
        self._worst = max(self._worst, judged.apart)
        if judged.verdict == "different":
            recorded = {"action": json.loads(row["action"]), "propensity": row["propensity"]}
            self._last_problem = {
                "decision_id": row["decision_id"],
                "recorded": recorded,
                "recomputed": judged.recomputed,
            }

    def _policy(self, under: Application | Contract, version: int) -> LoadedPolicy | None:
        key = under.contract, version
        if key not in self._loaded:
            if len(self._loaded) >= POLICIES:
                self._loaded.popitem(last=False)
            self._loaded[key] = recorded_policy(under, self._policies, version)
        return self._loaded[key]

    def _work(self) -> None:
        while (rows := self._samples.get()) is not None:
            try:
                self.judge_all(rows)
            except Exception:
                log.exception("%s: a sample could not be audited", self._application.name)

    def close(self) -> None:
        """Finish the samples that wait."""
        if self._thread is not None:
            self._samples.put(None)
            self._thread.join(timeout=10.0)
            self._thread = None

    @property
    def checked(self) -> int:
        """Decisions judged, or found not to be judgeable."""
        return sum(self._counts.values())

    def figures(self) -> dict[str, Any]:
        """As JSON carries it; `checked` are those that could be decided again."""
        counts = dict(self._counts)
        return {
            "checked": counts["equal"] + counts["different"],
            **counts,
            "worst": self._worst,
            "last_problem": self._last_problem,
        }

    def state(self) -> dict[str, Any]:
        """Everything, as JSON carries it."""
        return {
            "counts": dict(self._counts),
            "worst": self._worst,
            "last_problem": self._last_problem,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue as if the audit that gave `state` had never stopped."""
        self._counts |= state["counts"]
        self._worst = float(state["worst"])
        self._last_problem = state["last_problem"]
