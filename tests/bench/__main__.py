"""Benchmarks: `python -m tests.bench NAME`.

Each prints one JSON object on its last line. Absolute figures are this machine's, today;
what is held to a bound is measured side by side, in alternation, and is a ratio wherever it can be.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.bench.measure import Options, rounded

# name -> what it answers, in a line; `NAME --help` gives the benchmark's own words
BENCHMARKS = {
    "decide": "what a decision costs on the hot route, against a plain FastAPI + pydantic route",
    "publish": "what an event costs through spool and producer into a real broker",
    "join": "batch time of the streaming join at 20 thousand and at 2 million open decisions",
    "learn": "minibatches a second at batch 64 and 256, for every agent",
    "agents": "what every agent learns in a world made for its kind, and how fast it trains",
    "freshness": "outcome to better answer at 20, 200 and 1,000 loops a second, stage by stage",
    "swap": "latency with and without swaps of the policy, under open-loop load",
    "viewers": "what people who watch the page cost serving, and those who play",
    "loop": "the highest rate of whole loops that is held with freshness p95 under 6 s",
    "idle": "how fast the stack starts, and what it uses when nobody plays",
    "explain": "decisions decided again out of the tables, exactly; how long an explanation takes",
    "age": "append time and learner lag at 10, 1,000 and 100,000 commits",
}


def parser(only: str | None = None) -> argparse.ArgumentParser:
    """Of the command line; `only` is the benchmark whose help is wanted in full."""
    top = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="For example: python -m tests.bench decide --quick",
    )
    names = top.add_subparsers(dest="name", metavar="NAME", required=True)
    for name, summary in BENCHMARKS.items():
        words = summary
        if name == only:
            words = importlib.import_module(f"tests.bench.{name}").__doc__ or summary
        one = names.add_parser(
            name,
            help=summary,
            description=words,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        one.add_argument("--json", action="store_true", help="print the JSON object alone")
        one.add_argument(
            "--quick", action="store_true", help="a short run that shows that it works"
        )
        one.add_argument(
            "--scratch", type=Path, help="work in this folder, and leave what was written"
        )
    return top


def table(result: dict[str, Any], indent: str = "") -> str:
    """The numbers, one a line, for a person."""
    lines = []
    for name, value in result.items():
        if isinstance(value, dict):
            lines += [f"{indent}{name}", table(value, indent + "  ")]
        else:
            lines.append(f"{indent}{name:<{max(1, 32 - len(indent))}} {json.dumps(value)}")
    return "\n".join(lines)


def main() -> int:
    """Run the named benchmark."""
    arguments = parser(next((a for a in sys.argv[1:] if a in BENCHMARKS), None)).parse_args()
    scratch = arguments.scratch or Path(tempfile.mkdtemp(prefix=f"bench-{arguments.name}-"))
    scratch.mkdir(parents=True, exist_ok=True)
    module = importlib.import_module(f"tests.bench.{arguments.name}")
    try:
        result = module.run(Options(quick=arguments.quick, scratch=scratch.resolve()))
    finally:
        if arguments.scratch is None:
            shutil.rmtree(scratch, ignore_errors=True)
    result = rounded({"bench": arguments.name, "quick": arguments.quick, **result})
    result["cores"] = os.cpu_count()
    if not arguments.json:
        print(table(result))
    print(json.dumps(result), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
