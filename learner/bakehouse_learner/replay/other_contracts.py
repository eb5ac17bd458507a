"""What could be chosen when a decision of another contract was made, in the labels of ours.

A label that did not exist then was not eligible then: so no evaluation takes the policy of then for
one that passed it over, and no successor's value counts it. A label that is gone took its share of
the probability then; what is left of the decision is that an action was drawn that still is one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from bakehouse_schemas.application.application import Application
from bakehouse_schemas.errors import InvalidEvent
from bakehouse_schemas.events.checks import choices_of, eligible_mask

_REMEMBERED = 10_000
Known = Callable[[str], Sequence[str] | None]  # contract → what its masks cover; None: not known


class ActionGone(ValueError):
    """The action, or all that could be chosen, is none of the application's any more."""


class Then(NamedTuple):
    """The contract that a row was written under."""

    contract: str
    names: tuple[str, ...] | None  # that its masks covered; None: not known


class Eligible(NamedTuple):
    """What could be chosen."""

    mask: np.ndarray  # bool [A], of our labels
    of_then: int  # how many that were, those included that are gone


class OtherContracts:
    """Masks and propensities of rows of other contracts than the application's.

    Args:
        known: labels (of several parts `part=label`) that a contract had, where they were
            written down; else those are taken that the row gives probabilities of, else ours.
    """

    def __init__(self, application: Application, known: Known | None = None) -> None:
        self._application = application
        self._known = known
        self._ours = frozenset(choices_of(application))
        self._named: dict[str, tuple[str, ...] | None] = {}
        self._masks: dict[tuple[Then, str | None], Eligible] = {}

    def then(self, contract: str, probabilities: str | None) -> Then:
        """What is known of the contract of a row.

        Args:
            probabilities: the row's, as JSON.
        """
        if contract not in self._named:
            found = None if self._known is None else self._known(contract)
            self._named[contract] = None if found is None else tuple(found)
        names = self._named[contract]
        if names is None and probabilities is not None:
            try:
                names = tuple(json.loads(probabilities))
            except (ValueError, TypeError):  # torn: the row itself is refused for it
                names = None
        return Then(contract, names)

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
