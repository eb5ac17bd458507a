"""The application: what a data scientist writes, one page, one frozen value."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Any, Literal

from bakehouse_schemas.application.actions import ACTIONS, Actions, Continuous, Discrete, Parts
from bakehouse_schemas.application.agents import AGENTS, check_agent
from bakehouse_schemas.application.compression import Compression
from bakehouse_schemas.application.durations import hours, minutes, seconds
from bakehouse_schemas.application.exploration import (
    EXPLORES,
    AgentsOwn,
    EpsilonGreedy,
    Exploration,
    Explores,
    Gaussian,
    Softmax,
    Thompson,
    default_exploration,
)
from bakehouse_schemas.application.gate import Gate
from bakehouse_schemas.application.hydration import Hydration, Lookup, hydration_of
from bakehouse_schemas.application.observation import (
    MOST_DIMENSIONS,
    Boolean,
    Categorical,
    Encoder,
    Feature,
    Numeric,
    Vector,
    described_feature,
)
from bakehouse_schemas.application.ranking import Item, Ranking
from bakehouse_schemas.application.reward import Reward
from bakehouse_schemas.application.rollout import Guardrail, Rollout
from bakehouse_schemas.application.segments import Segments
from bakehouse_schemas.application.shape import Shape
from bakehouse_schemas.application.training import Training
from bakehouse_schemas.application.user_code_errors import error_text, source_file, source_line
from bakehouse_schemas.errors import ApplicationError, BaselineFailed
from bakehouse_schemas.numbers import in_short, is_finite, is_whole

__all__ = [
    "Agent",
    "AgentsOwn",
    "Application",
    "Bandit",
    "Compression",
    "Continuous",
    "Discrete",
    "Episodic",
    "EpsilonGreedy",
    "Exploration",
    "Gate",
    "Gaussian",
    "Guardrail",
    "Parts",
    "Ranking",
    "Rollout",
    "Softmax",
    "Thompson",
    "Training",
    "hours",
    "minutes",
    "seconds",
]

Baseline = Callable[[Mapping[str, Any]], Any]
_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")


@dataclass(frozen=True)
class Bandit:
    """Each decision stands alone: its outcomes say all about it."""

    kind = "bandit"


@dataclass(frozen=True)
class Episodic:
    """Decisions follow each other; what comes later is worth `discount` for each step.

    Args:
        discount: γ in (0, 1].
        n_step: how many rewards are summed before bootstrapping.
        timeout: an episode without a successor for this long is over.
        on_timeout: `terminal` (nothing more was to be had) or `truncate` (unknown: drop the tail
            that cannot be bootstrapped).
    """

    discount: float = 0.99
    n_step: int = 1
    timeout: timedelta = timedelta(minutes=30)
    on_timeout: Literal["terminal", "truncate"] = "terminal"
    kind = "episodic"

    def __post_init__(self) -> None:
        if not is_finite(self.discount) or not 0 < self.discount <= 1:
            raise ApplicationError(
                f"Episodic(discount={in_short(self.discount)}): must be in (0, 1]"
            )
        if not is_whole(self.n_step, 1, 32):
            raise ApplicationError(f"Episodic(n_step={in_short(self.n_step)}): from 1 to 32")
        if not isinstance(self.timeout, timedelta) or self.timeout <= timedelta(0):
            raise ApplicationError(
                f"Episodic(timeout={in_short(self.timeout)}): give a duration, such as minutes(30)"
            )
        if self.on_timeout not in ("terminal", "truncate"):
            raise ApplicationError(
                f"Episodic(on_timeout={in_short(self.on_timeout)}): 'terminal' or 'truncate'"
            )


class Agent:
    """Which agent learns, by name, and its settings; see `agents.AGENTS`."""

    def __init__(self, name: str, **parameters: Any) -> None:
        self.name = name
        self.given = parameters

    @property
    def parameters(self) -> dict[str, Any]:
        """All settings, defaults included."""
        defaults = {name: p.default for name, p in AGENTS[self.name].parameters.items()}
        return defaults | self.given

    def __repr__(self) -> str:
        given = "".join(f", {name}={value!r}" for name, value in self.given.items())
        return f"Agent({self.name!r}{given})"


@dataclass(frozen=True)
class Application:
    """One thing being decided for one game. Checked when made; see the parts for each field.

    Raises:
        ApplicationError: with what to write instead.
    """

    name: str
    observation: Sequence[Feature]
    actions: Actions
    reward: Reward
    baseline: Baseline
    problem: Bandit | Episodic = Bandit()
    agent: Agent = field(default_factory=lambda: Agent("neural_greedy"))
    exploration: Explores = None  # type: ignore[assignment]  # by the kind of actions, see below
    training: Training = field(default_factory=Training)
    gate: Gate = field(default_factory=Gate)
    rollout: Rollout = field(default_factory=Rollout)
    mode: Literal["online", "apprentice", "logging_only"] = "online"
    hydrate: Hydration | Lookup | None = None
    compression: Compression | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ApplicationError(
                f"Application(name={in_short(self.name)}): use 1 to 63 of a-z, 0-9 and '-', "
                "beginning with a letter, such as 'level-difficulty'"
            )
        if not isinstance(self.observation, Iterable):
            raise ApplicationError(
                f"Application(observation={in_short(self.observation)}): expected a list of "
                "features, such as [Numeric('skill', low=0, high=1)]"
            )
        object.__setattr__(self, "observation", tuple(self.observation))
        for feature in self.observation:
            if not isinstance(feature, (Numeric, Categorical, Boolean, Vector)):
                raise ApplicationError(
                    f"observation of {self.name!r} holds {in_short(feature)}: expected Numeric, "
                    "Categorical, Boolean or Vector"
                )
        names = [feature.name for feature in self.observation]
        if not names or len(set(names)) != len(names):
            raise ApplicationError(
                f"observation of {self.name!r} has features {names}: expected at least one, and "
                "each name once"
            )
        if (size := sum(feature.size for feature in self.observation)) > MOST_DIMENSIONS:
            raise ApplicationError(
                f"observation of {self.name!r} has {size} dimensions: at most {MOST_DIMENSIONS}"
            )
        if self.exploration is None and isinstance(self.actions, ACTIONS):
            named = self.agent.name if isinstance(self.agent, Agent) else ""
            own = isinstance(named, str) and named in AGENTS and AGENTS[named].stochastic
            object.__setattr__(self, "exploration", default_exploration(self.actions.kind, own=own))
        for attribute, expected in (
            ("actions", ACTIONS),
            ("reward", Reward),
            ("problem", (Bandit, Episodic)),
            ("agent", Agent),
            ("exploration", EXPLORES),
            ("training", Training),
            ("gate", Gate),
            ("rollout", Rollout),
        ):
            if not isinstance(getattr(self, attribute), expected):
                wanted = expected if isinstance(expected, tuple) else (expected,)
                raise ApplicationError(
                    f"Application({attribute}={in_short(getattr(self, attribute))}): expected "
                    f"{' or '.join(t.__name__ + '(…)' for t in wanted)}"
                )
        if not callable(self.baseline):
            raise ApplicationError(
                f"Application(baseline={in_short(self.baseline)}): give a function of the "
                f"context to {action_words(self.actions)}: the game's rules today"
            )
        if self.mode not in ("online", "apprentice", "logging_only"):
            raise ApplicationError(
                f"Application(mode={in_short(self.mode)}): 'online', 'apprentice' or 'logging_only'"
            )
        check_agent(
            self.agent.name,
            self.agent.given,
            actions=self.actions.kind,
            problem=self.problem.kind,
            features=isinstance(self.actions, Discrete) and self.actions.features is not None,
        )
        if isinstance(self.baseline, Segments):
            self.baseline.check(self.observation, self.baseline_action)
        object.__setattr__(self, "hydrate", hydration_of(self.hydrate, self.observation))
        if self.compression is not None:
            if not isinstance(self.compression, Compression):
                raise ApplicationError(
                    f"Application(compression={in_short(self.compression)}): expected "
                    "Compression(…)"
                )
            self.compression.check(
                dimensions=size,
                buffer=self.training.buffer,
                kind=self.actions.kind,
                features=self.shape.features,
            )
        self._check_exploration()
        if self.mode == "apprentice" and AGENTS[self.agent.name].on_policy:
            raise ApplicationError(
                f"Application(mode='apprentice'): Agent({self.agent.name!r}) learns from its own "
                "decisions alone, and an apprentice makes none at first; use an agent that learns "
                "from any, such as Agent('bc')"
            )
        if self.mode == "apprentice" and self.actions.kind not in ("discrete", "continuous"):
            raise ApplicationError(
                f"Application(mode='apprentice'): whether a policy matches the rules is known of "
                f"discrete and continuous actions, and this application's are {self.actions.kind}; "
                "use mode='online' with Rollout(canary=[0.01, 0.1, 1.0])"
            )

    def _check_exploration(self) -> None:
        exploration, kind = self.exploration, self.actions.kind
        if kind not in exploration.kinds:
            fitting = [rule.__name__ for rule in EXPLORES if kind in rule.kinds]
            raise ApplicationError(
                f"{type(exploration).__name__}(…) explores {' and '.join(exploration.kinds)} "
                f"actions, and this application's are {kind}; use {' or '.join(fitting)}"
            )
        own = AGENTS[self.agent.name].stochastic
        if self.shape.dims and isinstance(exploration, (AgentsOwn, EpsilonGreedy)) and not own:
            raise ApplicationError(
                f"{type(exploration).__name__}(…): Agent({self.agent.name!r}) has no randomness of "
                "its own, so its numbers would never vary; use Gaussian(0.1)"
            )
        if isinstance(exploration, (Softmax, Gaussian)) and AGENTS[self.agent.name].on_policy:
            raise ApplicationError(
                f"{type(exploration).__name__}(…): Agent({self.agent.name!r}) learns how much to "
                "vary, and would be executed with another spread; use AgentsOwn()"
            )
        if isinstance(exploration, Thompson) and not AGENTS[self.agent.name].believes:
            believing = [name for name, agent in sorted(AGENTS.items()) if agent.believes]
            raise ApplicationError(
                f"Thompson(…): Agent({self.agent.name!r}) does not say with which probability an "
                f"action is the best; use {' or '.join(believing) or 'another exploration'}"
            )
        most = self.shape.most_choices
        exploration = exploration.among(most)
        object.__setattr__(self, "exploration", exploration)
        if exploration.floor * most > 1:
            raise ApplicationError(
                f"{type(exploration).__name__}(floor={exploration.floor}) with {most} actions "
                f"adds up to more than 1: at most {1 / most:.4f}"
            )

    @cached_property
    def encoder(self) -> Encoder:
        """Context → observation."""
        return Encoder(self.observation)

    @property
    def shape(self) -> Shape:
        """The actions in numbers."""
        return self.actions.shape

    @cached_property
    def contract(self) -> str:
        """Fingerprint of observation, actions and problem kind: 16 hexadecimal digits."""
        return fingerprint_of(described_contract(self.observation, self.actions, self.problem.kind))

    def baseline_action(
        self, context: Mapping[str, Any], items: Sequence[Item] | None = None
    ) -> Any:
        """The baseline's answer, as JSON carries it.

        Args:
            items: of a request to rank; the baseline finds them in its context as `items`.

        Raises:
            BaselineFailed: the baseline raised, or answered something that is no action.
        """
        try:
            action = self.baseline(context if items is None else {**context, "items": items})
        except (Exception, SystemExit) as error:
            raise BaselineFailed(
                f"the baseline of {self.name!r} raised {error_text(error)}"
                f"{source_line(error, source_file(self.baseline))}"
            ) from error
        try:
            problem = self.actions.problem_with(action, items)
        except Exception as error:  # a value whose own methods raise
            problem = error_text(error)
        if problem is not None:
            raise BaselineFailed(
                f"the baseline of {self.name!r} answered {in_short(action)}: {problem}"
            )
        return action


def described_contract(
    features: Sequence[Feature], actions: Actions, problem: str
) -> dict[str, Any]:
    """What the fingerprint of a contract is of; `contracts.contract.Contract` reads it back.

    Args:
        problem: `bandit` or `episodic`.
    """
    return {
        "observation": [described_feature(feature) for feature in features],
        "actions": {actions.kind: actions.described()},
        "problem": problem,
    }


def fingerprint_of(described: Mapping[str, Any]) -> str:
    """16 hexadecimal digits, of `described_contract`."""
    text = json.dumps(described, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def action_words(actions: Actions) -> str:
    """What an action is, for a message."""
    match actions:
        case Discrete():
            return f"one of {list(actions.labels)}"
        case Continuous():
            return f"a list of {actions.length} numbers"
        case Parts():
            return f"an object of {list(actions.parts)}"
        case Ranking():
            return f"a list of {actions.k} item ids"
