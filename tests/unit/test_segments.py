"""A table of segments is a baseline like any other, and is checked when it is loaded."""

from __future__ import annotations

from typing import Any

import pytest

from bakehouse import (
    Application,
    ApplicationError,
    Categorical,
    Discrete,
    Numeric,
    Reward,
    Segments,
    minutes,
)
from bakehouse.describe import describe


def make(baseline: Any) -> Application:
    return Application(
        name="hours",
        observation=[Categorical("timezone", values=["europe", "asia"]), Numeric("spend")],
        actions=Discrete("h12", "h18", "h20"),
        reward=Reward({"click": 1.0}, window=minutes(1)),
        baseline=baseline,
    )


def test_a_segment_is_answered_with_its_action_and_all_others_with_the_default() -> None:
    rules = make(Segments("timezone", {"europe": "h18", "asia": "h20"}, default="h12"))
    assert rules.baseline_action({"timezone": "europe", "spend": 3.0}) == "h18"
    assert rules.baseline_action({"timezone": "asia"}) == "h20"
    for other in ({}, {"timezone": None}, {"timezone": "mars"}, {"timezone": ["europe"]}):
        assert rules.baseline_action(other) == "h12"


def test_several_fields_make_a_segment_together_observed_or_not() -> None:
    rules = make(
        Segments(
            ("timezone", "payer"),
            {("europe", True): "h20", ("europe", False): "h18"},
            default="h12",
        )
    )
    assert rules.baseline_action({"timezone": "europe", "payer": True}) == "h20"
    assert rules.baseline_action({"timezone": "europe", "payer": False}) == "h18"
    assert rules.baseline_action({"timezone": "europe"}) == "h12"


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda: Segments("timezone", {"europe": "h25"}, default="h12"), "timezone='europe'.*h25"),
        (lambda: Segments("timezone", {"europe": "h18"}, default="noon"), "default.*'noon'.*'h12'"),
        (
            lambda: Segments("timezone", {"euorpe": "h18"}, default="h12"),
            r"timezone='euorpe': expected one of \['europe', 'asia'\]",
        ),
        (lambda: Segments("timezone", {}, default="h12"), "such as {'europe': 'h18'}"),
        (lambda: Segments((), {"europe": "h18"}, default="h12"), "the name of a field"),
        (lambda: Segments(("a", "b"), {"europe": "h18"}, default="h12"), "a tuple of 2"),
        (lambda: Segments("a", {("europe",): "h18"}, default="h12"), "a text, a number"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused_with_what_to_write(write: Any, says: str) -> None:
    with pytest.raises(ApplicationError, match=says):
        make(write())


def test_check_says_the_table_in_words() -> None:
    application = make(Segments("timezone", {"europe": "h18"}, default="h12"))
    assert describe(application)["baseline"] == "by timezone: europe → h18; else h12"


def test_check_names_the_function_and_its_first_line() -> None:
    def by_spend(context: Any) -> str:
        """Whales at night.

        Nobody remembers why.
        """
        return "h20"

    assert describe(make(by_spend))["baseline"] == "by_spend(context): Whales at night."
