"""What serving promises about every single answer, whatever is swapped, pinned or killed."""

from __future__ import annotations

import asyncio
import http.client
import math
import os
import random
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from scipy.stats import chi2

from bakehouse_schemas.application.application import (
    Application,
    Discrete,
    EpsilonGreedy,
    Rollout,
    minutes,
)
from bakehouse_schemas.application.exploration import Exploration
from bakehouse_schemas.application.observation import Numeric
from bakehouse_schemas.application.reward import Reward
from bakehouse_schemas.decisions.decide import answer, answer_one, check
from bakehouse_schemas.decisions.slot import Slot, version_zero
from bakehouse_schemas.events.events import DecisionRequest, PolicyPointer
from bakehouse_schemas.execution.propensity import draw_action
from bakehouse_schemas.ids import uuid7, uuid7_time_ms
from bakehouse_schemas.loading import load_application
from bakehouse_schemas.policy.bundle import LoadedPolicy, Manifest
from bakehouse_schemas.policy.policy import Head, Policy
from bakehouse_schemas.process.failpoints import VARIABLE, arm
from bakehouse_schemas.process.phase import READY, PhaseFile
from bakehouse_schemas.process.settings import Settings
from bakehouse_serving.api_keys import Authenticator
from bakehouse_serving.hot.idempotency import IdempotencyCache
from bakehouse_serving.hot.route import Route
from bakehouse_serving.hot.routes import HotRoutes, Receive, Scope, Send
from bakehouse_serving.policies.served import Served
from tests.fakes import InMemorySpool, publish_policy
from tests.waiting import wait_until

LABELS = ("a", "b", "c", "d", "e")
NOW_MS = uuid7_time_ms(uuid7())


def application_with(**changes: Any) -> Application:
    given: dict[str, Any] = {
        "name": "levels",
        "observation": [Numeric("skill", low=0, high=1)],
        "actions": Discrete(*LABELS),
        "reward": Reward({"won": 1.0}, window=minutes(1)),
        "baseline": lambda context: "b",
        "exploration": EpsilonGreedy(0.1, start=0.6, floor=0.01),
        "rollout": Rollout(holdout=0.0),
    }
    return Application(**given | changes)


def policy_with(
    application: Application,
    *,
    weight: np.ndarray,
    bias: np.ndarray,
    kind: str = "softmax",
    epsilon: float = 0.2,
    floor: float = 0.03,
) -> LoadedPolicy:
    """Policy 3: scores `skill · weight + bias`, `[A]` each."""
    arrays = {
        "normaliser_offset": np.zeros(1, np.float32),
        "normaliser_scale": np.ones(1, np.float32),
        "normaliser_clip": np.array(5.0, np.float32),
        "w": np.asarray(weight, np.float32)[None],
        "b": np.asarray(bias, np.float32),
    }
    operations = [{"op": "dense", "weight": "w", "bias": "b"}]
    head = Head.model_validate({"kind": kind})
    manifest = Manifest(
        application=application.name,
        contract=application.contract,
        version=3,
        lineage="one",
        anchor=0,
        agent="neural_greedy",
        actions=list(application.actions.labels),
        operations=operations,
        head=head,
        exploration=Exploration(kind="epsilon_greedy", epsilon=epsilon, floor=floor),
        seed=0,
        replay_version=1,
        stream_time_ms=1,
        created_at_ms=1,
        experiences=1,
        new_experiences=1,
        new_outcomes_received_at_ms=[],
    )
    policy = Policy(operations=operations, head=head, arrays=arrays, actions=len(LABELS))
    return LoadedPolicy(manifest, policy)


# --- what is logged is what is drawn

DRAWN = 100_000
AT_ONCE = 5_000


