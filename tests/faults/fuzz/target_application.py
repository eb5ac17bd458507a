"""An application page: rendered from a document of calls and values, or any bytes as a page.

Must hold: an ApplicationError that says what to write instead, or an application that works: its
encoder encodes a context of its own making, its baseline answers, and a decision for each of its
actions passes the checks that Kafka's records pass. A value of another type is refused in words,
not by whatever Python makes of it.
"""

from __future__ import annotations

import ast
import json
import math
import re
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import orjson

from bakehouse_schemas.application import application as product
from bakehouse_schemas.application import durations, gate
from bakehouse_schemas.application.application import Application
from bakehouse_schemas.application.observation import Boolean, Categorical, Numeric
from bakehouse_schemas.errors import ApplicationError
from bakehouse_schemas.events.records import read_decision
from bakehouse_schemas.loading import load_application
from tests.faults.fuzz.documents import mutate_document
from tests.faults.fuzz.events import FIRST, NOW_MS

sys.dont_write_bytecode = True  # the page changes more often than a file's time does
HEAD = """from datetime import timedelta
from bakehouse import *
from bakehouse_schemas.application.application import Gate, Rollout, Training
application = """
CALLS = {
    *("Agent", "Application", "Bandit", "Boolean", "Categorical", "Discrete", "Episodic"),
    *("EpsilonGreedy", "Gate", "Numeric", "Reward", "Rollout", "Training", "Vector"),
    *("minutes", "seconds"),
}
SPECIAL = {
    "@nan": "float('nan')",
    "@inf": "float('inf')",
    "@huge": "10**400",
    "@longest": "10**5000",
    "@object": "object()",
    "@bytes": "b'a'",
    "@first": "lambda context: 'easy'",
    "@wrong": "lambda context: ['easy']",
    "@type": "int",
}
# how Python says that a call has the wrong arguments: no value was looked at
ARGUMENTS = re.compile(r"unexpected keyword|missing \d+ required|positional arg|multiple values")
SAFE = (ast.Module, ast.Assign, ast.Expr, ast.Constant, ast.List, ast.Tuple, ast.Dict, ast.Set)
SAFE += (ast.Name, ast.Store, ast.Load, ast.UnaryOp, ast.USub, ast.Not)


def call(name: str, /, *positional: Any, **named: Any) -> dict[str, Any]:
    """A call as the document says it."""
    return {"call": name, "args": list(positional), "with": named}


def seeds() -> list[bytes]:
    """A bandit with one of each feature, an episode, and pages that are none."""
    bandit = call(
        "Application",
        name="game",
        observation=[
            call("Numeric", "skill", low=0, high=1),
            call("Categorical", "plan", values=["free", "paid"], default="free"),
            call("Categorical", "country", buckets=8),
            call("Boolean", "new", default=False),
            call("Vector", "days", 2, low=-1, high=1, default=[0, 1]),
        ],
        actions=call("Discrete", "easy", "hard"),
        reward=call("Reward", {"won": 1.0}, window=call("minutes", 1), closes_after=1),
        baseline="@first",
        agent=call("Agent", "neural_greedy", hidden=[64, 64], learning_rate=0.01),
        exploration=call("EpsilonGreedy", 0.1, start=0.5, floor=0.01, decay=6_000),
        training=call("Training", every=call("seconds", 0.5), buffer=500, batch=2, steps=1, seed=0),
        gate=call("Gate", confidence=0.95, margin=0.1, action_shift=0.5),
        rollout=call("Rollout", holdout=0.1),
        mode="online",
    )
    episode = call(
        "Application",
        name="quest",
        observation=[call("Numeric", "x", default=0.5)],
        actions=call("Discrete", "easy", "b", "c"),
        reward=call("Reward", {"won": 1, "lost": -2}, window=call("seconds", 5), aggregate="max"),
        baseline="@first",
        problem=call("Episodic", discount=0.9, n_step=3, timeout=call("seconds", 9)),
        agent=call("Agent", "dqn", target_update_period=7),
        mode="apprentice",
    )
    pages = [b"application = 'game'\n", b"# coding: latin-1\nx = '\xe9'\n", b"x = [1, {'a': -2}]\n"]
    return [json.dumps(one).encode() for one in (bandit, episode)] + pages


def source(value: Any) -> str:
    """Python for a value of the document."""
    if isinstance(value, dict):
        name = value.get("call")
        if isinstance(name, str) and name in CALLS:
            given, named = value.get("args"), value.get("with")
            parts = [source(one) for one in given] if isinstance(given, list) else []
            parts.append(f"**{plain(named) if isinstance(named, dict) else {}}")
            return f"{name}({', '.join(parts)})"
        return plain(value)
    if isinstance(value, list):
        return f"[{', '.join(map(source, value))}]"
    if isinstance(value, str):
        return SPECIAL.get(value, ascii(value))
    if isinstance(value, float) and not math.isfinite(value):
        return f"float('{value}')"
    return repr(value)


