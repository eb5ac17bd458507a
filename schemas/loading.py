"""Loads an application, and the world beside it, from `path/to/file.py` or `module:attribute`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from schemas.application import Application
from schemas.errors import ApplicationError
from schemas.world import World


@dataclass(frozen=True)
class Loaded:
    """An application and where it came from."""

    ref: str
    application: Application
    world: World | None


def load_application(ref: str) -> Loaded:
    """The application that `ref` names.

    A file defines `application` (and, where there are simulated players, `world`); a module is
    named with the attribute, as in `mygame.rl:application`.

    Raises:
        ApplicationError: nothing there, it does not load, or it holds no application.
    """
    attribute = "application"
    if ref.endswith(".py") or "/" in ref:
        path = Path(ref)
        if not path.is_file():
            raise ApplicationError(
                f"{ref}: there is no such file (looked from {Path.cwd()}); name a file such as "
                "applications/level_difficulty.py, or module:attribute"
            )
        module = _load_file(path.resolve())
    else:
        name, _, given = ref.partition(":")
        attribute = given or attribute
        try:
            module = importlib.import_module(name)
        except Exception as error:
            raise ApplicationError(
                f"{ref}: importing {name!r} raised {type(error).__name__}: {error}"
            ) from error
    found = getattr(module, attribute, None)
    if not isinstance(found, Application):
        raise ApplicationError(
            f"{ref}: expected {attribute} = Application(…) in it, found {type(found).__name__}"
        )
    return Loaded(ref=ref, application=found, world=getattr(module, "world", None))


def load_applications(refs: Iterable[str]) -> dict[str, Loaded]:
    """Several applications by name; a name may stand for one only."""
    loaded: dict[str, Loaded] = {}
    for ref in refs:
        one = load_application(ref)
        if one.application.name in loaded:
            raise ApplicationError(
                f"{ref} and {loaded[one.application.name].ref} both define the application "
                f"{one.application.name!r}; names must differ"
            )
        loaded[one.application.name] = one
    if not loaded:
        raise ApplicationError("name at least one application, such as applications/my_game.py")
    return loaded


def _load_file(path: Path) -> ModuleType:
    name = f"bakehouse_application_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ApplicationError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickling look their module up
    try:
        spec.loader.exec_module(module)
    except ApplicationError:
        raise
    except Exception as error:
        raise ApplicationError(f"{path}: loading it raised {type(error).__name__}: {error}") from (
            error
        )
    return module
