"""`python -m bakehouse_learner.offline.fit_world REF --from …`: a world of the players that a log
knows.

It is fitted to the older decisions; policies are then valued in it, and by the newest decisions,
which it was not fitted to. Prints one line of JSON; `bakehouse fit-world` makes words of it. Exit
status 2, and a line with `error` and `message`, for what cannot be done.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bakehouse_learner.agents.load import load_agents
from bakehouse_learner.offline.candidates import with_agent
from bakehouse_learner.offline.console import run_program, say
from bakehouse_learner.offline.evaluation.policy_value import Material, material
from bakehouse_learner.offline.evaluation.target_policies import (
    Target,
    distribution,
    find_target,
    newest_version,
)
from bakehouse_learner.offline.history.history import History, read_history
from bakehouse_learner.offline.training.held_out import target_of
from bakehouse_learner.offline.training.train_on_history import held_out_from, train_on_history
from bakehouse_learner.offline.world_fitting.agreement import (
    Fit,
    Valued,
    compared_pairs,
    evaluated_values,
    fit_of,
    judged,
    kendall_tau,
)
from bakehouse_learner.offline.world_fitting.world_data import Played, as_world, check_kind, played
from bakehouse_learner.ope.diagnostics import diagnose
from bakehouse_learner.replay.ring import Ring
from bakehouse_schemas.application.agents import AGENTS
from bakehouse_schemas.application.application import Application
from bakehouse_schemas.errors import BakehouseError
from bakehouse_schemas.execution.propensity import execute
from bakehouse_schemas.loading import load_application
from bakehouse_schemas.process.settings import load_settings
from bakehouse_schemas.worlds.fitted_world import FittedWorld
from bakehouse_schemas.worlds.share import SAMPLES

CONFIDENCE = 0.95
MOST_CONTEXTS = 4_000  # that a policy is valued in, of the world's
MOST_PLAYED = 50_000  # decisions that a world holds: the newest
PREFERRED = ("neural_greedy", "lin_ucb")  # trained beside the application's own agent
PARTS = 10  # of a number's range, in which tries are counted


def fit_world(options: argparse.Namespace) -> dict[str, Any]:
    """Fit, save and judge a world.

    Raises:
        BakehouseError: the history cannot be read, or no world can be fitted to such decisions.
    """
    if not 0.05 <= options.held_out <= 0.9:
        raise BakehouseError(
            f"held out {options.held_out}: expected from 0.05 to 0.9 of the decisions; without "
            "them nothing would say how far to trust the world"
        )
    began = time.monotonic()
    settings = load_settings()
    application = load_application(options.ref).application
    check_kind(application)
    source = settings.tables if options.source == "replay" else options.source
    history = read_history(application, source, contexts=True)
    say(f"read {len(history.arrivals):,} rows from {source}")
    ring = history.ring()
    log = played(history, ring, application)
    from_ms = held_out_from(history, options.held_out)
    world, held_out = fitted(application, log, ring, from_ms)
    world.save(options.out)
    say(f"fitted to {len(world.fitted.rewards):,} decisions; {options.out} is written")
    folder = settings.policies / application.name
    targets, notes = _policies(options, application, history, folder, from_ms)
    answer = agreement(world, held_out, history, ring, targets, from_ms)
    if not history.timed:
        notes.append("the log does not say when outcomes came: in this world they come at once")
    if not ring.eligible[log.slots].all():
        notes.append(
            "the game did not allow every action to everybody; players of this world allow all"
        )
    return {
        "application": application.name,
        "source": str(source),
        "world": str(options.out),
        "fitted_to": len(world.fitted.rewards),
        "held_out": len(held_out.slots),
        "notes": [*history.notes, *notes],
        "seconds": round(time.monotonic() - began, 1),
    } | answer


def fitted(
    application: Application, log: Played, ring: Ring, from_ms: int
) -> tuple[FittedWorld, Played]:
    """A world of what was decided before `from_ms`, and the decisions since.

    Raises:
        BakehouseError: nothing that was decided before can be used.
    """
    later = ring.received_at_ms[log.slots] >= from_ms
    earlier = np.flatnonzero(~later)[-MOST_PLAYED:]
    if len(earlier) == 0:
        raise BakehouseError(
            f"none of the {len(log.slots):,} decisions that can be used is older than what is held "
            "out; hold out less with --held-out"
        )
    return as_world(application, log.take(earlier)), log.take(np.flatnonzero(later))


def agreement(
    world: FittedWorld,
    held_out: Played,
    history: History,
    ring: Ring,
    targets: Sequence[Target],
    from_ms: int,
) -> dict[str, Any]:
    """The report: how well the model fits, and whether the world ranks as evaluation does."""
    rewards = world.fitted.rewards
    fit = Fit(0, math.nan, math.nan, math.inf)
    if len(held_out.slots):
        predicted = world.predicted(held_out.observations, held_out.rows)
        fit = fit_of(predicted, held_out.rewards, mean=float(rewards.mean()))
    found = material(ring, history.application, targets, after_ms=from_ms - 1)
    policies = _valued(world, ring, targets, found, from_ms)
    pairs = compared_pairs(policies, confidence=CONFIDENCE)
    values = evaluated_values(policies, confidence=CONFIDENCE)
    best = max(range(len(policies)), key=lambda at: policies[at].in_world)
    of_best = values[best]
    tried = tries(world)
    trust, words = judged(
        fit, pairs, tried, gap=None if of_best is None else (policies[best].in_world, of_best.mean)
    )
    return {
        "model": {"r2": fit.r2 if math.isfinite(fit.r2) else None, "n": fit.n,
                  "beyond_chance": fit.beyond_chance},
        "tried": tried,
        "evaluated_on": found.logged.n,
        "left_out": {why: n for why, n in found.left_out.items() if n},
        "policies": [
            {"policy": one.name, "words": one.words, "in_world": one.in_world,
             "evaluated": None if value is None else value.as_dict(), "verdict": one.verdict}
            for one, value in zip(policies, values, strict=True)
        ],
        "pairs": [pair.as_dict() for pair in pairs],
        "kendall_tau": kendall_tau(
            [one.in_world for one in policies], [0.0 if v is None else v.mean for v in values]
        ),
        "verdict": trust,
        "words": words,
    }  # fmt: skip


def tries(world: FittedWorld) -> dict[str, int]:
    """Decisions by label, or by tenth of each number's range."""
    space, rows = world.fitted.space, world.fitted.actions
    if space.kind == "discrete":
        return dict(zip(space.choices, world.tried.tolist(), strict=True))
    found = {}
    for at, (low, high) in enumerate(zip(space.shape.low, space.shape.high, strict=True)):
        counts, edges = np.histogram(rows[:, at], bins=PARTS, range=(low, high))
        for count, least, most in zip(counts, edges[:-1], edges[1:], strict=True):
            found[f"number {at} from {least:g} to {most:g}"] = int(count)
    return found


