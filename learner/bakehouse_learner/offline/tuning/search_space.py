"""Which settings are searched, and how far from where they are: the one table of it.

A range is around what the application says, so it lies in its own search space. Floors of
exploration, the cadence and the buffer are not searched: they are what evidence, machines and
memory allow. What the table does not name stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import Any, NamedTuple, Protocol

from bakehouse_schemas.application.agents import AGENTS
from bakehouse_schemas.application.application import Agent, Application, Training
from bakehouse_schemas.application.exploration import DefaultFloor, Explores
from bakehouse_schemas.errors import ApplicationError

DIGITS = 3  # significant ones of what is suggested: what is pasted is what was tried
HIDDEN: tuple[tuple[int, ...], ...] = ((32,), (64,), (32, 32), (64, 64), (128, 128), (256, 256))
BATCHES = (64, 128, 256, 512)


class Around(NamedTuple):
    """From value / factor to value × factor, on a logarithmic scale."""

    factor: float
    whole: bool = False


AGENT: dict[str, Around] = {
    "learning_rate": Around(10),
    "alpha": Around(10),
    "scale": Around(10),
    "regularisation": Around(30),
    "temperature": Around(10),
    "entropy": Around(10),
    "clip": Around(3),
    "tau": Around(10),
    "target_noise": Around(4),
    "target_noise_clip": Around(4),
    "target_update_period": Around(5, whole=True),
    "actor_update_period": Around(3, whole=True),
    "max_policy_lag": Around(4, whole=True),
    "epochs": Around(4, whole=True),
    "atoms": Around(2, whole=True),
}
EXPLORATION: dict[str, Around] = {
    "epsilon": Around(5),
    "temperature": Around(10),
    "std": Around(4),
    "start": Around(2),
    "decay": Around(4, whole=True),
    "uniform": Around(2),
}
TRAINING: dict[str, Around] = {"steps": Around(4, whole=True)}


class Suggests(Protocol):
    """What is asked of a trial of Optuna."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float: ...
    def suggest_int(self, name: str, low: int, high: int, *, log: bool) -> int: ...
    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...


@dataclass(frozen=True)
class Setting:
    """One setting that is searched.

    Args:
        name: such as `dqn.learning_rate`, `exploration.epsilon` or `training.batch`.
        now: what the application says.
        choices: what is tried; else everything from `low` to `high`.
    """

    name: str
    now: Any
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    whole: bool = False

    def suggested(self, trial: Suggests) -> Any:
        """A value to try."""
        if self.choices:
            said = trial.suggest_categorical(self.name, [in_one(one) for one in self.choices])
            return next(one for one in self.choices if in_one(one) == said)
        if self.whole:
            return trial.suggest_int(self.name, int(self.low), int(self.high), log=True)
        value = trial.suggest_float(self.name, self.low, self.high, log=True)
        return self.now if value == self.now else float(f"{value:.{DIGITS}g}")


def in_one(value: Any) -> Any:
    """A value as Optuna takes a category: sizes of layers as `64x64`."""
    return "x".join(map(str, value)) if isinstance(value, (list, tuple)) else value


class Space:
    """What is searched of an application.

    Args:
        agents: names that are tried beside the application's own agent, each at its own settings.
        in_world: the application learns while it is played, so that exploration and the steps
            of a training matter; not so where it learns from a log.

    Raises:
        ApplicationError: an agent does not fit the application, or its exploration.
    """

    def __init__(
        self, application: Application, agents: Sequence[str] = (), *, in_world: bool = True
    ) -> None:
        self._page = application
        own = application.agent.name
        self.agents: dict[str, Application] = {own: application}
        for name in agents:
            if name != own:
                self.agents[name] = _with_agent(application, name)
        self._of_agent = {name: _agent_settings(page) for name, page in self.agents.items()}
        self._of_rule = _rule_settings(application.exploration) if in_world else []
        self._of_training = _training_settings(application.training, in_world=in_world)

    @property
    def settings(self) -> list[Setting]:
        """All that are searched."""
        agents = [setting for settings in self._of_agent.values() for setting in settings]
        return agents + self._of_rule + (self._of_training if self._any_minibatches else [])

    @property
    def left_alone(self) -> list[str]:
        """Settings of the agents that nothing is known to try of, such as `dqn.network`."""
        searched = {setting.name for setting in self.settings}
        return [
            f"{name}.{parameter}"
            for name in self.agents
            for parameter in AGENTS[name].parameters
            if f"{name}.{parameter}" not in searched
        ]

    def as_it_is(self) -> dict[str, Any]:
        """The application, as a trial that Optuna can be given."""
        named: dict[str, Any] = {"agent": self._page.agent.name} if len(self.agents) > 1 else {}
        own = self._of_agent[self._page.agent.name]
        training = self._of_training if _by_minibatches(self._page.agent.name) else []
        return named | {s.name: in_one(s.now) for s in [*own, *self._of_rule, *training]}

    def suggested(self, trial: Suggests) -> Application:
        """The application at settings to try."""
        name = self._page.agent.name
        if len(self.agents) > 1:
            name = trial.suggest_categorical("agent", list(self.agents))
        page = self.agents[name]
        agent = Agent(name, **page.agent.given | _changed(self._of_agent[name], trial))
        rule = replace(page.exploration, **_changed(self._of_rule, trial))
        training = page.training
        if _by_minibatches(name):
            training = replace(training, **_changed(self._of_training, trial))
        return replace(page, agent=agent, exploration=rule, training=training)

    @property
    def _any_minibatches(self) -> bool:
        return any(map(_by_minibatches, self.agents))


