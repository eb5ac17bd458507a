"""`python -m bakehouse_serving.explain REF…`: says why decisions came out as they did.

A process of its own beside serving, which must not wait for tables: it reads one question a line
on standard input, `{"application", "decision_id"}`, and answers each with one line on standard
output, `{"status", "body"}`: 200 with the explanation, else a status of HTTP with `{"detail"}`. It
ends when its input does, or after a minute without a question.

With `--decision ID` it answers that one and ends: exit status 2, and a line with `error` and
`message`, where there is no explanation.
"""

from __future__ import annotations

import argparse
import logging
import os
import select
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from bakehouse_schemas.application.application import Application
from bakehouse_schemas.contracts.contract import Contract, contract_of
from bakehouse_schemas.decisions.recompute import (
    Recomputed,
    made_under,
    recompute,
    recorded_policy,
)
from bakehouse_schemas.errors import (
    BakehouseError,
    BundleError,
    DecisionNotFound,
    InvalidContext,
    NotRecomputable,
    StackError,
)
from bakehouse_schemas.formatting import listed, short_duration
from bakehouse_schemas.ids import ID_RULE, is_decision_id, is_uuid7, uuid7_time_ms
from bakehouse_schemas.loading import load_applications
from bakehouse_schemas.policy.bundle import LoadedPolicy, Manifest
from bakehouse_schemas.process.logs import set_up_logs
from bakehouse_schemas.process.settings import load_settings
from bakehouse_serving.explain.explanation import RecordedDecision, explain
from bakehouse_serving.explain.lineage import Manifests, lineage_of
from bakehouse_serving.explain.story import sentences
from bakehouse_serving.explain.tables import Tables

log = logging.getLogger(__name__)
IDLE_S = 60.0
NICENESS = 10
ON_ITS_WAY_MS = 4_000  # a decision this young may be about to appear: it is waited for
LOOK_AGAIN_S = 0.25
POLICIES_KEPT = 32


