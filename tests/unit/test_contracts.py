"""Contracts as data: described and read back, compared, remembered in a home."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bakehouse_schemas.application.actions import Actions, Continuous, Discrete, Parts
from bakehouse_schemas.application.application import Agent, Application, Episodic, minutes
from bakehouse_schemas.application.observation import (
    Boolean,
    Categorical,
    Feature,
    Numeric,
    Vector,
)
from bakehouse_schemas.application.ranking import Ranking
from bakehouse_schemas.application.reward import Reward
from bakehouse_schemas.contracts.change import ContractChange, compare
from bakehouse_schemas.contracts.contract import Contract, contract_of, read_contract
from bakehouse_schemas.contracts.known import KnownContracts, note_contracts
from bakehouse_schemas.errors import UnreadableContract
from bakehouse_schemas.loading import load_application

EXAMPLES = sorted(Path("bakehouse/bakehouse/examples").glob("[a-z]*.py"))
LEVEL = "3d77d8f5fbf02182"  # of applications/level_difficulty.py, as release 0.1.0 said it
# of each kind of actions, one that takes it
AGENT = {"discrete": "dqn", "continuous": "td3", "parts": "reinforce", "ranking": "rank"}
FEATURES: tuple[Feature, ...] = (
    Numeric("skill", low=0, high=1, default=0.5),
    Categorical("country", buckets=8, default="de"),
    Categorical("segment", values=["new", "old"]),
    Boolean("payer", default=False),
    Vector("history", 3, default=[0.0, 1.0, 2.5]),
)


def application(
    features: tuple[Feature, ...] = FEATURES,
    actions: Actions = Discrete("easy", "normal", "hard"),  # noqa: B008  # frozen
    **more: Any,
) -> Application:
    return Application(
        name="game",
        observation=features,
        actions=actions,
        reward=Reward({"won": 1.0}, window=minutes(5)),
        baseline=lambda context: None,
        agent=Agent(AGENT[actions.kind]),
        **more,
    )


def changed(before: Application, after: Application) -> ContractChange:
    return compare(contract_of(before), contract_of(after))


def with_feature(feature: Feature) -> tuple[Feature, ...]:
    """FEATURES with another in the place of the one of that name, or behind them."""
    if all(one.name != feature.name for one in FEATURES):
        return (*FEATURES, feature)
    return tuple(feature if one.name == feature.name else one for one in FEATURES)


def read_again(contract: Contract) -> Contract:
    return read_contract(json.loads(json.dumps(contract.described())))


def test_the_fingerprint_of_an_application_is_what_it_was_in_the_release_before() -> None:
    assert load_application("applications/level_difficulty.py").application.contract == LEVEL


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_the_contract_of_every_example_is_read_back_as_it_was(file: Path) -> None:
    if file.stem == "__init__":
        pytest.skip("no example")
    one = load_application(str(file)).application
    contract = read_again(contract_of(one))
    assert contract.fingerprint == one.contract
    assert contract.choices == one.actions.choices
    assert contract.shape.described() == one.shape.described()
    assert contract.features == tuple(one.observation)


@pytest.mark.parametrize(
    "actions",
    [
        Discrete("b", "a", features={"a": [1, 2.5], "b": [0, 1]}),
        Continuous(low=[0, -5.5], high=[1, 15]),
        Parts({"mode": Discrete("x", "y"), "speed": Continuous(low=0.5, high=2)}),
        Ranking(k=2, item=[Numeric("price", low=0, high=9, default=1)], most_items=5),
    ],
    ids=lambda actions: actions.kind,
)
def test_every_kind_of_actions_and_every_default_is_read_back(actions: Actions) -> None:
    contract = contract_of(application(actions=actions))
    assert read_again(contract) == contract


def test_a_description_that_is_not_of_its_fingerprint_is_refused() -> None:
    described = contract_of(application()).described()
    with pytest.raises(UnreadableContract, match="is of"):
        read_contract(described | {"problem": "episodic"})
    for damaged in (None, 3, [], {}, described | {"actions": {"offered": {}}}):
        with pytest.raises(UnreadableContract):
            read_contract(damaged)


def test_what_a_later_release_says_beside_a_contract_is_passed_over() -> None:
    contract = contract_of(application())
    assert read_contract(contract.described() | {"of_tomorrow": 1}) == contract


def test_a_bound_a_bucket_and_a_feature_with_a_default_leave_rows_and_policies_usable() -> None:
    for feature in (
        Numeric("skill", low=0, high=2, default=0.5),
        Categorical("country", buckets=16, default="de"),
        Numeric("level", low=0, high=9, default=1),
    ):
        change = changed(application(), application(with_feature(feature)))
        assert not change.same
        assert change.rows_can_be_encoded
        assert change.policy_can_be_carried


def test_a_feature_without_a_default_keeps_rows_out_and_says_what_to_do() -> None:
    change = changed(application(), application(with_feature(Numeric("level", low=0, high=9))))
    assert not change.rows_can_be_encoded
    assert "'level' is new and has no default" in change.rows_obstacles[0]
    assert "give it a default" in change.rows_obstacles[0]
    assert change.policy_can_be_carried


def test_labels_are_told_apart_by_name_not_by_place() -> None:
    change = changed(application(), application(actions=Discrete("extreme", "hard", "easy")))
    assert change.labels_kept == ("hard", "easy")
    assert change.labels_added == ("extreme",)
    assert change.labels_removed == ("normal",)
    assert change.rows_doubts == ("rows in which one of ['normal'] was chosen",)
    assert change.policy_can_be_carried


def test_labels_of_parts_are_named_with_their_part() -> None:
    def parts(*modes: str, high: float = 2.0) -> Application:
        return application(
            actions=Parts({"mode": Discrete(*modes), "speed": Continuous(low=0.5, high=high)})
        )

    change = changed(parts("story", "duel"), parts("story", "arcade", high=1.5))
    assert change.labels_added == ("mode=arcade",)
    assert change.labels_removed == ("mode=duel",)
    assert change.actions == ("part 'speed': bounds [0.5, 2] → [0.5, 1.5]",)
    assert change.policy_can_be_carried


def test_another_kind_of_problem_or_of_actions_goes_no_further() -> None:
    episodic = changed(application(), application(problem=Episodic()))
    numbers = changed(application(), application(actions=Continuous(low=0, high=1)))
    for change, word in ((episodic, "episodic"), (numbers, "continuous")):
        assert not change.rows_can_be_encoded
        assert not change.policy_can_be_carried
        assert word in change.policy_obstacles[0]


def test_values_that_are_gone_leave_single_rows_behind() -> None:
    fewer = Categorical("segment", values=["new", "lapsed"])
    change = changed(application(), application(with_feature(fewer)))
    assert change.rows_can_be_encoded
    assert change.rows_doubts == ("rows whose 'segment' is one of ['old']",)
    assert "new value 'lapsed', value 'old' is gone" in change.words()[0]


def test_a_home_knows_every_contract_that_was_noted_in_it(tmp_path: Path) -> None:
    before, after = application(), application(actions=Discrete("easy", "hard", "extreme"))
    note_contracts(tmp_path, [before])
    known = note_contracts(tmp_path, [after])
    assert set(known.known("game")) == {before.contract, after.contract}
    assert known.of("game", before.contract) == contract_of(before)
    assert known.labels("game") == {"easy", "normal", "hard", "extreme"}
    assert known.of("game", "../../x") is None
    assert known.known("another") == {}


def test_a_default_that_changes_is_noted_though_the_contract_is_the_same(tmp_path: Path) -> None:
    before = application()
    after = application(with_feature(replace(FEATURES[0], default=0.25)))
    assert before.contract == after.contract
    note_contracts(tmp_path, [before])
    found = note_contracts(tmp_path, [after]).of("game", after.contract)
    assert found is not None
    assert found.features[0].default == 0.25


def test_torn_and_foreign_files_are_passed_over_and_written_anew(tmp_path: Path) -> None:
    one = application()
    known = note_contracts(tmp_path, [one])
    folder = tmp_path / "contracts" / "game"
    path = folder / f"{one.contract}.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    (folder / "0123456789abcdef.json").write_bytes(whole)
    (folder / "notes.json").write_text("[]")
    assert known.known("game") == {}
    assert note_contracts(tmp_path, [one]).known("game") == {one.contract: contract_of(one)}


def test_a_disk_that_refuses_does_not_stop_a_start(tmp_path: Path) -> None:
    (tmp_path / "contracts").write_text("a file in the way")
    known: KnownContracts = note_contracts(tmp_path, [application()])
    assert known.known("game") == {}
