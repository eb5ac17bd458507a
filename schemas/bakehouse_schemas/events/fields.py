"""The types that fields of events have, and their limits."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from bakehouse_schemas.application.observation import FLOAT32_MAX

DAY_MS = 86_400_000
MAX_MS = 253_402_300_799_999  # the end of the year 9999: what every reader's clock can hold
LONGEST_NAME = 200  # of ids, labels and fields
Name = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_NAME)]
UUID7 = r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"
DecisionId = Annotated[str, StringConstraints(pattern=UUID7)]
Milliseconds = Annotated[int, Field(ge=0, le=MAX_MS)]
Propensity = Annotated[float, Field(gt=0.0)]
# beyond it the tables would hold an infinity
Float32 = Annotated[float, Field(ge=-FLOAT32_MAX, le=FLOAT32_MAX)]
# a list of half a million wrong entries has one problem, not half a million
FIRST_ALONE = Field(fail_fast=True)
Mode = Literal["online", "apprentice", "logging_only"]
Cohort = Literal["policy", "holdout", "canary", "fallback"]
# labels, item ids, or, of several parts, `part=label`
Choices = Annotated[list[Name], FIRST_ALONE]
Items = Annotated[list[dict[str, Any]], FIRST_ALONE]
Probabilities = Annotated[dict[str, Annotated[float, Field(ge=0, le=1.000001)]], FIRST_ALONE]
Committed = Annotated[dict[str, Annotated[dict[str, int], FIRST_ALONE]], FIRST_ALONE]
OutcomeKind = Literal["reward", "executed", "activated", "end"]
