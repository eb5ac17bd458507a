"""Is it earning its keep? One sentence with its interval, and what to do next.

Pure: from what serving counts, the operators' control, the stages of the pipe, and the learner's
comparison of policy and holdout. Of several states that hold, the one that a person must know
first is named: killed, frozen and hurting, which say beside it where nothing is learned; then a
blocked pipe; then what the policy earns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from bakehouse_schemas.application.application import Application, Episodic
from bakehouse_schemas.formatting import count, digits_for, signed, span
from bakehouse_serving.dashboard.pipeline_health import LEARNS

State = Literal[
    "learning",
    "not_enough_data",
    "winning",
    "no_difference",
    "hurting",
    "blocked",
    "frozen",
    "killed",
]
Fields = Mapping[str, Any]
ALIKE = 1.5  # design effect from which more decisions of the same players tell little
ALIKE_BUT_ROUNDED = 1e-9  # standard deviation, as a share of the mean: rounding alone


def verdict(
    application: Application,
    figures: Fields,
    *,
    control: Fields,
    learner: Fields,
    insight: Fields,
    pipe: Sequence[Fields] = (),
    policy_age_s: float | None,
    decisions_per_s: float = 0.0,
) -> dict[str, Any]:
    """State, sentence, next step, and whether any of it comes from simulated players.

    Args:
        figures: of this process for the application; see `StatusReport.application`.
        control: of the operators; see `bakehouse_schemas.events.events.Control`.
        learner: the learner's status of the application; empty before it has said anything.
        insight: its comparison of policy and holdout; empty before it has any.
        pipe: see `bakehouse_serving.dashboard.pipeline_health.stages`.
        policy_age_s: since the policy that answers was made; None at version 0.
    """
    compared, lift = _compared(application, insight, decisions_per_s)
    state, words, then = compared
    version = int(figures["policy_version"])
    who = _who(control)
    frozen_by_gate = bool(learner.get("frozen"))
    stops = next((one for one in pipe if _is_blocked(one) and one["stage"] in LEARNS), None)
    blocked = stops or next(filter(_is_blocked, pipe), None)
    if figures["killed"]:
        state = "killed"
        words = f"is killed{who}: the game's own rules answer everyone. {_had(lift)}"
        then = "`bakehouse revive` lets the policy answer again"
    elif figures["frozen"] or figures["pinned_version"] is not None or frozen_by_gate:
        state = "frozen"
        how = "is pinned to" if figures["pinned_version"] is not None else "is frozen at"
        if frozen_by_gate and how == "is frozen at" and not figures["frozen"]:
            freeze = learner.get("last_freeze") or {}
            who = f" by the gate: {freeze.get('reason', 'what it saw')}"
        words = f"{how} policy {version}{who}. {_had(lift)}"
        then = "`bakehouse release` lets the newest policy answer"
    elif blocked is not None and not (version and state == "hurting"):
        state, then = "blocked", blocked["do"]
        words = _blocked(application, figures, blocked)
        if version:
            words = f"{words}. {_had(lift)}"
    elif application.mode == "logging_only":
        state, then = "learning", "change its `mode` to apprentice or online when you are ready"
        words = (
            f"only logs: the game's rules answer, {count(figures['decisions'])} decisions so far"
        )
    elif version == 0:
        state, words, then = _learning(application, figures, learner)
    age = (
        "" if policy_age_s is None or not version else f" Policy {version} is {_old(policy_age_s)}."
    )
    if stops is not None and state != "blocked":
        words = f"{words.strip().rstrip('.')}. Nothing is being learned: {stops['blocks']}"
        then = f"{then}; {stops['do']}"
    simulated = bool(figures.get("simulated") or insight.get("simulated"))
    sentence = f"{application.name} {words.strip().rstrip('.')}.{age}"
    return {"state": state, "sentence": sentence, "next": then, "simulated": simulated}


def _who(control: Fields) -> str:
    by, why = control.get("by") or "someone", control.get("why")
    return f" by {by} (“{why}”)" if why else f" by {by}"


def _is_blocked(stage: Fields) -> bool:
    # records in no table cost what they would have taught; the rest is learned from
    return bool(stage["level"] == "blocked" and stage["stage"] != "replay")


def _blocked(application: Application, figures: Fields, stage: Fields) -> str:
    """What does not go on, why, and what players get meanwhile."""
    version = int(figures["policy_version"])
    get = "the game's rules"
    if application.mode == "online" and stage["stage"] != "spool":
        get = f"policy {version}" if version else f"{get}, with exploration"
    match stage["stage"]:
        case "serving":
            return f"is blocked: {stage['blocks']}; players get any eligible action there"
        case "swap":
            return f"is blocked: {stage['blocks']}: nobody gets what is learned; players get {get}"
    return f"is blocked: nothing is being learned because {stage['blocks']}; players get {get}"


def _old(seconds: float) -> str:
    return f"{span(seconds)} old"


def _learning(application: Application, figures: Fields, learner: Fields) -> tuple[State, str, str]:
    read = max(int(figures["decisions"]), int(learner.get("decisions") or 0))
    what = (
        "is learning to match the game's rules, which answer meanwhile"
        if application.mode == "apprentice"
        else "is learning: the game's rules answer, with exploration"
    )
    words = f"{what}; {count(read)} decisions so far"
    gate = learner.get("gate") or {}
    if not learner:
        return "learning", words, "the learner has not said anything yet; it may be starting"
    return "learning", words, str(gate.get("reason") or "")


def _compared(
    application: Application, insight: Fields, decisions_per_s: float
) -> tuple[tuple[State, str, str], str]:
    """What policy against holdout says, as (state, words, next), and the lift alone in words."""
    holdout = application.rollout.holdout
    if not holdout:
        words = "has no holdout, so nobody can see what the game's rules would earn beside it"
        then = "write `rollout=Rollout(holdout=0.1)`; `bakehouse evaluate` estimates it meanwhile"
        return ("not_enough_data", words, then), ""
    lift = insight.get("lift") or {}
    difference = lift.get("difference")
    sides = [lift.get(side) or {} for side in ("policy", "holdout")]
    n = sum(int(side.get("n") or 0) for side in sides)
    what = "episodes" if isinstance(application.problem, Episodic) else "decisions"
    if not difference or None in (difference["lower"], difference["upper"]):
        least = int(lift.get("burn_in") or 0)
        fewest = min(int(side.get("subjects_at_least") or 0) for side in sides)
        if fewest < least <= min(int(side.get("n") or 0) for side in sides):
            words = (
                f"has too few players to be told from the baseline ({fewest} of {least} on one "
                f"side, {count(n)} {what})"
            )
            then = "waiting for more players; a holdout nearer to half brings them sooner"
            return ("not_enough_data", words, then), ""
        earned = abs(float((lift.get("policy") or {}).get("mean") or 0.0))
        if fewest >= least > 0 and float(lift.get("scale") or 0.0) <= ALIKE_BUT_ROUNDED * earned:
            words = f"cannot be told from the baseline: all {count(n)} {what} earned the same"
            return ("not_enough_data", words, "`bakehouse advise` says what rewards there are"), ""
        words = f"has too few {what} to be told from the baseline ({count(n)} so far)"
        return ("not_enough_data", words, f"waiting for more {what} of the holdout group"), ""
    relative = lift.get("relative")
    shown = _shown(relative, difference, what)
    confidence = lift.get("confidence") or 0.95
    interval = (
        f"({confidence:.0%} CI {shown['lower']} to {shown['upper']}, {count(n)} {what}, "
        f"holdout {holdout:.0%})"
    )
    mean, lower, upper = difference["mean"], difference["lower"], difference["upper"]
    earns = f"earns {shown['mean']}{shown['unit']} over the baseline {interval}"
    if lower > 0:
        return ("winning", earns, ""), earns
    if upper < 0:
        loses = f"earns {shown['mean']}{shown['unit']} against the baseline {interval}"
        then = "`bakehouse rollback` or `bakehouse kill`; the gate goes back where it is as sure"
        return ("hurting", loses, then), loses
    margin = application.gate.margin * float(lift.get("scale") or 0.0)
    if margin and max(-lower, upper) <= margin:
        same = f"shows no difference from the baseline: {shown['mean']}{shown['unit']} {interval}"
        then = "`bakehouse advise` says whether there is something to learn"
        return ("no_difference", same, then), same
    open_ = (
        f"has too little data to be told from the baseline: {shown['mean']}{shown['unit']} so far "
        f"{interval}"
    )
    if float(lift.get("design_effect") or 1.0) > ALIKE:
        what = f"{what} of other players"
    return ("not_enough_data", open_, _still(n, mean, lower, upper, what, decisions_per_s)), open_


def _shown(relative: Fields | None, difference: Fields, what: str) -> dict[str, str]:
    """Mean and bounds as text; in percent of the baseline where that can be said."""
    if relative and None not in (relative["lower"], relative["upper"]):
        digits = digits_for(100 * (relative["upper"] - relative["lower"]))
        texts = {name: signed(100 * relative[name], digits) for name in ("mean", "lower", "upper")}
        return {**texts, "mean": texts["mean"] + "%", "unit": ""}
    digits = digits_for(difference["upper"] - difference["lower"])
    texts = {name: signed(difference[name], digits) for name in ("mean", "lower", "upper")}
    return {**texts, "unit": f" reward {'an episode' if what == 'episodes' else 'a decision'}"}


def _had(lift: str) -> str:
    return f"It {lift}" if lift else ""


def _still(
    n: int, mean: float, lower: float, upper: float, what: str, decisions_per_s: float
) -> str:
    """How much longer, were the difference what it looks like now: bounds shrink as 1/√n."""
    half = (upper - lower) / 2
    if not mean or not math.isfinite(half / mean):
        return ""
    more = n * max((half / mean) ** 2 - 1, 0.0)
    if not 0 < more < 1e9:
        return ""
    time = ""
    if decisions_per_s > 0 and what.startswith("decisions"):
        time = f" ({span(more / decisions_per_s)} at {decisions_per_s:.0f} a second)"
    return f"about {count(more)} more {what} are needed, if the difference stays as it is{time}"
