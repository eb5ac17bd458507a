"""Which agents there are, what each decides, and the settings that each takes.

The catalogue needs no TensorFlow, so an application is checked wherever it is loaded. The
training behind each name is `learner/agents/<name>.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from bakehouse_schemas.errors import ApplicationError, MissingDependency
from bakehouse_schemas.numbers import in_short, is_finite, is_whole

ACTION_KINDS = ("discrete", "continuous", "parts", "ranking")
PROBLEM_KINDS = ("bandit", "episodic")

# It pins a typing-extensions that nothing else here can live with, so it is no dependency of any
# part and comes after them.
INSTALL_TF_AGENTS = "pip install --no-deps tf-agents==0.19.0"


@dataclass(frozen=True)
class Parameter:
    """A setting of an agent: its default, a test, and what the test expects, in words."""

    default: Any
    accepts: Callable[[Any], bool]
    expected: str


def _positive(default: float) -> Parameter:
    return Parameter(
        default,
        lambda v: is_finite(v) and v > 0,
        "a number above 0",
    )


def _not_negative(default: float) -> Parameter:
    return Parameter(default, lambda v: is_finite(v) and v >= 0, "a number of at least 0")


def _share(default: float) -> Parameter:
    return Parameter(default, lambda v: is_finite(v) and 0 < v < 1, "a number between 0 and 1")


def _count(default: int) -> Parameter:
    return Parameter(
        default,
        lambda v: is_whole(v, 1, 1 << 31),
        "a whole number of at least 1",
    )


_HIDDEN = Parameter(
    (64, 64),
    lambda v: isinstance(v, (list, tuple)) and all(is_whole(n, 1, 4096) for n in v),
    "a list of layer sizes from 1 to 4096, such as [64, 64]",
)


@dataclass(frozen=True)
class AgentKind:
    """What an agent can decide and how it is set."""

    actions: frozenset[str]  # discrete, …
    problems: frozenset[str]  # bandit, episodic
    parameters: Mapping[str, Parameter]
    summary: str
    stochastic: bool = False  # has a randomness of its own: AgentsOwn() is its exploration
    imitates: bool = False  # learns the logged action itself, whatever came of it
    reads_features: bool = False  # of actions: Discrete(…, features=…)
    believes: bool = False  # says how probably each action is the best: Thompson() can draw
    needs_tf_agents: bool = False  # to be trained; see `require_packages`

    @property
    def on_policy(self) -> bool:
        """Whether it learns from the decisions of the newest policies alone."""
        return "max_policy_lag" in self.parameters


_NETWORK = Parameter(
    None,
    lambda v: v is None or callable(v),
    "a function of the number of inputs that makes the hidden Keras layers",
)
_DISCRETE = frozenset({"discrete"})
_NUMBERS_TOO = frozenset({"discrete", "continuous", "parts"})
_NUMBERS = frozenset({"continuous"})
_BANDIT, _EITHER = frozenset({"bandit"}), frozenset({"bandit", "episodic"})


def _neural(learning_rate: float, **others: Parameter) -> dict[str, Parameter]:
    """Settings of an agent with a network."""
    return {
        "hidden": _HIDDEN,
        "network": _NETWORK,
        "learning_rate": _positive(learning_rate),
        **others,
    }


_TARGET = {"target_update_period": _count(50)}
# Policies, not versions: a candidate that answered nobody decided nothing.
_ON_POLICY = {"entropy": _not_negative(0.1), "max_policy_lag": _count(60)}
# Of continuous actions: targets follow by this share at each step.
_FOLLOWING = {
    "target_update_tau": Parameter(
        0.02, lambda v: is_finite(v) and 0 < v <= 1, "a number above 0, at most 1"
    )
}
_ENTROPY = Parameter(
    None,
    lambda v: v is None or is_finite(v),
    "a number: what the entropy over [−1, 1] is to be; −1 for each number by default",
)
_ATOMS = Parameter(51, lambda v: is_whole(v, 2, 1_001), "a whole number from 2 to 1001")

AGENTS: dict[str, AgentKind] = {
    "neural_greedy": AgentKind(
        _DISCRETE,
        _BANDIT,
        _neural(3e-3),
        "a network predicts the reward of every action; the best is answered",
        reads_features=True,
        needs_tf_agents=True,
    ),
    "lin_ucb": AgentKind(
        _DISCRETE,
        _BANDIT,
        {"alpha": _positive(1.0), "regularisation": _positive(1.0)},
        "a linear model of every action's reward, optimistic where little is known",
        needs_tf_agents=True,
    ),
    "lin_ts": AgentKind(
        _DISCRETE,
        _BANDIT,
        {"scale": _positive(1.0), "regularisation": _positive(1.0)},
        "a linear model of every action's reward; each is answered as often as it may be best",
        stochastic=True,
        believes=True,
        needs_tf_agents=True,
    ),
    "neural_linucb": AgentKind(
        _DISCRETE,
        _BANDIT,
        _neural(3e-3, alpha=_positive(1.0), regularisation=_positive(1.0)),
        "a linear model over what a network has learned to see, optimistic where little is known",
        needs_tf_agents=True,
    ),
    "dqn": AgentKind(
        _DISCRETE,
        _EITHER,
        _neural(1e-3, **_TARGET),
        "double deep Q-learning with n-step returns; looks ahead over an episode",
        reads_features=True,
        needs_tf_agents=True,
    ),
    "c51": AgentKind(
        _DISCRETE,
        _EITHER,
        _neural(1e-3, **_TARGET, atoms=_ATOMS),
        "double Q-learning of the whole distribution of the return",
    ),
    "rainbow": AgentKind(
        _DISCRETE,
        _EITHER,
        _neural(1e-3, **_TARGET, atoms=_ATOMS),
        "double, duelling, n-step, prioritised Q-learning of the distribution of the return",
    ),
    "dqn_cql": AgentKind(
        _DISCRETE,
        _EITHER,
        _neural(1e-3, **_TARGET, alpha=_positive(1.0)),
        "double Q-learning that distrusts what was not tried; for learning from logs",
        needs_tf_agents=True,
    ),
    "td3": AgentKind(
        _NUMBERS,
        _EITHER,
        _neural(
            3e-3,
            **_FOLLOWING,
            target_noise=_positive(0.2),
            target_noise_clip=_positive(0.5),
            actor_update_period=_count(2),
        ),
        "twin critics judge numbers, and an actor climbs what they think; explores by Gaussian",
    ),
    "sac": AgentKind(
        _NUMBERS,
        _EITHER,
        _neural(3e-3, **_FOLLOWING, target_entropy=_ENTROPY),
        "an actor of numbers that climbs its critics and stays as random as it can afford",
        stochastic=True,
    ),
    "cql": AgentKind(
        _NUMBERS,
        _EITHER,
        _neural(3e-3, **_FOLLOWING, target_entropy=_ENTROPY, alpha=_positive(0.2)),
        "soft actor-critic that distrusts numbers that were not tried; for learning from logs",
        stochastic=True,
    ),
    "bc": AgentKind(
        _DISCRETE | _NUMBERS,
        _EITHER,
        _neural(3e-3),
        "behavioural cloning: answers as the log did, whatever came of it",
        stochastic=True,
        imitates=True,
    ),
    "rank": AgentKind(
        frozenset({"ranking"}),
        _BANDIT,
        _neural(3e-3, temperature=_positive(0.02)),
        "a network scores every item by what lists with it earned; the best are ranked",
    ),
    "ppo": AgentKind(
        _NUMBERS_TOO,
        _EITHER,
        _neural(1e-3, **_ON_POLICY, clip=_share(0.2)),
        "proximal policy optimisation: makes what earned more likely, in steps that are clipped",
        stochastic=True,
    ),
    "reinforce": AgentKind(
        _NUMBERS_TOO,
        _EITHER,
        _neural(1e-3, **_ON_POLICY),
        "the policy gradient: makes what earned more than expected more likely",
        stochastic=True,
    ),
}


def require_packages(name: str) -> None:
    """Return if this agent can be trained here; to load or serve an application takes less.

    Raises:
        MissingDependency: it needs TF-Agents; the message says how to install it.
    """
    if AGENTS[name].needs_tf_agents and not _is_installed("tf_agents"):
        raise MissingDependency(
            f"Agent({name!r}) learns by TF-Agents, which is not installed: "
            f"`{INSTALL_TF_AGENTS}`, or use an agent that does without"
        )


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ImportError:  # a finder refuses it
        return False


# Why an agent cannot, by the kind that it was asked for.
_WHY_NOT = {
    "discrete": "labels lie on no line to move along, nor on a list that came with the request",
    "continuous": "it compares actions one by one, and numbers cannot be listed",
    "parts": "it makes one decision at a time, and these are made together",
    "ranking": "it answers a single action, not an order of items",
    "episodic": "it learns what a decision earns by itself, and not what follows from it",
    "bandit": "it learns from what follows a decision, and nothing does",
}
_ORDERS_ITEMS = "it orders the items of a request, and there are none"


def refusal(name: str, *, actions: str, problem: str) -> str | None:
    """Why an agent of the catalogue does not fit these kinds, in words; None where it does."""
    kind = AGENTS[name]
    for what, chosen, possible in (
        ("actions", actions, kind.actions),
        ("problem", problem, kind.problems),
    ):
        if chosen not in possible:
            orders = what == "actions" and possible == {"ranking"}
            return (
                f"is for {' and '.join(sorted(possible))} {what}, and this application's "
                f"{'is' if what == 'problem' else 'are'} {chosen}: "
                f"{_ORDERS_ITEMS if orders else _WHY_NOT[chosen]}"
            )
    return None


def agents_table() -> str:
    """What each agent decides, as Markdown: action kinds × problem kinds."""
    head = "| agent | what it does | " + " | ".join(ACTION_KINDS) + " |"
    lines = [head, "|---|---|" + "---|" * len(ACTION_KINDS)]
    for name, kind in AGENTS.items():
        cells = []
        for actions in ACTION_KINDS:
            fits = [p for p in PROBLEM_KINDS if not refusal(name, actions=actions, problem=p)]
            cells.append(", ".join(fits) or "–")
        lines.append(f"| `{name}` | {kind.summary} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def check_agent(
    name: str,
    parameters: Mapping[str, Any],
    *,
    actions: str,
    problem: str,
    features: bool = False,
) -> None:
    """Raise ApplicationError, with what to write instead, unless the agent fits.

    Args:
        features: the actions are described by features, which the agent would have to read.
    """
    kind = AGENTS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise ApplicationError(
            f"Agent({in_short(name)}): there is no such agent; there are "
            f"{', '.join(sorted(AGENTS))}"
        )
    if parameters.get("network") is not None and "hidden" in parameters:
        raise ApplicationError(
            f"Agent({name!r}, hidden=…, network=…): either sizes of layers or a function that "
            "makes them"
        )
    for key, value in parameters.items():
        if key not in kind.parameters:
            raise ApplicationError(
                f"Agent({name!r}, {key}=…): it takes {', '.join(sorted(kind.parameters))}"
            )
        if not kind.parameters[key].accepts(value):
            raise ApplicationError(
                f"Agent({name!r}, {key}={in_short(value)}): expected "
                f"{kind.parameters[key].expected}"
            )
    if (reason := refusal(name, actions=actions, problem=problem)) is not None:
        fitting = [
            other
            for other in sorted(AGENTS)
            if refusal(other, actions=actions, problem=problem) is None
        ]
        raise ApplicationError(
            f"Agent({name!r}) {reason}; use {' or '.join(fitting) or 'another shape'}"
        )
    if features and not kind.reads_features:
        reading = [
            other
            for other, k in sorted(AGENTS.items())
            if k.reads_features and actions in k.actions and problem in k.problems
        ]
        raise ApplicationError(
            f"Agent({name!r}) does not read what describes an action, Discrete(…, features=…), and "
            f"would learn of each by itself; use {' or '.join(reading)}, or leave features out"
        )


if __name__ == "__main__":
    sys.stdout.write(agents_table())
