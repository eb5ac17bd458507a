"""What `status` and `policies` say to a person: the one number first."""

from typing import Any

from bakehouse.stack_status import policy_words, status_words

SAID: dict[str, Any] = {
    "application": "game",
    "decisions": 5002,
    "outcomes": 3851,
    "invalid": 2,
    "rejected": 0,
    "policy_version": 79,
    "newest_version": 80,
    "killed": False,
    "frozen": True,
    "pinned_version": None,
    "swaps": 38,
    "freshness_s": {"p50": 1.04, "p95": 1.62, "n": 120},
    "parts": {
        "learner/1": {
            "part": "learner",
            "at_ms": 1,
            "applications": {"game": {"experiences": 10, "gate": {"reason": "an earlier life"}}},
        },
        "learner/2": {
            "part": "learner",
            "at_ms": 2,
            "applications": {"game": {"experiences": 5002, "gate": {"reason": "published"}}},
        },
        "stream/3": {
            "part": "stream",
            "at_ms": 2,
            "account": {
                "received": 8853,
                "applied": 8700,
                "duplicate": 150,
                "pending": 2,
                "orphan": 0,
                "quarantined": 1,
            },
        },
    },
}


def words(**changes: Any) -> list[str]:
    return str(status_words({"applications": {"game": SAID | changes}})["game"]).splitlines()


def test_freshness_comes_first_and_the_account_last():
    lines = words()
    assert lines[0] == "freshness 1.0 s (1 in 20 above 1.6 s; the last minute)"
    assert lines[1] == "policy 79, the newest is 80, frozen, 38 swaps"
    assert lines[3] == "learner: 5,002 experiences; published"
    assert lines[4] == (
        "stream: 8,853 received = 8,700 applied + 150 duplicate + 2 pending + 0 orphan "
        "+ 1 quarantined"
    )


def test_a_blocked_pipe_is_said_first_and_once():
    kafka = {"title": "Kafka", "level": "blocked", "do": "no broker answers"}
    swap = {"title": "Swap", "level": "busy", "do": "above the target"}
    verdict = {"sentence": "game is blocked.", "next": "no broker answers", "simulated": False}
    lines = words(verdict=verdict, pipe=[kafka, swap])
    assert lines[0] == "game is blocked. No broker answers"
    assert lines[-1] == "Swap is busy: above the target"
    assert len([line for line in lines if "roker answers" in line]) == 1


def test_positions_without_a_record_are_a_term_of_the_sum_where_there_are_any():
    stream = SAID["parts"]["stream/3"]
    account = stream["account"] | {"received": 8860, "no_record": 7}
    said = words(parts={"stream/3": stream | {"account": account}})[-1]
    assert said.endswith("+ 1 quarantined + 7 no record")


def test_outcomes_that_nothing_counts_are_said_aloud_by_name():
    assert not [line for line in words(uncounted=0) if "COUNTED" in line]
    names = [
        {"name": "revenue", "count": 412, "meant": "revenue_usd"},
        {"name": "shop", "count": 1, "meant": None},
    ]
    assert words(uncounted=1413, uncounted_names=names)[3] == (
        "1,413 outcomes are COUNTED BY NOTHING: revenue × 412 (did you mean revenue_usd?), shop × 1"
    )


def test_an_account_that_does_not_add_up_is_said_aloud():
    stream = SAID["parts"]["stream/3"]
    short = stream | {"account": stream["account"] | {"applied": 8690}}
    assert words(parts={"stream/3": short})[-1].endswith("+ 1 quarantined; 10 UNACCOUNTED FOR")


def test_without_a_newer_policy_there_is_no_number_to_show():
    assert words(freshness_s={"p50": None, "p95": None, "n": 0})[0].startswith("freshness –")


def test_parts_that_have_said_nothing_yet_are_left_out():
    assert len(words(parts={})) == 3


def test_an_application_that_cannot_be_asked_says_why():
    shown = status_words({"applications": {"game": {"problem": "serving does not answer"}}})
    assert shown["game"] == "serving does not answer"


def test_a_pin_and_a_refused_bundle_are_named():
    refused = {"version": 9, "reason": "golden outputs differ"}
    said = policy_words({"policy_version": 7, "pinned_version": 7, "refused_policy": refused})
    assert said == "policy 7, pinned to 7, 9 was refused: golden outputs differ"
    assert policy_words({"policy_version": 1, "swaps": 1}) == "policy 1, 1 swap"


def test_an_apprentice_says_how_well_it_matches_and_whom_it_answers():
    learner = SAID["parts"]["learner/2"]
    learned = learner["applications"]["game"] | {"apprentice": True, "match_rate": 0.934}
    lines = words(canary=0.05, parts={"learner/2": learner | {"applications": {"game": learned}}})
    assert "a canary for 5% of subjects" in lines[1]
    assert "apprentice: matches the rules in 93.4% of decisions" in lines


def test_a_policy_of_another_contract_says_what_it_does_not_know():
    learner = SAID["parts"]["learner/2"]
    carried = {"from_contract": "6a99ba86fb321340", "notes": ["new label 'jump' starts anew"]}
    learned = learner["applications"]["game"] | {"carried": carried}
    lines = words(parts={"learner/2": learner | {"applications": {"game": learned}}})
    assert "carried over from contract 6a99ba86fb321340: new label 'jump' starts anew" in lines


def test_observations_that_have_changed_since_they_were_compressed_are_said_aloud():
    learner = SAID["parts"]["learner/2"]
    compression = {"size": 4, "lost_when_fitted": 0.02, "lost_now": 0.3, "drifted": True}
    learned = learner["applications"]["game"] | {"compression": compression}
    lines = words(parts={"learner/2": learner | {"applications": {"game": learned}}})
    assert "OBSERVATIONS HAVE CHANGED: the compression loses 30% of them, 2% when it" in lines[-1]
