"""How a fitted world is shown to people: the verdict, what it rests on, and what to write next."""

from __future__ import annotations

from typing import Any

from rich.markup import escape
from rich.table import Table

from bakehouse.output import say
from bakehouse.reports.evaluate import COLOURS, bounded, show_table, signed_bounded

TRUST = {"trust it": "green", "with care": "yellow", "do not trust it": "red"}


def show_fitted_world(result: dict[str, Any]) -> None:
    """Print what `bakehouse_learner.offline.fit_world` answered."""
    say(
        f"[bold]{escape(result['application'])}[/], from {escape(result['source'])}: fitted to "
        f"{result['fitted_to']:,} decisions, judged by the {result['held_out']:,} that came after "
        f"({result['seconds']:.0f} s)"
    )
    for note in result["notes"]:
        say(f"[yellow]! {escape(note)}[/]")
    table = Table("policy", "in the world", "in evaluation", box=None, pad_edge=False)
    for one in sorted(result["policies"], key=lambda one: -one["in_world"]):
        told = "nothing" if one["evaluated"] is None else bounded(one["evaluated"])
        name = escape(one["policy"])
        table.add_row(name, f"{one['in_world']:.3f}", f"[{COLOURS[one['verdict']]}]{told}[/]")
    say("")
    show_table(table)
    if result["pairs"]:
        _show_pairs(result["pairs"])
    tau = result["kendall_tau"]
    ranks = "no rank correlation" if tau is None else f"rank correlation (Kendall's τ) {tau:.2f}"
    say(f"\n{ranks}, on {result['evaluated_on']:,} held-out decisions")
    say(f"[{TRUST[result['verdict']]}]{escape(result['verdict'])}[/]")
    for words in result["words"]:
        say(f"- {escape(words)}")
    say(f'\nIn the page: [bold]world = FittedWorld.load("{escape(result["world"])}")[/]')


def _show_pairs(pairs: list[dict[str, Any]]) -> None:
    """Every two policies, those first about which world and evaluation disagree."""
    order = ["disagrees", "agrees", "cannot tell"]
    colours = dict(zip(order, ("red", "green", "dim"), strict=True))
    table = Table("first − second", "in the world", "in evaluation", "", box=None, pad_edge=False)
    for pair in sorted(pairs, key=lambda pair: order.index(pair["says"])):
        says = pair["says"] + ("" if pair["size_fits"] else ", not in size")
        table.add_row(
            escape(f"{pair['first']} − {pair['second']}"),
            f"{pair['in_world']:+.3f}",
            signed_bounded(pair["evaluated"]),
            f"[{colours[pair['says']]}]{says}[/]",
        )
    say("")
    show_table(table)
