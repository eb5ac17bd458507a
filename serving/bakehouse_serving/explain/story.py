"""An explanation as a person would tell it, in plain sentences. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from bakehouse_schemas.application.application import Application, Episodic
from bakehouse_schemas.contracts.contract import Decides
from bakehouse_schemas.formatting import duration_words, listed, short_duration

MOST_NAMED = 5  # actions, numbers or outcomes in one sentence
RULES = "the game's own rules"


def sentences(
    application: Application, explanation: Mapping[str, Any], now_ms: int, *, under: Decides
) -> list[str]:
    """The story of one decision.

    Args:
        under: what it was made under: the application, or a contract that it has had.
        explanation: what `bakehouse_serving.explain.explanation.explain` made of it.
    """
    parts = [
        _who_answered(application, explanation),
        _carried_over(explanation),
        _what_it_thought(under, explanation),
        _what_was_left_out(explanation),
        _how_it_was_drawn(under, explanation),
        _again(explanation),
        _what_came(application, explanation, now_ms),
        _who_learned(explanation),
    ]
    return [part for part in parts if part]


def _who_answered(application: Application, explanation: Mapping[str, Any]) -> str:
    who = f"Player {explanation['subject_id']}"
    if explanation["simulated"]:
        who += " (simulated)"
    holdout, version = application.rollout.holdout, explanation["policy_version"]
    match explanation["cohort"]:
        case "holdout":
            return (
                f"{who} is in the holdout ({holdout:.0%} of players, for comparison), so {RULES} "
                "answered, without exploration."
            )
        case "fallback":
            return f"{who} was answered by {RULES}: {_why_fallback(explanation)}."
        case "canary":
            share = (explanation["policy"] or {}).get("canary")
            part = "a share" if share is None else f"{share:.0%}"
            return (
                f"{who} is among the {part} of players whom a new policy answers first (the "
                f"canary), so {_policy(explanation)} answered."
            )
    if version == 0:
        return (
            f"{who} was in the policy cohort ({1 - holdout:.0%} of players), and no policy was in "
            f"place for this player: policy 0 answered, which is {RULES} with exploration."
        )
    return (
        f"{who} was in the policy cohort ({1 - holdout:.0%} of players), so {_policy(explanation)} "
        "answered."
    )


def _why_fallback(explanation: Mapping[str, Any]) -> str:
    if explanation["mode"] == "logging_only":
        return "the mode is logging_only, which learns and does not answer"
    if explanation["mode"] == "apprentice":
        return "no apprentice answered this player yet"
    if explanation.get("baseline_action") is None:
        return "and they had no answer to this context, so every eligible action was alike"
    return "the kill switch was on, or no policy could be used"


def _policy(explanation: Mapping[str, Any]) -> str:
    policy = explanation["policy"] or {}
    words = f"policy {explanation['policy_version']}"
    if policy.get("agent"):
        age = short_duration(max(0, explanation["decided_at_ms"] - policy["created_at_ms"]))
        words += f" ({policy['agent']}, {age} old)"
    return words


def _carried_over(explanation: Mapping[str, Any]) -> str:
    carried = (explanation["policy"] or {}).get("carried_over")
    if carried is None:
        return ""
    words = f"That policy was made for contract {carried['made_for']} and carried over"
    return f"{words}: {'; '.join(carried['notes'])}." if carried["notes"] else f"{words}."


def _what_it_thought(application: Decides, explanation: Mapping[str, Any]) -> str:
    kind = application.shape.kind
    if explanation["policy_version"] == 0 or kind == "continuous":
        preferred = explanation["baseline_action"]
        if explanation["policy_version"] == 0:
            if preferred is None:
                return ""
            return f"The rules' answer was {named(preferred)}."
        return _numbers(explanation, "It answered ")
    scores = [one for one in explanation["scores"] if one["score"] is not None and one["eligible"]]
    if not scores:
        return _numbers(explanation, "Its numbers were ")
    scores = sorted(scores, key=lambda one: -one["score"])
    said = [f"{one['action']} {one['score']:.3g}" for one in scores[:MOST_NAMED]]
    more = len(scores) - len(said)
    words = f"It scored {', '.join(said)}" + (f" and {more} more lower" if more else "")
    if kind == "discrete" and explanation["baseline_action"] is not None:
        words += f"; the rules would have answered {named(explanation['baseline_action'])}"
    return " ".join(filter(None, [f"{words}.", _numbers(explanation, "Its numbers were ")]))


def _numbers(explanation: Mapping[str, Any], begin: str) -> str:
    known = [one for one in explanation["numbers"] if one["mean"] is not None]
    if not known:
        return ""
    said = [
        f"{one['name']} {one['mean']:.4g}" + (f" ± {one['std']:.2g}" if one["std"] else "")
        for one in known[:MOST_NAMED]
    ]
    words = begin + listed(said)
    if explanation["baseline_action"] is not None:
        words += f"; the rules would have answered {named(explanation['baseline_action'])}"
    return f"{words}."


def _what_was_left_out(explanation: Mapping[str, Any]) -> str:
    excluded = explanation["mask"]["excluded"]
    if not excluded:
        return ""
    said = [f"“{name}”" for name in excluded[:MOST_NAMED]]
    if len(excluded) > len(said):
        said.append(f"{len(excluded) - len(said)} more")
    return f"The game had ruled out {listed(said)}."


def _how_it_was_drawn(application: Decides, explanation: Mapping[str, Any]) -> str:
    action, propensity = named(explanation["action"]), explanation["propensity"]
    exploration = explanation["exploration"] or {}
    if exploration.get("kind", "none") == "none" and propensity == 1:
        return f"Chance had no say: {action}, with probability 1."
    if explanation["draw"] is None:
        return f"The answer was {action}, with {_chance(application, propensity)}."
    words = (
        f"With {_exploration(exploration)}, the draw {explanation['draw']:.3f} fell on {action}, "
        f"which had {_chance(application, propensity)}"
    )
    if explanation["explored"]:
        words += "; that is not what it would have chosen by itself: it was exploration"
    return f"{words}."


def _exploration(exploration: Mapping[str, Any]) -> str:
    kind, share = exploration.get("kind", "none"), exploration.get("epsilon", 0.0)
    words = {
        "epsilon_greedy": "exploration",
        "softmax": f"a softmax at temperature {exploration.get('temperature', 0):.3g}",
        "thompson": "each action as often as it may be the best",
        "gaussian": f"numbers spread by {exploration.get('std', 0):.2g} of their range",
        "own": "the agent's own randomness",
    }.get(kind, "no exploration")
    if kind == "epsilon_greedy":
        return f"exploration {share:.3g} (that share of answers is any eligible action alike)"
    least = exploration.get("floor", 0.0)
    if share:
        return f"{words}, and a share of {share:.3g} uniform"
    return f"{words}, and a floor of {least:.3g}" if least else words


def _chance(application: Decides, propensity: float) -> str:
    if application.shape.dims:
        return f"density {propensity:.4g}"
    return f"probability {propensity:.4g}"


def _again(explanation: Mapping[str, Any]) -> str:
    if explanation["exact"] is None:
        return (
            f"It cannot be decided again: {explanation['why_not']}."
            if explanation["why_not"]
            else ""
        )
    if explanation["exact"]:
        return "Decided again from its log, the same comes out, to the last digit."
    return (
        f"DECIDED AGAIN, SOMETHING ELSE COMES OUT: {explanation['recomputed']!r} where "
        f"{explanation['propensity']!r} was logged."
    )


def _what_came(application: Application, explanation: Mapping[str, Any], now_ms: int) -> str:
    reward, window = explanation["reward"], duration_words(application.reward.window)
    counted = [one for one in explanation["outcomes"] if one["counted"]]
    others = [
        one
        for one in explanation["outcomes"]
        if not one["counted"] and one["kind"] in ("reward", "executed")
    ]
    value = "unknown (the reward function failed)"
    if reward["value"] is not None:
        value = f"{reward['value']:.4g}"
    words = []
    if counted:
        said = [_came(one) for one in counted[:MOST_NAMED]]
        more = f" and {len(counted) - len(said)} more" if len(counted) > len(said) else ""
        words.append(f"What came: {listed(said)}{more}. Reward: {value}.")
    elif reward["state"] == "open":
        left = short_duration(max(0, reward["matured_at_ms"] - now_ms))
        words.append(f"Nothing that counts has come yet, and its window is open for {left} more.")
    elif explanation["reward"]["value"] is None:
        words.append("It was never seen by the player, so it counts for nothing.")
    else:
        words.append(f"Nothing that counts came within {window}: reward {value}, the default.")
    if counted and reward["state"] == "open":
        left = short_duration(max(0, reward["matured_at_ms"] - now_ms))
        words.append(f"More may come for another {left}.")
    for one in others[:MOST_NAMED]:
        words.append(f"Not counted: {_came(one)}; {one['why']}.")
    if isinstance(application.problem, Episodic):
        words.append("What followed in its episode counts too, discounted.")
    return " ".join(words)


def _came(one: Mapping[str, Any]) -> str:
    name = f"“{one['name'] or one['kind']}”"
    if one["value"] is not None and one["value"] != 1:
        name += f" of {one['value']:.4g}"
    if one["kind"] == "executed":
        name = f"the game did {named(one['executed_action'])} instead"
    if one["delay_ms"] is None:
        return name
    return f"{name} after {short_duration(one['delay_ms'])}"


def _who_learned(explanation: Mapping[str, Any]) -> str:
    return f"{_capital(explanation['trained']['learner'])}."


def named(action: Any) -> str:
    """An action for a person."""
    if isinstance(action, str):
        return f"“{action}”"
    if isinstance(action, float):
        return f"{action:.4g}"
    if isinstance(action, list):
        return f"[{', '.join(one if isinstance(one, str) else named(one) for one in action)}]"
    if isinstance(action, Mapping):
        return ", ".join(f"{name} {named(value)}" for name, value in action.items())
    return json.dumps(action, ensure_ascii=False)


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
