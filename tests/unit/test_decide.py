from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bakehouse_schemas.application.application import (
    Application,
    Discrete,
    EpsilonGreedy,
    Rollout,
    minutes,
)
from bakehouse_schemas.application.observation import Numeric
from bakehouse_schemas.application.reward import Reward
from bakehouse_schemas.decisions.cohort import in_holdout, role_of
from bakehouse_schemas.decisions.decide import Answer, answer, check
from bakehouse_schemas.decisions.slot import Slot, version_zero
from bakehouse_schemas.errors import InvalidContext, InvalidEvent
from bakehouse_schemas.events.events import DecisionRequest
from bakehouse_schemas.events.records import read_decision
from bakehouse_schemas.execution.propensity import draw_action
from bakehouse_schemas.ids import uuid7, uuid7_time_ms
from bakehouse_schemas.policy.bundle import LoadedPolicy, load_bundle
from tests.fakes import publish_policy

LABELS = ("easy", "normal", "hard")
NOW_MS = uuid7_time_ms(uuid7())


def rules(context: Mapping[str, Any]) -> str:
    return "hard" if context["skill"] > 0.5 else "normal"


def make_application(**changes: Any) -> Application:
    given: dict[str, Any] = {
        "name": "levels",
        "observation": [Numeric("skill", low=0, high=1)],
        "actions": Discrete(*LABELS),
        "reward": Reward({"won": 1.0}, window=minutes(1)),
        "baseline": rules,
        "exploration": EpsilonGreedy(0.1, start=0.6, floor=0.01),
        "rollout": Rollout(holdout=0.0),
    }
    return Application(**given | changes)


@pytest.fixture(scope="module")
def easy(tmp_path_factory: pytest.TempPathFactory) -> LoadedPolicy:
    """Policy 3, which always prefers `easy`; ε 0.2."""
    application, folder = make_application(), tmp_path_factory.mktemp("policies")
    publish_policy(folder, application, 3, favourite=0)
    return load_bundle(
        folder / "levels" / "3",
        application="levels",
        contract=application.contract,
        sha256=None,
    )


def slot_of(policy: LoadedPolicy, **changes: Any) -> Slot:
    return replace(Slot(policy, policy.manifest.exploration), **changes)


def decide_once(
    application: Application,
    slot: Slot,
    *,
    draw: float = 0.999,
    skill: float = 0.2,
    logged: bool = True,
    **request: Any,
) -> Answer:
    asked = check(
        application,
        DecisionRequest(
            subject_id=request.pop("subject_id", "p"), context={"skill": skill}, **request
        ),
        decision_id=uuid7(NOW_MS),
        now_ms=NOW_MS,
    )
    return answer(application, slot, [asked], [draw], now_ms=NOW_MS, logged=logged)[0]


def probabilities(decided: Answer) -> dict[str, float]:
    found: dict[str, float] = decided.event["action_probabilities"]
    return found


def test_version_0_is_the_baseline_mixed_with_uniform_exploration() -> None:
    application = make_application()
    decided = decide_once(application, version_zero(application), draw=0.5)
    assert decided.action == decided.event["baseline_action"] == "normal"
    assert probabilities(decided) == pytest.approx({"easy": 0.2, "normal": 0.6, "hard": 0.2})
    assert decided.propensity == probabilities(decided)["normal"]
    assert (decided.policy_version, decided.cohort, decided.explored) == (0, "policy", False)


def test_a_policy_is_mixed_by_the_exploration_of_its_own_bundle(easy: LoadedPolicy) -> None:
    decided = decide_once(make_application(), slot_of(easy), draw=0.95)
    assert probabilities(decided) == pytest.approx(
        {"easy": 0.8 + 0.2 / 3, "normal": 0.2 / 3, "hard": 0.2 / 3}
    )
    assert (decided.action, decided.explored, decided.policy_version) == ("hard", True, 3)


