"""Which policy answers while parts roll from one contract to another, and with what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bakehouse_schemas.application.actions import Continuous, Discrete, Parts
from bakehouse_schemas.application.application import Agent, Application
from bakehouse_schemas.application.exploration import AgentsOwn, Gaussian
from bakehouse_schemas.application.observation import Numeric
from bakehouse_schemas.contracts.contract import contract_of
from bakehouse_schemas.contracts.known import note_contracts
from bakehouse_schemas.errors import InvalidEvent
from bakehouse_schemas.events.checks import eligible_mask
from bakehouse_schemas.events.events import PolicyPointer
from bakehouse_schemas.ids import uuid7
from bakehouse_serving.hot.idempotency import CachedAnswer, IdempotencyCache
from bakehouse_serving.policies.selection import Pointers, choose
from bakehouse_serving.policies.served import Conflict, Served
from bakehouse_serving.spool.frames import Topic
from tests.fakes import publish_policy
from tests.unit.test_decide import LABELS, make_application
from tests.unit.test_serving_http import Server
from tests.unit.test_serving_served import act

OLD = make_application()
NEW = make_application(
    observation=[Numeric("age", low=0, high=99, default=30.0), Numeric("skill", low=0, high=2)],
    actions=Discrete("extreme", *LABELS),
)
NUMBERS = make_application(
    actions=Continuous(low=0, high=1),
    agent=Agent("td3"),
    baseline=lambda context: [0.5],
    exploration=Gaussian(0.1),
)


def at(version: int, published_at_ms: int | None = None) -> PolicyPointer:
    moment = version if published_at_ms is None else published_at_ms
    return PolicyPointer(application="levels", version=version, published_at_ms=moment)


@pytest.mark.parametrize(
    ("story", "newest", "own", "served", "newest_is_own", "expected"),
    [
        ("nothing was published", None, None, None, True, (0, None)),
        ("one release, one contract, before keys of contracts", at(7), None, None, True, (7, None)),
        ("one contract", at(7), at(7), at(6), True, (7, None)),
        ("own key heard first", at(7), at(8), at(7), True, (8, None)),
        ("serving is ahead of the learner", at(7), None, at(6), False, (7, None)),
        ("the learner has moved on", at(9), at(7), at(7), False, (7, 9)),
        ("the same, serving starts with nothing kept", at(9), at(7), None, False, (7, 9)),
        ("the learner has caught up with serving", at(9), at(9), at(7), True, (9, None)),
        ("back to the old application, learner first", at(9), at(7), at(7), False, (7, 9)),
        (
            "back and forth: what was carried is newer than one's own",
            at(9),
            at(3),
            at(8),
            False,
            (9, 3),
        ),
        ("the learner went back to version 0", at(0, 9), at(0, 9), at(7), True, (0, None)),
        ("it went back for others", at(0, 9), at(7), at(7), False, (7, 0)),
        ("only the key of the contract is left", None, at(7), None, True, (7, None)),
    ],
)
def test_what_is_served_of_what_the_learner_published(
    story: str,
    newest: PolicyPointer | None,
    own: PolicyPointer | None,
    served: PolicyPointer | None,
    newest_is_own: bool,
    expected: tuple[int, int | None],
) -> None:
    found = choose(newest, own, served, newest_is_own=newest_is_own)
    instead = None if found.instead is None else found.instead.version
    assert (found.version, instead) == expected, story


def test_a_pointer_without_a_key_of_a_contract_is_asked_about_only_where_it_matters() -> None:
    pointers = Pointers("mine")
    assert pointers.unclaimed([at(7)], {}) is None  # there is no other
    assert pointers.unclaimed([at(7)], {"mine": at(7)}) is None
    assert pointers.unclaimed([at(9)], {"mine": at(7)}) == at(9)
    pointers.add([at(9)], {"mine": at(7)}, "another")
    assert pointers.chosen().version == 7
    pointers.add([at(9)], {}, "mine")  # a learner of the release before, of this contract
    assert pointers.chosen().version == 9


class Home:
    """A home whose learner publishes and whose serving restarts, with one file or another."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def serving(self, application: Application) -> Served:
        served = Served(
            application,
            policies=self.folder / "policies",
            cache=self.folder / "serving" / "levels.json",
        )
        served.restore()
        return served

    def publish(self, application: Application, version: int, **more: Any) -> PolicyPointer:
        pointer = publish_policy(
            self.folder / "policies", application, version, favourite=1, **more
        )
        return pointer.model_copy(update={"published_at_ms": version})

    @staticmethod
    def hear(
        served: Served, pointer: PolicyPointer, application: Application | None = None
    ) -> None:
        """As the learner writes it: for its contract, and under the application's name."""
        keys = {} if application is None else {application.contract: pointer}
        served.point([pointer], live=True, of_contracts=keys)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def favourite(served: Served, context: dict[str, Any]) -> str:
    """The label that the policy in the slot likes best."""
    application, policy = served.application, served.slot.policy
    assert policy is not None
    scores = policy.policy.scores(application.encoder.encode(context)[None])[0]
    return application.actions.choices[int(scores.argmax())]


