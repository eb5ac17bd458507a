"""A new user without a checkout: our wheels in an empty environment, in a folder of their own."""

from __future__ import annotations

import json
import subprocess
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.install.empty import (
    AS_OF,
    MINORS,
    Environment,
    build_wheels,
    clean_environment,
    pythons,
    run,
    uv,
)
from tests.waiting import serving_url

pytestmark = pytest.mark.full

PYTHONS = pythons()
# names that a user's own files may well have, and that our top-level packages once had
SOMEBODY_ELSES = (
    *("schemas.py", "stream.py", "serving/__init__.py", "learner/__init__.py"),
    "applications/__init__.py",
)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheels(tmp_path_factory.mktemp("wheels"))


@pytest.fixture(scope="module", params=sorted(PYTHONS))
def environment(
    request: pytest.FixtureRequest, wheels: Path, tmp_path_factory: pytest.TempPathFactory
) -> Environment:
    folder = tmp_path_factory.mktemp(f"python{request.param}") / "environment"
    return Environment(folder, PYTHONS[request.param], wheels)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's, in which our old names are somebody else's."""
    for name in SOMEBODY_ELSES:
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("raise RuntimeError('this is not the file that was meant')\n")
    return tmp_path


def files(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as content:
        return content.namelist()


def test_no_wheel_takes_a_name_at_top_level_that_is_not_ours(wheels: Path) -> None:
    names = {name.split("/")[0] for wheel in wheels.glob("*.whl") for name in files(wheel)}
    packages = {name for name in names if not name.endswith(".dist-info")}
    parts = {f"bakehouse_{part}" for part in ("learner", "schemas", "serving", "stream")}
    assert packages == {"bakehouse"} | parts


def test_wheels_hold_their_licences_their_types_and_the_example_applications(
    wheels: Path,
) -> None:
    found = {wheel.name.split("-")[0]: files(wheel) for wheel in wheels.glob("*.whl")}
    for package, names in found.items():
        assert f"{package}/py.typed" in names, package
        assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names), package
    serving = found["bakehouse_serving"]
    for vendored in ("inter/LICENSE", "swagger-ui/LICENSE", "swagger-ui/NOTICE", "uplot/LICENSE"):
        assert any("/licenses/" in name and name.endswith(vendored) for name in serving), vendored
    assert "bakehouse/examples/level_difficulty.py" in found["bakehouse"]
    assert not any("notebooks" in name for name in found["bakehouse"])


def test_a_page_is_written_checked_and_answers_over_http_from_the_base_install(
    environment: Environment, folder: Path
) -> None:
    bakehouse = environment.program("bakehouse")
    run(bakehouse, "init", "my-game", cwd=folder)
    checked = run(bakehouse, "check", "my_game.py", "--json", cwd=folder)
    assert json.loads(checked)["application"] == "my-game"
    words = "import json, my_game, numpy; rng = numpy.random.default_rng(0); "
    context = json.loads(
        run(
            environment.program("python"),
            *("-c", f"{words}print(json.dumps(my_game.world.context(rng)))"),
            cwd=folder,
        )
    )
    with serving(environment, folder, "my_game.py") as url:
        decision = ask(f"{url}/v1/applications/my-game/decisions", context)
    assert 0 < decision["propensity"] <= 1 and decision["policy_version"] == 0


def test_an_example_is_checked_and_served_by_its_module_in_an_empty_folder(
    environment: Environment, folder: Path
) -> None:
    ref = "bakehouse.examples.level_difficulty:application"
    checked = run(environment.program("python"), "-m", "bakehouse", "check", ref, cwd=folder)
    assert "level-difficulty" in checked


def test_a_users_application_passes_mypy_strict(environment: Environment, folder: Path) -> None:
    environment.install("mypy")
    run(environment.program("bakehouse"), "init", "my-game", cwd=folder)
    for name in SOMEBODY_ELSES:
        (folder / name).unlink()  # mypy would read them as this folder's own
    run(environment.program("mypy"), "--strict", "my_game.py", cwd=folder)


@pytest.mark.parametrize("minor", MINORS)
def test_all_extras_resolve_without_an_override(wheels: Path, tmp_path: Path, minor: int) -> None:
    asked = tmp_path / "asked.in"
    asked.write_text("bakehouse[stream,learner,hydration,explain,redis,otel]\n")
    resolved = run(
        *(uv(), "pip", "compile", "--quiet", "--python-version", f"3.{minor}"),
        *("--find-links", wheels, "--exclude-newer", AS_OF, "--no-header", asked),
        cwd=tmp_path,
    )
    names = {line.split("==")[0] for line in resolved.splitlines() if "==" in line}
    assert {"bakehouse-learner", "bakehouse-stream", "pyspark", "tensorflow"} <= names
    assert "tf-agents" not in names, "no resolver can install it beside the rest"


@contextmanager
def serving(environment: Environment, folder: Path, ref: str) -> Iterator[str]:
    """Serving as the wheels start it, without Kafka: its address."""
    home = folder / "home"
    with subprocess.Popen(
        [environment.program("bakehouse"), "serve", ref],
        cwd=folder,
        env=clean_environment() | {"BAKEHOUSE_HOME": str(home), "BAKEHOUSE_PORT": "0"},
    ) as process:
        try:
            yield serving_url(home)
        finally:
            process.terminate()
        assert process.wait(60) == 0


def ask(url: str, context: dict[str, Any]) -> dict[str, Any]:
    body = json.dumps({"subject_id": "player-1", "context": context}).encode()
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        found: dict[str, Any] = json.load(answer)
    return found
