"""Writes the hashed requirements files of the images out of every member's `pyproject.toml`.

    uv run python docker/requirements.py

pip cannot take back the pins of a package, as `override-dependencies` does; so these files hold
everything but our own packages, resolved, and are installed with `--no-deps`. They name no package
index: the one that the build is set up for is asked. A test says when they are older than what they
are made of.
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
ROOT = HERE.parent
PARTS = ("serving", "stream", "learner")
# What each image holds beside what its part cannot do without. Serving reads tables: features by
# subject, explanations.
EXTRAS: dict[str, tuple[str, ...]] = {
    "serving": ("hydration", "explain", "redis", "otel"),
    "stream": ("otel",),
    "learner": ("otel",),
}
GROUPS: dict[str, tuple[str, ...]] = {"learner": ("tf-agents",)}
# They install the others and build our wheels; they are in no image.
INSTALLER = ("uv==0.13.9", "hatchling>=1.27")
MARK = "# made of: "


def members(part: str) -> list[Path]:
    """The packages of ours that an image holds, by their `pyproject.toml`."""
    return [
        ROOT / member / "pyproject.toml"
        for member in dict.fromkeys(("schemas", "bakehouse", "serving", part))
    ]


def file_of(part: str) -> Path:
    """The requirements file of a part."""
    return HERE / part / "requirements.txt"


def sources(part: str) -> dict[str, Any]:
    """What a file is made of: all of the `pyproject.toml`s that its resolution depends on."""
    root = tomllib.loads((ROOT / "pyproject.toml").read_text())
    uv = root["tool"]["uv"]
    projects = [tomllib.loads(member.read_text())["project"] for member in members(part)]
    return {
        "python": [project["requires-python"] for project in projects],
        "dependencies": [project["dependencies"] for project in projects],
        "extras": [
            project.get("optional-dependencies", {}).get(extra)
            for project in projects
            for extra in EXTRAS[part]
        ],
        "groups": [root["dependency-groups"][group] for group in GROUPS.get(part, ())],
        "overrides": uv["override-dependencies"],
        "exclude-newer": uv["exclude-newer"],
    }


def fingerprint(part: str) -> str:
    """Another one wherever the sources differ."""
    return hashlib.sha256(json.dumps(sources(part), sort_keys=True).encode()).hexdigest()[:16]


def stale() -> list[str]:
    """The files that are not made of what the `pyproject.toml`s say now."""
    return [
        str(file_of(part).relative_to(ROOT))
        for part in PARTS
        if not file_of(part).is_file() or mark(part) not in file_of(part).read_text().splitlines()
    ]


def mark(part: str) -> str:
    """The line by which a file says what it is made of."""
    return f"{MARK}{fingerprint(part)}"


def resolved(*asked: str) -> str:
    """All packages with their versions and hashes, for every platform."""
    done = subprocess.run(
        [
            *("uv", "pip", "compile", *asked),
            *("--universal", "--python-version=3.11", "--generate-hashes"),
            *("--no-emit-index-url", "--no-emit-find-links", "--no-header", "--no-annotate"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{' '.join(asked)} could not be resolved; nothing was written:\n{done.stderr}")
    return done.stdout


def resolved_of(part: str) -> str:
    """What an image holds of other people's packages."""
    ours = sorted(
        tomllib.loads(member.read_text())["project"]["name"]
        for member in ROOT.glob("*/pyproject.toml")
    )
    return resolved(
        *(str(member.relative_to(ROOT)) for member in members(part)),
        *(f"--extra={extra}" for extra in EXTRAS[part]),
        *(f"--group=pyproject.toml:{group}" for group in GROUPS.get(part, ())),
        *(f"--no-emit-package={name}" for name in ours),
    )


def main() -> None:
    """Write all of them again."""
    with tempfile.TemporaryDirectory() as folder:
        installer = Path(folder) / "requirements.in"
        installer.write_text("\n".join(INSTALLER) + "\n")
        (HERE / "installer.txt").write_text(resolved(str(installer)))
    for part in PARTS:
        file_of(part).write_text(f"{mark(part)}\n{resolved_of(part)}")


if __name__ == "__main__":
    main()
