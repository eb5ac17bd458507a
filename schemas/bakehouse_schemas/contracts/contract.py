"""A contract as data: features, actions and problem kind of an application, whoever knows it.

An application's `contract` is a fingerprint. The description that it is of travels with every
bundle (its manifest's `gate["contract"]`) and stays in the home (`known.py`), so that a row and a
policy of another contract can still be read when the application's file has changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

from bakehouse_schemas.application.actions import Actions, Continuous, Discrete, Parts
from bakehouse_schemas.application.application import (
    Application,
    described_contract,
    fingerprint_of,
)
from bakehouse_schemas.application.observation import (
    Boolean,
    Categorical,
    Encoder,
    Feature,
    Numeric,
    Vector,
)
from bakehouse_schemas.application.ranking import Item, Ranking
from bakehouse_schemas.application.shape import Shape
from bakehouse_schemas.errors import ApplicationError, UnreadableContract

_FEATURES: dict[str, type[Feature]] = {
    kind.__name__: kind for kind in (Numeric, Categorical, Boolean, Vector)
}
_SINGLE = ("discrete", "continuous")  # kinds of actions that a part may have


class Decides(Protocol):
    """What a decision was made under: an application as it is, or a contract that it has had."""

    @property
    def name(self) -> str: ...
    @property
    def contract(self) -> str: ...
    @property
    def encoder(self) -> Encoder: ...
    @property
    def actions(self) -> Actions: ...
    @property
    def shape(self) -> Shape: ...


@dataclass(frozen=True)
class Contract:
    """What an application observes and decides, without its reward, agent and rules.

    Args:
        fingerprint: the application's `contract`, 16 hexadecimal digits.
        features: of the context, in the order of the observation, with their defaults. A default
            is not in the fingerprint.
        actions: the action space.
        problem: `bandit` or `episodic`.
        name: the application's, where it is known.
    """

    fingerprint: str
    features: tuple[Feature, ...]
    actions: Actions
    problem: str
    name: str = field(default="", compare=False)

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    @property
    def contract(self) -> str:
        """Its fingerprint, as an application names it."""
        return self.fingerprint

    @cached_property
    def encoder(self) -> Encoder:
        """Context → observation, as the application made it."""
        return Encoder(self.features)

    @property
    def shape(self) -> Shape:
        """The actions in numbers."""
        return self.actions.shape

    @property
    def choices(self) -> tuple[str, ...]:
        """Labels that a mask covers: `label`, of parts `part=label`; see `Actions.choices`."""
        return self.actions.choices

    @property
    def item_features(self) -> tuple[Feature, ...]:
        """Features of an item to rank; none where nothing is ranked."""
        return self.actions.item if isinstance(self.actions, Ranking) else ()

    def takes(self, action: Any, items: Sequence[Item] | None = None) -> bool:
        """Whether an action, as JSON carries it, is one of this contract's."""
        try:
            return self.actions.problem_with(action, items) is None
        except (TypeError, KeyError, ValueError):  # of another kind altogether
            return False

    def described(self) -> dict[str, Any]:
        """As JSON carries it: what the fingerprint is of, the fingerprint, and the defaults."""
        defaults = {
            "observation": _defaults(self.features),
            "item": _defaults(self.item_features),
        }
        return {
            "fingerprint": self.fingerprint,
            **described_contract(self.features, self.actions, self.problem),
            "defaults": {where: found for where, found in defaults.items() if found},
        }


def contract_of(application: Application | Contract) -> Contract:
    """The contract of an application; a contract is its own."""
    if isinstance(application, Contract):
        return application
    return Contract(
        application.contract,
        tuple(application.observation),
        application.actions,
        application.problem.kind,
        application.name,
    )


def read_contract(described: Any, name: str = "") -> Contract:
    """The inverse of `Contract.described`; what stands beside it and is unknown is passed over.

    Args:
        name: of the application.

    Raises:
        UnreadableContract: it describes no contract that this release can read, or another than
            its fingerprint says.
    """
    try:
        defaults = described.get("defaults", {})
        contract = Contract(
            described["fingerprint"],
            _features(described["observation"], defaults.get("observation", {})),
            _actions(described["actions"], defaults.get("item", {})),
            described["problem"],
            name,
        )
        found = fingerprint_of(
            described_contract(contract.features, contract.actions, contract.problem)
        )
    except (
        ApplicationError,
        AttributeError,
        IndexError,
        KeyError,
        TypeError,
        ValueError,
        RecursionError,
    ) as error:
        raise UnreadableContract(
            f"the description of a contract cannot be read: {type(error).__name__}: {error}"
        ) from None
    if found != contract.fingerprint:
        raise UnreadableContract(
            f"the description says that it is of contract {contract.fingerprint!r:.40}, and is of "
            f"{found}"
        )
    return contract


def _defaults(features: Sequence[Feature]) -> dict[str, Any]:
    return {
        feature.name: list(feature.default) if isinstance(feature, Vector) else feature.default
        for feature in features
        if feature.default is not None
    }


def _features(
    described: Sequence[Mapping[str, Any]], defaults: Mapping[str, Any]
) -> tuple[Feature, ...]:
    features: list[Feature] = []
    for one in described:
        fields = {name: value for name, value in one.items() if name != "feature"}
        feature = _FEATURES[one["feature"]](**fields)
        if feature.name in defaults:
            feature = replace(feature, default=defaults[feature.name])
        features.append(feature)
    Encoder(features)
    return tuple(features)


def _actions(described: Mapping[str, Any], item_defaults: Mapping[str, Any]) -> Actions:
    ((kind, says),) = described.items()
    if kind == "parts":
        return Parts({name: _single(of, part) for name, of, part in says})
    if kind == "ranking":
        item = _features(says["item"], item_defaults)
        return Ranking(k=says["k"], item=item, most_items=says["most_items"])
    return _single(kind, says)


def _single(kind: str, says: Any) -> Discrete | Continuous:
    if kind not in _SINGLE:
        raise ValueError(f"actions of the kind {kind!r:.40}; expected one of {_SINGLE}")
    if kind == "continuous":
        return Continuous(low=says["low"], high=says["high"])
    if isinstance(says, Mapping):
        return Discrete(*says, features=says)
    return Discrete(*says)