def test_a_restart_with_the_new_application_answers_by_the_champion_at_once(home: Home) -> None:
    served = home.serving(OLD)
    home.hear(served, home.publish(OLD, 12), OLD)
    liked = favourite(served, {"skill": 0.5})
    again = home.serving(NEW)
    assert again.slot.version == 12
    assert favourite(again, {"skill": 0.5}) == liked
    carried = again.state()["carried_over"]
    assert carried["made_for"] == OLD.contract
    assert (
        "new label 'extreme' starts at the mean of the others (nothing learned yet)"
        in carried["notes"]
    )
    assert served.state()["carried_over"] is None


def test_ahead_of_the_learner_every_policy_is_carried_over_until_its_own_come(home: Home) -> None:
    served = home.serving(NEW)
    for version in (3, 4):
        home.hear(served, home.publish(OLD, version), OLD)
        assert served.slot.version == version
        assert served.state()["carried_over"] is not None
    home.hear(served, home.publish(NEW, 5), NEW)
    assert served.slot.version == 5
    assert served.state()["carried_over"] is None


def test_behind_the_learner_the_last_policy_of_its_own_contract_goes_on(home: Home) -> None:
    served = home.serving(OLD)
    home.hear(served, home.publish(OLD, 3), OLD)
    home.hear(served, home.publish(NEW, 4), NEW)
    assert served.slot.version == 3
    assert served.state()["newest_version"] == 4
    assert served.state()["refused_policy"] is None
    assert home.serving(OLD).slot.version == 3  # without Kafka


def test_a_server_whose_own_policies_are_gone_takes_what_there_is(home: Home) -> None:
    own = home.publish(OLD, 3)
    newest = home.publish(NEW, 4)
    (home.folder / "policies" / "levels" / "3" / "manifest.json").unlink()
    served = home.serving(OLD)
    served.point([newest], live=False, of_contracts={OLD.contract: own, NEW.contract: newest})
    assert served.slot.version == 4
    assert served.state()["carried_over"]["made_for"] == NEW.contract


def test_back_with_the_old_application_its_own_policies_answer(home: Home) -> None:
    old, new = home.publish(OLD, 3), home.publish(NEW, 4)
    served = home.serving(NEW)
    served.point([new], live=False, of_contracts={OLD.contract: old, NEW.contract: new})
    assert served.slot.version == 4
    back = home.serving(OLD)
    back.point([new], live=False, of_contracts={OLD.contract: old, NEW.contract: new})
    assert back.slot.version == 4  # what was in the slot, carried over, is newer than its own
    home.hear(back, home.publish(OLD, 5), OLD)
    assert back.slot.version == 5
    assert back.state()["carried_over"] is None


def test_a_bundle_of_the_release_before_is_carried_if_the_home_knows_its_contract(
    home: Home,
) -> None:
    pointer = home.publish(OLD, 3, contract=OLD.contract)  # which describes nothing
    served = home.serving(NEW)
    home.hear(served, pointer)
    assert served.slot.version == 0
    refused = served.state()["refused_policy"]
    assert "nothing here describes" in refused["reason"]
    note_contracts(home.folder, [OLD])
    assert home.serving(NEW).slot.version == 0  # it was never served: nothing was kept
    again = home.serving(NEW)
    home.hear(again, pointer)
    assert again.slot.version == 3


def test_what_cannot_be_carried_is_refused_with_the_reason(home: Home) -> None:
    served = home.serving(NUMBERS)
    home.hear(served, home.publish(OLD, 3), OLD)
    assert served.slot.version == 0
    refused = served.state()["refused_policy"]
    assert "actions are continuous now and were discrete" in refused["reason"]


def test_an_operator_may_pin_a_version_of_another_contract(home: Home) -> None:
    served = home.serving(NEW)
    home.publish(OLD, 2)
    home.hear(served, home.publish(NEW, 4), NEW)
    act(served, "promote", 2)
    assert served.slot.version == 2
    assert served.state()["carried_over"]["made_for"] == OLD.contract
    act(served, "release")
    assert served.slot.version == 4


def test_a_pin_that_cannot_be_carried_changes_nothing(home: Home) -> None:
    served = home.serving(NUMBERS)
    home.publish(OLD, 2)
    with pytest.raises(Conflict, match="cannot be carried over"):
        act(served, "promote", 2)


def test_frozen_what_is_in_the_slot_stays_across_a_change_of_contract(home: Home) -> None:
    served = home.serving(OLD)
    home.hear(served, home.publish(OLD, 3), OLD)
    act(served, "freeze")
    again = home.serving(NEW)
    home.hear(again, home.publish(NEW, 4), NEW)
    assert again.slot.version == 3


