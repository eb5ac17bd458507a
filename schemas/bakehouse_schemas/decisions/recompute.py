"""A decision decided again, out of its log and the policy that it names.

By the rule that decided it (`schemas/bakehouse_schemas/execution/choice.py`,
`schemas/bakehouse_schemas/execution/propensity.py`), with the logged observation, mask, exploration
and draw. Up to TOGETHER contexts that one policy answers at once get, bit for bit, what each gets
alone (`schemas/bakehouse_schemas/policy/policy.py`), so action and propensity come out exactly as
serving logged them, of every kind of action, on processors of the same kind. Others add up float32
in another order: a propensity that hangs on scores (`softmax`, `thompson`, parts, numbers,
rankings) may then differ by some 1e-6 of itself, and of two scores that are all but equal the other
may be the larger.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bakehouse_schemas.application.actions import Discrete
from bakehouse_schemas.application.application import Application
from bakehouse_schemas.application.exploration import Exploration, LoggedExploration
from bakehouse_schemas.application.ranking import Ranking
from bakehouse_schemas.contracts.contract import Contract, Decides, contract_of
from bakehouse_schemas.contracts.known import KnownContracts
from bakehouse_schemas.decisions.slot import Slot
from bakehouse_schemas.errors import BundleError, InvalidEvent, NotRecomputable
from bakehouse_schemas.events.checks import eligible_mask, problem_with_action
from bakehouse_schemas.events.validation import validated
from bakehouse_schemas.execution.base_policy import BasePolicy, with_exploration_spread
from bakehouse_schemas.execution.choice import (
    allowed_row,
    baseline_distribution,
    baseline_row_policy,
    choose_label,
    choose_row,
)
from bakehouse_schemas.execution.propensity import executed_distribution, next_place, one_hot
from bakehouse_schemas.policy.bundle import LoadedPolicy, read_manifest
from bakehouse_schemas.policy.load_carried import load_policy


class Recomputed(NamedTuple):
    """What comes out.

    Args:
        action: as JSON carries it.
        row: the same in numbers; see `bakehouse_schemas.application.shape.Shape`. float64 `[W]`
        propensity: probability or density with which it was drawn.
        explored: whether something else than the policy's own most likely answer was executed.
        eligible: what could be chosen from. bool `[A]`
        scores: what the policy's network answers, float32 `[K]` (of labels and items, K = A, with
            −∞ nowhere: scores of what was not eligible are among them); None at version 0.
        base_policy: what the policy, or the baseline at version 0, would do by itself (B = 1).
        drawn_from: the same with the spread of the exploration in place of its own, which numbers
            are drawn from; float64 `[1, d]` within.
        executed: probability of each choice, exploration and floor included; of a ranking, of the
            first place; of numbers 1. float64 `[A]`
        factors: whose product the propensity is; see
            `bakehouse_schemas.execution.propensity.Executed`.
        sure: the pure baseline was executed, and chance had no say.
    """

    action: Any
    row: np.ndarray
    propensity: float
    explored: bool
    eligible: np.ndarray
    scores: np.ndarray | None
    base_policy: BasePolicy
    drawn_from: BasePolicy
    executed: np.ndarray
    factors: tuple[float, ...]
    sure: bool


def recompute(
    application: Decides, decision: Mapping[str, Any], policy: LoadedPolicy | None
) -> Recomputed:
    """Decide again what was decided.

    Args:
        decision: the fields of a record of `decisions.v1`, as JSON carries them; used are
            `contract`, `observation` (or `context`), `eligible_actions`, `items`,
            `baseline_action`, `exploration`, `draw` and `policy_version`.
        policy: the version that the decision names; None at version 0.

    Raises:
        NotRecomputable: the log does not say enough, is of another contract, or names another
            policy than the one given.
    """
    if decision.get("contract") != application.contract:
        raise NotRecomputable(
            f"the decision was made under contract {decision.get('contract')}, which nothing here "
            f"describes; the application speaks {application.contract}"
        )
    version = decision["policy_version"]
    if version != (policy.version if policy is not None else 0):
        have = "none was given" if policy is None else f"policy {policy.version} was given"
        raise NotRecomputable(f"the decision names policy {version}; {have}")
    exploration, draw = _exploration(decision), _draw(decision)
    items = decision.get("items")
    try:
        eligible = eligible_mask(
            application, eligible=decision.get("eligible_actions"), items=items
        )
        asked = _Asked(
            _observation(application, decision),
            eligible,
            _baseline_row(application, decision, eligible),
            _encoded(application, items),
        )
    except InvalidEvent as error:
        raise NotRecomputable(f"the log cannot be read: {error}") from None
    slot = Slot(policy, exploration)
    if isinstance(application.actions, Discrete):
        return _label(application.actions, slot, asked, draw)
    return _others(application, slot, asked, draw, items)


def made_under(
    application: Application, decision: Mapping[str, Any], policies: Path
) -> Application | Contract:
    """What a decision was made under: the application, or a contract that it has had before.

    As the home has noted it, else as the bundle of the policy that decided describes it; where
    neither says, the application, which `recompute` refuses with the reason.

    Args:
        decision: see `recompute`.
        policies: `<home>/policies`.
    """
    fingerprint, version = str(decision.get("contract")), decision["policy_version"]
    if fingerprint == application.contract:
        return application
    found = KnownContracts(policies.parent).of(application.name, fingerprint)
    if found is None and version:
        with contextlib.suppress(BundleError):  # it is gone, or damaged
            found = read_manifest(policies / application.name / str(version)).described_contract()
    return application if found is None or found.fingerprint != fingerprint else found


def recorded_policy(
    application: Application | Contract, policies: Path, version: int
) -> LoadedPolicy | None:
    """The bundle of a version, checked; None at version 0, and where it is no longer there.

    One that was made for another contract is carried over, as it was when it decided.

    Args:
        application: what the decision was made under; see `made_under`.
        policies: `<home>/policies`; only the newest bundles are kept.

    Raises:
        BundleError: it is there and cannot be used.
    """
    folder = policies / application.name / str(version)
    if version < 1 or not folder.exists():
        return None
    known = KnownContracts(policies.parent)
    return load_policy(
        folder,
        application=application.name,
        contract=contract_of(application),
        sha256=None,
        known=lambda fingerprint: known.of(application.name, fingerprint),
    )


class _Asked(NamedTuple):
    """What the policy was asked, in numbers."""

    observation: np.ndarray  # float32 [D]
    eligible: np.ndarray  # bool [A]
    baseline: np.ndarray | None  # float64 [W]; None where the baseline had no answer
    items: np.ndarray | None  # float32 [A, F]


def _label(actions: Discrete, slot: Slot, asked: _Asked, draw: float) -> Recomputed:
    policy, exploration, eligible = slot.policy, slot.exploration, asked.eligible
    if policy is not None:
        base_policy = slot.distribution(asked.observation[None], eligible[None])[0]
    else:
        position = None if asked.baseline is None else int(asked.baseline[0])
        base_policy = baseline_distribution(position, eligible)
    at, executed = choose_label(base_policy, eligible, exploration, draw)
    nothing = np.zeros((1, 0))
    mine = BasePolicy(base_policy[None], nothing, nothing)
    explores = policy is not None or exploration.kind != "none"
    return Recomputed(
        action=actions.labels[at],
        row=np.array([float(at)]),
        propensity=float(executed[at]),
        explored=explores and at != int(base_policy.argmax()),
        eligible=eligible,
        scores=None if policy is None else policy.policy.scores(asked.observation[None])[0],
        base_policy=mine,
        drawn_from=mine,
        executed=executed,
        factors=(float(executed[at]),),
        sure=not explores and not float(executed[at]) < 1.0,
    )


def _others(application: Decides, slot: Slot, asked: _Asked, draw: float, items: Any) -> Recomputed:
    policy, exploration, eligible = slot.policy, slot.exploration, asked.eligible
    shape, scores = application.shape, None
    row = allowed_row(shape, asked.baseline, eligible)
    if policy is not None:
        base_policy = slot.base_policy(asked.observation[None], eligible[None], asked.items)
        its = None if asked.items is None else asked.items[None]
        scores = policy.policy.scores(asked.observation[None], its)[0]
    else:
        base_policy = baseline_row_policy(shape, row, eligible, exploration)
    explores = policy is not None or exploration.kind != "none"
    drawn = choose_row(shape, base_policy, row, eligible, exploration, draw, explores=explores)
    executed = _choices(application, base_policy, eligible, exploration)
    if drawn is None:
        assert row is not None
        executed = _surely(application, row, eligible)
    chosen = row if drawn is None else drawn.row
    assert chosen is not None
    return Recomputed(
        action=application.actions.action_of(chosen, items),
        row=chosen,
        propensity=1.0 if drawn is None else drawn.propensity,
        explored=drawn is not None and explores and drawn.explored,
        eligible=eligible,
        scores=scores,
        base_policy=base_policy,
        drawn_from=with_exploration_spread(shape, base_policy, exploration),
        executed=executed,
        factors=(1.0,) * shape.width if drawn is None else drawn.factors,
        sure=drawn is None,
    )


def _choices(
    application: Decides,
    base_policy: BasePolicy,
    eligible: np.ndarray,
    exploration: Exploration,
) -> np.ndarray:
    """What each choice's probability was: of each part, of a ranking's first place. `[A]`"""
    shape, mine = application.shape, base_policy.probabilities[0]
    if shape.kind == "continuous":
        return np.ones(shape.choices)
    if shape.kind == "ranking":
        mine = next_place(mine, eligible)
    executed = np.zeros(shape.choices)
    for start, stop in shape.segments or ((0, shape.choices),):
        executed[start:stop] = executed_distribution(
            mine[start:stop],
            eligible[start:stop],
            epsilon=exploration.epsilon,
            floor=exploration.floor,
        )
    return executed


def _surely(application: Decides, row: np.ndarray, eligible: np.ndarray) -> np.ndarray:
    """The same where one row is executed for sure. `[A]`"""
    shape = application.shape
    if shape.kind == "ranking":
        return one_hot(int(row[0]), len(eligible))
    executed = np.ones(shape.choices)
    for part, (start, stop) in enumerate(shape.segments):
        executed[start:stop] = one_hot(int(row[part]), stop - start)
    return executed


def _exploration(decision: Mapping[str, Any]) -> Exploration:
    logged = decision.get("exploration")
    if logged is None:
        raise NotRecomputable("the log names no exploration; the decision was made elsewhere")
    try:
        return logged if isinstance(logged, Exploration) else validated(LoggedExploration, logged)
    except InvalidEvent as error:
        raise NotRecomputable(f"the logged exploration cannot be read: {error}") from None


def _draw(decision: Mapping[str, Any]) -> float:
    draw = decision.get("draw")
    if draw is None:
        raise NotRecomputable("the log holds no draw; the decision was made elsewhere")
    return float(draw)


def _observation(application: Decides, decision: Mapping[str, Any]) -> np.ndarray:
    logged, size = decision.get("observation"), application.encoder.size
    if logged is None:
        return application.encoder.encode(decision.get("context") or {})
    observation = np.array(logged, dtype=np.float32)
    if observation.shape != (size,):
        raise NotRecomputable(f"the logged observation has {len(logged)} numbers; expected {size}")
    return observation


def _baseline_row(
    application: Decides, decision: Mapping[str, Any], eligible: np.ndarray
) -> np.ndarray | None:
    action, items = decision.get("baseline_action"), decision.get("items")
    if action is None:
        return None
    problem = problem_with_action(application, action, items, eligible)
    if problem is not None:
        raise NotRecomputable(f"the logged baseline_action {action!r:.60}: {problem}")
    return application.actions.row_of(action, items)


def _encoded(application: Decides, items: Any) -> np.ndarray | None:
    actions = application.actions
    return actions.encode_items(items or ()) if isinstance(actions, Ranking) else None
