"""Pictures of a search: how it went, what mattered, and where the good settings lie."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.study import Study
from optuna.trial import TrialState

TRIALS_NEEDED = 4  # complete trials of which importance can be told
SIZE = (8.0, 4.8)  # inches
SLICE = 3.2  # inches for each setting
MOST = 6  # settings in one picture, the most important
TREES = 32


def importances(study: Study, seed: int) -> dict[str, float]:
    """Share of the score's variance over trials that each setting explains, the largest first.

    By functional ANOVA (Hutter, Hoos & Leyton-Brown 2014), of the settings that all trials have.
    Empty where trials are too few or all alike.
    """
    done = [t for t in study.get_trials(deepcopy=False) if t.state == TrialState.COMPLETE]
    if len(done) < TRIALS_NEEDED or len({t.value for t in done}) < 2:
        return {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return get_param_importances(study, evaluator=_evaluator(seed))
    except (ValueError, RuntimeError):  # no setting that varies is in all trials
        return {}


def _evaluator(seed: int) -> FanovaImportanceEvaluator:
    return FanovaImportanceEvaluator(n_trees=TREES, seed=seed)


def draw(
    study: Study, folder: Path, *, important: Mapping[str, float], seed: int, what: str
) -> list[Path]:
    """Write the pictures that can be drawn of these trials; returns their paths.

    Args:
        important: see `importances`.
        what: the score, in words.
    """
    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from optuna.visualization import matplotlib as pictures

    folder.mkdir(parents=True, exist_ok=True)
    evaluator = _evaluator(seed)
    drawn: dict[str, Callable[[], Any]] = {
        "history": lambda: pictures.plot_optimization_history(study, target_name=what)
    }
    if important:
        drawn["importance"] = lambda: pictures.plot_param_importances(study, evaluator=evaluator)
        most = list(important)[:MOST]
        drawn["parallel"] = lambda: pictures.plot_parallel_coordinate(study, most, target_name=what)
        drawn["slices"] = lambda: pictures.plot_slice(study, most, target_name=what)
    if any(trial.intermediate_values for trial in study.get_trials(deepcopy=False)):
        drawn["progress"] = lambda: pictures.plot_intermediate_values(study)
    paths = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna calls its pictures experimental
        for name, make in drawn.items():
            made = make()
            figure = (made.flat[0] if hasattr(made, "flat") else made).figure
            figure.set_size_inches(SLICE * made.size if name == "slices" else SIZE[0], SIZE[1])
            path = folder / f"{name}.png"
            figure.savefig(path, dpi=100, bbox_inches="tight")
            plt.close(figure)
            paths.append(path)
    return paths


optuna.logging.set_verbosity(optuna.logging.ERROR)  # the search says itself how far it is