def test_a_share_of_uniform_choice_that_a_person_sets_goes_before_policy_and_page(
    easy: LoadedPolicy,
) -> None:
    application = make_application()
    for slot, own in ((slot_of(easy), "easy"), (version_zero(application), "normal")):
        decided = decide_once(application, replace(slot, explore_share=0.3), draw=0.0)
        expected = dict.fromkeys(LABELS, 0.1) | {own: 0.8}
        assert probabilities(decided) == pytest.approx(expected)
        assert decided.event["exploration"]["epsilon"] == 0.3
        never = decide_once(application, replace(slot, explore_share=0.0), draw=0.5)
        assert probabilities(never) == pytest.approx(dict.fromkeys(LABELS, 0.01) | {own: 0.98})
        plain = decide_once(application, replace(slot, explore_share=0.3, killed=True))
        assert plain.propensity == 1.0  # a kill goes before it


def test_ineligible_actions_get_nothing_and_the_rest_is_renormalised(easy: LoadedPolicy) -> None:
    decided = decide_once(
        make_application(), slot_of(easy), eligible_actions=["hard", "normal"], draw=0.1
    )
    assert probabilities(decided) == pytest.approx({"normal": 0.9, "hard": 0.1})
    assert decided.event["eligible_actions"] == ["normal", "hard"]
    excluded = decide_once(make_application(), slot_of(easy), excluded_actions=["easy"], draw=0.1)
    assert probabilities(excluded) == probabilities(decided)


@pytest.mark.parametrize("unused", ["holdout", "killed", "full", "apprentice", "logging_only"])
def test_where_the_policy_may_not_answer_the_baseline_answers_with_certainty(
    easy: LoadedPolicy, unused: str
) -> None:
    application = make_application()
    slot, logged = slot_of(easy), True
    if unused == "holdout":
        application = make_application(rollout=Rollout(holdout=0.9))
        assert in_holdout("levels", "p", 0.9)
    elif unused == "killed":
        slot = slot_of(easy, killed=True)
    elif unused == "full":
        logged = False
    else:
        application = make_application(mode=unused)
    decided = decide_once(application, slot, skill=0.9, logged=logged)
    assert (decided.action, decided.propensity) == ("hard", 1.0)
    assert decided.policy_version == 0
    assert decided.cohort == ("holdout" if unused == "holdout" else "fallback")
    assert not decided.explored
    assert probabilities(decided) == {"hard": 1.0}


def test_the_games_own_baseline_action_goes_before_the_baseline_function() -> None:
    application = make_application()
    decided = decide_once(
        application, version_zero(application), draw=0.0, baseline_action="easy", skill=0.9
    )
    assert decided.event["baseline_action"] == "easy"
    assert probabilities(decided)["easy"] == pytest.approx(0.6)


def test_a_baseline_that_is_not_eligible_is_uniform_over_what_is() -> None:
    application = make_application()
    decided = decide_once(
        application, version_zero(application, killed=True), excluded_actions=["normal"], draw=0.6
    )
    assert probabilities(decided) == {"easy": 0.5, "hard": 0.5}
    assert (decided.action, decided.propensity, decided.cohort) == ("hard", 0.5, "fallback")


def test_a_baseline_that_raises_breaks_no_answer(easy: LoadedPolicy) -> None:
    def broken(_: Mapping[str, Any]) -> str:
        raise KeyError("level")

    application = make_application(baseline=broken)
    decided = decide_once(application, version_zero(application), draw=0.5)
    assert (decided.action, decided.cohort) == ("normal", "fallback")
    assert probabilities(decided) == pytest.approx(dict.fromkeys(LABELS, 1 / 3))
    assert "baseline_action" not in decided.event
    by_policy = decide_once(application, slot_of(easy), draw=0.5)
    assert (by_policy.action, by_policy.cohort) == ("easy", "policy")


