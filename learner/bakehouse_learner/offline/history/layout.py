"""A studio's own log of decisions as rows of `replay`: which columns it has, and what they mean.

One row a decision. Columns, by name; only `action` and something to make a reward of are needed:

| column | meaning |
|---|---|
| a feature's name | its value (a vector: a list, in CSV as JSON); or all of them as JSON in `context` |
| `action` | what was done: a label; numbers, parts or a ranking as JSON (or as a list) |
| `items` | of a ranking: what there was to rank, as JSON |
| an outcome's name, as in `Reward` | a number: it happened, with this value; true: it happened; false, 0 or empty: it did not |
| `outcomes` | instead, as JSON: `[{"name": "level_won", "value": 1, "after_s": 12.5}, …]` |
| `reward` | instead: the reward itself; the application's own rule is then not used |
| `propensity` | probability (of numbers: density) with which the action was chosen; of labels, empty: it is estimated |
| `eligible_actions` | JSON list of labels (or item ids); empty: all |
| `baseline_action` | what the game's rules would have done; without it, they are asked |
| `decided_at` | ISO 8601, or milliseconds since 1970; without it, a second apart in the file's order |
| `subject_id` | whose decision it was |
| `episode_id`, `step` | which episode, and where in it; or `previous_decision_id` |
| `end` | true: the episode is over after this decision |
| `decision_id` | needed where `previous_decision_id` is given |
| `cohort` | `policy` (default) or `holdout`, the pure rules |

In columns of numbers, or of true and false, a text that says such a value is that value, as a CSV
has nothing else; in all others a text is what it says. Numbers of DECIMAL columns are numbers.
"""  # noqa: E501 (a table)

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from bakehouse_learner.offline.history import values
from bakehouse_learner.offline.history.columns import REPLAY_SCHEMA
from bakehouse_learner.offline.history.log_columns import BY_THE_FILE, LogColumns
from bakehouse_learner.replay.arrow_columns import COLUMNS
from bakehouse_schemas.application.actions import Continuous, Discrete
from bakehouse_schemas.application.application import Application, Episodic
from bakehouse_schemas.application.observation import Boolean, Feature, Vector
from bakehouse_schemas.application.ranking import Ranking
from bakehouse_schemas.application.reward import Reward
from bakehouse_schemas.errors import ApplicationError, InvalidContext, InvalidHistory
from bakehouse_schemas.events.checks import choices_of
from bakehouse_schemas.numbers import in_short

START_MS = 1_700_000_000_000  # decisions without a time are counted from here
_NOT = (None, False, 0, "")


class Laid(NamedTuple):
    """A log as rows of `replay`, in the order of the decisions."""

    application: Application
    rows: pa.Table
    given: np.ndarray  # bool [n], the propensity was logged
    groups: np.ndarray  # int [n], whose decision it was; else which episode, else the row
    notes: tuple[str, ...]
    timed: bool  # outcomes say when they happened


def replay_rows(application: Application, table: pa.Table, named: str) -> Laid:
    """A log as rows of `replay`; see the module for the columns that it may have.

    Raises:
        InvalidHistory: naming rows (from 1, the heading not counted) and columns.
    """
    return _Layout(application, LogColumns(application, table, named)).laid()


