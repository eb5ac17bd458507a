"""Loads an application, and the world beside it, from `path/to/file.py` or `module:attribute`."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from bakehouse_schemas.application.application import Application
from bakehouse_schemas.application.user_code_errors import error_text, source_line
from bakehouse_schemas.errors import ApplicationError
from bakehouse_schemas.worlds.fitted_world import FittedWorld
from bakehouse_schemas.worlds.world import World

_UNKNOWN_ARGUMENT = re.compile(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'")


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
        ContractMismatch: its world was fitted for another contract or reward.
    """
    attribute = "application"
    if ref.endswith(".py") or "/" in ref:
        path = Path(ref)
        try:
            is_folder, is_file = path.is_dir(), path.is_file()
        except OSError as error:  # a name too long, a folder that may not be entered
            raise ApplicationError(f"{ref:.200}: {error.strerror}") from None
        if is_folder:
            raise ApplicationError(f"{ref} is a folder; name the file in it, such as {ref}/game.py")
        if not is_file:
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
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # sys.exit() in a page must not end this process unsaid
            raise ApplicationError(
                f"{ref}: importing {name!r} raised {error_text(error)}{_file_meant(name, error)}"
            ) from error
    found = _attribute(module, attribute, ref)
    if not isinstance(found, Application):
        there = "nothing of that name" if found is None else type(found).__name__
        raise ApplicationError(f"{ref}: expected {attribute} = Application(…) in it, found {there}")
    world = _attribute(module, "world", ref)
    if isinstance(world, type):
        raise ApplicationError(
            f"{ref}: expected a world, such as world = {world.__name__}(), found the class "
            f"{world.__name__} itself"
        )
    if isinstance(world, FittedWorld):
        world.check(found)
    return Loaded(ref=ref, application=found, world=world)


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


def _file_meant(name: str, error: BaseException) -> str:
    """What to name instead of a module that is not there."""
    if not isinstance(error, ModuleNotFoundError) or not f"{name}.".startswith(f"{error.name}."):
        return ""  # it is there, and lacks something itself
    if name.endswith(".py"):
        return f"; of a file its `application` is taken: name it without an attribute, {name}"
    if Path(f"{name}.py").is_file():
        return f"; did you mean {name}.py?"
    if Path(name).is_file():
        return f"; {name} is a file whose name does not end in .py"
    return "; name a file, such as game.py, or module:attribute"


def _load_file(path: Path) -> ModuleType:
    name = f"bakehouse_application_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ApplicationError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickling look their module up
    try:
        spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # sys.exit() in a page must not end this process unsaid
        if type(error) is ApplicationError:
            raise ApplicationError(f"{error}{source_line(error, path)}") from error
        raise ApplicationError(
            f"{path}: loading it raised {error_text(error)}{source_line(error, path)}"
            f"{_meant(error, module)}"
        ) from error
    return module


def _meant(error: BaseException, module: ModuleType) -> str:
    """What a misspelt argument of one of the page's own names may have meant."""
    came = _UNKNOWN_ARGUMENT.search(error_text(error)) if isinstance(error, TypeError) else None
    made = None if came is None else getattr(module, came[1], None)
    if came is None or not callable(made):
        return ""
    takes = [name for name in inspect.signature(made).parameters if name != "self"]
    close = get_close_matches(came[2], takes, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; it takes {', '.join(takes)}"


def _attribute(module: ModuleType, name: str, ref: str) -> Any:
    try:
        return getattr(module, name, None)
    except Exception as error:  # a module may compute what it is asked for
        raise ApplicationError(f"{ref}: its {name!r} raised {error_text(error)}") from error
