"""Coverage-guided fuzzing: `python -m tests.faults.fuzz TARGET`.

Starts from a few valid inputs, changes them, and keeps what reaches new lines of the product. An
input that breaks a promise ends the run with status 1; it is shown, kept, and can be fed again
alone. Linux only (atheris).
"""

from __future__ import annotations

import argparse
import ast
import base64
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.faults.fuzz import TARGETS

RUNS = 20_000
MOST_BYTES = 8192
TIMEOUT_S = 20  # an input that takes longer never ends, as far as a player is concerned
MEMORY_MB = 2048
EXAMPLES = """examples:
  python -m tests.faults.fuzz frames                      # 20,000 runs, from the seeds
  python -m tests.faults.fuzz manifest --seconds 600 --corpus fuzz/manifest
                                                          # long, going on from what was found
  python -m tests.faults.fuzz decision crash-4f1c…        # feed one input again, alone
  python -m tests.faults.fuzz spool --planted             # with a defect: can it be found?
"""


def parser(only: str | None = None) -> argparse.ArgumentParser:
    """Of the command line; `only` is the target whose help is wanted in full."""
    top = argparse.ArgumentParser(
        prog="python -m tests.faults.fuzz",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=EXAMPLES,
    )
    names = top.add_subparsers(dest="target", metavar="TARGET", required=True)
    for name, summary in TARGETS.items():
        words = summary
        if name == only:
            text = Path(__file__).with_name(f"target_{name}.py").read_text()
            words = ast.get_docstring(ast.parse(text)) or summary
        one = names.add_parser(
            name,
            help=summary,
            description=words,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        one.add_argument("input", nargs="?", type=Path, help="feed this file alone, and stop")
        length = one.add_mutually_exclusive_group()
        length.add_argument("--runs", type=int, help=f"inputs to try (default {RUNS:,})")
        length.add_argument("--seconds", type=int, help="time to try for, instead of --runs")
        one.add_argument("--corpus", type=Path, help="folder to start from and to add finds to")
        one.add_argument("--seed", type=int, default=1, help="of the changes (default 1)")
        one.add_argument(
            "--planted", action="store_true", help="with a known defect put into the product"
        )
    return top


def options(asked: argparse.Namespace, corpus: Path, aside: Path) -> list[str]:
    """What libFuzzer is told."""
    if asked.input is not None:
        return [str(asked.input)]
    length = f"-max_total_time={asked.seconds}" if asked.seconds else f"-runs={asked.runs or RUNS}"
    return [
        length,
        f"-seed={asked.seed}",
        f"-max_len={MOST_BYTES}",
        f"-timeout={TIMEOUT_S}",
        f"-rss_limit_mb={MEMORY_MB}",
        f"-artifact_prefix={aside}/",
        "-print_final_stats=1",
        str(corpus),
    ]


def fuzz(asked: argparse.Namespace) -> int:
    """Run a target in a process of its own.

    Returns:
        0, or 1 after showing what broke it, or 2 where the fuzzer itself did not run.
    """
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        corpus = asked.corpus or Path(scratch) / "corpus"
        aside = Path(scratch) / "found"
        aside.mkdir()
        corpus.mkdir(parents=True, exist_ok=True)
        seeds = "" if asked.input else str(corpus)
        which = "planted" if asked.planted else "as-is"
        ended = subprocess.run(
            [
                sys.executable,
                *("-m", "tests.faults.fuzz.run", asked.target, which, seeds),
                *options(asked, corpus, aside),
            ],
            check=False,
            env=os.environ | {"TMPDIR": scratch},  # what a target lays aside goes with it
        )
        if ended.returncode == 0:
            return 0
        if asked.input is not None:
            return 1
        for found in sorted(aside.iterdir()):
            show(asked.target, found)
            return 1
        print(f"{asked.target}: ended with status {ended.returncode} before any input was tried")
        return 2


def show(target: str, found: Path) -> None:
    """The input that broke something, and how to feed it again."""
    data = found.read_bytes()
    kept = Path(tempfile.gettempdir()) / f"fuzz-{target}-{found.name}"
    kept.write_bytes(data)
    print(f"\n{target}: an input of {len(data)} bytes broke a promise")
    print(f"  as bytes:  {data[:200]!r}{'…' if len(data) > 200 else ''}")
    print(f"  as base64: {base64.b64encode(data).decode()}")
    print(f"  again:     python -m tests.faults.fuzz {target} {kept}")


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    given = sys.argv[1:] if arguments is None else arguments
    asked = parser(given[0] if given else None).parse_args(given)
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed here; it has wheels for Linux only", file=sys.stderr)
        return 2
    return fuzz(asked)


if __name__ == "__main__":
    sys.exit(main())
