"""Do a page's own rules and players work with each other? Tried before anything is started."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

import numpy as np

from bakehouse_schemas.application.application import Application
from bakehouse_schemas.application.counted import counted_by, meant
from bakehouse_schemas.application.ranking import Ranking
from bakehouse_schemas.errors import ApplicationError, BakehouseError
from bakehouse_schemas.loading import Loaded
from bakehouse_schemas.worlds.world import BanditWorld, EpisodicWorld, Happening, blamed_on

PLAYERS = 200
MOST_SHOWN = 300  # characters of what a player sent


class Rehearsal(NamedTuple):
    """What some simulated players showed, each with one decision by the rules."""

    unweighted: tuple[str, ...]  # outcomes that came, and that nothing counts
    missing: tuple[str, ...]  # those that the reward counts, and that did not come
    guarded: tuple[tuple[str, str | None], ...] = ()  # by guardrails alone, that did not; meant

    @property
    def caution(self) -> str | None:
        """Names that look mistyped; None where there are none."""
        said = []
        if self.unweighted:
            caused = ", ".join(self.unweighted)
            words = f"the players cause {caused}, which the reward does not count"
            if self.missing:
                words = f"{words}; it counts {', '.join(self.missing)}"
            said.append(words)
        for name, close in self.guarded:
            hint = "" if close is None else f"; did you mean {close}?"
            said.append(f"a guardrail counts {name}, which no player caused{hint}")
        return "; ".join(said) or None

    @property
    def words(self) -> str:
        """What went well, for people."""
        return f"{PLAYERS} simulated ones were tried: they can be observed, and the rules answer"


def rehearse(loaded: Loaded) -> Rehearsal | None:
    """Try them; None where the page has no players, or looks features up that they do not send.

    Raises:
        ApplicationError: a player sends what the observation does not take, or the rules or the
            world fail; with the line of the page, and what the player sent.
    """
    application, world = loaded.application, loaded.world
    if world is None or application.hydrate is not None:
        return None
    rng = np.random.default_rng(0)
    seen: set[str] = set()
    with blamed_on(world):
        states = [] if isinstance(world, BanditWorld) else list(world.states)
        for at in range(PLAYERS):
            if isinstance(world, BanditWorld):
                happenings = _one_decision(application, world, rng)
            else:
                happenings = _one_step(application, world, states[at % len(states)], rng)
            seen.update(happening.name for happening in happenings)
    weights = application.reward.weights
    rewarded = set() if callable(weights) else set(weights)
    guards = {guardrail.outcome for guardrail in application.gate.guardrails} - seen - rewarded
    others = frozenset(seen | rewarded)
    guarded = tuple((name, meant(name, others)) for name in sorted(guards))
    counted = counted_by(application).names
    if counted is None:
        return Rehearsal((), (), guarded)
    missing = tuple(sorted(rewarded - seen))
    return Rehearsal(tuple(sorted(seen - counted)), missing, guarded)


def _one_decision(
    application: Application, world: BanditWorld, rng: np.random.Generator
) -> list[Happening]:
    context = world.context(rng)
    items = world.items(context, rng) if isinstance(application.actions, Ranking) else None
    action = _ruled(application, context, items)
    seen = context if items is None else {**context, "items": items}
    world.expected_reward(seen, action)  # what shares are measured by: it must not raise
    return world.happenings(seen, action, rng)


def _one_step(
    application: Application, world: EpisodicWorld, state: Hashable, rng: np.random.Generator
) -> list[Happening]:
    action = _ruled(application, world.context(state, rng))
    return [
        happening
        for went in world.transitions(state, action)
        for happening in world.happenings(state, action, went, rng)
    ]


def _ruled(
    application: Application,
    context: Mapping[str, Any],
    items: list[dict[str, Any]] | None = None,
) -> Any:
    """What the rules answer to a player who can be observed."""
    try:
        application.encoder.encode(context)
        return application.baseline_action(context, items)
    except BakehouseError as error:
        sent = repr(dict(context))
        shown = sent if len(sent) <= MOST_SHOWN else f"{sent[:MOST_SHOWN]}…"
        raise ApplicationError(f"{error}; a simulated player of the page sent {shown}") from error
