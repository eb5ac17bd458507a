"""One target, fuzzed in this process, which libFuzzer ends: `__main__` starts it."""

from __future__ import annotations

import importlib
import sys
import warnings
from pathlib import Path
from random import Random
from typing import Any

import atheris

# what is watched for coverage: the product, and the targets, whose checks guide as well
WATCHED = ["schemas", "serving", "stream"]


def load(name: str) -> Any:
    """The target's module, with the product code that it imports instrumented."""
    with atheris.instrument_imports(include=WATCHED):
        return importlib.import_module(f"tests.faults.fuzz.target_{name}")


def main(name: str, options: list[str], *, planted: bool, seeds: Path | None) -> None:
    """Fuzz a target; does not return.

    Args:
        options: of libFuzzer, and the folders of inputs.
        planted: with the target's defect in the product.
        seeds: folder to put the target's valid inputs into.
    """
    # of what a target makes of nonsense; what the product warns of, a target watches itself
    warnings.simplefilter("ignore")
    target = load(name)
    if planted:
        target.plant()
    if seeds is not None:
        for at, seed in enumerate(target.seeds()):
            (seeds / f"seed-{at:02d}").write_bytes(seed)
    mutator = getattr(target, "mutate", None)
    more: dict[str, Any] = {}
    if mutator is not None:

        def mutate(data: bytes, size: int, seed: int) -> bytes:
            return mutator(bytes(data), size, Random(seed), atheris.Mutate)  # type: ignore[no-any-return]

        more["custom_mutator"] = mutate
    atheris.Setup([f"fuzz-{name}", *options], target.check, **more)
    atheris.Fuzz()


if __name__ == "__main__":
    _, which, how, folder, *rest = sys.argv
    main(which, rest, planted=how == "planted", seeds=Path(folder) if folder else None)
