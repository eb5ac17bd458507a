"""How a training from history is shown to people."""

from __future__ import annotations

from typing import Any

from rich.markup import escape

from bakehouse.output import say
from bakehouse.reports.evaluate import show_evaluation


def show_training(result: dict[str, Any]) -> None:
    """Print what `bakehouse_learner.offline.train` answered."""
    losses = ", ".join(f"{name} {loss:.4g}" for name, loss in result["losses"].items())
    say(
        f"[bold]{escape(result['agent'])}[/] learned from {result['trained_on']:,} of "
        f"{result['decisions']:,} decisions in {result['minibatches']:,} minibatches "
        f"({result['seconds']:.0f} s; {losses})"
    )
    for note in result["notes"]:
        say(f"[yellow]! {escape(note)}[/]")
    if result["evaluation"] is not None:
        say("\nOn the decisions that were held out, newer than all it learned from:")
        show_evaluation(
            {"application": result["application"], "source": result["source"]}
            | result["evaluation"]
        )
    say(f"\nThe policy is in {escape(result['bundle'])}")
    if result["warm_start"] is not None:
        say(
            "The next start of a learner in this home (`bakehouse up`) begins with it. Players get "
            "it once the gate lets it through, on their own decisions."
        )