def plain(value: dict[str, Any]) -> str:
    """Python for a dict, its values as calls where they are."""
    return "{" + ", ".join(f"{k!a}: {source(v)}" for k, v in value.items()) + "}"


def harmless(page: bytes) -> bool:
    """Whether running `page` does nothing but make literals, or nothing at all."""
    try:
        return all(isinstance(node, SAFE) for node in ast.walk(ast.parse(page)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return True  # it is not run, it does not parse


@cache
def scratch() -> Path:
    """The page, overwritten by every input."""
    return Path(tempfile.mkdtemp(prefix="fuzz-page-")) / "page.py"


def check(data: bytes) -> None:
    """See the module."""
    rendered = False
    page = data
    try:
        described = json.loads(data)
        if isinstance(described, dict):
            page, rendered = (HEAD + source(described) + "\n").encode(), True
    except (ValueError, RecursionError):
        pass
    if not rendered and not harmless(page):
        return
    scratch().write_bytes(page)
    try:
        application = load_application(str(scratch())).application
    except ApplicationError as refusal:
        assert str(refusal)
        cause = refusal.__cause__
        while type(cause) is ApplicationError:  # the same refusal, before its line was added
            cause = cause.__cause__
        if rendered and cause is not None and not isinstance(cause, (SyntaxError, RecursionError)):
            said = f"{type(cause).__name__}: {cause}"
            assert isinstance(cause, TypeError) and ARGUMENTS.search(said), said
        return
    works(application)


def works(application: Application) -> None:
    """Raise AssertionError unless the application can be used."""
    assert re.fullmatch(r"[a-z][a-z0-9-]{0,62}", application.name)
    context = {feature.name: value_of(feature) for feature in application.observation}
    encoded = application.encoder.encode(context)
    assert encoded.shape == (application.encoder.size,)
    assert all(map(math.isfinite, encoded))
    defaults = [f for f in application.observation if f.default is not None]
    without = {f.name: value_of(f) for f in application.observation if f.default is None}
    again = application.encoder.encode(without)
    assert all(map(math.isfinite, again)), defaults
    bounds = application.encoder.bounds()
    assert not any(map(math.isinf, [*bounds.low, *bounds.high]))
    assert isinstance(application.reward.in_words(), str)
    assert math.isfinite(application.reward.value([]))
    assert 1 <= application.reward.window_ms < 1 << 60
    assert 0 < application.exploration.epsilon_after(0) <= 1
    assert 0 < application.exploration.epsilon_after(1 << 40) <= 1
    json.dumps(application.agent.parameters)
    try:
        assert application.baseline_action(context) in application.actions.labels
    except ApplicationError as refusal:
        assert "expected one of" in str(refusal) or "raised" in str(refusal)
    for label in application.actions.labels:
        event = {
            "schema": "decision.v1",
            "decision_id": FIRST,
            "application": application.name,
            "contract": application.contract,
            "subject_id": "p1",
            "decided_at_ms": NOW_MS,
            "context": context,
            "action": label,
            "propensity": 1.0,
            "action_probabilities": {label: 1.0},
            "policy_version": 0,
            "cohort": "policy",
        }
        read_decision(orjson.dumps(event), {application.name: application}, received_at_ms=NOW_MS)


def value_of(feature: Any) -> Any:
    """A value that the feature can take."""
    if isinstance(feature, Numeric):
        return 0.5
    if isinstance(feature, Boolean):
        return True
    if isinstance(feature, Categorical):
        return feature.values[-1] if feature.values is not None else "DE"
    return [0.25] * feature.length


WORDS = (
    *SPECIAL,
    *("../up", "a/b", "Name", "a" * 64, "easy", "hard", "wait", "min", "lin_ucb", "dqn", "buckets"),
    *("default", "low", "high", "values", "length", "online", "terminal", 65_536, 65_537, 10**9),
    *([float("nan")], ["a", "a"], [["a"]], {"won": "@nan"}, {"won": "@huge"}, "é\u200d", "\n"),
    *(call("seconds", 0), call("seconds", "@nan"), call("minutes", 10**30), call("Bandit")),
    *(call("Numeric", "skill"), call("Vector", "v", 65_000), call("Categorical", "c", buckets=9)),
    call("Discrete", *(str(at) for at in range(120))),
)


SEEDS = seeds()


def mutate(
    data: bytes, size: int, random: Random, bytewise: Callable[[bytes, int], bytes]
) -> bytes:
    """Another page near this one."""
    return mutate_document(data, size, random, bytewise, WORDS, SEEDS)


def plant() -> None:
    """Whatever stands where a number should is taken for one."""
    for module in (product, durations, gate):
        module.is_finite = lambda value: True
