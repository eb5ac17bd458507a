"""The learner of one application, without clients and without a clock.

What it becomes depends on the rows it is given and the plans it carries out, and on
nothing else: the same rows and plans make the same policies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from bakehouse_learner.gate.candidate import Candidate
from bakehouse_learner.gate.deployment import Deployment
from bakehouse_learner.gate.evidence import Collector
from bakehouse_learner.gate.policy_version import Version, policy_of, version_from, version_state
from bakehouse_learner.gate.report import GateReport
from bakehouse_learner.gate.review import review_candidate
from bakehouse_learner.replay.ring import Ring
from bakehouse_learner.replay.row_decoder import Arrival
from bakehouse_learner.statistics.recent_mean import RecentMean
from bakehouse_learner.training.agent import Exported, Setup, TrainableAgent
from bakehouse_learner.training.autoencoder_monitor import AutoencoderMonitor
from bakehouse_learner.training.imputed_returns import ImputedReturns
from bakehouse_learner.training.laps import Laps
from bakehouse_learner.training.normaliser import Normaliser, fit_normaliser, static_normaliser
from bakehouse_learner.training.plan import Plan
from bakehouse_learner.training.priorities import Priorities
from bakehouse_learner.training.train_agent import compile_agent, train_agent
from bakehouse_schemas.application.application import Application
from bakehouse_schemas.application.exploration import Exploration
from bakehouse_schemas.errors import BundleError
from bakehouse_schemas.policy.policy import Policy
from bakehouse_schemas.process.failpoints import reach

ROWS_TO_FIT_NORMALISER = 1_000
GOLDEN = 16
MOST_RECEIVED_TIMES = 2_000


class Learning:
    """Ring, agent, evidence and gate of one application.

    Args:
        build: makes an agent; `bakehouse_learner.agents.build_agent`.
    """

    def __init__(self, application: Application, build: Callable[[Setup], TrainableAgent]) -> None:
        self.application = application
        self._build = build
        self.ring = Ring(application)
        self.imputed = ImputedReturns(application, self.ring)
        self.normaliser: Normaliser | None = None
        self.lineage = ""
        self.setup: Setup | None = None
        self.agent: TrainableAgent | None = None
        self.evidence: Collector | None = None
        self.version = 0  # of the newest candidate
        self.candidate: Policy | None = None
        self.deployment = Deployment(application)
        self.decisions_before = 0  # read by earlier runs of this learner
        self.trainings = 0
        self._unpublished_ms: list[int] = []
        self.priorities = Priorities()  # empty unless the agent asks for them
        self._sound: Mapping[str, np.ndarray] = {}  # the agent's last finite state
        self.autoencoder = AutoencoderMonitor(application)
        self.is_traced: Callable[[str], bool] | None = None  # by decision_id; None: nothing is
        self.traced: list[str] = []  # of the rows that were new in the last training
        static = static_normaliser(application.encoder.bounds())
        if static is not None and application.compression is None:
            self._normalise_with(static)

    @property
    def decisions(self) -> int:
        """Decisions ever read, for the exploration's decay."""
        return self.decisions_before + self.ring.head

    def begin_under(self, champion: Version) -> None:
        """Start over (the checkpoint is lost) while a policy of an earlier run answers."""
        self.version = champion.number
        self.deployment.begin_under(champion, self.evidence)

    def _relearn(self) -> None:
        """From here on every row teaches something else: how the rules answer, or what pays."""
        self.ring.dirty[: self.ring.size] = True
        if self.deployment.apprentice:
            self.candidate = None  # learned from rewards: how it matches says nothing of the next
            if self.evidence is not None:
                self.evidence.match = RecentMean()

    def _exploration(self) -> Exploration:
        """With which a policy of now would be executed."""
        return self.application.exploration.after(max(self.decisions, 1))

    def ingest(self, arrivals: Sequence[Arrival]) -> int:
        """Take rows in; returns how many decisions are new or amended."""
        return self.ring.ingest(arrivals)

    def replace_ring(self, ring: Ring) -> None:
        """Go on with a ring that was rebuilt from the table."""
        self.decisions_before = max(self.decisions - ring.head, 0)
        self.ring = ring
        self.imputed.remembered = ring.tail
        self.priorities = Priorities()
        if self.evidence is not None:
            self.evidence.replace_ring(ring)

    def carry_over(
        self, state: Mapping[str, Any], ring: Ring, *, current: Version, anchor: Version
    ) -> None:
        """Go on where a learner of another contract ended. Its agent is not this one's.

        The rollout, counts and what is known of outcomes go on; the agent, its normaliser and
        the reward model are learned from the ring, and what compares policies starts over.

        Args:
            state: see `state`; of the same reward rule.
            ring: rebuilt from the table, encoded anew.
            current, anchor: its policies, carried over.
        """
        saved = state["json"]
        self.version, self.trainings = saved["version"], saved["trainings"]
        self.decisions_before = saved["decisions_before"] + state["ring"]["json"]["head"]
        self._unpublished_ms = saved["unpublished_ms"]
        self.deployment.carry_over(saved, current, anchor)
        self.replace_ring(ring)
        self._settle(ring.known_until_ms(-1))
        if self._begin_lineage():
            assert self.evidence is not None
            self.evidence.replace_ring(ring)
            self.evidence.carry_over(state.get("evidence"), anchor=anchor.number)

    def news(self, stream_time_ms: int) -> int:
        """How many rows a training at this stream time would see that are new or amended."""
        self._settle(stream_time_ms)
        if self.agent is None and not self._can_normalise():
            return 0
        trainable = self.imputed.returns(self.ring, stream_time_ms).trainable
        return int(np.count_nonzero(trainable & self.ring.dirty[: self.ring.size]))

    def train(self, plan: Plan) -> Candidate | None:
        """Carry out one plan; None where there is nothing to train on."""
        clock = Laps()
        self.version = plan.version
        if plan.released:
            self.deployment.release(plan.version, self.evidence)
        self._settle(plan.stream_time_ms)
        if not self._begin_lineage():
            return None
        self.autoencoder.watch(self.ring, self.normaliser)
        assert self.evidence is not None
        self.evidence.predict(self.candidate, self.deployment.anchor.policy, self._exploration())
        clock.lap("predict")
        trained = self._train_agent(plan)
        if trained is None:
            return None
        losses, new = trained
        self.trainings += 1
        clock.lap("train")
        exported, policy, scores = self._export(losses)
        clock.lap("export")
        self.evidence.complete()
        self.deployment.steps.see(self.evidence.decided_by)
        self.evidence.take_episodes()
        self.imputed.remember(self.ring, plan.stream_time_ms)
        clock.lap("evaluate")
        review = review_candidate(
            plan,
            policy,
            newest=self.candidate,
            losses=losses,
            golden_scores=scores,
            application=self.application,
            ring=self.ring,
            collector=self.evidence,
            deployment=self.deployment,
            exploration=self._exploration(),
        )
        report = review.report
        clock.lap("gate")
        candidate = self._described(plan, exported, report, losses, new, clock.seconds)
        self._unpublished_ms = [] if report.publish else self._unpublished_ms[-MOST_RECEIVED_TIMES:]
        if self.deployment.follow(review, policy, exported, self.evidence, at_ms=plan.at_ms):
            self._relearn()
        return candidate

    def warm_up(self) -> None:
        """Compile the training function before there is anything to train on."""
        if self.agent is not None and self.agent.learns_from_minibatches:
            compile_agent(self.agent, self.application)

    def _begin_lineage(self) -> bool:
        """Fit what normalises to the ring's first rows, once; False where they are too few."""
        if self.agent is None and self._can_normalise():
            first = self.ring.slots(self.ring.tail, self.ring.head)[: self._rows_to_begin]
            bounds = self.application.encoder.bounds()
            normaliser = fit_normaliser(bounds, self.ring.observation[first])
            self.autoencoder.fit(normaliser.apply(self.ring.observation[first]))
            self._normalise_with(normaliser)
        return self.agent is not None

    def _normalise_with(self, normaliser: Normaliser) -> None:
        """Begin a lineage: every weight assumes the normaliser, and the compressor behind it."""
        self.normaliser, compressor = normaliser, self.autoencoder.compressor
        fingerprint = hashlib.sha256(self.application.contract.encode())
        frozen = normaliser.arrays() | ({} if compressor is None else compressor.arrays)
        for name, array in sorted(frozen.items()):
            fingerprint.update(name.encode() + np.ascontiguousarray(array).tobytes())
        self.lineage = fingerprint.hexdigest()[:16]
        self.setup = Setup(self.application, normaliser, self.application.training.seed, compressor)
        self.agent = self._build(self.setup)
        self._sound = self.agent.state()
        self.evidence = Collector(self.application, self.ring, normaliser)
        if self.deployment.proving:
            self.evidence.evaluation.move_anchor(self.deployment.anchor.number)

    def _can_normalise(self) -> bool:
        return self.ring.size >= min(self._rows_to_begin, self.ring.capacity)

    @property
    def _rows_to_begin(self) -> int:
        """Rows that normaliser and compressor are fitted on."""
        compression = self.application.compression
        return ROWS_TO_FIT_NORMALISER if compression is None else compression.rows

    def _settle(self, stream_time_ms: int) -> None:
        self.ring.mature(stream_time_ms)
        self.ring.time_out(stream_time_ms)

    def _train_agent(self, plan: Plan) -> tuple[dict[str, float], int] | None:
        """Losses, and how many rows were new or amended; None where none can be trained on."""
        assert self.agent is not None
        ring = self.ring
        returns = self.imputed.returns(ring, plan.stream_time_ms)
        trainable = np.flatnonzero(returns.trainable)
        if self.deployment.apprentice:
            trainable = trainable[ring.has_baseline[trainable]]
        if len(trainable) == 0:
            return None
        new = trainable[ring.dirty[trainable]]
        losses = train_agent(
            self.agent,
            ring,
            returns,
            new=new,
            trainable=trainable,
            application=self.application,
            apprentice=self.deployment.apprentice,
            priorities=self.priorities,
            rng=np.random.default_rng(plan.seed),
        )
        reach("learner.training.inside")
        ring.dirty[new] = False
        if self.is_traced is not None:
            ids = (ring.ids[slot] for slot in new.tolist())
            self.traced = [decision_id for decision_id in ids if self.is_traced(decision_id)]
        for sequence in ring.sequence[new].tolist():
            if ring.fresh:
                self._unpublished_ms += ring.fresh.pop(sequence, [])
        return losses, len(new)

    def _export(
        self, losses: Mapping[str, float]
    ) -> tuple[Exported | None, Policy | None, np.ndarray]:
        """The candidate, None where its weights or scores are not finite, and its golden scores.

        An agent whose loss, weights or scores are not finite goes back to where they last were.
        """
        assert self.agent is not None
        scores = np.full((1, 1), np.nan)
        with np.errstate(over="ignore", invalid="ignore"):  # looked at right below
            try:
                exported = self.agent.export()
                policy = policy_of(exported, self.application.shape)
                golden = self.ring.newest(GOLDEN)
                scores = policy.scores(self.ring.observation[golden], self._items(golden))
            except BundleError:
                pass
        if not (np.isfinite(scores).all() and np.isfinite(list(losses.values())).all()):
            self.agent.restore(self._sound)
            return None, None, scores
        self._sound = {name: np.copy(value) for name, value in self.agent.state().items()}
        self.candidate = policy
        return exported, policy, scores

    def _items(self, slots: np.ndarray) -> np.ndarray | None:
        """Features of the items that were to be ranked, None where nothing is. `[n, A, F]`"""
        return self.ring.items[slots] if self.ring.items.size else None

    def _described(
        self,
        plan: Plan,
        exported: Exported | None,
        report: GateReport,
        losses: dict[str, float],
        new: int,
        seconds: dict[str, float],
    ) -> Candidate:
        ring = self.ring
        golden = ring.newest(GOLDEN)
        return Candidate(
            version=plan.version,
            exported=exported,
            report=report,
            losses={name: float(loss) for name, loss in losses.items() if np.isfinite(loss)},
            replay_version=plan.replay_version,
            stream_time_ms=plan.stream_time_ms,
            experiences=ring.size,
            new_experiences=new,
            outcomes_received_at_ms=sorted(self._unpublished_ms)[-MOST_RECEIVED_TIMES:],
            exploration=self._exploration(),
            golden_observations=ring.observation[golden].copy(),
            golden_eligible=ring.eligible[golden].copy(),
            golden_items=None if (items := self._items(golden)) is None else items.copy(),
            seconds=seconds,
            last_freeze=self.deployment.unpublished_freeze,
        )

    def state(self) -> dict[str, Any]:
        """Everything: nested dictionaries of arrays and, under `json`, of what JSON carries."""
        compressor = self.autoencoder.compressor
        return {
            "json": {
                "contract": self.application.contract,
                "reward": self.application.reward.fingerprint,
                "version": self.version,
                "trainings": self.trainings,
                "remembered": self.imputed.remembered,
                "decisions_before": self.decisions_before,
                **self.deployment.state(),
                "unpublished_ms": list(self._unpublished_ms),
                "has_candidate": self.candidate is not None,
            },
            "ring": self.ring.state(),
            "remaining": self.imputed.remaining.state(),
            "priorities": self.priorities.state(),
            "current": version_state(self.deployment.current),
            "anchor": version_state(self.deployment.anchor),
            **(
                {}
                if self.agent is None or self.evidence is None or self.normaliser is None
                else {
                    "normaliser": self.normaliser.arrays(),
                    **({} if compressor is None else {"compressor": compressor.state()}),
                    "agent": {name: np.copy(v) for name, v in self.agent.state().items()},
                    "evidence": self.evidence.state(),
                }
            ),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue as if the learner that gave `state` had never stopped.

        Raises:
            ValueError: the state is of another contract or reward, or shapes differ.
        """
        saved = state["json"]
        if saved["contract"] != self.application.contract:
            raise ValueError(
                f"the checkpoint is of contract {saved['contract']}, expected "
                f"{self.application.contract}"
            )
        rule = self.application.reward.fingerprint
        if saved.get("reward", rule) != rule:  # not in checkpoints of earlier releases
            raise ValueError(
                "the checkpoint's rewards are of another rule than the application's is now"
            )
        self.ring.restore(state["ring"])
        self.imputed.restore(state["remaining"], saved["remembered"])
        if "priorities" in state:  # not in checkpoints of earlier releases
            self.priorities.restore(state["priorities"])
        if "normaliser" in state:
            arrays = state["normaliser"]
            self.autoencoder.restore(state.get("compressor"), self.ring)
            self._normalise_with(
                Normaliser(
                    arrays["normaliser_offset"],
                    arrays["normaliser_scale"],
                    float(arrays["normaliser_clip"]),
                )
            )
            assert self.agent is not None and self.evidence is not None
            self.agent.restore(state["agent"])
            self._sound = state["agent"]
            self.evidence.restore(state["evidence"])
            if saved["has_candidate"]:
                self.candidate = policy_of(self.agent.export(), self.application.shape)
        current, anchor = (
            version_from(state[which], self.application.shape) for which in ("current", "anchor")
        )
        self.deployment.restore(saved, current, anchor)
        self.version = saved["version"]
        self.trainings = saved["trainings"]
        self.decisions_before = saved["decisions_before"]
        self._unpublished_ms = saved["unpublished_ms"]
        if self.deployment.meet(saved.get("mode", self.application.mode), self.evidence):
            self._relearn()