class _Layout:
    """One log on its way into rows: what each column says of every decision."""

    def __init__(self, application: Application, log: LogColumns) -> None:
        self.application, self.log = application, log
        self.size, self.names = log.size, log.names
        self.notes: list[str] = []
        self.by_file = self._rewarded_by_the_file()

    def laid(self) -> Laid:
        times = self._times()
        items = self._items()
        contexts, observations = self._contexts(items)
        actions = self._actions("action", items)
        given = self._propensities()
        eligible = self._eligible(items, actions)
        baselines = self._actions("baseline_action", items)
        cohorts = self.log.checked("cohort", values.cohort)
        outcomes = self._outcomes(times)
        ends = self.log.checked("end", values.boolean)
        ids = self._ids()
        previous = self._previous(ids, times)
        self.log.raise_problems()
        for at, over in enumerate(ends):
            if over:
                outcomes[at].append(_outcome(f"{ids[at]}:end", "end", times[at], at))
        context_texts = [json.dumps(context, sort_keys=True) for context in contexts]
        eligible_texts = [None if labels is None else json.dumps(labels) for labels in eligible]
        place = {decision_id: at for at, decision_id in enumerate(ids)}
        for at, before in enumerate(previous):
            if before is not None and before in place:
                followed = _outcome(f"next:{ids[at]}", "next", times[at], at) | {
                    "next_decision_id": ids[at],
                    "next_observation": observations[at],
                    "next_context": context_texts[at],
                    "next_eligible_actions": eligible_texts[at],
                }
                outcomes[place[before]].append(followed)
        application = self.application
        rule = self._rule()
        rows: dict[str, Any] = {
            "decision_id": ids,
            "contract": [application.contract] * self.size,
            "subject_id": [None] * self.size,
            "previous_decision_id": previous,
            "decided_at_ms": times,
            "context": context_texts,
            "observation": observations,
            "eligible_actions": eligible_texts,
            "items": [None if one is None else json.dumps(one) for one in items],
            "density": [None] * self.size,
            "action_probabilities": [None] * self.size,
            "draw": [None] * self.size,
            "explored": [None] * self.size,
            "action": [json.dumps(action) for action in actions],
            "propensity": [1.0 if p is None else p for p in given],
            "baseline_action": [None if b is None else json.dumps(b) for b in baselines],
            "policy_version": [0] * self.size,
            "exploration": [None] * self.size,
            "mode": ["online"] * self.size,
            "cohort": [cohort or "policy" for cohort in cohorts],
            "outcomes": outcomes,
            "positions": [[_position(times[at], at)] for at in range(self.size)],
            "contested": [False] * self.size,
        }
        schema = pa.schema([REPLAY_SCHEMA.field(name) for name in COLUMNS])
        order = np.lexsort((np.arange(self.size), np.array(times)))
        known = np.array([p is not None for p in given]) | np.array(
            [cohort == "holdout" for cohort in cohorts]
        )
        return Laid(
            application=replace(application, reward=rule),
            rows=pa.Table.from_pydict(rows, schema=schema).take(pa.array(order)),
            given=known[order],
            groups=self._groups()[order],
            notes=tuple(self.notes),
            timed="outcomes" in self.names and not self.by_file,
        )

    def _rewarded_by_the_file(self) -> bool:
        """Whether `reward` is what is to be learned; tells what there is to make a reward of."""
        weights = self.application.reward.weights
        wanted = list(weights) if isinstance(weights, Mapping) else []
        there = [name for name in wanted if name in self.names]
        if "outcomes" in self.names:
            return False
        if there:
            if missing := [name for name in wanted if name not in there]:
                self.notes.append(
                    f"no column for {', '.join(missing)}: taken as never having happened"
                )
            return False
        if BY_THE_FILE in self.names:
            self.notes.append(
                "rewards are the file's own (column `reward`); the application's rule was not used"
            )
            return True
        raise InvalidHistory(
            f"{self.log.described}: expected outcomes to make a reward of: "
            + (f"a column for each of {', '.join(wanted)}, or " if wanted else "")
            + "`outcomes` as JSON, or `reward`, the reward itself"
        )

    def _rule(self) -> Reward:
        rule = self.application.reward
        if not self.by_file:
            return rule
        return Reward(
            {BY_THE_FILE: 1.0}, window=rule.window, default=0.0, early=rule.early, closes_after=1
        )

    def _items(self) -> list[Any]:
        """What there was to rank, None where nothing is ranked."""
        actions = self.application.actions
        if not isinstance(actions, Ranking):
            return [None] * self.size
        found = [
            values.parsed_json(came) for came in self.log.columns.get("items", [None] * self.size)
        ]
        for at, items in enumerate(found):
            if (expected := actions.problem_with_items(items)) is not None:
                self.log.refuse(at, "items", items, expected)
                found[at] = None
        return found

    def _actions(self, column: str, items: Sequence[Any]) -> list[Any]:
        """Actions as JSON carries them, checked."""
        actions = self.application.actions
        found: list[Any] = [None] * self.size
        for at, came in enumerate(self.log.columns.get(column, ())):
            if came in (None, "") and column != "action":
                continue
            action: Any = came if isinstance(came, str) else str(came)
            if not isinstance(actions, Discrete):
                action = values.parsed_json(came)
                if isinstance(actions, Continuous) and not isinstance(action, list):
                    action = [action]  # a column of plain numbers
            if (problem := actions.problem_with(action, items[at])) is not None:
                self.log.refuse(at, column, came, problem)
            else:
                found[at] = action
        return found

    def _propensities(self) -> list[float | None]:
        numbers = self.application.shape.dims > 0
        check = values.density if numbers else values.propensity
        given = self.log.checked("propensity", check)
        if not isinstance(self.application.actions, Discrete) and None in given:
            cohorts = self.log.columns.get("cohort", [None] * self.size)
            for at, (one, cohort) in enumerate(zip(given, cohorts, strict=True)):
                if one is None and cohort != "holdout":
                    self.log.refuse(
                        at, "propensity", None, "a number: only that of labels can be estimated"
                    )
        return given

    def _eligible(self, items: Sequence[Any], actions: Sequence[Any]) -> list[list[str] | None]:
        found: list[list[str] | None] = [None] * self.size
        for at, came in enumerate(self.log.columns.get("eligible_actions", ())):
            if came in (None, ""):
                continue
            possible = list(choices_of(self.application, items[at]))
            named = values.parsed_json(came)
            if not isinstance(named, list) or not named or not {*map(str, named)} <= {*possible}:
                self.log.refuse(
                    at, "eligible_actions", came, f"a JSON list of some of {in_short(possible)}"
                )
            elif isinstance(actions[at], str) and actions[at] not in named:
                self.log.refuse(at, "action", actions[at], f"one of its eligible_actions, {named}")
            else:
                found[at] = named
        return found

    def _contexts(self, items: Sequence[Any]) -> tuple[list[dict[str, Any]], list[list[float]]]:
        features = [f for f in self.application.observation if f.name in self.names]
        texts = self.log.columns.get("context", [None] * self.size)
        encode = self.application.encoder.encode
        contexts: list[dict[str, Any]] = []
        observations: list[list[float]] = []
        has_baseline = "baseline_action" in self.names
        for at in range(self.size):
            context, expected = values.json_object(texts[at])
            if expected is not None:
                self.log.refuse(at, "context", texts[at], expected)
                contexts.append({})
                observations.append([])
                continue
            for feature in features:
                value = self.log.columns[feature.name][at]
                if value is not None:
                    context[feature.name] = _feature_value(feature, value)
            contexts.append(context)
            try:
                observations.append(encode(context).tolist())
            except InvalidContext as error:
                observations.append([])
                name, _, said = str(error).removeprefix("context.").partition(":")
                came = context.get(name)
                named = name if name in self.names else "context"
                if came is None:
                    what = "a value" if named == name else f"a value of {name!r} in it"
                    wanted = f"{what}, as its feature has no default"
                else:
                    wanted = said.strip().removeprefix("expected ").rpartition(", got ")[0]
                self.log.refuse(at, named, came, wanted)
            if not has_baseline and not self.log.problems:
                try:
                    self.application.baseline_action(context, items[at])
                except ApplicationError as error:
                    self.notes.append(f"row {at + 1}: {error}")
                    has_baseline = True  # once is enough; the learner asks again for itself
        return contexts, observations

    def _times(self) -> list[int]:
        if "decided_at" not in self.names:
            self.notes.append("no column `decided_at`: rows are taken a second apart, in order")
            return [START_MS + 1000 * at for at in range(self.size)]
        found = self.log.checked("decided_at", values.time_ms, needed=True)
        return [START_MS if time_ms is None else time_ms for time_ms in found]

    def _ids(self) -> list[str]:
        given = self.log.columns.get("decision_id")
        ids = [
            f"row-{at + 1}" if given is None or given[at] is None else str(given[at])
            for at in range(self.size)
        ]
        first: dict[str, int] = {}
        for at, decision_id in enumerate(ids):
            if first.setdefault(decision_id, at) != at:
                self.log.refuse(
                    at, "decision_id", decision_id,
                    f"each once, and row {first[decision_id] + 1} has it too",
                )  # fmt: skip
        return ids

    def _previous(self, ids: Sequence[str], times: Sequence[int]) -> list[str | None]:
        """The decision before each in its episode."""
        if not isinstance(self.application.problem, Episodic):
            return [None] * self.size
        if "previous_decision_id" in self.names:
            return [None if p is None else str(p) for p in self.log.columns["previous_decision_id"]]
        if "episode_id" not in self.names:
            raise InvalidHistory(
                f"{self.log.described}: the problem is episodic, so expected "
                "`episode_id` (and `step`), or `decision_id` and `previous_decision_id`"
            )
        episodes = self.log.columns["episode_id"]
        steps = self.log.checked("step", values.number)
        by_step = "step" in self.names
        order = sorted(
            range(self.size),
            key=lambda at: (steps[at] or 0.0, at) if by_step else (times[at], at),
        )
        previous: list[str | None] = [None] * self.size
        last: dict[Any, int] = {}
        for at in order:
            episode = episodes[at]
            if episode is None:
                self.log.refuse(at, "episode_id", None, "the episode that the decision is part of")
                continue
            if episode in last:
                if by_step and steps[last[episode]] == steps[at]:
                    self.log.refuse(at, "step", steps[at], "each step of an episode once")
                previous[at] = ids[last[episode]]
            last[episode] = at
        return previous

    def _outcomes(self, times: Sequence[int]) -> list[list[dict[str, Any]]]:
        found: list[list[dict[str, Any]]] = [[] for _ in range(self.size)]
        if "outcomes" in self.names:
            for at, listed in enumerate(self.log.checked("outcomes", values.outcome_list)):
                for number, one in enumerate(listed or ()):
                    after_ms = round(1000 * (one.get("after_s") or 0.0))
                    found[at].append(
                        _outcome(
                            f"row-{at + 1}:{number}", "reward", times[at] + after_ms, at,
                            name=one["name"], value=one.get("value"),
                        )
                    )  # fmt: skip
            return found
        weights = self.application.reward.weights
        names = [BY_THE_FILE] if self.by_file else [n for n in weights if n in self.names]  # type: ignore[union-attr] # a function of outcomes has no columns
        for name in names:
            column = self.log.checked(name, values.number, needed=self.by_file)
            for at, value in enumerate(column):
                if value not in _NOT or (self.by_file and value is not None):
                    one = self.log.columns[name][at] is True
                    found[at].append(
                        _outcome(
                            f"row-{at + 1}:{name}", "reward", times[at], at,
                            name=name, value=None if one else float(value),
                        )
                    )  # fmt: skip
        return found

    def _groups(self) -> np.ndarray:
        for name in ("subject_id", "episode_id"):
            if name in self.names:
                numbers: dict[Any, int] = {}
                whose: Iterable[Any] = self.log.columns[name]
                return np.array([numbers.setdefault(one, len(numbers)) for one in whose])
        return np.arange(self.size)


def _feature_value(feature: Feature, value: Any) -> Any:
    """A cell as a game would send it: lists from JSON, true and false from 1 and 0."""
    if isinstance(feature, Vector):
        return values.parsed_json(value)
    if isinstance(feature, Boolean) and value in (0, 1):
        return bool(value)
    return value


def _position(received_at_ms: int, row: int) -> dict[str, Any]:
    return {"received_at_ms": received_at_ms, "topic": "history", "partition": 0, "offset": row}


def _outcome(outcome_id: str, kind: str, at_ms: int, row: int, **fields: Any) -> dict[str, Any]:
    return {
        "outcome_id": outcome_id,
        "kind": kind,
        "occurred_at_ms": at_ms,
        "positions": [_position(at_ms, row)],
        **fields,
    }
