"""Reward: a float computed from a decision's outcomes, never stored as truth.

One file holds the whole rule: which outcomes count, how they are aggregated, and when an
experience is mature.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import timedelta
from types import CodeType
from typing import Literal, NamedTuple

from bakehouse_schemas.errors import ApplicationError
from bakehouse_schemas.formatting import duration_words
from bakehouse_schemas.numbers import in_short, is_finite, is_text, is_whole

Aggregate = Literal["sum", "first", "last", "max", "min", "mean"]
# A client's clock is believed when the delay it shows is not negative and exceeds the
# brokers' gap by no more than this (milliseconds): clocks tick apart a little.
CLOCK_TOLERANCE_MS = 50


class TimedOutcome(NamedTuple):
    """One outcome, with what the reward needs of it."""

    outcome_id: str
    kind: str  # reward, executed, activated, end, next
    name: str | None
    value: float | None
    occurred_at_ms: int  # client's clock
    received_at_ms: int  # broker's clock


class DecisionTimes(NamedTuple):
    """When a decision was taken, by the client's and by the broker's clock."""

    decided_at_ms: int
    received_at_ms: int


def delay_ms(decision: DecisionTimes, outcome: TimedOutcome) -> int:
    """How long after the decision an outcome occurred, in milliseconds.

    By the client's clock where that is believable (not negative, and not more than the gap
    between the two arrivals at the broker), else by the broker's.
    """
    by_client = outcome.occurred_at_ms - decision.decided_at_ms
    by_broker = outcome.received_at_ms - decision.received_at_ms
    if 0 <= by_client <= max(by_broker, 0) + CLOCK_TOLERANCE_MS:
        return by_client
    return max(by_broker, 0)


@dataclass(frozen=True)
class Reward:
    """How outcomes become a reward.

    Args:
        weights: by outcome name; an outcome adds `weight * value` (value 1 where it has none).
            Or a function of the counted outcomes (in order of occurrence) to a float.
        window: outcomes that occur later than this after the decision never count.
        default: the reward when no weighted outcome counted.
        aggregate: how several outcomes become one number.
        early: `impute` trains from the decision's arrival on, at the reward so far plus the mean
            remaining reward; `wait` trains matured decisions only.
        late: what occurred in time and was delivered late changes the experience (`amend`) or
            not (`drop`).
        closes_after: this many weighted outcomes close the decision before its window ends.
        activation: a decision counts only once an outcome of kind `activated` says, within the
            window, that the player saw it. One that is never activated teaches nothing: what was
            not seen was not decided.
    """

    weights: Mapping[str, float] | Callable[[Sequence[TimedOutcome]], float]
    window: timedelta
    default: float = 0.0
    aggregate: Aggregate = "sum"
    early: Literal["impute", "wait"] = "impute"
    late: Literal["amend", "drop"] = "amend"
    closes_after: int | None = None
    activation: bool = False
    _window_ms: int = field(init=False, repr=False, compare=False, default=0)

    def __post_init__(self) -> None:
        if not isinstance(self.window, timedelta):
            raise ApplicationError(
                f"Reward(window={in_short(self.window)}): give a duration, such as "
                "window=minutes(30)"
            )
        if self.window < timedelta(milliseconds=1):
            raise ApplicationError(
                f"Reward(window={self.window}): must be longer than zero, at least a millisecond"
            )
        if isinstance(self.weights, Mapping):
            for name, weight in self.weights.items():
                if not is_text(name) or not isinstance(weight, (int, float)):
                    raise ApplicationError(
                        "Reward weights are {outcome name: number}, not "
                        f"{{{in_short(name)}: {in_short(weight)}}}"
                    )
                if not is_finite(weight):
                    raise ApplicationError(
                        f"Reward weight of {name!r} is {in_short(weight)}: must be finite"
                    )
        elif not callable(self.weights):
            raise ApplicationError(
                f"Reward({in_short(self.weights)}): give {{outcome name: weight}} or a "
                "function of outcomes"
            )
        if not is_finite(self.default):
            raise ApplicationError(
                f"Reward(default={in_short(self.default)}): must be finite, a number"
            )
        for name, value, allowed in (
            ("aggregate", self.aggregate, ("sum", "first", "last", "max", "min", "mean")),
            ("early", self.early, ("impute", "wait")),
            ("late", self.late, ("amend", "drop")),
        ):
            if value not in allowed:
                raise ApplicationError(
                    f"Reward({name}={in_short(value)}): expected one of {allowed}"
                )
        if self.closes_after is not None and not is_whole(self.closes_after, 1, 1_000_000):
            raise ApplicationError(
                f"Reward(closes_after={in_short(self.closes_after)}): at least 1 outcome"
            )
        if not isinstance(self.activation, bool):
            raise ApplicationError(f"Reward(activation={in_short(self.activation)}): True or False")
        object.__setattr__(self, "_window_ms", round(self.window.total_seconds() * 1000))

    @property
    def window_ms(self) -> int:
        return self._window_ms

    @property
    def fingerprint(self) -> str:
        """Differs where the rule does: 16 hexadecimal digits. A function is told by its code."""
        weights: object = self.weights
        if isinstance(self.weights, Mapping):
            weights = sorted(self.weights.items())
        elif (code := getattr(self.weights, "__code__", None)) is not None:
            weights = _code(code)
        else:
            weights = type(self.weights).__qualname__
        settings = [  # what is as it is by default says nothing, so new settings change nothing
            (setting.name, getattr(self, setting.name))
            for setting in fields(self)
            if setting.name not in ("weights", "_window_ms")
            and getattr(self, setting.name) != setting.default
        ]
        return hashlib.blake2b(repr((weights, settings)).encode(), digest_size=8).hexdigest()

    def weighs(self, outcome: TimedOutcome) -> bool:
        """Whether an outcome is one that the reward is made of, whenever it comes."""
        if outcome.kind != "reward":
            return False
        return not isinstance(self.weights, Mapping) or outcome.name in self.weights

    def counted(
        self,
        decision: DecisionTimes,
        outcomes: Iterable[TimedOutcome],
        *,
        matured_at_ms: int | None = None,
    ) -> list[TimedOutcome]:
        """The outcomes that count, in order of occurrence.

        `matured_at_ms` is the stream time at which the decision matured: with `late="drop"` what
        the broker received after it is left out.
        """
        timed = []
        for outcome in outcomes:
            after = delay_ms(decision, outcome)
            if self.left_out(outcome, after, matured_at_ms) is None:
                timed.append((after, outcome.outcome_id, outcome))
        timed.sort(key=lambda entry: entry[:2])
        return [outcome for _, _, outcome in timed]

    def left_out(
        self, outcome: TimedOutcome, after_ms: int, matured_at_ms: int | None
    ) -> Literal["unweighted", "too late", "dropped"] | None:
        """Why an outcome does not count; None where it does."""
        if not self.weighs(outcome):
            return "unweighted"
        if after_ms > self._window_ms:
            return "too late"
        if (
            self.late == "drop"
            and matured_at_ms is not None
            and outcome.received_at_ms > matured_at_ms
        ):
            return "dropped"
        return None

    def value(self, counted: Sequence[TimedOutcome]) -> float:
        """Reward of the counted outcomes; `default` where there are none."""
        if not counted:
            return self.default
        if not isinstance(self.weights, Mapping):
            return float(self.weights(counted))
        values = [
            self.weights[outcome.name or ""] * (1.0 if outcome.value is None else outcome.value)
            for outcome in counted
        ]
        match self.aggregate:
            case "sum":
                return math.fsum(values)
            case "first":
                return values[0]
            case "last":
                return values[-1]
            case "max":
                return max(values)
            case "min":
                return min(values)
            case "mean":
                return math.fsum(values) / len(values)

    def of_happenings(self, happenings: Iterable[tuple[float, str, float | None]]) -> float:
        """Reward of what simulated players cause: each `(seconds afterwards, name, value)`.

        By the very rule that outcomes of a game are counted by, each received as it occurs.
        """
        times = DecisionTimes(0, 0)
        outcomes = [
            TimedOutcome(str(at), "reward", name, value, after_ms, after_ms)
            for at, (after_s, name, value) in enumerate(happenings)
            for after_ms in [round(after_s * 1000)]
        ]
        matured = matured_at_ms(self, times, outcomes)
        return self.value(self.counted(times, outcomes, matured_at_ms=matured))

    def closed_early(self, outcomes: Iterable[TimedOutcome], counted: int) -> bool:
        """Whether nothing more is awaited: an `end` came, or `closes_after` outcomes counted."""
        if self.closes_after is not None and counted >= self.closes_after:
            return True
        return any(outcome.kind == "end" for outcome in outcomes)

    def is_active(self, decision: DecisionTimes, outcomes: Iterable[TimedOutcome]) -> bool:
        """Whether a decision counts at all: it was seen, or need not have been."""
        return not self.activation or any(
            outcome.kind == "activated" and delay_ms(decision, outcome) <= self._window_ms
            for outcome in outcomes
        )

    def in_words(self) -> str:
        """One sentence for a person."""
        if isinstance(self.weights, Mapping):
            what = ", ".join(f"{name} × {weight:g}" for name, weight in self.weights.items())
            what = f"the {self.aggregate} of {what}"
        else:
            what = f"{getattr(self.weights, '__name__', 'a function')}(outcomes)"
        return (
            f"{what}, from outcomes that occur within {duration_words(self.window)} of the "
            f"decision; {self.default:g} when none does"
        )


def closed_at_ms(
    rule: Reward, times: DecisionTimes, by_arrival: Sequence[TimedOutcome]
) -> int | None:
    """Broker time of the outcome that closed a decision early; None where none did.

    Args:
        by_arrival: all outcomes in order of `received_at_ms`.
    """

    def closed(known: int) -> bool:
        outcomes = by_arrival[:known]
        return rule.closed_early(outcomes, len(rule.counted(times, outcomes)))

    if not closed(len(by_arrival)):
        return None
    # once closed, more outcomes leave it closed: the first such length is found by bisection
    known = bisect_left(range(len(by_arrival) + 1), True, key=closed)
    return by_arrival[max(known, 1) - 1].received_at_ms


def matured_at_ms(rule: Reward, times: DecisionTimes, outcomes: Sequence[TimedOutcome]) -> int:
    """Broker time from which nothing more is awaited, as far as these outcomes tell."""
    at_ms = times.received_at_ms + rule.window_ms
    if outcomes:
        by_arrival = sorted(outcomes, key=lambda outcome: outcome.received_at_ms)
        closed = closed_at_ms(rule, times, by_arrival)
        if closed is not None:
            at_ms = min(at_ms, closed)
    return at_ms


def _code(code: CodeType) -> object:
    """What a function does, the same in every process: sets are in another order in each."""
    constants = [
        _code(one)
        if isinstance(one, CodeType)
        else sorted(map(repr, one))
        if isinstance(one, frozenset)
        else one
        for one in code.co_consts
    ]
    return code.co_code, code.co_names, constants
