"""How does what answers players go on when the application's contract has changed?

Its bundle stays the bundle that it is: learner and serving carry it over by the same function
(`bakehouse_schemas.policy.carry`), so both have the same policy. A candidate of the new contract
takes its place once it has proven itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bakehouse_learner.artifacts.bundles import Bundles
from bakehouse_learner.gate.policy_version import BASELINE, Version, carried_over, version_from
from bakehouse_schemas.application.application import Application
from bakehouse_schemas.contracts.contract import Contract
from bakehouse_schemas.errors import BundleError
from bakehouse_schemas.events.events import PolicyPointer


def is_of_another_contract(state: Mapping[str, Any], application: Application) -> bool:
    """Whether a learner's state (`Learning.state`) was made under another contract."""
    return bool(state["json"]["contract"] != application.contract)


def carried_policies(
    state: Mapping[str, Any],
    application: Application,
    *,
    contract_of: Callable[[str], Contract | None],
    bundles: Bundles,
    pointer: PolicyPointer | None,
) -> tuple[Version, Version]:
    """What answers now, and the anchor, of a learner's state under another contract.

    Args:
        state: see `Learning.state`.
        contract_of: by fingerprint; None: it is not known.
        pointer: what players were told last; None: nothing is known of it.

    Raises:
        ValueError: the state is of another reward rule: what it counted counts no more.
        BundleError: what answers cannot be carried over, with the reasons.
    """
    saved = state["json"]
    rule = application.reward.fingerprint
    if saved.get("reward", rule) != rule:
        raise ValueError("the contract changed, and the rule of the rewards with it")
    current, anchor = state["current"]["json"]["number"], state["anchor"]["json"]["number"]

    def carried(number: int, which: str) -> Version:
        if number == 0:
            return BASELINE
        try:
            return bundles.load(bundles.pointer_to(number, 0))
        except BundleError as error:
            # gone or damaged: the checkpoint holds it too, as the contract before had it
            before = contract_of(saved["contract"])
            if before is None or state[which]["json"]["number"] != number:
                raise error
            version = version_from(state[which], before.shape)
            return carried_over(version, before, application)

    answering = carried(current if pointer is None else pointer.version, "current")
    if answering.number in (0, anchor):
        return answering, answering
    try:
        return answering, carried(anchor, "anchor")
    except BundleError:  # nobody can go back to it: candidates are held against what answers
        return answering, answering
