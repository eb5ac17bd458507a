"""A numbered policy as the learner holds it, and its way into a checkpoint and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from bakehouse_learner.training.agent import Exported
from bakehouse_schemas.application.application import Application
from bakehouse_schemas.application.shape import Shape
from bakehouse_schemas.contracts.change import compare
from bakehouse_schemas.contracts.contract import Contract, contract_of
from bakehouse_schemas.policy.carry import carried
from bakehouse_schemas.policy.policy import Head, Policy


@dataclass(frozen=True)
class CarriedOver:
    """Where a policy of another contract came from, and what it knows nothing of."""

    from_contract: str
    from_version: int
    new_labels: tuple[str, ...] = ()  # of which nothing had been learned
    removed_labels: tuple[str, ...] = ()  # that it may no longer answer
    notes: tuple[str, ...] = ()  # what a person should know of it, in sentences

    def as_dict(self) -> dict[str, Any]:
        """As JSON carries it."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }


@dataclass(frozen=True)
class Version:
    """A numbered policy; version 0, the baseline, has none."""

    number: int
    policy: Policy | None = None
    exported: Exported | None = None
    canary: float = 1.0  # share of subjects that it answers
    apprentice: bool = False  # made in apprentice mode: it may answer where the rules do
    carried: CarriedOver | None = None  # its bundle is of another contract; these arrays are ours


BASELINE = Version(0)


def policy_of(exported: Exported, actions: Shape | int) -> Policy:
    """The policy that serving will make of an export. Raises BundleError."""
    return Policy(
        operations=exported.operations,
        head=exported.head,
        arrays=exported.arrays,
        actions=actions,
    )


def version_state(version: Version) -> dict[str, Any]:
    """All of it, for a checkpoint: `json` as JSON carries it, `arrays` of the policy."""
    exported = version.exported
    if exported is None:
        return {"json": {"number": version.number}}
    return {
        "json": {
            "number": version.number,
            "operations": exported.operations,
            "head": exported.head.model_dump(),
            "canary": version.canary,
            "apprentice": version.apprentice,
            **({} if version.carried is None else {"carried": version.carried.as_dict()}),
        },
        "arrays": exported.arrays,
    }


def version_from(state: Mapping[str, Any], actions: Shape) -> Version:
    """The version that gave `state`."""
    described = state["json"]
    if "operations" not in described:
        return Version(described["number"])
    exported = Exported(described["operations"], Head(**described["head"]), state["arrays"])
    return Version(
        described["number"],
        policy_of(exported, actions),
        exported,
        described.get("canary", 1.0),  # not in checkpoints of earlier releases
        described.get("apprentice", False),
        _carried(described.get("carried")),
    )


def _carried(state: Mapping[str, Any] | None) -> CarriedOver | None:
    if state is None:
        return None
    listed = (tuple(state[name]) for name in ("new_labels", "removed_labels", "notes"))
    return CarriedOver(state["from_contract"], state["from_version"], *listed)


def carried_over(version: Version, before: Contract, application: Application) -> Version:
    """A policy of another contract, for the application's.

    Raises:
        BundleError: it cannot be carried over, with the reasons.
    """
    exported, after = version.exported, contract_of(application)
    if exported is None:
        return version
    change = compare(before, after)
    made = carried(exported.operations, exported.head, exported.arrays, before, after)
    anew = Exported(made.operations, made.head, made.arrays)
    return replace(
        version,
        policy=policy_of(anew, application.shape),
        exported=anew,
        carried=CarriedOver(
            before.fingerprint,
            version.number,
            change.labels_added,
            change.labels_removed,
            made.notes,
        ),
    )