def _asked(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Forty kinds of requests: contexts, with and without masks."""
    kinds: list[dict[str, Any]] = []
    for at in range(40):
        kind: dict[str, Any] = {"subject_id": f"p{at}", "context": {"skill": float(rng.random())}}
        some = rng.permutation(LABELS).tolist()
        if at % 4 == 1:
            kind["excluded_actions"] = some[: 1 + at % 3]
        elif at % 4 == 2:
            kind["eligible_actions"] = some[: 1 + at % 5]
        elif at % 4 == 3:
            kind |= {"eligible_actions": some[:4], "excluded_actions": some[3:]}
        kinds.append(kind)
    return kinds


class Decided(NamedTuple):
    asked: dict[str, Any]
    told: dict[str, Any]
    event: dict[str, Any]


async def _nobody(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError(f"{scope['path']} is no hot route")


def _post(hot: HotRoutes, path: str, body: bytes) -> dict[str, Any]:
    said: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        said.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "headers": []}
    asyncio.run(hot(scope, receive, send))
    assert said[0]["status"] == 200, said[1]["body"]
    answered: dict[str, Any] = orjson.loads(said[1]["body"])
    return answered


def _draw_many(folder: Path, draw: Callable[[], float], *, count: int = DRAWN) -> list[Decided]:
    """That many decisions by the batch route, as a process wires it."""
    application = application_with()
    served = Served(application, policies=folder, cache=folder / "levels.json")
    rng = np.random.default_rng(5)
    policy = policy_with(application, weight=rng.normal(size=5), bias=rng.normal(size=5))
    served.slot = Slot(policy, policy.manifest.exploration)
    memory = IdempotencyCache(application.actions, folder=None, span_s=600)
    decided = []
    kinds = _asked(rng)
    for _ in range(count // AT_ONCE):
        spool = InMemorySpool()
        hot = HotRoutes(
            _nobody,
            {"levels": Route(served, memory)},
            spool=spool,
            authenticator=Authenticator(),
            draw=draw,
            most_body_bytes=1 << 24,
            most_record_bytes=1 << 20,
        )
        asked = [kinds[at] for at in rng.integers(0, len(kinds), AT_ONCE)]
        body = orjson.dumps({"decisions": asked})
        told = _post(hot, "/v1/applications/levels/decisions:batch", body)["decisions"]
        events = [orjson.loads(record.value) for record in spool.records]
        decided += [Decided(*one) for one in zip(asked, told, events, strict=True)]
    return decided


def _p_value(decided: list[Decided], *, wrong_epsilon: float | None = None) -> float:
    """Chi-square of the actions against the logged distributions, over all kinds of requests.

    With `wrong_epsilon`, against what would have been logged had that been the exploration.
    """
    groups: dict[tuple[tuple[str, float], ...], dict[str, int]] = defaultdict(
        lambda: defaultdict(int)
    )
    for one in decided:
        groups[tuple(sorted(one.event["action_probabilities"].items()))][one.told["action"]] += 1
    statistic, freedom = 0.0, 0
    for logged, counts in groups.items():
        total, n = sum(counts.values()), len(logged)
        assert set(counts) <= {label for label, _ in logged}
        for label, p in logged:
            if wrong_epsilon is not None:
                p = (p - 0.2 / n) / 0.8 * (1 - wrong_epsilon) + wrong_epsilon / n
            statistic += (counts[label] - total * p) ** 2 / (total * p)
        freedom += n - 1
    return float(chi2.sf(statistic, freedom))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> list[Decided]:
    return _draw_many(tmp_path_factory.mktemp("policies"), random.Random(17).random)


def test_actions_come_as_often_as_the_propensities_that_are_logged(
    drawn: list[Decided], record_property: Callable[[str, object], None]
) -> None:
    assert len(drawn) == DRAWN
    p_value = _p_value(drawn)
    record_property("chi-square p-value", p_value)
    print(f"chi-square of {DRAWN} draws against what was logged: p = {p_value:.3f}")
    assert p_value > 1e-4


def test_a_propensity_that_is_wrong_by_a_twentieth_would_be_seen(
    drawn: list[Decided], tmp_path: Path
) -> None:
    assert _p_value(drawn, wrong_epsilon=0.25) < 1e-4
    number = random.Random(17)
    askew = _draw_many(tmp_path, lambda: number.random() ** 1.05, count=60_000)
    assert _p_value(askew) < 1e-4


def test_every_action_can_be_recomputed_from_its_log_and_none_was_excluded(
    drawn: list[Decided],
) -> None:
    for asked, told, event in drawn:
        allowed = set(asked.get("eligible_actions", LABELS)) - set(
            asked.get("excluded_actions", ())
        )
        logged: Mapping[str, float] = event["action_probabilities"]
        assert set(logged) == allowed
        assert min(logged.values()) >= 0.03
        executed = np.array([logged.get(label, 0.0) for label in LABELS])
        assert executed.sum() == pytest.approx(1.0, abs=1e-12)
        assert told["action"] == event["action"] == LABELS[draw_action(executed, event["draw"])]
        assert told["propensity"] == event["propensity"] == logged[told["action"]]
        assert told["policy_version"] == event["policy_version"] == 3


# --- masks and floors, for any policy


@st.composite
def slots(draw: st.DrawFn) -> tuple[Application, Slot, float]:
    """Any policy, or version 0; any exploration that an application may ask for."""
    floor = draw(st.sampled_from([1e-4, 0.01, 0.05, 0.2]))
    epsilon = draw(st.floats(floor, 1.0))
    application = application_with(exploration=EpsilonGreedy(epsilon, floor=floor))
    if draw(st.booleans()):
        return application, version_zero(application), floor
    numbers = st.lists(st.floats(-50, 50, width=32), min_size=5, max_size=5)
    policy = policy_with(
        application,
        weight=np.array(draw(numbers)),
        bias=np.array(draw(numbers)),
        kind=draw(st.sampled_from(["softmax", "argmax"])),
        epsilon=epsilon,
        floor=floor,
    )
    return application, Slot(policy, policy.manifest.exploration), floor


masks = st.sets(st.sampled_from(LABELS), min_size=1)
draws = st.one_of(st.floats(0, 1, exclude_max=True), st.sampled_from([0.0, 1.0 - 2**-53]))


@settings(max_examples=500, deadline=None)
@given(slots(), st.lists(st.tuples(masks, st.floats(0, 1), draws), min_size=1, max_size=6))
def test_no_eligible_action_is_below_the_floor_and_no_other_is_ever_returned(
    world: tuple[Application, Slot, float], many: list[tuple[set[str], float, float]]
) -> None:
    application, slot, floor = world
    asked = []
    for at, (eligible, skill, _) in enumerate(many):
        left_out = sorted(set(LABELS) - eligible)
        request = DecisionRequest(
            subject_id="p",
            context={"skill": skill},
            eligible_actions=sorted(eligible) if at % 2 else None,
            excluded_actions=None if at % 2 else left_out,
        )
        asked.append(check(application, request, decision_id=uuid7(NOW_MS), now_ms=NOW_MS))
    numbers = [draw for *_, draw in many]
    together = answer(application, slot, asked, numbers, now_ms=NOW_MS)
    alone = [
        answer_one(application, slot, one, draw, now_ms=NOW_MS)
        for one, draw in zip(asked, numbers, strict=True)
    ]
    for answers in (together, alone):
        for decided, (eligible, _, _) in zip(answers, many, strict=True):
            logged = decided.event["action_probabilities"]
            assert set(logged) == eligible
            assert min(logged.values()) >= floor
            assert sum(logged.values()) == pytest.approx(1.0, abs=1e-12)
            assert decided.action in eligible
            assert decided.propensity == logged[decided.action] > 0


@settings(max_examples=200, deadline=None)
@given(slots(), masks, draws, st.sampled_from(["killed", "unlogged"]))
def test_a_kill_and_a_full_spool_return_nothing_that_is_excluded_either(
    world: tuple[Application, Slot, float], eligible: set[str], draw: float, how: str
) -> None:
    application, slot, _ = world
    request = DecisionRequest(
        subject_id="p", context={"skill": 0.5}, eligible_actions=sorted(eligible)
    )
    asked = check(application, request, decision_id=uuid7(NOW_MS), now_ms=NOW_MS)
    slot = Slot(slot.policy, slot.exploration, killed=how == "killed")
    decided = answer_one(application, slot, asked, draw, now_ms=NOW_MS, logged=how != "unlogged")
    assert decided.action in eligible
    assert (decided.policy_version, decided.cohort) == (0, "fallback")
    if "b" in eligible:  # the baseline's
        assert (decided.action, decided.propensity) == ("b", 1.0)


def test_a_long_batch_that_ends_after_a_swap_counts_no_outcome_twice(tmp_path: Path) -> None:
    application = application_with()
    served = Served(application, policies=tmp_path, cache=tmp_path / "levels.json")
    slots = []
    for version in (1, 2):
        pointer = publish_policy(
            tmp_path, application, version, favourite=0, received_at_ms=(version, version + 10)
        )
        served.point([pointer], live=True)
        slots.append(served.slot)
        served.first_answer(served.slot)
    assert served.counters.freshness.count == 4
    for slot in (slots[0], slots[1], slots[0], slots[1]):  # by turns with requests that came later
        served.first_answer(slot)
    assert served.counters.freshness.count == 4


# --- a real process

GAME = """
from bakehouse import *

application = Application(
    name="levels",
    observation=[Numeric("skill", low=0, high=1)],
    actions=Discrete("a", "b", "c", "d", "e"),
    reward=Reward({"won": 1.0}, window=minutes(1)),
    baseline=lambda context: "b",
    exploration=EpsilonGreedy(0.1, start=0.6, floor=0.01),
    rollout=Rollout(holdout=0.0),
)
"""
BASE = "/v1/applications/levels"
SWAPS = 1_000
MANY = 100  # of a batch that lets other requests in between


def favourite_of(version: int) -> int:
    return version % 5


def epsilon_of(version: int) -> float:
    return 0.1 + 0.05 * (version % 7)


class Serving:
    """`python -m serving` in one home, which may be killed and started again."""

    def __init__(self, settings: Settings, *, armed: bool = True) -> None:
        self.settings = settings.model_copy(update={"port": 0})
        self.armed = armed  # looks for a file at each failpoint
        self.home = settings.home
        self.home.mkdir(parents=True, exist_ok=True)
        self.failpoints = self.home / "failpoints"
        self.file = self.home / "game.py"
        self.file.write_text(GAME)
        self.application = load_application(str(self.file)).application
        self.process: subprocess.Popen[bytes] | None = None
        self.address = ""
        self._clients: list[Client] = []

    def start(self) -> None:
        environment = self.settings.as_environment()
        if self.armed:
            environment |= {VARIABLE: str(self.failpoints)}
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "bakehouse_serving", str(self.file)],
                env=os.environ | environment,
                stdout=log,
                stderr=log,
            )
        process, phase = self.process, PhaseFile(self.home, "serving")

        def ready() -> bool:
            assert process.poll() is None, (self.home / "log").read_text()[-3000:]
            said = phase.read() or {}
            return said.get("phase") == READY and said.get("pid") == process.pid

        wait_until(ready, "serving answers")
        self.address = urlsplit((phase.read() or {})["url"]).netloc

    def kill(self) -> None:
        """`kill -9`."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self._hang_up()

    def stop(self) -> None:
        self._hang_up()
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            assert self.process.wait(60) == 0

    def bundle(self, version: int) -> PolicyPointer:
        """A policy whose favourite and exploration are its version's."""
        return publish_policy(
            self.settings.policies,
            self.application,
            version,
            favourite=favourite_of(version),
            epsilon=epsilon_of(version),
        )

    def client(self) -> Client:
        self._clients.append(Client(self.address))
        return self._clients[-1]

    def _hang_up(self) -> None:
        while self._clients:
            self._clients.pop().close()


class Client:
    """One connection that stays open."""

    def __init__(self, address: str) -> None:
        self._connection = http.client.HTTPConnection(address, timeout=60)

    def call(self, method: str, path: str, content: Any = None) -> dict[str, Any]:
        body = None if content is None else orjson.dumps(content)
        self._connection.request(method, path, body)
        answered = self._connection.getresponse()
        said = answered.read()
        assert answered.status == 200, f"{path}: {answered.status} {said[:500]!r}"
        found: dict[str, Any] = orjson.loads(said)
        return found

    def decide(self, **request: Any) -> dict[str, Any]:
        asked = {"subject_id": "p", "context": {"skill": 0.5}} | request
        return self.call("POST", f"{BASE}/decisions", asked)

    def decide_all(self, count: int) -> list[dict[str, Any]]:
        asked = [{"subject_id": "p", "context": {"skill": 0.5}}] * count
        found: list[dict[str, Any]] = self.call(
            "POST", f"{BASE}/decisions:batch", {"decisions": asked}
        )["decisions"]
        return found

    def act(self, verb: str, **body: Any) -> dict[str, Any]:
        return self.call("POST", f"{BASE}/policy:{verb}", body)

    def policy(self) -> dict[str, Any]:
        return self.call("GET", f"{BASE}/policy")

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def serving(settings_of: Callable[[str], Settings], request: Any) -> Iterator[Serving]:
    """A process with a real broker, started."""
    serving = Serving(settings_of(f"serving-{abs(hash(request.node.name)) % 10**8}"))
    serving.start()
    try:
        yield serving
    finally:
        serving.stop()


@contextmanager
def learner(serving: Serving) -> Iterator[Callable[[PolicyPointer], None]]:
    """The learner's side of `policies.v1`."""
    producer = KafkaProducer(**serving.settings.kafka_client(), acks="all", linger_ms=0)
    topic = serving.settings.topic("policies")

    def publish(pointer: PolicyPointer) -> None:
        value = pointer.model_dump_json().encode()
        producer.send(topic, key=pointer.application.encode(), value=value).get(30)

    try:
        yield publish
    finally:
        producer.close()


class Answered(NamedTuple):
    """What a client was told, when it asked, and when it knew."""

    asked_at: float  # monotonic
    told_at: float
    asked: dict[str, Any]
    told: list[dict[str, Any]]


@contextmanager
def under_load(serving: Serving, *, seen: Callable[[int], None]) -> Iterator[list[Answered]]:
    """Two clients ask one by one, two in batches; what goes wrong in one fails the test."""
    answered: list[Answered] = []
    failed: list[BaseException] = []
    stopping = threading.Event()
    starting = threading.Barrier(5)

    def one_by_one(seed: int) -> None:
        rng, client = random.Random(seed), serving.client()
        starting.wait()
        while not stopping.is_set():
            asked: dict[str, Any] = {}
            if rng.random() < 0.3:
                asked = {"excluded_actions": rng.sample(LABELS, rng.randint(1, 4))}
            at = time.monotonic()
            told = client.decide(**asked)
            answered.append(Answered(at, time.monotonic(), asked, [told]))
            seen(told["policy_version"])

    def in_batches(seed: int) -> None:
        client = serving.client()
        starting.wait()
        while not stopping.is_set():
            at = time.monotonic()
            told = client.decide_all(MANY if seed % 2 else 20)
            answered.append(Answered(at, time.monotonic(), {}, told))
            seen(told[0]["policy_version"])

    def run(what: Callable[[int], None], seed: int) -> None:
        try:
            what(seed)
        except BaseException as error:
            failed.append(error)

    threads = [
        threading.Thread(target=run, args=(what, seed))
        for seed, what in enumerate([one_by_one, one_by_one, in_batches, in_batches])
    ]
    for thread in threads:
        thread.start()
    starting.wait()
    try:
        yield answered
    finally:
        stopping.set()
        for thread in threads:
            thread.join(60)
    assert not failed, failed
    assert not any(thread.is_alive() for thread in threads)


def hold_to_version(told: Mapping[str, Any], excluded: set[str]) -> None:
    """Action, propensity and `explored` are those of the version that is named."""
    version = told["policy_version"]
    eligible = [label for label in LABELS if label not in excluded]
    epsilon = epsilon_of(version) if version else 0.6
    best = LABELS[favourite_of(version)] if version else "b"
    own = dict.fromkeys(eligible, 0.0)
    if best in eligible:
        own[best] = 1.0
    elif version:  # of the others all scores are equal, so the first
        best = eligible[0]
        own[best] = 1.0
    else:  # the baseline cannot be followed
        best = ""
        own = dict.fromkeys(eligible, 1.0 / len(eligible))
    assert told["action"] in eligible
    expected = (1.0 - epsilon) * own[told["action"]] + epsilon / len(eligible)
    assert math.isclose(told["propensity"], expected, abs_tol=1e-9), told
    if best:
        assert told["explored"] == (told["action"] != best), told


def events_in_kafka(settings: Settings) -> dict[str, dict[str, Any]]:
    """Every decision that the broker has, by its id."""
    consumer = KafkaConsumer(**settings.kafka_reader(), enable_auto_commit=False)
    found = {}
    try:
        partition = TopicPartition(settings.topic("decisions"), 0)
        consumer.assign([partition])
        consumer.seek_to_beginning(partition)
        end = consumer.end_offsets([partition])[partition]
        while consumer.position(partition) < end:
            for records in consumer.poll(timeout_ms=1_000).values():
                for record in records:
                    event = orjson.loads(record.value)
                    found[event["decision_id"]] = event
    finally:
        consumer.close()
    return found


@pytest.mark.full
def test_action_propensity_and_version_are_of_one_policy_across_a_thousand_swaps(
    serving: Serving, record_property: Callable[[str, object], None]
) -> None:
    pointers = [serving.bundle(version) for version in range(1, SWAPS + 1)]
    newest = 0
    taken = threading.Condition()

    def seen(version: int) -> None:
        nonlocal newest
        with taken:
            if version > newest:
                newest = version
                taken.notify_all()

    with learner(serving) as publish, under_load(serving, seen=seen) as answered:
        for pointer in pointers:
            publish(pointer)
            with taken:
                assert taken.wait_for(lambda: newest >= pointer.version, 60), newest  # noqa: B023
    state = serving.client().policy()
    assert state["policy_version"] == SWAPS
    assert state["swaps"] == SWAPS
    told = {}
    mixed = 0
    for one in answered:
        versions = {decided["policy_version"] for decided in one.told}
        mixed += len(versions) > 1
        for decided in one.told:
            hold_to_version(decided, set(one.asked.get("excluded_actions", ())))
            told[decided["decision_id"]] = decided
    assert mixed == 0, f"{mixed} batches were answered by more than one policy"
    versions = {decided["policy_version"] for decided in told.values()}
    assert len(versions) == SWAPS + 1
    serving.stop()  # what is in the spool is published first
    events = events_in_kafka(serving.settings)
    assert set(told) <= set(events)
    for name, event in events.items():
        excluded = set(LABELS) - set(event.get("eligible_actions", LABELS))
        hold_to_version(event, excluded)
        version = event["policy_version"]
        assert event["exploration"]["epsilon"] == (epsilon_of(version) if version else 0.6)
        executed = np.array([event["action_probabilities"].get(label, 0.0) for label in LABELS])
        assert LABELS[draw_action(executed, event["draw"])] == event["action"]
        assert event["propensity"] == event["action_probabilities"][event["action"]]
        if name in told:
            for field in ("action", "propensity", "policy_version", "explored", "cohort", "mode"):
                assert event[field] == told[name][field]
    record_property("decisions across the swaps", len(told))
    print(f"{len(told)} decisions across {SWAPS} swaps, none of two policies")


def _is_baseline(told: Mapping[str, Any]) -> bool:
    return (told["action"], told["propensity"], told["policy_version"], told["cohort"]) == (
        "b",
        1.0,
        0,
        "fallback",
    )


@pytest.mark.parametrize("broker", ["reachable", "unreachable"])
def test_a_kill_switch_acts_on_the_very_next_request_and_survives_kill_9(
    broker: str, request: Any, tmp_path: Path
) -> None:
    if broker == "reachable":
        settings = request.getfixturevalue("settings_of")("killswitch")
    else:
        settings = Settings(home=tmp_path / "alone", kafka_bootstrap="127.0.0.1:1")
    serving = Serving(settings)
    pointer = serving.bundle(1)
    cache = serving.home / "serving" / "levels.json"
    Served(serving.application, policies=settings.policies, cache=cache).point(
        [pointer], live=False
    )
    if broker == "reachable":
        with learner(serving) as publish:
            publish(pointer)

    def by_policy() -> bool:
        return all(client.decide()["policy_version"] == 1 for _ in range(50))

    def by_rules() -> bool:
        decided = [client.decide() for _ in range(50)] + client.decide_all(50)
        return all(_is_baseline(told) for told in decided)

    def again() -> Client:
        serving.kill()
        serving.start()
        return serving.client()

    try:
        serving.start()
        client = serving.client()
        assert by_policy()
        for _ in range(2):
            client.act("kill", by="ops", why="players complain")
            assert _is_baseline(client.decide()), "the very next request"
            assert by_rules()
            client = again()
            assert _is_baseline(client.decide()), "the very first request"
            assert by_rules() and client.policy()["killed"]
            client.act("revive", by="ops", why="it was the servers")
            assert client.decide()["policy_version"] == 1
            assert by_policy()
            client = again()
            assert client.decide()["policy_version"] == 1
            assert by_policy()
        # killed between the word and its answer: the word counts
        arm(serving.failpoints, "serving.control.before_record")
        with suppress(ConnectionError, http.client.HTTPException):
            client.act("kill", by="ops")
        assert serving.process is not None and serving.process.wait(60) == -9
        serving.start()
        client = serving.client()
        assert _is_baseline(client.decide())
    finally:
        serving.stop()


def test_after_a_kill_was_answered_no_policy_answers_anybody_under_load(
    serving: Serving,
) -> None:
    pointer = serving.bundle(1)
    ready = threading.Event()
    with (
        learner(serving) as publish,
        under_load(serving, seen=lambda version: ready.set() if version else None) as answered,
    ):
        publish(pointer)
        assert ready.wait(60)
        client = serving.client()
        killed, revived = [], []
        for _ in range(20):
            client.act("kill")
            killed.append(_while_players_ask(answered))
            client.act("revive")
            revived.append(_while_players_ask(answered))
    by_rules = [told for span in killed for told in _within(span, answered)]
    by_policy = [told for span in revived for told in _within(span, answered)]
    assert {told["policy_version"] for told in by_rules} == {0}
    assert {told["cohort"] for told in by_rules} == {"fallback"}
    assert {told["policy_version"] for told in by_policy} == {1}
    assert min(len(by_rules), len(by_policy)) > 1_000


class Span(NamedTuple):
    """From when a person's word was answered to when the next was said; monotonic."""

    began: float
    ended: float


def _while_players_ask(answered: list[Answered]) -> Span:
    """A span that begins now, in which players ask and are answered."""
    began = time.monotonic()
    wait_until(
        lambda: sum(one.asked_at > began for one in answered[-200:]) > 20, "players are answered"
    )
    return Span(began, time.monotonic())


def _within(span: Span, answered: list[Answered]) -> list[dict[str, Any]]:
    """What was both asked and answered in it."""
    return [
        told
        for one in answered
        if span.began < one.asked_at and one.told_at < span.ended
        for told in one.told
    ]


@pytest.mark.full
def test_after_a_rollback_was_answered_no_other_version_answers_until_release(
    serving: Serving, record_property: Callable[[str, object], None]
) -> None:
    versions = iter(serving.bundle(version) for version in range(1, 5_000))
    streaming = threading.Event()
    streaming.set()
    newest = [0]
    published = [0]

    def stream() -> None:
        with learner(serving) as publish:
            while streaming.is_set():
                pointer = next(versions)
                publish(pointer)
                published[0] = pointer.version

    def seen(version: int) -> None:
        newest[0] = max(newest[0], version)

    pins = []
    thread = threading.Thread(target=stream)
    with under_load(serving, seen=seen) as answered:
        thread.start()
        client = serving.client()
        try:
            for at in range(20):
                ahead = newest[0] + 5
                wait_until(lambda: newest[0] >= ahead, "new policies answer")  # noqa: B023
                # back by one, or to one of long ago
                given = {} if at % 2 else {"version": 1 + at}
                pinned = client.act("rollback", by="ops", **given)["control"]["pinned_version"]
                since, first = published[0] + 5, time.monotonic()
                wait_until(lambda: published[0] >= since, "pointers come meanwhile")  # noqa: B023
                span = Span(first, _while_players_ask(answered).ended)
                assert client.policy()["policy_version"] == pinned
                client.act("release", by="ops")
                pins.append((span, pinned))
        finally:
            streaming.clear()
            thread.join(60)
        wait_until(
            lambda: newest[0] == published[0], "the newest answers after the release", patience_s=30
        )
    for one in answered:
        for decided in one.told:
            hold_to_version(decided, set(one.asked.get("excluded_actions", ())))
    held = 0
    for span, pinned in pins:
        told = _within(span, answered)
        assert {decided["policy_version"] for decided in told} == {pinned}
        held += len(told)
    assert held > 1_000
    record_property("decisions while pinned", held)
    print(f"{published[0]} pointers, {len(pins)} rollbacks, {held} decisions while pinned")
