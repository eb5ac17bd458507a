"""How the offline programs speak: JSON on standard output, lines for people on standard error."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from bakehouse_schemas.errors import BakehouseError


def run_program(
    program: Callable[[argparse.Namespace], dict[str, Any]],
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None = None,
) -> int:
    """Print what a program answers, as one line of JSON.

    Args:
        arguments: of the command line; None: those of this process.

    Returns:
        The exit status: 0, or 2 where the answer is an error with its message.
    """
    try:
        answer = program(parser.parse_args(arguments))
    except BakehouseError as error:
        print(json.dumps({"error": type(error).__name__, "message": str(error)}))  # noqa: T201
        return 2
    print(json.dumps(answer, ensure_ascii=False, allow_nan=False))  # noqa: T201
    return 0


def say(words: str) -> None:
    """A line for people who wait."""
    sys.stderr.write(f"{words}\n")
    sys.stderr.flush()
