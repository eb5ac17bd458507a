"""What every agent learns within a budget of decisions, in a world that was made for its kind.

The world is played in virtual time through the learner of production
(`learner/bakehouse_learner/offline/simulation/simulation.py`): its ring, evidence and gate,
outcomes lost, late and twice. No constant and no myopic policy comes near in these worlds
(`tests/unit/test_worlds.py`), which are in `tests/worlds`.

    agents.NAME.world               module of tests/worlds
    agents.NAME.share_of_best       (policy − uniform) / (best − uniform) over the last decisions,
                                    median over seeds; 0 where the gate let no version of it answer
    agents.NAME.minibatches_per_s   while training, in the world's own batch size, gathering rows
                                    included; of an agent that reads the whole ring, minibatches'
                                    worth of rows
    agents.NAME.export_max_error    largest difference between a score of the exported policy and
                                    TensorFlow's own, in reward (rewards are about one)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bakehouse_learner.agents import build_agent
from bakehouse_learner.gate.policy_version import policy_of
from bakehouse_learner.learning import Learning
from bakehouse_learner.offline.simulation.simulation import Result, simulate
from bakehouse_schemas.application.agents import AGENTS
from tests.bench.measure import Options, median
from tests.worlds import Exam, exam_of


def run(options: Options) -> dict[str, Any]:
    """Measure; see the module."""
    return {"agents": {name: examined(name, exam_of(name), options) for name in AGENTS}}


def examined(name: str, exam: Exam, options: Options) -> dict[str, Any]:
    """One agent's marks."""
    decisions = options.sized(exam.decisions, exam.decisions // 8)
    results: list[Result] = []
    for seed in range(options.sized(3, 1)):

        def say(point: Any, seed: int = seed) -> None:
            options.say(
                f"{name} in {exam.module}, seed {seed}: {point.decisions} of {decisions} "
                f"decisions, share {point.share:.2f}, version {point.version}"
            )

        results.append(
            simulate(
                exam.application_for(name),
                exam.world,
                build_agent,
                decisions=decisions,
                rate_per_s=exam.rate_per_s,
                seed=seed,
                on_step=say,
            )
        )
    shares = [
        result.share if result.left_version_0 is not None and result.share is not None else 0.0
        for result in results
    ]
    return {
        "world": exam.module,
        "share_of_best": median(shares),
        "shares": shares,
        "minibatches_per_s": median(result.minibatches_per_s for result in results),
        "export_max_error": max(
            export_error(r.learning) for r in results if r.learning is not None
        ),
        "decisions": decisions,
        "left_version_0": [result.left_version_0 for result in results],
        "decisions_per_s": median(result.decisions / result.wall_s for result in results),
    }


def export_error(learning: Learning) -> float:
    """Exported scores against TensorFlow's own over resident decisions, in reward."""
    assert learning.agent is not None
    ring = learning.ring
    observation = ring.observation[: min(ring.size, 1_000)]
    policy = policy_of(learning.agent.export(), learning.application.shape)
    if not ring.items.size:
        own = learning.agent.scores(observation)
        return float(np.max(np.abs(policy.scores(observation) - own)))
    items = ring.items[: len(observation)]
    own = learning.agent.scores(observation, items)  # type: ignore[call-arg]
    return float(np.max(np.abs(policy.scores(observation, items) - own)))
