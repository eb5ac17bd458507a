"""What could be chosen when a decision of another contract was made, in the labels of ours.

A label that did not exist then was not eligible then: so no evaluation takes the policy of then for
one that passed it over, and no successor's value counts it. A label that is gone took its share of
the probability then; what is left of the decision is that an action was drawn that still is one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from bakehouse_schemas.application.application import Application
from bakehouse_schemas.contracts.contract import Contract
from bakehouse_schemas.errors import InvalidEvent
from bakehouse_schemas.events.checks import choices_of, eligible_mask

_REMEMBERED = 10_000
Known = Callable[[str], Contract | None]  # by fingerprint; None: it is not known


class ActionGone(ValueError):
    """The action, or all that could be chosen, is none of the application's any more; or what a
    decision is worth is another thing now, for it stood alone then, or does now."""


class Then(NamedTuple):
    """The contract that a row was written under."""

    contract: str
    names: tuple[str, ...] | None  # that its masks covered; None: not known
    same_problem: bool  # as far as is known


class Eligible(NamedTuple):
    """What could be chosen."""

    mask: np.ndarray  # bool [A], of our labels
    of_then: int  # how many that were, those included that are gone


class OtherContracts:
    """Masks and propensities of rows of other contracts than the application's.

    Args:
        known: the labels that a contract had are taken from here; where it is not known, those
            that the row gives probabilities of, else ours.
    """

    def __init__(self, application: Application, known: Known | None = None) -> None:
        self._application = application
        self._known = known
        self._ours = frozenset(choices_of(application))
        self._found: dict[str, Contract | None] = {}
        self._masks: dict[tuple[Then, str | None], Eligible] = {}

    def check(self, then: Then) -> None:
        """Raise ActionGone where no row of that contract is one of ours."""
        if not then.same_problem:
            raise ActionGone(f"contract {then.contract} was of another kind of problem")

    def then(self, contract: str, probabilities: str | None) -> Then:
        """What is known of the contract of a row.

        Args:
            probabilities: the row's, as JSON.
        """
        if contract not in self._found:
            self._found[contract] = None if self._known is None else self._known(contract)
        found = self._found[contract]
        names = None if found is None else tuple(found.choices)
        same = found is None or found.problem == self._application.problem.kind
        if names is None and probabilities is not None:
            try:
                names = tuple(json.loads(probabilities))
            except (ValueError, TypeError):  # torn: the row itself is refused for it
                names = None
        return Then(contract, names, same)

    def eligible(self, then: Then, text: str | None) -> Eligible:
        """What could be chosen, of labels or parts.

        Args:
            text: `eligible_actions` of the row, as JSON.

        Raises:
            ActionGone: nothing of it is there any more.
        """
        key = (then, text)
        if (known := self._masks.get(key)) is not None:
            return known
        listed = None if text is None else [str(name) for name in json.loads(text)]
        names = self._ours if then.names is None else frozenset(then.names)
        try:
            mask = eligible_mask(
                self._application,
                eligible=None if listed is None else [n for n in listed if n in self._ours],
                excluded=[name for name in self._ours if name not in names],
            )
        except InvalidEvent as error:
            raise ActionGone(str(error)) from None
        of_then = len(set(names if listed is None else listed))
        if len(self._masks) >= _REMEMBERED:
            self._masks.clear()
        found = self._masks[key] = Eligible(mask, of_then)
        return found

    def gone(self, probabilities: str | None) -> tuple[float, int]:
        """Probability, then, of all labels that are gone, and how many those were.

        Args:
            probabilities: the row's, as JSON; None: not known, so none.
        """
        if probabilities is None or self._application.shape.kind != "discrete":
            return 0.0, 0
        lost = [p for name, p in json.loads(probabilities).items() if name not in self._ours]
        likely = [p for p in lost if p > 0]
        return math.fsum(likely), len(likely)
