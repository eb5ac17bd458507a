"""Through a real broker: servers of two contracts while the learner goes from one to the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from bakehouse_learner.online.kafka_bus import KafkaBus
from bakehouse_schemas.application.application import Application
from bakehouse_schemas.process.settings import Settings
from bakehouse_serving.policies.served import Served
from bakehouse_serving.policies.subscriber import Subscriber
from tests.fakes import publish_policy
from tests.unit.test_serving_carried import NEW, OLD
from tests.waiting import wait_until

pytestmark = pytest.mark.full
SettingsOf = Callable[[str], Settings]


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener that is to stop does so at once, and not after ten seconds."""
    monkeypatch.setattr("bakehouse_serving.policies.subscriber.LISTENER_WAIT_MS", 200)


@contextmanager
def serving(settings: Settings, application: Application, home: Path) -> Iterator[Served]:
    """What a serving process of this application hears, with a state of its own."""
    served = Served(
        application,
        policies=settings.policies,
        cache=home / "serving" / f"{application.contract}.json",
    )
    served.restore()
    subscriber = Subscriber(settings, {"levels": served}, process=application.contract)
    subscriber.start()
    try:
        wait_until(lambda: subscriber.listening, "it has heard all that was published before")
        yield served
    finally:
        subscriber.stop()
        subscriber.join(30)


class Learner:
    """The learner's end of Kafka, of one contract."""

    def __init__(self, settings: Settings, application: Application) -> None:
        self._settings = settings
        self._application = application
        self._bus = KafkaBus(settings, process="1", contracts={"levels": application.contract})

    def publish(self, version: int) -> None:
        pointer = publish_policy(self._settings.policies, self._application, version, favourite=1)
        self._bus.publish(pointer.model_copy(update={"published_at_ms": version}))

    def close(self) -> None:
        self._bus.stop()


def test_each_server_answers_by_the_newest_policy_of_its_own_contract(
    settings_of: SettingsOf, tmp_path: Path
) -> None:
    settings = settings_of("two-contracts")
    with ExitStack() as running:
        before = running.enter_context(closing(Learner(settings, OLD)))
        behind = running.enter_context(serving(settings, OLD, tmp_path))
        before.publish(1)
        wait_until(lambda: behind.slot.version == 1, "the policy of the one contract answers")
        # serving is restarted first: it carries over what the learner goes on publishing
        ahead = running.enter_context(serving(settings, NEW, tmp_path))
        assert ahead.slot.version == 1
        before.publish(2)
        wait_until(lambda: ahead.slot.version == behind.slot.version == 2, "both follow")
        assert ahead.state()["carried_over"]["made_for"] == OLD.contract
        # then the learner: who is behind stays with the last policy of its own contract
        after = running.enter_context(closing(Learner(settings, NEW)))
        after.publish(3)
        wait_until(lambda: ahead.slot.version == 3, "its own policy answers")
        assert ahead.state()["carried_over"] is None
        wait_until(lambda: behind.state()["newest_version"] == 3, "it has heard of the newest")
        assert behind.slot.version == 2
        assert behind.state()["refused_policy"] is None
        # one more of each, with nothing of its own kept on disk
        for application, version in ((OLD, 2), (NEW, 3)):
            with serving(settings, application, tmp_path / "anew") as restarted:
                assert restarted.slot.version == version
        # and back with the old application
        before.publish(4)
        wait_until(lambda: behind.slot.version == 4, "its own contract is the learner's again")
        wait_until(lambda: ahead.state()["newest_version"] == 4, "it has heard of the newest")
        assert ahead.slot.version == 3