def test_a_policy_whose_scores_overflow_answers_nobody(easy: LoadedPolicy) -> None:
    class Overflowing:
        version, manifest = easy.version, easy.manifest

        class policy:  # noqa: N801 - an attribute of the bundle
            @staticmethod
            def distribution(
                _: np.ndarray, eligible: np.ndarray, *, temperature: float | None
            ) -> np.ndarray:
                return np.full(eligible.shape, np.nan)

    application, broken = make_application(), Overflowing()
    slot = Slot(broken, easy.manifest.exploration)  # type: ignore[arg-type]
    decided = decide_once(application, slot, draw=0.5)
    assert (decided.action, decided.propensity) == ("normal", 1.0)
    assert (decided.cohort, decided.policy_version) == ("fallback", 0)


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"eligible_actions": ["brutal"]}, "eligible_actions: 'brutal' is not an action"),
        ({"excluded_actions": ["brutal"]}, "excluded_actions: 'brutal' is not an action"),
        ({"eligible_actions": []}, "nothing is left"),
        ({"excluded_actions": list(LABELS)}, "nothing is left"),
        ({"baseline_action": "brutal"}, "baseline_action: 'brutal' is not an action"),
        ({"decision_id": uuid7(NOW_MS - 90_000_000)}, "more than a day"),
    ],
)
def test_what_cannot_be_decided_is_refused_with_the_field(
    request_: dict[str, Any], said: str
) -> None:
    application = make_application()
    with pytest.raises(InvalidEvent, match=said):
        decide_once(application, version_zero(application), **request_)


def test_a_context_that_cannot_be_encoded_is_refused_even_where_the_baseline_answers() -> None:
    application = make_application()
    with pytest.raises(InvalidContext, match=r"context\.skill"):
        decide_once(application, version_zero(application, killed=True), skill="much")  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(
    draw=st.floats(0, 1, exclude_max=True),
    skill=st.floats(0, 1),
    excluded=st.sets(st.sampled_from(LABELS), max_size=2),
    version=st.sampled_from([0, 3]),
    killed=st.booleans(),
)
def test_the_log_alone_reproduces_the_action_and_passes_every_check(
    easy: LoadedPolicy, draw: float, skill: float, excluded: set[str], version: int, killed: bool
) -> None:
    application = make_application()
    slot = slot_of(easy) if version else version_zero(application)
    decided = decide_once(
        application,
        replace(slot, killed=killed),
        draw=draw,
        skill=skill,
        excluded_actions=sorted(excluded),
    )
    logged = read_decision(
        orjson.dumps(decided.event), {"levels": application}, received_at_ms=NOW_MS
    )
    assert logged.action_probabilities is not None and logged.draw is not None
    executed = np.array([logged.action_probabilities.get(label, 0.0) for label in LABELS])
    assert LABELS[draw_action(executed, logged.draw)] == logged.action == decided.action
    assert logged.propensity == logged.action_probabilities[logged.action]
    assert logged.action not in excluded
    observed = np.array(logged.observation, dtype=np.float32)
    assert (observed == application.encoder.encode(logged.context)).all()


def test_actions_are_drawn_as_often_as_their_logged_propensities_say(easy: LoadedPolicy) -> None:
    application, n = make_application(), 4_000
    asked = check(
        application,
        DecisionRequest(subject_id="p", context={"skill": 0.2}),
        decision_id=uuid7(NOW_MS),
        now_ms=NOW_MS,
    )
    draws = np.random.default_rng(5).random(n).tolist()
    answers = answer(application, slot_of(easy), [asked] * n, draws, now_ms=NOW_MS)
    expected = np.array([0.8 + 0.2 / 3, 0.2 / 3, 0.2 / 3]) * n
    counted = np.bincount([one.position for one in answers], minlength=3)
    chi_square = float(((counted - expected) ** 2 / expected).sum())
    assert chi_square < 13.8  # two degrees of freedom, one in a thousand
    assert {(one.action, round(one.propensity, 9)) for one in answers} == {
        ("easy", round(0.8 + 0.2 / 3, 9)),
        ("normal", round(0.2 / 3, 9)),
        ("hard", round(0.2 / 3, 9)),
    }


def test_a_batch_is_decided_as_its_decisions_would_be_one_by_one(easy: LoadedPolicy) -> None:
    application = make_application(rollout=Rollout(holdout=0.4))
    asked = [
        check(
            application,
            DecisionRequest(subject_id=f"p{at}", context={"skill": at / 20}),
            decision_id=uuid7(NOW_MS),
            now_ms=NOW_MS,
        )
        for at in range(20)
    ]
    draws = np.random.default_rng(1).random(20).tolist()
    together = answer(application, slot_of(easy), asked, draws, now_ms=NOW_MS)
    assert {one.cohort for one in together} == {"policy", "holdout"}
    for one, single, draw in zip(together, asked, draws, strict=True):
        alone = answer(application, slot_of(easy), [single], [draw], now_ms=NOW_MS)[0]
        assert alone.event == one.event


