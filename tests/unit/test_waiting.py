"""Progress on a terminal: in place, with the time left; other words stay."""

from __future__ import annotations

import io
import os
import sys

from rich.console import Console

from bakehouse.commands.waiting import run_shown, wanted

PROGRAM = """
import sys
for line in ("note: nothing to fear", "3 of 12 minibatches, loss 0.5, 9 s left"):
    print(line, file=sys.stderr, flush=True)
print("{}")
sys.exit(2)
"""


def shown(program: str) -> tuple[str, str, int]:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    ran = run_shown([sys.executable, "-c", program], os.environ, console, "learner: train")
    return screen.getvalue(), ran.stdout, ran.returncode


def test_words_stay_and_progress_is_shown_in_place():
    screen, printed, status = shown(PROGRAM)
    assert "note: nothing to fear" in screen
    assert "3 of 12 minibatches, loss 0.5, 9 s left" in screen
    assert (printed, status) == ("{}\n", 2)


def test_brackets_in_what_is_said_are_no_markup():
    screen, _, _ = shown("import sys; print('[red]x[/red]', file=sys.stderr)")
    assert "[red]x[/red]" in screen


def test_nothing_is_shown_in_place_where_nobody_looks(monkeypatch):
    terminal = Console(file=io.StringIO(), force_terminal=True)
    monkeypatch.setattr(sys, "argv", ["bakehouse", "train", "page.py"])
    assert wanted(terminal)
    assert not wanted(Console(file=io.StringIO()))
    monkeypatch.setattr(sys, "argv", ["bakehouse", "train", "page.py", "--json"])
    assert not wanted(terminal)
