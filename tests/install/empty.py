"""Empty environments, and our wheels in them: what somebody without a checkout has."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
_ROOT_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MEMBERS = tuple(_ROOT_PROJECT["tool"]["uv"]["workspace"]["members"])
# the registry as it was on this day, so that a release of somebody else's turns nothing red
AS_OF = str(_ROOT_PROJECT["tool"]["uv"]["exclude-newer"])
MINORS = (11, 12, 13)


def pythons() -> dict[str, Path]:
    """Version → interpreter, of each Python that we support and that this machine has."""
    found = {"{}.{}".format(*sys.version_info[:2]): Path(sys.executable).resolve()}
    for minor in MINORS:
        version = f"3.{minor}"
        places = [shutil.which(f"python{version}"), Path(f"/usr/bin/python{version}")]
        places += sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
        for place in places:
            if version not in found and place is not None and _is(version, Path(place)):
                found[version] = Path(place)
    return dict(sorted(found.items()))


def _is(version: str, python: Path) -> bool:
    words = "import sys, venv; print('{}.{}'.format(*sys.version_info[:2]))"
    try:
        said = subprocess.run([python, "-c", words], capture_output=True, text=True, check=False)
    except OSError:
        return False
    return said.stdout.strip() == version


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """What a command printed; `cwd` is outside the checkout, whose settings uv would take.

    Raises:
        AssertionError: it ended with another status than 0, with all that it said.
    """
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={**clean_environment(), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout


def clean_environment() -> dict[str, str]:
    """Ours, without what belongs to the checkout's own environment."""
    own = ("VIRTUAL_ENV", "PYTHONPATH", "PYSPARK_PYTHON", "UV_PROJECT_ENVIRONMENT")
    kept = {name: value for name, value in os.environ.items() if name not in own}
    places = kept["PATH"].split(os.pathsep)
    beside = str(Path(sys.executable).parent)
    return kept | {"PATH": os.pathsep.join(place for place in places if place != beside)}


def uv() -> Path:
    """The installer that `uv run` has put on the PATH, or that pip has."""
    found = shutil.which("uv")
    assert found is not None, "uv is not on the PATH; install it: pip install uv"
    return Path(found)


def build_wheels(folder: Path) -> Path:
    """Wheels of all members; returns their folder."""
    for member in MEMBERS:
        run(uv(), "build", "--quiet", "--wheel", ROOT / member, "-o", folder, cwd=folder)
    return folder


class Environment:
    """A virtual environment with the base install of our wheels, and nothing else."""

    def __init__(self, folder: Path, python: Path, wheels: Path) -> None:
        self.folder = folder
        self._wheels = wheels
        run(uv(), "venv", "--quiet", "--python", python, folder, cwd=folder.parent)
        ours = ("bakehouse", "bakehouse-schemas", "bakehouse-serving")
        self.install("--no-index", "--no-deps", *ours)  # ours can come from nowhere else
        self.install("bakehouse")

    def install(self, *words: str) -> None:
        """Install with our wheels at hand, the rest from the registry as of a day."""
        run(
            *(uv(), "pip", "install", "--quiet", "--python", self.program("python")),
            *("--find-links", self._wheels, "--exclude-newer", AS_OF),
            *words,
            cwd=self.folder.parent,
        )

    def program(self, name: str) -> Path:
        """A program of this environment; it need not be activated."""
        return self.folder / "bin" / name
