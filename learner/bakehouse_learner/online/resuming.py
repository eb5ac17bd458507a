"""How does a learner go on where its last life ended?

From its checkpoint and the plans after it, from the table alone, or from what was learned under
another contract.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from bakehouse_learner.artifacts.anchor_archive import Anchor
from bakehouse_learner.artifacts.bundles import Bundles
from bakehouse_learner.artifacts.carry_over import carried_policies, is_of_another_contract
from bakehouse_learner.artifacts.checkpoint import read_checkpoint
from bakehouse_learner.artifacts.warm_start import take_up, taken_up
from bakehouse_learner.insight.insight import Insight
from bakehouse_learner.insight.watch import Watch
from bakehouse_learner.learning import Learning
from bakehouse_learner.online.bus import Bus
from bakehouse_learner.online.checkpointing import Checkpointer
from bakehouse_learner.online.publisher import Publisher, Tracker
from bakehouse_learner.online.table_reader import TableReader
from bakehouse_learner.online.traced import Traced
from bakehouse_learner.replay.tail import LogGap, Tail
from bakehouse_learner.training.agent import Setup, TrainableAgent
from bakehouse_learner.training.plan import PlanLog
from bakehouse_schemas.application.application import Application
from bakehouse_schemas.contracts.known import KnownContracts
from bakehouse_schemas.errors import BundleError
from bakehouse_schemas.process.boot import boot_id
from bakehouse_schemas.process.settings import Settings
from bakehouse_schemas.process.spans import Tracer

log = logging.getLogger(__name__)


class ResumableLoop:
    """One application's learner as it was left: its table, checkpoint, plans and bundles.

    Args:
        clock: seconds that do not jump.
        wall_ms: milliseconds since 1970, for records.
        tracker: takes note of what is published.
        keep_anchor: takes the weights of each new anchor.
        tracer: takes spans of the traced decisions that are learned from.
        boot: which start of the machine this is; None: as the system says.
    """

    def __init__(
        self,
        application: Application,
        settings: Settings,
        bus: Bus,
        build: Callable[[Setup], TrainableAgent],
        *,
        clock: Callable[[], float],
        wall_ms: Callable[[], int],
        tracker: Tracker | None = None,
        keep_anchor: Callable[[Anchor], None] | None = None,
        tracer: Tracer | None = None,
        boot: str | None = None,
    ) -> None:
        self.application = application
        self._named = {"application": application.name}  # of a line in the log
        self._boot = boot_id() if boot is None else boot
        self._bus = bus
        self._build = build
        self._clock = clock
        self._wall_ms = wall_ms
        self._traced = None if tracer is None else Traced(tracer, application.name)
        contracts = KnownContracts(settings.home)
        self._contract_of = partial(contracts.of, application.name)
        self.reader = TableReader(
            f"{settings.tables.rstrip('/')}/replay", application, self._contract_of
        )
        self._folder = settings.home / "learner" / application.name
        self._checkpoint = self._folder / "checkpoint.npz"
        self._plans = PlanLog(self._folder / "plan.jsonl")
        self.checkpointer = Checkpointer(
            application.name,
            self._checkpoint,
            self._plans,
            self._snapshot,
            lambda: self.version,
            clock,
        )
        self.bundles = Bundles(
            settings.policies / application.name,
            application,
            settings.policies_kept,
            self._contract_of,
        )
        self.publisher = Publisher(
            application,
            self.bundles,
            bus,
            wall_ms=wall_ms,
            tracker=tracker,
            keep_anchor=keep_anchor,
            traced=self._traced,
        )
        self.learning = Learning(application, build)
        self.watch = Watch(
            application.name,
            lambda: Insight(application, policies=settings.policies, rng=np.random.default_rng()),
            clock,
        )
        self._changed = False  # since training was last found to have nothing new
        self._asked_ms = 0  # the latest wish for a training that was carried out
        self._read_s = 0.0
        self._incomplete = False  # rows were passed by while reading

    @property
    def tail(self) -> Tail:
        """The table's log, as far as it has been read."""
        return self.reader.tail

    @property
    def version(self) -> int:
        """Of the newest candidate."""
        return self.learning.version

    def start(self) -> None:
        """Resume from the checkpoint, or begin."""
        self.bundles.tidy()
        state, carried = None, False
        warm = take_up(self._folder, self.application, self._build)
        try:
            state = None if warm else read_checkpoint(self._checkpoint)
            if state is not None and is_of_another_contract(state["learning"], self.application):
                self._go_on_under_another_contract(state)
                carried = True
            elif state is not None:
                self.learning.restore(state["learning"])
                self._asked_ms = state["json"].get("asked_ms", 0)
                self.reader.go_on_at(state["json"]["replay_version"])
                self.watch.restore(state.get("insight"), self.learning.ring)
        except (ValueError, KeyError, BundleError) as error:
            log.warning(
                "the checkpoint cannot be used (%s); learning begins anew from the table",
                error,
                extra=self._named,
            )
            self.learning = Learning(self.application, self._build)
            self.watch.begin_anew()
            state = None
        if carried:
            pass  # the plans of the contract before are not carried out again
        elif state is None:
            self._plans.keep_after(1 << 62)
            self._begin(warm)
        elif state["json"].get("boot", self._boot) != self._boot:
            self._go_on_after_a_cut()
        else:
            self._carry_out_again()
        pointer = self._bus.pointer(self.application.name)
        if pointer is not None:
            self.learning.version = max(self.learning.version, pointer.version)
        self.publisher.point_again(self.learning)
        self.checkpointer.now()
        taken_up(self._folder)

    def _begin(self, warm: Learning | None) -> None:
        """From the table's fold, and from history where some was left; under what answers."""
        if warm is not None:
            self.learning = warm
            self.watch.begin_after(warm.ring)
        pointer = self._bus.pointer(self.application.name)
        if pointer is not None and pointer.version > 0:
            try:
                self.learning.begin_under(self.bundles.load(pointer))
            except BundleError as error:
                log.warning("%s; the gate begins at the baseline", error, extra=self._named)
        if warm is None:
            self._rebuild()
        else:
            self._add_the_table()

    def _go_on_under_another_contract(self, state: Mapping[str, Any]) -> None:
        """With the policy that answers, and with the rows encoded anew.

        Raises:
            ValueError, BundleError: it cannot be; nothing has changed.
        """
        learning = state["learning"]
        current, anchor = carried_policies(
            learning,
            self.application,
            contract_of=self._contract_of,
            bundles=self.bundles,
            pointer=self._bus.pointer(self.application.name),
        )
        self._asked_ms = state["json"].get("asked_ms", 0)
        ring = self.reader.rebuilt()
        self.learning.carry_over(learning, ring, current=current, anchor=anchor)
        if plans := self._plans.after(self.learning.version):
            self.learning.version = plans[-1].version
        self.watch.go_on_in(ring)
        self._changed = True
        log.warning(
            "the contract changed from %s to %s: %d decisions were encoded anew; version %d goes "
            "on answering; figures are counted anew from these decisions",
            learning["json"]["contract"],
            self.application.contract,
            ring.size,
            current.number,
            extra=self._named,
        )

    def _go_on_after_a_cut(self) -> None:
        """The machine was restarted: versions of the table may stand for other rows now."""
        log.warning(
            "the machine was started anew; the buffer is rebuilt from the table",
            extra=self._named,
        )
        if plans := self._plans.after(self.learning.version):
            self.learning.version = plans[-1].version
        self._rebuild()

    def _add_the_table(self) -> None:
        """What the table holds, on top of the history that is in the buffer."""
        self.learning.ingest(self.reader.newest(self.learning.ring.capacity))
        if self.learning.evidence is not None:  # what was before the start shows nothing of it
            self.learning.evidence.replace_ring(self.learning.ring)
        self._changed = True

    def _rebuild(self) -> None:
        ring = self.reader.rebuilt()
        self.learning.replace_ring(ring)
        self.watch.go_on_in(ring)
        self._changed = True
        self._incomplete = False

    def _carry_out_again(self) -> None:
        """Trainings after the checkpoint, as their plans say."""
        plans = self._plans.after(self.learning.version)
        for plan in plans:
            try:
                while self.tail.version < plan.replay_version:
                    if not self._read(up_to=plan.replay_version):
                        raise LogGap(
                            f"the plan of version {plan.version} needs table version "
                            f"{plan.replay_version}; the log ends at {self.tail.version}"
                        )
                candidate = self.learning.train(plan)
            except (LogGap, FileNotFoundError) as error:
                log.warning("%s", error, extra=self._named)
                self._rebuild()
                self.learning.version = plans[-1].version
                return
            except Exception:  # it may be what ended the run before: not twice
                log.exception(
                    "version %d cannot be made again; it is left out",
                    plan.version,
                    extra=self._named,
                )
                self.learning.version = plan.version
                continue
            if candidate is not None:
                self.watch.trained(candidate, plan, None)
            if candidate is not None and candidate.report.publish:
                self.publisher.write_again(candidate, self.learning)
        if plans:
            log.info("carried out %d trainings again", len(plans), extra=self._named)

    def _read(self, *, up_to: int | None = None) -> bool:
        began = self._clock()
        commits = self.tail.poll(up_to=up_to)
        for commit in commits:
            for rows, arrivals in self.reader.rows_of(commit):
                self.watch.read(rows)
                if self.learning.ingest(arrivals):
                    self._changed = True
        if commits:
            self._read_s += self._clock() - began
        return bool(commits)

    def _snapshot(self) -> dict[str, Any]:
        insight = self.watch.state()
        return {
            "json": {
                "replay_version": self.tail.version,
                "boot": self._boot,
                "asked_ms": self._asked_ms,
            },
            "learning": self.learning.state(),
            **({} if insight is None else {"insight": insight}),
        }
