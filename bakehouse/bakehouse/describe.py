"""The contract of an application in words: what `bakehouse check` prints."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bakehouse_schemas.application.actions import Actions, Continuous, Parts
from bakehouse_schemas.application.agents import AGENTS
from bakehouse_schemas.application.application import Application, Episodic
from bakehouse_schemas.application.exploration import (
    AgentsOwn,
    DefaultFloor,
    EpsilonGreedy,
    Explores,
    Gaussian,
    Softmax,
    Thompson,
)
from bakehouse_schemas.application.hydration import missing_packages
from bakehouse_schemas.application.observation import Boolean, Categorical, Feature, Numeric, Vector
from bakehouse_schemas.application.ranking import Ranking
from bakehouse_schemas.application.reward import Reward
from bakehouse_schemas.application.rollout import Guardrail
from bakehouse_schemas.application.segments import Segments
from bakehouse_schemas.execution.propensity import uniform_share
from bakehouse_schemas.formatting import duration_words, size, span
from bakehouse_schemas.replay.buffer_size import buffer_needed, bytes_each, rate_carried, waited_for

AGGREGATES = {
    "sum": "the sum of its outcomes",
    "mean": "the mean of its outcomes",
    "first": "its first outcome",
    "last": "its last outcome",
    "max": "the largest of its outcomes",
    "min": "the smallest of its outcomes",
}


def describe(application: Application) -> dict[str, Any]:
    """Title -> a sentence, or a list of them; plain data, for people and for `--json`."""
    return {
        "application": application.name,
        "contract": application.contract,
        "observation": [feature_words(f) for f in application.observation],
        "observation_length": application.encoder.size,
        **compression_words(application),
        "actions": action_lines(application.actions),
        "baseline": baseline_words(application),
        "problem": problem_words(application),
        "reward": reward_words(application.reward),
        "learning": learning_words(application.reward),
        "agent": agent_words(application),
        "exploration": exploration_words(application),
        "training": training_words(application),
        "gate": gate_words(application),
        "rollout": rollout_words(application),
    } | hydration_words(application)


def feature_words(feature: Feature) -> str:
    """One feature, and what stands in for it when the game does not send it."""
    match feature:
        case Numeric():
            bounds = feature.low is not None and feature.high is not None
            kind = f"a number from {feature.low:g} to {feature.high:g}" if bounds else "a number"
        case Categorical():
            kind = (
                f"one of {', '.join(feature.values)}"
                if feature.values is not None
                else f"a text, hashed into {feature.buckets} buckets"
            )
        case Boolean():
            kind = "true or false"
        case Vector():
            kind = f"{feature.length} numbers"
    missing = "required" if feature.default is None else f"{feature.default!r} when missing"
    return f"{feature.name}: {kind}; {missing}"


def baseline_words(application: Application) -> str:
    """The game's rules: a table, or a function and the first line of what it says of itself."""
    baseline = application.baseline
    if isinstance(baseline, Segments):
        return baseline.words()
    name = getattr(baseline, "__name__", type(baseline).__name__)
    said = (getattr(baseline, "__doc__", None) or "").strip().partition("\n")[0]
    return f"{name}(context): {said}" if said else f"{name}(context)"


def problem_words(application: Application) -> str:
    """Bandit or episodic, with what that means for a decision."""
    problem = application.problem
    if not isinstance(problem, Episodic):
        return "bandit: each decision stands alone, and its own outcomes say all about it"
    steps = "its next reward" if problem.n_step == 1 else f"its next {problem.n_step} rewards"
    end = "the end" if problem.on_timeout == "terminal" else "unknown, and the tail is dropped"
    return (
        f"episodic: decisions follow each other; a decision is worth {steps} and what comes "
        f"after, at {problem.discount:g} a step. {duration_words(problem.timeout).capitalize()} "
        f"without a successor is {end}"
    )


def reward_words(reward: Reward) -> str:
    """The reward in a sentence."""
    if callable(reward.weights):
        name = getattr(reward.weights, "__name__", "a function")
        made = f"what {name}() makes of its outcomes"
    else:
        worth = ", ".join(f"{name} {weight:+g}" for name, weight in reward.weights.items())
        made = f"{AGGREGATES[reward.aggregate]} ({worth})"
    return (
        f"a decision is worth {made} that occur within {duration_words(reward.window)}, and "
        f"{reward.default:g} when there are none"
    )


