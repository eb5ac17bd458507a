"""Spans of the learner: the training that took a traced decision in, and its publication."""

from __future__ import annotations

from collections.abc import Sequence

from bakehouse_learner.gate.candidate import Candidate
from bakehouse_learner.learning import Learning
from bakehouse_schemas.process.spans import Tracer
from bakehouse_schemas.process.tracing import MOST_TRACED, PUBLISH, TRAIN, Attributes, Span


class Traced:
    """The traced decisions of one application, from a training to the next publication.

    A killed learner forgets them: traces follow what happens, and nothing follows them.
    """

    def __init__(self, tracer: Tracer, application: str) -> None:
        self._tracer = tracer
        self._application = application
        self.unpublished: list[str] = []  # new in no policy yet; the newest

    def watch(self, learning: Learning) -> None:
        """Have the next training say which of its rows are traced."""
        learning.is_traced, learning.traced = self._tracer.is_traced, []

    def trained(
        self, candidate: Candidate, rows: Sequence[str], *, began_ms: int, ended_ms: int
    ) -> None:
        """A training has taken these decisions in, new or amended."""
        attributes: Attributes = {
            "application": self._application,
            "policy_version": candidate.version,
            "rows": candidate.new_experiences,
            "experiences": candidate.experiences,
            "published": candidate.report.publish,
        }
        self._add(TRAIN, rows, candidate.version, began_ms, ended_ms, attributes)
        self.unpublished = list(dict.fromkeys([*self.unpublished, *rows]))[-MOST_TRACED:]

    def published(self, version: int, *, began_ms: int, ended_ms: int) -> None:
        """A policy was announced that has learned from all of them."""
        attributes: Attributes = {"application": self._application, "policy_version": version}
        self._add(PUBLISH, self.unpublished, version, began_ms, ended_ms, attributes)
        self.unpublished = []

    def _add(
        self,
        name: str,
        decision_ids: Sequence[str],
        version: int,
        began_ms: int,
        ended_ms: int,
        attributes: Attributes,
    ) -> None:
        for decision_id in decision_ids:
            start_ns, end_ns = began_ms * 1_000_000, ended_ms * 1_000_000
            self._tracer.add(
                Span(decision_id, name, start_ns, end_ns, attributes, key=str(version))
            )
