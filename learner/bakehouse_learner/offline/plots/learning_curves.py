"""The picture of a comparison: learning curves in a world, estimates on a history."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

# Okabe & Ito (2008), told apart by people with any colour vision; the line style says it again.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933")
STYLES = ("-", "--", "-.", ":")
GREY = "#767676"


def draw(comparison: dict[str, Any], path: Path) -> None:
    """Write a picture; its suffix says which kind (.png, .svg, .pdf).

    Args:
        comparison: what `bakehouse_learner.offline.compare` answers.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"font.size": 10, "svg.fonttype": "none"}):
        figure = Figure(figsize=(8.0, 4.8), layout="constrained")
        axes = figure.add_subplot()
        if comparison["by"] == "world":
            _curves(axes, comparison)
        else:
            _estimates(axes, comparison)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        figure.savefig(path, dpi=150)


def _curves(axes: Axes, comparison: dict[str, Any]) -> None:
    """Median over seeds, least to most shaded; named at the right in the order they end in."""
    several = comparison["seeds"] > 1
    lowest = 0.0
    for at, one in enumerate(comparison["agents"]):
        colour, style = COLOURS[at % len(COLOURS)], STYLES[at // 2 % len(STYLES)]
        x = [point["decisions"] for point in one["curve"]]
        middle = [point["median"] for point in one["curve"]]
        least = [point["least"] for point in one["curve"]]
        most = [point["most"] for point in one["curve"]]
        lowest = min([lowest, *least])
        label = f"{one['agent']}  {one['share']['median']:.2f}"
        axes.plot(x, middle, style, color=colour, linewidth=2.0, label=label)
        if several:
            axes.fill_between(x, least, most, color=colour, alpha=0.15, linewidth=0)
    for height, words in (
        (1.0, "the best"),
        (0.0, "random"),
        (comparison["baseline_share"], "rules"),
    ):
        if height is not None:
            axes.axhline(height, color=GREY, linewidth=0.8, linestyle=(0, (1, 3)))
            axes.annotate(
                words, (0.002, height), xycoords=("axes fraction", "data"), color=GREY,
                fontsize=8, va="bottom", ha="left", xytext=(0, 1), textcoords="offset points",
            )  # fmt: skip
    axes.set_ylim(min(lowest, 0.0) - 0.05, 1.08)
    axes.set_xlim(left=0)
    axes.set_xlabel("decisions")
    axes.set_ylabel("share of the way from random to the best")
    spread = "; the band is least to most" if several else ""
    axes.set_title(
        f"{comparison['application']}: median of {comparison['seeds']} seeds{spread}", loc="left"
    )
    axes.legend(
        loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, title="in the end",
        alignment="left", handlelength=3.0,
    )  # fmt: skip
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _estimates(axes: Axes, comparison: dict[str, Any]) -> None:
    """What each would earn against the rules, with its interval; the best at the top."""
    told = [one for one in comparison["agents"] if one["against_baseline"] is not None][::-1]
    for at, one in enumerate(told):
        found = one["against_baseline"]
        axes.plot(found["mean"], at, "o", color=COLOURS[0])
        if found["lower"] is not None and found["upper"] is not None:
            axes.plot([found["lower"], found["upper"]], [at, at], "-", color=COLOURS[0])
    axes.axvline(0.0, color=GREY, linewidth=0.8, linestyle=(0, (1, 3)))
    axes.set_yticks(range(len(told)), [one["agent"] for one in told])
    axes.set_xlabel("estimated reward more than the rules', with a 95% interval")
    axes.set_title(f"{comparison['application']}, from history", loc="left")
