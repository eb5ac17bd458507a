"""`python -m bakehouse_learner.offline.advise REF`: what does a log say about the
application itself?

Bandit or sequential, whether the reward can be learned, how long a difference takes to be seen,
what is hardly tried, what is missing. Prints one line of JSON; `bakehouse advise` makes words of
it.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import numpy as np

from bakehouse_learner.offline.advice.coverage import coverage
from bakehouse_learner.offline.advice.finding import by_urgency
from bakehouse_learner.offline.advice.outcomes import features, outcomes
from bakehouse_learner.offline.advice.reward import reward
from bakehouse_learner.offline.advice.sample import MOST, Sample, of_history, of_world
from bakehouse_learner.offline.advice.sample_size import sample_size
from bakehouse_learner.offline.advice.sequence import sequence
from bakehouse_learner.offline.console import run_program, say
from bakehouse_learner.offline.history.history import read_history
from bakehouse_schemas.errors import InvalidHistory
from bakehouse_schemas.loading import Loaded, load_application
from bakehouse_schemas.process.settings import load_settings

SEED = 0


def advise(options: argparse.Namespace) -> dict[str, Any]:
    """Findings, the most urgent first, and what they were made from.

    Raises:
        BakehouseError: there is neither a log nor a world.
    """
    loaded = load_application(options.ref)
    sample, source, notes = _sample(loaded, options)
    return {
        "application": loaded.application.name,
        "source": source,
        "decisions": len(sample.everything),
        "notes": notes,
        "findings": findings(sample),
    }


def findings(sample: Sample) -> list[dict[str, Any]]:
    """All that can be said of a sample, as JSON carries it."""
    rng = np.random.default_rng(SEED)
    found = [
        outcomes(sample),
        features(sample),
        *coverage(sample),
        *reward(sample, rng),
        sequence(sample, rng),
        sample_size(sample),
    ]
    return [finding.as_dict() for finding in by_urgency(found)]


def _sample(loaded: Loaded, options: argparse.Namespace) -> tuple[Sample, str, list[str]]:
    """Of a log; where none was named and there is none, of the world."""
    settings, application = load_settings(), loaded.application
    most = options.decisions
    sized = replace(application, training=replace(application.training, buffer=max(most, 100)))
    replay = options.source in (None, "replay")
    source = settings.tables if replay else options.source
    try:
        history = read_history(sized, source, most=most, contexts=True)
    except InvalidHistory as error:
        if options.source is not None:
            raise
        if loaded.world is None:
            raise InvalidHistory(f"{error}. The page has no world to ask either") from None
        say(f"no log in {source}: a sample of the world instead")
        sample = of_world(application, loaded.world, decisions=most, seed=SEED)
        return sample, "its world, under the rules and the first exploration", []
    return of_history(history), str(source), list(history.notes)


def command_line() -> argparse.ArgumentParser:
    """The arguments that this program takes."""
    parser = argparse.ArgumentParser(prog="bakehouse_learner.offline.advise")
    parser.add_argument("ref")
    parser.add_argument("--from", dest="source")
    parser.add_argument("--decisions", type=int, default=MOST)
    return parser


if __name__ == "__main__":
    raise SystemExit(run_program(advise, command_line()))