def lines_of(application: Application, page: Application) -> list[str]:
    """Lines to write into the application file, one for each part that differs."""
    lines = []
    if application.agent.name != page.agent.name or application.agent.given != page.agent.given:
        given = "".join(f", {k}={_written(v)}" for k, v in application.agent.given.items())
        lines.append(f'agent=Agent("{application.agent.name}"{given}),')
    if application.exploration != page.exploration:
        lines.append(f"exploration={_of_dataclass(application.exploration)},")
    if application.training != page.training:
        lines.append(f"training={_of_dataclass(application.training)},")
    return lines


def settings_of(application: Application, space: Space) -> dict[str, Any]:
    """What an application says of each setting that is searched and that it has."""
    found: dict[str, Any] = {"agent": application.agent.name} if len(space.agents) > 1 else {}
    for setting in space.settings:
        part, name = setting.name.split(".", 1)
        if part == "exploration":
            found[setting.name] = getattr(application.exploration, name)
        elif part == "training":
            found[setting.name] = getattr(application.training, name)
        elif part == application.agent.name:
            found[setting.name] = application.agent.parameters[name]
    return found


def _with_agent(application: Application, name: str) -> Application:
    try:
        return replace(application, agent=Agent(name))
    except ApplicationError as error:
        raise ApplicationError(f"--agents {name}: {error}") from None


def _by_minibatches(agent: str) -> bool:
    """Whether it learns by gradient steps, as whatever has a learning rate does."""
    return "learning_rate" in AGENTS[agent].parameters


def _agent_settings(application: Application) -> list[Setting]:
    agent, found = application.agent, []
    for name, parameter in AGENTS[agent.name].parameters.items():
        now = agent.parameters[name]
        if name == "hidden" and agent.parameters.get("network") is None:
            choices = tuple(dict.fromkeys((tuple(now), *HIDDEN)))
            found.append(Setting(f"{agent.name}.hidden", tuple(now), choices=choices))
        elif name in AGENT:
            found += _around(f"{agent.name}.{name}", now, AGENT[name], parameter.accepts)
    return found


def _rule_settings(rule: Explores) -> list[Setting]:
    found = []
    for name, how in EXPLORATION.items():
        now = getattr(rule, name, None)
        if name == "decay" and getattr(rule, "start", None) is None:
            continue  # nothing falls

        def accepts(value: Any, name: str = name) -> bool:
            try:
                replace(rule, **{name: value})
            except ApplicationError:
                return False
            return True

        found += _around(f"exploration.{name}", now, how, accepts)
    return found


def _training_settings(training: Training, *, in_world: bool) -> list[Setting]:
    batches = tuple(dict.fromkeys((training.batch, *BATCHES)))
    found = [Setting("training.batch", training.batch, choices=batches)]
    if in_world:
        for name, how in TRAINING.items():
            found += _around(f"training.{name}", getattr(training, name), how, lambda _: True)
    return found


def _around(name: str, now: Any, how: Around, accepts: Callable[[Any], bool]) -> list[Setting]:
    """The range around a value, as far as its test lets it go; none around 0 or nothing."""
    if not isinstance(now, (int, float)) or isinstance(now, bool) or now <= 0:
        return []
    factor = how.factor
    low: float = max(1, round(now / factor)) if how.whole else now / factor
    high: float = round(now * factor) if how.whole else now * factor
    while not accepts(high) and factor > 1.01:
        factor **= 0.5
        high = round(now * factor) if how.whole else now * factor
    high = high if accepts(high) else now
    low = low if accepts(low) else now
    return [Setting(name, now, low=low, high=high, whole=how.whole)] if low < high else []


def _changed(settings: Sequence[Setting], trial: Suggests) -> dict[str, Any]:
    """Suggested values by the setting's own name, but for those that are in force already."""
    found: dict[str, Any] = {}
    for setting in settings:
        value = setting.suggested(trial)
        if value != setting.now:
            found[setting.name.split(".", 1)[1]] = list(value) if _sizes(value) else value
    return found


def _sizes(value: Any) -> bool:
    return isinstance(value, tuple)


def _of_dataclass(value: Any) -> str:
    """Python that makes it; what is at its default left out."""
    mine = type(value).__annotations__  # before what all of its kind share
    given: Mapping[str, Any] = {
        field.name: getattr(value, field.name)
        for field in sorted(fields(value), key=lambda field: field.name not in mine)
        if field.init and _is_written(getattr(value, field.name), field.default)
    }
    return f"{type(value).__name__}({', '.join(f'{k}={_written(v)}' for k, v in given.items())})"


def _is_written(value: Any, default: Any) -> bool:
    """Whether an application says it: a floor may be written though it is the usual one."""
    return not isinstance(value, DefaultFloor) and (
        value != default or isinstance(default, DefaultFloor)
    )


def _written(value: Any) -> str:
    if isinstance(value, timedelta):
        return f"seconds({value.total_seconds():g})"
    if callable(value):
        return str(getattr(value, "__name__", "…"))
    if isinstance(value, tuple):
        value = list(value)
    return f'"{value}"' if isinstance(value, str) else repr(value)