def test_a_floor_that_fitted_four_labels_fits_five(home: Home) -> None:
    served = home.serving(NEW)
    home.hear(served, home.publish(OLD, 3), OLD)
    assert served.slot.exploration.floor == pytest.approx(0.01 * len(LABELS) / (len(LABELS) + 1))


def decide(server: Server, **more: Any) -> Any:
    request = {"subject_id": "anna", "context": {"skill": 0.5}, **more}
    return server.post("/decisions", request)


def one_more(tmp_path: Path) -> Server:
    """A server of an application that has one label less, whose home knows the one before."""
    note_contracts(tmp_path, [OLD])
    fewer = make_application(actions=Discrete(*LABELS[1:], "extreme"), baseline=lambda _: LABELS[1])
    return Server(tmp_path, fewer)


def test_a_label_that_is_gone_is_ignored_in_requests_and_one_that_never_was_is_refused(
    tmp_path: Path,
) -> None:
    server, gone = one_more(tmp_path), LABELS[0]
    for more in (
        {"eligible_actions": [gone, LABELS[1]]},
        {"excluded_actions": [gone]},
        {"baseline_action": gone},
    ):
        answered = decide(server, **more)
        assert answered.status_code == 200, answered.text
        assert answered.json()["action"] != gone
    assert server.spool.events(Topic.DECISIONS)[0]["eligible_actions"] == [LABELS[1]]
    assert server.spool.events(Topic.DECISIONS)[2]["baseline_action"] == LABELS[1]
    for field in ("eligible_actions", "excluded_actions"):
        refused = decide(server, **{field: ["never"]})
        assert refused.status_code == 422
        assert "'never' is not an action" in refused.json()["detail"]
    assert decide(server, baseline_action="never").status_code == 422
    nothing = decide(server, eligible_actions=[gone])
    assert nothing.status_code == 422
    assert "nothing is left to choose from" in nothing.json()["detail"]


def test_an_outcome_may_say_that_a_label_was_executed_that_is_gone(tmp_path: Path) -> None:
    server = one_more(tmp_path)
    decision_id = decide(server).json()["decision_id"]

    def executed(label: str) -> Any:
        one = {"decision_id": decision_id, "kind": "executed", "executed_action": label}
        return server.post("/outcomes", {"outcomes": [one]})

    assert executed(LABELS[0]).status_code == 202
    assert executed("never").status_code == 422


def test_asked_again_under_the_new_contract_the_same_answer_comes_while_it_is_an_action(
    tmp_path: Path,
) -> None:
    was, now = Discrete("a", "b", "c"), Discrete("new", "c", "a")
    before = IdempotencyCache(was, folder=tmp_path / "old", span_s=600)
    ids = {label: uuid7(1_000 + at) for at, label in enumerate(was.labels)}
    for label, decision_id in ids.items():
        answer = CachedAnswer(label, 0.5, 3, "online", "policy", False, True)
        before.put(decision_id, "anna", was.labels.index(label), answer)
    before.close()
    after = IdempotencyCache(now, folder=tmp_path / "new", span_s=600)
    after.inherit(was, tmp_path / "old")
    found = {label: after.get(decision_id, "anna") for label, decision_id in ids.items()}
    assert found["a"] == CachedAnswer("a", 0.5, 3, "online", "policy", False, True)
    assert found["c"] is not None
    assert found["c"].action == "c"
    assert found["b"] is None


def test_a_part_of_which_only_a_label_that_is_gone_is_eligible_is_not_free_to_choose() -> None:
    was = contract_of(parts("story", "duel"))
    with pytest.raises(InvalidEvent, match="nothing is left to choose from"):
        eligible_mask(parts("story", "arcade"), eligible=["mode=duel"], known=[was])
    mask = eligible_mask(
        parts("story", "arcade"), eligible=["mode=duel", "mode=arcade"], known=[was]
    )
    assert mask.tolist() == [False, True, True, True]


def parts(*modes: str) -> Application:
    return make_application(
        actions=Parts({"mode": Discrete(*modes), "help": Discrete("on", "off")}),
        agent=Agent("reinforce"),
        baseline=lambda context: {"mode": modes[0], "help": "on"},
        exploration=AgentsOwn(floor=0.01),
    )


def test_a_label_that_another_part_has_first_is_no_mistake_while_parts_roll(
    tmp_path: Path,
) -> None:
    server = Server(tmp_path, OLD)
    asks = {"eligible_actions": ["extreme", LABELS[0]]}
    assert decide(server, **asks).status_code == 422
    note_contracts(tmp_path, [NEW])  # by a learner, a stream or a server that was restarted
    server.served.other_contracts.look()
    answered = decide(server, **asks)
    assert answered.status_code == 200, answered.text
    assert answered.json()["action"] == LABELS[0]