def value_in_world(world: FittedWorld, target: Target, ring: Ring, slots: np.ndarray) -> float:
    """Expected reward of a policy in the contexts of these slots, without noise."""
    observations = ring.observation[slots]
    if ring.labels:
        worths = world.predicted_labels(observations)
        return float(np.mean(np.sum(distribution(target, ring, slots) * worths, axis=1)))
    base, draws = target.base_policy(ring, slots), np.random.default_rng(0)
    uniform = draws.random((len(slots), SAMPLES))
    rows = [
        execute(ring.shape, base.at(at), ring.eligible[slot], target.exploration, float(u)).row
        for at, slot in enumerate(slots)
        for u in uniform[at]
    ]
    return float(np.mean(world.predicted(np.repeat(observations, SAMPLES, axis=0), np.array(rows))))


def contrary(target: Target, labels: bool) -> Target:
    """A poor policy on purpose: any label but what another would choose, or numbers mirrored."""

    def base_policy(ring: Ring, slots: np.ndarray) -> Any:
        theirs = target.base_policy(ring, slots)
        if not labels:
            mirrored = ring.shape.low + ring.shape.high - theirs.mean
            return theirs._replace(mean=-theirs.mean if theirs.squashed else mirrored)
        rest = np.where(ring.eligible[slots], 1.0 - theirs.probabilities, 0.0)
        alone = rest.sum(axis=1, keepdims=True) <= 0  # one label is eligible, and it is that
        return theirs._replace(
            probabilities=np.where(
                alone,
                theirs.probabilities,
                rest / np.maximum(rest.sum(axis=1, keepdims=True), 1e-12),
            )
        )

    how = "any other action than" if labels else "numbers mirrored of"
    return target._replace(
        name=f"contrary to {target.name}",
        words=f"poor on purpose: {how} {target.name}",
        base_policy=base_policy,
    )