def compression_words(application: Application) -> dict[str, str]:
    """What the agent sees of the observation, where that is not all of it."""
    spec = application.compression
    if spec is None:
        return {}
    return {
        "compression": f"an autoencoder, fitted on the first {spec.rows:,} decisions, makes "
        f"{spec.size} numbers of them; nothing is learned before"
    }


def learning_words(reward: Reward) -> str:
    """When a decision is learned from, and what late news does."""
    early = (
        "from its arrival on, at the reward so far plus the mean of what usually still comes"
        if reward.early == "impute"
        else f"once its window of {duration_words(reward.window)} is over"
    )
    closes = (
        f" (or {reward.closes_after} outcomes have come)"
        if reward.early == "wait" and reward.closes_after
        else ""
    )
    late = "amends it" if reward.late == "amend" else "is dropped"
    seen = "; only what an `activated` outcome says was seen counts" if reward.activation else ""
    return (
        f"a decision trains {early}{closes}; what occurred in time but is delivered late "
        f"{late}{seen}"
    )


def agent_words(application: Application) -> str:
    """The agent, what it does, and its settings."""
    agent = application.agent
    parameters = agent.parameters
    own = parameters.pop("network", None)
    if own is not None:
        parameters["hidden"] = f"by {getattr(own, '__name__', 'a network of its own')}()"
    settings = ", ".join(f"{name} {value}" for name, value in parameters.items())
    return f"{agent.name}: {AGENTS[agent.name].summary} ({settings})"


def network_words(found: dict[str, Any]) -> str:
    """The network that the application makes, as a bundle carries it."""
    operations = " → ".join(found["operations"]) or "nothing"
    return (
        f"hidden part: {operations} ({found['numbers']:,} numbers), all of which a bundle carries"
    )


def action_lines(actions: Actions) -> list[str]:
    """What is decided, line by line."""
    match actions:
        case Continuous():
            return [
                f"a number from {low:g} to {high:g}"
                for low, high in zip(actions.low, actions.high, strict=True)
            ]
        case Parts():
            return [
                f"{name}: {', '.join(action_lines(part))}" for name, part in actions.parts.items()
            ]
        case Ranking():
            return [
                f"the best {actions.k} of up to {actions.most_items} items, in order",
                *(f"of an item, {feature_words(feature)}" for feature in actions.item),
            ]
        case _:
            return list(actions.labels)


def exploration_words(application: Application) -> str:
    """How often something else than the policy's answer is tried, and what the floor adds."""
    exploration, choices = application.exploration, application.shape.most_choices
    match exploration:
        case EpsilonGreedy():
            share = uniform_share(exploration.epsilon, exploration.floor, choices)
            words = f"{_percent(share)} of the decisions are drawn at random"
            if exploration.start is not None and exploration.start != exploration.epsilon:
                start = uniform_share(exploration.start, exploration.floor, choices)
                goes = "falling" if start > share else "rising"
                words += (
                    f" (from {_percent(start)} at first, {goes} over {exploration.decay:,} "
                    "decisions)"
                )
            return f"{words}; {_floor_words(exploration, choices)}"
        case Softmax():
            words = (
                f"actions in proportion to exp(score / {exploration.temperature:g}), "
                f"{exploration.uniform:.0%} at random before anything is learned"
            )
        case Thompson():
            words = (
                "each action with the probability that it is the best, "
                f"{exploration.uniform:.0%} at random before anything is learned"
            )
        case Gaussian():
            words = f"numbers vary around the policy's own by {exploration.std:.0%} of their range"
        case AgentsOwn():
            words = (
                f"the agent's own randomness, {exploration.uniform:.0%} at random before anything "
                "is learned"
            )
    share = uniform_share(0.0, exploration.floor, choices)
    return f"{words}; {_floor_words(exploration, choices)}, {_percent(share)} together at random"


