"""What is shown on a terminal while a program of the learner or of stream works."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

# how those programs tell their progress, on standard error: it is shown in place, not line by line
_LEFT = re.compile(r"\d s left\b")
_OF = re.compile(r"^([\d,]+) of ([\d,]+) ")


def wanted(console: Console) -> bool:
    """Whether a person looks: at a terminal, and not through --json."""
    return console.is_terminal and "--json" not in sys.argv


def run_shown(
    command: Sequence[str], environment: Mapping[str, str], console: Console, title: str
) -> subprocess.CompletedProcess[str]:
    """Run a program, its output kept; meanwhile a line says how far it is.

    Args:
        console: on standard error.
    """
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with (
        Progress(*columns, console=console, transient=True) as progress,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=dict(environment),
        ) as process,
    ):
        assert process.stdout is not None and process.stderr is not None
        task = progress.add_task(title, total=None)
        said = threading.Thread(target=_show, args=(process.stderr, progress, task), daemon=True)
        said.start()
        try:
            printed = process.stdout.read()
            said.join()
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, printed, "")


def _show(lines: TextIO, progress: Progress, task: TaskID) -> None:
    for line in lines:
        words = line.rstrip()
        if not _LEFT.search(words):
            progress.console.print(Text(words))
            continue
        if (counted := _OF.match(words)) is not None:
            done, total = (int(number.replace(",", "")) for number in counted.groups())
            progress.update(task, completed=done, total=total)
        progress.update(task, description=words)
