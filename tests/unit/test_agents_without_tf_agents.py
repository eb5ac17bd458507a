"""TF-Agents is imported by the agents that need it; all else goes without."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from bakehouse_schemas.application.agents import AGENTS

ROOT = Path(__file__).parents[2]
NEEDING = [name for name, kind in AGENTS.items() if kind.needs_tf_agents]
REFUSES = """
import sys

class Refuses:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "tf_agents":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None

sys.meta_path.insert(0, Refuses())
"""
BUILDS = """
import json, sys
import numpy as np
import bakehouse_learner.learning
from bakehouse_learner.agents import build_agent
from bakehouse_learner.agents.check_network import check_network
from bakehouse_learner.agents.load import load_agents
from bakehouse_schemas.application.agents import AGENTS
from bakehouse_schemas.errors import MissingDependency
from tests.shapes import shaped
from tests.small_worlds import application_for, build, learn, lessons, policy_of

load_agents()

def built(name):
    kinds = AGENTS[name].actions
    kind = "discrete" if "discrete" in kinds else "continuous"
    return build(application_for(name, kind=kind) if kind in kinds else shaped("ranking"))

for name, kind in AGENTS.items():
    if not kind.needs_tf_agents:
        built(name)

rng, agent = np.random.default_rng(0), build(application_for("bc"))
rows = lessons("bc", rng, 200)
losses = [learn(agent, rows, rng)["loss"] for _ in range(10)]
scores = policy_of(agent, 3).scores(rows.observation)
answers_alike = bool(np.allclose(scores, agent.scores(rows.observation), atol=1e-5))
imported = [name for name in sys.modules if name.split(".")[0] == "tf_agents"]
told = {"losses": losses, "answers_alike": answers_alike, "imported": imported}
"""
ASKS_FOR_THE_OTHERS = """
told["refused"] = []
for name, kind in AGENTS.items():
    if kind.needs_tf_agents:
        for does in (build, check_network):
            try:
                does(application_for(name))
            except MissingDependency as error:
                told["refused"].append(str(error))
"""
TELLS = "print(json.dumps(told))"


APPLICATION = """
from bakehouse import Agent, Application, Discrete, Numeric, Reward, seconds

application = Application(
    name="game",
    observation=[Numeric("skill", low=0, high=1)],
    actions=Discrete("left", "right"),
    reward=Reward({"won": 1.0}, window=seconds(2)),
    baseline=lambda context: "left",
    agent=Agent("dqn"),
)
"""


def told_by_a_process(program: str) -> Any:
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


def test_an_agent_that_does_without_tf_agents_never_imports_it() -> None:
    told = told_by_a_process(BUILDS + TELLS)
    assert told["imported"] == []


def test_without_tf_agents_the_others_learn_and_those_that_need_it_say_what_to_install() -> None:
    told = told_by_a_process(REFUSES + BUILDS + ASKS_FOR_THE_OTHERS + TELLS)
    assert told["losses"][-1] < told["losses"][0] and told["answers_alike"]
    assert told["refused"] == [
        f"Agent('{name}') learns by TF-Agents, which is not installed: `pip install --no-deps "
        "tf-agents==0.19.0`, or use an agent that does without"
        for name in NEEDING
        for _ in range(2)
    ]


def test_a_learner_whose_agent_needs_tf_agents_does_not_start_without_it(tmp_path: Path) -> None:
    (tmp_path / "game.py").write_text(APPLICATION)
    starts = "from bakehouse_learner.__main__ import main; sys.exit(main(sys.argv[1:]))"
    ran = subprocess.run(
        [sys.executable, "-c", REFUSES + starts, str(tmp_path / "game.py")],
        env={**os.environ, "BAKEHOUSE_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 2
    assert "the learner cannot start: Agent('dqn') learns by TF-Agents" in ran.stderr