class Explainer:
    """Explains decisions of some applications.

    Args:
        tables: where the Delta tables lie.
        policies: `<home>/policies`.
        now_ms: milliseconds since 1970, UTC.
    """

    def __init__(
        self,
        applications: Mapping[str, Application],
        tables: str,
        policies: Path,
        *,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._applications = applications
        self._tables = Tables(tables)
        self._where = tables
        self._policies = policies
        self._manifests = {
            name: Manifests(policies / application.name)
            for name, application in applications.items()
        }
        self._now_ms = now_ms
        self._sleep = sleep
        self._policy = lru_cache(maxsize=POLICIES_KEPT)(self._load)

    def explain(self, name: str, decision_id: str) -> dict[str, Any]:
        """The explanation of one decision, its story included.

        Raises:
            DecisionNotFound: no table holds it.
        """
        application = self._applications[name]
        found = self._find(name, decision_id)
        now_ms = self._now_ms()
        under = made_under(application, found.decision, self._policies)
        again, why_not, policy = self.decide_again(under, found)
        manifests = self._manifests[name].all()
        version = found.decision["policy_version"]
        manifest = next((m for m in manifests if m.version == version), None)
        explanation = explain(
            application,
            found,
            again=again,
            why_not=why_not,
            policy=policy,
            now_ms=now_ms,
            under=under,
        )
        explanation["trained"] = self._lineage(application, found, explanation, manifests, now_ms)
        if explanation["policy"] is not None and policy is None and manifest is not None:
            known = {"agent": manifest.agent, "created_at_ms": manifest.created_at_ms}
            explanation["policy"] |= known
        explanation["sentences"] = sentences(application, explanation, now_ms, under=under)
        return explanation

    def decide_again(
        self, under: Application | Contract, found: RecordedDecision
    ) -> tuple[Recomputed | None, str | None, LoadedPolicy | None]:
        """The decision decided again, or why it cannot be; and the policy that decided it.

        Args:
            under: what it was made under; see `made_under`.
        """
        version = found.decision["policy_version"]
        policy: LoadedPolicy | None = None
        if version:
            try:
                policy = self._policy(contract_of(under), version)
            except BundleError as error:
                return None, f"policy {version} cannot be used: {error}", None
            if policy is None:
                self._policy.cache_clear()  # else a bundle that is only being written stays away
                gone = (
                    f"policy {version} is no longer kept (the setting policies_kept says how many)"
                )
                return None, gone, None
        try:
            return recompute(under, found.decision, policy), None, policy
        except NotRecomputable as error:
            return None, str(error), policy

    def _load(self, under: Contract, version: int) -> LoadedPolicy | None:
        return recorded_policy(under, self._policies, version)

    def _lineage(
        self,
        application: Application,
        found: RecordedDecision,
        explanation: Mapping[str, Any],
        manifests: Sequence[Manifest],
        now_ms: int,
    ) -> dict[str, Any]:
        return lineage_of(
            application,
            manifests,
            cohort=found.decision["cohort"],
            encoded_anew=_encoded_anew(application, found.decision),
            contested=found.contested,
            received_at_ms=found.received_at_ms,
            outcomes_ms=[
                one["received_at_ms"] for one in explanation["outcomes"] if one["counted"]
            ],
            matured_at_ms=explanation["reward"]["matured_at_ms"],
            now_ms=now_ms,
        ).as_dict()

    def _find(self, name: str, decision_id: str) -> RecordedDecision:
        waited_s = 0.0
        while (found := self._tables.find(name, decision_id)) is None:
            if not self._may_be_on_its_way(decision_id, waited_s):
                raise DecisionNotFound(self._why_not_found(name, decision_id))
            self._sleep(LOOK_AGAIN_S)
            waited_s += LOOK_AGAIN_S
        return found

    def _may_be_on_its_way(self, decision_id: str, waited_s: float) -> bool:
        if not is_uuid7(decision_id):  # it may have been made when it was asked about
            return waited_s * 1000 < ON_ITS_WAY_MS
        # an id of a time to come was made up: nobody waits for it
        return 0 <= self._now_ms() - uuid7_time_ms(decision_id) <= ON_ITS_WAY_MS

    def _why_not_found(self, name: str, decision_id: str) -> str:
        words = f"no decision {decision_id} of {name!r} is in {self._where}"
        others = [other for other in self._tables.elsewhere(decision_id) if other != name]
        if others:
            return f"{words}; it is one of {listed([repr(other) for other in others])}"
        refused = self._tables.refused(decision_id)
        if refused:
            return f"{words}: its record was set aside ({'; '.join(refused)})"
        waiting = self._tables.outcomes(name, decision_id)
        if waiting:
            words += f", and {len(waiting)} of its outcomes wait for it"
        if is_uuid7(decision_id):
            age_ms = self._now_ms() - uuid7_time_ms(decision_id)
            if age_ms < 0:
                return f"{words}; its id is of a time that is yet to come"
            words += f"; its id is {short_duration(age_ms)} old"
        return (
            f"{words}. It may be on its way (a few "
            "seconds, longer while Kafka or stream are away), not logged (`logged` was false in "
            "its answer), of another home, or older than the tables reach"
        )


def _encoded_anew(application: Application, decision: Mapping[str, Any]) -> str | None:
    """Why the learner cannot take a decision of another contract; None where it can."""
    if decision["contract"] == application.contract:
        return None
    problem = application.actions.problem_with(decision["action"], decision.get("items"))
    if problem is not None:
        return f"what was chosen is no action now: {problem}"
    try:
        application.encoder.encode(decision["context"])
    except InvalidContext as error:
        return str(error)
    return None


class WithoutPandas(MetaPathFinder):
    """Says that there is no pandas, which Arrow would load to see whether it is handed some of it:
    half the time of a first answer. Application files, which may need it, are loaded by now."""

    def find_spec(self, fullname: str, *_: object) -> ModuleSpec | None:
        if fullname == "pandas":
            raise ModuleNotFoundError("pandas is not loaded here", name=fullname)
        return None


def answer(explainer: Explainer, applications: Mapping[str, Application], line: bytes) -> bytes:
    """The line that answers a question's line."""
    try:
        question = orjson.loads(line)
        name, decision_id = question["application"], question["decision_id"]
        if name not in applications or not is_decision_id(decision_id):
            raise ValueError("an application and an id were expected")
        status, body = 200, explainer.explain(name, decision_id)
    except DecisionNotFound as error:
        status, body = 404, {"detail": str(error)}
    except (ValueError, KeyError, TypeError) as error:
        log.exception("a question could not be answered")
        status, body = 500, {"detail": f"{type(error).__name__}: {error}"[:300]}
    except Exception as error:  # the tables cannot be read: deltalake raises many kinds
        log.exception("a question could not be answered")
        status, body = 503, {"detail": f"the tables cannot be read: {error}"[:300]}
    return orjson.dumps({"status": status, "body": body}) + b"\n"


def answer_all(
    questions: BinaryIO, answers: BinaryIO, reply: Callable[[bytes], bytes], *, idle_s: float
) -> None:
    """Answer line by line until there are no more, or none came for a while."""
    while select.select([questions], [], [], idle_s)[0]:
        line = questions.readline()
        if not line:
            return
        answers.write(reply(line))
        answers.flush()


def main(arguments: Sequence[str]) -> int:
    """Answer questions, or explain one decision; returns the exit status."""
    parser = argparse.ArgumentParser(prog="bakehouse_serving.explain")
    parser.add_argument("refs", nargs="+")
    parser.add_argument("--decision")
    parser.add_argument("--application")
    parser.add_argument("--idle-s", type=float, default=IDLE_S)
    asked = parser.parse_args(arguments)
    # what an application file prints while it is loaded must not end up among the answers
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    set_up_logs("serving", "text", to=sys.stderr)
    try:
        settings = load_settings()
        set_up_logs("serving", settings.log_format, to=sys.stderr)
        applications = {
            name: one.application for name, one in load_applications(asked.refs).items()
        }
        sys.meta_path.insert(0, WithoutPandas())
        explainer = Explainer(applications, settings.tables, settings.policies)
        if asked.decision is None:
            os.nice(NICENESS)
            questions = os.fdopen(0, "rb", buffering=0)
            answer_all(
                questions,
                answers,
                lambda line: answer(explainer, applications, line),
                idle_s=asked.idle_s,
            )
            return 0
        name = asked.application or next(iter(applications))
        explanation = explainer.explain(name, _checked(asked.decision))
    except BakehouseError as error:
        refusal = {"error": type(error).__name__, "message": str(error)}
        answers.write(orjson.dumps(refusal) + b"\n")
        answers.flush()
        return 2
    answers.write(orjson.dumps(explanation) + b"\n")
    answers.flush()
    return 0


def _checked(decision_id: str) -> str:
    if not is_decision_id(decision_id):
        raise StackError(
            f"{decision_id!r:.80} is no decision id: expected {ID_RULE}, as an "
            "answer's `decision_id` is"
        )
    return decision_id


if __name__ == "__main__":
    status = main(sys.argv[1:])
    logging.shutdown()
    os._exit(status)  # threads of the tables' library may be about: nothing there is waited for
