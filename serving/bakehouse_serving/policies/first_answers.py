"""What a swap brings, until somebody has an answer of it: fresh outcomes, traced decisions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from bakehouse_schemas.decisions.slot import Slot
from bakehouse_schemas.policy.bundle import Manifest
from bakehouse_schemas.process.spans import Tracer
from bakehouse_schemas.process.tracing import named_in
from bakehouse_serving.counters import Freshness
from bakehouse_serving.decision_spans import trace_first_answer, trace_swap


class News(NamedTuple):
    """What is new in a slot.

    Args:
        fresh: broker times of outcomes, milliseconds since 1970.
        traced: ids of the traced decisions that this swap brings.
        carried: the same of swaps before it, after which nobody had an answer.
    """

    fresh: tuple[int, ...]
    traced: tuple[str, ...]
    carried: tuple[str, ...]


class FirstAnswers:
    """Measures freshness, and traces the decisions that a policy has learned from.

    Args:
        freshness: takes how long outcomes took from the broker to an answer.
        clock: seconds since 1970, UTC.
        tracer: None: nothing is traced.
    """

    def __init__(
        self,
        application: str,
        freshness: Freshness,
        *,
        clock: Callable[[], float],
        tracer: Tracer | None,
    ) -> None:
        self._application = application
        self._freshness = freshness
        self._clock = clock
        self._tracer = tracer
        self.answered: Slot | None = None  # the last slot that has answered anybody
        self._waiting: tuple[str, ...] = ()  # traced decisions that are in the slot and no answer
        self._swapped_s = 0.0

    def fresh_in(self, slot: Slot) -> tuple[int, ...]:
        """Of a slot, the outcomes that nobody has had an answer of."""
        return () if slot is self.answered else slot.fresh

    def news(self, slot: Slot, manifests: Iterable[Manifest], *, carries: bool) -> News:
        """What the slot after this one brings.

        Args:
            manifests: of the policies that are new in it.
            carries: its policy knows all that the policy in `slot` does.
        """
        fresh: tuple[int, ...] = ()
        carried: tuple[str, ...] = ()
        traced: tuple[str, ...] = ()
        if carries and slot is not self.answered:
            fresh, carried = slot.fresh, self._waiting
        for manifest in manifests:
            fresh += tuple(manifest.new_outcomes_received_at_ms)
            traced += tuple(named_in(manifest.gate))
        return News(fresh, traced, carried)

    def expect(self, news: News) -> None:
        """A slot with this news is about to be put in place."""
        self._waiting, self._swapped_s = news.carried + news.traced, self._clock()

    def trace(self, news: News, versions: tuple[int, int], *, began_s: float) -> None:
        """It is in place: trace the swap of what is new in it.

        Args:
            versions: of the policy before, and of the new one.
            began_s: when loading the new one began.
        """
        if self._tracer is not None and news.traced:
            name, swapped_s = self._application, self._swapped_s
            trace_swap(self._tracer, name, versions, news.traced, began_s, swapped_s)

    def record(self, slot: Slot) -> None:
        """The slot in place has answered for the first time."""
        self.answered = slot
        now_s = self._clock()
        self._freshness.add(now_s, slot.fresh)
        if self._tracer is not None and self._waiting:
            name, traced, self._waiting = self._application, self._waiting, ()
            trace_first_answer(self._tracer, name, slot.version, traced, self._swapped_s, now_s)