def _policies(
    options: argparse.Namespace,
    application: Application,
    history: History,
    folder: Path,
    from_ms: int,
) -> tuple[list[Target], list[str]]:
    """The rules, chance, the champion if there is one, agents trained on the older part."""
    labels = application.shape.kind == "discrete"
    targets = [find_target(name, application, folder) for name in ("baseline", "random")]
    notes: list[str] = []
    champion = options.champion if options.champion is not None else newest_version(folder)
    if champion:
        try:
            found = find_target("champion", application, folder, champion=champion, greedy=labels)
        except BakehouseError as error:
            notes.append(f"the champion is left out: {error}")
        else:
            targets.append(found)
            if (found.learned_until_ms or 0) >= from_ms:
                notes.append("the champion has learned from held-out decisions, which flatters it")
    build = load_agents()
    for name in _agents(options.agents, application):
        say(f"training {name} on the older part")
        try:
            mine = replace(with_agent(application, name), reward=history.application.reward)
            theirs = history._replace(application=mine)
            trained = train_on_history(
                theirs, build, held_out=options.held_out, steps=options.steps
            )
            with tempfile.TemporaryDirectory() as bundles:
                target = target_of(theirs, trained, Path(bundles), greedy=labels)
        except BakehouseError as error:
            notes.append(f"{name} is left out: {error}")
            continue
        targets.append(target._replace(name=name, words=f"{name}, trained on the older part"))
    if targets[-1].name in AGENTS:
        first = next(target for target in targets if target.name in AGENTS)
        targets.append(contrary(first, labels))
    return targets, notes


def _agents(listed: str, application: Application) -> list[str]:
    if listed:
        return list(dict.fromkeys(name.strip() for name in listed.split(",") if name.strip()))
    kind, problem = application.actions.kind, application.problem.kind
    fit = [n for n, a in AGENTS.items() if kind in a.actions and problem in a.problems]
    wanted = [application.agent.name, *PREFERRED, *(n for n in fit if not AGENTS[n].imitates)]
    return [name for name in dict.fromkeys(wanted) if name in fit][:2]


def _valued(
    world: FittedWorld, ring: Ring, targets: Sequence[Target], found: Material, from_ms: int
) -> list[Valued]:
    slots = ring.slots(ring.tail, ring.head)
    slots = slots[(ring.received_at_ms[slots] < from_ms) & ring.usable[slots]]
    slots = slots[np.linspace(0, len(slots) - 1, min(len(slots), MOST_CONTEXTS)).astype(int)]
    policies = []
    for target, said, missing in zip(targets, found.by_target, found.unsupported, strict=True):
        there = found.logged.n > 0
        weight = next(one.weight for one in said if one.name == "snips")
        policies.append(
            Valued(
                target.name,
                target.words,
                value_in_world(world, target, ring, slots),
                said[0] if there else None,
                diagnose(weight, unsupported=missing).verdict if there else "a guess",
            )
        )
    return policies


def command_line() -> argparse.ArgumentParser:
    """The arguments that this program takes."""
    parser = argparse.ArgumentParser(prog="bakehouse_learner.offline.fit_world")
    parser.add_argument("ref")
    parser.add_argument("--from", dest="source", default="replay")
    parser.add_argument("--out", type=Path, default=Path("world.npz"))
    parser.add_argument("--held-out", type=float, default=0.3)
    parser.add_argument("--agents", default="")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--champion", type=int)
    return parser


if __name__ == "__main__":
    raise SystemExit(run_program(fit_world, command_line()))
