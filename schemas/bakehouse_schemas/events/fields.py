"""The types that fields of events have, and their limits."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

from bakehouse_schemas.application.observation import FLOAT32_MAX
from bakehouse_schemas.ids import ID_RULE, MOST_ID_BYTES, is_decision_id

DAY_MS = 86_400_000
MAX_MS = 253_402_300_799_999  # the end of the year 9999: what every reader's clock can hold
LONGEST_NAME = 200  # of ids, labels and fields
Name = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_NAME)]


def _checked_id(text: str) -> str:
    if is_decision_id(text):
        return text
    raise PydanticCustomError("decision_id", f"Expected {ID_RULE}")


DecisionId = Annotated[
    str,
    AfterValidator(_checked_id),
    WithJsonSchema(
        {
            "type": "string",
            "minLength": 1,
            "maxLength": MOST_ID_BYTES,
            "pattern": r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]+$",
            "description": f"{ID_RULE[0].upper()}{ID_RULE[1:]}. A "
            "UUIDv7 in lower case carries its time, which must be within a day of now",
        }
    ),
]
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
