"""Writes the hashed requirements files of the images out of `pyproject.toml`.

    uv run python docker/requirements.py

pip cannot take back the pins of a package, as `override-dependencies` does; so these files hold
everything, resolved, and are installed with `--no-deps`. They name no package index: the one that
the build is set up for is asked. A test says when they are older than what they are made of.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PROJECT = HERE.parent / "pyproject.toml"
# What each image holds of the extras. Serving reads tables: features by subject, explanations.
EXTRAS: dict[str, tuple[str, ...]] = {
    "serving": ("hydration", "explain", "redis", "otel"),
    "stream": ("stream", "otel"),
    "learner": ("learner", "otel"),
}
INSTALLER = "uv==0.13.9"  # installs the others; it is in no image
MARK = "# made of: "


def files() -> dict[Path, tuple[str, ...]]:
    """Requirements file -> extras; that of the installer has none."""
    return {HERE / part / "requirements.txt": extras for part, extras in EXTRAS.items()}


def sources(extras: tuple[str, ...]) -> dict[str, Any]:
    """What a file is made of: all of `pyproject.toml` that its resolution depends on."""
    declared = tomllib.loads(PROJECT.read_text())
    project, uv = declared["project"], declared["tool"]["uv"]
    return {
        "python": project["requires-python"],
        "dependencies": project["dependencies"],
        "extras": {extra: project["optional-dependencies"][extra] for extra in extras},
        "overrides": uv["override-dependencies"],
        "exclude-newer": uv["exclude-newer"],
    }


def fingerprint(extras: tuple[str, ...]) -> str:
    """Another one wherever the sources differ."""
    return hashlib.sha256(json.dumps(sources(extras), sort_keys=True).encode()).hexdigest()[:16]


def stale() -> list[str]:
    """The files that are not made of what `pyproject.toml` says now."""
    return [
        str(file.relative_to(HERE.parent))
        for file, extras in files().items()
        if not file.is_file() or mark(extras) not in file.read_text().splitlines()
    ]


def mark(extras: tuple[str, ...]) -> str:
    """The line by which a file says what it is made of."""
    return f"{MARK}{fingerprint(extras)}"


def resolved(source: Path, extras: tuple[str, ...]) -> str:
    """All packages with their versions and hashes, for every platform."""
    done = subprocess.run(
        [
            *("uv", "pip", "compile", str(source), *(f"--extra={extra}" for extra in extras)),
            *("--universal", "--python-version=3.11", "--generate-hashes"),
            *("--no-emit-index-url", "--no-emit-find-links", "--no-header", "--no-annotate"),
        ],
        cwd=HERE.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{source} could not be resolved; nothing was written:\n{done.stderr}")
    return done.stdout


def main() -> None:
    """Write all of them again."""
    with tempfile.TemporaryDirectory() as folder:
        installer = Path(folder) / "requirements.in"
        installer.write_text(INSTALLER + "\n")
        (HERE / "installer.txt").write_text(resolved(installer, ()))
    for file, extras in files().items():
        file.write_text(f"{mark(extras)}\n{resolved(PROJECT, extras)}")


if __name__ == "__main__":
    main()
