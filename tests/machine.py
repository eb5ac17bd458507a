"""What a test needs of the machine, beside Python and what `uv sync` installs.

Where it is not there, the test is skipped with one line that says what to install. Where `CI` is
set, it fails instead: a check that is left out there is missed by nobody.
"""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def needs(tool: str, install: str) -> str:
    """Path of a program.

    Args:
        install: the command, or what to do, where there is none.
    """
    found = shutil.which(tool)
    if found is None:
        lacks(f"{tool} is not on the PATH; install it: {install}")
    return found


def lacks(words: str) -> NoReturn:
    """Skip the test that runs, or fail it where `CI` is set.

    Args:
        words: one line: what is not here, and what to install.
    """
    if os.environ.get("CI"):
        pytest.fail(words, pytrace=False)
    pytest.skip(words)
