"""Who answers the players now, and how did we get there?

The review says what is to become of a candidate; this carries it out, as far as it is about who
answers. An apprentice learns to match the rules until everyone has its policy, from then on what
pays; a learner that starts over under a policy goes on with it until a candidate has proven itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bakehouse_learner.gate.evidence import Collector
from bakehouse_learner.gate.policy_version import BASELINE, Version
from bakehouse_learner.gate.report import Review
from bakehouse_learner.gate.rollout import RolloutSteps
from bakehouse_learner.training.agent import Exported
from bakehouse_schemas.application.application import Application
from bakehouse_schemas.policy.policy import Policy


class Deployment:
    """Which policies of one application answer, and how far their rollout is.

    The collector (None before there is one) follows every change of the anchor: evidence then
    starts over, against the anchor of now.
    """

    def __init__(self, application: Application) -> None:
        self._mode = application.mode
        self.current = BASELINE  # answers now
        self.anchor = BASELINE  # the last that was shown to be good
        self.steps = RolloutSteps(
            application.rollout.shares(application.mode), application.rollout.decisions_a_step
        )
        # learns to match the rules, until it answers everyone
        self.apprentice = application.mode == "apprentice"
        self.proving = False  # restarted under a policy that answers: must prove itself first
        self.frozen = False  # by the gate, until someone looks
        self.frozen_at_ms = 0
        self.last_freeze: Mapping[str, Any] | None = None  # the gate's report of it

    @property
    def unpublished_freeze(self) -> Mapping[str, Any] | None:
        """The last freeze, if nothing has been published since."""
        if self.last_freeze is None or self.last_freeze["candidate"] <= self.current.number:
            return None
        return self.last_freeze

    def begin_under(self, champion: Version, collector: Collector | None) -> None:
        """Start over (the checkpoint is lost) while a policy of an earlier run answers."""
        rules_answer = self._mode == "apprentice" and not champion.apprentice
        if champion.number and not rules_answer:
            self.current = self.anchor = champion
            self.proving = True
            self.steps.go_on_at(champion.canary, champion.number)
            self.apprentice = self.apprentice and not self.steps.complete
        if collector is not None and self.proving:
            collector.evaluation.move_anchor(champion.number)

    def carry_over(self, state: Mapping[str, Any], current: Version, anchor: Version) -> None:
        """Go on under another contract, as far as the rollout, the freeze and the mode say.

        What answers goes on until a candidate has proven itself: there is no evidence yet under
        this contract, and what it was not made for it does not know.

        Args:
            state: of the deployment before; see `state`.
            current, anchor: its policies, carried over.
        """
        self.restore(state, current, anchor)
        if not current.number:  # players were told so after `state` was written
            self.steps.stop()
        self.meet(state.get("mode", self._mode), None)
        self.proving = self.current.number > 0

    def meet(self, mode: str, collector: Collector | None) -> bool:
        """Go on in the application's mode, where the run before this one learned in another.

        Returns:
            whether the apprenticeship begins or ends: the rows then teach something else.
        """
        if mode == self._mode:
            return False
        if self._mode == "apprentice":
            # what answered was not made to match the rules, so here it answers nobody
            self.current, self.proving = BASELINE, False
            self.steps.stop()
            self.apprentice = True
        elif self.apprentice:
            self.apprentice = False
            self.proving = self.current.number > 0
        else:
            return False
        self.anchor = self.current
        if collector is not None:
            collector.evaluation.move_anchor(self.anchor.number)
        return True

    def follow(
        self,
        review: Review,
        policy: Policy | None,
        exported: Exported | None,
        collector: Collector,
        *,
        at_ms: int,
    ) -> bool:
        """Carry out what the review of a candidate says.

        Returns:
            whether the apprenticeship begins or ends: the rows then teach something else.
        """
        report, was_apprentice = review.report, self.apprentice
        self.steps, self.proving, collector.match = review.steps, review.proving, review.match
        if report.publish:
            made_in = self._mode == "apprentice"
            self.current = Version(report.candidate, policy, exported, report.canary, made_in)
        if report.new_anchor:
            self.anchor = self.current
            collector.evaluation.move_anchor(report.candidate)
        if report.freeze:
            self.frozen, self.frozen_at_ms = True, at_ms
            described = report.as_dict()
            self.last_freeze = {"at_ms": at_ms} | {
                name: described[name]
                for name in ("candidate", "current", "anchor", "reason", "rules")
            }
        if report.rollback_to == 0:
            self.current, self.proving = BASELINE, False
            self.apprentice = self.apprentice or self._mode == "apprentice"
            if self.anchor.number:
                self.anchor = BASELINE
                collector.evaluation.move_anchor(0)
        elif report.rollback_to is not None:
            self.current = self.anchor
        if self.apprentice and self.steps.complete:
            self._graduate(collector)
        return self.apprentice != was_apprentice

    def _graduate(self, collector: Collector) -> None:
        """The rules are matched and everyone has the policy: from here on it learns from rewards.

        What matched them goes on answering until a candidate has shown itself.
        """
        self.apprentice = False
        self.proving = True
        self.anchor = self.current
        collector.evaluation.move_anchor(self.anchor.number)

    def release(self, version: int, collector: Collector | None) -> None:
        """Someone has looked: evidence starts over, else the same bound would freeze at once.

        Args:
            version: guardrails look at policies from this one on.
        """
        if self.frozen and collector is not None:
            collector.evaluation.move_anchor(self.anchor.number)
            collector.begin_guards(version)
        self.frozen = False

    def state(self) -> dict[str, Any]:
        """Everything but the two policies, as JSON carries it."""
        return {
            "proving": self.proving,
            "mode": self._mode,
            "apprentice": self.apprentice,
            "steps": self.steps.state(),
            "frozen": self.frozen,
            "frozen_at_ms": self.frozen_at_ms,
            "last_freeze": self.last_freeze,
        }

    def restore(self, state: Mapping[str, Any], current: Version, anchor: Version) -> None:
        """Continue as if what gave `state` had never stopped, in the mode of then; see `meet`."""
        self.current, self.anchor = current, anchor
        self.proving = state["proving"]
        self.apprentice = state.get("apprentice", self.apprentice)
        if "steps" in state:
            self.steps.restore(state["steps"])
        elif self.current.number:  # of an earlier release, which knew no steps
            self.steps.go_on_at(1.0, 0)
        self.frozen = state["frozen"]
        self.frozen_at_ms = state["frozen_at_ms"]
        self.last_freeze = state.get("last_freeze")  # None in checkpoints of earlier releases
