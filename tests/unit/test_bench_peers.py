"""What `tests.bench learn` compares itself with, and on which terms."""

import math
import tomllib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.bench.measure import Cost
from tests.bench.peers import contender, missing, report
from tests.bench.transitions import pairs_of, random_transitions

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def _cost(minibatches: int, *, wall_s: float, cpu_s: float) -> Cost:
    return Cost(cpu_s, wall_s, {"minibatches": minibatches})


def test_ours_is_held_against_a_peer_at_its_faster_setting():
    found = report(
        {
            # 200 a second, then 100: a neighbour came, and both felt it
            "dqn": [_cost(100, wall_s=0.5, cpu_s=0.4), _cost(100, wall_s=1.0, cpu_s=0.4)],
            "sb3": [_cost(10, wall_s=1.0, cpu_s=2.0), _cost(10, wall_s=2.0, cpu_s=2.0)],
            "sb3_one_thread": [_cost(10, wall_s=0.2, cpu_s=0.2), _cost(10, wall_s=0.4, cpu_s=0.2)],
        }
    )
    assert found["dqn_over_sb3"] == pytest.approx(4.0)  # 200 / 50 and 100 / 25
    assert found["sb3_cpu_over_dqn"] == pytest.approx(5.0)  # 20 ms / 4 ms
    assert found["contenders"]["sb3"]["minibatches_per_s"] == pytest.approx(7.5)
    assert found["contenders"]["dqn"]["cpu_per_minibatch_us"] == pytest.approx(4_000)


def test_a_peer_that_is_not_there_has_no_ratio_and_leaves_the_others_theirs():
    found = report(
        {
            "dqn": [_cost(100, wall_s=1.0, cpu_s=1.0)],
            "tf_agents_loop": [_cost(20, wall_s=1.0, cpu_s=1.0)],
        }
    )
    assert math.isnan(found["dqn_over_sb3"])
    assert math.isnan(found["sb3_cpu_over_dqn"])
    assert found["dqn_over_tf_agents_loop"] == pytest.approx(5.0)


def test_what_is_not_installed_is_named_with_the_command_that_installs_it():
    assert missing(lambda package: SimpleNamespace()) == {}
    words = missing(lambda package: None)
    assert list(words) == ["sb3"]
    assert "uv run --group peers python -m tests.bench learn" in words["sb3"]


def test_a_contender_that_ends_says_its_last_words(tmp_path: Path):
    with (
        pytest.raises(RuntimeError, match="invalid choice: 'nobody'"),
        contender("nobody", None, tmp_path),
    ):
        pass


def test_pairs_hold_what_the_transitions_hold():
    transitions = random_transitions(100, size=3, actions=4)
    pairs = pairs_of(transitions)
    np.testing.assert_array_equal(pairs.observation[:, 0], transitions.observation)
    np.testing.assert_array_equal(pairs.observation[:, 1], transitions.next_observation)
    np.testing.assert_array_equal(pairs.action[:, 0], transitions.action)
    np.testing.assert_array_equal(pairs.reward[:, 0], transitions.reward)
    np.testing.assert_array_equal(pairs.discount[:, 0] == 0, transitions.terminal)
    assert 0 < transitions.terminal.sum() < 100
    assert set(transitions.action.tolist()) == {0, 1, 2, 3}


def test_peers_are_no_part_of_the_default_install():
    project = tomllib.loads(PYPROJECT.read_text())
    uv, groups = project["tool"]["uv"], project["dependency-groups"]
    assert any(name.startswith("stable-baselines3") for name in groups["peers"])
    assert "peers" not in uv.get("default-groups", ["dev"])
    members = [
        tomllib.loads((PYPROJECT.parent / member / "pyproject.toml").read_text())["project"]
        for member in uv["workspace"]["members"]
    ]
    for requirements in (
        groups["dev"],
        *(each["dependencies"] for each in (project["project"], *members)),
        *(extra for each in members for extra in each.get("optional-dependencies", {}).values()),
    ):
        for requirement in requirements:
            if requirement == {"include-group": "tf-agents"}:
                continue
            assert isinstance(requirement, str), "a group within a group would bring peers along"
            assert not requirement.startswith(("torch", "stable-baselines3"))


def test_no_registry_is_named_by_its_address():
    for file in (PYPROJECT, *PYPROJECT.parent.glob("*/pyproject.toml")):
        assert "://" not in file.read_text()
        uv = tomllib.loads(file.read_text())["tool"].get("uv", {})
        assert not {"index", "index-url", "extra-index-url", "find-links"} & set(uv)
        assert all(source == {"workspace": True} for source in uv.get("sources", {}).values())
