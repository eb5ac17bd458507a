"""A TensorFlow SavedModel of a policy, kept for audit: what TensorFlow itself would answer."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, Protocol

from bakehouse_learner.training.specs import specs_of
from bakehouse_learner.training.tensorflow_setup import tf
from bakehouse_schemas.application.application import Application


class Scoring(Protocol):
    """An agent whose scores are a TensorFlow graph; every agent here is one."""

    @property
    def variables(self) -> list[Any]:
        """Every TensorFlow variable that the scores depend on."""

    def score_tensor(self, observation: Any, *items: Any) -> Any:
        """float32 `[B, D]`, of a ranking also `[B, A, F]` → `[B, A]`"""


def save_model(folder: Path, agent: Scoring, application: Application) -> None:
    """Write the policy as it is now, whole or not at all; replaces what is there.

    Its only signature is `serving_default(observation [B, D], eligible [B, A])`, of a ranking with
    `items [B, A, F]` too, which answers `scores [B, A]`: the export's scores, −∞ where not
    eligible.
    """
    specs, shape = specs_of(application), application.shape
    items = [tf.TensorSpec([None, shape.choices, shape.features], tf.float32, "items")]

    def scores(observation: Any, eligible: Any, *items: Any) -> dict[str, Any]:
        found = agent.score_tensor(observation, *items)
        return {"scores": tf.where(eligible, found, tf.constant(float("-inf")))}

    module = tf.Module()
    module.tracked = agent.variables  # else they are not saved
    module.scores = tf.function(
        scores,
        input_signature=[
            tf.TensorSpec([None, *specs.values.shape], tf.float32, "observation"),
            tf.TensorSpec([None, specs.actions], tf.bool, "eligible"),
            *(items if shape.kind == "ranking" else ()),
        ],
        autograph=False,
    )
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    if aside.exists():
        shutil.rmtree(aside)
    tf.saved_model.save(module, str(aside), signatures=module.scores)
    if folder.exists():
        shutil.rmtree(folder)
    aside.rename(folder)
