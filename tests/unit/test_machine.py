"""A fresh clone on any machine: what a test needs and the machine lacks is said, and passes by."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def pytest_without_a_browser(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """One test of the dashboard, where no browser is on the PATH and none was named."""
    kept = {name: value for name, value in os.environ.items() if name not in {"CI"}}
    kept.pop("BAKEHOUSE_CHROMIUM", None)
    nothing = folder / "nothing"
    nothing.mkdir()
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "tests/browser/test_interface.py",
            "-p",
            "no:cacheprovider",
        ],
        cwd=ROOT,
        env=kept | {"PATH": str(nothing), "PLAYWRIGHT_BROWSERS_PATH": str(nothing)} | environment,
        capture_output=True,
        text=True,
    )


def test_on_a_machine_without_a_browser_its_tests_are_skipped_with_what_to_install(
    tmp_path: Path,
) -> None:
    ran = pytest_without_a_browser(tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    said = [line for line in ran.stdout.splitlines() if line.startswith("SKIPPED")]
    assert len(said) == 1, ran.stdout  # one line, however many tests it is about
    assert "apt-get install -y chromium" in said[0]


def test_where_ci_is_set_a_missing_browser_is_a_failure(tmp_path: Path) -> None:
    ran = pytest_without_a_browser(tmp_path, CI="true")
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "apt-get install -y chromium" in ran.stdout
    assert "skipped" not in ran.stdout


def test_a_browser_that_was_named_and_is_not_there_is_an_error_anywhere(tmp_path: Path) -> None:
    ran = pytest_without_a_browser(tmp_path, BAKEHOUSE_CHROMIUM=str(tmp_path / "chromium"))
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "BAKEHOUSE_CHROMIUM: there is no file" in ran.stdout