def test_a_canary_answers_its_share_of_subjects_and_keeps_them_as_it_grows(
    easy: LoadedPolicy,
) -> None:
    application = make_application(rollout=Rollout(holdout=0.2))
    answered: dict[float, set[str]] = {}
    for share in (0.1, 0.5):
        slot = slot_of(easy, canary=share)
        decided = {
            f"p{at}": decide_once(application, slot, subject_id=f"p{at}") for at in range(1_000)
        }
        answered[share] = {who for who, one in decided.items() if one.cohort == "canary"}
        assert {one.cohort for one in decided.values()} == {"canary", "policy", "holdout"}
        assert all(
            one.policy_version == (3 if one.cohort == "canary" else 0) for one in decided.values()
        )
    assert answered[0.1] < answered[0.5]
    assert 0.06 < len(answered[0.1]) / 800 < 0.14
    assert 0.42 < len(answered[0.5]) / 800 < 0.58


def test_whom_a_canary_does_not_answer_gets_version_0_with_its_own_exploration(
    easy: LoadedPolicy,
) -> None:
    application = make_application()
    decided = decide_once(application, slot_of(easy, canary=1e-9))
    assert (decided.policy_version, decided.cohort) == (0, "policy")
    assert decided.event["exploration"]["epsilon"] == 0.6  # that of version 0
    assert probabilities(decided)["normal"] == pytest.approx(0.4 + 0.6 / 3)


def test_an_apprentices_policy_answers_its_share_and_the_pure_rules_answer_the_others(
    easy: LoadedPolicy,
) -> None:
    application = make_application(mode="apprentice")
    learned = LoadedPolicy(
        easy.manifest.model_copy(update={"apprentice": True, "canary": 0.3}), easy.policy
    )
    slot = Slot(learned, learned.manifest.exploration, canary=0.3)
    decided = [decide_once(application, slot, subject_id=f"p{at}") for at in range(500)]
    by_policy = [one for one in decided if one.cohort == "canary"]
    assert 0.2 < len(by_policy) / 500 < 0.4
    rest = [one for one in decided if one.cohort != "canary"]
    assert {(one.cohort, one.propensity, one.policy_version) for one in rest} == {
        ("fallback", 1.0, 0)
    }


@pytest.mark.parametrize(
    ("mode", "place", "share", "cohort", "explores"),
    [
        ("online", -0.1, 1.0, "holdout", False),
        ("online", 0.3, 1.0, "policy", True),
        ("online", 0.2, 0.3, "canary", True),
        ("online", 0.3, 0.3, "policy", True),  # version 0, which explores as well
        ("online", 0.0, 0.0, "policy", True),
        ("apprentice", 0.2, 0.3, "canary", True),
        ("apprentice", 0.3, 0.3, "fallback", False),  # the rules, as they are
        ("apprentice", -0.1, 1.0, "holdout", False),
        ("logging_only", 0.2, 1.0, "fallback", False),
        ("logging_only", -0.1, 1.0, "fallback", False),
    ],
)
def test_who_answers_a_subject_follows_from_its_place_the_share_and_the_mode(
    mode: str, place: float, share: float, cohort: str, explores: bool
) -> None:
    role = role_of(place, share, mode)
    assert (role.cohort, role.explores) == (cohort, explores)
    answered = mode != "logging_only" and 0 <= place < share
    assert role.by_policy is answered


@given(
    place=st.floats(-1, 1, exclude_max=True),
    shares=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    mode=st.sampled_from(["online", "apprentice"]),
)
def test_whom_a_policy_answers_it_still_answers_when_its_share_has_grown(
    place: float, shares: tuple[float, float], mode: str
) -> None:
    less, more = sorted(shares)
    assert role_of(place, less, mode).by_policy <= role_of(place, more, mode).by_policy