def _floor_words(exploration: Explores, choices: int) -> str:
    floor, most = exploration.floor, exploration.least_share
    if choices < 2:
        return f"numbers keep a share of at least {_percent(floor)} that is uniform"
    words = f"each of {choices:,} choices is drawn at least {_percent(floor)} of the time"
    if not isinstance(floor, DefaultFloor) and uniform_share(0.0, floor, choices) > most:
        words += (
            f" (more at random than {_percent(most)}: floor={floor:g} times {choices:,} choices; "
            f"leave it out, or write at most {most / choices:.3g})"
        )
    return words


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"


def training_words(application: Application) -> str:
    """The cadence."""
    training = application.training
    return (
        f"every {duration_words(training.every)} when there is something new: {training.steps} "
        f"minibatches of {training.batch} from the last {training.buffer:,} decisions, room for "
        f"{_rate(rate_carried(application))} decisions a second"
    )


def _rate(per_s: float) -> str:
    return f"{per_s:,.0f}" if per_s >= 100 else f"{per_s:.3g}"


def rate_words(application: Application, per_s: float) -> str:
    """Whether decisions mature in the buffer at this rate, and which buffer would do."""
    buffer, awaited = application.training.buffer, waited_for(application)
    held = (
        f"at {_rate(per_s)} decisions a second a buffer of {buffer:,} holds "
        f"{span(buffer / per_s)}, and something is awaited of a decision for "
        f"{duration_words(awaited)}"
    )
    needed = buffer_needed(application, per_s)
    memory = size(needed * bytes_each(application))
    if per_s <= rate_carried(application):
        spare = "" if needed <= buffer else f"; with some to spare it is {needed:,} ({memory})"
        return f"{held}: each matures before it leaves{spare}"
    early = ""
    if application.reward.closes_after is not None or isinstance(application.problem, Episodic):
        early = "ONLY WHAT OUTCOMES CLOSE EARLY MATURES"
    return (
        f"{held}: {early or 'NOTHING MATURES, so nothing can be learned'}. "
        f"Raise Training(buffer=…) to at least {needed:,} (some {memory} of memory), or shorten "
        "the window"
    )


def gate_words(application: Application) -> str:
    """What a candidate has to show."""
    gate = application.gate
    return (
        f"a policy replaces the baseline once it is, with {gate.confidence:.0%} confidence, at "
        f"most {gate.margin:g} standard deviations of the reward worse, and goes back when it is "
        f"shown to be worse than the last good one{_guardrail_words(gate.guardrails)}"
    )


def _guardrail_words(guardrails: Iterable[Guardrail]) -> str:
    """Which outcomes take every policy back."""
    bounds = [
        f"{guardrail.outcome} is surely {side} {bound:g} a decision"
        for guardrail in guardrails
        for side, bound in (("above", guardrail.most), ("below", guardrail.least))
        if bound is not None
    ]
    return f"; every policy is taken back where {' or '.join(bounds)}" if bounds else ""


def rollout_words(application: Application) -> str:
    """Who gets the policy, and in which mode."""
    modes = {
        "online": "the policy answers",
        "apprentice": "the baseline answers, and the policy learns to match it",
        "logging_only": "the baseline answers; decisions are only recorded",
    }
    rollout = application.rollout
    words = (
        f"{application.mode}: {modes[application.mode]}; {rollout.holdout:.0%} of the subjects "
        "stay on the baseline"
    )
    shares = rollout.shares(application.mode)
    if application.mode == "logging_only" or len(shares) == 1:
        return words
    steps = ", then ".join(f"{share:.0%}" for share in shares)
    match = f" that match in {rollout.match:.0%}" if application.mode == "apprentice" else ""
    return (
        f"{words}; of the others a policy answers {steps}, a step further after "
        f"{rollout.decisions_a_step:,} decisions{match} at least"
    )


def hydration_words(application: Application) -> dict[str, str]:
    """What serving looks up by itself, and whether it could here; nothing where there is none."""
    hydration = application.hydrate
    if hydration is None or callable(hydration):
        return {}
    missing = missing_packages(hydration)
    default = ", ".join(f"{name} {value!r}" for name, value in hydration.default.items())
    words = f"{hydration.words()}; for whoever is not found: {default or 'nothing'}"
    return {"hydration": words if missing is None else f"{words}. {missing}"}
